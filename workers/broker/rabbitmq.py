"""dramatiq's RabbitMQ broker: confirms on, no delays, nothing dropped that cannot be decoded."""

from threading import Event
from typing import Any

import pika.exceptions
from dramatiq import MessageProxy
from dramatiq.brokers.rabbitmq import (
    RabbitmqBroker,
    _RabbitmqConsumer,  # its decoding cannot be changed from outside
    _RabbitmqMessage,
)
from dramatiq.errors import ConnectionClosed

from events.broker import NOT_FOUND
from workers.broker.reading import is_put_back, read_message, unreadable
from workers.broker.watch import Watch

REST_SECONDS = 0.1
"""How often the consumer of a paused queue looks whether it still is."""


class RabbitmqWorkerBroker(RabbitmqBroker):
    """Fetches for workers. A message that is refused while the process stops is put back."""

    def __init__(self, url: str, *, stopping: Event, watch: Watch) -> None:
        super().__init__(url=url, confirm_delivery=True, middleware=[])
        self.stopping = stopping
        self.watch = watch

    @property
    def consumer_class(self) -> type["Consumer"]:
        return Consumer

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        # Without the delay queue: nothing is ever delayed in a worker's memory.
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        if ensure:
            self._ensure_queue(queue_name)  # type: ignore[no-untyped-call]  # dramatiq has no types


class Consumer(_RabbitmqConsumer):
    """Takes messages of one queue."""

    broker: RabbitmqWorkerBroker

    def __init__(
        self, broker: RabbitmqWorkerBroker, queue_name: str, prefetch: int, timeout: int
    ) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]  # dramatiq has no types
        self._idle_seconds = timeout / 1000
        self._resting = False
        self._to_put_back: set[Any] = set()

    def __next__(self) -> MessageProxy | None:
        watch = self.broker.watch
        watch.goes_round(self.queue_name)
        try:
            method, body = self._next(paused=watch.is_paused(self.queue_name))
        except (
            # What pika's blocking connection raises once it is closed from another side.
            AssertionError,
            pika.exceptions.AMQPConnectionError,
            pika.exceptions.AMQPChannelError,
        ) as error:
            if getattr(error, "reply_code", None) == NOT_FOUND:
                self.broker.queues_pending.add(self.queue_name)
            watch.answered(self.queue_name, well=False)
            raise ConnectionClosed(error) from None
        watch.answered(self.queue_name, well=True)
        if method is None:
            return None
        message = read_message(self.broker, self.queue_name, body)
        if message is None:
            message = unreadable(self.queue_name, body)
        self.known_tags.add(method.delivery_tag)
        proxy: MessageProxy = _RabbitmqMessage(method.redelivered, method.delivery_tag, message)
        return proxy

    def _next(self, *, paused: bool) -> tuple[Any, Any]:
        """The next delivery and its body, or nothing for as long as the queue is paused."""
        if paused:
            if not self._resting:
                # What was delivered and not handed out goes back.
                self.channel.cancel()
                self._resting = True
            self.connection.process_data_events(time_limit=REST_SECONDS)
            return None, None
        if self._resting:
            self.iterator = self.channel.consume(
                self.queue_name, inactivity_timeout=self._idle_seconds
            )
            self._resting = False
        method, _properties, body = next(self.iterator)
        return method, body

    def nack(self, message: MessageProxy) -> None:
        if is_put_back(message):
            self._to_put_back.add(message._tag)
        super().nack(message)  # type: ignore[no-untyped-call]  # as above

    def _nack(self, tag: Any) -> None:
        put_back = tag in self._to_put_back
        self._to_put_back.discard(tag)

        def refuse() -> None:
            self.channel.basic_nack(tag, requeue=put_back or self.broker.stopping.is_set())

        self.connection.add_callback_threadsafe(refuse)
