"""The life of an analysis in a worker: accept, claim, send, complete.

`requested` and `resume` both end in `_claim`, one commit that checks consent, plan, key, credit
and cooldown where the attempt starts; then the call, with no transaction open; then
`complete` (in `completion.py`), one commit fenced by the attempt's number.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog
from pydantic import SecretStr, ValidationError
from sqlalchemy import Connection

from events import (
    AnalysisRequested,
    CategoryOverride,
    CustomCategory,
    Envelope,
    EventRefused,
    KeyStatus,
    MailInput,
    Operation,
    Provider,
    ProviderChoice,
)
from events.sealing import input_info
from store import accounts, analyses, cooldowns, credits, gate, keys
from store.masterkeys import DoesNotOpen, MasterKeyMissing
from store.vault import StoredKey
from workers.analyses import ending
from workers.analyses.completion import Sent, abandon, complete
from workers.analyses.credential import (
    AwaitVerdict,
    Decision,
    OwnKey,
    Refuse,
    Situation,
    UseOwn,
    UsePlatform,
    decide,
)
from workers.analyses.operations import operation_of
from workers.analyses.prefilter import answer_by_rules
from workers.app import App
from workers.boundary import persistently
from workers.providers.port import Answer, Failure, OutcomeClass

log = structlog.get_logger(__name__)

EXPIRES_AFTER_MS = 24 * 3600 * 1000
ACCOUNT_WAIT_MS = 60 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claimed:
    """An attempt that was claimed: what to send, and which secret pays."""

    sent: Sent
    account: accounts.Account
    stored: StoredKey | None
    timeout: float


def requested(app: App, envelope: Envelope, data: AnalysisRequested) -> None:
    """Accept a request and, where nothing holds it back, run it at once."""
    account, request_id = envelope.subject, data.request_id
    payload = app.settings.sealing_key_ring.open(data.sealed_input, input_info(account, request_id))
    mail = _read_mail(payload)
    now = app.effects.now_ms()
    with app.database.write() as connection:
        gate.share(connection, account)
        # The id and the sealing differ when a request is published again, the content must not.
        content = b"\n".join(
            (data.operation.encode(), data.provider.encode(), (data.model or "").encode(), payload)
        )
        fresh = analyses.NewRequest(
            account_id=account,
            request_id=request_id,
            event_id=envelope.id,
            digest=app.vault.digest(connection, account, content, now),
            operation=data.operation.value,
            provider_wanted=data.provider.value,
            model_wanted=data.model,
            input=app.vault.encrypt(connection, account, _purpose(request_id), payload, now),
            created_at=now,
            expires_at=_millis(data.expires_at) if data.expires_at else now + EXPIRES_AFTER_MS,
        )
        if not analyses.accept(connection, fresh):
            known = analyses.find(connection, account, request_id)
            if known is not None and known.digest != fresh.digest:
                raise EventRefused(
                    "id_conflict",
                    f"The request id {request_id!r} was used before with other content: "
                    "give each request an id of its own.",
                )
            return
        claimed = _claim(app, connection, account, request_id, mail, now)
    if claimed is not None:
        _send(app, claimed, mail)


def resume(app: App, account: str, request_id: str) -> None:
    """Look again at a request that waits. One that does not wait any more is left alone."""
    with app.database.read() as connection:
        request = analyses.find(connection, account, request_id)
        sealed = analyses.sealed_input(connection, account, request_id)
        if request is None or request.state != analyses.WAITING or sealed is None:
            return
        try:
            payload = app.vault.decrypt(connection, account, _purpose(request_id), sealed)
        except DoesNotOpen:
            payload = None
    mail = None if payload is None else _read_mail(payload)
    with app.database.write() as connection:
        gate.share(connection, account)
        if mail is None:
            _end_unreadable(app, connection, account, request_id)
            return
        claimed = _claim(app, connection, account, request_id, mail, app.effects.now_ms())
    if claimed is not None:
        _send(app, claimed, mail)


def _end_unreadable(app: App, connection: Connection, account: str, request_id: str) -> None:
    """End a request whose input does not open: its account's data key is gone."""
    app.instruments.vault_failures.labels(DoesNotOpen.__name__).inc()
    request = analyses.find(connection, account, request_id, lock=True)
    if request is not None and request.state == analyses.WAITING:
        ending.fail(app, connection, request, "input_unreadable", retryable=True)


