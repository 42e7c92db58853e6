"""Ledger rows: how they travel, and what they add up to."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.ledger import CALL, NONE, PROBE, LedgerRow, rollups_of
from tests.unit.store.rows import ledger_row

KEY = ("s-1", "2026-01-01", "classify", "openai", "gpt-unit-1", "byok")


def test_a_row_is_read_as_it_was_written() -> None:
    row = ledger_row(fallback_reason="plan", provider_request_id="req_\u00e9", key_id=None)
    assert LedgerRow.from_fields(json.loads(row.to_json())) == row


def test_the_same_row_is_always_written_the_same() -> None:
    fields = json.loads(ledger_row().to_json())
    backwards = dict(reversed(fields.items()))
    assert LedgerRow.from_fields(backwards).to_json() == ledger_row().to_json()


@pytest.mark.parametrize("change", [{"tip": 1}, {"id": "x", "cost": 2}])
def test_a_row_with_an_unknown_field_is_no_row(change: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        LedgerRow.from_fields(json.loads(ledger_row().to_json()) | change)


def test_a_row_without_a_field_is_no_row() -> None:
    fields = json.loads(ledger_row().to_json())
    del fields["cost_nano_usd"]
    with pytest.raises(TypeError):
        LedgerRow.from_fields(fields)


def test_no_rows_add_up_to_nothing() -> None:
    assert rollups_of([]) == {}


def test_operations_are_counted_once_whatever_calls_they_took() -> None:
    rows = [
        ledger_row("a", request_id="r", completes=False),
        ledger_row("b", request_id="r", attempt=2),
    ]
    assert rollups_of(rows) == {
        KEY: {
            "operations": 1,
            "calls": 2,
            "input_tokens": 200,
            "cached_read_tokens": 40,
            "cache_write_tokens": 6,
            "output_tokens": 20,
            "reasoning_tokens": 8,
            "cost_nano_usd": 2_469_134,
            "unpriced_calls": 0,
        }
    }


def test_a_probe_is_a_call_and_no_operation() -> None:
    (sums,) = rollups_of([ledger_row(kind=PROBE, operation="probe", completes=False)]).values()
    assert (sums["operations"], sums["calls"]) == (0, 1)
    assert sums["cost_nano_usd"] == 1_234_567


def test_an_operation_by_rules_is_no_call() -> None:
    nothing = dict.fromkeys(("provider", "model", "credential"), "none")
    row = ledger_row(kind=NONE, priced=False, cost_nano_usd=0, **nothing)
    (sums,) = rollups_of([row]).values()
    assert (sums["operations"], sums["calls"], sums["unpriced_calls"]) == (1, 0, 0)


def test_a_call_without_a_price_is_counted_as_such() -> None:
    (sums,) = rollups_of([ledger_row(kind=CALL, priced=False, cost_nano_usd=0)]).values()
    assert sums["unpriced_calls"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("surrogate", "s-2"),
        ("local_date", "2026-01-02"),
        ("operation", "probe"),
        ("provider", "anthropic"),
        ("model", "gpt-unit-2"),
        ("credential", "platform"),
    ],
)
def test_rows_that_differ_in_what_is_told_apart_are_not_mixed(field: str, value: str) -> None:
    assert len(rollups_of([ledger_row("a"), ledger_row("b", **{field: value})])) == 2


@settings(max_examples=50)
@given(st.permutations(range(6)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    rows = [
        ledger_row(str(n), local_date=f"2026-01-0{1 + n % 2}", cost_nano_usd=10**n)
        for n in range(6)
    ]
    assert rollups_of(rows[n] for n in order) == rollups_of(rows)
