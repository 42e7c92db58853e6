"""The life of an analysis in a worker: accept, claim, send, complete.

`requested` and `resume` both end in `_claim`, one commit that checks consent, plan, key, credit
and cooldown where the attempt starts; then the call, with no transaction open; then
`complete` (in `completion.py`), one commit fenced by the attempt's number.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

import structlog
from pydantic import SecretStr
from sqlalchemy import Connection

from events import (
    AnalysisRequested,
    Envelope,
    EventRefused,
    KeyStatus,
    MailInput,
    Operation,
    Provider,
    ProviderChoice,
    ProviderHealthChanged,
)
from events.accounts import ACCOUNTS_QUEUE
from events.analyses import ANALYSES_QUEUE, AnalysisInput
from events.sealing import input_info
from store import accounts, analyses, budgets, cooldowns, credits, gate, keys, pauses
from store.engine import is_unavailable
from store.masterkeys import DoesNotOpen, MasterKeyMissing, MasterKeyUnavailable
from store.vault import AccountVault, StoredKey
from workers.analyses import ending, reuse, spending, turns
from workers.analyses.categories import vocabulary_parts
from workers.analyses.completion import KEY_UNREADABLE, Sent, abandon, complete, withdraw
from workers.analyses.credential import (
    AwaitResumption,
    AwaitVerdict,
    Decision,
    OwnKey,
    Refuse,
    Situation,
    UseOwn,
    UsePlatform,
    choice_of,
    decide,
)
from workers.analyses.inputs import read_input
from workers.analyses.operations import operation_of
from workers.analyses.prefilter import answer_by_rules, stands
from workers.analyses.retry import MASTER_KEY_UNAVAILABLE
from workers.app import App
from workers.boundary import persistently
from workers.effects import moment
from workers.pacing import Hold, Permit, Result
from workers.pacing.permits import Turn, holder_of, result_of
from workers.providers.port import Answer, Failure, OutcomeClass, Question
from workers.tracing import Kind

log = structlog.get_logger(__name__)

EXPIRES_AFTER_MS = 24 * 3600 * 1000
ACCOUNT_WAIT_MS = 60 * 1000

SKIPPED_TOGETHER = 50
"""So many requests that wait are ended by one transaction where consent is off. It takes 50 ms,
for which the account's consent waits if it is given again just then."""

HELD_KNOWN_SECONDS = 1.0
"""So long it is believed at most that an account gets no permit, until one of its requests asks."""


@dataclass(frozen=True, slots=True)
class _Given:
    """What is to be analysed, and the digest of its content: that takes time, so it is made
    before the claim's transaction.
    """

    input: AnalysisInput = field(repr=False)
    content: bytes

    @classmethod
    def read(cls, operation: Operation, payload: bytes) -> "_Given":
        given = read_input(operation, payload)
        return cls(given, reuse.content_of(given))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claimed:
    """An attempt that was claimed: what to send, and which secret pays."""

    sent: Sent
    account: accounts.Account
    stored: StoredKey | None
    permit: Permit
    process_id: str
    started_at: int


@dataclass(slots=True)
class _Taken:
    """What a claim has taken before its commit."""

    permits: list[Permit] = field(default_factory=list)
    claimed: _Claimed | None = None


class _LastCreditTaken(Exception):
    """Another claim was faster: this one is rolled back and looks again."""


class _Left(Enum):
    """How a request was left that was not claimed."""

    WAITS = auto()
    """It waits, again or still."""

    DONE = auto()
    """Others have it, or it has ended without a call."""


def requested(app: App, envelope: Envelope, data: AnalysisRequested) -> None:
    """Accept a request and, where nothing holds it back, run it at once."""
    account, request_id = envelope.subject, data.request_id
    payload = open_input(app, account, data)
    given = _Given.read(data.operation, payload)
    with turns.place(app, account) as placed:
        claimed = _looking_again(
            lambda: _accept(app, envelope, data, payload, given, placed=placed)
        )
        if isinstance(claimed, _Claimed):
            _send(app, claimed, given.input)
    if isinstance(claimed, _Claimed):
        _run_held(app, account)
    elif not placed and app.shares.has_room(account):
        # The last one under way has ended meanwhile, and may not have seen this one.
        turns.wake(app, account, request_id)


