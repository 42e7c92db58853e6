"""The exporter: all processes' instruments and the store's gauges on one page."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

Gauge = tuple[str, str, tuple[str, ...], dict[tuple[str, ...], float]]
"""Name, help, label names, and the value for each combination of labels."""


class _Gauges(Collector):
    """Gauges that are read anew for each scrape."""

    def __init__(self, read: Callable[[], Iterable[Gauge]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        for name, text, labels, samples in self._read():
            family = GaugeMetricFamily(f"byok_{name}", text, labels=labels)
            for key, value in samples.items():
                family.add_metric(key, value)
            yield family


class Exporter:
    """Serves `/metrics` on `host:port` until it is closed; port 0 takes a free one."""

    def __init__(
        self, directory: Path, read: Callable[[], Iterable[Gauge]], *, host: str, port: int
    ) -> None:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(directory))
        registry.register(_Gauges(read))
        server, thread = start_http_server(port, addr=host, registry=registry)
        self._server: WSGIServer = server
        self._thread: threading.Thread = thread
        self.url = f"http://{host}:{server.server_port}/metrics"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
