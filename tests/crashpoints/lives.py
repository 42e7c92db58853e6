"""The three lives in real processes, of which one ends at a boundary and is started again."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sqlalchemy import select

from deploy.local.sandbox import SandboxServer
from events import KeyTested, Provider
from store import analyses, audit, ledger
from store.schema import analyses as requests_table
from store.schema import attempts, credit_periods
from tests.crashpoints import role
from tests.integration.process.running import clean_environment
from tests.road import GOOD_OPENAI, PLATFORM_ANTHROPIC, PLATFORM_OPENAI, Road
from workers.settings import Settings

ROLES = ("worker", "scheduler")
PATIENCE = 90.0


Ends = Mapping[str, Sequence[str]]
"""Where the processes of a role end: the first at the first boundary named, and so on."""


@dataclass
class Role:
    """A role's process: started again when it ends, without another end from the last one on."""

    name: str
    environment: dict[str, str]
    ends: list[str]
    directory: Path
    ended_at: list[str] = field(default_factory=list)
    process: BaseProcess | None = None

    @property
    def boundaries(self) -> Path:
        return self.directory / f"{self.name}.boundaries"

    def start(self) -> None:
        self.process = role.forks().Process(
            target=role.run,
            args=(
                self.name,
                self.environment,
                self.directory / f"{self.name}.log",
                self.boundaries,
                self.ends[0] if self.ends else None,
            ),
            daemon=True,
        )
        self.process.start()

    @property
    def sentinel(self) -> int:
        """Becomes ready when the process ends."""
        assert self.process is not None
        return self.process.sentinel

    def look(self) -> None:
        """Start it again if it has ended."""
        assert self.process is not None
        code = self.process.exitcode
        if code is not None:
            assert code == role.EXIT_CODE, f"{self.name} ended by itself with {code}"
            self.ended_at.append(self.ends.pop(0))
            self.start()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()


class Patient(Road):
    """A road on which processes start, end and are started again meanwhile."""

    def __init__(self, settings: Settings, sandbox: SandboxServer) -> None:
        super().__init__(settings, sandbox)
        self.wrong: str | None = None
        self.ended = threading.Event()

    def went_wrong(self, what: str) -> None:
        """End the waiting."""
        self.wrong = what
        self.ended.set()

    def until(self, holds: Callable[[], object], patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        pause = 0.01
        while not holds():
            assert time.monotonic() < deadline, f"did not come to hold in {patience:g} s"
            assert not self.ended.wait(pause), self.wrong
            # What comes late comes seconds late: looking all the while would take its processor.
            pause = min(pause * 1.3, 0.2)


@dataclass
class Lived:
    """What became of a history: the boundaries that each role met, and where it ended."""

    boundaries: dict[str, list[str]]
    ended: dict[str, list[str]]


@contextmanager
def _supervised(roles: Sequence[Role], road: Patient) -> Iterator[None]:
    """The roles run; what goes wrong with one of them ends the waiting on the road."""
    done = threading.Event()

    def watch() -> None:
        while not done.is_set() and road.wrong is None:
            connection.wait([one.sentinel for one in roles], timeout=0.1)
            for one in roles:
                try:
                    one.look()
                except AssertionError as error:
                    road.went_wrong(str(error))

    for one in roles:
        one.boundaries.touch()
        one.start()
    watcher = threading.Thread(target=watch, name="watcher")
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        for one in roles:
            one.stop()


def live(directory: Path, settings: Settings, sandbox: SandboxServer, ends: Ends) -> Lived:
    """Live the three lives while each role ends where it is told; audit what is left.

    The store of `settings` has the schema, and all services are empty. Raises `AssertionError`.
    """
    sandbox.reset()
    road = Patient(settings, sandbox)
    environment = clean_environment(directory, _environment_of(settings))
    roles = [Role(name, environment, list(ends.get(name, ())), directory) for name in ROLES]
    try:
        with _supervised(roles, road):
            _live(road)
        _audit(road)
    finally:
        road.stop()
    return Lived(
        {one.name: one.boundaries.read_text().splitlines() for one in roles},
        {one.name: one.ended_at for one in roles},
    )


def _environment_of(settings: Settings) -> dict[str, str]:
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


def _live(road: Road) -> None:
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


def _has_ended(road: Road, request_id: str, account: str) -> bool:
    request = road.request(request_id, account)
    return request is not None and request.state in analyses.TERMINAL


def _left(road: Road) -> bool:
    with road.app.database.read() as connection:
        waiting = connection.exec_driver_sql("SELECT count(*) FROM outbox").scalar_one()
        started = connection.execute(select(attempts).where(attempts.c.state == "started")).all()
    return bool(waiting or started)


def _audit(road: Road) -> None:
    with road.app.database.snapshot() as connection:
        rows = ledger.rows_of(connection)
        states = Counter(connection.execute(select(requests_table.c.state)).scalars())
        unknown = analyses.unknown_attempts(connection)
        used = sum(connection.execute(select(credit_periods.c.used)).scalars())
        findings = audit.audit(connection).findings
    assert findings == []
    assert states == {"completed": 3}, states
    completing = Counter(row.request_id for row in rows if row.completes)
    assert sorted(completing.values()) == [1, 1, 1], completing
    assert used == 1
    told = {
        event["id"]: event["data"]["request_id"]
        for kind in ("completed", "failed", "skipped")
        for event in road.out_events(f"analysis.{kind}")
    }
    assert Counter(told.values()) == completing
    _audit_bill(road, rows, unknown)


def _audit_bill(road: Road, rows: Sequence[Any], unknown: Sequence[Any]) -> None:
    charged = {call["request_id"]: call["key_digest"] for call in road.sandbox.billed_calls()}
    for row in rows:
        if row.kind in ledger.BILLED:
            charged.pop(str(row.provider_request_id))
    secrets = {"openai": PLATFORM_OPENAI, "anthropic": PLATFORM_ANTHROPIC}
    lost = Counter(
        sha256((GOOD_OPENAI if row.key_id else secrets[row.provider]).encode()).hexdigest()
        for row in unknown
    )
    # What is left of the bill is on the list of the unknown; more may be, which nobody was asked.
    assert not Counter(charged.values()) - lost
