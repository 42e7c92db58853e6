"""The messages in the vectors are those that our publisher puts into Redis and RabbitMQ."""

import os
import uuid
from datetime import UTC, datetime

import pika
import pytest
import redis

from events import Publisher
from events.broker import actor_of
from events.contract import Vectors, wire

AT_MS = 1_768_478_400_000


def publisher(url: str, message_id: str) -> Publisher:
    """A publisher whose clock and ids are those of a vector."""
    return Publisher(
        url,
        source="test/vectors",
        now=lambda: datetime.fromtimestamp(AT_MS / 1000, tz=UTC),
        new_id=lambda: message_id,
    )


def test_a_message_lies_in_redis_as_the_vectors_have_it(valkey: str, vectors: Vectors) -> None:
    url = f"{valkey}?db=0"
    with redis.Redis.from_url(url, decode_responses=True) as client:
        for vector in vectors["events"]:
            client.flushdb()
            told, queue = vector["redis"], vector["queue"]
            message_id = wire_id(told["value"])
            sending = publisher(url, message_id)
            sending.send(queue, actor_of(queue), vector["signed"])
            sending.close()
            (entry,) = client.lrange(told["list"], 0, -1)
            assert client.hgetall(told["hash"]) == {
                entry: told["value"].replace(told["entry"], entry)
            }
            assert set(client.keys()) - {"byok:__heartbeats__"} == {told["hash"], told["list"]}


def test_a_message_lies_in_rabbitmq_as_the_vectors_have_it(vectors: Vectors) -> None:
    url = os.environ.get("BYOK_TEST_AMQP_URL")
    if not url:
        pytest.skip("BYOK_TEST_AMQP_URL is not set: no such service here")
    # A queue of this test's own, so that no worker takes the message.
    queue, message_id = f"test-{uuid.uuid4().hex}", str(uuid.uuid4())
    text = vectors["events"][0]["signed"]
    told = wire.in_rabbitmq(queue, text, message_id=message_id, at_ms=AT_MS)
    sending = publisher(url, message_id)
    sending.send(queue, actor_of(queue), text)
    sending.close()
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        try:
            # With any other arguments the broker would close the channel.
            channel.queue_declare(queue, durable=True, arguments=told["arguments"])
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            assert method is not None
            assert (method.exchange, method.routing_key) == (told["exchange"], told["routing_key"])
            present = {name: value for name, value in vars(properties).items() if value is not None}
            assert present == told["properties"]
            assert body.decode() == told["body"]
        finally:
            for name in (queue, f"{queue}.DQ", f"{queue}.XQ"):
                channel.queue_delete(name)


def wire_id(value: str) -> str:
    """The `message_id` of a message."""
    found: str = wire.decode(value)["message_id"]
    return found
