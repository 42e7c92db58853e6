"""The migrations make the tables that the code expects."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Integer, MetaData, String, Table, insert, inspect, select, text

from store import keys, migrate
from store.engine import Database
from store.schema import budget_months, key_ids, key_slots, ledger, metadata


@pytest.fixture
def empty(database_url: str) -> Iterator[Database]:
    """A database without a schema."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def database(empty: Database) -> Database:
    """A database that the migrations just made."""
    migrate.upgrade(empty)
    return empty


def is_partition(table: str | None) -> bool:
    return bool(table and table.startswith("ledger_")) and table != "ledger_dropped"


def test_the_migrations_make_what_the_schema_says(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: kind != "table" or not is_partition(name),
            },
        )
        assert compare_metadata(context, metadata) == []


def test_there_are_no_tables_beside_the_schemas(database: Database) -> None:
    with database.read() as connection:
        names = {name for name in inspect(connection).get_table_names() if not is_partition(name)}
    assert names == {*metadata.tables, "alembic_version"}


def test_an_empty_database_lacks_every_migration_and_then_none(empty: Database) -> None:
    assert migrate.missing(empty) == migrate.revisions() != []
    migrate.upgrade(empty)
    assert migrate.missing(empty) == []


def test_a_ledger_from_before_months_is_moved_whole(empty: Database) -> None:
    migrate.upgrade(empty, "0003")
    made_in_may = "019690ab-0000-7000-8000-000000000001"
    with empty.write() as connection:
        before = Table("ledger", MetaData(), autoload_with=connection)
        fields = {c.name: "x" for c in before.c if isinstance(c.type, String)}
        fields |= {c.name: 7 for c in before.c if isinstance(c.type, Integer)}
        fields |= {"local_date": "2025-05-02", "at": 1_746_144_000_000, "digest": b"\x01\xff"}
        fields |= {"completes": True, "priced": True, "credential": "platform", "key_id": None}
        connection.execute(before.insert(), [fields | {"id": made_in_may}, fields | {"id": "row"}])
    migrate.upgrade(empty)
    with empty.read() as connection:
        rows = connection.execute(select(ledger).order_by(ledger.c.month)).all()
        columns = (budget_months.c.scope, budget_months.c.month, budget_months.c.spent_nano_usd)
        spent = {tuple(row) for row in connection.execute(select(*columns))}
    assert [(row.id, row.month, row.digest) for row in rows] == [
        ("row", 0, "01ff"),
        (made_in_may, 202505, "01ff"),
    ]
    assert {(row.cost_nano_usd, row.completes, row.recorded_at) for row in rows} == {
        (7, True, 1_746_144_000_000)
    }
    assert spent == {("account:x", "2025-05", 14), ("platform", "2025-05", 14)}


def test_upgrading_again_changes_nothing(database: Database) -> None:
    row = {
        "account_id": "acme",
        "provider": "openai",
        "revision": 1,
        "event_id": "e",
        "key_id": None,
    }
    with database.write() as connection:
        connection.execute(insert(key_slots).values(row))
    migrate.upgrade(database)
    migrate.upgrade(database)
    with database.read() as connection:
        assert connection.execute(select(key_slots)).one()._asdict() == row
    assert migrate.missing(database) == []


def test_a_database_of_a_newer_version_lacks_nothing_and_is_told(database: Database) -> None:
    assert migrate.newer(database) is None
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert migrate.newer(database) == "9999"
    assert migrate.missing(database) == []


def test_two_that_upgrade_at_once_both_find_it_done(empty: Database, database_url: str) -> None:
    other = Database(database_url)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(migrate.upgrade, each) for each in (empty, other)]:
            done.result(60)
    assert migrate.missing(empty) == migrate.missing(other) == []
    other.close()


def test_an_upgrade_that_fails_leaves_nothing_half_done(empty: Database) -> None:
    # A table of ours is there already: the first migration stops at it.
    with empty.write() as connection:
        connection.execute(text("CREATE TABLE processes (process_id integer)"))
    with pytest.raises(Exception, match="processes"):
        migrate.upgrade(empty)
    with empty.read() as connection:
        assert "accounts" not in inspect(connection).get_table_names()
    assert migrate.missing(empty) == migrate.revisions()


def test_a_key_that_was_there_before_key_ids_were_kept_is_its_accounts(empty: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    with empty.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.execute(
            text(
                "INSERT INTO provider_keys"
                " (key_id, account_id, provider, revision, status, reason, last4, added_at)"
                " VALUES ('key-1', 'acme', 'openai', 7, 'valid', 'ok', '0001', 0)"
            )
        )
    migrate.upgrade(empty)
    with empty.write() as connection:
        keys.refuse_foreign_id(connection, "acme", "key-1")
        with pytest.raises(keys.KeyIdTaken):
            keys.refuse_foreign_id(connection, "thief", "key-1")
        assert connection.execute(select(key_ids.c.revision)).scalar_one() == 7