def open_input(app: App, account: str, data: AnalysisRequested) -> bytes:
    """Open the seal of a request's input. Raises `EventRefused`."""
    info = input_info(account, data.request_id)
    return app.settings.sealing_key_ring.open(data.sealed_input, info)


def new_request(
    app: App, vault: AccountVault, envelope: Envelope, data: AnalysisRequested, payload: bytes
) -> analyses.NewRequest:
    """A request as it is first written, with its input under the vault."""
    now = app.effects.now_ms()
    # The id and the sealing differ when a request is published again, the content must not.
    content = b"\n".join(
        (data.operation.encode(), data.provider.encode(), (data.model or "").encode(), payload)
    )
    return analyses.NewRequest(
        account_id=envelope.subject,
        request_id=data.request_id,
        event_id=envelope.id,
        digest=vault.digest(content),
        operation=data.operation.value,
        provider_wanted=data.provider.value,
        model_wanted=data.model,
        input=vault.encrypt(analyses.input_purpose(data.request_id), payload),
        created_at=now,
        traceparent=app.tracer.traceparent() or envelope.traceparent,
        expires_at=_millis(data.expires_at) if data.expires_at else now + EXPIRES_AFTER_MS,
    )


def _accept(
    app: App,
    envelope: Envelope,
    data: AnalysisRequested,
    payload: bytes,
    given: _Given,
    *,
    placed: bool,
) -> _Claimed | _Left:
    account, request_id = envelope.subject, data.request_id
    now = app.effects.now_ms()
    with _claiming(app, account) as (connection, taken):
        fresh = new_request(app, app.vault.of(connection, account, now), envelope, data, payload)
        if not analyses.accept(connection, fresh):
            known = analyses.find(connection, account, request_id)
            # What is kept of a life that began before its account's deletion was known has none.
            if known is not None and known.digest and known.digest != fresh.digest:
                raise EventRefused(
                    "id_conflict",
                    f"The request id {request_id!r} was used before with other content: "
                    "give each request an id of its own.",
                )
            return _Left.DONE
        if not placed:
            _hold(app, connection, account, request_id, now)
            return _Left.WAITS
        return _claim(app, connection, account, request_id, given, taken, now)


def resume(app: App, account: str, request_id: str) -> None:
    """Look again at a request that waits. One that does not wait any more is left alone."""
    with turns.place(app, account) as placed:
        left = _resume(app, account, request_id) if placed else _Left.WAITS
    if placed and left is _Left.DONE:
        _run_held(app, account)
    elif not placed:
        _keep_held(app, account, request_id)


def _run_held(app: App, account: str) -> None:
    """Run what waits for room, now that there may be some.

    The place was given back before: so what is put off by another thread from here on is either
    seen here or waked by that thread.
    """
    while not (app.stopping.is_set() or ANALYSES_QUEUE in app.pauses.known.queues):
        with turns.next_in_turn(app, account) as request_id:
            if request_id is None:
                return
            with turns.place(app, account) as placed:
                if not placed or _resume(app, account, request_id) is _Left.WAITS:
                    return
    # This process stops, or the queue is paused: another goes on from here.
    turns.wake_another(app, account)


def _keep_held(app: App, account: str, request_id: str) -> None:
    """Have a request that was due wait for its account's turn, where it does not yet."""
    with app.database.read() as connection:
        request = analyses.find(connection, account, request_id)
    if request is None or request.reason in analyses.TURN_WAITS:
        return
    with app.shares.transaction(account), app.database.write() as connection:
        gate.share(connection, account)
        _hold(app, connection, account, request_id, app.effects.now_ms())


