"""The broker and the database of a run: started here, so that they can be killed, too."""

import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import psutil
import psycopg
import redis

from deploy.local.valkey import answers_ping
from events.broker import NAMESPACE
from tests.integration.process.running import ALL_QUEUES, until

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
TMPFS_MEGABYTES = 256
POSTGRES = "postgres"
ROLE = "byok"
"""The PostgreSQL role of the workers: no superuser, so that limits hold for it."""


class Broker(ABC):
    """The message queue of a run, which faults are put into."""

    kind: str
    target: int | Path
    """Where a proxy finds it: a port, or a socket."""

    @abstractmethod
    def url(self, port: int) -> str:
        """Its address through a proxy on `port`."""

    @abstractmethod
    def start(self) -> None:
        """Start it on its files and wait until it answers."""

    @abstractmethod
    def kill(self) -> None:
        """End it as a crash does."""

    @abstractmethod
    def kill_and_lose_everything(self) -> set[str]:
        """Kill it and lose its files; the ids of the events that it held."""

    @abstractmethod
    def pause(self) -> None:
        """Freeze it."""

    @abstractmethod
    def go_on(self) -> None:
        """Let a frozen one go on."""

    @abstractmethod
    def set_full(self, on: bool) -> None:
        """Have it take nothing for want of memory, or take messages again."""

    @abstractmethod
    def left(self) -> dict[str, int]:
        """How many messages it holds, by queue."""

    @abstractmethod
    def close(self) -> None:
        """Stop it."""


class Valkey(Broker):
    """An embedded Valkey with its append-only file, in a process of its own as `byok up` has it."""

    kind = "Valkey"

    def __init__(self, directory: Path) -> None:
        self._parent = directory
        self.directory = directory / "valkey"
        self.target = self.socket = directory / "v.sock"
        self._ready = directory / "valkey.ready"
        self._process: subprocess.Popen[bytes] | None = None
        self._emptied = 0

    def url(self, port: int) -> str:
        return f"redis://127.0.0.1:{port}/0"

    def client(self, database: int = 0) -> redis.Redis:
        """A client past every proxy."""
        return redis.Redis(unix_socket_path=str(self.socket), db=database, socket_timeout=10)

    def start(self) -> None:
        self._process = _valkey(self.directory, self.socket, self._ready)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid(), signal.SIGKILL)
        self._await_end()

    def pause(self) -> None:
        os.kill(self._pid(), signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._pid(), signal.SIGCONT)

    def set_full(self, on: bool) -> None:
        with self.client() as client:
            client.config_set("maxmemory", 1 if on else 0)

    def kill_and_lose_everything(self) -> set[str]:
        self.kill()
        self._emptied += 1
        old = self._parent / f"lost-{self._emptied}"
        self.directory.rename(old)
        return _events_held(old, self._parent / "lost.sock")

    def reverse(self) -> None:
        """Turn the waiting messages of every queue round."""
        with self.client() as client:
            for queue in ALL_QUEUES:
                client.eval(_REVERSE, 1, f"{NAMESPACE}:{queue}")

    def taken_by_the_dead(self, among: set[bytes]) -> dict[bytes, set[bytes]]:
        """The messages that consumers which say nothing any more have taken, by consumer.

        `among` are the consumers to look at; all where it is empty.
        """
        with self.client() as client:
            before = dict(client.zrange(f"{NAMESPACE}:__heartbeats__", 0, -1, withscores=True))
            time.sleep(1.0)  # what is looked for is silence
            after = dict(client.zrange(f"{NAMESPACE}:__heartbeats__", 0, -1, withscores=True))
            found = {}
            for name in [name for name in before if after.get(name) == before[name]]:
                if among and name not in among:
                    continue
                pattern = f"{NAMESPACE}:__acks__.{name.decode()}.*"
                taken = [client.smembers(key) for key in client.scan_iter(pattern)]
                if any(taken):
                    found[name] = set().union(*taken)
            return found

    def consumers(self) -> set[bytes]:
        """The ids of the consumers that it knows, the living and the dead."""
        with self.client() as client:
            return set(client.zrange(f"{NAMESPACE}:__heartbeats__", 0, -1))

    def left(self) -> dict[str, int]:
        with self.client() as client:
            return {queue: client.hlen(f"{NAMESPACE}:{queue}.msgs") for queue in ALL_QUEUES}

    def close(self) -> None:
        if self._process is not None:
            with suppress(OSError, ValueError):
                self.go_on()
            _let_go(self._process)

    def _pid(self) -> int:
        pid: int = json.loads(self._ready.read_text())["server_pid"]
        return pid

    def _await_end(self) -> None:
        assert self._process is not None
        # Its keeper says that it ended, and ends too.
        _let_go(self._process)


