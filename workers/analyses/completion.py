"""Completing an attempt: one commit, fenced by the attempt's number."""

import structlog
from sqlalchemy import Connection

from events import FallbackUsed
from store import accounts, analyses, calls, cooldowns, gate, keys, ledger, outbox
from store.engine import after_commit
from workers.analyses import ending, retry, spending, texts
from workers.analyses.attempt import KEY_UNREADABLE, Sent, Straight, Success
from workers.analyses.operations import AnswerOffVocabulary, operation_of
from workers.analyses.operations.freetext import held_against
from workers.app import App
from workers.billing import Owner, call_usage, count, entry_of, ledger_row, owner_of, record
from workers.keychanges import announce, cause_of
from workers.providers.port import Answer, Failure, OutcomeClass, Question, Tokens
from workers.settings import UnknownAttempts

log = structlog.get_logger(__name__)


def complete(
    app: App,
    sent: Sent,
    question: Question | None,
    outcome: Answer | Failure,
    seconds: float,
    seen: Straight | None = None,
) -> bool:
    """Write what came of an attempt: result or retry, credit, ledger, key, out-event.

    `question` is what was asked, `None` where nothing was; `seen` what its claim has read. An
    attempt that is no longer the request's current one is billed and changes nothing else.
    Whether others of the account's requests may have waited for their turn when it was written.
    """
    checked = _check(sent, question, outcome)
    if seen is not None and isinstance(checked, Success):
        finished = _finish(app, sent, seen, checked, seconds)
        if finished is not None:
            _observe(app, sent, outcome, checked, seconds)
            return finished.others_wait
    _complete_by_steps(app, sent, outcome, checked, seconds)
    return True


def _complete_by_steps(
    app: App, sent: Sent, outcome: Answer | Failure, checked: Success | Failure, seconds: float
) -> None:
    now = app.effects.now_ms()
    with app.shares.transaction(sent.account_id), app.database.write() as connection:
        if _tells_of_key(sent, checked):
            gate.alone(connection, sent.account_id)
        else:
            gate.share(connection, sent.account_id)
        request = analyses.find(connection, sent.account_id, sent.request_id, lock=True)
        if request is None or not _end_attempt(connection, sent, outcome, checked, now):
            return
        account = accounts.find(connection, sent.account_id)
        current = request.attempt == sent.attempt and request.state not in analyses.TERMINAL
        consents = account is not None and account.ai_consent
        completes = current and consents and isinstance(checked, Success)
        billed = _bill(app, connection, sent, account, outcome, completes=completes)
        lost = isinstance(outcome, Failure) and outcome.is_lost
        if sent.budgeted and not lost:
            row = (billed.id, billed.cost_nano_usd) if billed else None
            spending.settle(
                app, connection, sent.account_id, sent.request_id, sent.attempt, billed=row
            )
        if isinstance(checked, Success) and sent.key_id:
            keys.refresh_ok(connection, sent.key_id, sent.key_revision, now)
        if not current:
            after_commit(connection, app.instruments.late_answers.inc)
        elif not consents:
            ending.skip(app, connection, request, "consent")
        elif isinstance(checked, Success):
            _succeed(app, connection, sent, request, checked, billed, seconds)
        else:
            _setback(app, connection, sent, request, checked, now)
    _observe(app, sent, outcome, checked, seconds)


def _finish(
    app: App, sent: Sent, seen: Straight, success: Success, seconds: float
) -> calls.Finished | None:
    """Write a result straight away; `None` where that is not possible, and nothing is written."""
    if sent.budgeted or seen.request.budget_held:
        return None
    request, found = seen.request, _found(success)
    row = _billed_row(app, sent, seen.owner, success.answer, success.answer.tokens, completes=True)
    usage = call_usage(success.answer, row, seconds)
    told = ending.completed(
        app, request, found, by="model", credential=sent.credential, usage=usage
    )
    events = [*_fallback_used(sent), told.event]
    text = None
    if found.texts:
        vault = app.vault.opened(sent.account_id, seen.data_key)
        text = texts.encrypted(vault, sent.request_id, found.texts)
    end = calls.Finish(
        account_id=sent.account_id,
        request_id=sent.request_id,
        attempt=sent.attempt,
        provider_request_id=success.answer.request_id,
        credential=sent.credential,
        key_id=sent.key_id,
        key_revision=sent.key_revision,
        credit_period_at=request.credit_period_at,
        result=found.signals,
        usage=usage.model_dump(),
        prompt_version=told.prompt_version,
        result_text=text,
        reuse_digest=sent.reuse_digest,
        outbox=[
            (outbox.USAGE, entry_of(row)),
            *((outbox.EVENT, app.out_event(e, account=sent.account_id)) for e in events),
        ],
        outbox_grace=app.outbox_grace_ms,
        now=app.effects.now_ms(),
    )
    with app.shares.transaction(sent.account_id), app.database.brief() as connection:
        finished = calls.finish(connection, end, seen.account_version)
    if finished is None:
        return None
    for kind, sent_row in end.outbox:
        app.committed(kind, sent_row)
    count(app.instruments, row)
    told.count(app)
    if sent.fallback is not None:
        app.instruments.fallbacks.labels(sent.provider.value, sent.fallback).inc()
    return finished


