"""dramatiq's Redis broker: a short poll, a new identity after a blip, nothing left unreadable."""

import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from threading import Event
from typing import Any

import redis
import structlog
from dramatiq import Message, MessageProxy
from dramatiq.brokers.redis import (
    RedisBroker,
    _RedisConsumer,  # its polling and its decoding cannot be changed from outside
)
from dramatiq.errors import ConnectionClosed

from events.broker import NAMESPACE, redis_client
from workers.broker.deferral import Deferral
from workers.broker.reading import is_put_back, read_message, unreadable
from workers.broker.watch import Watch

log = structlog.get_logger(__name__)

LONGEST_POLL_SECONDS = 0.02
"""How long an idle consumer sleeps between fetches. 20 ms: a first message waits 9 ms in the
median, and an idle process uses 5 % of a core; the stock second makes it wait 600 ms."""

REST_SECONDS = 0.05
"""How long the consumer of a paused queue rests between two looks at whether it still is."""

_ID = "redis_message_id"

HEARTBEAT_TIMEOUT_MS = 15_000
MAINTENANCE_CHANCE = 20_000
"""In a million, per dispatch: some fifty dispatches a second make it once a second."""


def poll_pause(misses: int) -> float:
    """Seconds to sleep after `misses` fetches in a row that found nothing: 2 ms, 4, … 20 ms."""
    return min(0.001 * float(2 ** min(misses, 10)), LONGEST_POLL_SECONDS)


class RedisWorkerBroker(RedisBroker):
    """Fetches for workers. `stopping` is set when the process stops."""

    def __init__(self, url: str, *, stopping: Event, max_connections: int, watch: Watch) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # dramatiq has no types
            client=redis_client(url, max_connections=max_connections),
            # Retries and delays are the store's (a retry is lost when Redis is away as the actor
            # fails), and dramatiq's other middleware has nothing to do here.
            middleware=[],
            namespace=NAMESPACE,
            maintenance_chance=MAINTENANCE_CHANCE,
            heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
        )
        self.stopping = stopping
        self.watch = watch
        self.deferrals: dict[str, Deferral] = {}

    @property
    def consumer_class(self) -> type["Consumer"]:
        return Consumer

    def declare_queue(self, queue_name: str) -> None:
        # Without the delay queue: nothing is ever delayed in a worker's memory.
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def acknowledge(self, queue: str, messages: Sequence[Message[Any]]) -> None:
        """Acknowledge messages that were fetched from `queue`, together.

        Where that fails they are delivered again: to a new identity, since this one would hold
        them for ever.
        """
        ids = [message.options[_ID] for message in messages]
        try:
            with self.client.pipeline(transaction=True) as pipeline:
                pipeline.srem(f"{self.namespace}:__acks__.{self.broker_id}.{queue}", *ids)
                pipeline.hdel(f"{self.namespace}:{queue}.msgs", *ids)
                pipeline.execute()
        except redis.RedisError as error:
            log.warning("acknowledgements_lost", queue=queue, error=type(error).__name__)
            self.renew_identity()

    def renew_identity(self) -> None:
        """Take a new broker id, because a fetch may have been lost on its way here.

        What was fetched under the old id is delivered again once that id's heartbeat has run
        out; the store tells repeats from news.
        """
        self.broker_id = str(uuid.uuid4())


