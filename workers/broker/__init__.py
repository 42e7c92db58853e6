"""The message queue from a worker's side: dramatiq's brokers with their traps answered."""

from threading import Event

from dramatiq import Broker

from events.broker import REDIS_SCHEMES, scheme_of
from workers.broker.rabbitmq import RabbitmqWorkerBroker
from workers.broker.reading import FailOnError, PutBack, unreadable_actor
from workers.broker.redis import LONGEST_POLL_SECONDS, RedisWorkerBroker
from workers.broker.timing import TimeMessages
from workers.broker.watch import Unwatched, Watch

__all__ = [
    "LONGEST_POLL_SECONDS",
    "FailOnError",
    "PutBack",
    "RedisWorkerBroker",
    "TimeMessages",
    "Watch",
    "open_worker_broker",
    "unreadable_actor",
]


def open_worker_broker(
    url: str,
    *,
    stopping: Event,
    max_connections: int,
    watch: Watch | None = None,
    longest_poll: float = LONGEST_POLL_SECONDS,
) -> Broker:
    """A broker to fetch from. `stopping` is set when the process stops.

    An idle consumer of Redis looks every `longest_poll` seconds; RabbitMQ tells of itself.
    """
    watch = watch or Unwatched()
    if scheme_of(url) in REDIS_SCHEMES:
        return RedisWorkerBroker(
            url,
            stopping=stopping,
            max_connections=max_connections,
            watch=watch,
            longest_poll=longest_poll,
        )
    return RabbitmqWorkerBroker(url, stopping=stopping, watch=watch)
