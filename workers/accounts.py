"""What account events do."""

from dataclasses import asdict

from dramatiq import Broker, actor
from sqlalchemy import Connection

from events import AccountDeleted, AccountUpdated, Envelope
from events.accounts import ACCOUNTS_QUEUE
from events.broker import actor_of
from store import accounts, analyses, erasure, gate, keys, waiting
from workers.analyses import life
from workers.app import App
from workers.boundary import Handlers, take_event
from workers.keychanges import announce, announce_use, cause_of


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
        before = accounts.find(connection, envelope.subject)
        if accounts.apply_update(connection, envelope.subject, envelope.id, data, now):
            waiting.wake(connection, envelope.subject, now)
            analyses.wake(connection, envelope.subject, [analyses.AWAITING_ACCOUNT], now)
            _tell_of_plan(app, connection, envelope, data, before)


def _tell_of_plan(
    app: App,
    connection: Connection,
    envelope: Envelope,
    data: AccountUpdated,
    before: accounts.Account | None,
) -> None:
    """Where the plan lost BYOK or gained it: say of each key that it is used no more, or again.

    A key of an account that was not known was used by nobody, and was told as any other: only that
    it is not to be used is news of it.
    """
    included = before is None or app.includes_byok(before.plan, before.plan_status)
    includes = app.includes_byok(data.plan, data.plan_status.value)
    if included == includes:
        return
    for _, key in sorted(keys.active(connection, envelope.subject).items()):
        cause = cause_of(app, "plan_gained" if includes else "plan_lost", envelope)
        announce_use(app, connection, key, included=includes, cause=cause)
    # A request that waits for a key's verdict is paid by somebody else now.
    analyses.wake(connection, envelope.subject, analyses.KEY_WAITS, app.effects.now_ms())


def deleted(app: App, envelope: Envelope, data: AccountDeleted) -> None:
    """Destroy the account's keys, results and personal data, and keep evidence of what it was.

    The ledger's rows stay, under a surrogate that leads nowhere any more. Where the account lives
    again already, because this comes late, what is of the life after it stays.
    """
    account = envelope.subject
    now = app.effects.now_ms()
    with app.database.write() as connection:
        gate.alone(connection, account)
        before = accounts.find(connection, account)
        deletion = accounts.apply_deletion(connection, account, envelope.id, data.revision, now)
        gone = [k for k in keys.unremoved(connection, account) if k.revision <= data.revision]
        wrapped = sum(keys.stored_key(connection, key.key_id) is not None for key in gone)
        for key in gone:
            cause = cause_of(app, "account_deleted", envelope)
            announce(app, connection, keys.destroy(connection, key, cause))
        if deletion.first or deletion.newest:
            over = None if deletion.newest else data.revision
            ended = life.end_requests(app, connection, account, over)
            erased, data_keys = life.erase(app, connection, account, over)
            erased += erasure.erase_rest(connection, account, data.revision)
            destroyed = erasure.Destroyed(
                keys=[key.key_id for key in gone],
                data_keys=wrapped + data_keys,
                requests_ended=ended,
                personal_data=_personal(before) if deletion.newest else {},
                **asdict(erased),
            )
            evidence = erasure.Evidence(
                revision=data.revision,
                event_id=envelope.id,
                source=envelope.source,
                at=now,
                destroyed=asdict(destroyed),
            )
            erasure.note(connection, account, evidence)
        # Key events that wait are of this life, and void now, or of the next one, and wait on.
        waiting.wake(connection, account, now)
    app.database.scrub()


def _personal(account: accounts.Account | None) -> dict[str, int]:
    """How much the account's own state held, by part; its values are not repeated."""
    if account is None:
        return {}
    return {
        "plan": 1,
        "credits": 1,
        "timezone": 1,
        "custom_categories": len(account.custom_categories),
        "category_overrides": len(account.category_overrides),
    }


HANDLERS = Handlers(ACCOUNTS_QUEUE, {AccountUpdated: updated, AccountDeleted: deleted})
