"""The exporter: all processes' instruments, and the gauges of broker and store, on one page.

A scrape waits for nothing: gauges are read beside it, and what is not read within `WAIT_SECONDS`
is shown as it was read last, with its age. So counting a million keys, or a database that hangs,
makes no scrape late.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from metrics import gauges
from metrics.gauges import Reading
from metrics.processes import merge_ended, reading

WAIT_SECONDS = 0.05
FIRST_WAIT_SECONDS = 3.0
"""How long the exporter waits for its first readings before it serves."""

PAUSE_FACTOR = 10
"""What took longer than a scrape waits is read anew after this many times as long: counting takes
a tenth of one connection at most."""

LONGEST_PAUSE_SECONDS = 30.0

STALE_SECONDS = 60.0
"""A reading that is older is not shown any more: whoever read it hangs."""


@dataclass(frozen=True, slots=True)
class Source:
    """Gauges that are read together, of `part`. `read` raises where the part is away.

    `name` is one of `labels.SOURCE`, `part` one of `labels.PART`.
    """

    name: str
    part: str
    read: Callable[[], Sequence[Reading]]


@dataclass
class _Reader:
    """Reads one source in a thread of its own, when asked."""

    source: Source
    failed: Callable[[str, Exception], None]
    readings: Sequence[Reading] = ()
    read_at: float = float("-inf")
    away: bool = False
    _next: float = float("-inf")
    _asked: threading.Event = field(default_factory=threading.Event)
    _done: threading.Event = field(default_factory=threading.Event)
    _closed: bool = False

    def start(self) -> None:
        self._done.set()
        # A daemon: it may hang in a read when the process is to end.
        threading.Thread(target=self._run, name=f"gauges-{self.source.name}", daemon=True).start()

    def ask(self) -> None:
        """Begin to read, unless that is under way or was too much work to be done again yet."""
        if self._done.is_set() and time.monotonic() >= self._next:
            self._done.clear()
            self._asked.set()

    def wait(self, until: float) -> None:
        """Wait for what was asked for, until a moment of the monotonic clock."""
        self._done.wait(max(0.0, until - time.monotonic()))

    @property
    def age(self) -> float:
        """Seconds since what is known was read."""
        return time.monotonic() - self.read_at

    @property
    def shows(self) -> bool:
        """Whether there is something to show."""
        return not self.away and self.age <= STALE_SECONDS

    def close(self) -> None:
        self._closed = True
        self._asked.set()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._closed:
                return
            began = time.monotonic()
            pause = 0.0
            try:
                self.readings = self.source.read()
                self.away = False
                self.read_at = began
                took = time.monotonic() - began
                if took > WAIT_SECONDS:
                    pause = min(PAUSE_FACTOR * took, LONGEST_PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 -- whatever it is, the page is served without
                self.away = True
                self.failed(self.source.name, error)
            # What was away is looked for again at once, however long it took to find that out.
            self._next = time.monotonic() + pause
            self._done.set()


class _Page(Collector):
    """What the processes of this machine have counted, and the gauges.

    The gauges are read while the files are: so a scrape takes as long as the slower of the two.
    """

    def __init__(
        self, directory: Path, readers: Sequence[_Reader], constant: Sequence[Reading]
    ) -> None:
        self._directory = directory
        self._files = MultiProcessCollector(None, path=str(directory))
        self._readers = readers
        self._constant = constant

    def collect(self) -> Iterable[Metric]:
        until = time.monotonic() + WAIT_SECONDS
        self.ask()
        yield from self._counted()
        self.wait(until)
        yield from map(_family, self._constant)
        yield from map(_family, self._gauges())

    def ask(self) -> None:
        """Begin to read what is not too much work to be read again."""
        for reader in self._readers:
            reader.ask()

    def wait(self, until: float) -> None:
        """Wait for what was asked for, until a moment of the monotonic clock."""
        for reader in self._readers:
            reader.wait(until)

    def _counted(self) -> Iterable[Metric]:
        merge_ended(self._directory)
        with reading(self._directory):
            return list(self._files.collect())

    def _gauges(self) -> Iterable[Reading]:
        parts: dict[tuple[str, ...], float] = {}
        ages: dict[tuple[str, ...], float] = {}
        shown: dict[str, tuple[gauges.Gauge, dict[tuple[str, ...], float]]] = {}
        for reader in self._readers:
            part = (reader.source.part,)
            parts[part] = min(parts.get(part, 1.0), float(reader.shows))
            if reader.shows:
                ages[reader.source.name,] = reader.age
                for read in reader.readings:
                    # One gauge may be told of by two sources: its family is one all the same.
                    shown.setdefault(read.gauge.name, (read.gauge, {}))[1].update(read.samples)
        yield gauges.UP.of(parts)
        yield gauges.READ_AGE.of(ages)
        for gauge, samples in shown.values():
            yield Reading(gauge, samples)


class Exporter:
    """Serves `/metrics` on `host:port` until it is closed; port 0 takes a free one.

    `failed` is told of each source that could not be read, by its name and the error.
    """

    def __init__(
        self,
        directory: Path,
        sources: Sequence[Source],
        *,
        host: str,
        port: int,
        constant: Sequence[Reading] = (),
        failed: Callable[[str, Exception], None] = lambda _name, _error: None,
    ) -> None:
        self._readers = [_Reader(source, failed) for source in sources]
        for reader in self._readers:
            reader.start()
        page = _Page(directory, self._readers, constant)
        page.ask()
        page.wait(time.monotonic() + FIRST_WAIT_SECONDS)
        registry = CollectorRegistry()
        registry.register(page)
        server, thread = start_http_server(port, addr=host, registry=registry)
        self._server: WSGIServer = server
        self._thread: threading.Thread = thread
        self.url = f"http://{host}:{server.server_port}/metrics"

    def is_alive(self) -> bool:
        """Whether the page is served."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for reader in self._readers:
            reader.close()


def _family(read: Reading) -> Metric:
    family = GaugeMetricFamily(
        f"byok_{read.gauge.name}",
        read.gauge.text,
        labels=[label.name for label in read.gauge.labels],
    )
    for key, value in read.samples.items():
        family.add_metric(key, value)
    return family
