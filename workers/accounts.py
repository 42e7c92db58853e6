"""What account events do."""

from dramatiq import Broker, actor

from events import AccountDeleted, AccountUpdated, Envelope
from events.accounts import ACCOUNTS_QUEUE
from events.broker import actor_of
from store import accounts, analyses, erasure, gate, keys, waiting
from workers.analyses import ending
from workers.app import App
from workers.boundary import Handlers, take_event
from workers.keychanges import announce, cause_of


def register(broker: Broker, app: App) -> None:
    """Let `broker` call this queue's actor."""

    @actor(broker=broker, queue_name=ACCOUNTS_QUEUE, actor_name=actor_of(ACCOUNTS_QUEUE))
    def accounts_event(*arguments: object) -> None:
        take_event(app, HANDLERS, arguments)


def updated(app: App, envelope: Envelope, data: AccountUpdated) -> None:
    """Take over the account's state, and wake what waited for it."""
    now = app.effects.now_ms()
    with app.database.write() as connection:
        gate.alone(connection, envelope.subject)
        if accounts.apply_update(connection, envelope.subject, envelope.id, data, now):
            waiting.wake(connection, envelope.subject, now)
            analyses.wake(connection, envelope.subject, [analyses.AWAITING_ACCOUNT], now)


def deleted(app: App, envelope: Envelope, data: AccountDeleted) -> None:
    """Destroy the account's keys, results and personal data.

    The ledger's rows stay, under a surrogate that leads nowhere any more.
    """
    account = envelope.subject
    now = app.effects.now_ms()
    with app.database.write() as connection:
        gate.alone(connection, account)
        newer = accounts.apply_deletion(connection, account, envelope.id, data.revision, now)
        for key in keys.active(connection, account).values():
            if key.revision <= data.revision:
                cause = cause_of(app, "account_deleted", envelope)
                announce(app, connection, keys.destroy(connection, key, cause))
        if newer:
            for request in analyses.open_requests(connection, account):
                # An answer that still comes is billed and not stored.
                ending.skip(app, connection, request, "account_deleted")
            erasure.erase_account(connection, account)


HANDLERS = Handlers(ACCOUNTS_QUEUE, {AccountUpdated: updated, AccountDeleted: deleted})
