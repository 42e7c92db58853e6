"""A ledger row for what was billed, or for an operation that needed no provider."""

from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from events import CallUsage, Provider
from metrics.instruments import Instruments
from store import accounts, ledger, outbox
from store.engine import after_commit
from workers.app import App
from workers.pricing import PRICE_VERSION, Price, listed_model, price_of
from workers.providers.port import Answer, Tokens


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a ledger row is: the account's name in the ledger, and the time zone of its days."""

    surrogate: str
    timezone: str


def owner_of(app: App, connection: Connection, account: accounts.Account | None) -> Owner:
    """Whose rows are the account's.

    One that is deleted meanwhile gets a surrogate that nothing leads to.
    """
    if account is None:
        return Owner(app.effects.new_id(), "UTC")
    surrogate = accounts.surrogate_of(connection, account.account_id, app.effects.new_id)
    return Owner(surrogate, account.timezone)


def ledger_row(
    app: App,
    owner: Owner,
    *,
    kind: str,
    request_id: str,
    attempt: int,
    operation: str,
    completes: bool,
    provider: str | None,
    model: str | None,
    credential: str | None,
    key_id: str | None,
    fallback_reason: str | None,
    tokens: Tokens,
    provider_request_id: str | None,
) -> ledger.LedgerRow:
    """The row, priced and dated now."""
    now = app.effects.now_ms()
    price = (
        price_of(Provider(provider), model, tokens, now)
        if provider and model
        else Price(0, priced=True)
    )
    return ledger.LedgerRow(
        id=app.effects.new_id(),
        kind=kind,
        surrogate=owner.surrogate,
        request_id=request_id,
        attempt=attempt,
        operation=operation,
        completes=completes,
        provider=provider or ledger.NOTHING,
        model=model or ledger.NOTHING,
        credential=credential or ledger.NOTHING,
        key_id=key_id,
        fallback_reason=fallback_reason,
        input_tokens=tokens.input,
        cached_read_tokens=tokens.cached_read,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
        reasoning_tokens=tokens.reasoning,
        cost_nano_usd=price.nano_usd,
        priced=price.priced,
        price_version=PRICE_VERSION,
        provider_request_id=provider_request_id,
        at=now,
        local_date=accounts.local_date(owner.timezone, now),
    )


def record(app: App, connection: Connection, row: ledger.LedgerRow) -> None:
    """Put the row into the outbox, from where the aggregator gets it."""
    app.send(connection, outbox.USAGE, entry_of(row))
    after_commit(connection, partial(count, app.instruments, row))


def entry_of(row: ledger.LedgerRow) -> outbox.OutboxRow:
    """The row as it goes into the outbox."""
    return outbox.OutboxRow(row.id, row.to_json())


def call_usage(answer: Answer, billed: ledger.LedgerRow | None, seconds: float) -> CallUsage:
    """What a call used and cost, as its result tells it."""
    tokens = answer.tokens
    return CallUsage(
        input_tokens=tokens.input,
        cached_read_tokens=tokens.cached_read,
        cache_write_tokens=tokens.cache_write,
        cached_share=ledger.cached_share(tokens.cached_read, tokens.input),
        output_tokens=tokens.output,
        reasoning_tokens=tokens.reasoning,
        cost_nano_usd=billed.cost_nano_usd if billed else 0,
        priced=billed is None or billed.priced,
        latency_ms=round(seconds * 1000),
    )


def count(instruments: Instruments, row: ledger.LedgerRow) -> None:
    """Count what was billed."""
    if row.kind == ledger.NONE:
        return
    model = listed_model(Provider(row.provider), row.model)
    tokens, cached = instruments.tokens, instruments.cached_tokens
    tokens.labels(row.provider, model, row.credential, "input").inc(row.input_tokens)
    tokens.labels(row.provider, model, row.credential, "output").inc(row.output_tokens)
    cached.labels(row.provider, row.credential, "read").inc(row.cached_read_tokens)
    cached.labels(row.provider, row.credential, "write").inc(row.cache_write_tokens)
    cost = row.cost_nano_usd / accounts.NANO
    instruments.cost.labels(row.provider, model, row.credential).inc(cost)
    if not row.priced:
        instruments.unpriced.labels(row.provider).inc()
