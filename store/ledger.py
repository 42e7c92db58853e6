"""The ledger: append-only, one row per billed call or probe and per operation without AI.

The daily rollups, the months' spending and the per-key counts are folded in the same transaction
as the rows, so that they can be rebuilt from the ledger and come out the same.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Self

from sqlalchemy import (
    Column,
    Connection,
    Dialect,
    FromClause,
    Integer,
    Select,
    TextClause,
    and_,
    case,
    column,
    func,
    select,
    table,
    text,
)

from store import budgets, months, outbox
from store.schema import daily_usage, ledger, provider_keys
from store.schema import outbox as outbox_table
from store.statements import addition, json_rows, json_strings, sql_of, total
from store.vault import content_digest

CALL = "call"
PROBE = "probe"
NONE = "none"

PRICED = "priced"
"""A correction: what a call costs that had no known price when it was billed."""
REPRICED = "repriced"
"""A correction: by how much a call costs more, or less, than was known when it was billed."""

BILLED = (CALL, PROBE)
"""The kinds of rows that stand for what a provider charges."""

NOTHING = "none"
"""Stands for "no provider", "no model" and "no credential", which are part of a rollup's key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One row. `cost_nano_usd` is in nano-dollars, exact; `at` is Unix ms.

    `completes` is true on the one row that stands for the completed operation; other rows of the
    same request are calls that were billed without completing it, and corrections.
    """

    # Whoever reads one from a message demands exactly these fields.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 -- read once, by name

    id: str
    kind: str
    surrogate: str
    request_id: str
    attempt: int
    operation: str
    completes: bool
    provider: str
    model: str
    credential: str
    key_id: str | None
    fallback_reason: str | None
    input_tokens: int
    cached_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_nano_usd: int
    priced: bool
    price_version: str
    provider_request_id: str | None
    at: int
    local_date: str

    def to_json(self) -> str:
        """The row as it lies in the outbox; the same row gives the same text."""
        return json.dumps(self.to_fields(), sort_keys=True, separators=(",", ":"))

    def to_fields(self) -> dict[str, Any]:
        """The row's fields by name."""
        return dict(zip(_FIELDS, _values_of(self), strict=True))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Raises `TypeError` where a field is missing or unknown."""
        return cls(**fields)

    @property
    def month(self) -> int:
        """The month (YYYYMM) in whose partition the row lies."""
        return months.of_id(self.id)


_FIELDS = tuple(one.name for one in fields(LedgerRow))
_values_of = attrgetter(*_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of a batch: ids that were new and that were repeats; repeats that differed.

    `expired` are rows of a month that retention took off the ledger: whether they were on it cannot
    be told any more, so they are not recorded.
    """

    new: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    conflicting: list[LedgerRow] = field(default_factory=list)
    expired: list[LedgerRow] = field(default_factory=list)


def cached_share(cached_read_tokens: int, input_tokens: int) -> float:
    """The part of the input that came from the provider's cache, from 0 to 1."""
    # A provider's own numbers: they must not make a share of more than all.
    return min(1.0, cached_read_tokens / input_tokens) if input_tokens > 0 else 0.0


MEASURES = (
    "operations",
    "calls",
    "input_tokens",
    "cached_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "unpriced_calls",
)
TOKENS = tuple(name for name in MEASURES if name.endswith("_tokens"))


def record(
    connection: Connection,
    rows: Sequence[LedgerRow],
    now: int,
    *,
    texts_of: Sequence[str] | None = None,
) -> Recorded:
    """Insert rows, fold the new ones into what is added up, and clear their outbox rows.

    All in the caller's one transaction, at `now` (Unix ms). A repeat changes nothing. `texts_of`
    are the rows' texts as `LedgerRow.to_json` once made them; without them they are made again.
    """
    if not rows:
        return Recorded()
    unique: dict[str, LedgerRow] = {}
    texts: dict[str, str] = {}
    for row, row_text in zip(rows, texts_of or map(LedgerRow.to_json, rows), strict=True):
        if row.id not in unique:
            unique[row.id], texts[row.id] = row, row_text
    inserted = _write(connection, _as_json(unique.values(), texts, now), list(unique))
    known = _digests(connection, [row_id for row_id in unique if row_id not in inserted])
    return Recorded(
        new=[row_id for row_id in unique if row_id in inserted],
        repeated=[row_id for row_id in unique if row_id in known],
        conflicting=list(_differing(rows, unique, texts, known)),
        expired=[r for r in unique.values() if r.id not in inserted and r.id not in known],
    )


def _differing(
    rows: Sequence[LedgerRow],
    unique: Mapping[str, LedgerRow],
    texts: Mapping[str, str],
    known: Mapping[str, str],
) -> Iterable[LedgerRow]:
    """The rows that say something else than the ledger, or than the first of their id here."""
    told: set[LedgerRow] = set()
    for row in rows:
        differs = row != unique[row.id]
        if not differs and row.id in known:
            differs = known[row.id] != _digest(texts[row.id])
        if differs and row not in told:
            told.add(row)
            yield row


def _digest(row_text: str) -> str:
    return content_digest(row_text.encode()).hex()


def _as_json(rows: Iterable[LedgerRow], texts: Mapping[str, str], now: int) -> str:
    """The rows as the ledger's columns have them, made of the texts that they came as."""
    given = []
    for row in rows:
        row_text, month = texts[row.id], row.month
        more = (
            f'{{"month":{month},"of_month":{month or months.of_ms(row.at)},"recorded_at":{now},'
            f'"digest":"{_digest(row_text)}",'
        )
        given.append(more + row_text[1:])
    return f"[{','.join(given)}]"