class Consumer(_RedisConsumer):
    """Takes messages of one queue."""

    broker: RedisWorkerBroker
    queue_name: str
    message_cache: list[bytes | None]
    queued_message_ids: set[str]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]  # as above
        self._unreadable_ids: set[str] = set()
        self._deferral = self.broker.deferrals.get(self.queue_name)
        if self._deferral is not None:
            # A consumer is only made anew when the connection of the one before it was lost.
            self._deferral.forget()

    def __next__(self) -> MessageProxy | None:
        watch = self.broker.watch
        watch.goes_round(self.queue_name)
        try:
            message = self._next(paused=watch.is_paused(self.queue_name))
        except Exception as error:  # noqa: BLE001
            watch.answered(self.queue_name, well=False)
            # Whatever was on its way here is lost to this identity, and so is what was fetched
            # and not handed out yet: under a new one all of it is delivered again.
            self.broker.renew_identity()
            raise ConnectionClosed(error) from None
        return message

    def _rest(self) -> None:
        """Take nothing, because the queue is paused; what was fetched goes back."""
        fetched = [self._read(data) for data in self.message_cache if data is not None]
        self.message_cache = []
        if self._deferral is not None:
            fetched += self._deferral.take(sys.maxsize)
        self.requeue(fetched)
        # It fetches nothing, and says that this identity is alive: what it has under way would be
        # delivered again.
        self.broker.do_fetch(self.queue_name, 0)
        self.broker.watch.answered(self.queue_name, well=True)
        time.sleep(REST_SECONDS)

    def _next(self, *, paused: bool) -> MessageProxy | None:
        if paused:
            self._rest()
            return None
        if not self.message_cache:
            room = self.prefetch - self.outstanding_message_count
            if room > 0:
                self.message_cache = self.broker.do_fetch(self.queue_name, room)
                self.broker.watch.answered(self.queue_name, well=True)
        found = bool(self.message_cache)
        while self.message_cache:
            data = self.message_cache.pop(0)
            message = None if data is None else self._handed_out(data)
            if message is not None:
                self.misses = 0
                return MessageProxy(message)
        if self._deferral is not None and self._deferral.begin():
            return MessageProxy(self._call_to_take_in(self._deferral.taker))
        if found:
            # All of it was deferred: there may be more behind it, and other accounts' in that.
            self.misses = 0
            return None
        self.misses += 1
        time.sleep(poll_pause(self.misses))
        return None

    def _handed_out(self, data: bytes) -> Message[Any] | None:
        """A message for the worker's threads, or `None` where it is deferred."""
        message = self._read(data)
        if self._deferral is not None and self._deferral.keeps(message, len(data)):
            return None
        self.queued_message_ids.add(message.message_id)
        return message

    def _call_to_take_in(self, taker: str) -> Message[Any]:
        """A message of our own making, which the broker does not know."""
        return Message(queue_name=self.queue_name, actor_name=taker, args=(), kwargs={}, options={})

    def ack(self, message: MessageProxy) -> None:
        if self._deferral is not None:
            self._deferral.let_go(message.message_id)
        if _ID not in message.options:
            return
        try:
            super().ack(message)  # type: ignore[no-untyped-call]  # as above
        except (ConnectionClosed, redis.TimeoutError) as error:
            self._wait_for_broker(error)

    def close(self) -> None:
        """Give back what was deferred: another process may take it at once."""
        if self._deferral is not None:
            kept = self._deferral.take(sys.maxsize)
            try:
                self.requeue(kept)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                # It comes again when this identity's heartbeat has run out.
                log.warning("deferred_left", count=len(kept), error=type(error).__name__)

    def requeue(self, messages: Iterable[Message[Any] | MessageProxy]) -> None:
        known = [message for message in messages if _ID in message.options]
        super().requeue(known)  # type: ignore[no-untyped-call]  # as above

    def nack(self, message: MessageProxy) -> None:
        if self._deferral is not None:
            self._deferral.let_go(message.message_id)
        if _ID not in message.options:
            return
        if not (self.broker.stopping.is_set() or is_put_back(message)):
            super().nack(message)  # type: ignore[no-untyped-call]  # as above
            return
        try:
            self.requeue([message])
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self._wait_for_broker(error)
        finally:
            self.queued_message_ids.discard(message.message_id)

    def _wait_for_broker(self, error: Exception) -> None:
        """Have dramatiq try again, unless this process stops: then the message comes again.

        Its redelivery does no harm, and a broker that went first would keep this process waiting
        until the drain's end.
        """
        if not self.broker.stopping.is_set():
            raise ConnectionClosed(error) from None

    def _read(self, data: bytes) -> Message[Any]:
        message = read_message(self.broker, self.queue_name, data, keep=(_ID,))
        # Without its own id a message could never be acknowledged.
        if message is not None and isinstance(message.options.get(_ID), str):
            return message
        return unreadable(self.queue_name, data, {_ID: self._id_of(data)})

    def _id_of(self, data: bytes) -> str:
        """Find under which id a message was fetched; it cannot be read from its text.

        The same text may have been fetched several times: each id is given once, and forgotten
        here, not when it is acknowledged: a worker thread acknowledges while this one looks, and
        an id that was given again would leave the message behind it unacknowledged.
        """
        queue = f"{self.broker.namespace}:{self.queue_name}"
        taken = f"{self.broker.namespace}:__acks__.{self.broker.broker_id}.{self.queue_name}"
        client = self.broker.client
        ids: list[Any] = list(client.smembers(taken))
        names = [str(message_id, "utf-8", "replace") for message_id in ids]
        self._unreadable_ids.intersection_update(names)
        if ids:
            for found, stored in zip(names, client.hmget(f"{queue}.msgs", ids), strict=True):
                if stored == data and found not in self._unreadable_ids:
                    self._unreadable_ids.add(found)
                    return found
        return "unknown"
