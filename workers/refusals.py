"""Setting a message aside: kept with its reason, counted, and told to whoever sent it."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import redis
import structlog
from pydantic import TypeAdapter, ValidationError

from events import EventRefused, EventRejected, claims
from events.envelope import Identifier
from events.redaction import redact
from events.registry import INCOMING
from store import outbox, setaside, waiting
from workers.app import App

log = structlog.get_logger(__name__)

_IDENTIFIER: TypeAdapter[str] = TypeAdapter(Identifier)

REWRITE_AFTER_SECONDS = 2
"""The queue's file is rewritten this long after a readable key came, when its message is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    """What can be told of a message that was refused, without believing it."""

    event_id: str | None = None
    event_type: str | None = None
    account: str | None = None
    replyto: str | None = None


def set_aside(app: App, queue: str, raw: object, refused: EventRefused) -> None:
    """Keep a refused message with its reason, in one commit with the `event.rejected` for it.

    Something of a key's shape is taken out of what is kept, and the queue's own file is rewritten.
    """
    payload = _bytes_of(raw)
    kept = _without_keys(payload)
    about = _identify(payload)
    now = app.effects.now_ms()
    item = setaside.SetAside(
        # From the content, so that a redelivery is no second entry.
        id=hashlib.sha256(b"\n".join((queue.encode(), kept))).hexdigest()[:32],
        at=now,
        queue=queue,
        reason=refused.reason,
        sentence=refused.sentence,
        event_id=about.event_id,
        event_type=about.event_type,
        account_id=about.account,
    )
    with app.database.write() as connection:
        fresh = setaside.put(connection, app.vault, item, kept)
        if about.event_id is not None:
            waiting.remove(connection, about.event_id, payload.decode("utf-8", "replace"))
        if fresh and about.event_id is not None and about.account is not None:
            rejected = EventRejected(event_id=about.event_id, reason=refused.reason)
            app.emit(connection, rejected, account=about.account)
        if kept != payload:
            row = outbox.OutboxRow(app.effects.new_id(), queue)
            due_at = now + REWRITE_AFTER_SECONDS * 1000
            outbox.add(connection, outbox.REWRITE, [row], now, due_at=due_at)
    answer_claim(app, about.replyto, refused.reason)
    app.instruments.set_aside.labels(queue, refused.reason).inc()
    app.instruments.events.labels(queue, about.event_type or "unread", "set_aside").inc()
    log.warning(
        "set_aside", queue=queue, reason=refused.reason, sentence=refused.sentence, id=item.id
    )


def answer_claim(app: App, replyto: str | None, refused: str | None = None) -> None:
    """Tell the publisher, if it waits, that its event is in the store or was refused.

    Redis being away does not undo what was done: the publisher then publishes again.
    """
    if replyto is None:
        return
    try:
        claims.answer(app.stream, replyto, refused)
    except redis.RedisError as error:
        log.warning("claim_not_answered", error=type(error).__name__)


def _bytes_of(raw: object) -> bytes:
    if isinstance(raw, bytes):
        return raw
    # A message's arguments are JSON; one that is not a text is kept as it was written there. JSON
    # can carry half a surrogate pair, which has no UTF-8.
    text = raw if isinstance(raw, str) else json.dumps(raw)
    return text.encode("utf-8", "surrogatepass")


def _without_keys(payload: bytes) -> bytes:
    # Latin-1 gives each byte a character and back, whatever the payload is.
    return redact(payload.decode("latin-1")).encode("latin-1")


def _identify(payload: bytes) -> _About:
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):
        return _About()
    if not isinstance(fields, dict):
        return _About()
    kind = fields.get("type")
    return _About(
        event_id=_identifier(fields.get("id")),
        # Only types we know: it becomes a label of a metric.
        event_type=kind if isinstance(kind, str) and kind in INCOMING else None,
        account=_identifier(fields.get("subject")),
        replyto=_identifier(fields.get("replyto")),
    )


def _identifier(value: Any) -> str | None:
    try:
        found = _IDENTIFIER.validate_python(value, strict=True)
    except ValidationError:
        return None
    return found if redact(found) == found else None
