"""Validating a key: asking the provider, and what its answer makes of the key.

A verdict is fenced by the validation's number: one that comes after the key was replaced,
removed or validated anew changes nothing.
"""

import structlog
from pydantic import SecretStr
from sqlalchemy import Connection

from events import KeyStatus, Provider
from store import accounts, analyses, gate, keys, ledger
from store.masterkeys import DoesNotOpen, MasterKeyMissing
from workers.app import App
from workers.billing import ledger_row, record
from workers.boundary import persistently
from workers.keychanges import announce, cause_of
from workers.providers.port import Failure, OutcomeClass, Proof
from workers.providers.verdict import judge_outcome

log = structlog.get_logger(__name__)

VALIDATIONS_QUEUE = "validations"
VALIDATE_ACTOR = "validate_key"

NO_QUOTA = "no_quota"
FIRST_RETRY_SECONDS = 2
LONGEST_RETRY_SECONDS = 15 * 60
INVALID_RECHECK_FACTOR = 4
"""A key that stays Invalid is looked at less often: after this many periods at most."""


def validate(app: App, key_id: str) -> None:
    """Ask the provider about a key and write the verdict."""
    now = app.effects.now_ms()
    with app.database.write() as connection:
        key = keys.begin_validation(connection, key_id, now)
        stored = keys.stored_key(connection, key_id) if key else None
    if key is None or stored is None:
        return
    provider = Provider(key.provider)
    try:
        secret = SecretStr(
            app.vault.open_key(
                stored, account=key.account_id, provider=key.provider, key_id=key.key_id
            )
        )
    except (DoesNotOpen, MasterKeyMissing) as error:
        reason = type(error).__name__
        app.instruments.vault_failures.labels(reason).inc()
        log.error("key_does_not_open", key_id=key_id, reason=reason)
        return
    outcome = app.calls.run(
        app.providers[provider].probe(
            secret,
            model=app.settings.model(provider),
            # What stage 1 says of a key without quota is that it is fine.
            prove_quota=key.reason == NO_QUOTA,
        )
    )
    kind = outcome.kind if isinstance(outcome, Failure) else OutcomeClass.OK
    app.instruments.validations.labels(key.provider, kind.value).inc()
    # What was asked is not asked again because the database is away for a moment.
    persistently(app, lambda: _conclude(app, key, outcome))


def _conclude(app: App, key: keys.KeyRecord, outcome: Proof | Failure) -> None:
    with app.database.write() as connection:
        gate.alone(connection, key.account_id)
        _bill(app, connection, key, outcome)
        current = keys.find(connection, key.key_id)
        if current is None or current.validation_no != key.validation_no:
            log.info("late_verdict_ignored", key_id=key.key_id)
            return
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
        validate_at=_next_look(app, key, verdict.status, verdict.reason, outcome, told=told),
        succeeded=kind is OutcomeClass.OK,
        told=told,
        cause=cause_of(app, "validated"),
    )
    announce(app, connection, change)
    if told:
        analyses.wake(connection, key.account_id, analyses.KEY_WAITS, app.effects.now_ms())


def _next_look(
    app: App,
    key: keys.KeyRecord,
    status: KeyStatus,
    reason: str,
    outcome: Proof | Failure,
    *,
    told: bool,
) -> int:
    """When the key is to be validated next, in Unix ms."""
    period = app.settings.revalidate_hours * 3600
    if not told or status is KeyStatus.PENDING:
        wait = min(
            FIRST_RETRY_SECONDS * 2.0 ** min(key.validation_failures, 16), LONGEST_RETRY_SECONDS
        )
        if isinstance(outcome, Failure) and outcome.retry_after is not None:
            wait = max(wait, outcome.retry_after)
    elif reason == NO_QUOTA:
        wait = keys.QUOTA_PROBE_SECONDS
    elif status is KeyStatus.INVALID:
        wait = period * min(1 + key.validation_failures, INVALID_RECHECK_FACTOR)
    else:
        wait = period
    # Spread over a tenth, so that keys that came together do not come back together.
    return app.effects.now_ms() + int(wait * 1000 * (1 + 0.1 * app.effects.jitter()))


def _bill(app: App, connection: Connection, key: keys.KeyRecord, outcome: Proof | Failure) -> None:
    """A probe that the provider billed is on the account's ledger."""
    if outcome.tokens is None:
        return
    row = ledger_row(
        app,
        connection,
        account=accounts.find(connection, key.account_id),
        account_id=key.account_id,
        kind=ledger.PROBE,
        request_id=f"probe:{key.key_id}:{key.validation_no}",
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
