"""The message queue, from a publisher's side: Redis or RabbitMQ, by the scheme of its URL."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pika.exceptions
import redis
from dramatiq import Broker, Message
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import BrokerConnectionError
from redis.backoff import NoBackoff
from redis.retry import Retry

from events.connections import trusting

NAMESPACE = "byok"
"""Prefix of the queues' keys in Redis: queue `keys` is the list `byok:keys`."""

NOT_FOUND = 404
"""AMQP's reply where a queue has disappeared."""

REDIS_SCHEMES = ("redis", "rediss", "unix")
AMQP_SCHEMES = ("amqp", "amqps")


BLOCKED_SECONDS = 2
"""How long a RabbitMQ without memory or disk keeps a connection from publishing before it is given
up. dramatiq tries six, so a publisher hears of it after 12 s; pika alone would wait for ever."""


class BrokerAway(ConnectionError):
    """The broker cannot be reached, takes nothing, or did not confirm a message.

    `what` is wrong, and what to `do` about it.
    """

    def __init__(
        self,
        what: str = "cannot be reached",
        do: str = "start `byok up`, or check BYOK_BROKER_URL",
    ) -> None:
        super().__init__(f"The message queue {what}: {do}.")
        self.what = what
        self.do = do


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
    pool.connection_class = trusting(pool.connection_class)
    return redis.Redis(connection_pool=pool)


def redis_refusal(error: BaseException, variable: str) -> tuple[str, str] | None:
    """Why a Redis that answers does not do what it is asked, and what to do about it.

    `variable` names the setting that holds its address. `None`: the error says nothing of that.
    """
    match error:
        case redis.AuthenticationError():
            return "refuses the login", f"check the user and the password in {variable}"
        case redis.exceptions.NoPermissionError():
            return (
                "does not give this user the rights that it needs",
                f"check the user in {variable} and its rights (deploy/redis/users.acl)",
            )
        case redis.OutOfMemoryError():
            return "takes nothing, because its memory is full", "raise its maxmemory"
        case redis.ReadOnlyError():
            return "takes nothing, because it is a replica", f"name the primary in {variable}"
        case redis.ResponseError() if str(error).startswith("MISCONF"):
            return "takes nothing, because it cannot write to its disk", "make room on that disk"
        case redis.ResponseError() if "DB index" in str(error):
            return "has no database of that number", f"check {variable}"
        case _:
            return None


