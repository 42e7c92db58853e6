"""Requests and attempts: accepted once, claimed one at a time, fenced by the attempt's number."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from store import analyses, leases
from store.analyses import NewRequest, Request
from store.engine import Database

NOW = 1_767_268_800_000
NEW = NewRequest(
    account_id="acme",
    request_id="req-1",
    event_id="event-1",
    digest=b"digest",
    operation="classify",
    provider_wanted="auto",
    model_wanted=None,
    input=b"sealed",
    created_at=NOW,
    expires_at=NOW + 86_400_000,
)


@pytest.fixture
def accepted(database: Database) -> Database:
    """A database with one request."""
    with database.write() as connection:
        assert analyses.accept(connection, NEW)
    return database


def request(connection: Connection, request_id: str = "req-1") -> Request:
    found = analyses.find(connection, "acme", request_id, lock=True)
    assert found is not None
    return found


def claim(connection: Connection, process_id: str = "process-1", **changes: Any) -> int:
    """Claim the request for a process; the attempt's number."""
    fields: dict[str, Any] = {
        "process_id": process_id,
        "provider": "openai",
        "model": "gpt-unit-1",
        "credential": "platform",
        "key_id": None,
        "fallback_reason": None,
        "credit_period_at": NOW - 1,
        "budget_held": False,
        "prompt_version": "p1",
        "now": NOW + 5,
    }
    return analyses.claim(connection, request(connection), **fields | changes)


def end(connection: Connection, attempt: int, state: str = "answered") -> bool:
    return analyses.end_attempt(
        connection,
        "acme",
        "req-1",
        attempt,
        state=state,
        outcome="ok",
        provider_request_id="req_unit",
        now=NOW + 10,
    )


def states(connection: Connection) -> list[str]:
    return [attempt.state for attempt in analyses.attempts_of(connection, "acme", "req-1")]


def test_an_accepted_request_is_due_at_once(accepted: Database) -> None:
    with accepted.read() as connection:
        found = request(connection)
        assert (found.state, found.due_at, found.attempt) == ("waiting", NOW, 0)
        assert analyses.sealed_input(connection, "acme", "req-1") == b"sealed"
        assert analyses.any_due(connection, NOW)
        assert not analyses.any_due(connection, NOW - 1)


def test_a_request_is_accepted_once(accepted: Database) -> None:
    with accepted.write() as connection:
        assert not analyses.accept(connection, NEW)
        assert not analyses.accept(connection, replace(NEW, digest=b"other", input=b"other"))
        assert request(connection).digest == b"digest"
        assert analyses.sealed_input(connection, "acme", "req-1") == b"sealed"


def test_an_id_is_the_accounts_own(accepted: Database) -> None:
    with accepted.write() as connection:
        assert analyses.accept(connection, replace(NEW, account_id="other"))
        assert analyses.accept(connection, replace(NEW, request_id="req-2"))
        found = analyses.find_many(connection, "acme", ["req-1", "req-2", "req-3"])
        assert {(r.account_id, r.request_id) for r in found} == {
            ("acme", "req-1"),
            ("acme", "req-2"),
        }
        assert analyses.find_many(connection, "acme", []) == []


def test_what_was_never_asked_is_not_found(database: Database) -> None:
    with database.read() as connection:
        assert analyses.find(connection, "acme", "req-1") is None
        assert analyses.sealed_input(connection, "acme", "req-1") is None
        assert analyses.attempts_of(connection, "acme", "req-1") == []


def test_a_claim_starts_the_next_attempt(accepted: Database) -> None:
    with accepted.write() as connection:
        assert claim(connection) == 1
        found = request(connection)
        assert (found.state, found.due_at, found.process_id) == ("running", None, "process-1")
        assert (found.provider, found.credential) == ("openai", "platform")
        assert found.credit_period_at == NOW - 1
        (attempt,) = analyses.attempts_of(connection, "acme", "req-1")
        assert (attempt.attempt, attempt.state, attempt.started_at) == (1, "started", NOW + 5)
        assert not analyses.any_due(connection, NOW + 10**9)


