"""Reading a raw message: one for our actors, or else one for the actor that sets it aside."""

import base64
from collections.abc import Mapping
from typing import Any

from dramatiq import Broker, Message

UNREADABLE_ACTOR = "unreadable_message"
"""Takes what is no message for any of our actors; it sets it aside."""


def read_message(broker: Broker, queue: str, data: bytes) -> Message[Any] | None:
    """The message, or `None` where it is not one that an actor of `broker` takes from `queue`."""
    try:
        message: Message[Any] = Message.decode(data)
    except Exception:  # noqa: BLE001 -- whatever it is, it is not one of our messages
        return None
    ours = (
        message.actor_name in broker.actors
        and message.queue_name == queue
        and isinstance(message.message_id, str)
        and isinstance(message.options, dict)
        and not message.kwargs
    )
    if not ours:
        return None
    # A time in the options would park the message in this worker's memory.
    message.options.pop("eta", None)
    return message


def unreadable(queue: str, data: bytes, options: Mapping[str, Any]) -> Message[Any]:
    """A message that brings `data` to the actor that sets it aside."""
    return Message(
        queue_name=queue,
        actor_name=UNREADABLE_ACTOR,
        args=(queue, base64.b64encode(data).decode()),
        kwargs={},
        options=dict(options),
    )
