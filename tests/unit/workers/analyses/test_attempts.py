"""Attempts of an analysis, with whatever may happen while the provider is being asked."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, select, update

from events import (
    AccountDeleted,
    AccountUpdated,
    AnalysisRequested,
    CreditPeriod,
    EventData,
    KeyAdded,
    KeyRemoved,
    KeyReplaced,
    MailInput,
    Operation,
    Provider,
    ProviderChoice,
    UsageRecorded,
    read_event,
    seal_input,
    seal_key,
)
from store import analyses, keys, leases, ledger, outbox
from store.analyses import Request
from store.ledger import LedgerRow
from store.schema import key_settings, processes, provider_keys
from tests.unit.workers.standins import START, clockwork_of, event_of, outbasket_of
from workers import accounts as account_events
from workers import scheduler
from workers.analyses import actors as analysis_actors
from workers.analyses.run import resume
from workers.app import App
from workers.keys import lifecycle
from workers.lease import LeaseLost
from workers.providers.port import Answer, Failure, OutcomeClass, Question, Tokens
from workers.relay import relay_usage
from workers.settings import UnknownAttempts
from workers.usage import aggregate

OPENAI = Provider.OPENAI
HANDLERS = {
    **account_events.HANDLERS.by_type,
    **lifecycle.HANDLERS.by_type,
    **analysis_actors.HANDLERS.by_type,
    **aggregate.HANDLERS.by_type,
}
ANSWER: dict[str, Any] = {
    "category": "work",
    "category_confidence": 0.9,
    "alternative_category": None,
    "alternative_confidence": None,
    "urgency": "medium",
    "sentiment": "neutral",
    "is_spam": False,
    "is_automated": False,
    "is_cold_outreach": False,
    "needs_response": True,
    "requires_action": False,
    "expects_reply": True,
    "confidence": 0.8,
}
TOKENS = Tokens(input=1_000, output=100)
Step = Callable[[Question], Answer | Failure]


def answered(question: Question, **changes: Any) -> Answer:
    """A good answer."""
    return Answer(
        value=question.schema.model_validate(ANSWER | changes),
        model="gpt-4o",
        tokens=TOKENS,
        request_id="req_unit",
    )


def failed(kind: OutcomeClass, **more: Any) -> Step:
    """A call that fails."""
    return lambda _question: Failure(**{"kind": kind, "code": "other", "status": 400} | more)


OVERLOADED = failed(OutcomeClass.UNAVAILABLE, status=529)


@dataclass
class Scripted:
    """A provider that takes one step after the other; the last one for ever."""

    steps: list[Step] = field(default_factory=lambda: [answered])
    keys_seen: list[str] = field(default_factory=list)

    async def ask(self, key: SecretStr, question: Question) -> Answer | Failure:
        self.keys_seen.append(key.get_secret_value())
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        return step(question)


@dataclass
class Held:
    """A lease under a process id that the test changes."""

    process_id: str = "process-1"

    def holder(self, connection: Connection) -> str:
        if not leases.hold(connection, self.process_id):
            raise LeaseLost
        return self.process_id

    def name(self) -> str:
        return self.process_id


@dataclass
class Desk:
    """An account with what it asks for, and a provider that answers as it is told."""

    app: App
    provider: Scripted
    lease: Held
    _events: int = 0

    def take(self, data: EventData, account: str = "acme") -> None:
        """Act on an event as a worker does."""
        self._events += 1
        envelope = event_of(data, account=account, event_id=f"event-{self._events:04}")
        HANDLERS[type(data)](self.app, envelope, data)

    def account(
        self, revision: int = 1, *, consent: bool = True, credit: int | None = 5, **more: Any
    ) -> None:
        self.take(
            AccountUpdated(
                revision=revision,
                plan="business",
                ai_consent=consent,
                credits=credit,
                credit_period=CreditPeriod(
                    start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 2, 1, tzinfo=UTC)
                ),
                **more,
            )
        )

    def give_key(
        self, revision: int = 2, *, replaces: bool = False, fallback: bool = False, **more: Any
    ) -> str:
        """Give the account a key that is Valid."""
        key_id = f"key-{revision}"
        kind = KeyReplaced if replaces else KeyAdded
        self.take(
            kind(
                revision=revision,
                provider=OPENAI,
                key_id=key_id,
                allow_platform_fallback=fallback,
                sealed_key=seal_key(
                    f"sk-proj-fake-not-a-real-key-{revision:04}",
                    self.app.settings.sealing_public,
                    account="acme",
                    provider=OPENAI,
                    key_id=key_id,
                ),
                **more,
            )
        )
        self.set_key(key_id, status="valid", reason="ok")
        return key_id

    def set_key(self, key_id: str, **values: Any) -> None:
        with self.app.database.write() as connection:
            connection.execute(
                update(provider_keys).where(provider_keys.c.key_id == key_id).values(values)
            )

    def ask(self, request_id: str = "req-1", **more: Any) -> Request:
        """Ask for an analysis; the request after the worker let go of it."""
        mail = MailInput.model_validate(
            {"subject": "Lunch?", "from": "Ann <ann@example.org>", "text": f"Friday? {request_id}"}
        )
        self.take(
            AnalysisRequested(
                request_id=request_id,
                operation=Operation.CLASSIFY,
                provider=ProviderChoice.OPENAI,
                sealed_input=seal_input(
                    mail.to_json(),
                    self.app.settings.sealing_public,
                    account="acme",
                    request_id=request_id,
                ),
                **more,
            )
        )
        return self.request(request_id)

    def resume(self, request_id: str = "req-1") -> Request:
        resume(self.app, "acme", request_id)
        return self.request(request_id)

    def lose_the_worker(self) -> None:
        """The process dies in the scheduler's eyes, and its requests are taken over."""
        with self.app.database.write() as connection:
            leases.end(connection, self.lease.process_id, self.app.effects.now_ms())
        scheduler.orphaned_requests(self.app)
        self.lease.process_id += "'"
        self.begin()

    def die(self) -> None:
        """The process dies in the scheduler's eyes, and is not started again."""
        with self.app.database.write() as connection:
            leases.end(connection, self.lease.process_id, self.app.effects.now_ms())
        scheduler.orphaned_requests(self.app)
        scheduler.lost_attempts(self.app)

    def begin(self) -> None:
        """Take a lease."""
        with self.app.database.write() as connection:
            leases.register(
                connection, self.lease.process_id, role="worker", host="h", pid=1, now=START
            )

    def request(self, request_id: str = "req-1") -> Request:
        with self.app.database.read() as connection:
            found = analyses.find(connection, "acme", request_id)
        assert found is not None
        return found

    def attempts(self, request_id: str = "req-1") -> list[str]:
        """The states of a request's attempts."""
        with self.app.database.read() as connection:
            return [a.state for a in analyses.attempts_of(connection, "acme", request_id)]

    def credits(self) -> tuple[int, int]:
        """Credits (used, reserved) in the period of the account."""
        with self.app.database.read() as connection:
            row = connection.exec_driver_sql(
                "SELECT coalesce(sum(used), 0), coalesce(sum(reserved), 0) FROM credit_periods"
            ).one()
        return row[0], row[1]

    def ledger(self) -> list[LedgerRow]:
        """The ledger, after everything in the outbox has arrived on it."""
        relay_usage(self.app)
        basket = outbasket_of(self.app)
        for _ in range(len(basket.sent)):
            message = basket.sent.popleft()
            if message[0] == "usage":
                data = read_event(message[2][0]).data
                assert isinstance(data, UsageRecorded)
                self.take(data, account="byok")
            else:
                basket.sent.append(message)
        with self.app.database.read() as connection:
            return ledger.rows_of(connection)

    def out_events(self) -> list[str]:
        """The types of the out-events about requests, without prefix and version."""
        with self.app.database.write() as connection:
            rows = outbox.take_due(connection, outbox.EVENT, self.app.effects.now_ms(), 500)
        kinds = [read["type"].split(".", 1)[1].rpartition(".")[0] for read in map(_read, rows)]
        return [kind for kind in kinds if not kind.startswith("key.")]