def test_a_second_claim_counts_on(accepted: Database) -> None:
    with accepted.write() as connection:
        claim(connection)
        end(connection, 1, "failed")
        analyses.park(connection, request(connection), reason="rate_limited", due_at=NOW + 50)
        assert claim(connection, "process-2", key_id="key-1", credential="byok") == 2
        assert states(connection) == ["failed", "started"]
        assert request(connection).key_id == "key-1"


def test_a_parked_request_waits_with_its_reason_and_holds_no_credit(accepted: Database) -> None:
    with accepted.write() as connection:
        claim(connection)
        analyses.park(
            connection, request(connection), reason="rate_limited", due_at=NOW + 50, setback=True
        )
        found = request(connection)
        assert (found.state, found.reason, found.due_at) == ("waiting", "rate_limited", NOW + 50)
        assert (found.process_id, found.credit_period_at) == (None, None)
        assert (found.setbacks, found.bad_answers) == (1, 0)


def test_a_parked_request_keeps_the_credit_of_an_attempt_that_may_have_been_paid(
    accepted: Database,
) -> None:
    with accepted.write() as connection:
        claim(connection)
        analyses.park(
            connection, request(connection), reason="worker_lost", due_at=NOW, holds_credit=True
        )
        assert request(connection).credit_period_at == NOW - 1


def test_setbacks_bad_answers_and_refusals_are_counted_apart(accepted: Database) -> None:
    met: list[dict[str, bool]] = [
        {"setback": True},
        {"bad_answer": True},
        {"setback": True, "refusal": True},
        {"setback": True},
        {},
    ]
    with accepted.write() as connection:
        for each in met:
            analyses.park(connection, request(connection), reason="r", due_at=NOW, **each)
        found = request(connection)
        assert (found.setbacks, found.bad_answers, found.refusals) == (3, 1, 1)


def test_an_attempt_ends_once(accepted: Database) -> None:
    with accepted.write() as connection:
        claim(connection)
        assert end(connection, 1)
        assert not end(connection, 1, "failed")
        (attempt,) = analyses.attempts_of(connection, "acme", "req-1")
        assert (attempt.state, attempt.outcome, attempt.ended_at) == ("answered", "ok", NOW + 10)
        assert attempt.provider_request_id == "req_unit"


def test_an_attempt_that_was_never_started_does_not_end(accepted: Database) -> None:
    with accepted.write() as connection:
        claim(connection)
        assert not end(connection, 2)
        assert states(connection) == ["started"]


def register(connection: Connection, process_id: str = "process-1") -> None:
    leases.register(connection, process_id, role="worker", host="here", pid=1, now=NOW)


def orphans(connection: Connection, started_before: int = 0) -> list[tuple[str, str]]:
    return analyses.orphans(connection, started_before, 10)


def test_what_a_live_process_runs_is_no_orphan(accepted: Database) -> None:
    with accepted.write() as connection:
        register(connection)
        claim(connection)
        assert orphans(connection) == []
        assert orphans(connection, NOW + 5) == []


def test_what_runs_longer_than_any_call_is_an_orphan(accepted: Database) -> None:
    with accepted.write() as connection:
        register(connection)
        claim(connection)
        assert orphans(connection, NOW + 6) == [("acme", "req-1")]


def test_what_a_stopped_process_left_running_is_an_orphan(accepted: Database) -> None:
    with accepted.write() as connection:
        register(connection)
        claim(connection)
        leases.end(connection, "process-1", NOW)
        assert orphans(connection) == [("acme", "req-1")]


def test_what_runs_under_a_lease_that_never_was_is_an_orphan(accepted: Database) -> None:
    with accepted.write() as connection:
        claim(connection)
        assert orphans(connection) == [("acme", "req-1")]


def test_what_waits_or_has_ended_is_no_orphan(accepted: Database) -> None:
    with accepted.write() as connection:
        assert orphans(connection, NOW + 10**6) == []
        claim(connection)
        analyses.finish(connection, request(connection), state="failed", reason="r", now=NOW)
        assert orphans(connection, NOW + 10**6) == []


