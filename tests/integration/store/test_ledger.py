"""The ledger: each row once, and rollups and counts that follow from the rows alone."""

import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from events import EventRefused, UsageRecorded
from store import books, ledger, outbox, setaside
from store.engine import Database
from store.ledger import LedgerRow, Recorded
from store.schema import budget_months, daily_usage, ledger_dropped, provider_keys
from tests.unit.store.rows import NOW, ledger_row, rollups_of
from tests.unit.workers.standins import event_of
from workers.app import App
from workers.usage import aggregate


def record(database: Database, *rows: LedgerRow) -> Recorded:
    with database.write() as connection:
        return ledger.record(connection, rows, NOW)


def rollups(database: Database, surrogate: str) -> dict[tuple[str, ...], dict[str, int]]:
    """What the store has added up for an account."""
    names = [column.name for column in daily_usage.primary_key]
    with database.read() as connection:
        found = connection.execute(
            select(daily_usage).where(daily_usage.c.surrogate == surrogate)
        ).all()
    return {
        tuple(getattr(row, name) for name in names): {
            name: value for name, value in row._mapping.items() if name not in names
        }
        for row in found
    }


def kept(database: Database, surrogate: str) -> list[LedgerRow]:
    with database.read() as connection:
        return ledger.rows_of(connection, surrogate)


def add_key(database: Database, key_id: str) -> None:
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


def requests_of(database: Database, key_id: str) -> int:
    """How many requests a key has handled."""
    with database.read() as connection:
        handled: int = connection.execute(
            select(provider_keys.c.requests).where(provider_keys.c.key_id == key_id)
        ).scalar_one()
    return handled


def test_a_row_comes_back_as_it_was_recorded(database: Database) -> None:
    row = ledger_row(fallback_reason="plan", provider_request_id="req_unit", priced=False)
    assert record(database, row) == Recorded(new=["row-1"])
    assert kept(database, "s-1") == [row]


def test_a_redelivered_row_is_counted_once(database: Database) -> None:
    add_key(database, "key-1")
    record(database, ledger_row())
    again = record(database, ledger_row())
    assert (again.new, again.repeated, again.conflicting) == ([], ["row-1"], [])
    assert rollups(database, "s-1") == rollups_of([ledger_row()])
    assert requests_of(database, "key-1") == 1


def test_a_row_twice_in_one_batch_is_counted_once(database: Database) -> None:
    add_key(database, "key-1")
    assert record(database, ledger_row(), ledger_row()).new == ["row-1"]
    assert rollups(database, "s-1") == rollups_of([ledger_row()])
    assert requests_of(database, "key-1") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"cost_nano_usd": 0},
        {"completes": False},
        {"surrogate": "s-2"},
        {"key_id": None},
        {"priced": False},
        {"provider_request_id": "req_other"},
        {"at": NOW + 1},
    ],
)
def test_a_repeat_that_differs_is_reported_and_changes_nothing(
    database: Database, change: dict[str, Any]
) -> None:
    add_key(database, "key-1")
    record(database, ledger_row())
    other = ledger_row(**change)
    outcome = record(database, other, ledger_row("row-2"))
    assert (outcome.new, outcome.conflicting) == (["row-2"], [other])
    both = [ledger_row(), ledger_row("row-2")]
    assert kept(database, "s-1") == both
    assert kept(database, "s-2") == []
    assert rollups(database, "s-1") == rollups_of(both)
    assert requests_of(database, "key-1") == 2


def test_a_repeat_that_differs_within_its_batch_is_reported_too(database: Database) -> None:
    other = ledger_row(cost_nano_usd=0)
    outcome = record(database, ledger_row(), other, other)
    assert (outcome.new, outcome.conflicting) == (["row-1"], [other])
    assert kept(database, "s-1") == [ledger_row()]


def test_nothing_recorded_is_nothing_changed(database: Database) -> None:
    assert record(database) == Recorded()