def _write(connection: Connection, rows: str, ids: Sequence[str]) -> set[str]:
    """Insert the rows that are not on the ledger, with all that follows from it; their ids."""
    given = {"rows": rows, "ids": json.dumps(ids)}
    if connection.dialect.name != "sqlite":
        return set(connection.execute(_statement(connection.dialect), given).scalars())
    insertion, *following = _statements(connection.dialect)
    new = set(connection.execute(insertion, given).scalars())
    given["new"] = json.dumps(list(new))
    for statement in following:
        connection.execute(statement, given)
    return new


_NEW = table("new_rows", *(column(c.name, c.type) for c in ledger.c))
"""The rows that a statement has just put onto the ledger."""


@lru_cache(maxsize=4)
def _statement(dialect: Dialect) -> TextClause:
    """On PostgreSQL all is one statement: what it locks is held for one round trip and the commit.

    Its parts run after the insert, from the last to the first: what other aggregators wait for,
    the rollups, is locked last.
    """
    parts = "".join(f", of_{name} AS ({sql})" for name, sql in _parts(dialect).items())
    return text(f"WITH new_rows AS ({_insertion(dialect)}){parts} SELECT id FROM new_rows")  # noqa: S608 -- our own names


@lru_cache(maxsize=4)
def _statements(dialect: Dialect) -> list[TextClause]:
    """On SQLite, the insert and what follows, each from the rows that are on the ledger then."""
    new = f"SELECT * FROM ledger WHERE id IN {json_strings(dialect, 'new')}"  # noqa: S608 -- our own names
    following = [f"WITH new_rows AS ({new}) {sql}" for sql in reversed(_parts(dialect).values())]
    return [text(sql) for sql in (_insertion(dialect), *following)]


def _insertion(dialect: Dialect) -> str:
    # The condition on the month is in the same statement as the insert: where retention drops a
    # month at the same time, this waits for it and then sees that the month is gone.
    names = ", ".join(c.name for c in ledger.c)
    return (
        f"INSERT INTO ledger ({names}) SELECT {names} "  # noqa: S608 -- our own names
        f"FROM {json_rows(dialect, [*ledger.c, _OF_MONTH])} "
        "WHERE of_month > (SELECT coalesce(max(month), 0) FROM ledger_dropped) "
        "ORDER BY id ON CONFLICT (id, month) DO NOTHING RETURNING "
        + ("id" if dialect.name == "sqlite" else names)
    )


_OF_MONTH = Column("of_month", Integer)
"""The month that retention goes by: of an id without a date, that of the row's own time."""


def _parts(dialect: Dialect) -> dict[str, str]:
    """What follows from new rows on the ledger, by the table that it changes."""
    return {
        daily_usage.name: addition(daily_usage, MEASURES, sql_of(dialect, rollups(_NEW))),
        provider_keys.name: _handling(dialect),
        **budgets.arriving(dialect, _NEW),
        outbox_table.name: outbox.clearing(dialect),
    }


def _digests(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The digests of the rows among `ids` that are on the ledger."""
    if not ids:
        return {}
    months_of = {months.of_id(row_id) for row_id in ids}
    rows = connection.execute(
        select(ledger.c.id, ledger.c.digest).where(
            ledger.c.id.in_(ids), ledger.c.month.in_(months_of)
        )
    )
    return {row.id: row.digest for row in rows}


ROLLUP_KEY = tuple(column.name for column in daily_usage.primary_key)


def rollups(rows: FromClause) -> Select[Any]:
    """What rows of the ledger's columns add up to: the rollup's key, and the measures."""
    billed = rows.c.kind.in_(BILLED)
    measured = {
        "operations": case((rows.c.completes, 1), else_=0),
        "calls": case((billed, 1), else_=0),
        **{name: rows.c[name] for name in TOKENS},
        "cost_nano_usd": rows.c.cost_nano_usd,
        "unpriced_calls": case(
            (and_(billed, ~rows.c.priced), 1), (rows.c.kind == PRICED, -1), else_=0
        ),
    }
    return select(
        *(rows.c[key] for key in ROLLUP_KEY),
        *(total(measured[name]).label(name) for name in MEASURES),
    ).group_by(*(rows.c[key] for key in ROLLUP_KEY))


def handled(rows: FromClause) -> Select[Any]:
    """How many requests each key has handled by rows of the ledger's columns."""
    return (
        select(rows.c.key_id, func.count().label("requests"))
        .where(rows.c.completes, rows.c.key_id.is_not(None))
        .group_by(rows.c.key_id)
    )


def _handling(dialect: Dialect) -> str:
    """SQL that adds what new rows handled to their keys, as far as there are such."""
    source = f"({sql_of(dialect, handled(_NEW))}) AS r"
    if dialect.name != "sqlite":
        # Locked in one order, whatever order the update would find them in.
        source = (
            f"(SELECT r.* FROM {source} JOIN provider_keys USING (key_id) "  # noqa: S608 -- our own names
            "ORDER BY key_id FOR NO KEY UPDATE OF provider_keys) AS r"
        )
    return (
        "UPDATE provider_keys SET requests = provider_keys.requests + r.requests "  # noqa: S608 -- our own names
        f"FROM {source} WHERE provider_keys.key_id = r.key_id"
    )


def rows_of(connection: Connection, surrogate: str | None = None) -> list[LedgerRow]:
    """Ledger rows in the order of their time, of one account or of all."""
    statement = select(*(ledger.c[name] for name in _FIELDS)).order_by(ledger.c.at, ledger.c.id)
    if surrogate is not None:
        statement = statement.where(ledger.c.surrogate == surrogate)
    return [LedgerRow(**row._mapping) for row in connection.execute(statement)]