def _read(row: outbox.OutboxRow) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(row.payload)
    return fields


@pytest.fixture
def desk(app: App) -> Desk:
    return open_desk(app)


def open_desk(app: App) -> Desk:
    """An account `acme`, a worker with a lease, and a provider that answers."""
    made = Desk(app, Scripted(), Held())
    app.__dict__.update(providers={OPENAI: made.provider}, lease=made.lease)
    made.begin()
    made.account()
    return made


# Who pays


def test_an_own_key_pays_and_the_platform_does_not(desk: Desk) -> None:
    key_id = desk.give_key()
    request = desk.ask()
    assert (request.state, request.credential, request.key_id) == ("completed", "byok", key_id)
    assert request.result is not None
    assert request.result["category"] == "work"
    assert desk.provider.keys_seen == ["sk-proj-fake-not-a-real-key-0002"]
    assert desk.credits() == (0, 0)
    (row,) = desk.ledger()
    assert (row.kind, row.completes, row.credential, row.key_id) == ("call", True, "byok", key_id)
    assert (row.input_tokens, row.output_tokens, row.cost_nano_usd) == (1_000, 100, 3_500_000)
    assert desk.out_events() == ["analysis.completed"]
    with desk.app.database.read() as connection:
        key = keys.find(connection, key_id)
        assert analyses.sealed_input(connection, "acme", "req-1") is None
    assert key is not None
    assert (key.requests, key.last_ok_at) == (1, START)