def test_what_is_on_the_ledger_leaves_the_outbox_in_the_same_transaction(
    database: Database,
) -> None:
    rows = [ledger_row("a"), ledger_row("b")]
    with database.write() as connection:
        entries = [outbox.OutboxRow(row.id, row.to_json()) for row in rows]
        outbox.add(connection, outbox.USAGE, entries, NOW)

    def die_before_the_commit() -> None:
        with database.write() as connection:
            ledger.record(connection, rows, NOW)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        die_before_the_commit()
    assert kept(database, "s-1") == []
    with database.read() as connection:
        assert outbox.backlog(connection)[outbox.USAGE][0] == 2
    record(database, *rows)
    with database.read() as connection:
        assert outbox.backlog(connection) == {}


def test_only_completed_operations_count_as_requests_of_their_key(database: Database) -> None:
    for key_id in ("key-1", "key-2"):
        add_key(database, key_id)
    record(
        database,
        ledger_row("a"),
        ledger_row("b", completes=False),
        ledger_row("c", key_id="key-2"),
        ledger_row("d", kind="probe", completes=False),
        ledger_row("e", key_id=None, credential="platform"),
        ledger_row("f", key_id="key-that-is-gone"),
    )
    assert (requests_of(database, "key-1"), requests_of(database, "key-2")) == (1, 1)


def test_a_full_message_of_rows_fits_one_statement(database: Database) -> None:
    rows = [ledger_row(f"row-{n:03}") for n in range(500)]
    assert len(record(database, *rows).new) == 500
    assert kept(database, "s-1") == rows


def test_large_sums_are_exact(database: Database) -> None:
    rows = [ledger_row(f"row-{n}", cost_nano_usd=2**60, input_tokens=2**50) for n in range(3)]
    record(database, *rows)
    (sums,) = rollups(database, "s-1").values()
    assert sums["cost_nano_usd"] == 3 * 2**60
    assert sums["input_tokens"] == 3 * 2**50


def test_rows_are_told_in_the_order_of_their_time(database: Database) -> None:
    record(database, ledger_row("b", at=NOW + 1), ledger_row("c", at=NOW), ledger_row("a", at=NOW))
    assert [row.id for row in kept(database, "s-1")] == ["a", "c", "b"]


# What rows add up to

KEY = ("s-1", "2026-01-01", "classify", "openai", "gpt-unit-1", "byok")


def test_operations_are_counted_once_whatever_calls_they_took(database: Database) -> None:
    record(
        database,
        ledger_row("a", request_id="r", completes=False),
        ledger_row("b", request_id="r", attempt=2),
    )
    assert rollups(database, "s-1") == {
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


@pytest.mark.parametrize(
    ("changes", "operations", "calls", "unpriced"),
    [
        ({"kind": "probe", "operation": "probe", "completes": False}, 0, 1, 0),
        # By rules: no call, so no price that is missing.
        ({"kind": "none", "priced": False, "cost_nano_usd": 0, "key_id": None}, 1, 0, 0),
        ({"priced": False, "cost_nano_usd": 0}, 1, 1, 1),
        # A correction of a call that had no price.
        ({"kind": "priced", "completes": False}, 0, 0, -1),
        ({"kind": "repriced", "completes": False}, 0, 0, 0),
    ],
)
def test_what_a_row_counts_as(
    database: Database, changes: dict[str, Any], operations: int, calls: int, unpriced: int
) -> None:
    row = ledger_row(**changes)
    record(database, row)
    (sums,) = rollups(database, "s-1").values()
    counted = (sums["operations"], sums["calls"], sums["unpriced_calls"])
    assert counted == (operations, calls, unpriced)
    assert sums["cost_nano_usd"] == row.cost_nano_usd


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
def test_rows_that_differ_in_what_is_told_apart_are_not_mixed(
    database: Database, field: str, value: str
) -> None:
    record(database, ledger_row("a"), ledger_row("b", **{field: value}))
    assert len(rollups(database, "s-1") | rollups(database, "s-2")) == 2


# Any order, repetition and splitting

surrogates = (f"account-{number}-" for number in count())

some_rows = st.lists(
    st.builds(
        ledger_row,
        kind=st.sampled_from(["call", "probe", "none"]),
        completes=st.booleans(),
        provider=st.sampled_from(["openai", "anthropic", "none"]),
        model=st.sampled_from(["gpt-unit-1", "none"]),
        credential=st.sampled_from(["byok", "platform", "none"]),
        key_id=st.sampled_from([None, "1", "2"]),
        local_date=st.sampled_from(["2026-01-01", "2026-01-02", "2026-02-01"]),
        cost_nano_usd=st.integers(0, 10**15),
        input_tokens=st.integers(0, 10**6),
        output_tokens=st.integers(0, 10**6),
        priced=st.booleans(),
        at=st.integers(NOW, NOW + 3),
    ),
    min_size=1,
    max_size=6,
)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[LedgerRow], list[list[int]]]:
    """Rows, and batches of their numbers that hold each at least once, in any order."""
    rows = draw(some_rows)
    repeats = draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    order = draw(st.permutations([*range(len(rows)), *repeats]))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=4)) | {0, len(order)})
    return rows, [order[a:b] for a, b in pairwise(cuts)]


