"""Transactions on both kinds of database."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text, update
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from store.engine import Database, after_commit, is_unavailable

metadata = MetaData()
counters = Table(
    "counters",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", Integer, nullable=False),
)


@pytest.fixture(autouse=True)
def _table(database: Database) -> Iterator[None]:
    """One table and one row."""
    with database.write() as connection:
        metadata.create_all(connection)
        connection.execute(insert(counters).values(name="a", value=0))
    yield
    with database.write() as connection:
        metadata.drop_all(connection)


def value(database: Database, name: str = "a") -> int | None:
    with database.read() as connection:
        found: int | None = connection.execute(
            select(counters.c.value).where(counters.c.name == name)
        ).scalar_one_or_none()
    return found


def test_a_write_is_there_when_the_block_ends(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(counters).values(value=1))
    assert value(database) == 1


def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    def crash_in_the_middle() -> None:
        with database.write() as connection:
            connection.execute(update(counters).values(value=1))
            connection.execute(insert(counters).values(name="b", value=1))
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        crash_in_the_middle()
    assert value(database) == 0
    assert value(database, "b") is None


def test_a_write_after_one_that_raised_works(database: Database) -> None:
    for _ in range(40):
        with pytest.raises(IntegrityError), database.write() as connection:
            connection.execute(insert(counters).values(name="a", value=2))
    with database.write() as connection:
        connection.execute(update(counters).values(value=3))
    assert value(database) == 3


def test_what_is_not_committed_is_not_seen_by_others(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(counters).values(value=1))
        assert value(database) == 0
    assert value(database) == 1


def test_nothing_is_kept_of_what_a_reader_writes(database: Database) -> None:
    with database.read() as connection:
        connection.execute(update(counters).values(value=9))
    assert value(database) == 0


def test_threads_that_read_then_write_lose_no_update(database: Database) -> None:
    threads, rounds = 8, 12
    together = threading.Barrier(threads)

    def count_up() -> None:
        together.wait(30)
        for _ in range(rounds):
            with database.write() as connection:
                now = connection.execute(
                    select(counters.c.value).where(counters.c.name == "a").with_for_update()
                ).scalar_one()
                connection.execute(update(counters).values(value=now + 1))

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(count_up) for _ in range(threads)]:
            done.result(60)
    assert value(database) == threads * rounds


def test_two_processes_that_read_then_write_lose_no_update(
    database: Database,
) -> None:
    # Each with a `Database` of its own, as processes have: no lock of ours between them.
    other = Database(database.url.render_as_string(hide_password=False))

    def count_up(mine: Database) -> None:
        for _ in range(20):
            with mine.write() as connection:
                now = connection.execute(select(counters.c.value).with_for_update()).scalar_one()
                connection.execute(update(counters).values(value=now + 1))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(count_up, each) for each in (database, other)]:
            done.result(60)
    other.close()
    assert value(database) == 40


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(counters).values(value=1))
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(value, database).result(10) == 0


def test_an_error_holds_no_value_of_its_statement(database: Database) -> None:
    with pytest.raises(DBAPIError) as caught, database.write() as connection:
        connection.execute(
            insert(counters), [{"name": "hunter2-secret", "value": None}, {"name": "b", "value": 1}]
        )
    assert "hunter2" not in str(caught.value).replace(str(caught.value.orig), "")


def test_a_missing_table_is_not_mended_by_waiting(database: Database) -> None:
    with pytest.raises(SQLAlchemyError) as caught, database.read() as connection:
        connection.execute(text("SELECT * FROM nowhere"))
    assert not is_unavailable(caught.value)


@pytest.mark.parametrize(
    "statement", ["SELECT nothing FROM counters", "SELEC 1", "SELECT nofunction(1)"]
)
def test_a_statement_that_is_wrong_is_not_mended_by_waiting(
    database: Database, statement: str
) -> None:
    with pytest.raises(SQLAlchemyError) as caught, database.read() as connection:
        connection.execute(text(statement))
    assert not is_unavailable(caught.value)


def test_a_broken_constraint_is_not_mended_by_waiting(database: Database) -> None:
    with pytest.raises(IntegrityError) as caught, database.write() as connection:
        connection.execute(insert(counters).values(name="a", value=1))
    assert not is_unavailable(caught.value)


@pytest.mark.parametrize("error", [ValueError("v"), KeyError("k"), OverflowError(), OSError()])
def test_an_error_of_ours_is_not_mended_by_waiting(error: Exception) -> None:
    assert not is_unavailable(error)


def test_a_full_pool_is_mended_by_waiting() -> None:
    assert is_unavailable(PoolTimeout("QueuePool limit reached"))
    assert is_unavailable(InterfaceError("", None, Exception("connection already closed")))


def test_a_lost_connection_is_mended_by_waiting() -> None:
    lost = ProgrammingError("", None, Exception("gone"), connection_invalidated=True)
    assert is_unavailable(lost)


def test_a_server_that_is_not_there_is_mended_by_waiting() -> None:
    away = Database("postgresql+psycopg://nobody@127.0.0.1:9/none?connect_timeout=2")
    with pytest.raises(OperationalError) as caught, away.read():
        pass
    assert is_unavailable(caught.value)
    away.close()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_connection_that_the_server_ended_is_mended_by_waiting(database: Database) -> None:
    def lose_the_connection() -> None:
        with database.write() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with database.write() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            connection.execute(text("SELECT 1"))

    with pytest.raises(SQLAlchemyError) as caught:
        lose_the_connection()
    assert is_unavailable(caught.value)
    assert value(database) == 0


def test_a_database_that_another_process_writes_is_mended_by_waiting(tmp_path: Path) -> None:
    path = tmp_path / "busy.sqlite3"
    first, second = Database(f"sqlite:///{path}"), Database(f"sqlite:///{path}")
    with second.read() as impatient:
        impatient.exec_driver_sql("PRAGMA busy_timeout = 0")
    with first.write() as connection:
        metadata.create_all(connection)
        with pytest.raises(OperationalError) as caught, second.write():
            pass
    assert is_unavailable(caught.value)
    first.close()
    second.close()


def test_sqlite_keeps_what_it_committed_and_wipes_what_it_deleted(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.sqlite3'}")
    with database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    database.close()
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
    }


def test_what_follows_a_commit_follows_no_rollback_and_comes_once(database: Database) -> None:
    counted: list[str] = []

    def attempt(name: str, *, fails: bool) -> None:
        with database.write() as connection:
            after_commit(connection, lambda: counted.append(name))
            connection.execute(update(counters).values(value=1))
            assert counted == [], "it was not committed yet"
            if fails:
                raise InterfaceError("", None, Exception("gone"))

    with pytest.raises(InterfaceError):
        attempt("first", fails=True)
    attempt("second", fails=False)
    with database.write() as connection:
        connection.execute(update(counters).values(value=2))
    assert counted == ["second"]
