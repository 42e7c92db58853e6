"""An older version works on beside this one: on this one's schema, rows and messages."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from deploy.local.sandbox import SandboxServer
from store import audit, ledger
from store.schema import attempts
from tests.conftest import Services
from tests.road import Road, make_settings
from tests.upgrade.checks import check_books, check_what_had_ended, check_what_was_told
from tests.upgrade.ending import SOON
from tests.upgrade.recording import Recording

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OLDER = "cc7189c"
"""What stands for the last release until there is one: the version that recorded `0008.json`."""


def start(script: str, *arguments: str, version: Path) -> "subprocess.Popen[str]":
    """Start a script of this directory in a version's code."""
    return subprocess.Popen(
        [sys.executable, str(HERE / script), *arguments],
        cwd=version,
        env={**os.environ, "PYTHONPATH": str(version)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: "subprocess.Popen[str]", given: str = "") -> None:
    """Give a script its input and wait until it has ended well."""
    try:
        process.communicate(given, timeout=100)
    finally:
        process.kill()
    assert process.returncode == 0


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The older version's code."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("there is no git here, which has the older version")
    found = subprocess.run([git, "archive", OLDER], cwd=ROOT, capture_output=True, check=False)
    if found.returncode != 0:
        pytest.skip(f"the older version {OLDER} is not in this repository's history")
    directory = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(directory)  # noqa: S202 -- our own; the filter came with Python 3.11.4
    return directory


@pytest.fixture(scope="module")
def left_now(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """What this version leaves in the midst of its work."""
    path = tmp_path_factory.mktemp("now") / "now.json"
    end(start("record.py", str(path), version=ROOT))
    return Recording.read(path)


@pytest.fixture
def road(services: Services, sandbox: SandboxServer, tmp_path: Path) -> Iterator[Road]:
    """This version; it works once it is started."""
    settings = make_settings(
        tmp_path,
        broker=services.broker,
        database=services.database,
        sandbox=sandbox,
        redis_url=services.redis,
    )
    running = Road(settings, sandbox)
    yield running
    running.stop()


def told(road: Road, state_dir: Path, at: int | None) -> str:
    """What the older version is told of the services of this one."""
    state_dir.mkdir()
    given = {
        "state_dir": str(state_dir),
        "broker": road.settings.broker_url,
        "redis": road.settings.redis_url,
        "database": road.settings.database_url,
        "sandbox": road.sandbox.url,
        "at": at,
    }
    return json.dumps(given) + "\n"


@pytest.mark.parametrize("services", ["sqlite-valkey", "postgresql-valkey"], indirect=True)
def test_what_this_version_left_is_brought_to_its_end_by_an_older_one(
    road: Road, tmp_path: Path, older: Path, left_now: Recording
) -> None:
    left_now.lay_into(road.app.database)
    left_now.put_on_queues(road)
    end(start("older.py", version=older), told(road, tmp_path / "older", left_now.at + SOON))
    check_books(road, left_now)
    check_what_had_ended(road, left_now)
    check_what_was_told(road)


# On SQLite there is one worker process at a time.
@pytest.mark.parametrize("services", ["postgresql-valkey", "postgresql-rabbitmq"], indirect=True)
def test_both_versions_work_side_by_side(road: Road, tmp_path: Path, older: Path) -> None:
    road.start()
    beside = start("older.py", version=older)
    assert beside.stdin is not None
    assert beside.stdout is not None
    beside.stdin.write(told(road, tmp_path / "older", None))
    beside.stdin.flush()
    assert beside.stdout.readline() == "ready\n"
    road.account("acme", credits=None)
    key_id = road.give_key()
    road.account("bare", credits=1000)
    asked: dict[str, str] = {}

    def both_have_worked() -> bool:
        for account in ("acme", "bare"):
            asked.update({road.ask(account): account for _ in range(10)})
        for request_id, account in asked.items():
            assert road.ended(request_id, account).state == "completed"
        with road.app.database.read() as connection:
            workers = select(func.count(attempts.c.process_id.distinct()))
            return connection.execute(workers).scalar_one() == 2

    road.until(both_have_worked)
    road.settled_ledger()
    end(beside)
    with road.app.database.snapshot() as connection:
        found = audit.audit(connection)
        completes = [row.request_id for row in ledger.rows_of(connection) if row.completes]
    assert found.findings == []
    assert found.unknown_attempts == 0
    assert sorted(completes) == sorted(asked)
    assert road.credits("bare") == (len(asked) // 2, 0)
    key = road.key(key_id)
    assert key is not None
    assert key.requests == len(asked) // 2