def test_the_platform_pays_with_a_credit(desk: Desk) -> None:
    request = desk.ask()
    assert (request.state, request.credential) == ("completed", "platform")
    assert desk.credits() == (1, 0)
    (row,) = desk.ledger()
    assert (row.credential, row.key_id) == ("platform", None)


def test_without_credits_nothing_is_sent_and_it_is_told_once(desk: Desk) -> None:
    desk.account(2, credit=1)
    desk.ask("req-1")
    for number in (2, 3):
        request = desk.ask(f"req-{number}")
        assert (request.state, request.reason) == ("skipped", "credits")
    assert len(desk.provider.keys_seen) == 1
    assert desk.credits() == (1, 0)
    assert desk.out_events().count("credits.exhausted") == 1


def test_without_credits_an_own_key_goes_on(desk: Desk) -> None:
    desk.account(2, credit=0)
    desk.give_key(3)
    assert desk.ask().state == "completed"


# What happens while the provider is asked


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_call_is_listed_as_unknown_whose_request_ended_before_its_worker_died(
    desk: Desk,
) -> None:
    def deleted_then_killed(_: Question) -> Answer:
        desk.take(AccountDeleted(revision=2))
        raise Killed

    desk.provider.steps = [deleted_then_killed]
    with pytest.raises(Killed):
        desk.ask()
    assert (desk.request().state, desk.attempts()) == ("skipped", ["started"])
    desk.die()
    # It may be on the bill, so it has to be on the list that the bill is held against.
    assert (desk.request().state, desk.attempts()) == ("skipped", ["unknown"])


def test_consent_that_is_withdrawn_in_a_call_leaves_no_result(desk: Desk) -> None:
    def withdrawn(question: Question) -> Answer:
        desk.account(2, consent=False)
        return answered(question)

    desk.provider.steps = [withdrawn]
    request = desk.ask()
    assert (request.state, request.reason, request.result) == ("skipped", "consent", None)
    # The provider billed it: it is on the ledger, as no operation, and costs no credit.
    (row,) = desk.ledger()
    assert (row.completes, row.cost_nano_usd) == (False, 3_500_000)
    assert desk.credits() == (0, 0)
    assert desk.out_events() == ["analysis.skipped"]


def test_a_key_that_is_replaced_in_a_call_has_paid_for_it(desk: Desk) -> None:
    key_id = desk.give_key()

    def replaced(question: Question) -> Answer:
        desk.give_key(3, replaces=True)
        return answered(question)

    desk.provider.steps = [replaced, answered]
    request = desk.ask()
    assert (request.state, request.key_id) == ("completed", key_id)
    desk.ask("req-2")
    assert [row.key_id for row in desk.ledger()] == ["key-2", "key-3"]
    assert [key[-4:] for key in desk.provider.keys_seen] == ["0002", "0003"]


def test_a_key_that_is_removed_in_a_call_pays_for_nothing_after_it(desk: Desk) -> None:
    key_id = desk.give_key()

    def removed(question: Question) -> Answer:
        desk.take(KeyRemoved(revision=3, provider=OPENAI, key_id=key_id))
        return answered(question)

    desk.provider.steps = [removed, answered]
    assert desk.ask().state == "completed"
    request = desk.ask("req-2")
    assert (request.credential, request.key_id) == ("platform", None)
    with desk.app.database.read() as connection:
        assert keys.stored_key(connection, key_id) is None


