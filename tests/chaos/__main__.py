"""`make chaos SEED=1 MINUTES=10`: faults from a seeded schedule, and what they left behind."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tests.chaos.audit import Report, audit
from tests.chaos.faults import FAULTS
from tests.chaos.run import Ran, run
from tests.chaos.services import (
    Broker,
    PostgreSQL,
    RabbitMQ,
    Sqlite,
    Store,
    Valkey,
    postgresql_binaries,
    rabbitmq_server,
)
from tests.chaos.table import show

console = Console(width=160)


def main() -> int:
    """Run from the command line; the exit code."""
    # However it is ended, it takes what it started with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = _parser().parse_args()
    directory = Path(given.directory or tempfile.mkdtemp(prefix="byok-chaos-")).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    wanted = [name.strip() for name in given.faults.split(",") if name.strip()]
    faults = [fault for fault in FAULTS if not wanted or fault.name in wanted]
    found: list[Report] = []

    def look(ran: Ran) -> None:
        found.append(audit(ran))

    began = time.monotonic()
    console.print(f"seed {given.seed}, {given.minutes:g} minutes, logs in {directory}")
    run(
        directory,
        look,
        seed=given.seed,
        seconds=given.minutes * 60,
        make_store=_store(given.database),
        make_broker=_broker(given.broker),
        faults=faults,
        rate=given.rate,
        say=lambda line: console.print(f"{time.monotonic() - began:6.1f} {line}", highlight=False),
    )
    (report,) = found
    show(report, console)
    console.print("holds" if not report.wrong else f"{len(report.wrong)} findings")
    if not (report.wrong or given.directory):
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if report.wrong else 0


def _store(kind: str) -> Callable[[Path], Store]:
    binaries = postgresql_binaries()
    if kind == "postgresql" and binaries is None:
        console.print("There is no PostgreSQL under /usr/lib/postgresql: SQLite is used.")
    if kind == "sqlite" or binaries is None:
        return Sqlite

    def make(directory: Path) -> Store:
        return PostgreSQL(directory, binaries)

    return make


def _broker(kind: str) -> Callable[[Path], Broker]:
    server = rabbitmq_server()
    if kind == "valkey" or server is None:
        if kind != "valkey":
            console.print("There is no RabbitMQ under /usr/lib/rabbitmq: Valkey is used.")
        return Valkey
    return lambda directory: RabbitMQ(directory, server)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--broker", choices=("valkey", "rabbitmq"), default="valkey")
    parser.add_argument("--rate", type=float, default=6.0, help="events a second")
    parser.add_argument("--faults", default="", help="only these, by name, with commas")
    parser.add_argument("--directory", default="", help="where logs and files are left")
    return parser


if __name__ == "__main__":
    sys.exit(main())