def named(rows: Sequence[LedgerRow], account: str) -> list[LedgerRow]:
    """The rows as an account's own, with ids and keys of its own."""
    return [
        replace(
            row,
            id=f"{account}-row-{number}",
            surrogate=account,
            key_id=row.key_id and f"{account}-key-{row.key_id}",
        )
        for number, row in enumerate(rows)
    ]


def spent_by(database: Database, account: str) -> dict[tuple[str, str], int]:
    """What the store says that an account and its keys have spent, by scope and month."""
    with database.read() as connection:
        rows = connection.execute(
            select(budget_months).where(budget_months.c.scope.contains(f":{account}"))
        ).all()
    return {(row.scope, row.month): row.spent_nano_usd for row in rows}


def spent_of(rows: Sequence[LedgerRow]) -> dict[tuple[str, str], int]:
    """The same from rows."""
    spent: Counter[tuple[str, str]] = Counter()
    for row in rows:
        month = row.local_date[:7]
        if row.cost_nano_usd:
            spent[f"account:{row.surrogate}", month] += row.cost_nano_usd
        if row.cost_nano_usd and row.key_id is not None:
            spent[f"key:{row.key_id}", month] += row.cost_nano_usd
    return spent


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(delivery=deliveries())
def test_any_order_repetition_and_splitting_gives_the_same_ledger(
    database: Database, delivery: tuple[list[LedgerRow], list[list[int]]]
) -> None:
    account = next(surrogates)
    rows, batches = named(delivery[0], account), delivery[1]
    for number in ("1", "2"):
        add_key(database, f"{account}-key-{number}")
    new: list[str] = []
    for batch in batches:
        outcome = record(database, *(rows[number] for number in batch))
        assert outcome.conflicting == []
        new += outcome.new
    assert sorted(new) == sorted(row.id for row in rows)
    assert kept(database, account) == sorted(rows, key=lambda row: (row.at, row.id))
    assert rollups(database, account) == rollups_of(kept(database, account))
    assert spent_by(database, account) == spent_of(rows)
    for number in ("1", "2"):
        key_id = f"{account}-key-{number}"
        assert requests_of(database, key_id) == sum(
            row.completes for row in rows if row.key_id == key_id
        )


