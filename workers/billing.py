"""A ledger row for what was billed, or for an operation that needed no provider."""

from functools import partial

from sqlalchemy import Connection

from events import Provider
from metrics.instruments import Instruments
from store import accounts, ledger, outbox
from store.engine import after_commit
from workers.app import App
from workers.pricing import PRICE_VERSION, Price, listed_model, price_of
from workers.providers.port import Tokens


def ledger_row(
    app: App,
    connection: Connection,
    *,
    account: accounts.Account | None,
    account_id: str,
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
    """The row, priced and dated now.

    An account that is deleted meanwhile gets a surrogate that nothing leads to.
    """
    now = app.effects.now_ms()
    price = (
        price_of(Provider(provider), model, tokens, now)
        if provider and model
        else Price(0, priced=True)
    )
    if account is None:
        surrogate, day = app.effects.new_id(), accounts.local_date("UTC", now)
    else:
        surrogate = accounts.surrogate_of(connection, account_id, app.effects.new_id)
        day = account.local_date(now)
    return ledger.LedgerRow(
        id=app.effects.new_id(),
        kind=kind,
        surrogate=surrogate,
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
        local_date=day,
    )


def record(app: App, connection: Connection, row: ledger.LedgerRow) -> None:
    """Put the row into the outbox, from where the aggregator gets it."""
    entry = outbox.OutboxRow(row.id, row.to_json())
    outbox.add(connection, outbox.USAGE, [entry], app.effects.now_ms())
    if row.kind == ledger.NONE:
        return
    after_commit(connection, partial(_count, app.instruments, row))


def _count(instruments: Instruments, row: ledger.LedgerRow) -> None:
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
