"""Instruments of many processes on one page, which is served on loopback."""

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from metrics.exporter import Exporter, Gauge
from metrics.instruments import open_instruments

ROOT = Path(__file__).parents[3]
COUNTING = """
import os, sys
from pathlib import Path
from metrics.instruments import open_instruments
instruments = open_instruments(Path(sys.argv[1]))
instruments.events.labels("keys", "byok.key.added.v1", "taken").inc(int(sys.argv[2]))
instruments.call_seconds.labels("openai").observe(0.3)
"""

Read = Callable[[], list[Gauge]]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves instruments of this process private again."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    yield
    open_instruments(None)


@pytest.fixture
def export() -> Iterator[Callable[..., Exporter]]:
    """Starts exporters on free ports of loopback."""
    started: list[Exporter] = []

    def start(directory: Path, read: Read = list) -> Exporter:
        directory.mkdir(exist_ok=True)
        started.append(Exporter(directory, read, host="127.0.0.1", port=0))
        return started[-1]

    yield start
    for exporter in started:
        exporter.close()


Export = Callable[..., Exporter]


def count(directory: Path, number: int, *, then: str = "") -> int:
    """Count in a process of its own, which then ends; its exit code."""
    return subprocess.run(
        [sys.executable, "-c", COUNTING + then, str(directory), str(number)], cwd=ROOT, check=False
    ).returncode


def scrape(exporter: Exporter) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """The page, by the name of the sample and its labels."""
    with urllib.request.urlopen(exporter.url) as answer:  # noqa: S310 -- its own page
        text = answer.read().decode()
    samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return samples


TAKEN = frozenset({("queue", "keys"), ("type", "byok.key.added.v1"), ("outcome", "taken")})


def test_what_two_processes_counted_is_added_up_and_survives_them(
    tmp_path: Path, export: Export
) -> None:
    exporter = export(tmp_path / "metrics")
    assert count(tmp_path / "metrics", 3) == 0
    assert scrape(exporter)["byok_events_total"] == {TAKEN: 3}
    assert count(tmp_path / "metrics", 4) == 0
    page = scrape(exporter)
    assert page["byok_events_total"] == {TAKEN: 7}
    assert page["byok_provider_call_duration_seconds_count"] == {
        frozenset({("provider", "openai")}): 2
    }
    assert page["byok_provider_call_duration_seconds_sum"][
        frozenset({("provider", "openai")})
    ] == pytest.approx(0.6)


def test_what_a_killed_process_counted_is_not_lost(tmp_path: Path, export: Export) -> None:
    assert count(tmp_path / "metrics", 5, then="os.kill(os.getpid(), 9)") == -9
    assert scrape(export(tmp_path / "metrics"))["byok_events_total"] == {TAKEN: 5}


def test_an_exporter_that_starts_later_finds_what_was_counted(
    tmp_path: Path, export: Export
) -> None:
    count(tmp_path / "metrics", 2)
    first = export(tmp_path / "metrics")
    second = export(tmp_path / "metrics")
    assert scrape(first)["byok_events_total"] == scrape(second)["byok_events_total"]


def test_a_running_process_is_seen_while_it_counts(tmp_path: Path, export: Export) -> None:
    exporter = export(tmp_path / "metrics")
    instruments = open_instruments(tmp_path / "metrics")
    instruments.takeovers.inc()
    assert scrape(exporter)["byok_lease_takeovers_total"] == {frozenset(): 1}
    instruments.takeovers.inc()
    assert scrape(exporter)["byok_lease_takeovers_total"] == {frozenset(): 2}


def test_instruments_without_a_directory_are_private(tmp_path: Path, export: Export) -> None:
    open_instruments(None).takeovers.inc()
    assert "byok_lease_takeovers_total" not in scrape(export(tmp_path / "metrics"))


def test_two_sets_of_instruments_in_one_process_do_not_hinder_each_other() -> None:
    first, second = open_instruments(None), open_instruments(None)
    first.takeovers.inc()
    (family,) = second.takeovers.collect()
    assert family.samples[0].value == 0


def test_gauges_are_read_anew_for_each_scrape(tmp_path: Path, export: Export) -> None:
    depth = {("keys",): 1.0, ("usage",): 0.0}
    exporter = export(
        tmp_path, lambda: [("queue_depth", "Messages on a queue.", ("queue",), dict(depth))]
    )
    keys = frozenset({("queue", "keys")})
    assert scrape(exporter)["byok_queue_depth"][keys] == 1
    depth["keys",] = 7.0
    assert scrape(exporter)["byok_queue_depth"][keys] == 7


def test_a_gauge_without_labels_is_shown(tmp_path: Path, export: Export) -> None:
    exporter = export(tmp_path, lambda: [("analyses_running", "Running.", (), {(): 4.0})])
    assert scrape(exporter)["byok_analyses_running"] == {frozenset(): 4}


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
    exporter = Exporter(tmp_path, list, host="127.0.0.1", port=0)
    exporter.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(exporter.url)  # noqa: S310 -- as above


def test_instruments_are_named_by_the_product_and_their_labels_by_small_sets() -> None:
    instruments = open_instruments(None)
    for name, instrument in vars(instruments).items():
        assert instrument._name.startswith("byok_"), name
        told_apart = set(instrument._labelnames)
        assert not told_apart & {"account", "key", "key_id", "event_id", "request_id"}, name
