"""What key events do to the store."""

import structlog
from pydantic import SecretStr
from sqlalchemy import Connection

from events import (
    BrokerAway,
    Envelope,
    EventRefused,
    KeyAdded,
    KeyRemoved,
    KeyReplaced,
    KeyStatus,
    KeyTested,
    KeyUpdated,
)
from events.keys import KEYS_QUEUE
from events.sealing import key_info
from store import accounts, analyses, gate, keys, waiting
from workers.app import App
from workers.boundary import Handlers
from workers.keychanges import announce, announce_use, cause_of
from workers.keys.validation import VALIDATE_ACTOR
from workers.providers.shape import ShapeProblem, check_shape
from workers.queues import VALIDATIONS_QUEUE

log = structlog.get_logger(__name__)


def given(app: App, envelope: Envelope, data: KeyAdded | KeyReplaced) -> None:
    """Store a key that was added or that replaces another, and have it validated.

    A key of the wrong shape is Invalid at once, and its secret is not kept.
    """
    account, provider = envelope.subject, data.provider
    pasted = app.settings.sealing_key_ring.open(
        data.sealed_key, key_info(account, provider, data.key_id)
    )
    checked = check_shape(provider, pasted.decode("utf-8", "replace"))
    now = app.effects.now_ms()
    with app.database.write() as connection:
        gate.alone(connection, envelope.subject)
        if not _admitted(connection, envelope, data.revision, now):
            return
        is_for = _claim_id(connection, envelope, data)
        keys.set_settings(
            connection,
            account,
            data.key_id,
            revision=data.revision,
            event_id=envelope.id,
            allow_platform_fallback=data.allow_platform_fallback,
            budget_usd=data.budget_usd,
        )
        held = keys.take_slot(
            connection,
            account,
            provider,
            key_id=data.key_id,
            revision=data.revision,
            event_id=envelope.id,
        )
        displaced = _displaced(connection, account, data.key_id, is_for)
        if held:
            displaced += keys.superseded(connection, account, provider, data.key_id)
        for old in displaced:
            announce(
                app, connection, keys.destroy(connection, old, cause_of(app, "replaced", envelope))
            )
        put = held and is_for == provider
        if put:
            announce(app, connection, _put(app, connection, envelope, data, checked))
            _tell_of_plan(app, connection, envelope, data.key_id)
        if held or displaced:
            analyses.wake(connection, account, analyses.KEY_WAITS, now)
    if displaced:
        app.database.scrub()
    if put and isinstance(checked, SecretStr):
        look_now(app, data.key_id)
    if held and is_for != provider:
        # Said after the commit: what it replaces is gone, as in the order of the revisions.
        raise EventRefused("key_id_taken", str(keys.KeyIdTaken()))


def _claim_id(connection: Connection, envelope: Envelope, data: KeyAdded | KeyReplaced) -> str:
    """Which provider the key id is for, now that this event has come.

    It is a register: of two events that use one id for two providers the higher one has it,
    whichever comes first.
    """
    try:
        return keys.claim_id(
            connection,
            envelope.subject,
            data.key_id,
            data.provider,
            revision=data.revision,
            event_id=envelope.id,
        )
    except keys.KeyIdTaken as error:
        raise EventRefused("key_id_taken", str(error)) from None


def _displaced(
    connection: Connection, account: str, key_id: str, is_for: str
) -> list[keys.KeyRecord]:
    """The key that lies under the id for the other provider, if there is one."""
    return [
        key
        for key in keys.unremoved(connection, account)
        if key.key_id == key_id and key.provider != is_for
    ]


def _tell_of_plan(app: App, connection: Connection, envelope: Envelope, key_id: str) -> None:
    """A key on a plan without BYOK is kept, not used, and its owner is told to upgrade."""
    account = accounts.find(connection, envelope.subject)
    key = keys.find(connection, key_id)
    if account is None or key is None or app.includes_byok(account.plan, account.plan_status):
        return
    cause = cause_of(app, "plan_lacking", envelope)
    announce_use(app, connection, key, included=False, cause=cause)


def updated(app: App, envelope: Envelope, data: KeyUpdated) -> None:
    """Take over a key's settings; they may come before the key itself."""
    with app.database.write() as connection:
        gate.alone(connection, envelope.subject)
        if not _admitted(connection, envelope, data.revision, app.effects.now_ms()):
            return
        _refuse_foreign_id(connection, envelope.subject, data.key_id)
        taken = keys.set_settings(
            connection,
            envelope.subject,
            data.key_id,
            revision=data.revision,
            event_id=envelope.id,
            allow_platform_fallback=data.allow_platform_fallback,
            budget_usd=data.budget_usd,
        )
        now = app.effects.now_ms()
        held = taken and keys.end_hold(connection, envelope.subject, data.key_id, now)
    if held:
        look_now(app, data.key_id)


