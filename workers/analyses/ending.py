"""How a request ends or is put off: the store's row, the credit, the ledger and the out-event.

Each function writes all of it in the caller's one transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from sqlalchemy import Connection

from events import (
    AnalysisCompleted,
    AnalysisFailed,
    AnalysisSkipped,
    CallUsage,
    CreditsExhausted,
    Operation,
    Provenance,
    Provider,
)
from metrics.labels import verdict_of
from store import accounts, analyses, budgets, credits, ledger
from store.engine import after_commit
from workers.analyses import spending, texts
from workers.analyses.operations import operation_of
from workers.app import App
from workers.billing import ledger_row, owner_of, record
from workers.providers.port import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a request completes with: signals, free text, and whose result it was before."""

    signals: Mapping[str, Any]
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    reused_from: str | None = None


def park(
    app: App,
    connection: Connection,
    request: analyses.Request,
    reason: str,
    due_at: int,
    *,
    setback: bool = False,
    bad_answer: bool = False,
    refusal: bool = False,
) -> None:
    """Let a request wait until `due_at` (Unix ms), or until it expires if that is sooner.

    A waiting request holds no credit, except for an attempt whose answer was lost: that one may
    have been paid for, so its credit is held until the request ends.
    """
    holds_credit = bool(
        request.credit_period_at is not None
        and analyses.unknown_count(connection, request.account_id, request.request_id)
    )
    analyses.park(
        connection,
        request,
        reason=reason,
        due_at=min(due_at, request.expires_at),
        setback=setback,
        bad_answer=bad_answer,
        refusal=refusal,
        holds_credit=holds_credit,
    )
    if not holds_credit:
        release_credit(connection, request, spent=False)
    after_commit(connection, app.instruments.parked.labels(reason).inc)


def fail(
    app: App, connection: Connection, request: analyses.Request, reason: str, *, retryable: bool
) -> None:
    """End a request as failed."""
    app.emit(
        connection,
        AnalysisFailed(request_id=request.request_id, reason=reason, retryable=retryable),
        account=request.account_id,
    )
    _end(app, connection, request, analyses.FAILED, reason)


def skip(app: App, connection: Connection, request: analyses.Request, reason: str) -> None:
    """End a request that a rule of the product does not let run."""
    app.emit(
        connection,
        AnalysisSkipped(request_id=request.request_id, reason=reason, retryable=True),
        account=request.account_id,
    )
    _end(app, connection, request, analyses.SKIPPED, reason)


def skip_for_credits(
    app: App, connection: Connection, request: analyses.Request, account: accounts.Account
) -> None:
    """End a platform request of an account without credits; told once per period."""
    if credits.note_exhausted(connection, account, app.effects.now_ms()):
        app.emit(
            connection,
            CreditsExhausted(
                period_start=str(account.period_start_at), limit=account.credits_limit or 0
            ),
            account=account.account_id,
        )
    after_commit(connection, app.instruments.credits_refused.inc)
    skip(app, connection, request, "credits")


def skip_for_budget(
    app: App, connection: Connection, request: analyses.Request, budget: budgets.Budget
) -> None:
    """End a request for whose dearest outcome not enough of a budget is left."""
    now = app.effects.now_ms()
    spending.tell_reached(app, connection, budget, request.account_id, "hard_limit", 0, now)
    budgets.note_refused(connection, budget)
    after_commit(
        connection, app.instruments.budget_refused.labels(budget.scope.partition(":")[0]).inc
    )
    skip(app, connection, request, "budget")


def complete_without_call(
    app: App,
    connection: Connection,
    request: analyses.Request,
    account: accounts.Account,
    found: Found,
) -> None:
    """Complete a request by rules or by reuse, without a provider: cost 0, no credit."""
    row = ledger_row(
        app,
        owner_of(app, connection, account),
        kind=ledger.NONE,
        request_id=request.request_id,
        attempt=request.attempt,
        operation=request.operation,
        completes=True,
        provider=None,
        model=None,
        credential=None,
        key_id=None,
        fallback_reason=None,
        tokens=Tokens(),
        provider_request_id=None,
    )
    record(app, connection, row)
    by: Literal["rules", "reuse"] = "rules" if found.reused_from is None else "reuse"
    finish_completed(app, connection, request, found, by=by, credential="none", usage=CallUsage())
    release_credit(connection, request, spent=False)


