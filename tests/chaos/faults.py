"""The faults: how each is put into a running system, and taken out of it again."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import psutil
from sqlalchemy import text

from events import KeyTested
from store.leases import DEAD_AFTER_SECONDS
from tests.chaos.load import OWN_KEYS, Load
from tests.chaos.services import Sqlite, Valkey
from tests.chaos.system import Role, System
from tests.integration.process.running import until

IN_FLIGHT = 6
SOON = 15.0


@dataclass
class Step:
    """What a fault works with: the system, the load, and where it tells what should not be."""

    system: System
    load: Load
    seconds: float
    wrong: list[str]
    killed: list[tuple[float, list[tuple[str, str, int]]]]
    """When a worker was killed, and the attempts that were under way: account, request, number."""

    def hold(self) -> None:
        """Let the fault stand for as long as the schedule says."""
        threading.Event().wait(self.seconds)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by name; `lasts` are the seconds that it stands, at least and at most."""

    name: str
    act: Callable[[Step], None]
    lasts: tuple[float, float] = (0.0, 0.0)
    can: Callable[[System], bool] = lambda _: True


def _kill(step: Step, name: str) -> None:
    """SIGKILL, and for a worker in the middle of calls."""
    role = step.system.one(name)
    if not name.startswith("worker"):
        role.send(signal.SIGKILL)
        return
    step.system.sandbox.gate(closed=True)
    try:
        with suppress(AssertionError):
            until(
                lambda: len(_under_way(step.system, role.pid)) >= IN_FLIGHT,
                "calls are under way",
                SOON,
            )
        role.send(signal.SIGKILL)
        at = time.time()
        step.killed.append((at, _under_way(step.system, role.pid)))
    finally:
        step.system.sandbox.gate(closed=False)


def _under_way(system: System, pid: int) -> list[tuple[str, str, int]]:
    with system.road.app.database.read() as connection:
        rows = connection.execute(
            text(
                "SELECT account_id, request_id, attempt FROM attempts JOIN processes"
                " USING (process_id) WHERE pid = :pid AND state = 'started'"
            ),
            {"pid": pid},
        )
        return [tuple(row) for row in rows if not row[1].startswith("~")]


def _at_the_relay(step: Step, act: Callable[[Step, str], None]) -> None:
    """Strike the scheduler while it has something to relay."""
    until(step.system.has_outbox, "the outbox holds something", SOON)
    act(step, "scheduler")


def _freeze(step: Step, name: str) -> None:
    """SIGSTOP until its lease has long been taken over."""
    role = step.system.one(name)
    if isinstance(step.system.store, Sqlite):
        # Frozen with SQLite's one write lock in its hands, it would freeze all others too.
        with step.system.road.app.database.write():
            _stop(role)
    else:
        _stop(role)
    step.hold()
    role.send(signal.SIGCONT)


def _stop(role: Role) -> None:
    role.send(signal.SIGSTOP)
    process = psutil.Process(role.pid)
    until(lambda: process.status() == psutil.STATUS_STOPPED, f"{role.name} is frozen", SOON)


def _terminate(step: Step) -> None:
    """SIGTERM under load: it ends what it has, and gives the rest back."""
    system = step.system
    role = system.one("worker 1")
    valkey = system.queue if isinstance(system.queue, Valkey) else None
    dead = set(valkey.taken_by_the_dead(set())) if valkey else set()
    known = valkey.consumers() if valkey else set()
    pid = role.pid
    role.kept_down = True
    role.send(signal.SIGTERM)
    assert role.process is not None
    code = role.process.wait(100)
    if code != 0:
        step.wrong.append(f"a worker that was asked to stop ended with {code}")
    left = _under_way(system, pid)
    if left:
        step.wrong.append(f"a worker that was asked to stop left {len(left)} attempts open")
    # RabbitMQ gives back what a closed connection had, and nobody can look at it before that.
    silent = valkey.taken_by_the_dead(known - dead) if valkey else {}
    for name, taken in silent.items():
        step.wrong.append(
            f"a worker that was asked to stop left {len(taken)} messages to be delivered again"
            f" ({name.decode()})"
        )
    role.kept_down = False


