"""Calling the provider for an attempt that was claimed, and completing it, come what may."""

import structlog
from pydantic import SecretStr

from events import EventRefused, Provider, ProviderHealthChanged
from events.analyses import AnalysisInput
from store.masterkeys import DoesNotOpen, MasterKeyMissing, MasterKeyUnavailable
from workers.analyses import spending
from workers.analyses.attempt import KEY_UNREADABLE
from workers.analyses.claim import Claimed
from workers.analyses.completion import abandon, complete
from workers.analyses.retry import MASTER_KEY_UNAVAILABLE
from workers.app import App
from workers.boundary import persistently
from workers.effects import moment
from workers.pacing import Permit
from workers.pacing.permits import Turn, result_of
from workers.providers.port import Answer, Failure, OutcomeClass, Question
from workers.tracing import Kind

log = structlog.get_logger(__name__)


def send(app: App, claimed: Claimed, given: AnalysisInput) -> bool:
    """Call the provider, with no transaction open, and complete the attempt, come what may.

    Whether others of the account's requests may have waited for their turn then.
    """
    with structlog.contextvars.bound_contextvars(attempt=claimed.sent.attempt):
        return _send_attempt(app, claimed, given)


def _send_attempt(app: App, claimed: Claimed, given: AnalysisInput) -> bool:
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
            return persistently(
                app, lambda: complete(app, sent, question, outcome, seconds, claimed.seen)
            )
    except EventRefused:
        # What came back cannot be written down. The attempt is given up, so that the request ends.
        persistently(app, lambda: abandon(app, sent))
        return True


def _traced_ask(app: App, claimed: Claimed, question: Question) -> Answer | Failure:
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


def _ask(app: App, claimed: Claimed, question: Question) -> Answer | Failure:
    secret = _secret(app, claimed)
    if isinstance(secret, Failure):
        return secret
    with app.lanes.resting():
        return app.calls.run(app.providers[claimed.sent.provider].ask(secret, question))


def _secret(app: App, claimed: Claimed) -> SecretStr | Failure:
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
