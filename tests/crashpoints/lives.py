"""The three lives in real processes, of which one ends at a boundary and is started again."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import select

from deploy.local.sandbox import SandboxServer
from events import KeyTested, Provider
from store import analyses, ledger, migrate
from store.schema import analyses as requests_table
from store.schema import attempts, credit_periods, daily_usage
from tests.crashpoints.launcher import EXIT_CODE
from tests.integration.process.running import clean_environment
from tests.road import GOOD_OPENAI, PLATFORM_ANTHROPIC, PLATFORM_OPENAI, Road, make_settings

ROOT = Path(__file__).parents[2]
ROLES = ("worker", "scheduler")
PATIENCE = 120.0


@dataclass
class Role:
    """A role's process: started again when it ends, without another end from the second list on."""

    name: str
    environment: dict[str, str]
    ends: list[int]
    boundaries: Path
    ended_at: list[int] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        crash = {"CRASH_AT": str(self.ends.pop(0))} if self.ends else {}
        with (self.boundaries.parent / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.crashpoints.launcher", self.name],
                cwd=ROOT,
                env={**self.environment, **crash, "BOUNDARIES": str(self.boundaries)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def look(self) -> None:
        """Start it again if it has ended."""
        assert self.process is not None
        code = self.process.poll()
        if code is not None:
            assert code == EXIT_CODE, f"{self.name} ended by itself with {code}"
            self.ended_at.append(len(self.boundaries.read_text().splitlines()))
            self.start()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Patient(Road):
    """A road on which processes start, end and are started again meanwhile."""

    def until(self, holds: Callable[[], object], patience: float = PATIENCE) -> None:
        super().until(holds, patience)


@dataclass
class Lived:
    """What became of a run: how many boundaries each role met, and where it ended."""

    boundaries: dict[str, list[str]]
    ended: dict[str, list[int]]


@contextmanager
def supervised(roles: Sequence[Role]) -> Iterator[list[str]]:
    """The roles run; what went wrong with one of them."""
    done, wrong = threading.Event(), list[str]()

    def watch() -> None:
        while not done.wait(0.05) and not wrong:
            for role in roles:
                try:
                    role.look()
                except AssertionError as error:
                    wrong.append(str(error))

    for role in roles:
        role.start()
    watcher = threading.Thread(target=watch, name="watcher")
    watcher.start()
    try:
        yield wrong
    finally:
        done.set()
        watcher.join()
        for role in roles:
            role.stop()


def live(
    directory: Path,
    *,
    broker: str,
    beside: str,
    database: str,
    sandbox: SandboxServer,
    ends: dict[str, list[int]],
) -> Lived:
    """Live the three lives while each role ends at its numbers; audit what is left."""
    for address in (broker, beside):
        if not address.startswith("amqp"):
            with redis.Redis.from_url(address) as client:
                client.flushdb()
    sandbox.reset()
    settings = make_settings(
        directory, broker=broker, database=database, sandbox=sandbox, redis_url=beside
    )
    road = Patient(settings, sandbox)
    migrate.upgrade(road.app.database)
    environment = clean_environment(directory, _environment_of(settings))
    roles = [
        Role(name, environment, list(ends.get(name, [])), directory / f"{name}.boundaries")
        for name in ROLES
    ]
    for role in roles:
        role.boundaries.touch()
    try:
        with supervised(roles) as wrong:
            key_id = _lives(road)
            assert not wrong, wrong
    finally:
        road.stop()
    after = Road(settings, sandbox)
    try:
        _audit(after, key_id)
    finally:
        after.stop()
    return Lived(
        {role.name: role.boundaries.read_text().splitlines() for role in roles},
        {role.name: role.ended_at for role in roles},
    )


def _environment_of(settings: Any) -> dict[str, str]:
    told = {
        f"BYOK_{name.upper()}": getattr(value, "get_secret_value", lambda v=value: v)()
        for name, value in settings.model_dump(exclude_unset=True).items()
        if not name.endswith("base_url")
    }
    for provider in Provider:
        url = settings.base_url(provider)
        assert url is not None
        told[f"{provider.upper()}_BASE_URL"] = url
    told["BYOK_DATABASE_URL"] = settings.effective_database_url
    return {name: str(value) for name, value in told.items() if value is not None}


def _lives(road: Road) -> str:
    """A key is added, tried and used; the platform pays; a call is limited; usage arrives."""
    road.account("own")
    road.account("platform", credits=3)
    key_id = road.give_key(GOOD_OPENAI, "own")
    road.publish(KeyTested(key_id=key_id), "own")
    road.sandbox.fault("ratelimited", endpoint="completion", count=1, retry_after=0.2)
    asked = [(road.ask(account), account) for account in ("own", "platform", "own")]
    for request_id, account in asked:
        road.until(lambda r=request_id, a=account: _has_ended(road, r, a))
    road.remove_key(key_id, "own")
    road.until(lambda: not _left(road))
    return key_id


def _has_ended(road: Road, request_id: str, account: str) -> bool:
    request = road.request(request_id, account)
    return request is not None and request.state in analyses.TERMINAL


def _left(road: Road) -> bool:
    with road.app.database.read() as connection:
        waiting = connection.exec_driver_sql("SELECT count(*) FROM outbox").scalar_one()
        started = connection.execute(select(attempts).where(attempts.c.state == "started")).all()
    return bool(waiting or started)


def _audit(road: Road, key_id: str) -> None:
    with road.app.database.read() as connection:
        rows = ledger.rows_of(connection)
        states = Counter(connection.execute(select(requests_table.c.state)).scalars())
        unknown = analyses.unknown_attempts(connection)
        held = connection.execute(
            select(credit_periods).where(credit_periods.c.reserved != 0)
        ).all()
        used = sum(connection.execute(select(credit_periods.c.used)).scalars())
        folded = sum(connection.execute(select(daily_usage.c.calls)).scalars())
    assert states == {"completed": 3}, states
    completing = Counter(row.request_id for row in rows if row.completes)
    assert len(completing) == 3
    assert set(completing.values()) == {1}
    assert (used, held) == (1, [])
    billed = [row for row in rows if row.kind in ledger.BILLED]
    assert folded == len(billed)
    charged = {call["request_id"]: call["key_digest"] for call in road.sandbox.billed_calls()}
    for row in billed:
        charged.pop(str(row.provider_request_id))
    secrets = {
        key_id: GOOD_OPENAI,
        "openai": PLATFORM_OPENAI,
        "anthropic": PLATFORM_ANTHROPIC,
    }
    lost = Counter(
        sha256(secrets[row.key_id or row.provider].encode()).hexdigest() for row in unknown
    )
    # What is left of the bill is on the list of the unknown; more may be, which nobody was asked.
    assert not Counter(charged.values()) - lost
