"""The relay: what lies in the outbox reaches the usage queue and the stream."""

import json
from typing import Any

import pytest
import redis

from events import UsageRecorded, read_event
from events.broker import redis_client
from events.envelope import MAX_EVENT_BYTES
from events.stream import EVENT_FIELD, STREAM
from events.usage import MAX_ROWS_PER_MESSAGE
from store import outbox
from store.outbox import EVENT, USAGE, OutboxRow
from tests.unit.store.rows import ledger_row
from tests.unit.workers.standins import clockwork_of, outbasket_of
from workers.app import App
from workers.effects import moment
from workers.relay import relay_events, relay_usage


def put(app: App, kind: str, rows: list[OutboxRow]) -> None:
    with app.database.write() as connection:
        outbox.add(connection, kind, rows, app.effects.now_ms())


def usage_rows(count: int, **fields: Any) -> list[OutboxRow]:
    rows = [ledger_row(f"row-{number:04}", **fields) for number in range(count)]
    return [OutboxRow(row.id, row.to_json()) for row in rows]


def messages(app: App) -> list[str]:
    """The usage messages that were published."""
    found = []
    for queue, actor, arguments in outbasket_of(app).sent:
        assert (queue, actor) == ("usage", "usage_event")
        (raw,) = arguments
        found.append(raw)
    return found


def rows_of(app: App) -> list[str]:
    """The ids of the rows in the messages, in order."""
    ids: list[str] = []
    for raw in messages(app):
        assert len(raw.encode()) <= MAX_EVENT_BYTES
        # As the aggregator reads it: signed by the workers themselves.
        data = read_event(raw, app.sources, moment(app.effects)).data
        assert isinstance(data, UsageRecorded)
        assert len(data.rows) <= MAX_ROWS_PER_MESSAGE
        ids += [json.loads(row)["id"] for row in data.rows if isinstance(row, str)]
    return ids


def test_nothing_is_sent_where_nothing_waits(app: App) -> None:
    assert relay_usage(app) == 0
    assert relay_events(app) == 0
    assert messages(app) == []


def test_usage_rows_travel_in_one_message_as_they_are(app: App) -> None:
    put(app, USAGE, usage_rows(3, key_id=None))
    assert relay_usage(app) == 3
    assert rows_of(app) == ["row-0000", "row-0001", "row-0002"]
    (raw,) = messages(app)
    row = json.loads(json.loads(raw)["data"]["rows"][0])
    assert row == json.loads(ledger_row("row-0000", key_id=None).to_json())


def test_rows_stay_until_they_are_confirmed(app: App) -> None:
    put(app, USAGE, usage_rows(1))
    assert relay_usage(app) == 1
    assert relay_usage(app) == 0
    clockwork_of(app).pass_time(outbox.RESEND_BASE_SECONDS)
    assert relay_usage(app) == 1
    assert rows_of(app) == ["row-0000", "row-0000"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": "m" * 100, "provider_request_id": "r" * 200, "request_id": "q" * 128},
        {"model": "\u00e9" * 100, "provider_request_id": "\U0001f511" * 200},
        {"model": '"\\' * 50, "provider_request_id": "\x00" * 200},
    ],
    ids=["usual", "long", "wide", "escaped"],
)
def test_a_full_batch_is_split_below_the_limit_of_an_event_and_loses_nothing(
    app: App, fields: dict[str, Any]
) -> None:
    put(app, USAGE, usage_rows(MAX_ROWS_PER_MESSAGE, **fields))
    assert relay_usage(app) == MAX_ROWS_PER_MESSAGE
    assert rows_of(app) == [f"row-{number:04}" for number in range(MAX_ROWS_PER_MESSAGE)]
    assert len(messages(app)) >= 2


def test_more_than_a_batch_is_sent_in_the_next_round(app: App) -> None:
    put(app, USAGE, usage_rows(MAX_ROWS_PER_MESSAGE + 2))
    assert relay_usage(app) == MAX_ROWS_PER_MESSAGE
    assert relay_usage(app) == 2
    assert len(set(rows_of(app))) == MAX_ROWS_PER_MESSAGE + 2


# The stream


def event_rows(*ids: str) -> list[OutboxRow]:
    return [OutboxRow(row_id, json.dumps({"id": row_id})) for row_id in ids]


def on_stream(stream: "redis.Redis") -> list[str]:
    entries: Any = stream.xrange(STREAM)
    return [json.loads(fields[EVENT_FIELD.encode()])["id"] for _, fields in entries]


def waits(app: App) -> dict[str, tuple[int, int]]:
    with app.database.read() as connection:
        return outbox.backlog(connection)


def test_out_events_reach_the_stream_in_their_order_and_leave_the_outbox(
    app: App, stream: "redis.Redis"
) -> None:
    put(app, EVENT, event_rows("a", "b", "c"))
    assert relay_events(app) == 3
    assert on_stream(stream) == ["a", "b", "c"]
    assert waits(app) == {}
    assert relay_events(app) == 0


def test_while_redis_is_away_out_events_wait_and_come_again(
    app: App, stream: "redis.Redis"
) -> None:
    put(app, EVENT, event_rows("a"))
    app.__dict__["stream"] = redis_client("redis://127.0.0.1:9/0", max_connections=1)
    with pytest.raises(redis.ConnectionError):
        relay_events(app)
    assert waits(app)[EVENT][0] == 1
    app.__dict__["stream"] = stream
    assert relay_events(app) == 0
    clockwork_of(app).pass_time(outbox.RESEND_BASE_SECONDS)
    assert relay_events(app) == 1
    assert on_stream(stream) == ["a"]


def test_a_crash_before_the_outbox_is_cleared_repeats_an_event_and_loses_none(
    app: App, stream: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: object) -> None:
        raise SystemExit

    put(app, EVENT, event_rows("a"))
    with monkeypatch.context() as patched:
        patched.setattr("store.outbox.clear", crash)
        with pytest.raises(SystemExit):
            relay_events(app)
    clockwork_of(app).pass_time(outbox.RESEND_BASE_SECONDS)
    assert relay_events(app) == 1
    assert on_stream(stream) == ["a", "a"]


def test_events_and_usage_do_not_mix(app: App, stream: "redis.Redis") -> None:
    put(app, EVENT, event_rows("a"))
    put(app, USAGE, usage_rows(1))
    assert relay_events(app) == 1
    assert messages(app) == []
    assert relay_usage(app) == 1
    assert on_stream(stream) == ["a"]
