"""Ledger rows: how they travel."""

import json

import pytest

from store.ledger import LedgerRow
from tests.unit.store.rows import ledger_row


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
