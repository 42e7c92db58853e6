"""The claim, step by step: one commit that checks consent, plan, key, credit and cooldown where the
attempt starts.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from sqlalchemy import Connection

from events import KeyStatus, Operation, Provider, ProviderChoice
from events.accounts import ACCOUNTS_QUEUE
from events.analyses import AnalysisInput
from store import accounts, analyses, budgets, cooldowns, credits, gate, keys, pauses
from store.engine import is_unavailable
from store.vault import StoredKey
from workers.analyses import ending, reuse, rules, spending
from workers.analyses.attempt import Sent, Straight
from workers.analyses.completion import withdraw
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
from workers.app import App
from workers.boundary import persistently
from workers.pacing import Hold, Permit, Result
from workers.pacing.permits import holder_of

ACCOUNT_WAIT_MS = 60 * 1000

SKIPPED_TOGETHER = 50
"""So many requests that wait are ended by one transaction where consent is off. It takes 50 ms,
for which the account's consent waits if it is given again just then."""

HELD_KNOWN_SECONDS = 1.0
"""So long it is believed at most that an account gets no permit, until one of its requests asks."""


@dataclass(frozen=True, slots=True)
class Given:
    """What is to be analysed, and the digest of its content: that takes time, so it is made
    before the claim's transaction.
    """

    input: AnalysisInput = field(repr=False)
    content: bytes

    @classmethod
    def read(cls, operation: Operation, payload: bytes) -> "Given":
        """Read a request's input. Raises `EventRefused`."""
        given = read_input(operation, payload)
        return cls(given, reuse.content_of(given))


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """An attempt that was claimed: what to send, and which secret pays."""

    sent: Sent
    account: accounts.Account
    stored: StoredKey | None
    permit: Permit
    process_id: str
    started_at: int
    seen: Straight | None = None
    """What its result can be written from straight away."""


@dataclass(slots=True)
class Taken:
    """What a claim has taken before its commit."""

    permits: list[Permit] = field(default_factory=list)
    claimed: Claimed | None = None


class _LastCreditTaken(Exception):
    """Another claim was faster: this one is rolled back and looks again."""


class Left(Enum):
    """How a request was left that was not claimed."""

    WAITS = auto()
    """It waits, again or still."""

    DONE = auto()
    """Others have it, or it has ended without a call."""


@contextmanager
def claiming(
    app: App, account: str, *, straight: bool = False
) -> Iterator[tuple[Connection, Taken]]:
    """A transaction of a claim, and where it notes what it takes.

    Where the transaction fails, or may have failed, that is given back. A `straight` one does not
    pass the account's gate here.
    """
    taken = Taken()
    try:
        with (
            app.shares.transaction(account),
            app.database.brief() if straight else app.database.write() as connection,
        ):
            if not straight:
                gate.share(connection, account)
            yield connection, taken
    except BaseException as error:
        for permit in taken.permits:
            app.pacing.leave(permit, Result.UNSENT)
        if taken.claimed is not None and is_unavailable(error):
            _withdraw(app, taken.claimed)
        raise


def _withdraw(app: App, claimed: Claimed) -> None:
    """Undo a claim that may have been committed: else nobody would send or end its attempt."""
    persistently(
        app,
        lambda: withdraw(
            app, claimed.sent, process_id=claimed.process_id, started_at=claimed.started_at
        ),
    )


def looking_again(claim: Callable[[], Claimed | Left]) -> Claimed | Left:
    """Claim, again for as long as others take the last credit that was seen."""
    while True:
        try:
            return claim()
        except _LastCreditTaken:
            continue


def claim(
    app: App,
    connection: Connection,
    account_id: str,
    request_id: str,
    given: Given,
    taken: Taken,
    now: int,
) -> Claimed | Left:
    """Decide what becomes of a waiting request, in the caller's one transaction.

    The account's gate is shared, so nothing that is checked here changes until the commit: the
    order against a removal or a withdrawal of consent is the order of the commits.
    """
    request = analyses.find(connection, account_id, request_id, lock=True)
    if request is None or request.state != analyses.WAITING:
        return Left.DONE
    if now >= request.expires_at:
        ending.fail(app, connection, request, "expired", retryable=True)
        return Left.DONE
    account = accounts.find(connection, account_id)
    # Nothing becomes known of an account while its queue is paused.
    from_then = now if ACCOUNTS_QUEUE in app.pauses.known.queues else request.created_at
    if account is None and now < from_then + ACCOUNT_WAIT_MS:
        due_at = from_then + ACCOUNT_WAIT_MS
        ending.park(app, connection, request, analyses.AWAITING_ACCOUNT, due_at)
        return Left.WAITS
    if account is None or not account.ai_consent:
        # An account that nothing is known of has consent off. What waits beside this one need not
        # be looked at one by one.
        ending.skip(app, connection, request, "consent")
        for other in analyses.lock_waiting(connection, account_id, SKIPPED_TOGETHER):
            ending.skip(app, connection, other, "consent")
        return Left.DONE
    if request.account_revision is None:
        analyses.note_life(connection, request, account.revision)
    if account_id in app.pauses.known.accounts:
        reason = pauses.reason_for(pauses.ACCOUNT, account_id)
        ending.park(app, connection, request, reason, request.expires_at)
        return Left.WAITS
    digest = None
    found = rules.answer(app, account, request.operation, given.input)
    if found is None:
        vault = app.vault.of(connection, account_id, now)
        digest = reuse.digest_of(app, vault, account, request, given.content)
        found = reuse.earlier(app, connection, request, digest)
    if found is not None:
        ending.complete_without_call(app, connection, request, account, found)
        return Left.DONE
    own = keys.active(connection, account_id)
    decision = decide(situation_of(app, request, account, own, now))
    return _act(app, connection, request, account, decision, own, given.input, digest, taken, now)


