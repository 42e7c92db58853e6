"""An event as it lies on a queue: the message around it, in Redis and in RabbitMQ.

Source: dramatiq 2.2.1, `dramatiq/message.py`, `dramatiq/brokers/redis/dispatch.lua` (`enqueue`) and
`dramatiq/brokers/rabbitmq.py` (`_build_queue_arguments`, `enqueue`).
"""

from typing import Any

from dramatiq import Message
from dramatiq.common import xq_name

from events.broker import NAMESPACE, actor_of

PERSISTENT = 2
"""AMQP's delivery mode for a message that survives a restart of the broker."""


def message(
    queue: str, event: str, *, message_id: str, timestamp_ms: int, **options: str
) -> dict[str, Any]:
    """The fields of the message that carries `event`, in the order in which dramatiq has them."""
    return {
        "queue_name": queue,
        "actor_name": actor_of(queue),
        "args": [event],
        "kwargs": {},
        "options": options,
        "message_id": message_id,
        "message_timestamp": timestamp_ms,
    }


def encode(fields: dict[str, Any]) -> str:
    """The text that is sent."""
    told: bytes = Message(**fields).encode()
    return told.decode()


def hash_of(queue: str) -> str:
    """The Redis hash that holds the messages of a queue, by their id."""
    return f"{NAMESPACE}:{queue}.msgs"


def list_of(queue: str) -> str:
    """The Redis list that holds the ids of the messages of a queue, the oldest first."""
    return f"{NAMESPACE}:{queue}"


def in_redis(queue: str, event: str, *, message_id: str, entry: str, at_ms: int) -> dict[str, Any]:
    """How a message lies in Redis, under the id `entry`."""
    fields = message(
        queue, event, message_id=message_id, timestamp_ms=at_ms, redis_message_id=entry
    )
    return {
        "hash": hash_of(queue),
        "field": entry,
        "value": encode(fields),
        "list": list_of(queue),
        "entry": entry,
    }


def queue_arguments(queue: str) -> dict[str, Any]:
    """With which arguments a queue is declared in RabbitMQ."""
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": xq_name(queue)}


def in_rabbitmq(queue: str, event: str, *, message_id: str, at_ms: int) -> dict[str, Any]:
    """How a message is published to RabbitMQ."""
    return {
        "queue": queue,
        "durable": True,
        "arguments": queue_arguments(queue),
        "exchange": "",
        "routing_key": queue,
        "mandatory": True,
        "properties": {"delivery_mode": PERSISTENT},
        "body": encode(message(queue, event, message_id=message_id, timestamp_ms=at_ms)),
    }


def decode(text: str) -> dict[str, Any]:
    """The fields of a message, as dramatiq reads them."""
    return Message.decode(text.encode()).asdict()
