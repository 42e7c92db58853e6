"""The straight way into a call: an attempt that nothing holds back is started by one statement.

It is decided by the same rules as step by step (`claim.py`). Whatever is met beside a call that is
to be made now is left to that, with nothing written.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from events import Provider
from store import analyses, calls, cooldowns
from store.analyses import NewRequest, Request
from store.vault import AccountVault
from workers.analyses import reuse, rules
from workers.analyses.attempt import Straight
from workers.analyses.claim import (
    Claimed,
    Given,
    Taken,
    claiming,
    permit_for,
    sent_of,
    situation_of,
)
from workers.analyses.credential import UseOwn, UsePlatform, decide
from workers.analyses.operations import operation_of
from workers.app import App
from workers.billing import Owner
from workers.pacing import Hold, Result


@dataclass(frozen=True, slots=True)
class _Payer:
    """Whose key pays; `own` is `None` where it is the platform's."""

    provider: Provider
    own: calls.Own | None
    fallback: str | None

    @property
    def scope(self) -> str:
        """What its cooldowns and permits are known by."""
        if self.own is None:
            return cooldowns.platform_scope(self.provider)
        return cooldowns.key_scope(self.own.record.key_id)


def start_fresh(
    app: App, account: str, given: Given, make: Callable[[AccountVault], NewRequest]
) -> Claimed | None:
    """Accept a request and start its first attempt; `None` where nothing was written.

    `make` gives the request as it is written, with its account's data key in hand.
    """
    with claiming(app, account, straight=True) as (connection, taken):
        scene = calls.scene(connection, account)
        if scene is None or scene.data_key is None:
            return None
        vault = app.vault.opened(account, scene.data_key)
        return _start(app, connection, scene, vault, make(vault), given, taken)


def start_waiting(app: App, account: str, request_id: str, given: Given) -> Claimed | None:
    """Start the next attempt of a request that waits; `None` where nothing was written."""
    with claiming(app, account, straight=True) as (connection, taken):
        scene = calls.scene(connection, account, request_id)
        if scene is None or scene.data_key is None or scene.request is None:
            return None
        if scene.request.state != analyses.WAITING:
            return None
        vault = app.vault.opened(account, scene.data_key)
        return _start(app, connection, scene, vault, scene.request, given, taken)


def _start(
    app: App,
    connection: Connection,
    scene: calls.Scene,
    vault: AccountVault,
    request: NewRequest | Request,
    given: Given,
    taken: Taken,
) -> Claimed | None:
    now = app.effects.now_ms()
    payer = _payer(app, connection, scene, request, given, now)
    if payer is None or scene.surrogate is None or scene.data_key is None:
        return None
    account = scene.account
    known = request if isinstance(request, Request) else None
    own = payer.own.record if payer.own else None
    digest = reuse.digest_of(app, vault, account, request, given.content)
    sent = sent_of(app, request, payer.provider, own, payer.fallback, digest)
    begin = calls.Start(
        request=request,
        attempt=sent.attempt,
        process_id=app.lease.name(),
        provider=sent.provider.value,
        model=sent.model,
        credential=sent.credential,
        key_id=sent.key_id,
        fallback_reason=sent.fallback,
        prompt_version=operation_of(sent.operation).prompt_version,
        reserves_credit=own is None and (known is None or known.credit_period_at is None),
        reuse_digest=digest,
        reusable_from=reuse.reusable_from(app),
        now=now,
    )
    permit = permit_for(app, sent, payer.scope)
    if isinstance(permit, Hold):
        return None
    taken.permits.append(permit)
    claimed = Claimed(
        sent=sent,
        account=account,
        stored=payer.own.stored if payer.own else None,
        permit=permit,
        process_id=begin.process_id,
        started_at=now,
        seen=Straight(
            request=calls.as_started(begin, scene),
            account_version=scene.account_version,
            owner=Owner(scene.surrogate, account.timezone),
            data_key=scene.data_key,
        ),
    )
    # Before the statement: where its commit is not heard of, it is undone.
    taken.claimed = claimed
    if calls.start(connection, begin, scene):
        return claimed
    taken.claimed = None
    app.pacing.leave(taken.permits.pop(), Result.UNSENT)
    return None


def _payer(
    app: App,
    connection: Connection,
    scene: calls.Scene,
    request: NewRequest | Request,
    given: Given,
    now: int,
) -> _Payer | None:
    """Who pays for a call that is to be made now; `None` where none is, or not as a matter of
    course.
    """
    account = scene.account
    if (
        not account.ai_consent
        or now >= request.expires_at
        or account.account_id in app.pauses.known.accounts
        or rules.answer(app, account, request.operation, given.input) is not None
    ):
        return None
    records = {provider: own.record for provider, own in scene.own.items()}
    decision = decide(situation_of(app, request, account, records, now))
    if isinstance(decision, UseOwn):
        own = scene.own[decision.provider]
        until = own.held_back_until
        limited = account.budget_nano_usd is not None or own.record.budget_nano_usd is not None
        if limited or (until is not None and until > now):
            return None
        return _Payer(decision.provider, own, None)
    if not isinstance(decision, UsePlatform) or not _may_pay(app, scene):
        return None
    if calls.platform_held_back(connection, decision.provider, now):
        return None
    return _Payer(decision.provider, None, decision.fallback)


def _may_pay(app: App, scene: calls.Scene) -> bool:
    """Whether nothing stands against the platform's paying, as far as it is seen here."""
    limit, taken = scene.account.credits_limit, scene.credits_taken
    limited = scene.account.budget_nano_usd is not None or app.settings.platform_budget_usd
    return not limited and taken is not None and (limit is None or taken < limit)
