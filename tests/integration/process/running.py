"""`byok up` and the other commands as processes of their own, driven from outside.

What a test needs to look at (store, queues, the sandbox's bill) is read beside them.
"""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import psutil
import redis

from deploy.local.sandbox import SandboxControl
from deploy.local.valkey import socket_path
from events import QUEUES
from events.broker import NAMESPACE, actor_of, redis_client
from store import analyses, outbox
from store.analyses import Request
from tests.road import Road
from tests.sent import RECORDS
from workers.app import App
from workers.queues import VALIDATIONS_QUEUE
from workers.settings import Settings

ROOT = Path(__file__).parents[3]
MAILS = ROOT / "tests" / "data" / "mail"
ALL_QUEUES = (*QUEUES, VALIDATIONS_QUEUE)

PATIENCE = 30.0
START_SECONDS = 60.0
STOP_SECONDS = 30.0
COMMAND_SECONDS = 60.0

SOON = 15.0
"""For processes to be gone whose parent was killed."""


def until(holds: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Look again and again until `holds`; fail after `patience` seconds."""
    deadline = time.monotonic() + patience
    waiting = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {patience:g} s"
        waiting.wait(0.02)


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What it printed, one JSON object a line and nothing else."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def object(self) -> dict[str, Any]:
        """The one JSON object that it printed."""
        (only,) = self.objects
        return only


def clean_environment(state_dir: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a shell in which nothing but the state directory was set."""
    kept = ("PATH", "TMPDIR", "SYSTEMROOT")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": str(state_dir.parent),
        "LANG": "C.UTF-8",
        "BYOK_STATE_DIR": str(state_dir),
        # Beside the state directory, which other tests search for what must not be left there.
        "BYOK_SANDBOX_RECORD": str(RECORDS.watch(state_dir.parent / "sandbox.record")),
        **more,
    }


