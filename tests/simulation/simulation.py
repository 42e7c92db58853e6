"""One history: the system, upstream and the world, from a seed to the audit."""

import heapq
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import sqlalchemy
import structlog
from sqlalchemy.pool import StaticPool

from events import Provider, claims
from metrics.instruments import open_instruments
from store import engine, migrate
from store.engine import Database
from tests.simulation.broker import Delivery, Queues
from tests.simulation.flood import Flood
from tests.simulation.machine import Faults, Process
from tests.simulation.operator import Operators
from tests.simulation.oracle import Oracle
from tests.simulation.provider import Providers
from tests.simulation.sweeps import only_where_something_is_due
from tests.simulation.upstream import BUDGETS, Upstream
from tests.simulation.valkey import Valkey
from tests.simulation.world import NEVER, START, World
from tests.unit.workers.standins import stand_in_settings

STEPS = 20_000
FAULTY_STEPS = 2_500
FAULTY_MS = 120_000
"""Faults go on for this long after the last event was published, in the world's time."""

LONGEST_MS = 3 * 24 * 3600 * 1000


def _goes_on(*queues: str) -> str:
    names = ", ".join(f"'{queue}'" for queue in queues)
    return f"NOT EXISTS (SELECT 1 FROM paused WHERE kind = 'queue' AND name IN ({names}))"


_DUE = f"""
WITH paused AS (SELECT * FROM pauses WHERE resumed_at IS NULL),
resumed AS (SELECT * FROM pauses WHERE resumed_at IS NOT NULL)
SELECT min(at) AS at FROM (
SELECT min(due_at) AS at FROM analyses WHERE state = 'waiting' AND {_goes_on("analyses")}
UNION ALL SELECT min(due_at) FROM outbox WHERE kind != 'usage' OR {_goes_on("usage")}
UNION ALL SELECT min(due_at) FROM waiting_events WHERE {_goes_on("accounts", "keys")}
UNION ALL SELECT min(validate_at) FROM provider_keys WHERE {_goes_on("validations")}
    AND NOT EXISTS (SELECT 1 FROM paused WHERE kind = 'provider' AND name = provider)
UNION ALL SELECT min(resumed_at) + 900000 FROM resumed
UNION ALL SELECT ? FROM resumed JOIN analyses ON state = 'waiting' AND (
    kind = 'provider' AND reason = 'paused_' || name
    OR kind = 'account' AND reason = 'paused_account' AND account_id = name)
UNION ALL SELECT min(heartbeat_at) + 10001 FROM processes
    WHERE stopped_at IS NULL AND process_id NOT IN ({{live}})
UNION ALL SELECT min(started_at) + 900001 FROM attempts WHERE state = 'started'
UNION ALL SELECT ? FROM analyses JOIN processes USING (process_id)
    WHERE state = 'running' AND stopped_at IS NOT NULL
UNION ALL SELECT ? FROM attempts JOIN processes USING (process_id)
    WHERE state = 'started' AND stopped_at IS NOT NULL)
"""
"""When a sweep has something to do, of what nobody has paused."""


class Store:
    """The one database, in memory; each history starts from the empty schema."""

    def __init__(self) -> None:
        def in_memory(url: Any, **options: Any) -> Any:
            for name in ("pool_size", "max_overflow"):
                options.pop(name)
            return sqlalchemy.create_engine(url, poolclass=StaticPool, **options)

        with patch.object(engine, "create_engine", in_memory):
            self.database = Database("sqlite://")
        migrate.upgrade(self.database)
        with self.database.engine.connect() as connection:
            self.raw: Any = connection.connection.driver_connection
        self.raw.row_factory = sqlite3.Row
        self._empty = sqlite3.connect(":memory:")
        self.raw.backup(self._empty)
        self.instruments = open_instruments(None)

    def reset(self) -> None:
        """Forget the last history."""
        self._empty.backup(self.raw)


