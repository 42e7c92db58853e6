"""The ledger by month: partitions made ahead, a repeat that is counted once over all of them, and
months that go while what was added up of them stays."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text

from store import budgets, ledger, months, outbox, partitions, usage
from store.engine import Database
from store.ledger import LedgerRow, Recorded
from store.schema import daily_usage, ledger_dropped, provider_keys
from store.schema import ledger as ledger_table
from tests.unit.store.rows import ledger_row
from tests.unit.workers.standins import clockwork_of
from workers.app import App
from workers.usage import keeping


def at(text_: str) -> int:
    """A moment in UTC as Unix ms."""
    return int(datetime.fromisoformat(text_).replace(tzinfo=UTC).timestamp() * 1000)


def dated(when: str, number: int = 1, **changes: Any) -> LedgerRow:
    """A row whose id, a UUID of version 7, was made then."""
    moment = at(when)
    raw = f"{moment:012x}"
    row_id = f"{raw[:8]}-{raw[8:]}-7000-8000-{number:012x}"
    return ledger_row(row_id, **{"at": moment, "local_date": when[:10]} | changes)


NOW = at("2026-03-15T12:00")


def record(database: Database, *rows: LedgerRow) -> Recorded:
    with database.write() as connection:
        return ledger.record(connection, rows, NOW)


def prepare(database: Database, now: int = NOW) -> list[int]:
    with database.write() as connection:
        return partitions.prepare(connection, now)


def drop(database: Database, before: int) -> int | None:
    with database.write() as connection:
        return partitions.drop_before(connection, before, NOW)


def kept(database: Database) -> dict[int, int]:
    """How many rows the ledger has, by month."""
    with database.read() as connection:
        rows = connection.execute(
            select(ledger_table.c.month, func.count()).group_by(ledger_table.c.month)
        )
        return {row[0]: row[1] for row in rows}


def in_partition(database: Database, name: str) -> int:
    with database.read() as connection:
        rows = connection.execute(text(f"SELECT count(*) FROM {name}"))  # noqa: S608 -- our own name
        return int(rows.scalar_one())


@pytest.fixture(autouse=True)
def _without_partitions(database: Database) -> None:
    """The tests of this package share a database: no month has a partition when one begins."""
    with database.write() as connection:
        for name in partitions.partitions(connection):
            if name != partitions.DEFAULT:
                connection.execute(text(f"DROP TABLE {name}"))


@pytest.mark.parametrize(
    ("row_id", "month"),
    [
        ("01960000-0000-7000-8000-000000000001", 202504),
        (dated("2026-01-31T23:59:59.999").id, 202601),
        (dated("2026-02-01T00:00").id, 202602),
        (dated("2026-02-01T00:00").id + "~0.3.0", 202602),
        ("row-1", months.UNDATED),
        ("", months.UNDATED),
        ("01960000-0000-4000-8000-000000000001", months.UNDATED),
        ("ffffffff-ffff-7000-8000-000000000001", months.UNDATED),
    ],
)
def test_a_rows_month_follows_from_its_id_alone(row_id: str, month: int) -> None:
    assert months.of_id(row_id) == month


def test_months_are_counted_over_the_ends_of_years() -> None:
    assert [months.plus(202611, n) for n in (0, 1, 2, -11, 14)] == [
        202611,
        202612,
        202701,
        202512,
        202801,
    ]


def test_a_repeat_over_the_end_of_a_month_is_counted_once(database: Database) -> None:
    prepare(database)
    row = dated("2026-03-31T23:59:59.999")
    record(database, row)
    # Whatever it says of its time: the month is that of the id.
    later = dated("2026-03-31T23:59:59.999", at=at("2026-04-01T00:00:01"), local_date="2026-04-01")
    outcome = record(database, row, later)
    assert (outcome.new, outcome.repeated, outcome.conflicting) == ([], [row.id], [later])
    assert kept(database) == {202603: 1}


def test_partitions_are_made_ahead_and_hold_their_months(database: Database) -> None:
    made = prepare(database)
    if database.is_sqlite:
        assert made == []
        return
    assert made == [202603, 202604, 202605, 202606]
    assert prepare(database) == []
    record(database, dated("2026-03-02T00:00"), dated("2026-06-02T00:00"), ledger_row("undated"))
    assert [in_partition(database, f"ledger_{m}") for m in (202603, 202604, 202606)] == [1, 0, 1]
    assert in_partition(database, partitions.DEFAULT) == 1
    assert prepare(database, at("2026-05-01T00:00")) == [202607, 202608]


def test_what_came_before_its_partition_is_moved_there(database: Database) -> None:
    early, old, wrong = dated("2026-03-02T00:00"), dated("2025-12-02T00:00"), dated("2031-01-01")
    record(database, early, old, wrong)
    made = prepare(database)
    if database.is_sqlite:
        return
    assert made == [202512, 202603, 202604, 202605, 202606]
    assert in_partition(database, "ledger_202603") == in_partition(database, "ledger_202512") == 1
    # A clock that is years ahead makes no partition.
    assert in_partition(database, partitions.DEFAULT) == 1
    assert record(database, early, old, wrong).new == []


def test_a_month_that_goes_leaves_what_was_added_up_of_it(database: Database) -> None:
    with database.write() as connection:
        connection.execute(
            insert(provider_keys).values(
                key_id="key-1",
                account_id="acme",
                provider="openai",
                revision=1,
                status="valid",
                reason="ok",
                last4="0000",
                added_at=NOW,
            )
        )
    prepare(database, at("2026-01-01T00:00"))
    january, march = dated("2026-01-10T00:00"), dated("2026-03-10T00:00")
    undated = ledger_row("undated", at=at("2026-01-11T00:00"), local_date="2026-01-11")
    record(database, january, undated, march)
    with database.read() as connection:
        card = usage.card(connection, "s-1", "2026-03-15", 90)
        spent = budgets.standing(connection, "account:s-1", "2026-01")
    assert drop(database, 202602) == 202601
    assert drop(database, 202602) is None
    assert kept(database) == {202603: 1}
    with database.read() as connection:
        assert usage.card(connection, "s-1", "2026-03-15", 90) == card
        assert budgets.standing(connection, "account:s-1", "2026-01") == spent
        counts = connection.execute(
            select(provider_keys.c.requests, provider_keys.c.requests_dropped)
        ).one()
        assert tuple(counts) == (3, 2)
        assert partitions.floor(connection) == 202601
        assert connection.execute(select(ledger_dropped.c.rows)).scalar_one() == 2
        assert "ledger_202601" not in partitions.partitions(connection)


def test_a_repeat_from_a_month_that_went_is_not_counted_again(database: Database) -> None:
    january = dated("2026-01-10T00:00")
    undated = ledger_row("undated", at=at("2026-01-11T00:00"), local_date="2026-01-11")
    record(database, january, undated)
    before = added_up(database)
    assert drop(database, 202603) == 202601
    outcome = record(database, january, undated, dated("2026-03-01T00:00"))
    assert outcome.expired == [january, undated]
    assert len(outcome.new) == 1
    assert kept(database) == {202603: 1}
    assert added_up(database) == before + 1


def added_up(database: Database) -> int:
    with database.read() as connection:
        total = connection.execute(select(func.sum(daily_usage.c.operations))).scalar_one()
    return int(total)


def test_a_month_of_which_rows_still_wait_is_not_dropped(database: Database) -> None:
    january = dated("2026-01-10T00:00")
    record(database, january)
    late = dated("2026-01-31T23:00", 2)
    with database.write() as connection:
        outbox.add(connection, outbox.USAGE, [outbox.OutboxRow(late.id, late.to_json())], late.at)
    assert drop(database, 202603) is None
    assert record(database, late).new == [late.id]
    assert drop(database, 202603) == 202601


# The scheduler's sweep


def test_the_scheduler_makes_months_ahead_and_drops_what_is_not_kept(app: App) -> None:
    app.settings = app.settings.model_copy(update={"ledger_months": 2})
    clockwork_of(app).now = NOW
    rows = [dated(f"2025-{month:02}-10T00:00") for month in (10, 11, 12)]
    record(app.database, *rows, dated("2026-01-10T00:00"))
    keeping.ledger_months(app)
    assert kept(app.database) == {202601: 1}
    with app.database.read() as connection:
        made = partitions.partitions(connection)
    assert ("ledger_202606" in made) == (not app.database.is_sqlite)


def test_the_scheduler_looks_once_an_hour(app: App) -> None:
    app.settings = app.settings.model_copy(update={"ledger_months": 1})
    clockwork_of(app).now = NOW
    keeping.ledger_months(app)
    record(app.database, dated("2025-12-10T00:00"))
    clockwork_of(app).pass_time(3_599)
    keeping.ledger_months(app)
    assert kept(app.database) == {202512: 1}
    clockwork_of(app).pass_time(1)
    keeping.ledger_months(app)
    assert kept(app.database) == {}


def test_without_a_limit_nothing_is_dropped(app: App) -> None:
    clockwork_of(app).now = NOW
    record(app.database, dated("2020-01-10T00:00"))
    keeping.ledger_months(app)
    assert kept(app.database) == {202001: 1}