def test_a_refusal_of_a_key_that_was_replaced_in_the_call_says_nothing_of_the_new_one(
    desk: Desk,
) -> None:
    desk.give_key()

    def replaced(question: Question) -> Failure:
        desk.give_key(3, replaces=True)
        return Failure(kind=OutcomeClass.NO_QUOTA, code="insufficient_quota", status=429)

    desk.provider.steps = [replaced, answered]
    desk.ask()
    with desk.app.database.read() as connection:
        key = keys.active(connection, "acme")["openai"]
    assert (key.key_id, key.status, key.reason) == ("key-3", "valid", "ok")
    assert desk.resume().key_id == "key-3"


def test_an_account_that_is_deleted_in_a_call_keeps_nothing(desk: Desk) -> None:
    def deleted(question: Question) -> Answer:
        desk.take(AccountDeleted(revision=9))
        return answered(question)

    desk.provider.steps = [deleted]
    request = desk.ask()
    assert (request.state, request.reason, request.result) == ("skipped", "account_deleted", None)
    (row,) = desk.ledger()
    assert not row.completes
    with desk.app.database.read() as connection:
        assert analyses.sealed_input(connection, "acme", "req-1") is None
        surrogates = connection.exec_driver_sql("SELECT count(*) FROM surrogates").scalar()
    assert surrogates == 0
    assert desk.credits() == (0, 0)


def test_a_late_answer_completes_a_request_that_waits_to_be_run_again(desk: Desk) -> None:
    def late(question: Question) -> Answer:
        desk.lose_the_worker()
        assert desk.attempts() == ["unknown"]
        assert desk.request().state == "waiting"
        assert desk.credits() == (0, 1), "the lost call may have been paid for"
        return answered(question)

    desk.provider.steps = [late]
    request = desk.ask()
    assert (request.state, request.attempt) == ("completed", 1)
    assert desk.attempts() == ["answered"]
    assert desk.credits() == (1, 0)
    assert [row.completes for row in desk.ledger()] == [True]
    assert desk.resume() == request


def test_a_late_answer_after_another_attempt_is_billed_and_changes_no_result(desk: Desk) -> None:
    def late(question: Question) -> Answer:
        desk.lose_the_worker()
        desk.resume()
        assert desk.request().state == "completed"
        return answered(question, category="personal")

    desk.provider.steps = [late, answered]
    request = desk.ask()
    assert request.result is not None
    assert (request.state, request.attempt, request.result["category"]) == ("completed", 2, "work")
    assert desk.attempts() == ["answered", "answered"]
    assert sorted(row.completes for row in desk.ledger()) == [False, True]
    assert desk.credits() == (1, 0)
    assert desk.out_events() == ["analysis.completed"]


def test_a_late_failure_after_a_take_over_does_not_count_twice(desk: Desk) -> None:
    def late(question: Question) -> Failure:
        desk.lose_the_worker()
        return Failure(kind=OutcomeClass.UNAVAILABLE, code="overloaded", status=529)

    desk.provider.steps = [late, answered]
    request = desk.ask()
    assert (request.state, request.setbacks) == ("waiting", 1)
    assert desk.resume().state == "completed"
    assert desk.credits() == (1, 0)


def test_a_lost_call_is_held_where_the_operator_wants_it_so(desk: Desk) -> None:
    desk.app.settings = desk.app.settings.model_copy(
        update={"unknown_attempts": UnknownAttempts.HOLD}
    )

    def lost(question: Question) -> Answer:
        desk.lose_the_worker()
        request = desk.request()
        assert (request.state, request.due_at) == ("waiting", request.expires_at)
        raise SystemExit

    desk.provider.steps = [lost]
    with pytest.raises(SystemExit):
        desk.ask()
    assert desk.attempts() == ["unknown"]
    clockwork_of(desk.app).pass_time(24 * 3600)
    request = desk.resume()
    assert (request.state, request.reason) == ("failed", "expired")
    assert desk.credits() == (0, 0)


