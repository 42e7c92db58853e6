"""The ledger: append-only, one row per billed call or probe and per operation without AI.

The daily rollups and the per-key counts are folded in the same transaction as the rows, so that
they can be rebuilt from the ledger and come out the same.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from sqlalchemy import Connection, select, update

from store import outbox
from store.schema import daily_usage, ledger, provider_keys
from store.statements import insert_into
from store.vault import content_digest

CALL = "call"
PROBE = "probe"
NONE = "none"

NOTHING = "none"
"""Stands for "no provider", "no model" and "no credential", which are part of a rollup's key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One row. `cost_nano_usd` is in nano-dollars, exact; `at` is Unix ms.

    `completes` is true on the one row that stands for the completed operation; other rows of the
    same request are calls that were billed without completing it.
    """

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
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Raises `TypeError` where a field is missing or unknown."""
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of a batch: ids that were new, that were repeats, and repeats that differed."""

    new: list[str]
    repeated: list[str]
    conflicting: list[str]


_MEASURES = (
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
_TOKENS = tuple(name for name in _MEASURES if name.endswith("_tokens"))


def record(connection: Connection, rows: Sequence[LedgerRow]) -> Recorded:
    """Insert rows, fold the new ones into the rollups, and clear their outbox rows.

    All in the caller's one transaction. A repeat changes nothing.
    """
    if not rows:
        return Recorded(new=[], repeated=[], conflicting=[])
    unique: dict[str, LedgerRow] = {}
    for row in rows:
        unique.setdefault(row.id, row)
    differing = {row.id for row in rows if row != unique[row.id]}
    digests = {row.id: content_digest(row.to_json().encode()) for row in unique.values()}
    inserted = set(
        connection.execute(
            insert_into(connection, ledger)
            .values([asdict(row) | {"digest": digests[row.id]} for row in unique.values()])
            .on_conflict_do_nothing(index_elements=["id"])
            .returning(ledger.c.id)
        ).scalars()
    )
    repeated = [row_id for row_id in unique if row_id not in inserted]
    differing |= {
        row.id
        for row in connection.execute(
            select(ledger.c.id, ledger.c.digest).where(ledger.c.id.in_(repeated))
        )
        if row.digest != digests[row.id]
    }
    conflicting = [row_id for row_id in unique if row_id in differing]
    new = [unique[row_id] for row_id in unique if row_id in inserted]
    _fold(connection, new)
    _count_requests(connection, new)
    outbox.clear(connection, list(unique))
    return Recorded(new=[row.id for row in new], repeated=repeated, conflicting=conflicting)


def rollups_of(rows: Iterable[LedgerRow]) -> dict[tuple[str, ...], dict[str, int]]:
    """The rollup rows that `rows` add up to, by the rollup's key."""
    sums: dict[tuple[str, ...], dict[str, int]] = {}
    for row in rows:
        key = (
            row.surrogate,
            row.local_date,
            row.operation,
            row.provider,
            row.model,
            row.credential,
        )
        into = sums.setdefault(key, dict.fromkeys(_MEASURES, 0))
        into["operations"] += row.completes
        into["calls"] += row.kind != NONE
        into["unpriced_calls"] += row.kind != NONE and not row.priced
        into["cost_nano_usd"] += row.cost_nano_usd
        for name in _TOKENS:
            into[name] += getattr(row, name)
    return sums


def _fold(connection: Connection, rows: Sequence[LedgerRow]) -> None:
    if not rows:
        return
    keys = [column.name for column in daily_usage.primary_key]
    statement = insert_into(connection, daily_usage)
    # In the order of their keys, so that two aggregators cannot wait for each other in a circle.
    values = [
        dict(zip(keys, key, strict=True)) | sums for key, sums in sorted(rollups_of(rows).items())
    ]
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=keys,
            set_={name: daily_usage.c[name] + statement.excluded[name] for name in _MEASURES},
        ),
        values,
    )


def _count_requests(connection: Connection, rows: Sequence[LedgerRow]) -> None:
    handled: dict[str, int] = {}
    for row in rows:
        if row.completes and row.key_id is not None:
            handled[row.key_id] = handled.get(row.key_id, 0) + 1
    for key_id, count in sorted(handled.items()):
        connection.execute(
            update(provider_keys)
            .where(provider_keys.c.key_id == key_id)
            .values(requests=provider_keys.c.requests + count)
        )


def rows_of(connection: Connection, surrogate: str | None = None) -> list[LedgerRow]:
    """Ledger rows in the order of their time, of one account or of all."""
    statement = select(*(c for c in ledger.c if c.name != "digest")).order_by(
        ledger.c.at, ledger.c.id
    )
    if surrogate is not None:
        statement = statement.where(ledger.c.surrogate == surrogate)
    return [LedgerRow(**row._mapping) for row in connection.execute(statement)]
