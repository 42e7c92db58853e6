"""Fetching from Redis: what is ours goes to its actor, the rest to the one that sets it aside."""

import base64
import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from dramatiq import Message, MessageProxy, actor
from dramatiq.errors import ConnectionClosed

from events.broker import NAMESPACE
from workers.broker import FailOnError, PutBack, open_worker_broker, unreadable_actor
from workers.broker.redis import LONGEST_POLL_SECONDS, RedisWorkerBroker, poll_pause

QUEUE = "things"
OURS = "things_event"
UNREADABLE = unreadable_actor(QUEUE)


@dataclass
class Pausing:
    """A watch whose test pauses everything, or nothing."""

    paused: bool = False
    rounds: list[bool] = field(default_factory=list)

    def is_paused(self, queue: str) -> bool:
        return self.paused

    def goes_round(self, queue: str) -> None:
        assert queue == QUEUE

    def answered(self, queue: str, *, well: bool) -> None:
        self.rounds.append(well)


@dataclass
class Station:
    """A queue, and a worker's broker that fetches from it."""

    redis: redis.Redis
    broker: RedisWorkerBroker
    watch: "Pausing"
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.consumer = self.broker.consume(QUEUE, prefetch=4, timeout=1)

    def push(self, data: bytes, message_id: str | None = None) -> str:
        """Put raw bytes on the queue, as any client of Redis could; their id there."""
        message_id = message_id or str(uuid.uuid4())
        self.redis.hset(f"{NAMESPACE}:{QUEUE}.msgs", message_id, data)
        self.redis.rpush(f"{NAMESPACE}:{QUEUE}", message_id)
        return message_id

    def fetch(self) -> MessageProxy:
        """The next message."""
        for _ in range(200):
            found: MessageProxy | None = next(self.consumer)
            if found is not None:
                return found
        raise AssertionError("nothing came")

    def left(self) -> list[bytes]:
        """What the broker still keeps of the queue's messages, taken ones too."""
        found: Any = self.redis.hvals(f"{NAMESPACE}:{QUEUE}.msgs")
        return list(found)

    def dead(self) -> int:
        """How many messages were given up."""
        return int(self.redis.zcard(f"{NAMESPACE}:{QUEUE}.XQ"))


@pytest.fixture
def station(valkey: str) -> Iterator[Station]:
    stopping = threading.Event()
    watch = Pausing()
    broker = open_worker_broker(f"{valkey}?db=0", stopping=stopping, max_connections=8, watch=watch)
    assert isinstance(broker, RedisWorkerBroker)
    for name in (OURS, UNREADABLE):
        actor(broker=broker, queue_name=QUEUE, actor_name=name)(lambda *arguments: None)
    with redis.Redis.from_url(f"{valkey}?db=0") as client:
        client.flushdb()
        yield Station(client, broker, watch, stopping)
        broker.close()
        client.flushdb()


def a_message(**changes: Any) -> dict[str, Any]:
    """A message for our actor, as dramatiq writes it."""
    return {
        "queue_name": QUEUE,
        "actor_name": OURS,
        "args": ["event"],
        "kwargs": {},
        "options": {},
        "message_id": "m-1",
        "message_timestamp": 1,
    } | changes


def test_a_message_of_ours_goes_to_its_actor(station: Station) -> None:
    station.broker.enqueue(
        Message(queue_name=QUEUE, actor_name=OURS, args=("event",), kwargs={}, options={})
    )
    message = station.fetch()
    assert (message.actor_name, message.args) == (OURS, ("event",))
    station.consumer.ack(message)
    assert station.left() == []


def with_id(fields: Any, message_id: str) -> bytes:
    return json.dumps(
        fields | {"options": {"redis_message_id": message_id}}
        if isinstance(fields, dict)
        else fields
    ).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"actor_name": "nobody_event"},
        {"actor_name": UNREADABLE},
        {"actor_name": None},
        {"actor_name": ["things_event"]},
        {"queue_name": "others"},
        {"kwargs": {"event": "x"}},
        {"message_id": 7},
        {"args": None},
        {"args": 7},
    ],
)
def test_a_message_that_no_actor_of_ours_takes_is_brought_to_be_set_aside(
    station: Station, changes: dict[str, Any]
) -> None:
    data = with_id(a_message(**changes), "r-1")
    station.push(data, "r-1")
    brought_to_be_set_aside(station, data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\xff\x00\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"queue_name": "things"}',
        b"[" * 100_000,
        json.dumps(a_message(options=None)).encode(),
        json.dumps(a_message(more=1)).encode(),
    ],
    ids=[
        *("empty", "words", "binary", "null", "list", "object", "piece", "deep"),
        *("without-options", "unknown-field"),
    ],
)
def test_what_is_no_message_is_brought_to_be_set_aside(station: Station, data: bytes) -> None:
    station.push(data)
    brought_to_be_set_aside(station, data)


