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

from workers.broker.reading import read_message, unreadable


class RabbitmqWorkerBroker(RabbitmqBroker):
    """Fetches for workers. A message that is refused while the process stops is put back."""

    def __init__(self, url: str, *, stopping: Event) -> None:
        super().__init__(url=url, confirm_delivery=True, middleware=[])
        self.stopping = stopping

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

    def __next__(self) -> MessageProxy | None:
        try:
            method, _properties, body = next(self.iterator)
        except (
            # What pika's blocking connection raises once it is closed from another side.
            AssertionError,
            pika.exceptions.AMQPConnectionError,
            pika.exceptions.AMQPChannelError,
        ) as error:
            if getattr(error, "reply_code", None) == NOT_FOUND:
                self.broker.queues_pending.add(self.queue_name)
            raise ConnectionClosed(error) from None
        if method is None:
            return None
        message = read_message(self.broker, self.queue_name, body)
        if message is None:
            message = unreadable(self.queue_name, body, {})
        self.known_tags.add(method.delivery_tag)
        proxy: MessageProxy = _RabbitmqMessage(method.redelivered, method.delivery_tag, message)
        return proxy

    def _nack(self, tag: Any) -> None:
        def refuse() -> None:
            self.channel.basic_nack(tag, requeue=self.broker.stopping.is_set())

        self.connection.add_callback_threadsafe(refuse)


NOT_FOUND = 404
"""AMQP's reply where a queue has disappeared."""
