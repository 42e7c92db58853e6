"""dramatiq's Redis broker: a short poll, a new identity after a blip, nothing left unreadable."""

import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
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
"""How long an idle consumer sleeps between fetches, where its queue is of no special hurry. 20 ms:
a first message waits 9 ms in the median; the stock second makes it wait 600 ms. Five queues at this
pace keep an idle process at some 5 % of a core."""

REST_SECONDS = 0.05
"""How long the consumer of a paused queue rests between two looks at whether it still is."""

_ID = "redis_message_id"

_MAINTAIN = "maintain"

HEARTBEAT_TIMEOUT_MS = 15_000
MAINTENANCE_CHANCE = 20_000
"""In a million, per dispatch: some fifty dispatches a second make it once a second."""


def poll_pause(misses: int, longest: float = LONGEST_POLL_SECONDS) -> float:
    """Seconds to sleep after `misses` fetches in a row that found nothing: 2 ms, 4, … `longest`."""
    return min(0.001 * float(2 ** min(misses, 10)), longest)


class RedisWorkerBroker(RedisBroker):
    """Fetches for workers. `stopping` is set when the process stops, `longest_poll` in seconds."""

    def __init__(
        self,
        url: str,
        *,
        stopping: Event,
        max_connections: int,
        watch: Watch,
        longest_poll: float = LONGEST_POLL_SECONDS,
    ) -> None:
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
        self.longest_poll = longest_poll
        self.deferrals: dict[str, Deferral] = {}
        script = (Path(__file__).parent / "fetch.lua").read_text(encoding="utf-8")
        self._fetch = self.client.register_script(script)

    @property
    def consumer_class(self) -> type["Consumer"]:
        return Consumer

    def declare_queue(self, queue_name: str) -> None:
        # Without the delay queue: nothing is ever delayed in a worker's memory.
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def fetch(self, queue_name: str, count: int) -> list[tuple[str, bytes]]:
        """Take up to `count` messages, each with the id under which it lies in Redis.

        dramatiq's own fetch leaves the ids to what the messages say of themselves, and whoever
        wrote one may be mistaken there: it could never be acknowledged.
        """
        if super()._should_do_maintenance("fetch"):
            getattr(self, f"do_{_MAINTAIN}")(queue_name)
        now = time.time_ns() // 1_000_000
        arguments = (queue_name, str(self.broker_id), now, count)
        ids, found = self._fetch(keys=[self.namespace], args=arguments)
        return [
            (str(message_id, "utf-8", "replace"), data)
            for message_id, data in zip(ids, found, strict=True)
            # An id that was pushed twice has been acknowledged since.
            if data is not None
        ]

    def _should_do_maintenance(self, command: str) -> int:
        return int(command == _MAINTAIN)

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
    message_cache: list[tuple[str, bytes]]
    queued_message_ids: set[str]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]  # as above
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
        fetched = [self._read(*taken) for taken in self.message_cache]
        self.message_cache = []
        if self._deferral is not None:
            fetched += self._deferral.take(sys.maxsize)
        self.requeue(fetched)
        # It fetches nothing, and says that this identity is alive: what it has under way would be
        # delivered again.
        self.broker.fetch(self.queue_name, 0)
        self.broker.watch.answered(self.queue_name, well=True)
        time.sleep(REST_SECONDS)

    def _next(self, *, paused: bool) -> MessageProxy | None:
        if paused:
            self._rest()
            return None
        if not self.message_cache:
            room = self.prefetch - self.outstanding_message_count
            if room > 0:
                self.message_cache = self.broker.fetch(self.queue_name, room)
                self.broker.watch.answered(self.queue_name, well=True)
        found = bool(self.message_cache)
        while self.message_cache:
            message = self._handed_out(*self.message_cache.pop(0))
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
        time.sleep(poll_pause(self.misses, self.broker.longest_poll))
        return None

    def _handed_out(self, redis_id: str, data: bytes) -> Message[Any] | None:
        """A message for the worker's threads, or `None` where it is deferred or with them already.

        An id may have been pushed twice, and is acknowledged once.
        """
        if redis_id in self.queued_message_ids:
            return None
        message = self._read(redis_id, data)
        if self._deferral is not None and self._deferral.keeps(message, len(data)):
            return None
        self.queued_message_ids.add(redis_id)
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

    def _read(self, redis_id: str, data: bytes) -> Message[Any]:
        """A message, known by the id under which it lies in Redis whatever it says itself.

        Two that say the same would be counted as one, and more be taken than there is room for.
        """
        message = read_message(self.broker, self.queue_name, data)
        if message is None:
            message = unreadable(self.queue_name, data)
        return message.copy(message_id=redis_id, options={_ID: redis_id})