@contextmanager
def quiet() -> Iterator[None]:
    """Logs go into the history that is under way: what goes wrong is meant to."""
    before = structlog.get_config()
    structlog.configure(
        processors=[_into_the_record],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


OUTAGES = ("OperationalError", "BrokerAway", "ConnectionError", "TimeoutError", "LeaseLost")
"""The errors that may be logged; every other one is a fault of ours."""


def _into_the_record(_logger: Any, _method: str, fields: Any) -> Any:
    if _running:
        # Without what depends on the sealing's chance, which is no part of a history.
        told = {n: v for n, v in fields.items() if n not in ("event", "sentence", "id")}
        _running[-1].note(f"    logs {fields['event']} {told}")
        if told.get("error", "LeaseLost") not in OUTAGES:
            _running[-1].failures.append(f"1: {fields['event']} {told}")
    raise structlog.DropEvent


_running: list[World] = []


class Simulation:
    """What a process finds outside of itself."""

    def __init__(self, seed: int, store: Store, *, flooded: bool = False) -> None:
        """With `flooded` nothing goes wrong, and one account asks for too much (`flood.Flood`)."""
        self.seed = seed
        self.world = World(seed)
        self.faults = Faults(self.world)
        self._store = store
        self.store, self.raw, self.instruments = store.database, store.raw, store.instruments
        rng = self.world.rng
        self.budgeted = rng.random() < 0.4 and not flooded
        self.calm_since = NEVER
        """Since when nothing goes wrong any more."""
        self.settings = stand_in_settings(
            Path("/nowhere"),
            # A process with one thread has none that could be kept free.
            analysis_threads=rng.choice((2, 4) if flooded else (1, 2, 4)),
            key_threads=rng.choice((1, 2)),
            unknown_attempts=rng.choice(("rerun", "rerun", "hold")),
            reuse_hours=rng.choice((0, 24)),
            budget_soft_share=rng.choice((0.3, 0.8, 1.0)),
            platform_budget_usd=rng.choice(BUDGETS) if self.budgeted else None,
        )
        self.platform = {
            name: key.get_secret_value()
            for name in Provider
            if (key := self.settings.platform_key(name)) is not None
        }
        self.queues = Queues()
        self.valkey = Valkey(self.world.wall)
        self.oracle = Oracle(self)
        self.provider = Providers(self.world, self.oracle, self.platform)
        self.processes: list[Process] = []
        self.rubbish: list[str] = []
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._numbered = 0
        self.world.sweep_due = self._store_due
        outside = Process("upstream", "upstream", self)
        self.operators = Operators(self, outside)
        self.upstream = (Flood if flooded else Upstream)(self, outside)
        if flooded:
            self.faults.end()
            self.calm_since = self.world.now

    @property
    def flood(self) -> Flood:
        """What upstream does in a history that is flooded."""
        assert isinstance(self.upstream, Flood)
        return self.upstream

    def moment(self) -> datetime:
        """Now, as upstream dates its events."""
        return datetime.fromtimestamp(self.world.wall() / 1000, tz=UTC)

    def at(self, when: int, act: Callable[[], None]) -> None:
        """Have something happen at a time of the world."""
        self._numbered += 1
        heapq.heappush(self._timers, (when, self._numbered, act))

    def later(self, most_seconds: float, act: Callable[[], None]) -> None:
        """Have something happen soon."""
        self.at(self.world.now + int(self.world.rng.random() * most_seconds * 1000), act)

    def redeliver(self, process: Process, delivery: Delivery) -> None:
        """A message that was taken comes again, some time."""

        def put() -> None:
            if delivery in process.taken:
                process.taken.remove(delivery)
                self.queues.put(delivery.queue, delivery.data)

        self.later(20, put)

    def left(self, process: Process) -> None:
        """A process is gone: what it had taken comes again, and another one is started."""
        for delivery in list(process.taken):
            self.redeliver(process, delivery)
        self.processes.remove(process)
        self.later(15, lambda: self.boot(process.role))

    def boot(self, role: str) -> None:
        """Start a process."""
        self._numbered += 1
        process = Process(f"{role}{self._numbered}", role, self)
        self.processes.append(process)
        process.start()

    # -- the history

    def run(self) -> list[str]:
        """From the start to the audit; what did not hold."""
        self._store.reset()
        clock = SimpleNamespace(monotonic=lambda: self.world.now / 1000)
        # A publisher stands outside of the workers, and asks the machine for the time.
        with (
            patch.object(claims, "time", clock),
            only_where_something_is_due(self.raw, self.world.wall),
        ):
            self._run()
        return self.world.failures

    def _run(self) -> None:
        world = self.world
        _running[:] = [world]
        for role in ("worker", "worker", "scheduler", "scheduler")[: world.rng.choice((3, 3, 4))]:
            self.boot(role)
        self.upstream.begin()
        if self.faults.rate:
            self.operators.begin(self.upstream.last_at)
        while not world.failures:
            self._fire()
            if self.faults.rate and self._faults_are_over():
                self._end_faults()
            self._disturb()
            choices = [*world.ready(), *self._deliveries()]
            if choices:
                chosen = world.rng.choice(choices)
                if callable(chosen):
                    chosen()
                else:
                    world.run(chosen)
            elif not self.faults.rate and self._is_quiet():
                self.oracle.audit()
                break
            else:
                self._pass_time()
            if world.steps > STEPS:
                self.oracle.broken(f"1: nothing ends after {STEPS} steps")
            if world.now > START + LONGEST_MS:
                self.oracle.broken("1: nothing ends within three days")
        for task in list(world.tasks):
            task.owner.alive = False
            world.kill(task)

    def _faults_are_over(self) -> bool:
        world = self.world
        return world.steps > FAULTY_STEPS or world.now >= self.upstream.last_at + FAULTY_MS

    def _end_faults(self) -> None:
        self.world.note("the faults end")
        self.faults.end()
        self.calm_since = self.world.now
        for process in self.processes:
            process.frozen_until = 0
        for task in self.world.tasks:
            if task.stop is None and task.until is None:
                # It stalls, or waits for a provider: nothing is that slow any more.
                task.due = min(task.due, self.world.now)

    def _deliveries(self) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = []
        if self.faults.broker_away_until > self.world.now:
            return found
        for queue, waiting in self.queues.waiting.items():
            if waiting:
                for process in self.processes:
                    if process.role == "worker" and process.has_room(queue):
                        found.append(lambda q=queue, p=process: self._deliver(q, p))  # noqa: PERF401
        return found

    def _deliver(self, queue: str, process: Process) -> None:
        world, waiting = self.world, self.queues.waiting[queue]
        place = 0
        if world.chance(self.faults.of("reorder")):
            place = world.rng.randrange(len(waiting))
        data = waiting[place]
        if not world.chance(self.faults.of("deliver_twice")):
            del waiting[place]
        process.take(queue, data)

    def _disturb(self) -> None:
        """What happens to the whole, and to no one boundary."""
        world, rng = self.world, self.world.rng
        if world.chance(self.faults.of("broker_empty")):
            world.note("the broker comes back empty")
            self.queues.empty()
            self.faults.broker_away_until = world.now + rng.choice((0, 3000, 30000))
        if world.chance(self.faults.of("valkey_empty")):
            world.note("Valkey comes back empty, but for the stream")
            self.valkey.flush(keep=("byok:events",))
        if world.chance(self.faults.of("stop")) and self.processes:
            process = rng.choice(self.processes)
            process.note("is asked to stop")
            process.app.stopping.set()
        if world.chance(self.faults.of("clock_jump")):
            world.wall_offset += rng.choice((-3_600_000, 3_600_000))
            world.note("the clocks jump by an hour")

    def _fire(self) -> None:
        while self._timers and self._timers[0][0] <= self.world.now:
            heapq.heappop(self._timers)[2]()

    def _pass_time(self) -> None:
        world = self.world
        ticking = [task for task in world.tasks if task.slow]
        to = world.next_due()
        if self._timers:
            to = min(to, self._timers[0][0])
        if ticking:
            tick = min(max(task.due, task.owner.frozen_until) for task in ticking)
            to = min(to, max(tick, self._store_due()))
        for until in (self.faults.broker_away_until, self.faults.database_away_until):
            if until > world.now:
                to = min(to, until)
        if self.faults.rate:
            to = min(to, self.upstream.last_at + FAULTY_MS)
        if to >= NEVER:
            self.oracle.broken("1: everything waits for nothing")
            return
        world.advance(max(to, world.now + 1))

    def _store_due(self) -> int:
        """When a sweep of the scheduler has something to do, in the world's time."""
        wall, offset = self.world.wall(), self.world.wall_offset
        live = [process.app.lease._process_id for process in self.processes]
        marks = ",".join("?" * len(live))
        (row,) = self.raw.execute(_DUE.format(live=marks), (wall, *live, wall, wall)).fetchall()
        return NEVER if row["at"] is None else row["at"] - offset

    def _is_quiet(self) -> bool:
        """Whether all has been done that was asked for."""
        if not self.queues.is_empty or self._timers:
            return False
        if any(process.taken for process in self.processes):
            return False
        if any(task.owner.role == "upstream" for task in self.world.tasks):
            return False
        left = self.raw.execute(
            "SELECT (SELECT count(*) FROM analyses WHERE state IN ('waiting', 'running'))"
            " + (SELECT count(*) FROM attempts WHERE state = 'started')"
            " + (SELECT count(*) FROM outbox) + (SELECT count(*) FROM waiting_events)"
            " + (SELECT count(*) FROM provider_keys WHERE ciphertext IS NOT NULL"
            "    AND (status = 'pending' OR suspect_at IS NOT NULL))"
        ).fetchone()
        return left[0] == 0