def tested(app: App, envelope: Envelope, data: KeyTested) -> None:
    """Have a key validated now. A key that is gone by now is no news."""
    with app.database.write() as connection:
        gate.alone(connection, envelope.subject)
        _refuse_foreign_id(connection, envelope.subject, data.key_id)
        known = keys.ask_validation(connection, data.key_id, app.effects.now_ms())
    if known:
        look_now(app, data.key_id)


def removed(app: App, envelope: Envelope, data: KeyRemoved) -> None:
    """Destroy the account's key for the provider, in the one transaction that says so.

    It does not wait for an account that is not known yet: there is nothing that it could need.
    """
    account = envelope.subject
    with app.database.write() as connection:
        gate.alone(connection, envelope.subject)
        _refuse_foreign_id(connection, account, data.key_id)
        if not keys.take_slot(
            connection,
            account,
            data.provider,
            key_id=None,
            revision=data.revision,
            event_id=envelope.id,
        ):
            return
        for key in keys.superseded(connection, account, data.provider, None):
            announce(
                app, connection, keys.destroy(connection, key, cause_of(app, "removed", envelope))
            )
        analyses.wake(connection, account, analyses.KEY_WAITS, app.effects.now_ms())
    app.database.scrub()


def look_now(app: App, key_id: str) -> None:
    """Have a key validated without waiting for the scheduler; if this is lost, it does it."""
    try:
        app.publisher.send(VALIDATIONS_QUEUE, VALIDATE_ACTOR, key_id)
    except BrokerAway:
        log.warning("validation_left_to_scheduler")


def _put(
    app: App,
    connection: Connection,
    envelope: Envelope,
    data: KeyAdded | KeyReplaced,
    checked: SecretStr | ShapeProblem,
) -> keys.StatusChange:
    account, provider = envelope.subject, data.provider
    cause = cause_of(app, data.event_type.split(".")[2], envelope)
    if isinstance(checked, ShapeProblem):
        status, reason = KeyStatus.INVALID, checked.value
        stored, fingerprint, last4, validate_at = None, None, "", None
    else:
        secret = checked.get_secret_value()
        status, reason = KeyStatus.PENDING, ""
        stored = app.vault.store_key(secret, account=account, provider=provider, key_id=data.key_id)
        fingerprint = app.vault.fingerprint(connection, secret, cause.now)
        last4 = keys.last4_of(secret)
        # The message sent after the commit is the fast way; the scheduler is the sure one.
        validate_at = cause.now + keys.FIRST_LOOK_SECONDS * 1000
    return keys.put(
        connection,
        account_id=account,
        provider=provider,
        key_id=data.key_id,
        revision=data.revision,
        status=status,
        reason=reason,
        stored=stored,
        fingerprint=fingerprint,
        last4=last4,
        validate_at=validate_at,
        cause=cause,
    )


def _admitted(connection: Connection, envelope: Envelope, revision: int, now: int) -> bool:
    """Whether the event is to be applied now; one that is ahead of its account is parked.

    Raises `EventRefused` (`unknown_account`) when it has waited long enough.
    """
    admits = accounts.admits(connection, envelope.subject, revision)
    if admits is not None:
        waiting.remove(connection, envelope.id)
        return admits
    until = waiting.until(connection, envelope.id)
    if until is not None and until <= now:
        raise EventRefused(
            "unknown_account",
            f"The account {envelope.subject!r} did not become known within "
            f"{waiting.WAIT_SECONDS} s: publish its account.updated, then retry this event.",
        )
    waiting.put(
        connection,
        waiting.WaitingEvent(
            event_id=envelope.id,
            account_id=envelope.subject,
            queue=KEYS_QUEUE,
            envelope=envelope.as_sent(),
            until_at=now + waiting.WAIT_SECONDS * 1000,
        ),
    )
    return False


def _refuse_foreign_id(connection: Connection, account: str, key_id: str) -> None:
    try:
        keys.refuse_foreign_id(connection, account, key_id)
    except keys.KeyIdTaken as error:
        raise EventRefused("key_id_taken", str(error)) from None


HANDLERS = Handlers(
    KEYS_QUEUE,
    {
        KeyAdded: given,
        KeyReplaced: given,
        KeyUpdated: updated,
        KeyTested: tested,
        KeyRemoved: removed,
    },
)