@contextmanager
def _claiming(app: App, account: str) -> Iterator[tuple[Connection, _Taken]]:
    """A transaction of a claim, and where it notes what it takes.

    Where the transaction fails, or may have failed, that is given back.
    """
    taken = _Taken()
    try:
        with (
            app.tracer.span("claim"),
            app.shares.transaction(account),
            app.database.write() as connection,
        ):
            gate.share(connection, account)
            yield connection, taken
    except BaseException as error:
        for permit in taken.permits:
            app.pacing.leave(permit, Result.UNSENT)
        if taken.claimed is not None and is_unavailable(error):
            _withdraw(app, taken.claimed)
        raise


def _withdraw(app: App, claimed: _Claimed) -> None:
    """Undo a claim that may have been committed: else nobody would send or end its attempt."""
    persistently(
        app,
        lambda: withdraw(
            app, claimed.sent, process_id=claimed.process_id, started_at=claimed.started_at
        ),
    )


def _hold(app: App, connection: Connection, account: str, request_id: str, now: int) -> None:
    request = analyses.find(connection, account, request_id, lock=True)
    if request is not None and request.state == analyses.WAITING:
        turns.hold(app, connection, request, now)


def _resume(app: App, account: str, request_id: str) -> _Left:
    """Look again at a request, in a place of its account, and run it where nothing holds it back.

    `DONE` is also where it was run here.
    """
    with app.database.read() as connection:
        request = analyses.find(connection, account, request_id)
        sealed = analyses.sealed_input(connection, account, request_id)
        if request is None or request.state != analyses.WAITING or sealed is None:
            return _Left.DONE
        try:
            payload = app.vault.decrypt(
                connection, account, analyses.input_purpose(request_id), sealed
            )
        except DoesNotOpen:
            payload = None
    given = None if payload is None else _Given.read(Operation(request.operation), payload)

    def claim() -> _Claimed | _Left:
        with _claiming(app, account) as (connection, taken):
            if given is None:
                _end_unreadable(app, connection, account, request_id, sealed)
                return _Left.DONE
            now = app.effects.now_ms()
            return _claim(app, connection, account, request_id, given, taken, now)

    with _followed(app, request):
        claimed = _looking_again(claim)
        if isinstance(claimed, _Left):
            return claimed
        if claimed.permit.room:
            turns.wake_another(app, account)
        assert given is not None  # noqa: S101 -- what does not open is not claimed
        _send(app, claimed, given.input)
    return _Left.DONE


@contextmanager
def _followed(app: App, request: analyses.Request) -> Iterator[None]:
    """Name the request in each line of the log, and go on with its own trace."""
    ids = {
        "event_id": request.event_id,
        "account": request.account_id,
        "request_id": request.request_id,
    }
    told = app.tracer.caused_by(request.traceparent, "resume analysis", **ids)
    with structlog.contextvars.bound_contextvars(**ids), told:
        yield


def _looking_again(claim: Callable[[], _Claimed | _Left]) -> _Claimed | _Left:
    """Claim, again for as long as others take the last credit that was seen."""
    while True:
        try:
            return claim()
        except _LastCreditTaken:
            continue


def _end_unreadable(
    app: App, connection: Connection, account: str, request_id: str, sealed: bytes
) -> None:
    """End a request whose input does not open: its account's data key is gone."""
    if analyses.sealed_input(connection, account, request_id) != sealed:
        # It was put under another data key meanwhile.
        return
    app.instruments.vault_failures.labels(DoesNotOpen.__name__).inc()
    request = analyses.find(connection, account, request_id, lock=True)
    if request is not None and request.state == analyses.WAITING:
        ending.fail(app, connection, request, "input_unreadable", retryable=True)


