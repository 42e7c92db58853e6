"""Leases: who is alive, and who is dead.

On PostgreSQL the server's clock counts, so leases are made older in the table.
"""

from collections.abc import Callable

import pytest
from sqlalchemy import update

from store import leases
from store.engine import Database
from store.schema import processes

NOW = 1_767_268_800_000
LASTS = int(leases.DEAD_AFTER_SECONDS * 1000)
A_WHILE = 2_000
"""More than these tests take."""

Register = Callable[..., None]


@pytest.fixture
def register(database: Database) -> Register:
    """Starts a lease of a process, some time ago."""

    def start(process_id: str, *, role: str = "worker", ago: int = 0) -> None:
        with database.write() as connection:
            leases.register(connection, process_id, role=role, host="here", pid=1, now=NOW)
            connection.execute(
                update(processes)
                .where(processes.c.process_id == process_id)
                .values(
                    heartbeat_at=processes.c.heartbeat_at - ago,
                    started_at=processes.c.started_at - ago,
                )
            )

    return start


def renew(database: Database, process_id: str) -> bool:
    with database.write() as connection:
        return leases.renew(connection, process_id, NOW)


def end(database: Database, process_id: str) -> None:
    with database.write() as connection:
        leases.end(connection, process_id, NOW)


def end_if_dead(database: Database, process_id: str) -> bool:
    with database.write() as connection:
        return leases.end_if_dead(connection, process_id, NOW)


def hold(database: Database, process_id: str) -> bool:
    with database.write() as connection:
        return leases.hold(connection, process_id)


def dead(database: Database) -> list[str]:
    with database.read() as connection:
        return leases.dead(connection, NOW)


def test_a_lease_that_is_not_renewed_runs_out(database: Database, register: Register) -> None:
    register("alive", ago=LASTS - A_WHILE)
    register("dead", ago=LASTS + 1)
    assert dead(database) == ["dead"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_lease_lasts_to_the_millisecond(database: Database, register: Register) -> None:
    register("one", ago=LASTS)
    assert dead(database) == []
    register("two", ago=LASTS + 1)
    assert dead(database) == ["two"]


def test_a_renewed_lease_lasts_on(database: Database, register: Register) -> None:
    register("one", ago=5 * LASTS)
    assert dead(database) == ["one"]
    assert renew(database, "one")
    assert dead(database) == []


def test_a_lease_that_was_ended_is_neither_dead_nor_renewed_nor_held(
    database: Database, register: Register
) -> None:
    register("one", ago=5 * LASTS)
    end(database, "one")
    assert dead(database) == []
    assert not renew(database, "one")
    assert not hold(database, "one")
    assert not end_if_dead(database, "one")


def test_what_never_had_a_lease_cannot_renew_or_hold_it(database: Database) -> None:
    assert not renew(database, "one")
    assert not hold(database, "one")


def test_a_live_lease_is_held_and_not_taken_over(database: Database, register: Register) -> None:
    register("one")
    assert hold(database, "one")
    assert not end_if_dead(database, "one")
    assert hold(database, "one")


def test_a_dead_lease_is_taken_over_once(database: Database, register: Register) -> None:
    register("one", ago=LASTS + 1)
    assert end_if_dead(database, "one")
    assert not end_if_dead(database, "one")
    assert not renew(database, "one")


def test_a_lease_that_was_renewed_in_the_nick_of_time_is_not_taken_over(
    database: Database, register: Register
) -> None:
    register("one", ago=LASTS + 1)
    assert dead(database) == ["one"]
    assert renew(database, "one")
    assert not end_if_dead(database, "one")


def test_the_living_are_counted_by_role(database: Database, register: Register) -> None:
    register("one", ago=LASTS - A_WHILE)
    register("two")
    register("three", role="scheduler")
    register("gone")
    register("silent", ago=LASTS + 1)
    end(database, "gone")
    with database.read() as connection:
        assert leases.live_roles(connection, NOW) == {"worker": 2, "scheduler": 1}


def test_a_process_id_is_never_used_twice(database: Database, register: Register) -> None:
    register("one")
    with pytest.raises(Exception, match=r"(?i)unique"):
        register("one")
