"""Announcing a change of a key's status, or of whether it is used: one out-event for each."""

from sqlalchemy import Connection

from events import Envelope, KeyStatus, KeyStatusChanged, Provider
from store import keys
from store.engine import after_commit
from store.keys import Cause, KeyRecord, StatusChange
from workers.app import SOURCE, App

PLAN = "plan_without_byok"
"""The reason in an announcement that a key is kept and not used, because of the account's plan. The
key's own reason stays with the key."""


def cause_of(app: App, name: str, envelope: Envelope | None = None) -> Cause:
    """Who changes a key: an event of upstream, or (without one) the workers themselves."""
    return Cause(
        name=name,
        event_id=envelope.id if envelope else "",
        source=envelope.source if envelope else SOURCE,
        history_id=app.effects.new_id(),
        now=app.effects.now_ms(),
    )


def announce(app: App, connection: Connection, change: StatusChange | None) -> None:
    """Tell of a change, in the transaction that makes it."""
    if change is None:
        return
    app.emit(
        connection,
        KeyStatusChanged(
            key_id=change.key_id,
            provider=Provider(change.provider),
            old=KeyStatus(change.old_status) if change.old_status else None,
            new=KeyStatus(change.new_status),
            reason=change.reason,
            revision=change.revision,
        ),
        account=change.account_id,
    )
    changes = app.instruments.key_changes
    counted = changes.labels(change.provider, change.new_status, change.reason)
    after_commit(connection, counted.inc)


def announce_use(
    app: App, connection: Connection, key: KeyRecord, *, included: bool, cause: Cause
) -> None:
    """Tell that a key is not used any more, or is again, because of the account's plan.

    Its status stays: `old` and `new` are the same. The reason is `PLAN`, or the key's own.
    """
    reason = key.reason if included else PLAN
    announce(app, connection, keys.note_use(connection, key, reason, cause))
