"""The tables of `docs/capacity.md`: from `figures.json` to sizes at a rate of analyses.

`python -m tests.benchmarks.capacity_page` writes them; a test compares them. Whoever measures anew
changes `figures.json` alone. A figure that is null was not measured, nor is what follows from it.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.capacity import FIGURES

PATH = Path(__file__).parents[2] / "docs" / "capacity.md"
RATES = (1, 100, 1_000)
"""Analyses a second that the page has sizes for."""

CALL_SECONDS = 3.0
"""Assumed: how long a provider takes for a call. Your own is on the dashboard of providers."""

BUSY = 0.7
"""Assumed: the share of what a process can do that it is given, so that a burst finds room."""

OUTAGE_SECONDS = 600
"""Assumed: for how long requests have to wait on the queue at most, all workers away."""

CONNECTIONS = 18
"""What a worker process has open to PostgreSQL: its pool, its lease, its look at pauses."""

KEEP_DAYS = 90
"""`BYOK_KEEP_REQUESTS_DAYS` where nothing is set."""

STREAM_LENGTH = 100_000
"""`BYOK_EVENT_STREAM_LENGTH` where nothing is set."""

_DAY = 86_400
_WRITES = ("inserted", "updated", "deleted")


def read() -> dict[str, dict[str, Any]]:
    """The figures, by name."""
    figures: dict[str, dict[str, Any]] = json.loads(FIGURES.read_text())
    return figures


@dataclass(frozen=True)
class Row:
    """A size that follows from figures."""

    what: str
    needs: tuple[str, ...]
    size: Callable[[dict[str, float], float], str]


ROWS = (
    Row("calls in flight", (), lambda _, r: f"{math.ceil(r * CALL_SECONDS):,}"),
    Row(
        "worker processes of 256 threads",
        ("analyses_per_process",),
        lambda f, r: f"{_processes(f, r):,}",
    ),
    Row(
        "cores for workers and schedulers",
        ("cpu_ms_per_analysis",),
        lambda f, r: f"{max(r * f['cpu_ms_per_analysis'] / 1000 / BUSY, 0.1):,.1f}",
    ),
    Row(
        "connections to PostgreSQL",
        ("analyses_per_process",),
        lambda f, r: f"{_processes(f, r) * CONNECTIONS:,}",
    ),
    Row("transactions a second", ("transactions",), lambda f, r: f"{f['transactions'] * r:,.0f}"),
    Row(
        "rows written a second",
        ("rows_inserted", "rows_updated", "rows_deleted"),
        lambda f, r: f"{sum(f[f'rows_{done}'] for done in _WRITES) * r:,.0f}",
    ),
    Row("write-ahead log a second", ("wal_bytes",), lambda f, r: size(f["wal_bytes"] * r)),
    Row(
        f"disk for requests, {KEEP_DAYS} days",
        ("disk_requests_bytes",),
        lambda f, r: size(f["disk_requests_bytes"] * r * _DAY * KEEP_DAYS),
    ),
    Row(
        "disk for the ledger, a month",
        ("disk_ledger_bytes",),
        lambda f, r: size(f["disk_ledger_bytes"] * r * _DAY * 30),
    ),
    Row(
        "Redis: what waits, and the stream",
        ("redis_queued_bytes", "redis_stream_bytes"),
        lambda f, r: size(
            f["redis_queued_bytes"] * r * OUTAGE_SECONDS + f["redis_stream_bytes"] * STREAM_LENGTH
        ),
    ),
    Row(
        "the provider's bill, a day",
        ("call_cost_nano_usd",),
        lambda f, r: f"${f['call_cost_nano_usd'] / 1e9 * r * _DAY:,.0f}",
    ),
)


def _processes(figures: dict[str, float], rate: float) -> int:
    by_speed = rate / (figures["analyses_per_process"] * BUSY)
    return max(1, math.ceil(by_speed), math.ceil(rate * CALL_SECONDS / 256))


def size(count: float) -> str:
    """Bytes for people, by powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def document() -> str:
    """The page, with its tables as the figures have them."""
    text = PATH.read_text()
    for name, lines in (("figures", _figures), ("sizes", _sizes)):
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition("<!-- end -->\n")
        made = "\n".join(lines(read()))
        text = f"{before}<!-- {name} -->\n\n{made}\n\n<!-- end -->\n{after}"
    return text


def _figures(figures: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield "| figure | value | by |\n|---|---|---|"
    for figure in figures.values():
        yield f"| {figure['what']} | {_shown(figure)} | `{figure['how']}` |"
    yield from _per_million(figures)


def _sizes(figures: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield "| analyses a second | " + " | ".join(f"{rate:,}" for rate in RATES) + " |"
    yield "|---|" + "---|" * len(RATES)
    known = {name: f["value"] for name, f in figures.items() if f["value"] is not None}
    for row in ROWS:
        if set(row.needs) <= set(known):
            sizes = " | ".join(row.size(known, rate) for rate in RATES)
        else:
            sizes = " | ".join("not measured" for _ in RATES)
        yield f"| {row.what} | {sizes} |"


def _per_million(figures: dict[str, dict[str, Any]]) -> Iterator[str]:
    value = {name: figure["value"] for name, figure in figures.items()}
    if None in (value["disk_requests_bytes"], value["disk_ledger_bytes"]):
        return
    disk = value["disk_requests_bytes"] + value["disk_ledger_bytes"]
    yield (
        f"\nA million analyses take {size(disk * 1e6)} of disk, of which "
        f"{size(value['disk_ledger_bytes'] * 1e6)} is the ledger's and stays, write "
        f"{size(value['wal_bytes'] * 1e6)} of log, and cost "
        f"${value['call_cost_nano_usd'] / 1e3:,.0f} at the provider."
    )


def _shown(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "not measured"
    if figure["unit"] == "B":
        return size(figure["value"])
    return f"{figure['value']:,g}" + (f" {figure['unit']}" if figure["unit"] != "1" else "")


if __name__ == "__main__":
    PATH.write_text(document())
