"""What must survive: a database that goes away, answers that get lost, workers that stop."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, update
from sqlalchemy.exc import OperationalError

from events import AccountDeleted, ProviderChoice
from store import accounts, analyses, credits, setaside
from store.engine import Database
from store.schema import analyses as analyses_table
from tests.road import GOOD_OPENAI, MAIL, Road
from workers import scheduler
from workers.analyses import completion, retry
from workers.app import App


@contextmanager
def database_away(monkeypatch: pytest.MonkeyPatch, app: App) -> Iterator[threading.Event]:
    """Writes of `app` fail as they do while a database is away; set once that was met."""
    met = threading.Event()

    @contextmanager
    def away(_self: Database) -> Iterator[Connection]:
        met.set()
        raise OperationalError("BEGIN", {}, ConnectionError("away"))
        yield

    real = Database.write

    def write(self: Database) -> Any:
        return away(self) if self is app.database else real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", write)
        yield met


def test_a_message_stays_with_the_broker_when_the_worker_stops_without_its_database(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.account()
    with database_away(monkeypatch, road.worker_app) as met:
        request_id = road.ask()
        met.wait(30)
        road.stop_working()
    assert road.request(request_id) is None
    road.start()
    assert road.ended(request_id).state == "completed"


def test_an_answer_that_was_paid_for_survives_a_database_that_goes_away(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.account()
    road.give_key()
    road.sandbox.gate(closed=True)
    request_id = road.ask()
    road.sandbox.wait_in_flight(1)
    with database_away(monkeypatch, road.worker_app) as met:
        road.sandbox.gate(closed=False)
        met.wait(30)
    assert road.ended(request_id).state == "completed"
    (billed,) = road.sandbox.bill()
    assert billed["calls"] == 1
    (row,) = road.settled_ledger()
    assert row.completes


def test_an_outcome_that_cannot_be_written_down_ends_the_request(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.account(credits=5)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(completion, "_succeed", broken)
    request = road.ended(road.ask())
    assert (request.state, request.reason) == ("failed", "internal_error")
    assert road.credits() == (0, 0)
    assert [attempt.state for attempt in road.attempts(request.request_id)] == ["unknown"]


def test_a_request_whose_worker_left_is_run_again(road: Road) -> None:
    road.account()
    road.stop_working()
    # As a worker leaves it that was stopped while its database was away.
    request_id = road.ask()
    road.start()
    road.ended(request_id)
    with road.app.database.write() as connection:
        connection.execute(
            update(analyses_table)
            .where(analyses_table.c.request_id == request_id)
            .values(state=analyses.RUNNING, process_id="gone", finished_at=None)
        )
    road.until(lambda: (r := road.request(request_id)) is not None and r.reason == "worker_lost")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come after milliseconds."""
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(retry, "LONGEST_PAUSE_SECONDS", 0.05)


@pytest.mark.usefixtures("hasty")
def test_answers_that_get_lost_are_counted_and_not_paid_for_without_end(road: Road) -> None:
    road.account(credits=5)
    road.sandbox.fault("bill-then-drop", endpoint="completion")
    request = road.ended(road.ask(provider=ProviderChoice.OPENAI))
    assert (request.state, request.reason) == ("failed", "answer_lost")
    states = [attempt.state for attempt in road.attempts(request.request_id)]
    assert states == ["unknown"] * retry.UNKNOWN_ALLOWED
    assert sum(row["calls"] for row in road.sandbox.bill()) == retry.UNKNOWN_ALLOWED
    assert road.credits() == (0, 0)


