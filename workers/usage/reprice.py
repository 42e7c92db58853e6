"""Repricing: what calls cost by today's price table, beside what they were booked at.

A row of the ledger is never changed. What a new table makes of it is a row of its own, a correction
with the difference, whose id follows from the row's id and the table's version: applied twice it is
there once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from events import Provider
from store import corrections, ledger
from store.ledger import PRICED, REPRICED, LedgerRow
from workers.app import App
from workers.pricing import PRICE_VERSION, price_of
from workers.providers.port import Tokens


@dataclass(slots=True)
class Change:
    """What a model's calls cost more or less: how many, the old cost and the new (nano-dollars)."""

    calls: int = 0
    first_priced: int = 0
    old_nano_usd: int = 0
    new_nano_usd: int = 0


@dataclass(slots=True)
class Repriced:
    """What a new price table makes of the ledger, by (provider, model)."""

    looked_at: int = 0
    changes: dict[tuple[str, str], Change] = field(default_factory=dict)

    def add(self, row: LedgerRow, correction: LedgerRow, old_nano_usd: int) -> None:
        """Add one correction of a row that was booked at `old_nano_usd` so far."""
        change = self.changes.setdefault((row.provider, row.model), Change())
        change.calls += 1
        change.first_priced += correction.kind == PRICED
        change.old_nano_usd += old_nano_usd
        change.new_nano_usd += old_nano_usd + correction.cost_nano_usd


def reprice(app: App, *, apply: bool) -> Repriced:
    """Price every call and probe anew that another version priced; with `apply`, book it.

    Page by page, each in a transaction of its own: one that is stopped is run again.
    """
    found = Repriced()
    after: tuple[int, str] | None = None
    while True:
        with app.database.write() if apply else app.database.read() as connection:
            page = corrections.page(connection, after, PRICE_VERSION)
            made = list(_corrections(app, found, page))
            if apply:
                ledger.record(connection, made, app.effects.now_ms())
        if not page:
            return found
        after = (page[-1].row.month, page[-1].row.id)


def _corrections(app: App, found: Repriced, page: list[corrections.Booked]) -> Iterator[LedgerRow]:
    for booked in page:
        found.looked_at += 1
        correction = correction_of(booked, app.effects.now_ms())
        if correction is not None:
            found.add(booked.row, correction, booked.cost_nano_usd)
            yield correction


def correction_of(booked: corrections.Booked, now: int) -> LedgerRow | None:
    """The row that brings a booked one to today's price; `None` where it is there already.

    A price that is not known any more changes nothing: what was known once stands.
    """
    row = booked.row
    tokens = Tokens(
        input=row.input_tokens,
        cached_read=row.cached_read_tokens,
        cache_write=row.cache_write_tokens,
        output=row.output_tokens,
        reasoning=row.reasoning_tokens,
    )
    price = price_of(Provider(row.provider), row.model, tokens, row.at)
    difference = price.nano_usd - booked.cost_nano_usd
    if not price.priced or (booked.priced and not difference):
        return None
    return replace(
        row,
        id=corrections.correction_id(row.id, PRICE_VERSION),
        kind=REPRICED if booked.priced else PRICED,
        completes=False,
        input_tokens=0,
        cached_read_tokens=0,
        cache_write_tokens=0,
        output_tokens=0,
        reasoning_tokens=0,
        cost_nano_usd=difference,
        priced=True,
        price_version=PRICE_VERSION,
        provider_request_id=None,
        at=now,
    )
