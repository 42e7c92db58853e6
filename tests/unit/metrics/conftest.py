"""Exporters on free ports, and processes that count."""

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.parser import text_string_to_metric_families

from metrics.exporter import Exporter, Source
from metrics.instruments import open_instruments

ROOT = Path(__file__).parents[3]
COUNTING = """
import os, sys
from pathlib import Path
from metrics.instruments import open_instruments
instruments = open_instruments(Path(sys.argv[1]))
instruments.events.labels("keys", "byok.key.added.v1", "taken").inc(int(sys.argv[2]))
instruments.call_seconds.labels("openai").observe(0.3)
instruments.limit_left.labels("openai", "requests").set(7)
"""

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves instruments of this process private again."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    yield
    open_instruments(None)


@pytest.fixture(autouse=True)
def _closing_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers look every 10 ms whether they are to close, not twice a second."""
    plain = ThreadingWSGIServer.serve_forever
    monkeypatch.setattr(
        ThreadingWSGIServer, "serve_forever", lambda self: plain(self, poll_interval=0.01)
    )


@pytest.fixture
def export() -> Iterator[Callable[..., Exporter]]:
    """Starts exporters on free ports of loopback."""
    started: list[Exporter] = []

    def start(directory: Path, *sources: Source) -> Exporter:
        directory.mkdir(exist_ok=True)
        started.append(Exporter(directory, sources, host="127.0.0.1", port=0))
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


def page(exporter: Exporter) -> str:
    """The page's text."""
    with urllib.request.urlopen(exporter.url) as answer:  # noqa: S310 -- its own page
        text: str = answer.read().decode()
    return text


def samples_of(text: str) -> Samples:
    """The page, by the name of the sample and its labels."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return samples


def scrape(exporter: Exporter) -> Samples:
    """Get the page and read it."""
    return samples_of(page(exporter))


def labelled(**labels: str) -> frozenset[tuple[str, str]]:
    """The key of a sample."""
    return frozenset(labels.items())


def names(paths: Sequence[Path]) -> set[str]:
    """The files' names."""
    return {path.name for path in paths}