def brought_to_be_set_aside(station: Station, data: bytes) -> None:
    """Fetch `data` as what cannot be read, and acknowledge it so that nothing stays behind."""
    message = station.fetch()
    assert message.actor_name == UNREADABLE
    (brought,) = message.args
    assert base64.b64decode(brought) == data
    station.consumer.ack(message)
    assert station.left() == []
    assert station.dead() == 0


def test_the_same_nonsense_many_times_leaves_nothing_behind(station: Station) -> None:
    for _ in range(3):
        station.push(b"nonsense")
    fetched = [station.fetch() for _ in range(3)]
    assert len({message.options["redis_message_id"] for message in fetched}) == 3
    for message in fetched:
        station.consumer.ack(message)
    assert station.left() == []


@pytest.mark.parametrize("told", [{}, {"redis_message_id": 5}, {"redis_message_id": "another"}])
def test_what_a_message_says_of_its_id_does_not_matter(
    station: Station, told: dict[str, Any]
) -> None:
    station.push(with_id(a_message(args=["first"]), "another"), "another")
    station.push(json.dumps(a_message(args=["second"], options=told)).encode())
    first, second = station.fetch(), station.fetch()
    assert (first.args, second.args) == (("first",), ("second",))
    station.consumer.ack(second)
    # It was the second that was acknowledged, and not the one it named.
    assert [json.loads(data)["args"] for data in station.left()] == [["first"]]
    station.consumer.ack(first)
    assert station.left() == []


def test_messages_that_say_they_are_the_same_are_counted_each(station: Station) -> None:
    for _ in range(6):
        station.push(json.dumps(a_message()).encode())
    fetched = [station.fetch() for _ in range(4)]
    assert next(station.consumer) is None
    for message in fetched:
        station.consumer.ack(message)
    for message in (station.fetch(), station.fetch()):
        station.consumer.ack(message)
    assert station.left() == []


def test_an_id_that_was_pushed_twice_is_handed_out_once_at_a_time(station: Station) -> None:
    station.push(json.dumps(a_message()).encode(), "twice")
    station.redis.rpush(f"{NAMESPACE}:{QUEUE}", "twice", "twice")
    message = station.fetch()
    assert [next(station.consumer) for _ in range(3)] == [None] * 3
    station.consumer.ack(message)
    assert station.left() == []
    assert next(station.consumer) is None


def test_nonsense_among_good_messages_takes_none_of_them_along(station: Station) -> None:
    good = {station.push(with_id(a_message(message_id=f"m{n}"), f"r{n}"), f"r{n}") for n in (1, 2)}
    station.push(b"nonsense")
    fetched = [station.fetch() for _ in range(3)]
    (bad,) = (message for message in fetched if message.actor_name == UNREADABLE)
    station.consumer.ack(bad)
    assert len(station.left()) == 2
    for message in fetched:
        if message is not bad:
            assert message.options["redis_message_id"] in good
            station.consumer.ack(message)
    assert station.left() == []


def test_a_time_in_a_message_does_not_park_it_in_this_process(station: Station) -> None:
    options = {"redis_message_id": "r-1", "eta": 99_999_999_999_999, "pipe_target": {"a": 1}}
    station.push(json.dumps(a_message(options=options)).encode(), "r-1")
    assert station.fetch().options == {"redis_message_id": "r-1"}


def test_no_more_is_fetched_than_there_is_room_for(station: Station) -> None:
    for number in range(6):
        station.push(with_id(a_message(message_id=f"m{number}"), f"r{number}"), f"r{number}")
    fetched = [station.fetch() for _ in range(4)]
    assert next(station.consumer) is None
    station.consumer.ack(fetched[0])
    assert station.fetch() is not None
    assert next(station.consumer) is None


