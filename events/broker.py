"""The message queue, from a publisher's side: Redis or RabbitMQ, by the scheme of its URL."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pika.exceptions
import redis
from dramatiq import Broker, Message
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import BrokerConnectionError
from redis.backoff import NoBackoff
from redis.retry import Retry

NAMESPACE = "byok"
"""Prefix of the queues' keys in Redis: queue `keys` is the list `byok:keys`."""

REDIS_SCHEMES = ("redis", "rediss", "unix")
AMQP_SCHEMES = ("amqp", "amqps")


class BrokerAway(ConnectionError):
    """The broker cannot be reached, or did not confirm a message."""

    def __init__(self) -> None:
        super().__init__(
            "The message queue cannot be reached: start `byok up`, or check BYOK_BROKER_URL."
        )


def actor_of(queue: str) -> str:
    """The actor that takes the events of `queue`."""
    return f"{queue}_event"


def redis_client(url: str, *, max_connections: int, timeout: float = 10.0) -> redis.Redis:
    """A client for `redis://`, `rediss://` or `unix://`.

    A command is never repeated by the client: a repeated push would put one message on a queue
    twice. `max_connections` must be above the number of threads that use the client. `timeout` is
    in seconds, for each command.
    """
    pool = redis.ConnectionPool.from_url(
        url,
        max_connections=max_connections,
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, 5.0),
        health_check_interval=15,
        retry=Retry(NoBackoff(), 0),
    )
    return redis.Redis(connection_pool=pool)


def scheme_of(url: str) -> str:
    """The scheme of a broker URL. Raises `ValueError` with one sentence for an unknown one."""
    scheme = urlsplit(url).scheme
    if scheme not in REDIS_SCHEMES + AMQP_SCHEMES:
        raise ValueError(
            f"BYOK_BROKER_URL has the scheme {scheme or '(none)'!r}: "
            "use redis://, rediss://, unix://, amqp:// or amqps://."
        )
    return scheme


class PublishingBroker:
    """Puts messages on queues, confirmed. Safe to share between threads."""

    def __init__(self, url: str, *, max_connections: int = 64) -> None:
        self._redis: redis.Redis | None = None
        if scheme_of(url) in REDIS_SCHEMES:
            self._redis = redis_client(url, max_connections=max_connections)
            self._broker: Broker = RedisBroker(
                client=self._redis,
                middleware=[],
                namespace=NAMESPACE,
                # A publisher does no maintenance, so that its clock moves nobody's messages.
                maintenance_chance=0,
            )
        else:
            self._broker = RabbitmqBroker(url=url, confirm_delivery=True, middleware=[])

    def send(self, message: Message[Any]) -> None:
        """Put a message on its queue. Raises `BrokerAway`."""
        try:
            self._broker.enqueue(message)
        except _AWAY:
            raise BrokerAway from None

    def depth(self, queue: str) -> int:
        """How many messages lie on a queue, those taken and not acknowledged aside.

        Raises `BrokerAway`.
        """
        try:
            if self._redis is not None:
                return int(self._redis.llen(f"{NAMESPACE}:{queue}"))
            return self._amqp_depth(queue)
        except _AWAY:
            raise BrokerAway from None

    def messages(self, queue: str) -> Iterator[bytes] | None:
        """All messages of a queue as they lie there: those that wait, are taken, or are dead.

        `None` where the broker does not let anybody look (RabbitMQ: a look would take them).
        Raises `BrokerAway`, also while they are read.
        """
        return None if self._redis is None else self._scanned(self._redis, queue)

    def rewrite_file(self) -> None:
        """Start a rewrite of a Redis queue's append-only file. Raises `BrokerAway`."""
        if self._redis is None:
            return
        try:
            if self._redis.info("persistence").get("aof_enabled"):
                self._redis.bgrewriteaof()
        except redis.ResponseError:
            # One is under way already, and may have begun before the message was acknowledged.
            raise BrokerAway from None
        except _AWAY:
            raise BrokerAway from None

    def ping(self) -> str:
        """Name the broker that answers. Raises `BrokerAway`."""
        try:
            if self._redis is None:
                return self._amqp_name()
            info = self._redis.info("server")
        except _AWAY:
            raise BrokerAway from None
        version = info.get("valkey_version") or info["redis_version"]
        return f"{info.get('server_name', 'redis')} {version}"

    def close(self) -> None:
        """Close the connections."""
        self._broker.close()
        if self._redis is not None:
            self._redis.close()

    def _scanned(self, client: redis.Redis, queue: str) -> Iterator[bytes]:
        try:
            for part in ("", ".DQ", ".XQ"):
                for _, message in client.hscan_iter(f"{NAMESPACE}:{queue}{part}.msgs", count=100):
                    yield message
        except _AWAY:
            raise BrokerAway from None

    def _amqp(self) -> RabbitmqBroker:
        broker = self._broker
        assert isinstance(broker, RabbitmqBroker)  # noqa: S101 -- the other kind has `_redis`
        return broker

    def _amqp_depth(self, queue: str) -> int:
        broker = self._amqp()
        # The connection is this thread's own, as pika wants it. It may have been closed by the
        # server while the thread was idle: nobody answered its heartbeats then.
        if not broker.connection.is_open:
            del broker.connection
        try:
            return self._declared_depth(broker, queue)
        except pika.exceptions.AMQPError:
            del broker.connection
            return self._declared_depth(broker, queue)

    def _declared_depth(self, broker: RabbitmqBroker, queue: str) -> int:
        broker.declare_queue(queue, ensure=True)
        declared = broker.channel.queue_declare(queue=queue, passive=True)
        return int(declared.method.message_count)

    def _amqp_name(self) -> str:
        broker = self._amqp()
        if not broker.connection.is_open:
            del broker.connection
        told = broker.connection._impl.server_properties
        return f"{told.get('product', 'AMQP')} {told.get('version', '')}"


_AWAY = (
    redis.ConnectionError,
    redis.TimeoutError,
    BrokerConnectionError,
    pika.exceptions.AMQPError,
    OSError,
)
