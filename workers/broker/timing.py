"""How long messages wait and how long they take, measured around each actor."""

import time
from threading import local
from typing import Any

from dramatiq import Broker, MessageProxy, Middleware

from metrics.instruments import Instruments


class TimeMessages(Middleware):
    """Observes the wait of each message until a thread has it, and how long the thread has it."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._thread = local()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:  # noqa: ARG002 -- dramatiq's own signature
        self._thread.began = time.monotonic()
        waited = time.time() - message.message_timestamp / 1000
        # Publishers' clocks differ: one that is ahead of ours is no wait.
        self._instruments.queue_wait.labels(message.queue_name).observe(max(0.0, waited))

    def after_process_message(
        self,
        broker: Broker,  # noqa: ARG002 -- as above
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002 -- as above
        exception: BaseException | None = None,
    ) -> None:
        actor, _, _ = message.actor_name.partition(".")
        outcome = "done" if exception is None else "raised"
        duration = self._instruments.message_seconds.labels(message.queue_name, actor, outcome)
        duration.observe(time.monotonic() - self._thread.began)
