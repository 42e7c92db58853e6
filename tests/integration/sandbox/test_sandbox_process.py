"""The sandbox as a process of its own: how it starts, and that it always ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.local.sandbox import SandboxControl

ROOT = Path(__file__).parents[3]
TIMEOUT = 20.0


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A sandbox process and its banner, which comes before the ready file and after listening."""
    command = [sys.executable, "-m", "deploy.local.sandbox", *options]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stderr is not None
        try:
            yield process, process.stderr.readline()
        finally:
            process.kill()


def url_of(banner: str) -> str:
    return next(word.rstrip(":") for word in banner.split() if word.startswith("http://"))


def test_it_says_that_it_is_no_model_and_serves_on_the_loopback_address() -> None:
    with started("--latency", "0") as (_, banner):
        assert "not a model" in banner
        assert url_of(banner).startswith("http://127.0.0.1:")
        assert SandboxControl(url_of(banner)).bill() == []


def test_it_stops_when_stdin_ends_and_takes_its_ready_file_along(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with started("--ready-file", str(ready), "--stop-on-stdin-eof") as (process, banner):
        # The file is there once a request is answered: the loop writes it before it serves.
        SandboxControl(url_of(banner)).stats()
        assert ready.read_text() == url_of(banner)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0
        assert not ready.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_on_a_signal_also_with_a_call_at_the_gate(number: signal.Signals) -> None:
    with started() as (process, banner):
        control = SandboxControl(url_of(banner))
        control.gate(closed=True)
        connection = HTTPConnection("127.0.0.1", urlsplit(control.url).port, timeout=TIMEOUT)
        with closing(connection):
            headers = {"Authorization": "Bearer sk-proj-fake-openai-key-0001"}
            connection.request("POST", "/v1/chat/completions", b"{}", headers)
            control.wait_in_flight(1)
            os.kill(process.pid, number)
            assert process.wait(TIMEOUT) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_what_it_received_is_in_its_record_without_the_key_however_it_ends(tmp_path: Path) -> None:
    record, key = tmp_path / "record", "sk-proj-fake-openai-key-0001"
    with started("--record", str(record)) as (process, banner):
        control = SandboxControl(url_of(banner))
        with closing(HTTPConnection("127.0.0.1", urlsplit(control.url).port)) as connection:
            for said in ("first", f"second {key}"):
                body = json.dumps({"model": "m", "messages": [{"role": "user", "content": said}]})
                connection.request(
                    "POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {key}"}
                )
                connection.getresponse().read()
        received = control.record()
        control.reset()
        process.kill()
    assert [json.loads(line) for line in record.read_text().splitlines()] == received
    assert [entry["user"] for entry in received] == ["first", "second [the key]"]
    assert record.stat().st_mode & 0o077 == 0


def test_a_taken_port_is_one_line_and_exit_code_1() -> None:
    with started() as (_, banner):
        port = url_of(banner).rpartition(":")[2]
        with started("--port", port) as (second, line):
            assert "provider sandbox:" in line
            assert second.wait(TIMEOUT) == 1