def _claim(
    app: App, connection: Connection, account_id: str, request_id: str, mail: MailInput, now: int
) -> _Claimed | None:
    """Decide what becomes of a waiting request, in the caller's one transaction.

    The account's gate is shared, so nothing that is checked here changes until the commit: the
    order against a removal or a withdrawal of consent is the order of the commits.
    """
    request = analyses.find(connection, account_id, request_id, lock=True)
    if request is None or request.state != analyses.WAITING:
        return None
    if now >= request.expires_at:
        ending.fail(app, connection, request, "expired", retryable=True)
        return None
    account = accounts.find(connection, account_id)
    if account is None and now < request.created_at + ACCOUNT_WAIT_MS:
        ending.park(
            app,
            connection,
            request,
            analyses.AWAITING_ACCOUNT,
            request.created_at + ACCOUNT_WAIT_MS,
        )
        return None
    if account is None or not account.ai_consent:
        # An account that nothing is known of has consent off.
        ending.skip(app, connection, request, "consent")
        return None
    signals = answer_by_rules(mail) if request.operation == Operation.CLASSIFY else None
    if signals is not None:
        ending.complete_by_rules(app, connection, request, account, signals)
        return None
    own = keys.active(connection, account_id)
    decision = decide(_situation(app, request, account, own, now))
    return _act(app, connection, request, account, decision, own, now)


def _act(
    app: App,
    connection: Connection,
    request: analyses.Request,
    account: accounts.Account,
    decision: Decision,
    own: dict[str, keys.KeyRecord],
    now: int,
) -> _Claimed | None:
    key_id: str | None
    match decision:
        case Refuse(reason):
            ending.fail(app, connection, request, reason, retryable=True)
            return None
        case AwaitVerdict(_, for_ms):
            ending.park(app, connection, request, analyses.AWAITING_VERDICT, now + for_ms)
            return None
        case UseOwn(provider, key_id):
            scope, fallback = cooldowns.key_scope(key_id), None
        case UsePlatform(provider, fallback):
            scope, key_id = cooldowns.platform_scope(provider), None
    held_back = cooldowns.active(connection, [scope], now).get(scope)
    if held_back is not None:
        # Spread over two seconds more, so that what waited together does not return together.
        ending.park(
            app, connection, request, "rate_limited", held_back + int(2000 * app.effects.jitter())
        )
        return None
    period = request.credit_period_at
    if key_id is None and period is None:
        if not credits.reserve(connection, account):
            ending.skip_for_credits(app, connection, request, account)
            return None
        period = account.period_start_at
    return _start(
        app,
        connection,
        request,
        account,
        Sent(
            account_id=request.account_id,
            request_id=request.request_id,
            operation=Operation(request.operation),
            provider=provider,
            model=request.model_wanted or app.settings.model(provider),
            key_id=key_id,
            fallback=fallback,
            attempt=request.attempt + 1,
            # A key of another secret with the same id is another key: its number tells.
            key_revision=own[provider].revision if key_id else None,
        ),
        period,
        now,
    )


def _start(
    app: App,
    connection: Connection,
    request: analyses.Request,
    account: accounts.Account,
    sent: Sent,
    period: int | None,
    now: int,
) -> _Claimed:
    operation = operation_of(sent.operation)
    analyses.claim(
        connection,
        request,
        process_id=app.lease.holder(connection),
        provider=sent.provider.value,
        model=sent.model,
        credential=sent.credential,
        key_id=sent.key_id,
        fallback_reason=sent.fallback,
        credit_period_at=period,
        prompt_version=operation.prompt_version,
        now=now,
    )
    stored = keys.stored_key(connection, sent.key_id) if sent.key_id else None
    return _Claimed(sent=sent, account=account, stored=stored, timeout=operation.timeout)