@dataclass(frozen=True, slots=True)
class Completed:
    """How a request completes: what is told of it, and what is counted."""

    event: AnalysisCompleted
    request: analyses.Request

    @property
    def prompt_version(self) -> str | None:
        """The wording that the result answers; `None` where nobody was asked."""
        return self.event.provenance.prompt_version

    def count(self, app: App) -> None:
        """Count it, once it is written."""
        provenance = self.event.provenance
        credential, by = provenance.credential, provenance.by
        _count(app, self.request, analyses.COMPLETED, "", credential, by)


def completed(
    app: App,
    request: analyses.Request,
    found: Found,
    *,
    by: Literal["model", "rules", "reuse"],
    credential: Literal["byok", "platform", "none"],
    usage: CallUsage,
) -> Completed:
    """A request with its result, and where that comes from."""
    account, request_id = request.account_id, request.request_id
    version = None
    if by == "model":
        version = request.prompt_version
    elif by == "reuse":
        # The same as that of the result that is reused: its digest covers the version.
        version = operation_of(Operation(request.operation)).prompt_version
    called = request if by == "model" else None
    provenance = Provenance(
        by=by,
        credential=credential,
        key_id=called and called.key_id,
        provider=Provider(called.provider) if called and called.provider else None,
        model=called and called.model,
        fallback_reason=called and called.fallback_reason,
        prompt_version=version,
        attempts=request.attempt,
        usage=usage,
        reused_from=found.reused_from,
    )
    event = AnalysisCompleted(
        request_id=request_id,
        operation=Operation(request.operation),
        result=dict(found.signals),
        sealed_text=texts.sealed(app, account, request_id, found.texts),
        provenance=provenance,
    )
    return Completed(event, request)


def finish_completed(
    app: App,
    connection: Connection,
    request: analyses.Request,
    found: Found,
    *,
    by: Literal["model", "rules", "reuse"],
    credential: Literal["byok", "platform", "none"],
    usage: CallUsage,
    reuse_digest: bytes | None = None,
) -> None:
    """Write the result and tell of it, with where it comes from.

    `reuse_digest` is what it may be reused for.
    """
    account, request_id = request.account_id, request.request_id
    _release_budget(connection, request)
    told = completed(app, request, found, by=by, credential=credential, usage=usage)
    analyses.finish(
        connection,
        request,
        state=analyses.COMPLETED,
        reason="",
        now=app.effects.now_ms(),
        answered_by=by,
        credential=credential,
        result=found.signals,
        usage=usage.model_dump(),
        prompt_version=told.prompt_version,
        result_text=texts.stored(app, connection, account, request_id, found.texts),
        reuse_digest=reuse_digest,
    )
    app.emit(connection, told.event, account=account)
    after_commit(connection, partial(told.count, app))


def release_credit(connection: Connection, request: analyses.Request, *, spent: bool) -> None:
    """Settle the credit that the request holds, if it holds one.

    It is the last statement: the account's other claims and completions wait for this row.
    """
    if request.credit_period_at is not None:
        credits.settle(connection, request.account_id, request.credit_period_at, spent=spent)


def _release_budget(connection: Connection, request: analyses.Request) -> None:
    """Give back what is held for attempts of which nobody will say what they cost."""
    if request.budget_held:
        budgets.release(connection, request.account_id, request.request_id)


def _end(
    app: App, connection: Connection, request: analyses.Request, state: str, reason: str
) -> None:
    _release_budget(connection, request)
    analyses.finish(connection, request, state=state, reason=reason, now=app.effects.now_ms())
    release_credit(connection, request, spent=False)
    credential = request.credential or "none"
    after_commit(connection, partial(_count, app, request, state, reason, credential, "none"))


def _count(
    app: App, request: analyses.Request, state: str, reason: str, credential: str, by: str
) -> None:
    told = app.instruments
    told.analyses.labels(request.operation, state, reason, credential, by).inc()
    told.verdicts.labels(verdict_of(state, reason)).inc()
    seconds = (app.effects.now_ms() - request.created_at) / 1000
    told.analysis_seconds.labels(request.operation, state).observe(seconds)