def _found(success: Success) -> ending.Found:
    return ending.Found(signals=success.result.signals(), texts=success.result.texts())


def _fallback_used(sent: Sent) -> list[FallbackUsed]:
    if sent.fallback is None:
        return []
    return [FallbackUsed(request_id=sent.request_id, provider=sent.provider, reason=sent.fallback)]


def abandon(app: App, sent: Sent) -> None:
    """Give an attempt up whose outcome could not be written down; the request fails."""
    now = app.effects.now_ms()
    with app.database.write() as connection:
        gate.share(connection, sent.account_id)
        request = analyses.find(connection, sent.account_id, sent.request_id, lock=True)
        if request is None:
            return
        if request.attempt == sent.attempt and request.state == analyses.RUNNING:
            analyses.give_up_attempt(connection, request, "internal_error", now)
            after_commit(connection, app.instruments.unknown_attempts.inc)
            ending.fail(app, connection, request, "internal_error", retryable=True)


CLAIM_UNHEARD = "claim_unheard"
"""Why a request waits whose claim was committed without its worker hearing of it."""


def withdraw(app: App, sent: Sent, *, process_id: str, started_at: int) -> None:
    """Undo a claim whose commit may have been made, unheard: it was not sent, so it waits again.

    The account's gate is passed alone: so the claim's transaction is over, whichever way. The
    attempt of that number may be another claim's; that one has another process or time.
    """
    now = app.effects.now_ms()
    with app.database.write() as connection:
        gate.alone(connection, sent.account_id)
        request = analyses.find(connection, sent.account_id, sent.request_id, lock=True)
        made = [
            attempt
            for attempt in analyses.attempts_of(connection, sent.account_id, sent.request_id)
            if (attempt.attempt, attempt.process_id, attempt.started_at)
            == (sent.attempt, process_id, started_at)
        ]
        if request is None or not made:
            return
        analyses.end_attempt(
            connection,
            sent.account_id,
            sent.request_id,
            sent.attempt,
            state="failed",
            outcome=CLAIM_UNHEARD,
            provider_request_id=None,
            now=now,
        )
        if request.attempt == sent.attempt and request.state == analyses.RUNNING:
            ending.park(app, connection, request, CLAIM_UNHEARD, now)


def _tells_of_key(sent: Sent, checked: "Success | Failure") -> bool:
    """Whether the outcome changes the own key's state; the account's gate is passed alone then."""
    return (
        isinstance(checked, Failure)
        and sent.key_id is not None
        and checked.kind is OutcomeClass.NO_QUOTA
    )


def _end_attempt(
    connection: Connection,
    sent: Sent,
    outcome: Answer | Failure,
    checked: "Success | Failure",
    now: int,
) -> bool:
    state = "failed"
    if outcome.tokens is not None:
        state = "answered"
    elif isinstance(outcome, Failure) and outcome.is_lost:
        state = "unknown"
    return analyses.end_attempt(
        connection,
        sent.account_id,
        sent.request_id,
        sent.attempt,
        state=state,
        outcome=_reason(checked),
        provider_request_id=outcome.request_id,
        now=now,
    )


def _check(sent: Sent, question: Question | None, outcome: Answer | Failure) -> Success | Failure:
    if isinstance(outcome, Failure):
        return outcome
    try:
        result = operation_of(sent.operation).check(outcome.value)
        for field, text in result.texts().items():
            held_against(text, field, asked=question.user if question else "")
    except AnswerOffVocabulary:
        return Failure(
            kind=OutcomeClass.BAD_ANSWER,
            code="off_vocabulary",
            status=200,
            request_id=outcome.request_id,
            model=outcome.model,
            tokens=outcome.tokens,
            limits=outcome.limits,
        )
    return Success(outcome, result)


def _succeed(
    app: App,
    connection: Connection,
    sent: Sent,
    request: analyses.Request,
    success: Success,
    billed: ledger.LedgerRow | None,
    seconds: float,
) -> None:
    for event in _fallback_used(sent):
        fallbacks = app.instruments.fallbacks.labels(sent.provider.value, event.reason)
        after_commit(connection, fallbacks.inc)
        app.emit(connection, event, account=sent.account_id)
    ending.finish_completed(
        app,
        connection,
        request,
        _found(success),
        by="model",
        credential=sent.credential,
        usage=call_usage(success.answer, billed, seconds),
        reuse_digest=sent.reuse_digest,
    )
    # A credit held for an earlier platform attempt is given back where an own key completed it.
    ending.release_credit(connection, request, spent=sent.credential == "platform")


