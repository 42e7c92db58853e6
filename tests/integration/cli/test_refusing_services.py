"""Services that answer and refuse: what a command says of them, and what the doctor does."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import make_url

from store import migrate
from store.engine import Database
from tests.commands import Shell
from tests.conftest import new_database, run_valkey

USER = "ACL SETUSER few on >word ~* +ping +client +select +hello"

REFUSALS: dict[str, tuple[str, str, str]] = {
    "a password that is wrong": (
        "PING",
        "few:other@",
        "refuses the login: check the user and the password in BYOK_BROKER_URL",
    ),
    "a user without rights": (
        USER,
        "few:word@",
        "does not give this user the rights that it needs: check the user in BYOK_BROKER_URL",
    ),
    "memory that is full": (
        "CONFIG SET maxmemory 1",
        "",
        "takes nothing, because its memory is full: raise its maxmemory.",
    ),
    "a replica": (
        "REPLICAOF 127.0.0.1 1",
        "",
        "takes nothing, because it is a replica: name the primary in BYOK_BROKER_URL",
    ),
}
"""What is done to a server, who asks it, and what is said of it."""

UNDO = ("CONFIG SET maxmemory 0", "REPLICAOF NO ONE", "ACL DELUSER few")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey that may be broken."""
    directory = Path(f"/tmp/byok-refusing-{os.getpid()}")  # noqa: S108 -- a socket's path is short
    directory.mkdir(mode=0o700)
    try:
        with run_valkey(directory) as url:
            yield url
    finally:
        for file in sorted(directory.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        directory.rmdir()


@pytest.fixture
def broken(server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Its address for who asks, once it is as the test's name says."""
    does, who, _ = REFUSALS[request.param]
    with redis.Redis.from_url(server) as client:
        client.execute_command(does)
        yield server.replace("unix://", f"unix://{who}") + "?db=0"
        for command in UNDO:
            client.execute_command(command)


@pytest.fixture
def made(tmp_path: Path) -> str:
    """A database with the schema."""
    database = Database(url := f"sqlite:///{tmp_path / 'made.sqlite3'}")
    migrate.upgrade(database)
    database.close()
    return url


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """Where nothing else is set."""
    return Shell(monkeypatch, capsys, {"BYOK_STATE_DIR": str(tmp_path / "state")})


@pytest.mark.parametrize(("broken", "what"), [(n, n) for n in REFUSALS], indirect=["broken"])
def test_a_redis_that_refuses_is_told_as_that(
    broken: str, what: str, made: str, shell: Shell
) -> None:
    services = {"BYOK_BROKER_URL": broken, "BYOK_DATABASE_URL": made}
    said = shell.byok("account", "set", "acme", "--plan", "pro", **services)
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert REFUSALS[what][2] in said.err
    found = shell.byok("doctor", "--json", **services).object["checks"]
    parts = {check["part"]: check for check in found}
    for part in ("broker", "redis"):
        assert not parts[part]["ok"]
        told = f"{parts[part]['detail']}: {parts[part]['do']}"
        assert REFUSALS[what][2].rstrip(".") in told.replace("REDIS_URL", "BROKER_URL")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"database": "nowhere"}, "the server has no database of that name: create it, or check"),
        ({"username": "nobody_at_all"}, "it refuses the login: check"),
    ],
)
def test_a_postgresql_that_refuses_is_told_as_that(
    change: dict[str, str], says: str, postgresql: str, shell: Shell
) -> None:
    changed = make_url(postgresql).set(**change)  # type: ignore[arg-type]  # all of them are texts
    url = changed.render_as_string(hide_password=False)
    said = shell.byok("account", "show", "acme", BYOK_DATABASE_URL=url)
    assert said.code == 1
    assert said.err.startswith(f"byok: The database cannot be used, because {says}")
    assert said.err.count("\n") == 1
    found = shell.byok("doctor", "--json", BYOK_DATABASE_URL=url).object["checks"]
    (database,) = (check for check in found if check["part"] == "database")
    assert f"{database['detail']}: {database['do']}".startswith(says)


def test_a_role_that_may_not_is_told_which_it_has_to_be(postgresql: str, shell: Shell) -> None:
    with new_database(postgresql) as url:
        plain = url.replace("postgresql+psycopg://", "postgresql://")
        with psycopg.connect(plain, autocommit=True) as admin:
            admin.execute("DROP ROLE IF EXISTS looks_only")
            admin.execute("CREATE ROLE looks_only LOGIN")
        opened = Database(url)
        migrate.upgrade(opened)
        opened.close()
        user = make_url(url).set(username="looks_only").render_as_string(hide_password=False)
        said = shell.byok("account", "show", "acme", BYOK_DATABASE_URL=user)
        with psycopg.connect(plain, autocommit=True) as admin:
            admin.execute("DROP ROLE looks_only")
    assert said.code == 1
    assert said.err == (
        "byok: The database cannot be used, because its user has no right to do this: name the "
        "role for this process in BYOK_DATABASE_URL (docs/deployment.md).\n"
    )
