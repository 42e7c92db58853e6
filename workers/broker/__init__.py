"""The message queue from a worker's side: dramatiq's brokers with their traps answered."""

from threading import Event

from dramatiq import Broker

from events.broker import REDIS_SCHEMES, scheme_of
from workers.broker.rabbitmq import RabbitmqWorkerBroker
from workers.broker.reading import FailOnError, unreadable_actor
from workers.broker.redis import RedisWorkerBroker
from workers.broker.timing import TimeMessages

__all__ = [
    "FailOnError",
    "RedisWorkerBroker",
    "TimeMessages",
    "open_worker_broker",
    "unreadable_actor",
]


def open_worker_broker(url: str, *, stopping: Event, max_connections: int) -> Broker:
    """A broker to fetch from. `stopping` is set when the process stops."""
    if scheme_of(url) in REDIS_SCHEMES:
        return RedisWorkerBroker(url, stopping=stopping, max_connections=max_connections)
    return RabbitmqWorkerBroker(url, stopping=stopping)
