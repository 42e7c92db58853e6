"""Reading a raw message: one for our actors, or else one for the actor that sets it aside."""

import base64
import time
from typing import Any

import structlog
from dramatiq import Broker, Message, MessageProxy, Middleware

log = structlog.get_logger(__name__)

_UNREADABLE = "unreadable_message."


def unreadable_actor(queue: str) -> str:
    """The actor that sets aside what is no message for any other actor of `queue`."""
    return _UNREADABLE + queue


def read_message(broker: Broker, queue: str, data: bytes) -> Message[Any] | None:
    """The message, or `None` where it is not one that an actor of `broker` takes from `queue`.

    Its options go: a time would park the message in this worker's memory, and others would change
    how dramatiq handles it.
    """
    try:
        message: Message[Any] = Message.decode(data)
    except Exception:  # noqa: BLE001 -- whatever it is, it is not one of our messages
        return None
    ours = (
        isinstance(message.actor_name, str)
        and message.actor_name in broker.actors
        # From outside nobody may put words into this actor's mouth.
        and not message.actor_name.startswith(_UNREADABLE)
        and message.queue_name == queue
        and isinstance(message.message_id, str)
        and isinstance(message.options, dict)
        and not message.kwargs
    )
    if not ours:
        return None
    return Message(
        queue_name=queue,
        actor_name=message.actor_name,
        args=message.args,
        kwargs={},
        options={},
        message_id=message.message_id,
        # When it was sent, for how long it waited; a sender can write anything there.
        message_timestamp=_moment(message.message_timestamp),
    )


def _moment(told: object) -> int:
    """A time in Unix ms, where it is one: now at the latest."""
    now = time.time_ns() // 1_000_000
    return min(told, now) if isinstance(told, int) else now


def unreadable(queue: str, data: bytes) -> Message[Any]:
    """A message that brings `data` to the actor that sets it aside."""
    return Message(
        queue_name=queue,
        actor_name=unreadable_actor(queue),
        args=(base64.b64encode(data).decode(),),
        kwargs={},
        options={},
    )


class PutBack(RuntimeError):
    """The message is not acted on now: it goes back to its queue."""


_PUT_BACK = "put_back"


def is_put_back(message: MessageProxy) -> bool:
    """Whether a message that was not acknowledged is to go back to its queue."""
    return bool(getattr(message, _PUT_BACK, False))


class FailOnError(Middleware):
    """Has a message whose actor raised refused instead of acknowledged.

    dramatiq leaves that to its `Retries`, which we do not use: without it, a message whose actor
    raised would be acknowledged and gone. The brokers put a refused message back when the worker
    stops or the actor says so by `PutBack`, and else into the dead letters.
    """

    def after_process_message(
        self,
        broker: Broker,  # noqa: ARG002 -- dramatiq's own signature
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,
    ) -> None:
        if exception is not None:
            message.fail()
            setattr(message, _PUT_BACK, isinstance(exception, PutBack))
        if exception is not None and not is_put_back(message):
            log.error("message_refused", queue=message.queue_name, error=type(exception).__name__)
