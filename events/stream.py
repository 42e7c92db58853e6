"""The out-event stream, and subscribing to it: consumer groups, at least once, resumable."""

import json
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

import redis

from events.broker import redis_client
from events.envelope import Envelope, EventData
from events.registry import read_out_event

STREAM = "byok:events"
EVENT_FIELD = "event"
"""The field of a stream entry that holds the event in JSON."""

BATCH = 100
BLOCK_SECONDS = 1.0
ABANDONED_SECONDS = 60.0
"""An entry that another consumer of the group took and has not acknowledged for this long is taken
over: that consumer is gone."""

Handler = Callable[[Envelope], object]


def subscribe(
    group: str,
    types: Collection[type[EventData]],
    handler: Handler,
    *,
    redis_url: str,
    consumer: str = "consumer",
    stop: threading.Event | None = None,
) -> None:
    """Call `handler` with each out-event of `types`, until `stop` is set.

    Each group gets every event, each event goes to one consumer of a group. An event is
    acknowledged when `handler` has returned: where it raises, that ends this function, and the
    event comes again to whoever subscribes next. So an event can come twice; drop repeats by the
    event's `id`. A new group starts with the oldest event that the stream still holds.

    Raises what `handler` raises, and the Redis client's errors; subscribe again to go on.
    """
    client = redis_client(redis_url, max_connections=4)
    stopping = stop or threading.Event()
    wanted = {model.event_type for model in types}
    try:
        _make_group(client, group)
        # First what this consumer took before and did not acknowledge, then what others left.
        for entries in (*_own(client, group, consumer), *_abandoned(client, group, consumer)):
            _handle(client, group, entries, wanted, handler)
        while not stopping.is_set():
            _handle(client, group, _read(client, group, consumer, ">"), wanted, handler)
            for entries in _abandoned(client, group, consumer):
                _handle(client, group, entries, wanted, handler)
    finally:
        client.close()


Entries = list[tuple[bytes, dict[bytes, bytes]]]


def _make_group(client: redis.Redis, group: str) -> None:
    try:
        client.xgroup_create(STREAM, group, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


def _read(client: redis.Redis, group: str, consumer: str, after: str) -> Entries:
    block = int(BLOCK_SECONDS * 1000) if after == ">" else None
    found: Any = client.xreadgroup(group, consumer, {STREAM: after}, count=BATCH, block=block)
    if not found:
        return []
    if isinstance(found, dict):
        batches = next(iter(found.values()))
        return [entry for batch in batches for entry in batch] if batches else []
    entries: Entries = found[0][1]
    return entries


def _own(client: redis.Redis, group: str, consumer: str) -> Iterator[Entries]:
    after = "0"
    while entries := _read(client, group, consumer, after):
        yield entries
        after = entries[-1][0].decode()


def _abandoned(client: redis.Redis, group: str, consumer: str) -> Iterator[Entries]:
    cursor: Any = "0-0"
    while True:
        cursor, entries, *_ = client.xautoclaim(
            STREAM, group, consumer, int(ABANDONED_SECONDS * 1000), cursor, count=BATCH
        )
        if entries:
            yield entries
        if cursor in (b"0-0", "0-0"):
            return


def _handle(
    client: redis.Redis, group: str, entries: Entries, wanted: set[str], handler: Handler
) -> None:
    for entry_id, fields in entries:
        event = _wanted(fields, wanted)
        if event is not None:
            handler(event)
        client.xack(STREAM, group, entry_id)


def _wanted(fields: dict[bytes, bytes] | None, wanted: set[str]) -> Envelope | None:
    """The event if its type is wanted. One that is cut from the stream meanwhile has no fields."""
    raw = (fields or {}).get(EVENT_FIELD.encode())
    if raw is None:
        return None
    # A type that this version does not know is none of those wanted, and is passed over unread.
    kind = json.loads(raw).get("type")
    return read_out_event(raw) if kind in wanted else None
