"""Hearing that an event was claimed: it is in the store, and the broker may forget it.

A publisher that asks for it puts the attribute `replyto` on the event and waits on the Redis list
`byok:claims:<replyto>`, where the worker puts the answer: `claimed`, or `refused <reason>`.
"""

import time
from typing import Any, Protocol

import redis

ANSWER_SECONDS = 600
"""How long an answer is kept for a publisher that comes late."""

_BLOCK_SECONDS = 1.0
"""How long one command waits: less than the client gives any command, however long the publisher is
willing to wait."""

_AGAIN_SECONDS = 0.2
"""How soon it is asked again where Redis does not answer."""

CLAIMED = "claimed"
_REFUSED = "refused "


class NotClaimed(TimeoutError):
    """Nobody claimed the event in time. It may still be; publish it again under the same id."""

    def __init__(self, event_id: str, timeout: float) -> None:
        super().__init__(
            f"The event {event_id} was not claimed within {timeout:g} s: publish it again with "
            "the same event id, which is safe."
        )
        self.event_id = event_id


class Refused(ValueError):
    """The workers refused the event and set it aside."""

    def __init__(self, event_id: str, reason: str) -> None:
        super().__init__(f"The workers refused the event {event_id}: {reason}.")
        self.event_id = event_id
        self.reason = reason


class _Redis(Protocol):
    def pipeline(self, transaction: bool = ...) -> Any: ...

    def blpop(self, keys: Any, timeout: Any = ...) -> Any: ...


def answer(client: _Redis, replyto: str, refused: str | None = None) -> None:
    """Tell the waiting publisher. Raises the Redis client's errors."""
    pipeline = client.pipeline(transaction=True)
    pipeline.rpush(_list(replyto), CLAIMED if refused is None else _REFUSED + refused)
    pipeline.expire(_list(replyto), ANSWER_SECONDS)
    pipeline.execute()


def wait(client: _Redis, replyto: str, event_id: str, timeout: float) -> None:
    """Wait up to `timeout` seconds, also for Redis to be back. Raises `NotClaimed` or `Refused`.

    An answer that was lost with the connection is not heard: publishing again gets another one.
    """
    deadline = time.monotonic() + timeout
    found = None
    while found is None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotClaimed(event_id, timeout)
        try:
            found = client.blpop([_list(replyto)], timeout=min(left, _BLOCK_SECONDS))
        except (redis.ConnectionError, redis.TimeoutError):
            time.sleep(min(left, _AGAIN_SECONDS))
    told = found[1].decode()
    if told != CLAIMED:
        raise Refused(event_id, told.removeprefix(_REFUSED))


def _list(replyto: str) -> str:
    return f"byok:claims:{replyto}"
