"""What one analysis leaves and costs beside time: rows, transactions, WAL, disk, Redis' memory.

Counts and sizes, which another machine has the same. `make capacity` writes them into
`figures.json`, beside those of time, which `make bench` prints and which are put there by hand.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import func, select

from events.broker import redis_client
from store.schema import ledger, outbox, processes
from tests.benchmarks import load
from tests.benchmarks.stage import Stage, a_process, a_stage, wait_until
from workers.app import App

FIGURES = Path(__file__).with_name("figures.json")
ACCOUNTS = 10
WARM_UP = 200
PATIENCE_SECONDS = 600.0
COMMAND = "make capacity"

_COUNTERS = """
SELECT xact_commit, tup_inserted, tup_updated, tup_deleted,
       pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8
FROM pg_stat_database WHERE datname = current_database()
"""
_SIZES = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::float8 FROM pg_class c
WHERE c.relkind = 'r' AND c.relname ~ %s
"""
_TABLES = {"requests": "^(analyses|attempts)$", "ledger": "^ledger"}


def measure(count: int) -> dict[str, float]:
    """The figures of `count` analyses with a call each, on PostgreSQL and an embedded Valkey."""
    with a_stage("postgresql", latency=0.05) as stage, ExitStack() as stack:
        app = App(stage.settings(threads=4), role="bench")
        stack.callback(app.close)
        plain = stage.database_url.replace("+psycopg", "")
        store = stack.enter_context(psycopg.connect(plain, autocommit=True))
        environment = stage.environment(threads=64)
        with ExitStack() as roles:
            for role in ("worker", "scheduler"):
                roles.enter_context(a_process(["-m", "workers.cli", role], env=environment))
            wait_until(partial(_up, app), "the roles are up", patience=PATIENCE_SECONDS)
            load.set_up_accounts(app, ACCOUNTS)
            _run(app, stage, WARM_UP, WARM_UP)
            idle = _counters(store)
            store.execute("SELECT pg_sleep(5)")
            idle = {name: (now - idle[name]) / 5 for name, now in _counters(store).items()}
            before, sizes = _counters(store), _sizes(store)
            began = _clock(store)
            _run(app, stage, count, WARM_UP + count)
            seconds, after = _clock(store) - began, _counters(store)
        # What the roles do whether there is work or not is no analysis'.
        done = {
            name: (now - before[name] - idle[name] * seconds) / count for name, now in after.items()
        }
        store.execute("VACUUM")
        kept = {name: (now - sizes[name]) / count for name, now in _sizes(store).items()}
        cost = store.execute("SELECT avg(cost_nano_usd)::float8 FROM ledger").fetchone()
        queued = _redis_bytes(stage, load.requests_of(app, count, ACCOUNTS), stage.broker_url)
        streamed = _stream_bytes(stage)
    assert cost is not None
    return {
        **done,
        "disk_requests_bytes": kept["requests"],
        "disk_ledger_bytes": kept["ledger"],
        "redis_queued_bytes": queued,
        "redis_stream_bytes": streamed,
        "call_cost_nano_usd": cost[0],
    }


def _up(app: App) -> bool:
    with app.database.read() as connection:
        found = connection.execute(select(func.count()).select_from(processes)).scalar_one()
    return bool(found == 2)


def _run(app: App, stage: Stage, count: int, until: int) -> None:
    load.publish_at_once(stage, load.requests_of(app, count, ACCOUNTS))
    wait_until(partial(_settled, app, until), "all have ended", patience=PATIENCE_SECONDS)


def _settled(app: App, until: int) -> bool:
    """Whether that many are on the ledger, and nothing is on its way there."""
    with app.database.read() as connection:
        rows = connection.execute(select(func.count()).select_from(ledger)).scalar_one()
        waiting = connection.execute(select(func.count()).select_from(outbox)).scalar_one()
    return bool(rows >= until and waiting == 0)


def _counters(store: "psycopg.Connection[Any]") -> dict[str, float]:
    # What a session has counted arrives here when it is idle for a second.
    store.execute("SELECT pg_sleep(1.5), pg_stat_clear_snapshot()")
    found = store.execute(_COUNTERS).fetchone()
    assert found is not None
    names = ("transactions", "rows_inserted", "rows_updated", "rows_deleted", "wal_bytes")
    return dict(zip(names, map(float, found), strict=True))


def _sizes(store: "psycopg.Connection[Any]") -> dict[str, float]:
    return {
        name: float(store.execute(_SIZES, (tables,)).fetchall()[0][0])
        for name, tables in _TABLES.items()
    }


def _clock(store: "psycopg.Connection[Any]") -> float:
    return float(store.execute("SELECT extract(epoch FROM clock_timestamp())").fetchall()[0][0])


def _redis_bytes(stage: Stage, requests: list[load.Request], url: str) -> float:
    """Bytes that a request takes which waits on the queue. Nobody takes it: workers have ended."""
    client = redis_client(url, max_connections=2)
    try:
        before = _used(client)
        load.publish_at_once(stage, requests)
        return (_used(client) - before) / len(requests)
    finally:
        client.close()


def _stream_bytes(stage: Stage) -> float:
    """Bytes that an out-event takes on the stream."""
    client = redis_client(stage.redis_url, max_connections=2)
    try:
        told: Any = client.xlen("byok:events")
        held: Any = client.memory_usage("byok:events", samples=0)
        return float(held) / told
    finally:
        client.close()


def _used(client: Any) -> float:
    return float(client.info("memory")["used_memory_dataset"])


def write(measured: Mapping[str, float]) -> None:
    """Put the measured figures in the place of those that are there."""
    figures = json.loads(FIGURES.read_text())
    for name, value in measured.items():
        figures[name]["value"] = float(f"{value:.3g}")
        figures[name]["how"] = COMMAND
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
    print(json.dumps(found, indent=2))
    write(found)