def test_a_request_that_kills_its_workers_is_given_up(desk: Desk) -> None:
    def kill(question: Question) -> Answer:
        desk.lose_the_worker()
        raise SystemExit

    desk.provider.steps = [kill]
    with pytest.raises(SystemExit):
        desk.ask()
    for _ in range(20):
        if desk.request().state != "waiting":
            break
        with pytest.raises(SystemExit):
            desk.resume()
    request = desk.request()
    assert (request.state, request.reason) == ("failed", "worker_lost")
    assert set(desk.attempts()) == {"unknown"}
    assert len(desk.attempts()) == 5
    assert desk.credits() == (0, 0)
    assert desk.out_events() == ["analysis.failed"]


def test_what_died_together_again_is_not_run_together_once_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = iter((0.1, 0.5, 0.9) * 9)
    monkeypatch.setattr(type(desk.app.effects), "jitter", lambda _: next(chance))

    def vanish(question: Question) -> Answer:
        raise SystemExit

    requests = ["req-1", "req-2", "req-3"]
    desk.provider.steps = [vanish]
    for request_id in requests:
        with pytest.raises(SystemExit):
            desk.ask(request_id)
    desk.lose_the_worker()
    now = desk.app.effects.now_ms()
    assert {desk.request(request_id).due_at for request_id in requests} == {now}
    for request_id in requests:
        with pytest.raises(SystemExit):
            desk.resume(request_id)
    desk.lose_the_worker()
    due = [desk.request(request_id).due_at for request_id in requests]
    assert len(set(due)) == len(requests)
    assert all(now <= at <= now + 8_000 for at in due if at is not None)


# Failures


def test_a_key_that_is_refused_in_a_call_is_doubted_and_validated_anew(desk: Desk) -> None:
    key_id = desk.give_key()
    outbasket_of(desk.app).sent.clear()
    desk.provider.steps = [failed(OutcomeClass.REJECTED, status=401)]
    request = desk.ask()
    assert (request.state, request.reason) == ("waiting", "key_pending")
    assert len(desk.provider.keys_seen) == 1
    # Another request waits for the verdict, too, and is not sent.
    assert desk.ask("req-2").reason == "key_pending"
    assert len(desk.provider.keys_seen) == 1
    with desk.app.database.read() as connection:
        key = keys.find(connection, key_id)
        due_at = connection.execute(select(provider_keys.c.validate_at)).scalar_one()
    assert key is not None
    assert due_at <= desk.app.effects.now_ms()
    # The key is not Invalid by that: the verdict is the validation's.
    assert key.status == "valid"
    assert desk.credits() == (0, 0)


def test_an_own_key_without_quota_falls_back_only_where_that_is_allowed(desk: Desk) -> None:
    desk.give_key()
    desk.provider.steps = [failed(OutcomeClass.NO_QUOTA, status=429), answered]
    assert desk.ask().state == "waiting"
    request = desk.resume()
    assert (request.state, request.reason) == ("failed", "key_no_quota")
    assert desk.credits() == (0, 0)
    with desk.app.database.write() as connection:
        connection.execute(update(key_settings).values(allow_platform_fallback=True))
    request = desk.ask("req-2")
    assert (request.state, request.credential) == ("completed", "platform")
    assert desk.credits() == (1, 0)
    assert desk.out_events() == ["analysis.failed", "fallback.used", "analysis.completed"]


def test_a_rate_limited_request_waits_as_long_as_the_provider_asks(desk: Desk) -> None:
    desk.give_key()
    limited = failed(OutcomeClass.RATE_LIMITED, status=429, retry_after=30.0)
    desk.provider.steps = [limited, answered]
    request = desk.ask()
    assert (request.state, request.reason) == ("waiting", "rate_limited")
    assert request.due_at is not None
    assert START + 30_000 <= request.due_at <= START + 40_000
    assert desk.credits() == (0, 0)
    clockwork_of(desk.app).pass_time((request.due_at - START) / 1000)
    assert desk.resume().state == "completed"


def test_a_second_bad_answer_ends_a_request_and_both_are_billed(desk: Desk) -> None:
    def cut_short(_question: Question) -> Failure:
        return Failure(kind=OutcomeClass.BAD_ANSWER, code="length", status=200, tokens=TOKENS)

    desk.provider.steps = [cut_short]
    assert desk.ask().state == "waiting"
    assert desk.credits() == (0, 0), "a waiting request holds no credit"
    request = desk.resume()
    assert (request.state, request.reason) == ("failed", "bad_answer")
    assert [row.completes for row in desk.ledger()] == [False, False]
    assert desk.credits() == (0, 0)