# It waits out the breaker's pauses, which no queue has a part in.
@pytest.mark.parametrize("services", ["sqlite-valkey", "postgresql-valkey"], indirect=True)
@pytest.mark.usefixtures("hasty")
def test_an_outage_burns_no_attempts_for_good(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    road.sandbox.fault("error503", endpoint="completion", count=12)
    request = road.ended(road.ask())
    assert (request.state, request.attempt) == ("completed", 13)
    key = road.key(key_id)
    assert key is not None
    assert (key.status, key.reason) == ("valid", "ok")


@pytest.mark.usefixtures("hasty")
def test_a_key_refused_in_an_analysis_is_validated_once_and_then_the_table_decides(
    road: Road,
) -> None:
    road.account()
    key_id = road.give_key()
    before = road.key(key_id)
    assert before is not None
    road.sandbox.fault("revoked", key=GOOD_OPENAI)
    asked = [road.ask() for _ in range(6)]
    for request_id in asked:
        request = road.ended(request_id)
        assert (request.state, request.reason) == ("failed", "key_invalid")
    key = road.key(key_id)
    assert key is not None
    assert (key.status, key.validation_no) == ("invalid", before.validation_no + 1)


def test_one_sweep_that_fails_keeps_no_other_from_running(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.stop_working()

    def broken(_app: App) -> int:
        raise ZeroDivisionError

    broken.__name__ = "past_cooldowns"
    monkeypatch.setattr(scheduler, "SWEEPS", (broken, *scheduler.SWEEPS))
    monkeypatch.setattr(scheduler, "OUTAGE_PAUSE_SECONDS", 0.01)
    road.start()
    road.account()
    road.ended(road.ask())
    assert len(road.settled_ledger()) == 1


def test_unlimited_credits_have_no_limit(road: Road) -> None:
    road.account(credits=None)
    assert road.ended(road.ask()).credential == "platform"


def test_a_request_whose_input_does_not_open_ends(road: Road) -> None:
    road.account(consent=True)
    road.sandbox.fault("error503", endpoint="models")
    key_id = road.give_key(settled=False)
    road.until(lambda: road.key(key_id))
    request_id = road.ask()
    road.until(lambda: (r := road.request(request_id)) is not None and r.reason == "key_pending")
    with road.app.database.write() as connection:
        connection.execute(
            update(analyses_table)
            .where(analyses_table.c.request_id == request_id)
            .values(input=b"something else that is long enough", due_at=0)
        )
    request = road.ended(request_id)
    assert (request.state, request.reason) == ("failed", "input_unreadable")


def test_deleting_an_account_gives_its_credits_back_and_ends_its_requests(road: Road) -> None:
    road.account(credits=5)
    road.sandbox.gate(closed=True)
    request_id = road.ask()
    road.sandbox.wait_in_flight(1)
    road.publish(AccountDeleted(revision=road.revision()), "acme")
    request = road.ended(request_id)
    assert (request.state, request.reason) == ("skipped", "account_deleted")
    road.sandbox.gate(closed=False)
    road.until(lambda: [a.state for a in road.attempts(request_id)] == ["answered"])
    road.account(credits=5)
    assert road.credits() == (0, 0)
    (row,) = road.settled_ledger()
    assert not row.completes
    after = road.request(request_id)
    assert after is not None
    assert after.result is None


def test_consent_withdrawn_while_a_call_is_out_bills_it_and_stores_nothing(road: Road) -> None:
    road.account(credits=5)
    road.sandbox.gate(closed=True)
    request_id = road.ask()
    road.sandbox.wait_in_flight(1)
    road.account(consent=False, credits=5)
    road.sandbox.gate(closed=False)
    request = road.ended(request_id)
    assert (request.state, request.reason, request.result) == ("skipped", "consent", None)
    (row,) = road.settled_ledger()
    assert (row.kind, row.completes) == ("call", False)
    assert road.credits() == (0, 0)


BROKEN: dict[str, dict[str, Any]] = {
    "half a surrogate pair": {"args": ["\ud800"]},
    "two arguments": {"args": ["{}", "{}"]},
    "no arguments": {"args": []},
    "keyword arguments": {"args": [], "kwargs": {"event": "{}"}},
    "options of another's": {"args": ["{}"], "options": {"throws": "x", "eta": 99999999999999}},
    "an id that is a list": {"args": ["{}"], "message_id": ["x"]},
    "an actor of nobody's": {"args": ["{}"], "actor_name": "nobody"},
    "the actor for the unreadable": {"args": ["{}"], "actor_name": "unreadable_message.keys"},
    "a version of no digits": {"args": ['{"specversion":"1.0","type":"byok.key.added.v²"}']},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_message_is_set_aside_and_blocks_nothing(
    road: Road, broken: dict[str, Any]
) -> None:
    message = {
        "queue_name": "keys",
        "actor_name": "keys_event",
        "kwargs": {},
        "options": {},
        "message_id": "broken-1",
        "message_timestamp": 0,
        **broken,
    }
    road.put_raw("keys", json.dumps(message).encode(), message["options"])
    road.account()
    key_id = road.give_key()
    key = road.key(key_id)
    assert key is not None
    assert key.status == "valid"

    def kept() -> list[setaside.SetAside]:
        with road.app.database.read() as connection:
            return setaside.newest(connection)

    road.until(kept)
    assert len(kept()) == 1
    road.until(lambda: road.unacknowledged("keys") == 0)


def test_mail_that_is_no_mail_is_refused(road: Road) -> None:
    road.account()
    road.ask(mail=MAIL.model_copy(update={"headers": {"X-Other": "1"}}))
    road.until(lambda: road.out_events("event.rejected"))
    (event,) = road.out_events("event.rejected")
    assert event["data"]["reason"] == "invalid_input"


def test_credits_are_those_of_the_account(road: Road) -> None:
    road.account(credits=5)
    asked = [road.ask() for _ in range(8)]
    states = sorted(road.ended(request_id).state for request_id in asked)
    assert states == ["completed"] * 5 + ["skipped"] * 3
    with road.app.database.read() as connection:
        account = accounts.find(connection, "acme")
        assert account is not None
        assert credits.standing(connection, account) == (5, 0)
