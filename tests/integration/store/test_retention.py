"""What has ended is erased when its time is over, and nothing else with it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import event, func, insert, select

from events.stream import EVENT_FIELD, STREAM
from store import leases, probes, setaside
from store.engine import Database
from store.retention import erase_set_aside
from store.schema import (
    accounts,
    analyses,
    attempts,
    credit_periods,
    key_history,
    processes,
    provider_keys,
    set_aside,
)
from tests.unit.workers.analyses.test_attempts import OVERLOADED, Desk, open_desk
from tests.unit.workers.standins import START, clockwork_of, stand_in_app
from workers import retention
from workers.app import App

DAY = 24 * 3600


@pytest.fixture
def desk(database: Database, valkey: str, tmp_path: Path) -> Iterator[Desk]:
    """An account that asks, on each database, with a clock that the test moves."""
    app = stand_in_app(tmp_path, database, keep_requests_days=10, keep_set_aside_days=5)
    with redis.Redis.from_url(f"{valkey}?db=1") as stream:
        stream.flushdb()
        app.__dict__["stream"] = stream
        yield open_desk(app)


def days_later(app: App, days: float) -> None:
    """Let time pass, and let the sweep look."""
    clockwork_of(app).pass_time(days * DAY)
    retention.kept_no_longer(app)


def count(app: App, table: Any) -> int:
    """How many rows a table has."""
    with app.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def ids(app: App) -> set[str]:
    """The requests that are known."""
    with app.database.read() as connection:
        return set(connection.execute(select(analyses.c.request_id)).scalars())


def test_an_ended_request_goes_with_its_attempts_when_its_time_is_over(desk: Desk) -> None:
    desk.ask("req-1")
    days_later(desk.app, 9)
    desk.ask("req-2")
    assert ids(desk.app) == {"req-1", "req-2"}
    days_later(desk.app, 1.1)
    assert ids(desk.app) == {"req-2"}
    assert count(desk.app, attempts) == 1
    # The operation stays counted, and what the credit was held against is there.
    assert [row.request_id for row in desk.ledger()] == ["req-1", "req-2"]
    assert desk.credits() == (2, 0)


def test_what_has_not_ended_stays_whatever_its_age(desk: Desk) -> None:
    desk.provider.steps = [OVERLOADED]
    desk.ask("req-1")
    days_later(desk.app, 1_000)
    assert desk.request("req-1").state == "waiting"
    assert count(desk.app, attempts) == 1


def test_a_request_id_is_known_until_then_and_a_new_request_after_it(desk: Desk) -> None:
    desk.ask("req-1")
    days_later(desk.app, 9.9)
    desk.ask("req-1")
    assert len(desk.provider.keys_seen) == 1
    days_later(desk.app, 0.2)
    assert desk.ask("req-1").state == "completed"
    assert len(desk.provider.keys_seen) == 2


def test_a_batch_at_a_time_is_erased_and_the_next_sweep_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for number in range(5):
        desk.ask(f"req-{number}")
    days_later(desk.app, 11)
    assert len(ids(desk.app)) == 3
    retention.kept_no_longer(desk.app)
    assert len(ids(desk.app)) == 1
    retention.kept_no_longer(desk.app)
    assert not ids(desk.app)


def test_where_nothing_was_found_it_is_not_looked_for_at_every_tick(desk: Desk) -> None:
    retention.kept_no_longer(desk.app)
    desk.ask("req-1")
    clockwork_of(desk.app).pass_time(11 * DAY)
    desk.app.erased_at = desk.app.effects.monotonic()
    retention.kept_no_longer(desk.app)
    assert ids(desk.app) == {"req-1"}
    clockwork_of(desk.app).pass_time(retention.LOOK_SECONDS)
    retention.kept_no_longer(desk.app)
    assert not ids(desk.app)


def test_probes_set_aside_messages_and_stopped_processes_go_in_their_time(desk: Desk) -> None:
    app = desk.app
    probe = probes.Probe(account_id="acme", key_id="key-1", number=1)
    item = setaside.SetAside(
        id="i-1",
        at=START,
        queue="keys",
        reason="not_json",
        sentence="It is not.",
        event_id=None,
        event_type=None,
        account_id=None,
    )
    with app.database.write() as connection:
        probes.start(
            connection, probe, process_id="process-1", provider="openai", model="m", now=START
        )
        setaside.put(connection, app.vault, item, b"what came")
        leases.register(connection, "old", role="worker", host="h", pid=2, now=START)
    days_later(app, 4)
    assert (count(app, set_aside), count(app, attempts), count(app, processes)) == (1, 1, 2)
    days_later(app, 1.1)
    # The probe has not ended, the process has not stopped.
    assert (count(app, set_aside), count(app, attempts), count(app, processes)) == (0, 1, 2)
    with app.database.write() as connection:
        connection.execute(attempts.update().values(state="unknown", ended_at=START))
        connection.execute(processes.update().values(stopped_at=START))
    days_later(app, 4)
    assert (count(app, attempts), count(app, processes)) == (1, 0)
    days_later(app, 1)
    assert count(app, attempts) == 0


def test_out_events_go_by_age_as_well_as_by_length(desk: Desk) -> None:
    stream = desk.app.stream
    old, new = START, START + 20 * DAY * 1000
    pipeline = stream.pipeline()
    for at in (old, new):
        for number in range(200):
            pipeline.xadd(STREAM, {EVENT_FIELD: b"{}"}, id=f"{at}-{number}")
    pipeline.execute()
    days_later(desk.app, 29)
    assert stream.xlen(STREAM) == 400
    days_later(desk.app, 1.1)
    # Whole nodes of a hundred are dropped.
    assert 200 <= stream.xlen(STREAM) < 300
    assert stream.xrange(STREAM, min=str(new), count=1)


def test_tombstones_and_the_history_of_keys_outlive_what_was_done_with_them(desk: Desk) -> None:
    key_id = desk.give_key()
    desk.ask("req-1")
    history = count(desk.app, key_history)
    with desk.app.database.write() as connection:
        connection.execute(
            insert(credit_periods).values(account_id="acme", period_start_at=1, used=3, reserved=0)
        )
    days_later(desk.app, 1_000)
    assert not ids(desk.app)
    assert count(desk.app, key_history) == history > 0
    assert count(desk.app, accounts) == 1
    assert count(desk.app, credit_periods) == 1
    with desk.app.database.read() as connection:
        known = connection.execute(select(provider_keys.c.key_id)).scalars().all()
    assert known == [key_id]


def test_what_is_set_aside_again_while_it_is_erased_is_kept(desk: Desk) -> None:
    app = desk.app
    item = setaside.SetAside(
        id="i-1",
        at=START,
        queue="keys",
        reason="not_json",
        sentence="It is not.",
        event_id=None,
        event_type=None,
        account_id=None,
    )
    with app.database.write() as connection:
        setaside.put(connection, app.vault, item, b"what came")

    @event.listens_for(app.database.engine, "after_cursor_execute")
    def _again(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # The sweep has found the row, and is to delete it.
        if statement.startswith("SELECT") and "FROM set_aside" in statement:
            with app.database.write() as other:
                setaside.put(other, app.vault, replace(item, at=START + 2), b"what came")

    erase_set_aside(app.database, before=START + 1, limit=10)
    assert count(app, set_aside) == 1
