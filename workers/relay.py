"""The relay: from the outbox to the usage queue and to the out-event stream.

A worker sends what it has committed itself (`outlet.py`); the rest is the scheduler's sweeps'.
"""

from collections.abc import Sequence
from functools import partial

from events import UsageRecorded
from events.broker import actor_of
from events.stream import EVENT_FIELD, STREAM
from events.usage import MAX_ROWS_PER_MESSAGE, USAGE_QUEUE
from store import outbox
from workers.app import App
from workers.outlet import Outlet, Send

_BATCH = MAX_ROWS_PER_MESSAGE
_MESSAGE_BYTES = 200_000
"""Rows of one message at most, so that it stays below the limit of an event."""

USAGE_ACCOUNT = "byok"
"""The `subject` of a usage message, which is about many accounts."""


def relay_usage(app: App) -> int:
    """Publish usage rows that are due; how many. The aggregator clears them."""
    if USAGE_QUEUE in app.pauses.known.queues:
        return 0
    rows = _take(app, outbox.USAGE)
    _send_usage(app, rows)
    return len(rows)


def relay_events(app: App) -> int:
    """Put out-events that are due on the stream, then clear them; how many.

    A crash in between puts them there twice: consumers drop repeats by event id.
    """
    rows = _take(app, outbox.EVENT)
    if not rows:
        return 0
    _send_events(app, rows)
    with app.database.write() as connection:
        outbox.clear(connection, [row.id for row in rows])
    return len(rows)


def open_outlet(app: App) -> Outlet:
    """The outlet of a process, not started yet."""

    def send_usage(rows: Sequence[outbox.OutboxRow]) -> None:
        # They stay in the outbox while the queue is paused, and go from there when it goes on.
        if USAGE_QUEUE not in app.pauses.known.queues:
            _send_usage(app, rows)

    send: dict[str, Send] = {outbox.USAGE: send_usage, outbox.EVENT: partial(_send_events, app)}
    return Outlet(app.database, app.effects, send)


def _send_usage(app: App, rows: Sequence[outbox.OutboxRow]) -> None:
    batch: list[outbox.OutboxRow] = []
    size = 0
    for row in rows:
        # In the message each quote and each backslash of a row has one more before it.
        length = len(row.payload) + row.payload.count('"') + row.payload.count("\\")
        if batch and (size + length > _MESSAGE_BYTES or len(batch) == MAX_ROWS_PER_MESSAGE):
            _publish(app, batch)
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        _publish(app, batch)


def _send_events(app: App, rows: Sequence[outbox.OutboxRow]) -> None:
    pipeline = app.stream.pipeline(transaction=False)
    for row in rows:
        pipeline.xadd(
            STREAM,
            {EVENT_FIELD: row.payload},
            maxlen=app.settings.event_stream_length,
            approximate=True,
        )
    pipeline.execute()
    app.instruments.relayed.labels(outbox.EVENT).inc(len(rows))


def rewrite_queue_file(app: App) -> int:
    """Have the queue's append-only file rewritten where a readable key came through it.

    The message is acknowledged by then, so the new file does not hold it.
    """
    rows = _take(app, outbox.REWRITE)
    if not rows:
        return 0
    app.publisher.rewrite_queue_file()
    with app.database.write() as connection:
        outbox.clear(connection, [row.id for row in rows])
    return len(rows)


def _take(app: App, kind: str) -> list[outbox.OutboxRow]:
    now = app.effects.now_ms()
    with app.database.look() as connection:
        if not outbox.any_due(connection, kind, now):
            return []
    with app.database.write() as connection:
        return outbox.take_due(connection, kind, now, _BATCH)


def _publish(app: App, rows: list[outbox.OutboxRow]) -> None:
    data = UsageRecorded(rows=tuple(row.payload for row in rows))
    envelope = app.envelope(data, account=USAGE_ACCOUNT, signed=True)
    app.publisher.send(USAGE_QUEUE, actor_of(USAGE_QUEUE), envelope.to_json())
    app.instruments.relayed.labels(outbox.USAGE).inc(len(rows))