def _claim(
    app: App,
    connection: Connection,
    account_id: str,
    request_id: str,
    given: _Given,
    taken: _Taken,
    now: int,
) -> _Claimed | _Left:
    """Decide what becomes of a waiting request, in the caller's one transaction.

    The account's gate is shared, so nothing that is checked here changes until the commit: the
    order against a removal or a withdrawal of consent is the order of the commits.
    """
    request = analyses.find(connection, account_id, request_id, lock=True)
    if request is None or request.state != analyses.WAITING:
        return _Left.DONE
    if now >= request.expires_at:
        ending.fail(app, connection, request, "expired", retryable=True)
        return _Left.DONE
    account = accounts.find(connection, account_id)
    # Nothing becomes known of an account while its queue is paused.
    from_then = now if ACCOUNTS_QUEUE in app.pauses.known.queues else request.created_at
    if account is None and now < from_then + ACCOUNT_WAIT_MS:
        due_at = from_then + ACCOUNT_WAIT_MS
        ending.park(app, connection, request, analyses.AWAITING_ACCOUNT, due_at)
        return _Left.WAITS
    if account is None or not account.ai_consent:
        # An account that nothing is known of has consent off. What waits beside this one need not
        # be looked at one by one.
        ending.skip(app, connection, request, "consent")
        for other in analyses.lock_waiting(connection, account_id, SKIPPED_TOGETHER):
            ending.skip(app, connection, other, "consent")
        return _Left.DONE
    if request.account_revision is None:
        analyses.note_life(connection, request, account.revision)
    if account_id in app.pauses.known.accounts:
        reason = pauses.reason_for(pauses.ACCOUNT, account_id)
        ending.park(app, connection, request, reason, request.expires_at)
        return _Left.WAITS
    digest = None
    found = _by_rules(app, request, account, given.input)
    if found is None:
        digest = reuse.digest_of(app, connection, account, request, given.content)
        found = reuse.earlier(app, connection, request, digest)
    if found is not None:
        ending.complete_without_call(app, connection, request, account, found)
        return _Left.DONE
    own = keys.active(connection, account_id)
    decision = decide(_situation(app, request, account, own, now))
    return _act(app, connection, request, account, decision, own, given.input, digest, taken, now)


def _by_rules(
    app: App, request: analyses.Request, account: accounts.Account, given: AnalysisInput
) -> ending.Found | None:
    if request.operation != Operation.CLASSIFY or not isinstance(given, MailInput):
        return None
    signals = answer_by_rules(given)
    if signals is None or not stands(signals, *vocabulary_parts(app, account)):
        return None
    return ending.Found(signals=signals.signals())


def _act(
    app: App,
    connection: Connection,
    request: analyses.Request,
    account: accounts.Account,
    decision: Decision,
    own: dict[str, keys.KeyRecord],
    given: AnalysisInput,
    digest: bytes | None,
    taken: _Taken,
    now: int,
) -> _Claimed | _Left:
    key_id: str | None
    match decision:
        case Refuse() | AwaitVerdict() | AwaitResumption():
            return _call_nobody(app, connection, request, decision, now)
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
        return _Left.WAITS
    permit = _permit(app, request, provider, scope)
    if isinstance(permit, Hold):
        _put_off(app, connection, request, permit, now)
        return _Left.WAITS
    taken.permits.append(permit)
    own_key = own[provider] if key_id else None
    budgeted = _within_budget(app, connection, request, account, given, own_key, provider, now)
    if budgeted is None:
        app.pacing.leave(permit, Result.UNSENT)
        return _Left.DONE
    period = request.credit_period_at
    reserves = key_id is None and period is None
    if reserves:
        if not credits.any_left(connection, account):
            app.pacing.leave(permit, Result.UNSENT)
            if budgeted:
                budgets.release(connection, request.account_id, request.request_id)
            ending.skip_for_credits(app, connection, request, account)
            return _Left.DONE
        period = account.period_start_at
    claimed = _start(
        app,
        connection,
        request,
        account,
        Sent(
            account_id=request.account_id,
            request_id=request.request_id,
            operation=Operation(request.operation),
            provider=provider,
            model=request.model_wanted
            or app.settings.model(provider, Operation(request.operation)),
            key_id=key_id,
            fallback=fallback,
            attempt=request.attempt + 1,
            # A key of another secret with the same id is another key: its number tells.
            key_revision=own_key.revision if own_key else None,
            key_validation=own_key.validation_no if own_key else None,
            budgeted=budgeted,
            reuse_digest=digest,
        ),
        period,
        permit,
        now,
    )
    if reserves and not credits.reserve(connection, account):
        raise _LastCreditTaken
    taken.claimed = claimed
    return claimed