def processes_of(state_dir: Path) -> list[psutil.Process]:
    """The processes whose command line or environment names `state_dir`."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(psutil.Error, OSError):
            told = [*process.cmdline(), *process.environ().values()]
            if any(str(state_dir) in text for text in told):
                found.append(process)
    return found


def end_all(state_dir: Path) -> None:
    """End what a failed test has left behind."""
    for process in processes_of(state_dir):
        with suppress(psutil.Error):
            process.kill()


class Outside(Road):
    """A system that runs in processes of its own, which others have driven before."""

    def revision(self) -> int:
        # Above what the commands have used, which count up from what the store has seen.
        self._revision = max(self._revision + 1, time.time_ns() // 1_000_000)
        return self._revision


class Up:
    """One `byok up`, to be started, driven and ended."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory.resolve()
        self.state_dir = self.directory / "state"
        self.environment = clean_environment(self.state_dir, environment or {})
        self.stdout = self.directory / "up.stdout"
        self.stderr = self.directory / "up.stderr"
        self.said: list[Done] = []
        self.seen: dict[str, bytes] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it says `ready`."""
        self.forget()
        already = self._ready_lines()
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "up", "--json"],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        process = self._process

        def ready() -> bool:
            assert process.poll() is None, f"`byok up` ended: {self.stderr.read_text()[-2000:]}"
            return self._ready_lines() > already

        until(ready, "`byok up` is ready", START_SECONDS)

    def logged(self, word: str) -> int:
        """How often it has said `word` on stderr, over all its starts."""
        return self.stderr.read_text().count(word) if self.stderr.exists() else 0

    def _ready_lines(self) -> int:
        return self.stderr.read_text().splitlines().count("ready") if self.stderr.exists() else 0

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process of `byok up` itself."""
        assert self._process is not None
        return self._process

    def ended(self) -> int:
        """Wait for it to end; its exit code."""
        return self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        """End it at once, however it stands: how it ends by itself is for a test to show."""
        try:
            self.forget()
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            end_all(self.state_dir)
        RECORDS.search()

    def forget(self) -> None:
        """Let go of connections to services that are about to go or have gone."""
        for name in ("road", "queue", "sandbox"):
            part = self.__dict__.pop(name, None)
            if isinstance(part, Road):
                part.stop()
            elif isinstance(part, redis.Redis):
                part.close()

    def processes(self) -> list[psutil.Process]:
        """All processes of the state directory that run now."""
        return processes_of(self.state_dir)

    def children(self, role: str) -> list[psutil.Process]:
        """The processes of one role: one, or none while it is started again."""
        found = []
        for process in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if process.cmdline()[1:4] == ["-m", "workers.cli", role]:
                    found.append(process)
        return found

    def child(self, role: str) -> psutil.Process:
        """The process of one role."""
        (only,) = self.children(role)
        return only

    def byok(self, *arguments: str, stdin: str | bytes = b"") -> Done:
        """Run one `byok` command in another process."""
        ran = subprocess.run(
            [sys.executable, "-m", "workers.cli", *arguments],
            cwd=self.directory,
            env=self.environment,
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        done = Done(ran.returncode, ran.stdout.decode(), ran.stderr.decode())
        assert "Traceback" not in done.err, done.err
        self.said.append(done)
        return done

    def json(self, *arguments: str, stdin: str | bytes = b"") -> dict[str, Any]:
        """Run a command that must succeed, with `--json`; the one object that it prints."""
        done = self.byok(*arguments, "--json", stdin=stdin)
        assert done.code == 0, done
        return done.object

    def add_key(self, account: str, provider: str, pasted: str) -> dict[str, Any]:
        """Connect a key and wait for its verdict; the key as the command prints it."""
        return self.json("keys", "add", account, provider, "--wait", stdin=pasted)

    def analyze(self, account: str, path: Path, *more: str) -> list[dict[str, Any]]:
        """Have mails analysed; the printed lines."""
        done = self.byok("analyze", account, str(path), "--json", *more)
        assert done.code == 0, done
        return done.objects

    @cached_property
    def road(self) -> "Outside":
        """The doors of the system, from this process."""
        # Everything is named, so that nothing comes out of the environment of the tests.
        settings = Settings(
            state_dir=self.state_dir,
            broker_url=self._valkey_url(0),
            redis_url=self._valkey_url(1),
            database_url=f"sqlite:///{self.state_dir / 'byok.sqlite3'}",
            master_keys=(self.state_dir / "master.keys").read_text(),
            sealing_keys=(self.state_dir / "sealing.keys").read_text(),
        )
        return Outside(settings, self.sandbox)

    @property
    def app(self) -> App:
        """The store and the publisher, from this process."""
        return self.road.app

    @cached_property
    def queue(self) -> redis.Redis:
        """The message queue as it lies in Valkey."""
        return redis_client(self._valkey_url(0), max_connections=4)

    @cached_property
    def sandbox(self) -> SandboxControl:
        """The controls of the provider sandbox."""
        return SandboxControl((self.state_dir / "sandbox.url").read_text().strip())

    def metrics(self) -> str:
        """The page `/metrics`."""
        with urlopen((self.state_dir / "exporter.url").read_text().strip(), timeout=10) as page:  # noqa: S310 -- our own
            text: str = page.read().decode()
        return text

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric that have `labels`."""
        total = 0.0
        for line in self.metrics().splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(
                f'{label}="{wanted}"' in sample for label, wanted in labels.items()
            ):
                total += float(value)
        return total

    def requests(self, account: str, request_ids: Sequence[str]) -> list[Request]:
        """The requests among `request_ids` that the store knows."""
        with self.app.database.read() as connection:
            return analyses.find_many(connection, account, request_ids)

    def await_terminal(self, account: str, request_ids: Sequence[str]) -> list[Request]:
        """Wait until all requests are in a terminal state; the requests."""

        def all_ended() -> bool:
            found = self.requests(account, request_ids)
            ended = [request for request in found if request.state in analyses.TERMINAL]
            return len(ended) == len(request_ids)

        until(all_ended, f"all analyses of {account} have ended", 60)
        return self.requests(account, request_ids)

    def await_outbox(self) -> None:
        """Wait until everything has left the outbox for the ledger and the stream."""

        def empty() -> bool:
            with self.app.database.read() as connection:
                return not outbox.backlog(connection)

        until(empty, "the outbox is empty")

    def await_queues(self, patience: float = PATIENCE) -> None:
        """Wait until no queue holds a message, neither one that waits nor one that was taken."""
        until(lambda: not self.on_queues(), "the queues are empty", patience)

    def push(self, queue: str, body: str | bytes, message_id: str | None = None) -> str:
        """Put a raw message on a queue, as dramatiq lays it down; the id that it lies under."""
        message_id = message_id or uuid.uuid4().hex
        self.queue.hset(f"{NAMESPACE}:{queue}.msgs", message_id, body)
        self.queue.rpush(f"{NAMESPACE}:{queue}", message_id)
        return message_id

    def send(self, queue: str, *arguments: object, **fields: object) -> str:
        """Put a message for the queue's actor on a queue, with some of its `fields` changed."""
        named = fields.get("message_id")
        message_id = named if isinstance(named, str) else uuid.uuid4().hex
        actor = "validate_key" if queue == VALIDATIONS_QUEUE else actor_of(queue)
        message = {
            "queue_name": queue,
            "actor_name": actor,
            "args": arguments,
            "kwargs": {},
            "options": {"redis_message_id": message_id},
            "message_id": message_id,
            "message_timestamp": time.time_ns() // 1_000_000,
        }
        return self.push(queue, json.dumps(message | fields), message_id)

    def _valkey_url(self, database: int) -> str:
        return f"unix://{quote(str(socket_path(self.state_dir)))}?db={database}"

    def on_queues(self) -> dict[str, int]:
        """How many messages lie on the queues, are taken, or were given up by the broker."""
        client = self.queue
        found: dict[str, int] = {}
        for queue in ALL_QUEUES:
            name = f"{NAMESPACE}:{queue}"
            found[name] = client.llen(name)
            found[f"{name}.msgs"] = client.hlen(f"{name}.msgs")
            found[f"{name}.XQ"] = client.zcard(f"{name}.XQ")
        for taken in client.scan_iter(f"{NAMESPACE}:__acks__.*"):
            found[taken.decode()] = client.scard(taken)
        return {name: count for name, count in found.items() if count}