def test_aggregators_at_once_count_each_row_once(database: Database) -> None:
    add_key(database, "key-1")
    add_key(database, "key-2")
    rows = [
        ledger_row(f"row-{n:03}", surrogate=f"s-{n % 3}", key_id=f"key-{1 + n % 2}")
        for n in range(120)
    ]
    # Each row comes in four batches, in another order in each.
    chance = random.Random(6)  # noqa: S311 -- shuffles, guards nothing
    batches = [chance.sample(rows, 40) for _ in range(12)]
    together = threading.Barrier(6)

    def take_two(number: int) -> int:
        together.wait(30)
        new = 0
        for batch in batches[number::6]:
            # None waits for another in a circle: that would be an error here.
            new += len(record(database, *batch).new)
        return new

    with ThreadPoolExecutor(6) as pool:
        new = [done.result(60) for done in [pool.submit(take_two, n) for n in range(6)]]
    came = {row.id: row for batch in batches for row in batch}.values()
    assert sum(new) == len(came)
    with database.read() as connection:
        assert len(ledger.rows_of(connection)) == len(came)
    with database.snapshot() as connection:
        assert books.differences(connection) == []


# The aggregator, which takes them from the queue


def take(app: App, *rows: str | dict[str, Any]) -> None:
    data = UsageRecorded(rows=rows)
    aggregate.recorded(app, event_of(data, account="byok"), data)


def test_the_aggregator_reads_rows_as_text_and_as_objects(app: App) -> None:
    take(app, ledger_row("a").to_json(), vars_of(ledger_row("b")))
    take(app, vars_of(ledger_row("a")), ledger_row("b").to_json(), ledger_row("c").to_json())
    assert [row.id for row in kept(app.database, "s-1")] == ["a", "b", "c"]
    assert failures_of(app) == []


def test_the_aggregator_writes_what_the_message_carries(app: App) -> None:
    take(app, vars_of(ledger_row("a")), vars_of(ledger_row("b")))
    take(app, vars_of(ledger_row("b")), vars_of(ledger_row("c")))
    assert [row.id for row in kept(app.database, "s-1")] == ["a", "b", "c"]


def failures_of(app: App) -> list[setaside.SetAside]:
    with app.database.read() as connection:
        return setaside.newest(connection)


def test_a_repeat_that_differs_is_kept_aside_once_and_counted(app: App) -> None:
    true, false = ledger_row("a"), ledger_row("a", cost_nano_usd=1)
    take(app, vars_of(true), vars_of(ledger_row("b")))
    for _ in range(2):
        take(app, vars_of(false), vars_of(ledger_row("c")))
    assert [row.id for row in kept(app.database, "s-1")] == ["a", "b", "c"]
    (item,) = failures_of(app)
    assert (item.queue, item.reason) == ("usage", "usage_conflict")
    with app.database.read() as connection:
        raw = setaside.payload(connection, app.vault, item.id)
    # What is kept is an event that can be sent again, with the one row.
    assert json.loads(raw)["data"]["rows"] == [false.to_json()]


def test_a_row_of_a_month_that_went_is_kept_aside(app: App) -> None:
    with app.database.write() as connection:
        connection.execute(insert(ledger_dropped).values(month=202601, rows=1, dropped_at=NOW))
    take(app, vars_of(ledger_row("a")))
    assert kept(app.database, "s-1") == []
    assert [item.reason for item in failures_of(app)] == ["usage_expired"]


def vars_of(row: LedgerRow) -> dict[str, Any]:
    """The fields of a row as a message carries them."""
    return {name: getattr(row, name) for name in LedgerRow.__dataclass_fields__}


@pytest.mark.parametrize("change", [{"tip": 1}, {"id": None}])
def test_a_row_of_another_version_is_refused_and_nothing_is_written(
    app: App, change: dict[str, Any]
) -> None:
    fields = vars_of(ledger_row("b")) | change
    if fields["id"] is None:
        del fields["id"]
    with pytest.raises(EventRefused) as caught:
        take(app, vars_of(ledger_row("a")), fields)
    assert caught.value.reason == "invalid_event"
    assert kept(app.database, "s-1") == []
