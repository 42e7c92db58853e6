"""The usage card: what the ledger adds up to over a window of days."""

from decimal import Decimal
from typing import Any

import pytest

from store import ledger, usage
from store.engine import Database
from store.usage import UsageCard
from tests.unit.store.rows import NOW, ledger_row

TODAY = "2026-01-31"


def card(
    database: Database, days: int = 30, today: str = TODAY, who: str | None = "s-1"
) -> UsageCard:
    with database.read() as connection:
        return usage.card(connection, who, today, days)


def record(database: Database, *changes: dict[str, Any]) -> None:
    """Put calls on the ledger, today unless said otherwise."""
    with database.write() as connection:
        ledger.record(
            connection,
            [
                ledger_row(f"row-{number}", **{"local_date": TODAY} | change)
                for number, change in enumerate(changes)
            ],
            NOW,
        )


BY_RULES = {
    "kind": "none",
    "provider": "none",
    "model": "none",
    "credential": "none",
    "key_id": None,
    "input_tokens": 0,
    "output_tokens": 0,
    "cost_nano_usd": 0,
}
PLATFORM = {"credential": "platform", "key_id": None}


@pytest.mark.parametrize(
    ("days", "first"), [(7, "2026-01-25"), (30, "2026-01-02"), (90, "2025-11-03")]
)
def test_an_empty_window_has_every_day_and_nothing_in_it(
    database: Database, days: int, first: str
) -> None:
    found = card(database, days)
    assert (found.first_day, found.last_day, len(found.by_day)) == (first, TODAY, days)
    assert list(found.by_day) == sorted(found.by_day)
    assert (found.total.operations, found.total.tokens, found.total.cost_usd) == (0, 0, 0)
    assert found.byok_share is None
    assert found.provider_distribution == {}


def test_an_account_that_never_used_anything_has_an_empty_card(database: Database) -> None:
    record(database, {})
    assert card(database, who=None).total.operations == 0
    assert card(database, who="s-2").total.operations == 0


def test_the_card_adds_up_operations_tokens_and_cost(database: Database) -> None:
    record(database, {}, {"completes": False}, {"cost_nano_usd": 1})
    total = card(database).total
    assert total.operations == 2
    # Input and output; what was read from a cache is part of the input.
    assert total.tokens == 3 * (100 + 10)
    assert total.cost_usd == Decimal("0.002469135")


def test_a_probe_costs_and_is_no_operation(database: Database) -> None:
    record(database, {"kind": "probe", "operation": "probe", "completes": False})
    found = card(database)
    assert found.total.operations == 0
    assert found.total.cost_usd == Decimal("0.001234567")
    assert found.provider_distribution == {}
    assert found.byok_share is None


def test_a_window_holds_its_first_and_last_day_and_no_other(database: Database) -> None:
    days = ["2026-01-24", "2026-01-25", "2026-01-31", "2026-02-01"]
    record(database, *({"local_date": day} for day in days))
    assert card(database, 7).total.operations == 2
    assert card(database, 7).by_day["2026-01-25"].operations == 1
    assert card(database, 8).total.operations == 3
    assert card(database, 7, "2026-02-01").total.operations == 2
    assert card(database, 1).total.operations == 1


def test_days_add_up_to_the_total(database: Database) -> None:
    record(
        database,
        *({"local_date": f"2026-01-{day:02}", "cost_nano_usd": day} for day in range(2, 32)),
        BY_RULES,
        PLATFORM,
    )
    found = card(database)
    for name in ("operations", "byok_operations", "platform_operations", "tokens", "cost_nano_usd"):
        total = getattr(found.total, name)
        assert total == sum(getattr(day, name) for day in found.by_day.values()) != 0


def test_the_byok_share_is_of_operations_that_somebody_paid_for(database: Database) -> None:
    record(database, {}, {}, {}, PLATFORM, BY_RULES, BY_RULES)
    found = card(database)
    assert found.total.operations == 6
    assert found.byok_share == pytest.approx(0.75)


def test_the_byok_share_is_not_shown_before_an_own_key_was_used(database: Database) -> None:
    record(database, PLATFORM, BY_RULES)
    assert card(database).byok_share is None


def test_with_own_keys_alone_the_share_is_whole(database: Database) -> None:
    record(database, {}, BY_RULES)
    assert card(database).byok_share == 1.0


def test_a_call_that_completed_nothing_moves_no_share(database: Database) -> None:
    record(
        database, {}, PLATFORM | {"completes": False}, {"provider": "anthropic", "completes": False}
    )
    found = card(database)
    assert found.byok_share == 1.0
    assert found.provider_distribution == {"openai": 1.0}


def test_providers_share_the_operations_that_they_ran(database: Database) -> None:
    record(
        database,
        {},
        {"model": "gpt-unit-2"},
        PLATFORM,
        {"provider": "anthropic", "model": "claude-unit-1"},
        BY_RULES,
    )
    distribution = card(database).provider_distribution
    assert distribution == {"anthropic": 0.25, "openai": 0.75}
    assert list(distribution) == sorted(distribution)


def test_a_model_without_a_price_costs_nothing_and_counts(database: Database) -> None:
    record(database, {"priced": False, "cost_nano_usd": 0})
    found = card(database)
    assert (found.total.operations, found.total.cost_usd) == (1, 0)


def test_a_card_over_the_end_of_february_counts_real_days(database: Database) -> None:
    found = card(database, 3, "2028-03-01")
    assert list(found.by_day) == ["2028-02-28", "2028-02-29", "2028-03-01"]