def _broker_killed(step: Step) -> None:
    step.system.queue.kill()
    step.hold()
    step.system.queue.start()


def _broker_empty(step: Step) -> None:
    """It loses all while messages lie on it that nobody has taken yet."""
    system = step.system
    workers = [role for role in system.roles if role.name.startswith("worker")]
    for role in workers:
        role.send(signal.SIGSTOP)
    try:
        with suppress(AssertionError):
            until(lambda: system.queue.left()["analyses"] >= IN_FLIGHT, "messages wait", SOON)
        system.held_alone |= system.queue.kill_and_lose_everything()
    finally:
        for role in workers:
            role.send(signal.SIGCONT)
    system.emptied_at.append(time.time())
    step.hold()
    system.queue.start()


def _broker_paused(step: Step) -> None:
    step.system.queue.pause()
    step.hold()
    step.system.queue.go_on()


def _broker_cut(step: Step) -> None:
    """Connections are cut again and again, and for a moment none comes about."""
    end = time.monotonic() + step.seconds
    while time.monotonic() < end:
        step.system.broker.cut()
        threading.Event().wait(0.5)
    step.system.broker.refuse(True)
    threading.Event().wait(1)
    step.system.broker.refuse(False)


def _broker_full(step: Step) -> None:
    step.system.queue.set_full(True)
    step.hold()
    step.system.queue.set_full(False)


def _database_killed(step: Step) -> None:
    step.system.postgresql.kill()
    step.hold()
    step.system.postgresql.start()


def _database_restarted(step: Step) -> None:
    step.system.postgresql.restart()


def _database_paused(step: Step) -> None:
    step.system.postgresql.pause()
    step.hold()
    step.system.postgresql.go_on()


def _database_without_connections(step: Step) -> None:
    step.system.postgresql.limit_connections(3)
    step.hold()
    step.system.postgresql.limit_connections(-1)


def _database_fails(step: Step, share: float, state: str, *, at_commit: bool) -> None:
    step.system.postgresql.fail_statements(share, state, at_commit=at_commit)
    step.hold()
    step.system.postgresql.let_statements_work()


def _database_locked(step: Step) -> None:
    step.system.sqlite.lock(step.seconds)


def _disk_full(step: Step) -> None:
    step.system.sqlite.fill()
    step.hold()
    step.system.sqlite.empty()


def _provider(step: Step, fault: str, retry_after: float | None = None) -> None:
    for endpoint in ("completion", "models"):
        step.system.sandbox.fault(fault, endpoint=endpoint, retry_after=retry_after)
    step.hold()
    step.system.sandbox.clear_faults()


def _provider_hangs(step: Step) -> None:
    """Calls hang until the connection is cut, as after a provider's proxy was replaced."""
    step.system.sandbox.fault("hang", endpoint="completion", count=20)
    step.hold()
    step.system.sandbox.clear_faults()
    step.system.provider.cut()


def _provider_drips(step: Step) -> None:
    step.system.provider.drip(100)
    step.hold()
    step.system.provider.drip(None)


def _revoke(step: Step) -> None:
    """A key is revoked while calls with it are in flight, and later is good again."""
    system, key = step.system, OWN_KEYS["revoked"]
    system.sandbox.gate(closed=True)
    try:
        for _ in range(3):
            step.load.ask("revoked", claim=False)
        with suppress(TimeoutError):
            system.sandbox.wait_in_flight(3, timeout=SOON)
        system.sandbox.fault("revoked", key=key)
    finally:
        system.sandbox.gate(closed=False)
    step.hold()
    system.sandbox.clear_faults()
    (key_id,) = (key_id for key_id, account in system.key_ids.items() if account == "revoked")
    system.road.publish(KeyTested(key_id=key_id), "revoked")


def _jump(step: Step) -> None:
    step.system.jump(3600)


def _two_schedulers(step: Step) -> None:
    second = step.system.role("second scheduler", "scheduler")
    second.start()
    step.hold()
    if second.stop() != 0:
        step.wrong.append("a second scheduler did not stop as it was asked to")