def _act(
    app: App,
    connection: Connection,
    request: analyses.Request,
    account: accounts.Account,
    decision: Decision,
    own: dict[str, keys.KeyRecord],
    given: AnalysisInput,
    digest: bytes | None,
    taken: Taken,
    now: int,
) -> Claimed | Left:
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
        return Left.WAITS
    own_key = own[provider] if key_id else None
    sent = sent_of(app, request, provider, own_key, fallback, digest)
    permit = permit_for(app, sent, scope)
    if isinstance(permit, Hold):
        _put_off(app, connection, request, permit, now)
        return Left.WAITS
    taken.permits.append(permit)
    budgeted = _within_budget(app, connection, request, account, given, own_key, provider, now)
    if budgeted is None:
        app.pacing.leave(permit, Result.UNSENT)
        return Left.DONE
    period = request.credit_period_at
    reserves = key_id is None and period is None
    if reserves:
        if not credits.any_left(connection, account):
            app.pacing.leave(permit, Result.UNSENT)
            if budgeted:
                budgets.release(connection, request.account_id, request.request_id)
            ending.skip_for_credits(app, connection, request, account)
            return Left.DONE
        period = account.period_start_at
    sent = replace(sent, budgeted=budgeted)
    claimed = _start(app, connection, request, account, sent, period, permit, now)
    if reserves and not credits.reserve(connection, account):
        raise _LastCreditTaken
    taken.claimed = claimed
    return claimed


def sent_of(
    app: App,
    request: analyses.NewRequest | analyses.Request,
    provider: Provider,
    own_key: keys.KeyRecord | None,
    fallback: str | None,
    reuse_digest: bytes | None,
) -> Sent:
    """The next attempt of a request; without an `own_key` the platform pays."""
    operation = Operation(request.operation)
    return Sent(
        account_id=request.account_id,
        request_id=request.request_id,
        operation=operation,
        provider=provider,
        model=request.model_wanted or app.settings.model(provider, operation),
        key_id=own_key.key_id if own_key else None,
        fallback=fallback,
        attempt=request.attempt + 1 if isinstance(request, analyses.Request) else 1,
        # A key of another secret with the same id is another key: its number tells.
        key_revision=own_key.revision if own_key else None,
        key_validation=own_key.validation_no if own_key else None,
        reuse_digest=reuse_digest,
    )


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
) -> Left:
    match decision:
        case Refuse(reason):
            ending.fail(app, connection, request, reason, retryable=True)
            return Left.DONE
        case AwaitVerdict(_, for_ms):
            ending.park(app, connection, request, analyses.AWAITING_VERDICT, now + for_ms)
        case AwaitResumption(provider):
            reason = pauses.reason_for(pauses.PROVIDER, provider)
            ending.park(app, connection, request, reason, request.expires_at)
    return Left.WAITS


def permit_for(app: App, sent: Sent, scope: str) -> Permit | Hold:
    """Ask for a permit for an attempt, of the key that `scope` names."""
    holder = holder_of(sent.account_id, sent.request_id, sent.attempt)
    permit = app.pacing.enter(
        sent.provider.value, scope, holder, account=None if sent.key_id else sent.account_id
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
) -> Claimed:
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
    return Claimed(
        sent=sent,
        account=account,
        stored=stored,
        permit=permit,
        process_id=process_id,
        started_at=now,
    )


def situation_of(
    app: App,
    request: analyses.NewRequest | analyses.Request,
    account: accounts.Account,
    own: Mapping[str, keys.KeyRecord],
    now: int,
) -> Situation:
    """What the table "Which key pays" is asked with."""
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
