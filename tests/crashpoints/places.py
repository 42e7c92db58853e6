"""Services on which one history after the other is lived, each beginning with empty ones."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from deploy.local.sandbox import SandboxServer
from store import migrate
from store.engine import Database
from tests.conftest import Services, _purge, new_database
from tests.crashpoints.lives import Ends, Lived, live
from tests.road import make_settings


class Place:
    """A queue, Redis, a store and a sandbox that nobody else uses meanwhile."""

    def __init__(self, services: Services, sandbox: SandboxServer, directory: Path) -> None:
        self._services, self._sandbox, self._directory = services, sandbox, directory
        self._count = 0

    @property
    def last(self) -> Path:
        """Where the files of the last history are, if it did not hold."""
        return self._directory / str(self._count)

    def live(self, ends: Ends) -> Lived:
        """Live one history; its files go if it holds. Raises `AssertionError`."""
        self._count += 1
        directory = self.last
        directory.mkdir(parents=True)
        self._empty()
        with self._database(directory) as database:
            settings = make_settings(
                directory,
                broker=self._services.broker,
                database=database,
                sandbox=self._sandbox,
                redis_url=self._services.redis,
            )
            lived = live(directory, settings, self._sandbox, ends)
        shutil.rmtree(directory)
        return lived

    def _empty(self) -> None:
        for address in (self._services.broker, self._services.redis):
            if address.startswith("amqp"):
                _purge(address)
            else:
                with redis.Redis.from_url(address) as client:
                    client.flushdb()

    @contextmanager
    def _database(self, directory: Path) -> Iterator[str]:
        """A database with the schema: a copy, which is made sooner than by the migrations."""
        if self._services.database.startswith("sqlite"):
            ready, copy = self._directory / "empty.sqlite3", directory / "byok.sqlite3"
            if not ready.exists():
                _upgrade(f"sqlite:///{ready}")
            shutil.copyfile(ready, copy)
            yield f"sqlite:///{copy}"
            return
        _upgrade(self._services.database)
        template = self._services.database.rpartition("/")[2].partition("?")[0]
        with new_database(self._services.database.replace("+psycopg", ""), template) as url:
            yield url


def _upgrade(url: str) -> None:
    database = Database(url)
    try:
        if migrate.missing(database):
            migrate.upgrade(database)
    finally:
        database.close()