def redis_trouble(info: dict[str, Any], variable: str) -> tuple[str, str] | None:
    """The same of a Redis that was asked for `INFO` alone, which it answers in any state."""
    if info.get("role") == "slave":
        return redis_refusal(redis.ReadOnlyError(), variable)
    most = int(info.get("maxmemory", 0))
    if most and int(info.get("used_memory", 0)) >= most:
        return redis_refusal(redis.OutOfMemoryError(), variable)
    if "err" in (info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")):
        return redis_refusal(redis.ResponseError("MISCONF"), variable)
    return None


def scheme_of(url: str) -> str:
    """The scheme of a broker URL. Raises `ValueError` with one sentence for an unknown one."""
    scheme = urlsplit(url).scheme
    if scheme not in REDIS_SCHEMES + AMQP_SCHEMES:
        raise ValueError(
            f"BYOK_BROKER_URL has the scheme {scheme or '(none)'!r}: "
            "use redis://, rediss://, unix://, amqp:// or amqps://."
        )
    return scheme


@dataclass(frozen=True, slots=True)
class Waiting:
    """What lies on a queue: how many messages nobody has taken, how many are taken and not
    acknowledged (`None` where the broker does not tell), and since when (Unix ms) the oldest waits.
    """

    count: int
    taken: int | None
    since: int | None


class PublishingBroker:
    """Puts messages on queues, confirmed. Safe to share between threads."""

    def __init__(self, url: str, *, max_connections: int = 64) -> None:
        self._redis: redis.Redis | None = None
        self._first_seen: dict[str, dict[bytes, int]] = {}
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
            self._broker = RabbitmqBroker(url=_giving_up(url), confirm_delivery=True, middleware=[])

    def send(self, message: Message[Any]) -> None:
        """Put a message on its queue. Raises `BrokerAway`."""
        with _told_as_away(amqp=self._redis is None):
            self._broker.enqueue(message)

    def depth(self, queue: str) -> int:
        """How many messages lie on a queue, those taken and not acknowledged aside.

        Raises `BrokerAway`.
        """
        with _told_as_away(amqp=self._redis is None):
            if self._redis is not None:
                return int(self._redis.llen(f"{NAMESPACE}:{queue}"))
            return self._amqp_depth(queue)

    def waiting(self, queue: str, now: int) -> Waiting:
        """What lies on a queue at `now` (Unix ms). Raises `BrokerAway`.

        On RabbitMQ the oldest message is taken and put back where it was, since AMQP has no other
        look; on Redis the first and the last are looked at, since a message that a dead worker had
        taken comes back at the end. One that does not tell when it was sent, or of the future, is
        taken to have come when it was first seen here.
        """
        with _told_as_away(amqp=self._redis is None):
            if self._redis is not None:
                count, taken, ends = self._redis_ends(self._redis, queue)
            else:
                (count, ends), taken = self._amqp_head(queue), None
        seen = self._first_seen.get(queue, {})
        digests = {hashlib.sha256(end).digest(): _sent_at(end) for end in ends}
        self._first_seen[queue] = {digest: seen.get(digest, now) for digest in digests}
        moments = [
            sent if sent is not None and sent <= now else self._first_seen[queue][digest]
            for digest, sent in digests.items()
        ]
        return Waiting(count, taken, min(moments, default=None))

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
        """Name the broker that answers and takes messages. Raises `BrokerAway`."""
        with _told_as_away(amqp=self._redis is None):
            if self._redis is None:
                return self._amqp_name()
            info: dict[str, Any] = self._redis.info()
        trouble = redis_trouble(info, _VARIABLE)
        if trouble is not None:
            raise BrokerAway(*trouble)
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
        except pika.exceptions.AMQPError as error:
            del broker.connection
            if getattr(error, "reply_code", None) == NOT_FOUND:
                # A broker that came back empty lost the queue, too: it is declared anew.
                broker.queues_pending.add(queue)
            return self._declared_depth(broker, queue)

    def _declared_depth(self, broker: RabbitmqBroker, queue: str) -> int:
        broker.declare_queue(queue, ensure=True)
        declared = broker.channel.queue_declare(queue=queue, passive=True)
        return int(declared.method.message_count)

    def _redis_ends(self, client: redis.Redis, queue: str) -> tuple[int, int, list[bytes]]:
        name = f"{NAMESPACE}:{queue}"
        # Without MULTI, which an exporter's own user may not; a message that moves between the two
        # counts is counted as waiting or as taken, and the next look is right again.
        pipeline = client.pipeline(transaction=False)
        pipeline.llen(name)
        pipeline.hlen(f"{name}.msgs")
        pipeline.lindex(name, 0)
        pipeline.lindex(name, -1)
        count, kept, *ids = pipeline.execute()
        named = [message_id for message_id in ids if message_id is not None]
        found: list[Any] = client.hmget(f"{name}.msgs", named) if named else []
        return count, max(0, kept - count), [message for message in found if message is not None]

    def _amqp_head(self, queue: str) -> tuple[int, list[bytes]]:
        count = self._amqp_depth(queue)
        if not count:
            return 0, []
        channel = self._amqp().channel
        method, _properties, body = channel.basic_get(queue)
        if method is None:
            return count, []
        channel.basic_nack(method.delivery_tag, requeue=True)
        return count, [body]

    def _amqp_name(self) -> str:
        broker = self._amqp()
        if not broker.connection.is_open:
            del broker.connection
        told = broker.connection._impl.server_properties
        return f"{told.get('product', 'AMQP')} {told.get('version', '')}"


def _sent_at(message: bytes) -> int | None:
    """When a message says it was sent, in Unix ms; `None` where it does not say."""
    try:
        sent = json.loads(message)["message_timestamp"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return sent if isinstance(sent, int) else None


_AWAY = (
    redis.ConnectionError,
    redis.TimeoutError,
    # It takes nothing: its memory is full, or it was demoted and its successor is elsewhere.
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    BrokerConnectionError,
    pika.exceptions.AMQPError,
    OSError,
)


_VARIABLE = "BYOK_BROKER_URL"

_LOGIN_REFUSED = (
    pika.exceptions.ProbableAuthenticationError,
    pika.exceptions.ProbableAccessDeniedError,
)


def _away(error: BaseException) -> BrokerAway:
    if isinstance(error, BrokerConnectionError) and isinstance(error.message, BaseException):
        error = error.message
    if isinstance(error, _LOGIN_REFUSED):
        return BrokerAway(
            "refuses the login", f"check the user, the password and the vhost in {_VARIABLE}"
        )
    refusal = redis_refusal(error, _VARIABLE)
    return BrokerAway() if refusal is None else BrokerAway(*refusal)


def _giving_up(url: str) -> str:
    """The URL with `BLOCKED_SECONDS`, unless it says something else."""
    parts = urlsplit(url)
    given = parse_qsl(parts.query)
    if "blocked_connection_timeout" not in dict(given):
        given.append(("blocked_connection_timeout", str(BLOCKED_SECONDS)))
    return urlunsplit(parts._replace(query=urlencode(given)))


@contextmanager
def _told_as_away(*, amqp: bool) -> Iterator[None]:
    """Raise `BrokerAway` for whatever a broker's client raises where the broker is away."""
    try:
        yield
    except _AWAY as error:
        raise _away(error) from None
    except redis.ResponseError as error:
        # A disk that is full is told by no class of its own.
        if not str(error).startswith("MISCONF"):
            raise
        raise _away(error) from None
    except ValueError:
        if not amqp:
            raise
        # Pika's, where a connection is reset before pika has looked at what it connected to.
        raise BrokerAway from None
