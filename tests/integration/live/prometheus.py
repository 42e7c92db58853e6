"""A real Prometheus that scrapes one exporter every second, with rules that run fast."""

import json
import math
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from deploy.prometheus import rules
from deploy.prometheus.clock import Clock

SPEED = 180.0
"""Rules run this many times as fast: an hour is 20 s."""

SHORTEST = 4.0
CLOCK = Clock(speed=SPEED, shortest=SHORTEST)
RATE_WINDOW = f"{SHORTEST:.0f}s"
"""What `$__rate_interval` is here: four scrapes."""


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def until(holds: Callable[[], object], what: str, patience: float) -> None:
    """Look again and again until `holds`; fail after `patience` seconds."""
    deadline = time.monotonic() + patience
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {patience:g} s"
        pause.wait(0.1)


class Prometheus:
    """Asks a running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.began = time.time()

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urlopen(f"{self.url}/-/ready", timeout=2):  # noqa: S310 -- our own
                return True
        except (URLError, OSError):
            return False

    def scraped(self) -> bool:
        """Whether it has the exporter's page."""
        return bool(self._get("query", query='up{job="byok"} == 1')["result"])

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = self._get("alerts")["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}

    def series(self, expr: str) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """What an expression gave since this began: labels, and points (Unix s, value)."""
        asked = expr.replace("$__rate_interval", RATE_WINDOW)
        found = self._get("query_range", query=asked, start=self.began, end=time.time(), step=1)
        told = []
        for one in found["result"]:
            points = [(float(at), float(value)) for at, value in one["values"]]
            points = [(at, value) for at, value in points if math.isfinite(value)]
            if points:
                told.append((one["metric"], points))
        return told

    def _get(self, what: str, **asked: Any) -> Any:
        with urlopen(f"{self.url}/api/v1/{what}?{urlencode(asked)}", timeout=10) as answer:  # noqa: S310 -- our own
            return json.loads(answer.read())["data"]


@contextmanager
def running(program: str, directory: Path, exporter_port: int) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the exporter on a port of loopback."""
    (directory / "byok.rules.yml").write_text(rules.text(CLOCK, interval="1s"))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["byok.rules.yml"],
        "scrape_configs": [
            {
                "job_name": "byok",
                "static_configs": [{"targets": [f"127.0.0.1:{exporter_port}"]}],
            }
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        until(lambda: prometheus.ready() and prometheus.scraped(), "Prometheus scrapes", 30)
        yield prometheus
    finally:
        process.terminate()
        process.wait(30)