def test_a_refused_message_is_kept_as_dead(station: Station) -> None:
    station.push(with_id(a_message(), "r-1"), "r-1")
    station.consumer.nack(station.fetch())
    assert station.dead() == 1


def test_a_message_that_is_refused_while_stopping_goes_back(station: Station) -> None:
    station.push(with_id(a_message(), "r-1"), "r-1")
    message = station.fetch()
    station.stopping.set()
    station.consumer.nack(message)
    assert station.dead() == 0
    assert station.redis.lrange(f"{NAMESPACE}:{QUEUE}", 0, -1) == [b"r-1"]
    assert station.fetch().message_id == "r-1"


def test_a_fetch_that_fails_gives_the_process_a_new_identity(valkey: str) -> None:
    stopping = threading.Event()
    broker = open_worker_broker("redis://127.0.0.1:9/0", stopping=stopping, max_connections=4)
    assert isinstance(broker, RedisWorkerBroker)
    # What needs a server to be known, so that the fetch itself is what fails.
    broker._max_unpack_size_val = 1_000
    consumer = broker.consume(QUEUE, prefetch=1, timeout=1)
    before = broker.broker_id
    with pytest.raises(ConnectionClosed):
        next(consumer)
    assert broker.broker_id != before


def test_what_a_lost_identity_had_fetched_comes_to_another(station: Station) -> None:
    station.push(with_id(a_message(), "r-1"), "r-1")
    assert station.fetch().message_id == "r-1"
    station.broker.renew_identity()
    # The old identity's heartbeat is over; maintenance puts back what it had taken.
    station.redis.zadd(
        f"{NAMESPACE}:__heartbeats__",
        dict.fromkeys(station.redis.zrange(f"{NAMESPACE}:__heartbeats__", 0, -1), 0),
    )
    station.broker.maintenance_chance = 1_000_000
    again = station.broker.consume(QUEUE, prefetch=4, timeout=1)
    found = None
    for _ in range(200):
        found = found or next(again)
    assert found is not None
    assert found.message_id == "r-1"


def test_declaring_a_queue_declares_no_queue_for_delays(station: Station) -> None:
    assert station.broker.get_declared_queues() == {QUEUE}


@pytest.mark.parametrize("misses", [0, 1, 2, 3, 4, 5, 50, 1_024, 10_000, 10**9, 10**30])
def test_the_pause_between_polls_is_bounded_for_any_number_of_misses(misses: int) -> None:
    assert 0 < poll_pause(misses) <= LONGEST_POLL_SECONDS == 0.02


def test_the_pause_between_polls_grows() -> None:
    pauses = [poll_pause(misses) for misses in range(1, 12)]
    assert pauses == sorted(pauses)
    assert pauses[:4] == [0.002, 0.004, 0.008, 0.016]
    assert pauses[-1] == LONGEST_POLL_SECONDS


def enqueue(station: Station, *names: str) -> None:
    for name in names:
        station.broker.enqueue(
            Message(queue_name=QUEUE, actor_name=OURS, args=(name,), kwargs={}, options={})
        )


def test_while_its_queue_is_paused_a_consumer_puts_back_what_it_fetched_and_takes_nothing(
    station: Station,
) -> None:
    enqueue(station, "a", "b", "c")
    under_way = station.fetch()
    station.watch.paused = True
    assert [next(station.consumer) for _ in range(3)] == [None] * 3
    assert station.redis.llen(f"{NAMESPACE}:{QUEUE}") == 2
    # What is under way is still this identity's, which is alive.
    taken = f"{NAMESPACE}:__acks__.{station.broker.broker_id}.{QUEUE}"
    assert station.redis.scard(taken) == 1
    station.consumer.ack(under_way)
    station.watch.paused = False
    assert {station.fetch().args[0], station.fetch().args[0]} == {"b", "c"}
    assert set(station.watch.rounds) == {True}


def test_a_message_whose_actor_says_so_goes_back_to_its_queue(station: Station) -> None:
    enqueue(station, "a")
    message = station.fetch()
    FailOnError().after_process_message(station.broker, message, exception=PutBack())
    assert message.failed
    station.consumer.nack(message)
    assert station.dead() == 0
    assert station.fetch().args == ("a",)
