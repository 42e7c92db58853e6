"""Corrections: ledger rows that bring the cost of an earlier row to another price table's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, tuple_

from store.ledger import BILLED, PRICED, REPRICED, LedgerRow
from store.schema import ledger

PAGE = 500

_ROW = tuple(ledger.c[name] for name in LedgerRow.__slots__)


@dataclass(frozen=True, slots=True)
class Booked:
    """A call or probe on the ledger, and what it is booked at with its corrections so far."""

    row: LedgerRow
    cost_nano_usd: int
    priced: bool


def correction_id(row_id: str, price_version: str) -> str:
    """The id of a row's correction by a price table: it lies in the month of the row itself."""
    return f"{row_id}~{price_version.replace(' ', '-')}"


def page(connection: Connection, after: tuple[int, str] | None, version: str) -> list[Booked]:
    """The next billed rows, by (month, id), that another version than `version` priced."""
    statement = (
        select(*_ROW)
        .where(ledger.c.kind.in_(BILLED), ledger.c.price_version != version)
        .order_by(ledger.c.month, ledger.c.id)
        .limit(PAGE)
    )
    if after is not None:
        statement = statement.where(tuple_(ledger.c.month, ledger.c.id) > tuple_(*after))
    rows = [LedgerRow(**row._mapping) for row in connection.execute(statement)]
    made = _corrections(connection, rows)
    return [
        Booked(
            row,
            row.cost_nano_usd + sum(one.cost_nano_usd for one in made.get(row.id, ())),
            row.priced or row.id in made,
        )
        for row in rows
    ]


def _corrections(connection: Connection, rows: Sequence[LedgerRow]) -> dict[str, list[LedgerRow]]:
    """The corrections of rows, by the id of what they correct."""
    if not rows:
        return {}
    versions = connection.execute(
        select(ledger.c.price_version).where(ledger.c.kind.in_((PRICED, REPRICED))).distinct()
    ).scalars()
    ids = [correction_id(row.id, version) for version in versions.all() for row in rows]
    found: dict[str, list[LedgerRow]] = {}
    for one in _read(connection, ids, {row.month for row in rows}):
        found.setdefault(one.id.partition("~")[0], []).append(one)
    return found


def _read(connection: Connection, ids: Sequence[str], months: Iterable[int]) -> list[LedgerRow]:
    if not ids:
        return []
    statement = select(*_ROW).where(ledger.c.id.in_(ids), ledger.c.month.in_(list(months)))
    return [LedgerRow(**row._mapping) for row in connection.execute(statement)]
