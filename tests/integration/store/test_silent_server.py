"""A PostgreSQL that does not answer while its connections stay: nobody waits for it for ever."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from deploy.local.sandbox import SandboxServer
from store import postgresql as postgresql_limits
from store.engine import Database, is_unavailable
from tests.conftest import new_database
from tests.proxy import Proxy, proxy_to
from tests.road import make_settings
from workers import app as composition
from workers.app import App


@pytest.fixture
def direct(postgresql: str) -> Iterator[str]:
    """The URL of an empty database, without the proxy."""
    with new_database(postgresql) as url:
        yield url


@pytest.fixture
def proxy(direct: str) -> Iterator[Proxy]:
    url = make_url(direct)
    host, port = url.query.get("host", url.host), url.port or 5432
    assert isinstance(host, str)
    path = host.startswith("/")
    with proxy_to(f"{host}/.s.PGSQL.{port}" if path else (host, port)) as proxy:
        yield proxy


@pytest.fixture
def through(direct: str, proxy: Proxy) -> str:
    """The URL through the proxy."""
    url = make_url(direct).set(host="127.0.0.1", port=proxy.port, query={})
    return url.render_as_string(hide_password=False)


@pytest.fixture
def database(through: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(postgresql_limits, "CANCEL_SECONDS", 0.2)
    database = Database(through, answer_seconds=0.5)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE things (name text)"))
    yield database
    database.close()


def add(database: Database, name: str) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO things VALUES (:name)"), {"name": name})


def names(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT name FROM things ORDER BY name")).scalars())


def test_a_statement_that_gets_no_answer_is_given_up(database: Database, proxy: Proxy) -> None:
    def write_into_silence() -> None:
        with database.write() as connection:
            connection.execute(text("INSERT INTO things VALUES ('lost')"))
            proxy.silence()
            connection.execute(text("INSERT INTO things VALUES ('lost, too')"))

    with pytest.raises(SQLAlchemyError) as caught:
        write_into_silence()
    assert is_unavailable(caught.value)
    proxy.speak()
    add(database, "kept")
    assert names(database) == ["kept"]


def test_a_pooled_connection_that_fell_silent_is_given_up(database: Database, proxy: Proxy) -> None:
    add(database, "before")
    proxy.silence()
    with pytest.raises(SQLAlchemyError) as caught:
        add(database, "into the silence")
    assert is_unavailable(caught.value)
    proxy.speak()
    assert names(database) == ["before"]


def test_a_statement_that_takes_too_long_is_ended_on_the_server(
    database: Database, direct: str
) -> None:
    with pytest.raises(SQLAlchemyError) as caught, database.read() as connection:
        connection.execute(text("SELECT 'too long', pg_sleep(600)"))
    assert is_unavailable(caught.value)
    with psycopg.connect(direct.replace("+psycopg", ""), autocommit=True) as admin:
        running = admin.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE state = 'active' AND query LIKE 'SELECT ''too long%'"
        ).fetchone()
    assert running == (0,)


def test_each_connection_is_watched_by_the_kernel(through: str) -> None:
    database = Database(f"{through}?keepalives_idle=7")
    with database.read() as connection:
        plain = connection.connection.driver_connection
        assert plain is not None
        parameters = plain.info.get_parameters()
    database.close()
    wanted = {"connect_timeout": "5", "tcp_user_timeout": "10000", "keepalives_count": "3"}
    assert parameters.items() >= wanted.items()
    # What the URL says stands.
    assert parameters["keepalives_idle"] == "7"


def test_roles_give_up_and_commands_wait(
    through: str, tmp_path: Path, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composition, "ANSWER_SECONDS", 0.2)
    settings = make_settings(
        tmp_path, broker="redis://127.0.0.1:9/0", database=through, sandbox=sandbox
    )
    for role in ("worker", "scheduler", "exporter"):
        app = App(settings, role=role)
        with pytest.raises(SQLAlchemyError), app.database.read() as connection:
            connection.execute(text("SELECT pg_sleep(600)"))
        app.close()
    command = App(settings, role="cli")
    with command.database.read() as connection:
        connection.execute(text("SELECT pg_sleep(0.5)"))
    command.close()
