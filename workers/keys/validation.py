"""Validating a key: asking the provider, and what its answer makes of the key.

A verdict is fenced by the validation's number: one that comes after the key was replaced,
removed or validated anew changes nothing.
"""

from functools import partial

import structlog
from pydantic import SecretStr
from sqlalchemy import Connection

from events import KeyStatus, Provider
from store import accounts, analyses, gate, keys, ledger, pauses, probes
from store.engine import after_commit
from store.masterkeys import DoesNotOpen, MasterKeyMissing, MasterKeyUnavailable
from store.vault import StoredKey
from workers.app import App
from workers.billing import ledger_row, owner_of, record
from workers.boundary import persistently
from workers.keychanges import announce, cause_of
from workers.keys.schedule import NO_QUOTA, next_look, period_ms
from workers.providers.port import Failure, OutcomeClass, Proof, Undecided
from workers.providers.verdict import judge_outcome

log = structlog.get_logger(__name__)

VALIDATE_ACTOR = "validate_key"

FIRST_RETRY_SECONDS = 2
LONGEST_RETRY_SECONDS = 15 * 60
INVALID_RECHECK_FACTOR = 4
"""A key that stays Invalid is looked at less often: after this many periods at most."""

UNREADABLE = "unreadable"
"""The reason of a key whose stored secret was altered or moved: it has to be given anew."""


def validate(app: App, key_id: str) -> None:
    """Ask the provider about a key and write the verdict.

    A key that does not open is Invalid, reason `unreadable`. One whose master key is missing or
    away is left as it is and looked at again: that is the operator's to mend. One whose provider is
    paused stays due.
    """
    now = app.effects.now_ms()
    with app.database.write() as connection:
        if _is_paused(connection, key_id):
            return
        key = keys.begin_validation(connection, key_id, now)
        stored = keys.stored_key(connection, key_id) if key else None
    if key is None:
        return
    try:
        secret = _open(app, key, stored)
    except (DoesNotOpen, MasterKeyMissing, MasterKeyUnavailable) as error:
        reason = type(error).__name__
        app.instruments.vault_failures.labels(reason).inc()
        log.error("key_does_not_open", key_id=key_id, reason=reason)
        broken = isinstance(error, DoesNotOpen)
        persistently(app, lambda: _conclude_unopened(app, key, broken=broken))
        return
    began = app.effects.monotonic()
    outcome = _ask(app, key, secret)
    if outcome is None:
        return
    kind = outcome.kind if isinstance(outcome, Failure) else OutcomeClass.OK
    app.instruments.validations.labels(key.provider, kind.value).inc()
    seconds = app.effects.monotonic() - began
    app.instruments.validation_seconds.labels(key.provider).observe(seconds)
    # What was asked is not asked again because the database is away for a moment.
    persistently(app, lambda: _conclude(app, key, outcome))


def _ask(app: App, key: keys.KeyRecord, secret: SecretStr) -> Proof | Failure | None:
    """Ask for nothing, and where that does not tell, by a call that is billed.

    `None` where the key was removed, replaced or tried anew meanwhile, or its provider paused:
    nothing is paid then, and it is looked at again where that is due.
    """
    provider = Provider(key.provider)
    client, model = app.providers[provider], app.settings.model(provider)
    outcome = app.calls.run(
        # What stage 1 says of a key without quota is that it is fine.
        client.probe(secret, model=model, prove_quota=key.reason == NO_QUOTA)
    )
    if not isinstance(outcome, Undecided):
        return outcome
    # Noted before it is sent: whatever becomes of this process, it is billed once or `unknown`.
    with app.database.write() as connection:
        gate.share(connection, key.account_id)
        if _still(connection, key) is None or _is_paused(connection, key.key_id):
            return None
        probes.start(
            connection,
            _probe_of(key),
            process_id=app.lease.holder(connection),
            provider=key.provider,
            model=model,
            now=app.effects.now_ms(),
        )
    return app.calls.run(client.spend(secret, model=model))


def _probe_of(key: keys.KeyRecord) -> probes.Probe:
    return probes.Probe(account_id=key.account_id, key_id=key.key_id, number=key.validation_no)


def _is_paused(connection: Connection, key_id: str) -> bool:
    key = keys.find(connection, key_id)
    return key is not None and pauses.is_paused(connection, pauses.PROVIDER, key.provider)


def _open(app: App, key: keys.KeyRecord, stored: StoredKey | None) -> SecretStr:
    if stored is None:
        raise DoesNotOpen
    return SecretStr(
        app.vault.open_key(stored, account=key.account_id, provider=key.provider, key_id=key.key_id)
    )


def _conclude_unopened(app: App, key: keys.KeyRecord, *, broken: bool) -> None:
    """Write down that a key does not open: by its own fault (`broken`), or for want of a master."""
    with app.database.write() as connection:
        gate.alone(connection, key.account_id)
        current = _still(connection, key)
        if current is None:
            return
        status = KeyStatus.INVALID if broken else KeyStatus(current.status)
        reason = UNREADABLE if broken else current.reason
        change = keys.set_status(
            connection,
            current,
            status=status.value,
            reason=reason,
            validate_at=_next_look(app, current, status, reason, retry_after=None, told=broken),
            succeeded=False,
            told=broken,
            cause=cause_of(app, "validated"),
        )
        announce(app, connection, change)
        if broken:
            now = app.effects.now_ms()
            analyses.wake(connection, key.account_id, analyses.KEY_WAITS, now)


