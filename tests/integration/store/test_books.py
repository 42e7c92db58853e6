"""Rebuilding what is added up, auditing the books against each other, and repricing the ledger."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from events import Provider
from store import audit, books, budgets, ledger, outbox, usage
from store.accounts import surrogate_of
from store.engine import Database
from store.ledger import LedgerRow
from store.schema import (
    analyses,
    attempts,
    budget_months,
    credit_periods,
    daily_usage,
    ledger_dropped,
    provider_keys,
)
from store.schema import ledger as ledger_table
from tests.unit.store.rows import NOW, ledger_row
from workers.app import App
from workers.pricing import PRICE_VERSION, price_of
from workers.providers.port import Tokens
from workers.usage.reprice import reprice


def record(database: Database, *rows: LedgerRow) -> None:
    with database.write() as connection:
        ledger.record(connection, rows, NOW)


def add_key(database: Database, key_id: str = "key-1") -> None:
    with database.write() as connection:
        connection.execute(
            insert(provider_keys).values(
                key_id=key_id,
                account_id="acme",
                provider="openai",
                revision=1,
                status="valid",
                reason="ok",
                last4="0000",
                added_at=NOW,
            )
        )


def differing(database: Database) -> list[books.Difference]:
    with database.snapshot() as connection:
        return books.differences(connection)


def rebuild(database: Database) -> list[books.Difference]:
    with database.write() as connection:
        return books.rebuild(connection)


ROWS = [
    ledger_row("a"),
    ledger_row("b", completes=False, priced=False, cost_nano_usd=0),
    ledger_row("c", credential="platform", key_id=None, local_date="2026-02-01"),
    ledger_row("d", kind="none", provider="none", model="none", credential="none", key_id=None),
    ledger_row("e", kind="probe", operation="probe", completes=False),
    ledger_row("f", kind="priced", completes=False, input_tokens=0, cost_nano_usd=5),
    ledger_row("g", kind="repriced", completes=False, input_tokens=0, cost_nano_usd=-5),
]


# Rebuilding


def test_what_was_added_up_is_what_is_rebuilt(database: Database) -> None:
    add_key(database)
    record(database, *ROWS)
    assert differing(database) == []
    assert rebuild(database) == []


def spoil_a_rollup(database: Database) -> None:
    with database.write() as connection:
        connection.execute(
            update(daily_usage)
            .where(daily_usage.c.local_date == "2026-02-01")
            .values(operations=7, cost_nano_usd=1)
        )


def lose_the_rollups(database: Database) -> None:
    with database.write() as connection:
        connection.execute(delete(daily_usage))


def invent_a_rollup(database: Database) -> None:
    with database.write() as connection:
        values = dict.fromkeys(ledger.ROLLUP_KEY, "x") | {"operations": 3}
        connection.execute(insert(daily_usage).values(values))


def spoil_what_is_spent(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(budget_months).values(spent_nano_usd=1))


def spoil_a_keys_count(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(provider_keys).values(requests=9))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (spoil_a_rollup, books.ROLLUPS),
        (lose_the_rollups, books.ROLLUPS),
        (invent_a_rollup, books.ROLLUPS),
        (spoil_what_is_spent, books.SPENDING),
        (spoil_a_keys_count, books.KEY_COUNTS),
    ],
)
def test_what_is_wrong_is_told_and_put_right(
    database: Database, spoil: Callable[[Database], None], what: str
) -> None:
    add_key(database)
    record(database, *ROWS)
    before = all_rollups(database)
    spoil(database)
    found = differing(database)
    assert {difference.what for difference in found} == {what}
    assert rebuild(database) == found
    assert differing(database) == []
    assert all_rollups(database) == before


def all_rollups(database: Database) -> set[tuple[Any, ...]]:
    with database.read() as connection:
        return {tuple(row) for row in connection.execute(select(daily_usage))}


def test_a_difference_says_what_stands_there_and_what_the_ledger_has(database: Database) -> None:
    record(database, *ROWS)
    spoil_a_rollup(database)
    (found,) = differing(database)
    assert found.key["local_date"] == "2026-02-01"
    assert found.live == {"operations": 7, "cost_nano_usd": 1}
    assert found.rebuilt == {"operations": 1, "cost_nano_usd": 1_234_567}


def test_days_that_retention_took_a_part_of_are_left_as_they_are(database: Database) -> None:
    january = ledger_row("a", local_date="2026-01-31")
    # The first of February had begun, by the account's calendar, when it was January in UTC.
    border = ledger_row("b", local_date="2026-02-01")
    february = ledger_row("c", local_date="2026-02-02")
    record(database, january, border, february)
    with database.write() as connection:
        connection.execute(delete(ledger_table).where(ledger_table.c.id.in_(["a", "b"])))
        connection.execute(insert(ledger_dropped).values(month=202601, rows=2, dropped_at=NOW))
    assert rebuild(database) == []
    with database.write() as connection:
        connection.execute(update(daily_usage).values(operations=5))
    assert [found.key["local_date"] for found in rebuild(database)] == ["2026-02-02"]


accounts_seen = (f"account-{number}" for number in range(10**6))

some_rows = st.lists(
    st.builds(
        ledger_row,
        kind=st.sampled_from(["call", "probe", "none", "priced", "repriced"]),
        completes=st.booleans(),
        credential=st.sampled_from(["byok", "platform", "none"]),
        key_id=st.sampled_from([None, "key-1"]),
        local_date=st.sampled_from(["2026-01-01", "2026-02-01"]),
        cost_nano_usd=st.integers(-(10**9), 10**15),
        priced=st.booleans(),
        at=st.sampled_from([NOW, NOW + 40 * 86_400_000]),
    ),
    max_size=8,
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=some_rows)
def test_whatever_is_on_the_ledger_is_rebuilt_as_it_was_added_up(
    database: Database, rows: list[LedgerRow]
) -> None:
    account = next(accounts_seen)
    named = [replace(row, id=f"{account}-{n}", surrogate=account) for n, row in enumerate(rows)]
    record(database, *named)
    assert differing(database) == []


# The audit


@pytest.fixture
def kept(database: Database) -> Database:
    """Books in which everything matches: two requests that a call each answered, one of them with
    an attempt before, whose answer was lost, and one that waits."""
    add_key(database)
    with database.write() as connection:
        surrogate = surrogate_of(connection, "acme", lambda: "s-1")
        for request_id, state, attempt in (
            ("req-a", "completed", 1),
            ("req-b", "completed", 2),
            ("req-c", "waiting", 0),
        ):
            connection.execute(
                insert(analyses).values(
                    account_id="acme",
                    request_id=request_id,
                    event_id=request_id,
                    digest=b"d",
                    operation="classify",
                    provider_wanted="auto",
                    state=state,
                    attempt=attempt,
                    created_at=NOW,
                    expires_at=NOW + 1,
                    finished_at=NOW if state == "completed" else None,
                    credential="platform" if attempt else None,
                    answered_by="model" if attempt else None,
                )
            )
        for request_id, number, state in (
            ("req-a", 1, "answered"),
            ("req-b", 1, "unknown"),
            ("req-b", 2, "answered"),
        ):
            connection.execute(
                insert(attempts).values(
                    account_id="acme",
                    request_id=request_id,
                    attempt=number,
                    state=state,
                    process_id="p",
                    provider="openai",
                    model="m",
                    credential="platform",
                    started_at=NOW,
                    ended_at=NOW,
                )
            )
        connection.execute(
            insert(credit_periods).values(
                account_id="acme", period_start_at=NOW, used=2, reserved=0
            )
        )
    assert surrogate == "s-1"
    platform = {"credential": "platform", "key_id": None}
    record(database, ledger_row("a", request_id="req-a", **platform))
    waiting = ledger_row("b", request_id="req-b", attempt=2, **platform)
    with database.write() as connection:
        entry = outbox.OutboxRow(waiting.id, waiting.to_json())
        outbox.add(connection, outbox.USAGE, [entry], NOW)
    return database


def audited(database: Database) -> audit.Audit:
    with database.snapshot() as connection:
        return audit.audit(connection)


def test_books_that_match_have_no_findings_and_list_the_lost_answer(kept: Database) -> None:
    found = audited(kept)
    assert found.findings == []
    assert found.unknown_attempts == 1
    assert (found.compared["requests"], found.compared["attempts"]) == (2, 2)


def execute(statement: Any) -> Callable[[Database], None]:
    def act(database: Database) -> None:
        with database.write() as connection:
            connection.execute(statement)

    return act


REQ_A = analyses.c.request_id == "req-a"
REQ_C = analyses.c.request_id == "req-c"


@pytest.mark.parametrize(
    ("spoil", "check", "about"),
    [
        (execute(delete(ledger_table)), "requests", "acme req-a"),
        (execute(delete(ledger_table)), "attempts", "acme req-a 1"),
        (execute(update(analyses).where(REQ_A).values(state="failed")), "requests", "acme req-a"),
        (
            execute(
                update(attempts).where(attempts.c.request_id == "req-a").values(state="failed")
            ),
            "attempts",
            "acme req-a 1",
        ),
        (
            lambda d: record(d, ledger_row("twice", request_id="req-a", attempt=1)),
            "operations counted once",
            "s-1 req-a",
        ),
        (
            lambda d: record(d, ledger_row("twice", request_id="req-a", attempt=1)),
            "calls billed once",
            "s-1 req-a 1",
        ),
        (execute(update(credit_periods).values(used=3)), "credits used", "acme"),
        (execute(update(credit_periods).values(reserved=1)), "credits reserved", f"acme {NOW}"),
        (
            execute(update(analyses).where(REQ_C).values(credit_period_at=NOW)),
            "credits reserved",
            f"acme {NOW}",
        ),
        (execute(update(provider_keys).values(requests=1)), "key_counts", "key-1"),
        (execute(update(daily_usage).values(calls=4)), "rollups", "s-1 2026-01-01"),
        (
            execute(insert(budget_months).values(scope="x", month="m", reserved_nano_usd=1)),
            "budgets",
            "x m",
        ),
        (
            execute(insert(ledger_dropped).values(month=199001, rows=0, dropped_at=0)),
            None,
            "",
        ),
    ],
)
def test_what_does_not_match_is_found(
    kept: Database, spoil: Callable[[Database], None], check: str | None, about: str
) -> None:
    spoil(kept)
    findings = audited(kept).findings
    if check is None:
        assert findings == []
    else:
        assert any(f.check == check and f.about.startswith(about) for f in findings), findings


def test_a_row_that_is_on_the_ledger_and_still_in_the_outbox_is_found(kept: Database) -> None:
    row = ledger_row("b", request_id="req-b", attempt=2, credential="platform", key_id=None)
    record(kept, row)
    assert audited(kept).findings == []
    with kept.write() as connection:
        outbox.add(connection, outbox.USAGE, [outbox.OutboxRow("b", row.to_json())], NOW)
    assert [finding.check for finding in audited(kept).findings] == ["outbox"]


def test_a_reservation_of_a_request_that_has_ended_is_found(kept: Database) -> None:
    with kept.write() as connection:
        budgets.reserve(
            connection,
            [budgets.Budget(scope="platform", month="2026-01", cap_nano_usd=10**12)],
            account_id="acme",
            request_id="req-a",
            attempt=1,
            nano_usd=5,
        )
    (finding,) = audited(kept).findings
    assert (finding.check, finding.about) == ("budgets", "acme req-a 1")


# Repricing

OLD = {"provider": "openai", "model": "gpt-4o", "price_version": "genai-prices 0.0.1"}


def cost_of(row: LedgerRow) -> int:
    tokens = Tokens(
        input=row.input_tokens,
        cached_read=row.cached_read_tokens,
        cache_write=row.cache_write_tokens,
        output=row.output_tokens,
    )
    return price_of(Provider(row.provider), row.model, tokens, row.at).nano_usd


def test_repricing_shows_the_difference_and_changes_nothing(app: App) -> None:
    record(
        app.database, ledger_row("a", **OLD), ledger_row("b", **OLD, priced=False, cost_nano_usd=0)
    )
    found = reprice(app, apply=False)
    (change,) = found.changes.values()
    price = cost_of(ledger_row(**OLD))
    assert (change.calls, change.first_priced) == (2, 1)
    assert (change.old_nano_usd, change.new_nano_usd) == (1_234_567, 2 * price)
    with app.database.read() as connection:
        assert len(ledger.rows_of(connection)) == 2


def test_applied_it_is_booked_once_and_the_old_figures_stay(app: App) -> None:
    rows = [
        ledger_row("a", **OLD),
        ledger_row("b", **OLD, priced=False, cost_nano_usd=0),
        ledger_row("current", provider="openai", model="gpt-4o", price_version=PRICE_VERSION),
        ledger_row("unknown", price_version="genai-prices 0.0.1"),
        ledger_row("rules", kind="none", provider="none", model="none", cost_nano_usd=0),
    ]
    record(app.database, *rows)
    reprice(app, apply=True)
    again = reprice(app, apply=True)
    assert (again.looked_at, again.changes) == (3, {})
    with app.database.read() as connection:
        kept_rows = {row.id: row for row in ledger.rows_of(connection)}
        card = usage.card(connection, "s-1", "2026-01-01", 7)
    assert {row.id: row for row in rows}.items() <= kept_rows.items()
    made = [row for row in kept_rows.values() if row.kind in ("priced", "repriced")]
    assert sorted((row.id.partition("~")[0], row.kind) for row in made) == [
        ("a", "repriced"),
        ("b", "priced"),
    ]
    price = cost_of(rows[0])
    assert card.total.cost_nano_usd == 2 * price + 2 * 1_234_567
    assert (card.total.operations, card.total.calls, card.total.unpriced_calls) == (5, 4, 0)
    assert differing(app.database) == []


def test_a_second_table_is_booked_on_top_of_the_first(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(app.database, ledger_row("a", **OLD))
    with app.database.write() as connection:
        first = ledger_row(
            "a~genai-prices-0.0.2",
            kind="repriced",
            completes=False,
            cost_nano_usd=100,
            **OLD | {"price_version": "genai-prices 0.0.2"},
        )
        ledger.record(connection, [first], NOW)
    reprice(app, apply=True)
    with app.database.read() as connection:
        total = sum(row.cost_nano_usd for row in ledger.rows_of(connection))
    assert total == cost_of(ledger_row(**OLD))
    assert differing(app.database) == []


def test_many_pages_are_repriced_and_each_row_once(app: App) -> None:
    record(app.database, *(ledger_row(f"row-{n:04}", **OLD) for n in range(1_100)))
    found = reprice(app, apply=True)
    (change,) = found.changes.values()
    assert (found.looked_at, change.calls) == (1_100, 1_100)
    assert reprice(app, apply=True).changes == {}