def _poison(step: Step) -> None:
    step.load.poison()


def _twice(step: Step) -> None:
    step.system.twice(on=True)
    step.hold()
    step.system.twice(on=False)


def _reverse(step: Step) -> None:
    """Let messages pile up behind frozen workers, and hand them out in reverse."""
    system = step.system
    workers = [role for role in system.roles if role.name.startswith("worker")]
    for role in workers:
        role.send(signal.SIGSTOP)
    threading.Event().wait(DEAD_AFTER_SECONDS / 2)
    system.valkey.reverse()
    for role in workers:
        role.send(signal.SIGCONT)
    end = time.monotonic() + step.seconds
    while time.monotonic() < end:
        system.valkey.reverse()
        threading.Event().wait(0.05)


LEASE = (DEAD_AFTER_SECONDS + 4, DEAD_AFTER_SECONDS + 8)


def _is_postgresql(system: System) -> bool:
    return not _is_sqlite(system)


def _is_sqlite(system: System) -> bool:
    return isinstance(system.store, Sqlite)


def _can_be_full(system: System) -> bool:
    return isinstance(system.store, Sqlite) and system.store.can_be_full


def _is_valkey(system: System) -> bool:
    return isinstance(system.queue, Valkey)


FAULTS: tuple[Fault, ...] = (
    Fault("SIGKILL worker", partial(_kill, name="worker 1")),
    Fault("SIGKILL scheduler", partial(_kill, name="scheduler")),
    Fault("SIGKILL aggregator", partial(_kill, name="aggregator")),
    Fault("SIGKILL relay", partial(_at_the_relay, act=_kill)),
    Fault("SIGSTOP worker", partial(_freeze, name="worker 1"), LEASE),
    Fault("SIGSTOP scheduler", partial(_freeze, name="scheduler"), LEASE),
    Fault("SIGSTOP aggregator", partial(_freeze, name="aggregator"), LEASE),
    Fault("SIGSTOP relay", partial(_at_the_relay, act=_freeze), LEASE),
    Fault("SIGTERM worker", _terminate),
    Fault("broker killed", _broker_killed, (1, 4)),
    Fault("broker back empty", _broker_empty, (1, 4)),
    Fault("broker paused", _broker_paused, (30, 30)),
    Fault("broker cut off", _broker_cut, (3, 6)),
    Fault("broker full", _broker_full, (3, 8)),
    Fault("database killed", _database_killed, (1, 5), _is_postgresql),
    Fault("database restarted", _database_restarted, can=_is_postgresql),
    Fault("database paused", _database_paused, (8, 14), _is_postgresql),
    Fault("no connections left", _database_without_connections, (4, 8), _is_postgresql),
    Fault(
        "deadlocks",
        partial(_database_fails, share=0.3, state="40P01", at_commit=False),
        (4, 8),
        _is_postgresql,
    ),
    Fault(
        "serialisation",
        partial(_database_fails, share=0.3, state="40001", at_commit=True),
        (4, 8),
        _is_postgresql,
    ),
    Fault("database locked", _database_locked, (8, 14), _is_sqlite),
    Fault("disk full", _disk_full, (3, 8), _can_be_full),
    Fault("provider hangs", _provider_hangs, (4, 8)),
    Fault("provider drips", _provider_drips, (6, 10)),
    Fault("provider resets", partial(_provider, fault="reset"), (4, 8)),
    Fault("provider malformed", partial(_provider, fault="malformed"), (4, 8)),
    Fault("429 storm", partial(_provider, fault="ratelimited", retry_after=1.0), (5, 10)),
    Fault("long 5xx", partial(_provider, fault="error503"), (15, 20)),
    Fault("key revoked", _revoke, (3, 6)),
    Fault("clock jumps 1 h", _jump),
    Fault("two schedulers", _two_schedulers, (6, 10)),
    Fault("poison", _poison),
    Fault("all twice", _twice, (5, 10)),
    Fault("all in reverse", _reverse, (3, 6), _is_valkey),
)
