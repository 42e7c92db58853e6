"""Announcing a change of a key's status: one out-event and one count for each."""

from sqlalchemy import Connection

from events import Envelope, KeyStatus, KeyStatusChanged, Provider
from store.keys import Cause, StatusChange
from workers.app import SOURCE, App


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
    app.instruments.key_changes.labels(change.provider, change.new_status, change.reason).inc()
