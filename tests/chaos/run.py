"""One run: a system under load, the faults of a schedule, quiet, and the audit."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tests.chaos.faults import FAULTS, Fault, Step
from tests.chaos.load import Load
from tests.chaos.schedule import FIRST_SECONDS, Planned, schedule
from tests.chaos.services import Broker, Store, Valkey
from tests.chaos.system import System

QUIET_SECONDS = 300.0
READY_SECONDS = 60.0
LOOK_SECONDS = 0.25
LAST_CALM_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that was put in and taken out again (Unix seconds)."""

    fault: Fault
    at: float
    healed_at: float


@dataclass
class Parked:
    """Watches from outside how soon after its due time a waiting request is taken up."""

    system: System
    seen: dict[tuple[Any, ...], int] = field(default_factory=dict)
    """When each wait (account, request, due at) was seen to be over, in Unix ms by the roles."""

    def __post_init__(self) -> None:
        self._waits: set[tuple[Any, ...]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="parked", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        self._thread.join(60)

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            with suppress(SQLAlchemyError):
                self._look()

    def _look(self) -> None:
        with self.system.road.app.database.read() as connection:
            rows = connection.execute(
                text(
                    "SELECT account_id, request_id, due_at FROM analyses WHERE state = 'waiting'"
                    " AND reason IN ('rate_limited', 'provider_unavailable', 'worker_lost')"
                )
            )
            now = {tuple(row) for row in rows}
        moment = int((time.time() + self.system.ahead_at(time.time())) * 1000)
        self.seen |= dict.fromkeys(self._waits - now, moment)
        self._waits = now


@dataclass
class Ran:
    """What a run leaves to be audited."""

    system: System
    load: Load
    planned: list[Planned]
    struck: list[Struck] = field(default_factory=list)
    killed: list[tuple[float, list[tuple[str, str, int]]]] = field(default_factory=list)
    parked: dict[tuple[Any, ...], int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """What should not be, in sentences."""
    quiet_after: float | None = None
    """Seconds from the end of the load until all had ended."""


def run(
    directory: Path,
    audit: Callable[[Ran], None],
    *,
    seed: int,
    seconds: float,
    make_store: Callable[[Path], Store],
    make_broker: Callable[[Path], Broker] = Valkey,
    faults: Sequence[Fault] = FAULTS,
    rate: float = 6.0,
    workers: int = 2,
    say: Callable[[str], None] = lambda _: None,
) -> Ran:
    """Run, and hand what is left to `audit` while the system still stands.

    `rate` is in events a second.
    """
    with System(directory, make_store, make_broker, workers) as system:
        possible = [fault for fault in faults if fault.can(system)]
        planned = schedule(seed, seconds, possible)
        load = Load(system.road, directory / "published.jsonl", seed, rate)
        ran = Ran(system, load, planned)
        say(
            f"{system.store.kind} and {system.queue.kind}; {len(planned)} faults: "
            + ", ".join(f"{one.fault.name} {one.seconds:g} s" for one in planned)
        )
        parked = Parked(system)
        load.start()
        try:
            threading.Event().wait(FIRST_SECONDS)
            for number, one in enumerate(planned):
                load.step = number
                _strike(ran, one, say)
            threading.Event().wait(LAST_CALM_SECONDS)
            load.rest()
            say("the load ends")
            _await_quiet(ran)
            say("all is quiet")
        finally:
            parked.stop()
            load.stop()
        ran.parked = parked.seen
        audit(ran)
        say("audited")
    say("stopped")
    return ran


def _strike(ran: Ran, one: Planned, say: Callable[[str], None]) -> None:
    threading.Event().wait(one.calm)
    # Where one is still being killed, the next fault comes on top of that.
    with suppress(AssertionError):
        ran.system.await_ready(READY_SECONDS)
    at = time.time()
    one.fault.act(Step(ran.system, ran.load, one.seconds, ran.wrong, ran.killed))
    ran.struck.append(Struck(one.fault, at, time.time()))
    say(f"  {one.fault.name}: {ran.struck[-1].healed_at - at:.1f} s")


def _await_quiet(ran: Ran) -> None:
    """Wait until everything was acknowledged and has ended."""
    began = time.monotonic()
    left: dict[str, int] = {"everything": 1}
    while left and time.monotonic() - began < QUIET_SECONDS:
        threading.Event().wait(LOOK_SECONDS)
        left = _left(ran)
    if left:
        ran.wrong.append(f"not quiet after {QUIET_SECONDS:g} s: {left}")
    else:
        ran.quiet_after = time.monotonic() - began


def _left(ran: Ran) -> dict[str, int]:
    counts = {
        "requests": "SELECT count(*) FROM analyses WHERE state IN ('waiting', 'running')",
        "attempts": "SELECT count(*) FROM attempts WHERE state = 'started'",
        "outbox": "SELECT count(*) FROM outbox",
        "waiting events": "SELECT count(*) FROM waiting_events",
        "keys": "SELECT count(*) FROM provider_keys WHERE status = 'pending'"
        " AND removed_at IS NULL",
    }
    with ran.system.road.app.database.read() as connection:
        found = {name: connection.execute(text(sql)).scalar_one() for name, sql in counts.items()}
    found["not acknowledged"] = 0 if ran.load.is_acknowledged() else 1
    # Messages that nobody has taken: what was published is in the store only after that.
    found |= ran.system.queue.left()
    return {name: count for name, count in found.items() if count}
