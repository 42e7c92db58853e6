"""An app on SQLite whose clock, ids, queue and metrics belong to the test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from store import migrate
from store.engine import Database
from tests.unit.workers.standins import stand_in_app
from workers.app import App


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "byok.sqlite3"
    database = Database(f"sqlite:///{path}")
    migrate.upgrade(database)
    database.close()
    return path


@pytest.fixture
def store(_empty_store: Path, tmp_path: Path) -> Iterator[Database]:
    """A store with the schema and without rows."""
    path = tmp_path / "byok.sqlite3"
    shutil.copy(_empty_store, path)
    opened = Database(f"sqlite:///{path}")
    yield opened
    opened.close()


@pytest.fixture
def app(store: Database, tmp_path: Path) -> App:
    """An app on that store."""
    return stand_in_app(tmp_path, store)


@pytest.fixture
def stream(app: App, valkey: str) -> Iterator["redis.Redis"]:
    """The app's stream, empty."""
    with redis.Redis.from_url(f"{valkey}?db=1") as client:
        client.flushdb()
        app.__dict__["stream"] = client
        yield client
        client.flushdb()