def test_an_attempt_that_is_given_up_is_unknown(accepted: Database) -> None:
    with accepted.write() as connection:
        claim(connection)
        analyses.give_up_attempt(connection, request(connection), "worker_lost", NOW + 20)
        (attempt,) = analyses.attempts_of(connection, "acme", "req-1")
        assert (attempt.state, attempt.outcome) == ("unknown", "worker_lost")
        assert attempt.ended_at == NOW + 20
        assert [row.request_id for row in analyses.unknown_attempts(connection)] == ["req-1"]


def test_giving_up_leaves_an_attempt_that_has_ended(accepted: Database) -> None:
    with accepted.write() as connection:
        claim(connection)
        end(connection, 1)
        analyses.give_up_attempt(connection, request(connection), "worker_lost", NOW)
        assert states(connection) == ["answered"]


def give_up(connection: Connection) -> None:
    """Give up the current attempt and let the request wait to be run again."""
    analyses.give_up_attempt(connection, request(connection), "worker_lost", NOW)
    analyses.park(connection, request(connection), reason="worker_lost", due_at=NOW)


def test_giving_up_leaves_earlier_attempts(accepted: Database) -> None:
    with accepted.write() as connection:
        claim(connection)
        end(connection, 1, "failed")
        analyses.park(connection, request(connection), reason="rate_limited", due_at=NOW)
        claim(connection)
        analyses.give_up_attempt(connection, request(connection), "worker_lost", NOW)
        assert states(connection) == ["failed", "unknown"]


def test_a_late_answer_still_ends_its_unknown_attempt(accepted: Database) -> None:
    with accepted.write() as connection:
        claim(connection)
        give_up(connection)
        claim(connection, "process-2")
        assert end(connection, 1)
        assert not end(connection, 1)
        assert states(connection) == ["answered", "started"]
        assert analyses.unknown_count(connection, "acme", "req-1") == 0


def test_unknown_attempts_are_counted(accepted: Database) -> None:
    with accepted.write() as connection:
        for number in (1, 2, 3):
            claim(connection, f"process-{number}")
            give_up(connection)
            assert analyses.unknown_count(connection, "acme", "req-1") == number


def test_the_open_requests_of_an_account_are_those_that_have_not_ended(
    database: Database,
) -> None:
    with database.write() as connection:
        for number in (3, 1, 2):
            analyses.accept(connection, replace(NEW, request_id=f"req-{number}"))
        analyses.accept(connection, replace(NEW, account_id="other"))
        claim(connection)
        analyses.finish(
            connection, request(connection, "req-2"), state="failed", reason="r", now=NOW
        )
        found = analyses.open_requests(connection, "acme")
        assert [(r.request_id, r.state) for r in found] == [
            ("req-1", "running"),
            ("req-3", "waiting"),
        ]


@pytest.mark.parametrize("state", analyses.TERMINAL)
def test_an_ended_request_keeps_its_result_and_not_its_input(
    accepted: Database, state: str
) -> None:
    with accepted.write() as connection:
        claim(connection)
        analyses.finish(
            connection,
            request(connection),
            state=state,
            reason="because",
            now=NOW + 30,
            answered_by="model",
            result={"category": "work"},
            usage={"input_tokens": 3},
        )
        found = request(connection)
        assert (found.state, found.reason, found.finished_at) == (state, "because", NOW + 30)
        assert (found.result, found.usage) == ({"category": "work"}, {"input_tokens": 3})
        assert (found.credential, found.prompt_version) == ("platform", "p1")
        assert (found.due_at, found.process_id, found.credit_period_at) == (None, None, None)
        assert analyses.sealed_input(connection, "acme", "req-1") is None


def test_a_due_request_is_taken_once_and_again_if_nothing_claims_it(accepted: Database) -> None:
    later = NOW + analyses.RESEND_SECONDS * 1000
    with accepted.write() as connection:
        assert analyses.take_due(connection, NOW - 1, 10, 10) == []
        assert analyses.take_due(connection, NOW, 10, 10) == [("acme", "req-1")]
        assert analyses.take_due(connection, NOW, 10, 10) == []
        assert analyses.take_due(connection, later - 1, 10, 10) == []
        assert analyses.take_due(connection, later, 10, 10) == [("acme", "req-1")]


