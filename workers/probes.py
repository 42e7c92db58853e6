"""The probes of a role over HTTP: `/livez` and `/readyz`, 200 or 503, and what is wrong in JSON.

The address is written into the state directory, where `byok healthcheck` finds it.
"""

import json
import os
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from workers.addresses import address_file
from workers.health import Finding, Health

REQUEST_SECONDS = 5.0


class Probes:
    """Answers probes on `host:port` until it is closed; port 0 takes a free one.

    Raises `OSError` where the port is taken.
    """

    def __init__(self, health: Health, state_dir: Path, *, host: str, port: int) -> None:
        self._server = _Server((host, port), _Handler)
        self._server.health = health
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="probes", daemon=True
        )
        self._thread.start()
        self.url = f"http://{_bracketed(host)}:{self._server.server_port}"
        self._file = address_file(state_dir, health.role, socket.gethostname(), os.getpid())
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(self.url + "\n")
        # Whole or not at all: a probe may look at any moment.
        fresh.replace(self._file)

    def close(self) -> None:
        """Answer no more."""
        self._file.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    health: Health

    def handle_error(self, request: object, client_address: object) -> None:
        """A prober that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        health = self.server.health
        match self.path.partition("?")[0]:
            case "/livez":
                self._answer(health.live())
            case "/readyz":
                self._answer(health.ready())
            case _:
                self.send_error(HTTPStatus.NOT_FOUND)

    def _answer(self, finding: Finding) -> None:
        told = {"role": self.server.health.role, "ok": finding.ok, "wrong": finding.wrong}
        body = json.dumps(told).encode() + b"\n"
        self.send_response(HTTPStatus.OK if finding.ok else HTTPStatus.SERVICE_UNAVAILABLE)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's own
        """A probe every few seconds is no news."""


def _bracketed(host: str) -> str:
    # What listens everywhere is reached on loopback.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host