def _within_budget(
    app: App,
    connection: Connection,
    request: analyses.Request,
    account: accounts.Account,
    given: AnalysisInput,
    own_key: keys.KeyRecord | None,
    provider: Provider,
    now: int,
) -> bool | None:
    """Reserve what the call may cost; whether there is a budget, `None` where it is used up."""
    wanted = spending.budgets_for(app, connection, account, own_key, now)
    if not wanted:
        return False
    short = spending.reserve(app, connection, request, account, given, wanted, provider, now)
    if short is None:
        return True
    ending.skip_for_budget(app, connection, request, short)
    return None


def _call_nobody(
    app: App,
    connection: Connection,
    request: analyses.Request,
    decision: Refuse | AwaitVerdict | AwaitResumption,
    now: int,
) -> _Left:
    match decision:
        case Refuse(reason):
            ending.fail(app, connection, request, reason, retryable=True)
            return _Left.DONE
        case AwaitVerdict(_, for_ms):
            ending.park(app, connection, request, analyses.AWAITING_VERDICT, now + for_ms)
        case AwaitResumption(provider):
            reason = pauses.reason_for(pauses.PROVIDER, provider)
            ending.park(app, connection, request, reason, request.expires_at)
    return _Left.WAITS


def _permit(app: App, request: analyses.Request, provider: Provider, scope: str) -> Permit | Hold:
    holder = holder_of(request.account_id, request.request_id, request.attempt + 1)
    shared = scope == cooldowns.platform_scope(provider)
    permit = app.pacing.enter(
        provider.value, scope, holder, account=request.account_id if shared else None
    )
    if isinstance(permit, Permit) and not permit.paced:
        app.instruments.unpaced.inc()
    return permit


def _put_off(
    app: App, connection: Connection, request: analyses.Request, hold: Hold, now: int
) -> None:
    """Park a request that gets no permit; what comes with it is not tried for a while."""
    app.shares.hold(request.account_id, min(hold.seconds, HELD_KNOWN_SECONDS))
    due_at = now + int(1000 * hold.seconds * (1 + app.effects.jitter() / 2))
    ending.park(app, connection, request, hold.reason, due_at)


def _start(
    app: App,
    connection: Connection,
    request: analyses.Request,
    account: accounts.Account,
    sent: Sent,
    period: int | None,
    permit: Permit,
    now: int,
) -> _Claimed:
    operation = operation_of(sent.operation)
    process_id = app.lease.holder(connection)
    analyses.claim(
        connection,
        request,
        process_id=process_id,
        provider=sent.provider.value,
        model=sent.model,
        credential=sent.credential,
        key_id=sent.key_id,
        fallback_reason=sent.fallback,
        credit_period_at=period,
        budget_held=sent.budgeted,
        prompt_version=operation.prompt_version,
        now=now,
    )
    stored = keys.stored_key(connection, sent.key_id) if sent.key_id else None
    return _Claimed(
        sent=sent,
        account=account,
        stored=stored,
        permit=permit,
        process_id=process_id,
        started_at=now,
    )


def _send(app: App, claimed: _Claimed, given: AnalysisInput) -> None:
    """Call the provider, with no transaction open, and complete the attempt, come what may."""
    with structlog.contextvars.bound_contextvars(attempt=claimed.sent.attempt):
        _send_attempt(app, claimed, given)


def _send_attempt(app: App, claimed: _Claimed, given: AnalysisInput) -> None:
    sent = claimed.sent
    started = app.effects.monotonic()
    question: Question | None = None
    outcome: Answer | Failure
    try:
        question = spending.question_of(app, sent.operation, given, claimed.account, sent.model)
        outcome = _traced_ask(app, claimed, question)
    except Exception as error:  # noqa: BLE001 -- the attempt is on the books and must be ended
        log.error("analysis_failed", error=type(error).__name__, request_id=sent.request_id)
        outcome = _not_sent(OutcomeClass.BAD_REQUEST, "internal_error")
    seconds = app.effects.monotonic() - started
    _learn(app, claimed.permit, outcome)
    try:
        with app.tracer.span("complete"):
            persistently(app, lambda: complete(app, sent, question, outcome, seconds))
    except EventRefused:
        # What came back cannot be written down. The attempt is given up, so that the request ends.
        persistently(app, lambda: abandon(app, sent))