def test_the_longest_due_are_taken_first(database: Database) -> None:
    with database.write() as connection:
        for number in (3, 1, 2):
            analyses.accept(
                connection, replace(NEW, request_id=f"req-{number}", created_at=NOW + number)
            )
        taken = analyses.take_due(connection, NOW + 5, 2, 2)
        assert taken == [("acme", "req-1"), ("acme", "req-2")]


def test_of_what_an_account_has_due_together_a_few_are_taken_and_the_others_wait_their_turn(
    database: Database,
) -> None:
    flood = [replace(NEW, request_id=f"req-{number}") for number in range(5)]
    old = replace(NEW, request_id="req-old", expires_at=NOW)
    other = replace(NEW, account_id="other", request_id="req-other")
    with database.write() as connection:
        for one in (*flood, old, other):
            analyses.accept(connection, one)
        taken = analyses.take_due(connection, NOW, 10, 2)
        assert len(taken) == 4
        # What has expired ends in any case, and another account waits for nobody.
        assert {("acme", "req-old"), ("other", "req-other")} <= set(taken)
        held = [one for one in flood if ("acme", one.request_id) not in taken]
        turns = analyses.held(connection, "acme", analyses.TURN_WAITS, 10)
        assert turns == [(one.request_id, "auto") for one in held]
        assert analyses.held(connection, "acme", analyses.TURN_WAITS, 10, ["auto"]) == []
        soon = NOW + analyses.TURN_SECONDS * 1000
        assert analyses.take_due(connection, soon - 1, 10, 2) == []
        assert len(analyses.take_due(connection, soon, 10, 2)) == 2


def test_requests_are_accepted_together_and_each_once(accepted: Database) -> None:
    fresh = [replace(NEW, request_id=f"req-{number}") for number in (1, 2, 3, 3)]
    with accepted.write() as connection:
        written = analyses.accept_held(connection, fresh, NOW + 10)
        assert written == {"req-2", "req-3"}
        assert request(connection, "req-2").due_at == NOW + 10
        assert analyses.held(connection, "acme", analyses.TURN_WAITS, 1) == [("req-2", "auto")]


def test_a_change_of_keys_wakes_what_waits_for_it_and_nothing_else(database: Database) -> None:
    with database.write() as connection:
        for reason in ("key_pending", "rate_limited", "provider_unavailable"):
            analyses.accept(connection, replace(NEW, request_id=reason))
            analyses.park(
                connection, request(connection, reason), reason=reason, due_at=NOW + 10**6
            )
        assert analyses.wake(connection, "acme", analyses.KEY_WAITS, NOW) == 2
        assert analyses.wake(connection, "other", analyses.KEY_WAITS, NOW) == 0
        due = {request_id for _, request_id in analyses.take_due(connection, NOW, 10, 10)}
        assert due == {"key_pending", "rate_limited"}


def test_waking_leaves_what_runs_or_has_ended(accepted: Database) -> None:
    with accepted.write() as connection:
        analyses.park(connection, request(connection), reason="key_pending", due_at=NOW + 99)
        claim(connection)
        assert analyses.wake(connection, "acme", ["key_pending", ""], NOW) == 0
        analyses.finish(connection, request(connection), state="failed", reason="", now=NOW)
        assert analyses.wake(connection, "acme", ["key_pending", ""], NOW) == 0
        assert not analyses.any_due(connection, NOW + 10**9)


def test_requests_that_have_not_ended_are_counted_by_state_and_reason(
    accepted: Database,
) -> None:
    with accepted.write() as connection:
        for number in (2, 3, 4):
            analyses.accept(connection, replace(NEW, request_id=f"req-{number}"))
        claim(connection)
        analyses.park(connection, request(connection, "req-2"), reason="rate_limited", due_at=NOW)
        analyses.finish(
            connection, request(connection, "req-3"), state="skipped", reason="consent", now=NOW
        )
        assert analyses.counts(connection) == {
            ("running", ""): 1,
            ("waiting", "rate_limited"): 1,
            ("waiting", ""): 1,
        }
