"""Ledger rows to test with."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from store.ledger import BILLED, MEASURES, PRICED, ROLLUP_KEY, TOKENS, LedgerRow

NOW = 1_767_268_800_000


def ledger_row(row_id: str = "row-1", **changes: Any) -> LedgerRow:
    """A billed call that completed an operation on an own key."""
    fields: dict[str, Any] = {
        "id": row_id,
        "kind": "call",
        "surrogate": "s-1",
        "request_id": f"req-{row_id}",
        "attempt": 1,
        "operation": "classify",
        "completes": True,
        "provider": "openai",
        "model": "gpt-unit-1",
        "credential": "byok",
        "key_id": "key-1",
        "fallback_reason": None,
        "input_tokens": 100,
        "cached_read_tokens": 20,
        "cache_write_tokens": 3,
        "output_tokens": 10,
        "reasoning_tokens": 4,
        "cost_nano_usd": 1_234_567,
        "priced": True,
        "price_version": "unit 1",
        "provider_request_id": None,
        "at": NOW,
        "local_date": "2026-01-01",
    }
    return LedgerRow(**fields | changes)


_key_of = attrgetter(*ROLLUP_KEY)


def rollups_of(rows: Iterable[LedgerRow]) -> dict[tuple[str, ...], dict[str, int]]:
    """The rollup rows that `rows` add up to, by the rollup's key: what the store must say."""
    sums: dict[tuple[str, ...], dict[str, int]] = {}
    for row in rows:
        into = sums.setdefault(_key_of(row), dict.fromkeys(MEASURES, 0))
        billed = row.kind in BILLED
        into["operations"] += row.completes
        into["calls"] += billed
        into["unpriced_calls"] += (billed and not row.priced) - (row.kind == PRICED)
        into["cost_nano_usd"] += row.cost_nano_usd
        for name in TOKENS:
            into[name] += getattr(row, name)
    return sums
