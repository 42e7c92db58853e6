"""The page: read anew for each scrape, late for none, on loopback alone."""

import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from metrics import gauges
from metrics.exporter import Exporter, Source
from metrics.gauges import Reading
from metrics.instruments import open_instruments
from tests.unit.metrics.conftest import Export, count, labelled, page, scrape

UNKNOWN = frozenset[tuple[str, str]]()


def source(*readings: Reading, name: str = "database", part: str = "database") -> Source:
    return Source(name, part, lambda: readings)


def test_gauges_are_read_anew_for_each_scrape(tmp_path: Path, export: Export) -> None:
    depth = {("keys", "broker"): 1.0}
    exporter = export(
        tmp_path, Source("broker", "broker", lambda: [gauges.QUEUE_DEPTH.of(dict(depth))])
    )
    keys = labelled(queue="keys", place="broker")
    assert scrape(exporter)["byok_queue_depth"][keys] == 1
    depth["keys", "broker"] = 7.0
    assert scrape(exporter)["byok_queue_depth"][keys] == 7


def test_a_gauge_that_two_sources_tell_of_is_one_family(tmp_path: Path, export: Export) -> None:
    text = page(
        export(
            tmp_path,
            source(gauges.QUEUE_DEPTH.of({("keys", "broker"): 1}), name="broker", part="broker"),
            source(gauges.QUEUE_DEPTH.of({("keys", "store"): 2})),
        )
    )
    assert text.count("# TYPE byok_queue_depth gauge") == 1
    assert 'byok_queue_depth{place="store",queue="keys"} 2.0' in text


class Slow:
    """A source whose reading waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.read_times = 0

    def read(self) -> Sequence[Reading]:
        assert self.go.wait(30)
        self.read_times += 1
        return [gauges.UNKNOWN.every({(): self.read_times})]


@contextmanager
def hanging(slow: Slow) -> Iterator[None]:
    """What is asked of the source meanwhile does not come."""
    slow.go.clear()
    try:
        yield
    finally:
        slow.go.set()


def test_a_scrape_does_not_wait_for_what_hangs_and_shows_what_was_read_last(
    tmp_path: Path, export: Export
) -> None:
    slow = Slow()
    exporter = export(tmp_path, Source("counts", "database", slow.read))
    with hanging(slow):
        began = time.monotonic()
        shown = scrape(exporter)
        # Far from the 30 s that the source hangs; the scrape's own figure is a benchmark's.
        assert time.monotonic() - began < 5
        assert shown["byok_attempts_unknown"] == {UNKNOWN: 1}
        assert shown["byok_up"] == {labelled(part="database"): 1}
        assert shown["byok_gauges_age_seconds"][labelled(source="counts")] > 0


def test_what_has_hung_for_too_long_is_not_shown(
    tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow()
    exporter = export(tmp_path, Source("counts", "database", slow.read))
    monkeypatch.setattr("metrics.exporter.STALE_SECONDS", 0.01)
    with hanging(slow):
        shown = scrape(exporter)
    assert "byok_attempts_unknown" not in shown
    assert shown["byok_up"] == {labelled(part="database"): 0}


def test_a_part_that_is_away_is_told_and_hides_no_other(tmp_path: Path) -> None:
    failed: list[tuple[str, str]] = []

    def away() -> Sequence[Reading]:
        raise ConnectionError

    exporter = Exporter(
        tmp_path,
        [Source("broker", "broker", away), source(gauges.UNKNOWN.every({(): 4}))],
        host="127.0.0.1",
        port=0,
        failed=lambda name, error: failed.append((name, type(error).__name__)),
    )
    try:
        shown = scrape(exporter)
    finally:
        exporter.close()
    assert shown["byok_up"] == {labelled(part="broker"): 0, labelled(part="database"): 1}
    assert shown["byok_attempts_unknown"] == {UNKNOWN: 4}
    assert ("broker", "ConnectionError") in failed


def test_a_part_with_one_source_away_is_not_up(tmp_path: Path, export: Export) -> None:
    def away() -> Sequence[Reading]:
        raise ConnectionError

    shown = scrape(export(tmp_path, source(), Source("counts", "database", away)))
    assert shown["byok_up"] == {labelled(part="database"): 0}


def test_a_reading_that_takes_long_is_not_made_again_at_once(
    tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics.exporter.WAIT_SECONDS", 0.0)
    monkeypatch.setattr("metrics.exporter.PAUSE_FACTOR", 1e9)
    slow = Slow()
    exporter = export(tmp_path, Source("counts", "database", slow.read))
    for _ in range(3):
        scrape(exporter)
    assert slow.read_times == 1


def test_a_part_that_comes_back_is_seen_at_the_next_scrape_however_long_it_hung(
    tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics.exporter.WAIT_SECONDS", 0.0)
    monkeypatch.setattr("metrics.exporter.PAUSE_FACTOR", 1e9)
    there = threading.Event()

    def read() -> Sequence[Reading]:
        if not there.is_set():
            raise TimeoutError
        return [gauges.UNKNOWN.every({})]

    exporter = export(tmp_path, Source("broker", "broker", read))
    monkeypatch.setattr("metrics.exporter.WAIT_SECONDS", 5.0)
    assert scrape(exporter)["byok_up"] == {labelled(part="broker"): 0}
    there.set()
    assert scrape(exporter)["byok_up"] == {labelled(part="broker"): 1}


def test_instruments_without_a_directory_are_private(tmp_path: Path, export: Export) -> None:
    open_instruments(None).takeovers.inc()
    assert "byok_lease_takeovers_total" not in scrape(export(tmp_path / "metrics"))


def test_the_page_is_served_on_loopback_alone(tmp_path: Path, export: Export) -> None:
    exporter = export(tmp_path)
    port = int(exporter.url.rpartition(":")[2].partition("/")[0])
    listening = {
        connection.laddr.ip
        for connection in psutil.Process().net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }
    assert listening == {"127.0.0.1"}


def test_a_closed_exporter_serves_nothing(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, (), host="127.0.0.1", port=0)
    exporter.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(exporter.url)  # noqa: S310 -- as above


def test_promtool_finds_nothing_wrong_with_the_page(tmp_path: Path, export: Export) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: Debian's package `prometheus` has it")
    count(tmp_path / "metrics", 1)
    # Those that the exporter tells itself are on the page already.
    read = [gauge for gauge in gauges.ALL if gauge.name not in ("up", "gauges_age_seconds")]
    text = page(export(tmp_path / "metrics", source(*(gauge.every({}) for gauge in read))))
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
