"""The message queue, from a publisher's side."""

from urllib.parse import urlsplit

import redis
from dramatiq import Broker
from dramatiq.brokers.redis import RedisBroker
from redis.backoff import NoBackoff
from redis.retry import Retry

NAMESPACE = "byok"
"""Prefix of the queues' keys in Redis: queue `keys` is the list `byok:keys`."""


def actor_of(queue: str) -> str:
    """The actor that takes the events of `queue`."""
    return f"{queue}_event"


def redis_client(url: str, *, max_connections: int) -> redis.Redis:
    """A client for `redis://`, `rediss://` or `unix://`.

    A command is never repeated by the client: a repeated push would put one message on a queue
    twice. `max_connections` must be above the number of threads that use the client.
    """
    pool = redis.ConnectionPool.from_url(
        url,
        max_connections=max_connections,
        socket_timeout=10,
        socket_connect_timeout=5,
        health_check_interval=15,
        retry=Retry(NoBackoff(), 0),
    )
    return redis.Redis(connection_pool=pool)


def require_supported(url: str) -> str:
    """Return the scheme of a broker URL, or raise `ValueError` with one sentence."""
    scheme = urlsplit(url).scheme
    if scheme not in ("redis", "rediss", "unix"):
        raise ValueError(
            f"BYOK_BROKER_URL has the scheme {scheme or '(none)'!r}: "
            "use redis://, rediss:// or unix://."
        )
    return scheme


def open_publishing_broker(url: str, *, max_connections: int = 16) -> Broker:
    """A broker to publish on. It does no maintenance, so that its clock moves nobody's messages."""
    require_supported(url)
    return RedisBroker(
        client=redis_client(url, max_connections=max_connections),
        middleware=[],
        namespace=NAMESPACE,
        maintenance_chance=0,
    )
