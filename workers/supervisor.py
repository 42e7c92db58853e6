"""One process tree: the embedded parts and the roles, started together and stopped together.

Each child stops when its standard input ends. So none outlives this process, however it dies.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import structlog

from events.keys import Provider
from store import migrate
from workers.addresses import processes_of, told_by
from workers.app import ROLES, App
from workers.settings import ConfigurationError, Settings

log = structlog.get_logger(__name__)

START_SECONDS = 60.0
STOP_SECONDS = 100.0
POLL_SECONDS = 0.05
RESTART_PAUSE_SECONDS = 1.0


class StartFailed(RuntimeError):
    """A child did not come up. The message is one sentence."""


@dataclass
class _Child:
    name: str
    argv: Sequence[str]
    process: "subprocess.Popen[bytes]"
    restart: bool
    restart_at: float | None = None


@dataclass
class Supervisor:
    """Runs everything under one state directory."""

    settings: Settings
    stopping: threading.Event = field(default_factory=threading.Event)
    log_file: Path | None = None

    def __post_init__(self) -> None:
        self._children: list[_Child] = []
        self._lock_file: IO[str] | None = None
        self._logs: Any = None

    def start(self) -> None:
        """Start everything and wait until it works.

        Raises `ConfigurationError` where something runs under the directory already, and
        `StartFailed`; what was started until then is left to `stop`.
        """
        self._take_lock()
        self._start_all()

    def watch(self) -> None:
        """Start again what dies, until `stopping` is set."""
        while not self.stopping.wait(POLL_SECONDS):
            self.restart_dead()

    def restart_dead(self) -> None:
        """Start again, after a pause, each child that has died."""
        for child in self._children:
            code = child.process.poll()
            if code is None:
                continue
            if child.restart_at is None:
                log.error("child_died", child=child.name, code=code)
                child.restart_at = time.monotonic() + RESTART_PAUSE_SECONDS
            elif time.monotonic() >= child.restart_at:
                child.process = self._spawn(child.argv)
                child.restart_at = None

    def pid_of(self, name: str) -> int:
        """The process id of a child."""
        return next(child.process.pid for child in self._children if child.name == name)

    def stop(self) -> None:
        """Stop the roles, then the embedded parts they use."""
        self.stopping.set()
        roles = [c for c in self._children if c.name in ROLES]
        parts = [c for c in self._children if c not in roles]
        for group in (roles, parts):
            for child in group:
                _let_go(child.process)
            deadline = time.monotonic() + STOP_SECONDS
            for child in group:
                try:
                    child.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    log.error("child_killed", child=child.name)
                    child.process.kill()
                    child.process.wait()
        self._children.clear()
        if self._logs is not None:
            self._logs.close()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def _start_all(self) -> None:
        settings = self.settings
        settings.prepare_state_dir()
        # What no worker starts without is asked for before anything is started.
        settings.master_key_ring  # noqa: B018 -- reading it checks it
        settings.sealing_key_ring  # noqa: B018 -- reading it checks it
        if self.log_file is not None:
            self._logs = self.log_file.open("ab")
        if settings.embedded_valkey:
            ready = settings.state_dir / "valkey.ready"
            self._start_part(
                "valkey",
                "deploy.local.valkey",
                [
                    "--dir",
                    str(settings.state_dir / "valkey"),
                    "--socket",
                    str(settings.valkey_socket),
                ],
                ready,
            )
        if any(settings.uses_sandbox(provider) for provider in Provider):
            self._start_part(
                "sandbox",
                "deploy.local.sandbox",
                _sandbox_arguments(settings),
                settings.sandbox_url_file,
            )
        app = App(settings, role="supervisor")
        try:
            # Who runs this may be a role that makes no tables, where somebody else does that.
            if migrate.missing(app.database):
                migrate.upgrade(app.database)
            for role in ROLES:
                argv = [sys.executable, "-m", "workers.cli", role, "--stop-on-stdin-eof"]
                self._children.append(_Child(role, argv, self._spawn(argv), restart=True))
            self._await("the roles", self._roles_ready)
        finally:
            app.close()

    def _roles_ready(self) -> bool:
        """Whether each role says that it is: its consumers run by then."""
        for child in self._children:
            if child.name in ROLES:
                processes = dict(processes_of(self.settings.state_dir, child.name))
                url = processes.get(child.process.pid)
                if url is None or not told_by(child.process.pid, url, "/readyz", 1)["ok"]:
                    return False
        return True

    def _start_part(self, name: str, module: str, arguments: list[str], ready: Path) -> None:
        ready.unlink(missing_ok=True)
        argv = [
            sys.executable,
            "-m",
            module,
            *arguments,
            "--ready-file",
            str(ready),
            "--stop-on-stdin-eof",
        ]
        self._children.append(_Child(name, argv, self._spawn(argv), restart=True))
        self._await(name, ready.exists)

    def _await(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            dead = next((c for c in self._children if c.process.poll() is not None), None)
            if dead is not None:
                raise StartFailed(
                    f"The {dead.name} process ended while it started "
                    f"(exit {dead.process.returncode}): {self._last_words()}"
                )
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"Gave up waiting for {what} after {START_SECONDS:.0f} s: `byok doctor` says "
                    "what is wrong."
                )
            if self.stopping.wait(POLL_SECONDS):
                raise KeyboardInterrupt

    def _last_words(self) -> str:
        if self.log_file is None:
            return "see what it printed above."
        lines = self.log_file.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"see {self.log_file}."

    def _spawn(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._logs,
            # A session of its own: Ctrl-C reaches this process alone, which stops the children
            # in their order.
            start_new_session=True,
        )

    def _take_lock(self) -> None:
        self.settings.make_state_dir()
        path = self.settings.state_dir / "up.lock"
        self._lock_file = path.open("a")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"Something already runs under {self.settings.state_dir}: stop it first, or set "
                "BYOK_STATE_DIR to another directory."
            ) from None


def _free_port() -> int:
    # Chosen here rather than by the child, so that a child that is started again has the same.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _sandbox_arguments(settings: Settings) -> list[str]:
    arguments = ["--port", str(_free_port()), "--latency", str(settings.sandbox_latency)]
    if settings.sandbox_record is not None:
        arguments += ["--record", str(settings.sandbox_record)]
    return arguments


def _let_go(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)


def stop_on_signals(stopping: threading.Event, *, stdin: bool) -> None:
    """Set `stopping` on SIGTERM and SIGINT, and with `stdin` when standard input ends."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if stdin:

        def until_eof() -> None:
            while os.read(0, 4096):
                pass
            stopping.set()

        threading.Thread(target=until_eof, name="stdin", daemon=True).start()
