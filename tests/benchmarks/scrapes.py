"""How long a scrape takes with a million keys, ten thousand waiting requests and full instruments.

Run it by hand: `.venv/bin/python -m tests.benchmarks.scrapes [--postgresql] [--keys N]`. It makes
services of its own and prints its figures.
"""

import argparse
import statistics
import time
import urllib.request
from itertools import product
from pathlib import Path

from sqlalchemy import text

from metrics.exporter import Exporter
from metrics.instruments import open_instruments
from store.engine import Database
from tests.benchmarks.stage import a_stage
from workers.app import App
from workers.gauges import Gauges, build
from workers.pricing import priced_models

WAITING = 10_000
WORKERS = 4
SCRAPES = 40
PAUSE_SECONDS = 0.25

_KEYS = """
INSERT INTO provider_keys (key_id, account_id, provider, revision, status, reason, master_key_id,
    wrapped_key, ciphertext, last4, added_at, validate_at)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
SELECT 'key_' || i, 'acct-' || i, CASE i % 2 WHEN 0 THEN 'openai' ELSE 'anthropic' END, 1,
    CASE i % 20 WHEN 0 THEN 'invalid' ELSE 'valid' END,
    CASE i % 20 WHEN 0 THEN 'rejected' ELSE 'ok' END,
    'm1', :wrapped, :ciphertext, '0001', :now, :now + i * 86
FROM n
"""
_WAITING = """
INSERT INTO analyses (account_id, request_id, event_id, digest, operation, provider_wanted, input,
    state, reason, due_at, created_at, expires_at)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
SELECT 'acct-' || i, 'req', 'evt', :wrapped, 'classify', 'auto', :ciphertext,
    'waiting', CASE i % 2 WHEN 0 THEN 'rate_limited' ELSE 'key_busy' END, :now + i, :now, :now + i
FROM n
"""


def fill(database: Database, keys: int) -> None:
    """Keys and waiting requests of the size that they have."""
    shared = {"wrapped": b"w" * 60, "now": time.time_ns() // 1_000_000 + 3_600_000}
    with database.write() as connection:
        connection.execute(text(_KEYS), {**shared, "count": keys, "ciphertext": b"c" * 180})
        connection.execute(text(_WAITING), {**shared, "count": WAITING, "ciphertext": b"c" * 3_000})
    if not database.is_sqlite:
        plain = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with plain:
            plain.execute(text("VACUUM ANALYZE"))


def fill_instruments(directory: Path) -> int:
    """As many series as `WORKERS` processes may make; of one of them."""
    made = 0
    for _ in range(WORKERS):
        instruments = open_instruments(directory, priced_models())
        for one in instruments.all():
            for values in product(*(sorted(label.values) for label in one.label_sets)):
                one.labels(*values)
        made = instruments.budget.made
    return made


def main() -> None:
    """Fill a database and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--postgresql", action="store_true")
    given = parser.parse_args()
    with a_stage("postgresql" if given.postgresql else "sqlite") as stage:
        app = App(stage.settings(threads=8), role="bench")
        fill(app.database, given.keys)
        series = fill_instruments(stage.directory / "metrics")
        read = Gauges(app)
        print(
            f"{given.keys:,} keys on {stage.database_kind}; {WORKERS} processes of {series} series"
        )
        for source in read.sources():
            began = time.perf_counter()
            source.read()
            print(f"  reading {source.name}: {1000 * (time.perf_counter() - began):.1f} ms")
        exporter = Exporter(
            stage.directory / "metrics",
            read.sources(),
            host="127.0.0.1",
            port=0,
            constant=[build()],
        )
        took, size, cpu = [], 0, time.process_time()
        for _ in range(SCRAPES):
            began = time.perf_counter()
            with urllib.request.urlopen(exporter.url) as page:  # noqa: S310 -- our own
                size = len(page.read())
            took.append(1000 * (time.perf_counter() - began))
            time.sleep(PAUSE_SECONDS)
        cpu = 1000 * (time.process_time() - cpu) / SCRAPES
        exporter.close()
        read.close()
        app.close()
    print(
        f"  a scrape of {size / 1000:,.0f} kB: median {statistics.median(took):.0f} ms, 95 of 100 "
        f"{statistics.quantiles(took, n=20)[-1]:.0f} ms, longest {max(took):.0f} ms, "
        f"{cpu:.0f} ms of CPU each"
    )


if __name__ == "__main__":
    main()