_REVERSE = """
local ids = redis.call('lrange', KEYS[1], 0, -1)
redis.call('del', KEYS[1])
for i = #ids, 1, -1 do redis.call('rpush', KEYS[1], ids[i]) end
return #ids
"""


def _valkey(directory: Path, path: Path, ready: Path) -> "subprocess.Popen[bytes]":
    ready.unlink(missing_ok=True)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "deploy.local.valkey", "--dir", str(directory)),
            *("--socket", str(path), "--ready-file", str(ready), "--stop-on-stdin-eof"),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: ready.exists() and answers_ping(path), "Valkey answers", START_SECONDS)
    return process


def _events_held(directory: Path, path: Path) -> set[str]:
    """The ids of the events on the queues of a Valkey that is gone, by its append-only file."""
    process = _valkey(directory, path, directory / "looked-at")
    try:
        with redis.Redis(unix_socket_path=str(path)) as client:
            messages = [
                message
                for queue in ALL_QUEUES
                for message in client.hvals(f"{NAMESPACE}:{queue}.msgs")
            ]
    finally:
        _let_go(process)
    return {found for message in messages if (found := _event_id(message)) is not None}


def _event_id(message: bytes) -> str | None:
    with suppress(ValueError, KeyError, IndexError, TypeError):
        event: Any = json.loads(json.loads(message)["args"][0])
        return str(event["id"])
    return None  # one that only says "look at this"