def _still(connection: Connection, key: keys.KeyRecord) -> keys.KeyRecord | None:
    """The key as it stands, or `None` where another validation or another secret came since."""
    current = keys.find(connection, key.key_id)
    if current is None or current.validation_no != key.validation_no:
        log.info("late_verdict_ignored", key_id=key.key_id)
        return None
    return current


def _conclude(app: App, key: keys.KeyRecord, outcome: Proof | Failure) -> None:
    with app.database.write() as connection:
        gate.alone(connection, key.account_id)
        if not _end_probe(app, connection, key, outcome) and outcome.tokens is not None:
            # Written down before, by a commit that this process did not hear of.
            return
        _bill(app, connection, key, outcome)
        current = _still(connection, key)
        if current is not None:
            _write_verdict(app, connection, current, outcome)


def _write_verdict(
    app: App, connection: Connection, key: keys.KeyRecord, outcome: Proof | Failure
) -> None:
    kind = outcome.kind if isinstance(outcome, Failure) else OutcomeClass.OK
    verdict = judge_outcome(outcome, status=KeyStatus(key.status), reason=key.reason)
    told = kind not in (OutcomeClass.UNAVAILABLE, OutcomeClass.RATE_LIMITED)
    change = keys.set_status(
        connection,
        key,
        status=verdict.status.value,
        reason=verdict.reason,
        validate_at=_next_look(
            app,
            key,
            verdict.status,
            verdict.reason,
            retry_after=outcome.retry_after if isinstance(outcome, Failure) else None,
            told=told,
        ),
        succeeded=kind is OutcomeClass.OK,
        told=told,
        cause=cause_of(app, "validated"),
    )
    announce(app, connection, change)
    if told and key.tested_at is None:
        proof = app.instruments.key_proof_seconds.labels(key.provider)
        seconds = (app.effects.now_ms() - key.added_at) / 1000
        after_commit(connection, partial(proof.observe, seconds))
    if told:
        analyses.wake(connection, key.account_id, analyses.KEY_WAITS, app.effects.now_ms())


def _next_look(
    app: App,
    key: keys.KeyRecord,
    status: KeyStatus,
    reason: str,
    *,
    retry_after: float | None,
    told: bool,
) -> int:
    """When the key is to be validated next, in Unix ms."""
    now = app.effects.now_ms()
    if not told or status is KeyStatus.PENDING:
        wait = min(
            FIRST_RETRY_SECONDS * 2.0 ** min(key.validation_failures, 16), LONGEST_RETRY_SECONDS
        )
        wait = max(wait, retry_after or 0)
    elif reason == NO_QUOTA:
        wait = keys.QUOTA_PROBE_SECONDS
    else:
        invalid = status is KeyStatus.INVALID
        periods = min(1 + key.validation_failures, INVALID_RECHECK_FACTOR) if invalid else 1
        return next_look(key.key_id, now, period_ms(app), periods)
    # Spread over a tenth, so that keys that failed together do not come back together.
    return now + int(wait * 1000 * (1 + 0.1 * app.effects.jitter()))


def _end_probe(
    app: App, connection: Connection, key: keys.KeyRecord, outcome: Proof | Failure
) -> bool:
    """End the billed call that was noted, also one that was given up before.

    False where there was none, or where it was ended already.
    """
    lost = outcome.is_lost if isinstance(outcome, Failure) else outcome.tokens is None
    state = "answered" if outcome.tokens is not None else "unknown" if lost else "failed"
    probe = _probe_of(key)
    ended = analyses.end_attempt(
        connection,
        probe.account_id,
        probe.request_id,
        probe.number,
        state=state,
        outcome=outcome.code if isinstance(outcome, Failure) else "ok",
        provider_request_id=outcome.request_id,
        now=app.effects.now_ms(),
    )
    if ended and state == "unknown":
        after_commit(connection, app.instruments.unknown_attempts.inc)
    return ended


def _bill(app: App, connection: Connection, key: keys.KeyRecord, outcome: Proof | Failure) -> None:
    """A probe that the provider billed is on the account's ledger."""
    if outcome.tokens is None:
        return
    row = ledger_row(
        app,
        owner_of(app, connection, accounts.find(connection, key.account_id)),
        kind=ledger.PROBE,
        request_id=_probe_of(key).request_id,
        attempt=key.validation_no,
        operation="probe",
        completes=False,
        provider=key.provider,
        model=outcome.model or app.settings.model(Provider(key.provider)),
        credential="byok",
        key_id=key.key_id,
        fallback_reason=None,
        tokens=outcome.tokens,
        provider_request_id=outcome.request_id,
    )
    record(app, connection, row)
