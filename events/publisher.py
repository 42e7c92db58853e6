"""Publishing: an event on the queue that takes it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from dramatiq import Broker, Message

from events.broker import actor_of
from events.envelope import Envelope, EventData, EventRefused, seal_envelope


class Publisher:
    """Publishes events as `source` on `broker`.

    `now` and `new_id` are given, so that whoever owns time and identity owns them here too.
    """

    def __init__(
        self, broker: Broker, *, source: str, now: Callable[[], datetime], new_id: Callable[[], str]
    ) -> None:
        self._broker = broker
        self._source = source
        self._now = now
        self._new_id = new_id

    def publish(self, data: EventData, *, account: str, event_id: str | None = None) -> Envelope:
        """Put one event on its queue; it is on the queue when this returns.

        Raises `EventRefused` where it breaks the contract, and the broker client's own
        connection error where the broker cannot be reached.
        """
        if not data.queue:
            raise EventRefused(
                "not_incoming", f"{data.event_type} is not an event that workers read."
            )
        envelope = seal_envelope(
            data,
            event_id=event_id or self._new_id(),
            source=self._source,
            time=self._now(),
            account=account,
        )
        self.send(data.queue, actor_of(data.queue), envelope.to_json())
        return envelope

    def send(self, queue: str, actor: str, *arguments: Any) -> None:
        """Put a message for `actor` on `queue`. Arguments are ids or an event in JSON."""
        self._broker.enqueue(
            Message(
                queue_name=queue,
                actor_name=actor,
                args=arguments,
                kwargs={},
                options={},
                message_id=self._new_id(),
                message_timestamp=int(self._now().timestamp() * 1000),
            )
        )
