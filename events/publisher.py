"""Publishing: an event on the queue that takes it, confirmed by the broker."""

import asyncio
import os
import secrets
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import redis
from dramatiq import Message
from dramatiq.errors import DecodeError

from events import claims
from events.broker import PublishingBroker, actor_of, redis_client
from events.envelope import Envelope, EventData, EventRefused, wrap
from events.redaction import refuse_readable_keys
from events.signing import SigningKey

DEPTH_LIMIT = 100_000
"""Messages on a queue above which a publisher refuses to add more."""

Until = Literal["queued", "claimed"]


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid.uuid4())


class Publisher:
    """Publishes events as `source` on the queue at `broker_url`.

    `signing_key` is needed outside of the embedded mode. `redis_url` is where the workers answer
    (`wait="claimed"`). `now` and `new_id` are given by whoever owns time and identity. Safe to
    share between threads.
    """

    def __init__(
        self,
        broker_url: str,
        *,
        source: str,
        signing_key: SigningKey | None = None,
        redis_url: str | None = None,
        depth_limit: int = DEPTH_LIMIT,
        now: Callable[[], datetime] = _now,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        self._broker = PublishingBroker(broker_url)
        self._source = source
        self._sign = None if signing_key is None else signing_key.sign
        self._redis_url = redis_url
        self._answers: redis.Redis | None = None
        self._depth_limit = depth_limit
        self._now = now
        self._new_id = new_id

    def publish(
        self,
        data: EventData,
        *,
        account: str,
        event_id: str | None = None,
        wait: Until = "queued",
        timeout: float = 10.0,
        traceparent: str | None = None,
    ) -> Envelope:
        """Publish one event about `account`.

        When this returns, the broker has confirmed it; with `wait="claimed"`, the workers have
        it in their store (`timeout` seconds are waited for that). Publishing again under the same
        `event_id` is always safe.

        `traceparent` (W3C Trace Context) is the trace that what it causes belongs to.

        Raises `EventRefused` where the event breaks the contract, holds a readable key or the
        queue is full, `claims.NotClaimed`, `claims.Refused`, and `BrokerAway` where the broker
        cannot be reached.
        """
        if not data.queue:
            raise EventRefused(
                "not_incoming", f"{data.event_type} is not an event that workers read."
            )
        if wait not in get_args(Until):
            # The function `publish` passes it on unseen: a mistyped one would wait for nothing.
            raise ValueError('wait takes "queued" or "claimed".')
        refuse_readable_keys(data.model_dump(mode="json"))
        replyto = secrets.token_hex(16) if wait == "claimed" else None
        envelope = wrap(
            data,
            event_id=event_id or self._new_id(),
            source=self._source,
            time=self._now(),
            account=account,
            replyto=replyto,
            traceparent=traceparent,
            sign=self._sign,
        )
        self._refuse_flood(data.queue)
        self.send(data.queue, actor_of(data.queue), envelope.to_json())
        if replyto is not None:
            claims.wait(self._claims(), replyto, envelope.id, timeout)
        return envelope

    async def publish_async(self, data: EventData, **options: Any) -> Envelope:
        """`publish` for a caller on an event loop: it waits in a thread."""
        return await asyncio.to_thread(partial(self.publish, data, **options))

    def send(self, queue: str, actor: str, *arguments: Any) -> None:
        """Put a message for `actor` on `queue`. Arguments are ids or an event in JSON."""
        self._broker.send(
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

    def depth(self, queue: str) -> int:
        """How many messages wait on `queue`. Raises `BrokerAway`."""
        return self._broker.depth(queue)

    def resend(self, queue: str, payload: bytes) -> None:
        """Put what was set aside on its queue again: an event, or a whole message.

        Raises `EventRefused` (`not_a_message`) where it is neither.
        """
        try:
            message: Message[Any] = Message.decode(payload).copy(queue_name=queue)
        except (DecodeError, TypeError):
            # TypeError: a message in part, whose options are no mapping.
            try:
                event = payload.decode()
            except UnicodeDecodeError:
                event = ""
            if not event.lstrip().startswith("{"):
                raise EventRefused(
                    "not_a_message",
                    "What was set aside is neither an event nor a message: drop it.",
                ) from None
            self.send(queue, actor_of(queue), event)
        else:
            self._broker.send(message)

    def rewrite_queue_file(self) -> None:
        """Have a Redis queue drop from its file what is no longer in memory.

        Raises `BrokerAway`. RabbitMQ has no such thing: its segments go when all of their
        messages are acknowledged.
        """
        self._broker.rewrite_file()

    def close(self) -> None:
        """Close the connections."""
        self._broker.close()
        if self._answers is not None:
            self._answers.close()

    def _refuse_flood(self, queue: str) -> None:
        depth = self._broker.depth(queue)
        if depth >= self._depth_limit:
            raise EventRefused(
                "queue_full",
                f"The queue {queue!r} holds {depth:,} messages, and from {self._depth_limit:,} on "
                "nothing is added: publish again later.",
            )

    def _claims(self) -> "redis.Redis":
        if self._answers is None:
            if self._redis_url is None:
                raise EventRefused(
                    "no_answers", 'wait="claimed" needs the `redis_url` where the workers answer.'
                )
            self._answers = redis_client(self._redis_url, max_connections=64)
        return self._answers


_default: list[Publisher] = []


def publish(data: EventData, *, account: str, **options: Any) -> Envelope:
    """Publish with the publisher that the environment describes; see `Publisher.publish`.

    Reads `BYOK_BROKER_URL`, `BYOK_REDIS_URL`, `BYOK_SOURCE` and `BYOK_SIGNING_KEY`, once. All but
    the source may lie in a file, which `<variable>_FILE` names.
    """
    if not _default:
        _default.append(from_environment())
    return _default[0].publish(data, account=account, **options)


async def publish_async(data: EventData, *, account: str, **options: Any) -> Envelope:
    """`publish` for a caller on an event loop."""
    return await asyncio.to_thread(partial(publish, data, account=account, **options))


def from_environment() -> Publisher:
    """A publisher by environment variables alone, for upstream services.

    Raises `ValueError` with one sentence that names the variable.
    """
    url = _given("BYOK_BROKER_URL")
    if url is None:
        raise ValueError("BYOK_BROKER_URL is not set: it says where the message queue is.")
    key = _given("BYOK_SIGNING_KEY")
    return Publisher(
        url,
        source=os.environ.get("BYOK_SOURCE", "byok/publisher"),
        signing_key=None if key is None else SigningKey.parse(key),
        redis_url=_given("BYOK_REDIS_URL"),
    )


def _given(variable: str) -> str | None:
    """A variable's value, or what the file holds that `<variable>_FILE` names."""
    path = os.environ.get(f"{variable}_FILE")
    if not path:
        return os.environ.get(variable) or None
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{variable}_FILE names a file that cannot be read.") from None