def _traced_ask(app: App, claimed: _Claimed, question: Question) -> Answer | Failure:
    sent = claimed.sent
    with app.tracer.span(
        f"call {sent.provider.value}",
        Kind.CALL,
        provider=sent.provider.value,
        model=sent.model,
        credential=sent.credential,
        attempt=sent.attempt,
    ) as span:
        outcome = _ask(app, claimed, question)
        tokens = outcome.tokens
        span.tell(
            provider_request_id=outcome.request_id,
            input_tokens=tokens.input if tokens else None,
            output_tokens=tokens.output if tokens else None,
        )
        if isinstance(outcome, Failure):
            span.failed(outcome.code)
    return outcome


def _learn(app: App, permit: Permit, outcome: Answer | Failure) -> None:
    """Give the permit back with what the call told, and tell of a breaker that it turned."""
    turn = app.pacing.leave(permit, *result_of(outcome))
    if turn is None:
        return
    app.instruments.breaker_turns.labels(permit.provider, turn.value).inc()
    told = ProviderHealthChanged(
        provider=Provider(permit.provider),
        healthy=turn is Turn.CLOSED,
        since=moment(app.effects),
        reason="answers again" if turn is Turn.CLOSED else "calls fail",
    )

    def tell() -> None:
        with app.database.write() as connection:
            app.emit(connection, told, account=spending.ABOUT_ALL)

    persistently(app, tell)
    log.warning("provider_health_changed", provider=permit.provider, turn=turn.value)


def _ask(app: App, claimed: _Claimed, question: Question) -> Answer | Failure:
    secret = _secret(app, claimed)
    if isinstance(secret, Failure):
        return secret
    return app.calls.run(app.providers[claimed.sent.provider].ask(secret, question))


def _secret(app: App, claimed: _Claimed) -> SecretStr | Failure:
    """The key that pays, or what stands for a call that could not be made for want of it."""
    sent = claimed.sent
    if sent.key_id is None:
        platform = app.settings.platform_key(sent.provider)
        return platform or _not_sent(OutcomeClass.BAD_REQUEST, "platform_unavailable")
    if claimed.stored is None:
        return _not_sent(OutcomeClass.BAD_REQUEST, KEY_UNREADABLE)
    try:
        return SecretStr(
            app.vault.open_key(
                claimed.stored,
                account=sent.account_id,
                provider=sent.provider,
                key_id=sent.key_id,
            )
        )
    except (DoesNotOpen, MasterKeyMissing, MasterKeyUnavailable) as error:
        app.instruments.vault_failures.labels(type(error).__name__).inc()
        log.error("key_does_not_open", key_id=sent.key_id, reason=type(error).__name__)
        if not isinstance(error, DoesNotOpen):
            # The operator's mistake or an outage, and mended without the user: the request waits.
            return _not_sent(OutcomeClass.UNAVAILABLE, MASTER_KEY_UNAVAILABLE)
        return _not_sent(OutcomeClass.BAD_REQUEST, KEY_UNREADABLE)


def _not_sent(kind: OutcomeClass, code: str) -> Failure:
    return Failure(kind=kind, code=code, sent=False)


def _situation(
    app: App,
    request: analyses.Request,
    account: accounts.Account,
    own: dict[str, keys.KeyRecord],
    now: int,
) -> Situation:
    paused = app.pauses.known
    return Situation(
        choice=choice_of(ProviderChoice(request.provider_wanted), request.model_wanted),
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
        out={Provider(name) for name in app.pacing.out()},
        paused={Provider(name) for name in paused.providers},
        resumed_ms={Provider(name): now - at for name, at in paused.resumed_at.items()},
    )


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
