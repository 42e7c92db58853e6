"""Messages of a crowded account are kept from the worker's threads, and none of them is lost."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from dramatiq import Message, MessageProxy, actor

from events.broker import NAMESPACE
from workers.broker import RedisWorkerBroker
from workers.broker.deferral import Deferral
from workers.broker.watch import Unwatched

QUEUE, OURS, TAKER = "things", "things_event", "take_in_things"
SHARE = 2


def account_of(message: Message[Any]) -> str | None:
    """Whose message it is: what is before the dash."""
    return str(message.args[0]).partition("-")[0] if message.args else None


@dataclass
class Desk:
    """A queue, a worker's broker that fetches from it, and what was deferred."""

    redis: redis.Redis
    broker: RedisWorkerBroker
    deferral: Deferral = field(init=False)
    sent: int = 0

    def __post_init__(self) -> None:
        self.deferral = Deferral(TAKER, account_of, lambda _account, has: has >= SHARE)
        self.broker.deferrals[QUEUE] = self.deferral
        self.consumer = self.broker.consume(QUEUE, prefetch=8, timeout=1)

    def push(self, *things: str) -> None:
        """Put messages on the queue."""
        for thing in things:
            self.sent += 1
            message_id = f"m-{self.sent}"
            data = Message(
                queue_name=QUEUE,
                actor_name=OURS,
                args=(thing,),
                kwargs={},
                options={"redis_message_id": message_id},
                message_id=message_id,
            ).encode()
            self.redis.hset(f"{NAMESPACE}:{QUEUE}.msgs", message_id, data)
            self.redis.rpush(f"{NAMESPACE}:{QUEUE}", message_id)

    def fetch(self) -> list[MessageProxy]:
        """What the threads get: everything that comes without anything being acknowledged."""
        found = [next(self.consumer) for _ in range(40)]
        return [message for message in found if message is not None]

    def left(self) -> list[str]:
        """What the broker still keeps, taken messages too."""
        kept: Any = self.redis.hvals(f"{NAMESPACE}:{QUEUE}.msgs")
        return sorted(json.loads(data)["args"][0] for data in kept)

    def waiting(self) -> int:
        """How many messages nobody has taken."""
        return int(self.redis.llen(f"{NAMESPACE}:{QUEUE}"))


@pytest.fixture
def desk(valkey: str) -> Iterator[Desk]:
    broker = RedisWorkerBroker(
        f"{valkey}?db=0", stopping=threading.Event(), max_connections=8, watch=Unwatched()
    )
    for name in (OURS, TAKER):
        actor(broker=broker, queue_name=QUEUE, actor_name=name)(lambda *arguments: None)
    with redis.Redis.from_url(f"{valkey}?db=0") as client:
        client.flushdb()
        yield Desk(client, broker)
        broker.close()
        client.flushdb()


FLOOD = [f"flood-{number}" for number in range(20)]


def test_behind_a_flood_another_accounts_message_comes_at_once(desk: Desk) -> None:
    desk.push(*FLOOD, "quiet-1")
    told = [message.args or message.actor_name for message in desk.fetch()]
    assert sorted(map(str, told)) == sorted(
        map(str, [("flood-0",), ("flood-1",), ("quiet-1",), TAKER])
    )


def test_one_thread_at_a_time_is_called_to_take_in(desk: Desk) -> None:
    desk.push(*FLOOD)
    calls = [message for message in desk.fetch() if message.actor_name == TAKER]
    assert len(calls) == 1
    desk.consumer.ack(calls[0])
    assert not desk.fetch()
    desk.deferral.end()
    assert [message.actor_name for message in desk.fetch()] == [TAKER]


def test_what_was_deferred_stays_with_the_broker_until_it_is_acknowledged(desk: Desk) -> None:
    desk.push(*FLOOD)
    desk.fetch()
    assert desk.left() == sorted(FLOOD)
    assert desk.waiting() == 0
    taken = desk.deferral.take(5)
    desk.broker.acknowledge(QUEUE, taken)
    assert desk.left() == sorted(set(FLOOD) - {message.args[0] for message in taken})


def test_a_consumer_that_stops_gives_back_what_was_deferred(desk: Desk) -> None:
    desk.push(*FLOOD)
    handed_out = desk.fetch()
    desk.consumer.requeue(handed_out)
    desk.consumer.close()
    assert desk.waiting() == len(FLOOD)
    assert desk.left() == sorted(FLOOD)


def test_a_message_that_is_done_makes_room_for_one_more(desk: Desk) -> None:
    desk.push("flood-0", "flood-1")
    first = desk.fetch()[0]
    desk.consumer.ack(first)
    desk.push("flood-2", "flood-3")
    assert [message.args for message in desk.fetch()] == [("flood-2",), ()]


def test_what_would_not_fit_into_memory_is_handed_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.broker.deferral.LARGEST_BYTES", 0)
    desk.push(*FLOOD[:5])
    assert [message.args[0] for message in desk.fetch()] == FLOOD[:5]


def test_acknowledgements_that_are_lost_have_the_messages_delivered_again(desk: Desk) -> None:
    desk.push(*FLOOD)
    desk.fetch()
    identity = desk.broker.broker_id
    away = redis.Redis(port=1, socket_connect_timeout=0.2)
    taken = desk.deferral.take(5)
    desk.broker.client, real = away, desk.broker.client
    desk.broker.acknowledge(QUEUE, taken)
    desk.broker.client = real
    assert desk.broker.broker_id != identity


def test_what_was_put_back_takes_its_room_in_memory_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def message(number: int) -> Message[Any]:
        return Message(QUEUE, OURS, (f"a-{number}",), {}, {}, message_id=f"m-{number}")

    monkeypatch.setattr("workers.broker.deferral.LARGEST_BYTES", 200)
    deferral = Deferral(TAKER, account_of, lambda _account, _has: True)
    assert deferral.keeps(message(1), len(message(1).encode()))
    assert not deferral.keeps(message(2), 150)
    deferral.put_back(deferral.take(1))
    assert not deferral.keeps(message(3), 150)
