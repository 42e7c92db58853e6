"""The system of a run: its roles as `byok up` starts them, and everything they stand on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import RedisError

from deploy.local.sandbox import SandboxControl
from events.stream import EVENT_FIELD, STREAM
from store import migrate, outbox
from tests.benchmarks.stage import a_sandbox
from tests.chaos.inside.sitecustomize import CLOCK, TWICE
from tests.chaos.load import KEYS, OWN_KEYS, PLATFORM, SCARCE, SCARCE_CREDITS
from tests.chaos.proxy import Proxy
from tests.chaos.services import Broker, PostgreSQL, Sqlite, Store, Valkey
from tests.commands import environment_of
from tests.integration.process.running import clean_environment, until
from tests.road import Road, make_settings
from workers.addresses import processes_of, told_by
from workers.supervisor import RESTART_PAUSE_SECONDS

ROOT = Path(__file__).parents[2]
LATENCY_SECONDS = 0.2
READY_SECONDS = 300.0
LOOK_SECONDS = 0.05
PLENTY = 1_000_000


@dataclass(eq=False)
class Role:
    """A role's process. It is started again when it ends, as every supervisor does."""

    name: str
    kind: str
    environment: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    kept_down: bool = False
    starts: int = 0
    _again_at: float | None = None

    def start(self) -> None:
        """Start it."""
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", self.kind, "--stop-on-stdin-eof"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self.starts += 1

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def look(self) -> None:
        """Start it again, after a pause, where it has ended."""
        if self.kept_down or self.process is None or self.process.poll() is None:
            return
        if self._again_at is None:
            self._again_at = time.monotonic() + RESTART_PAUSE_SECONDS
        elif time.monotonic() >= self._again_at:
            self._again_at = None
            self.start()

    def send(self, number: int) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def is_ready(self, state_dir: Path) -> bool:
        """Whether it says so itself."""
        if self.process is None or self.process.poll() is not None:
            return False
        url = dict(processes_of(state_dir, self.kind)).get(self.pid)
        return url is not None and bool(told_by(self.pid, url, "/readyz", 1)["ok"])

    def stop(self, seconds: float = 100.0) -> int:
        """Ask it to stop, and wait; its exit code."""
        self.kept_down = True
        assert self.process is not None
        assert self.process.stdin is not None
        self.send(signal.SIGCONT)
        self.process.stdin.close()
        self.send(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -signal.SIGKILL


class Follower:
    """Reads the out-events as a subscriber does, and remembers all of them."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey
        self.seen: dict[str, tuple[str, str | None]] = {}
        """Type and request of each event, by the event's id."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._stop.set()
        self._thread.join(30)

    def _follow(self) -> None:
        last = b"0"
        while not self._stop.is_set():
            try:
                with self._valkey.client(1) as client:
                    while not self._stop.is_set():
                        for _, entries in client.xread({STREAM: last}, count=500, block=200) or ():
                            for last, fields in entries:  # noqa: B007 -- where to go on
                                self._note(fields[EVENT_FIELD.encode()])
            except (RedisError, OSError):
                self._stop.wait(0.2)

    def _note(self, text: bytes) -> None:
        event = json.loads(text)
        self.seen[event["id"]] = (event["type"], event["data"].get("request_id"))


@dataclass
class System:
    """Everything that runs, and the doors to it. Used as a context manager."""

    directory: Path
    make_store: Callable[[Path], Store]
    make_broker: Callable[[Path], Broker]
    """`Valkey`, beside which the limits and the stream lie, or another one."""
    workers: int = 2
    emptied_at: list[float] = field(default_factory=list)
    """When the broker came back empty (Unix seconds)."""
    held_alone: set[str] = field(default_factory=set)
    """The ids of the events that the broker held when it lost everything."""
    jumps: list[tuple[float, float]] = field(default_factory=list)
    """When (Unix seconds) the clock of the roles jumped, and how far ahead it is since (s)."""

    def __enter__(self) -> "System":
        self._stack = ExitStack()
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        stack, directory = self._stack, self.directory
        self.sandbox = SandboxControl(
            stack.enter_context(a_sandbox(directory, latency=LATENCY_SECONDS))
        )
        self.provider = self._proxy(int(self.sandbox.url.rpartition(":")[2]))
        self.queue = self._running(self.make_broker(directory))
        self.broker = self._proxy(self.queue.target)
        self.valkey, beside = self.queue, self.broker
        if not isinstance(self.valkey, Valkey):
            self.valkey = self._running(Valkey(directory))
            beside = self._proxy(self.valkey.target)
        self.store = self.make_store(directory)
        stack.callback(self.store.close)
        (directory / "state").mkdir(mode=0o700)
        settings = make_settings(
            directory / "state",
            broker=self.queue.url(self.broker.port),
            redis_url=f"redis://127.0.0.1:{beside.port}/1",
            database=self.store.url,
            sandbox=SandboxControl(f"http://127.0.0.1:{self.provider.port}"),
            # As they are by default.
            analysis_threads=64,
            key_threads=8,
            exporter_port=0,
        )
        self.road = Road(settings, self.sandbox)
        stack.callback(self.road.stop)
        migrate.upgrade(self.road.app.database)
        self.environment = clean_environment(
            directory / "state",
            environment_of(settings)
            | {"PYTHONPATH": str(Path(__file__).parent / "inside"), "CHAOS": str(directory)},
        )
        self._start_roles()
        self.follower = Follower(self.valkey)
        stack.callback(self.follower.stop)
        self._accounts()

    def _start_roles(self) -> None:
        all_but_usage = {"BYOK_QUEUES": "events,validations,analyses"}
        self.roles = [
            *(self.role(f"worker {n + 1}", "worker", all_but_usage) for n in range(self.workers)),
            self.role("aggregator", "worker", {"BYOK_QUEUES": "usage"}),
            self.role("scheduler", "scheduler"),
            self.role("exporter", "exporter"),
        ]
        self._stack.callback(self._stop_roles)
        for role in self.roles:
            role.start()
        self._ended = threading.Event()
        keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        keeper.start()
        self.await_ready()

    def role(self, name: str, kind: str, more: dict[str, str] | None = None) -> Role:
        """A role that is not started yet."""
        log = self.directory / f"{name.replace(' ', '-')}.log"
        return Role(name, kind, self.environment | (more or {}), log)

    def _stop_roles(self) -> None:
        self._ended.set()
        threads = [threading.Thread(target=role.stop) for role in self.roles if role.process]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _keep(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            for role in list(self.roles):
                role.look()

    def _running(self, broker: Any) -> Any:
        self._stack.callback(broker.close)
        broker.start()
        return broker

    def _proxy(self, target: int | Path) -> Proxy:
        proxy = Proxy(target)
        self._stack.callback(proxy.close)
        return proxy

    def _accounts(self) -> None:
        for account in (*OWN_KEYS, *PLATFORM, *KEYS):
            self.road.account(account, credits=PLENTY)
        self.road.account(SCARCE, credits=SCARCE_CREDITS)
        self.key_ids = {
            self.road.give_key(pasted, account): account for account, pasted in OWN_KEYS.items()
        }

    # -- what faults work with

    def one(self, name: str) -> Role:
        """A role by its name."""
        return next(role for role in self.roles if role.name == name)

    def await_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until every role says that it is ready. Raises `AssertionError`."""
        state_dir = self.road.settings.state_dir
        until(
            lambda: all(role.is_ready(state_dir) for role in self.roles),
            "all roles are ready",
            seconds,
        )

    def has_outbox(self) -> bool:
        """Whether the relay has something to do."""
        with self.road.app.database.read() as connection:
            return bool(outbox.backlog(connection))

    def jump(self, seconds: float) -> None:
        """Put the clock of every role ahead; it stays there."""
        ahead = self.ahead_at(time.time()) + seconds
        part = self.directory / "clock.part"
        part.write_text(str(ahead))
        part.replace(self.directory / CLOCK)
        self.jumps.append((time.time(), ahead))

    def ahead_at(self, moment: float) -> float:
        """How many seconds the roles' clock was ahead at a moment (Unix seconds)."""
        return next((ahead for at, ahead in reversed(self.jumps) if moment >= at), 0.0)

    def real(self, told_ms: int) -> float:
        """A moment that a role wrote down (Unix ms by its clock), in Unix seconds."""
        for at, ahead in reversed(self.jumps):
            if told_ms / 1000 - ahead >= at:
                return told_ms / 1000 - ahead
        return told_ms / 1000

    def twice(self, *, on: bool) -> None:
        """Send every message twice, or once again."""
        if on:
            (self.directory / TWICE).touch()
        else:
            (self.directory / TWICE).unlink(missing_ok=True)

    @property
    def sqlite(self) -> Sqlite:
        """The database, where it is SQLite."""
        assert isinstance(self.store, Sqlite)
        return self.store

    @property
    def postgresql(self) -> PostgreSQL:
        """The database, where it is PostgreSQL."""
        assert isinstance(self.store, PostgreSQL)
        return self.store