def _let_go(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def rabbitmq_server() -> Path | None:
    """Where this machine has RabbitMQ's own start script, the newest of them."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    return found[-1] if found else None


class _Tree:
    """A server that is a process and its children."""

    _process: "subprocess.Popen[bytes] | None" = None

    def pause(self) -> None:
        """Freeze all its processes."""
        for process in self._tree():
            with suppress(psutil.Error):
                process.suspend()

    def go_on(self) -> None:
        """Let frozen processes go on."""
        for process in self._tree():
            with suppress(psutil.Error):
                process.resume()

    def _tree(self) -> list[psutil.Process]:
        """Its processes, the one that keeps the others first."""
        assert self._process is not None
        with suppress(psutil.Error):
            keeper = psutil.Process(self._process.pid)
            return [keeper, *keeper.children(recursive=True)]
        return []


class RabbitMQ(_Tree, Broker):
    """A node of its own, on ports and in a directory of its own."""

    kind = "RabbitMQ"

    def __init__(self, directory: Path, server: Path) -> None:
        self._directory = directory / "rabbitmq"
        self._directory.mkdir()
        self._server = server
        self.target = self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._losses = 0
        plugins = self._directory / "plugins"
        plugins.write_text("[].")
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._directory),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"chaos{self._port}@localhost",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(_free_port()),
            "RABBITMQ_LOG_BASE": str(self._directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_CONFIG_FILE": str(self._directory / "none"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
        }

    def url(self, port: int) -> str:
        return f"amqp://guest:guest@127.0.0.1:{port}"

    def start(self) -> None:
        def answers() -> bool:
            if self._process is None or self._process.poll() is not None:
                # Somebody's connection may have its port for a moment.
                self._process = self._spawn()
            return self._answers()

        until(answers, "RabbitMQ answers", 5 * START_SECONDS)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with (self._directory.parent / "rabbitmq.log").open("ab") as log:
            return subprocess.Popen(
                [str(self._server)],
                env=self._environment
                | {"RABBITMQ_MNESIA_BASE": str(self._directory / f"data-{self._losses}")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        for process in reversed(self._tree()):
            with suppress(psutil.Error):
                process.kill()
        assert self._process is not None
        self._process.wait(30)

    def kill_and_lose_everything(self) -> set[str]:
        self.kill()
        # What it held is read off its files by a server that nobody else can reach.
        port, self._environment["RABBITMQ_NODE_PORT"] = self._port, str(_free_port())
        self._port = int(self._environment["RABBITMQ_NODE_PORT"])
        self.start()
        held = self._events_held()
        self.kill()
        self._port, self._environment["RABBITMQ_NODE_PORT"] = port, str(port)
        self._losses += 1
        return held

    def set_full(self, on: bool) -> None:
        mark = "0.00001" if on else "0.4"
        subprocess.run(
            [
                *(str(self._server.with_name("rabbitmqctl")), "set_vm_memory_high_watermark"),
                mark,
            ],
            env=self._environment,
            check=True,
            capture_output=True,
        )

    def left(self) -> dict[str, int]:
        with self._connection() as connection:
            found = {}
            for queue in ALL_QUEUES:
                channel = connection.channel()
                with suppress(pika.exceptions.ChannelClosedByBroker):
                    declared = channel.queue_declare(queue, passive=True)
                    found[queue] = int(declared.method.message_count)
            return found

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _connection(self) -> Any:
        return pika.BlockingConnection(
            pika.URLParameters(f"{self.url(self._port)}/?socket_timeout=5")
        )

    def _answers(self) -> bool:
        with suppress(pika.exceptions.AMQPError, OSError), self._connection():
            return True
        return False

    def _events_held(self) -> set[str]:
        held = set()
        with self._connection() as connection:
            for queue in ALL_QUEUES:
                channel = connection.channel()
                with suppress(pika.exceptions.ChannelClosedByBroker):
                    while True:
                        _, _, body = channel.basic_get(queue)
                        if body is None:
                            break
                        held.add(_event_id(body))
        return {event_id for event_id in held if event_id is not None}


class Store(ABC):
    """The database of a run."""

    kind: str
    url: str

    @abstractmethod
    def close(self) -> None:
        """Stop it, and take away what it needed."""


class Sqlite(Store):
    """A file, on a small file system of its own where one may be mounted."""

    kind = "SQLite"

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "sqlite"
        self.directory.mkdir()
        self.file = self.directory / "byok.sqlite3"
        self.url = f"sqlite:///{self.file}"
        # On any other file system it would take too long, and too much of others, to fill it.
        self.can_be_full = _mount(self.directory)
        self._ballast = self.directory / "ballast"

    def lock(self, seconds: float) -> None:
        """Hold the one write lock that there is, for as long."""
        connection = sqlite3.connect(self.file, timeout=30, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            threading.Event().wait(seconds)
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def fill(self) -> None:
        """Leave no room on the file system."""
        block = bytes(1 << 16)
        with self._ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(block) == len(block):
                pass

    def empty(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        if self.can_be_full:
            subprocess.run(["umount", "--lazy", str(self.directory)], check=False)


def _mount(directory: Path) -> bool:
    """Put a small file system on `directory`; whether that is allowed here."""
    if os.geteuid() != 0 or shutil.which("mount") is None or sys.platform != "linux":
        return False
    size = f"size={TMPFS_MEGABYTES}m,mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "byok-chaos", str(directory)],
        check=False,
        capture_output=True,
    )
    return mounted.returncode == 0


def postgresql_binaries() -> Path | None:
    """Where this machine has PostgreSQL's programs, the newest of them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    return found[-1].parent if found else None


def _version(initdb: Path) -> int:
    name = initdb.parent.parent.name
    return int(name) if name.isdecimal() else 0


class PostgreSQL(_Tree, Store):
    """A cluster of its own, owned by the user `postgres` where this process is root."""

    kind = "PostgreSQL"

    def __init__(self, directory: Path, binaries: Path) -> None:
        self._data = directory / "postgresql"
        self._data.mkdir()
        self._binaries = binaries
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self._data, POSTGRES, POSTGRES)
            # The way to it must be open, too.
            for parent in (directory, *directory.parents):
                if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
                    parent.chmod(parent.stat().st_mode | 0o011)
            self._as = {"user": POSTGRES, "group": POSTGRES, "extra_groups": []}
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "--auth=trust", f"--username={POSTGRES}", "--encoding=UTF8")
        self.start()
        with self._admin() as admin:
            admin.execute(f"CREATE ROLE {ROLE} LOGIN".encode())
            admin.execute(f"CREATE DATABASE byok OWNER {ROLE}".encode())
        self.url = f"postgresql+psycopg://{ROLE}@127.0.0.1:{self._port}/byok"

    def start(self) -> None:
        """Start it and wait until it answers; after a crash it recovers first."""

        def answers() -> bool:
            process = self._process
            if process is None or process.poll() is not None:
                # After a crash the shared memory of those that still end may be in the way.
                self._process = self._spawn()
            return self._answers()

        until(answers, "PostgreSQL answers", START_SECONDS)

    def kill(self) -> None:
        """End all its processes as a power cut does, but for what the disk's cache holds."""
        for process in self._tree():
            with suppress(psutil.Error):
                process.kill()
        assert self._process is not None
        self._process.wait(30)

    def restart(self) -> None:
        """Stop it in order, and start it again."""
        self._stop()
        self.start()

    def limit_connections(self, most: int) -> None:
        """Let the workers have so many connections, and end those that they have; -1: no limit."""
        with self._admin() as admin:
            admin.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT {most}".encode())
            if most >= 0:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
                    (ROLE,),
                )

    def fail_statements(self, share: float, state: str, *, at_commit: bool) -> None:
        """Have that share of the writes fail with an SQLSTATE, at once or at the commit."""
        constraint, deferred = (
            ("CONSTRAINT", "DEFERRABLE INITIALLY DEFERRED") if at_commit else ("", "")
        )
        moment = "AFTER" if at_commit else "BEFORE"
        with self._admin("byok") as admin:
            admin.execute(
                f"""CREATE FUNCTION chaos() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF random() < {share} THEN
                    RAISE EXCEPTION 'chaos' USING ERRCODE = '{state}';
                END IF;
                RETURN NEW; END $$""".encode()
            )
            for table in WRITTEN:
                admin.execute(
                    f"CREATE {constraint} TRIGGER chaos {moment} INSERT OR UPDATE ON {table} "
                    f"{deferred} FOR EACH ROW EXECUTE FUNCTION chaos()".encode()
                )

    def let_statements_work(self) -> None:
        """Undo `fail_statements`."""
        with self._admin("byok") as admin:
            # One table's lock at a time: all of them together would make a deadlock of our own.
            for table in WRITTEN:
                admin.execute(f"DROP TRIGGER chaos ON {table}".encode())
            admin.execute(b"DROP FUNCTION chaos()")

    def close(self) -> None:
        self.go_on()
        self._stop()

    def _admin(self, database: str = POSTGRES) -> Any:
        return psycopg.connect(
            f"postgresql://{POSTGRES}@127.0.0.1:{self._port}/{database}",
            autocommit=True,
            connect_timeout=10,
        )

    def _answers(self) -> bool:
        with suppress(psycopg.Error), self._admin():
            return True
        return False

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with (self._data.parent / "postgresql.log").open("ab") as log:
            return subprocess.Popen(
                [
                    *(str(self._binaries / "postgres"), "-D", str(self._data)),
                    *("-p", str(self._port), "-k", "", "-c", "listen_addresses=127.0.0.1"),
                    *("-c", "max_connections=200", "-c", "shared_buffers=32MB"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as,
            )

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / program), "-D", str(self._data), *arguments],
            check=True,
            capture_output=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            **self._as,
        )


WRITTEN = ("analyses", "attempts", "outbox", "ledger", "provider_keys", "credit_periods")
"""Tables whose writes can be made to fail: one for each life, and those that money is in."""


def _free_port() -> int:
    """A port that no outgoing connection is given.

    One that is tried while nobody listens could else be connected to itself, and be taken.
    """
    while True:
        port = random.randrange(15_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
