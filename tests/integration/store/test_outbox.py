"""The outbox: written with what it follows, sent until it has arrived."""

import pytest

from store import outbox
from store.engine import Database
from store.outbox import EVENT, USAGE, OutboxRow

NOW = 1_767_268_800_000


def add(database: Database, *ids: str, kind: str = USAGE, now: int = NOW) -> None:
    with database.write() as connection:
        rows = [OutboxRow(row_id, f'{{"id": "{row_id}"}}') for row_id in ids]
        outbox.add(connection, kind, rows, now)


def take(database: Database, now: int, kind: str = USAGE, limit: int = 10) -> list[str]:
    with database.write() as connection:
        return [row.id for row in outbox.take_due(connection, kind, now, limit)]


def test_a_row_is_due_at_once_and_carries_its_payload(database: Database) -> None:
    add(database, "a")
    with database.write() as connection:
        assert outbox.any_due(connection, USAGE, NOW)
        assert not outbox.any_due(connection, USAGE, NOW - 1)
        assert not outbox.any_due(connection, EVENT, NOW)
        assert outbox.take_due(connection, USAGE, NOW, 10) == [OutboxRow("a", '{"id": "a"}')]


def test_nothing_is_added_by_nothing(database: Database) -> None:
    add(database)
    with database.read() as connection:
        assert outbox.backlog(connection) == {}


def test_a_row_that_is_not_confirmed_comes_again_after_growing_pauses(database: Database) -> None:
    add(database, "a")
    now, pauses = NOW, []
    for _ in range(9):
        assert take(database, now) == ["a"]
        pause = 0
        while not take_would(database, now + pause):
            pause += 1_000
        pauses.append(pause // 1_000)
        now += pause
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def take_would(database: Database, now: int) -> bool:
    """Whether anything would be taken at `now`."""
    with database.read() as connection:
        return outbox.any_due(connection, USAGE, now)


def test_a_row_that_was_sent_very_often_still_comes_again(database: Database) -> None:
    add(database, "a")
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE outbox SET sends = 1000000")
    assert take(database, NOW) == ["a"]
    assert take(database, NOW + 300_000) == ["a"]


def test_rows_with_different_histories_get_their_own_pauses(database: Database) -> None:
    add(database, "a")
    assert take(database, NOW) == ["a"]
    later = NOW + 5_000
    add(database, "b", now=later)
    assert take(database, later) == ["a", "b"]
    assert take(database, later + 5_000) == ["b"]
    assert take(database, later + 10_000) == ["a"]


def test_the_oldest_are_taken_first_and_no_more_than_asked(database: Database) -> None:
    add(database, "c", now=NOW + 2)
    add(database, "b", "a", now=NOW + 1)
    assert take(database, NOW + 5, limit=2) == ["a", "b"]
    assert take(database, NOW + 5, limit=2) == ["c"]


def test_kinds_are_taken_apart(database: Database) -> None:
    add(database, "u")
    add(database, "e", kind=EVENT)
    assert take(database, NOW, EVENT) == ["e"]
    assert take(database, NOW, USAGE) == ["u"]


def test_what_arrived_is_gone_and_repeating_that_is_no_error(database: Database) -> None:
    add(database, "a", "b")
    with database.write() as connection:
        outbox.clear(connection, ["a", "never"])
        outbox.clear(connection, ["a"])
        outbox.clear(connection, [])
    assert take(database, NOW) == ["b"]


def test_the_backlog_tells_how_many_wait_and_since_when(database: Database) -> None:
    add(database, "b", now=NOW + 7)
    add(database, "a")
    add(database, "e", kind=EVENT, now=NOW + 9)
    take(database, NOW + 9)
    with database.read() as connection:
        assert outbox.backlog(connection) == {USAGE: (2, NOW), EVENT: (1, NOW + 9)}


def test_a_row_of_a_transaction_that_failed_was_never_there(database: Database) -> None:
    def crash_after_adding() -> None:
        with database.write() as connection:
            outbox.add(connection, USAGE, [OutboxRow("a", "{}")], NOW)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        crash_after_adding()
    assert take(database, NOW) == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_two_relays_at_once_take_different_rows(database: Database) -> None:
    add(database, "a", "b")
    with database.write() as connection:
        first = outbox.take_due(connection, USAGE, NOW, 1)
        assert [row.id for row in first] == ["a"]
        assert take(database, NOW) == ["b"]
