"""The outlet: what a process has committed it sends itself; the outbox keeps what it does not."""

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis

from events import read_event
from events.broker import redis_client
from events.stream import EVENT_FIELD, STREAM
from events.usage import USAGE_QUEUE
from store import outbox
from store.outbox import EVENT, USAGE, OutboxRow
from store.pauses import Paused
from tests.unit.store.rows import ledger_row
from tests.unit.workers.standins import clockwork_of, outbasket_of
from workers import outlet
from workers.app import App
from workers.effects import moment
from workers.outlet import GRACE_SECONDS, Outlet
from workers.relay import open_outlet, relay_events, relay_usage

PATIENCE = 20.0


@pytest.fixture
def started(app: App, stream: "redis.Redis") -> Iterator[App]:
    """An app that sends itself what it commits."""
    app.outlet = open_outlet(app)
    app.outlet.start()
    yield app
    if app.outlet.is_alive():
        app.outlet.stop()


def event_row(row_id: str) -> OutboxRow:
    return OutboxRow(row_id, json.dumps({"id": row_id}))


def usage_row(row_id: str) -> OutboxRow:
    return OutboxRow(row_id, ledger_row(row_id).to_json())


def commit(app: App, kind: str, *rows: OutboxRow) -> None:
    with app.database.write() as connection:
        for row in rows:
            app.send(connection, kind, row)


def stop(app: App) -> None:
    assert app.outlet is not None
    app.outlet.stop()


def on_stream(stream: "redis.Redis") -> list[str]:
    entries: Any = stream.xrange(STREAM)
    return [json.loads(fields[EVENT_FIELD.encode()])["id"] for _, fields in entries]


def on_queue(app: App) -> list[list[str]]:
    """The ids of the usage rows in each message."""
    found = []
    for queue, _actor, (raw,) in outbasket_of(app).sent:
        assert queue == USAGE_QUEUE
        data: Any = read_event(raw, app.sources, moment(app.effects)).data
        found.append([json.loads(row)["id"] for row in data.rows])
    return found


def waits(app: App) -> dict[str, int]:
    with app.database.read() as connection:
        return {kind: count for kind, (count, _) in outbox.backlog(connection).items()}


def test_events_go_out_in_their_order_and_leave_the_outbox_with_no_relay(
    started: App, stream: "redis.Redis"
) -> None:
    for name in "abc":
        commit(started, EVENT, event_row(name))
    stop(started)
    assert on_stream(stream) == ["a", "b", "c"]
    assert waits(started) == {}


def test_usage_goes_out_and_stays_until_it_is_confirmed(started: App) -> None:
    commit(started, USAGE, usage_row("a"), usage_row("b"))
    stop(started)
    assert [row for message in on_queue(started) for row in message] == ["a", "b"]
    assert waits(started) == {USAGE: 2}


def test_the_relay_leaves_it_alone_until_its_time_has_come(
    started: App, stream: "redis.Redis"
) -> None:
    commit(started, USAGE, usage_row("a"))
    assert relay_usage(started) == 0
    clockwork_of(started).pass_time(GRACE_SECONDS)
    assert relay_usage(started) == 1
    assert on_stream(stream) == []


def test_what_is_rolled_back_is_not_sent(started: App, stream: "redis.Redis") -> None:
    def fail() -> None:
        with started.database.write() as connection:
            started.send(connection, EVENT, event_row("a"))
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011 -- our own
        fail()
    stop(started)
    assert on_stream(stream) == []


def test_what_could_not_be_sent_is_the_relays(started: App, stream: "redis.Redis") -> None:
    started.__dict__["stream"] = redis_client("redis://127.0.0.1:9/0", max_connections=1)
    commit(started, EVENT, event_row("a"))
    stop(started)
    assert waits(started) == {EVENT: 1}
    started.__dict__["stream"] = stream
    clockwork_of(started).pass_time(GRACE_SECONDS)
    assert relay_events(started) == 1
    assert on_stream(stream) == ["a"]


def test_what_could_not_be_cleared_is_sent_again(
    started: App, stream: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def away(*_: object) -> None:
            raise OSError

        patched.setattr("store.outbox.clear", away)
        commit(started, EVENT, event_row("a"))
        stop(started)
    clockwork_of(started).pass_time(GRACE_SECONDS)
    assert relay_events(started) == 1
    assert on_stream(stream) == ["a", "a"]


def test_while_the_usage_queue_is_paused_nothing_is_put_on_it(
    started: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = Paused(queues=frozenset({USAGE_QUEUE}))
    monkeypatch.setattr(started.pauses, "_known", paused)
    commit(started, USAGE, usage_row("a"))
    stop(started)
    assert on_queue(started) == []
    assert waits(started) == {USAGE: 1}


def test_more_than_is_kept_in_memory_is_left_to_the_relay(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "MOST_WAITING", 2)
    sent: list[str] = []
    narrow = Outlet(app.database, app.effects, {USAGE: lambda rows: sent.extend(ids_of(rows))})
    for name in "abc":
        narrow.put(USAGE, usage_row(name))
    narrow.start()
    narrow.stop()
    assert sent == ["a", "b"]


def test_rows_that_come_while_others_are_sent_go_together(app: App) -> None:
    sent: list[list[str]] = []
    begun, go_on = threading.Event(), threading.Event()

    def send(rows: Sequence[OutboxRow]) -> None:
        sent.append(ids_of(rows))
        begun.set()
        assert go_on.wait(PATIENCE)

    one = Outlet(app.database, app.effects, {USAGE: send})
    one.start()
    one.put(USAGE, usage_row("a"))
    assert begun.wait(PATIENCE)
    for name in "bcd":
        one.put(USAGE, usage_row(name))
    go_on.set()
    one.stop()
    assert sent == [["a"], ["b", "c", "d"]]


def test_a_process_without_an_outlet_has_the_relay_send_at_once(app: App) -> None:
    commit(app, USAGE, usage_row("a"))
    assert relay_usage(app) == 1
    assert on_queue(app) == [["a"]]


def ids_of(rows: Sequence[OutboxRow]) -> list[str]:
    return [row.id for row in rows]
