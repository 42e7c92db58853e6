"""A database of each kind, made once and emptied for each test, and an app on it."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from store import migrate
from store.engine import Database
from store.schema import metadata
from tests.unit.workers.standins import stand_in_app
from workers.app import App


def migrated(url: str) -> str:
    """The URL of a database that has the schema now."""
    database = Database(url)
    migrate.upgrade(database)
    database.close()
    return url


@pytest.fixture(scope="session")
def _sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "byok.sqlite3"
    migrated(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _postgresql_url(postgresql: str) -> Iterator[str]:
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(postgresql, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        url = postgresql.replace("postgresql://", "postgresql+psycopg://")
        yield migrated(url.replace("/postgres?", f"/{name}?"))
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of each kind with the schema and without rows."""
    if request.param == "sqlite":
        path = tmp_path / "byok.sqlite3"
        shutil.copy(request.getfixturevalue("_sqlite_file"), path)
        opened = Database(f"sqlite:///{path}")
    else:
        opened = Database(request.getfixturevalue("_postgresql_url"))
        with opened.write() as connection:
            for table in metadata.tables.values():
                connection.execute(table.delete())
    yield opened
    opened.close()


@pytest.fixture
def app(database: Database, tmp_path: Path) -> App:
    """An app whose clock, ids and queue belong to the test."""
    return stand_in_app(tmp_path, database)