def _send(app: App, claimed: _Claimed, mail: MailInput) -> None:
    """Call the provider, with no transaction open, and complete the attempt, come what may."""
    sent = claimed.sent
    started = app.effects.monotonic()
    try:
        outcome = _ask(app, claimed, mail)
    except Exception as error:  # noqa: BLE001 -- the attempt is on the books and must be ended
        log.error("analysis_failed", error=type(error).__name__, request_id=sent.request_id)
        outcome = _not_sent(OutcomeClass.BAD_REQUEST, "internal_error")
    seconds = app.effects.monotonic() - started
    try:
        persistently(app, lambda: complete(app, sent, outcome, seconds))
    except EventRefused:
        # What came back cannot be written down. The attempt is given up, so that the request ends.
        persistently(app, lambda: abandon(app, sent))


def _ask(app: App, claimed: _Claimed, mail: MailInput) -> Answer | Failure:
    sent = claimed.sent
    secret = _secret(app, claimed)
    if isinstance(secret, Failure):
        return secret
    question = operation_of(sent.operation).question(
        mail,
        model=sent.model,
        categories=[CustomCategory.model_validate(c) for c in claimed.account.custom_categories],
        overrides=[CategoryOverride.model_validate(o) for o in claimed.account.category_overrides],
    )
    return app.calls.run(app.providers[sent.provider].ask(secret, question))


def _secret(app: App, claimed: _Claimed) -> SecretStr | Failure:
    """The key that pays, or what stands for a call that could not be made for want of it."""
    sent = claimed.sent
    if sent.key_id is None:
        platform = app.settings.platform_key(sent.provider)
        return platform or _not_sent(OutcomeClass.BAD_REQUEST, "platform_unavailable")
    if claimed.stored is None:
        return _not_sent(OutcomeClass.BAD_REQUEST, "key_unreadable")
    try:
        return SecretStr(
            app.vault.open_key(
                claimed.stored,
                account=sent.account_id,
                provider=sent.provider,
                key_id=sent.key_id,
            )
        )
    except (DoesNotOpen, MasterKeyMissing) as error:
        app.instruments.vault_failures.labels(type(error).__name__).inc()
        log.error("key_does_not_open", key_id=sent.key_id, reason=type(error).__name__)
        if isinstance(error, MasterKeyMissing):
            # The operator's mistake, and mended without the user: the request waits.
            return _not_sent(OutcomeClass.UNAVAILABLE, "master_key_missing")
        return _not_sent(OutcomeClass.BAD_REQUEST, "key_unreadable")


def _not_sent(kind: OutcomeClass, code: str) -> Failure:
    return Failure(kind=kind, code=code, sent=False)


def _situation(
    app: App,
    request: analyses.Request,
    account: accounts.Account,
    own: dict[str, keys.KeyRecord],
    now: int,
) -> Situation:
    return Situation(
        choice=ProviderChoice(request.provider_wanted),
        plan_includes_byok=app.includes_byok(account.plan, account.plan_status),
        own={
            Provider(provider): OwnKey(
                key_id=key.key_id,
                status=KeyStatus(key.status),
                reason=key.reason,
                in_doubt_ms=None if key.suspect_at is None else now - key.suspect_at,
                allow_platform_fallback=key.allow_platform_fallback,
            )
            for provider, key in own.items()
        },
        platform=[
            provider
            for provider in app.settings.platform_order
            if app.settings.platform_key(provider) is not None
        ],
        waited_ms=now - request.created_at,
    )


def _read_mail(payload: bytes) -> MailInput:
    try:
        return MailInput.model_validate_json(payload)
    except ValidationError:
        raise EventRefused(
            "invalid_input",
            "The sealed input is not a mail: send the fields subject, from, to, cc, date, text, "
            "html and headers, as the event reference has them.",
        ) from None


def _purpose(request_id: str) -> str:
    return f"input:{request_id}"


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