def test_an_answer_off_the_vocabulary_is_a_bad_answer_and_billed(desk: Desk) -> None:
    def off(question: Question) -> Answer:
        value = question.schema.model_construct(**ANSWER | {"category": "gossip"})
        return Answer(value=value, model="gpt-4o", tokens=TOKENS, request_id=None)

    desk.provider.steps = [off, answered]
    request = desk.ask()
    assert (request.state, request.reason, request.bad_answers) == ("waiting", "bad_answer", 1)
    assert desk.resume().state == "completed"
    assert sorted(row.completes for row in desk.ledger()) == [False, True]


def test_an_outage_ends_no_request_before_it_expires(desk: Desk) -> None:
    desk.provider.steps = [OVERLOADED]
    request = desk.ask()
    clock = clockwork_of(desk.app)
    for _ in range(1_000):
        if request.state != "waiting":
            break
        assert request.reason == "provider_unavailable"
        assert request.due_at is not None
        clock.now = max(clock.now, request.due_at)
        request = desk.resume()
    assert (request.state, request.reason) == ("failed", "expired")
    assert clock.now == request.expires_at == START + 24 * 3600 * 1000
    assert request.attempt > 100
    assert desk.credits() == (0, 0)
    assert desk.ledger() == []


def test_a_request_with_its_own_end_ends_then(desk: Desk) -> None:
    desk.provider.steps = [OVERLOADED]
    end = datetime.fromtimestamp(START / 1000, tz=UTC) + timedelta(minutes=1)
    assert desk.ask(expires_at=end).state == "waiting"
    clockwork_of(desk.app).pass_time(60)
    request = desk.resume()
    assert (request.state, request.reason) == ("failed", "expired")


def test_a_request_that_has_expired_when_it_comes_is_not_sent(desk: Desk) -> None:
    end = datetime.fromtimestamp(START / 1000, tz=UTC) - timedelta(seconds=1)
    request = desk.ask(expires_at=end)
    assert (request.state, request.reason) == ("failed", "expired")
    assert desk.provider.keys_seen == []


def test_an_error_of_the_adapter_ends_the_request(desk: Desk) -> None:
    def broken(_question: Question) -> Answer:
        raise RuntimeError("hunter2")

    desk.provider.steps = [broken]
    request = desk.ask()
    assert request.state == "failed"
    assert "hunter2" not in str(request)
    assert desk.credits() == (0, 0)


def test_a_key_that_was_tampered_with_is_not_sent(desk: Desk) -> None:
    key_id = desk.give_key()
    desk.set_key(key_id, ciphertext=b"x" * 60)
    request = desk.ask()
    assert (request.state, request.reason) == ("failed", "key_unreadable")
    assert desk.provider.keys_seen == []


def test_an_input_that_was_tampered_with_ends_its_request(desk: Desk) -> None:
    desk.provider.steps = [OVERLOADED]
    desk.ask()
    with desk.app.database.write() as connection:
        connection.exec_driver_sql("UPDATE analyses SET input = x'00'")
    assert desk.resume().state == "failed"
    assert desk.credits() == (0, 0)


def test_a_worker_without_a_lease_starts_nothing(desk: Desk) -> None:
    with desk.app.database.write() as connection:
        connection.execute(update(processes).values(stopped_at=START))
    with pytest.raises(LeaseLost):
        desk.ask()
    assert desk.provider.keys_seen == []
    with desk.app.database.read() as connection:
        assert analyses.find(connection, "acme", "req-1") is None
    assert desk.credits() == (0, 0)


def test_a_request_of_an_unknown_account_waits_a_minute_and_is_not_sent(desk: Desk) -> None:
    desk.take(AccountDeleted(revision=9))
    request = desk.ask()
    assert (request.state, request.reason) == ("waiting", "account")
    clockwork_of(desk.app).pass_time(60)
    request = desk.resume()
    assert (request.state, request.reason) == ("skipped", "consent")
    assert desk.provider.keys_seen == []


def test_requests_that_were_completed_before_are_not_run_again(desk: Desk) -> None:
    first = desk.ask()
    assert desk.ask() == first
    assert desk.resume() == first
    assert len(desk.provider.keys_seen) == 1