def _setback(
    app: App,
    connection: Connection,
    sent: Sent,
    request: analyses.Request,
    failure: Failure,
    now: int,
) -> None:
    if request.state == analyses.WAITING:
        # Its worker was given up meanwhile and it waits to be run again: leave it to that.
        return
    unknown = 0
    if failure.is_lost:
        after_commit(connection, app.instruments.unknown_attempts.inc)
        unknown = analyses.unknown_count(connection, sent.account_id, sent.request_id)
        if app.settings.unknown_attempts is UnknownAttempts.HOLD:
            ending.park(app, connection, request, analyses.HELD, request.expires_at)
            return
    following = retry.decide(
        failure,
        own_key=sent.key_id is not None,
        setbacks=request.setbacks,
        refusals=request.refusals,
        bad_answers=request.bad_answers,
        unknown=unknown,
        jitter=app.effects.jitter(),
    )
    if failure.code == KEY_UNREADABLE:
        # Its validation says so of the key itself, and tells its owner.
        _doubt_key(connection, sent, now)
    if isinstance(following, retry.GiveUp):
        ending.fail(app, connection, request, following.reason, retryable=following.retryable)
        return
    due_at = now
    reason = ""
    match following:
        case retry.Again(wait, reason, cooldown):
            due_at = now + int(wait * 1000)
            if cooldown:
                scope = (
                    cooldowns.key_scope(sent.key_id)
                    if sent.key_id
                    else cooldowns.platform_scope(sent.provider)
                )
                cooldowns.set_until(connection, scope, due_at, reason)
        case retry.AgainAfterVerdict(reason):
            _doubt_key(connection, sent, now)
        case retry.KeyOutOfQuota():
            reason = "key_no_quota"
            _note_no_quota(app, connection, sent, now)
    ending.park(
        app,
        connection,
        request,
        reason,
        due_at,
        setback=failure.kind is not OutcomeClass.BAD_ANSWER,
        bad_answer=failure.kind is OutcomeClass.BAD_ANSWER,
        refusal=isinstance(following, retry.AgainAfterVerdict),
    )


def _doubt_key(connection: Connection, sent: Sent, now: int) -> None:
    if sent.key_id is None or sent.key_revision is None or sent.key_validation is None:
        return
    if keys.doubt(connection, sent.key_id, sent.key_revision, sent.key_validation, now):
        log.info("key_in_doubt", key_id=sent.key_id)


def _note_no_quota(app: App, connection: Connection, sent: Sent, now: int) -> None:
    key = keys.find(connection, sent.key_id) if sent.key_id else None
    if key is None or key.removed_at is not None or key.revision != sent.key_revision:
        return
    change = keys.set_status(
        connection,
        key,
        status=key.status,
        reason="no_quota",
        validate_at=now + keys.QUOTA_PROBE_SECONDS * 1000,
        succeeded=False,
        told=True,
        cause=cause_of(app, "analysis"),
    )
    announce(app, connection, change)


def _bill(
    app: App,
    connection: Connection,
    sent: Sent,
    account: accounts.Account | None,
    outcome: Answer | Failure,
    *,
    completes: bool,
) -> ledger.LedgerRow | None:
    """Whatever the provider billed is on the ledger, whether its answer is of use or not."""
    if outcome.tokens is None:
        return None
    owner = owner_of(app, connection, account)
    row = _billed_row(app, sent, owner, outcome, outcome.tokens, completes=completes)
    record(app, connection, row)
    return row


def _billed_row(
    app: App,
    sent: Sent,
    owner: Owner,
    outcome: Answer | Failure,
    tokens: Tokens,
    *,
    completes: bool,
) -> ledger.LedgerRow:
    return ledger_row(
        app,
        owner,
        kind=ledger.CALL,
        request_id=sent.request_id,
        attempt=sent.attempt,
        operation=sent.operation.value,
        completes=completes,
        provider=sent.provider.value,
        model=outcome.model or sent.model,
        credential=sent.credential,
        key_id=sent.key_id,
        fallback_reason=sent.fallback,
        tokens=tokens,
        provider_request_id=outcome.request_id,
    )


def _observe(
    app: App, sent: Sent, outcome: Answer | Failure, checked: Success | Failure, seconds: float
) -> None:
    told, provider = app.instruments, sent.provider.value
    kind = checked.kind if isinstance(checked, Failure) else OutcomeClass.OK
    told.calls.labels(provider, sent.credential, kind.value, _reason(checked)).inc()
    told.call_seconds.labels(provider).observe(seconds)
    if sent.key_id is None:
        limits = outcome.limits
        for name, left in (
            ("requests", limits.remaining_requests),
            ("tokens", limits.remaining_tokens),
        ):
            if left is not None:
                told.limit_left.labels(provider, name).set(left)


def _reason(checked: Success | Failure) -> str:
    return checked.code if isinstance(checked, Failure) else "ok"
