"""Alive, or ready: what each of the two says, and what it does not."""

import os
import socket
import threading
from pathlib import Path

import pytest

from tests.commands import Shell
from tests.unit.workers.standins import Clockwork
from workers.addresses import address_file, processes_of, told_by
from workers.health import WEDGED_SECONDS, Health
from workers.probes import Probes


@pytest.fixture
def clock() -> Clockwork:
    return Clockwork()


@pytest.fixture
def health(clock: Clockwork) -> Health:
    """A worker that is well."""
    health = Health("worker", clock.monotonic, threading.Event())
    health.expect("consumer")
    health.goes_round("consumer")
    health.answered("broker", well=True)
    health.watch_thread("lease", lambda: True)
    health.require("database", lambda: True)
    health.has_started()
    return health


def test_what_goes_round_and_is_answered_is_alive_and_ready(health: Health) -> None:
    assert (health.live().wrong, health.ready().wrong) == ({}, {})


def test_a_loop_that_is_stuck_fails_liveness_within_a_minute(
    health: Health, clock: Clockwork
) -> None:
    clock.pass_time(WEDGED_SECONDS)
    assert health.live().ok
    clock.pass_time(1)
    assert WEDGED_SECONDS + 1 < 60
    assert health.live().wrong == {"consumer": "has not come round for 46 s"}
    assert not health.ready().ok
    health.goes_round("consumer")
    assert health.live().ok


def test_a_thread_that_died_fails_liveness_unless_the_role_stops(health: Health) -> None:
    health.watch_thread("lease", lambda: False)
    assert health.live().wrong == {"lease": "has died"}
    health.stopping.set()
    assert health.live().ok


def test_a_broker_that_is_away_fails_readiness_alone(health: Health) -> None:
    health.answered("broker", well=False)
    assert health.live().ok
    assert health.ready().wrong == {"broker": "does not answer"}


def test_a_database_that_is_away_fails_readiness_alone(health: Health) -> None:
    health.require("database", lambda: False)
    assert health.live().ok
    assert health.ready().wrong == {"database": "cannot be reached"}


def test_a_role_that_starts_or_stops_is_alive_and_not_ready(clock: Clockwork) -> None:
    health = Health("worker", clock.monotonic, threading.Event())
    health.expect("consumer")
    assert (health.live().ok, health.ready().wrong) == (True, {"worker": "is starting"})
    health.has_started()
    assert health.ready().wrong == {"consumer": "has not begun"}
    health.goes_round("consumer")
    assert health.ready().ok
    health.stopping.set()
    assert (health.live().ok, health.ready().wrong) == (True, {"worker": "is stopping"})


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    return Shell(monkeypatch, capsys, {"BYOK_STATE_DIR": str(tmp_path)})


def test_the_healthcheck_asks_the_role_that_runs_here(
    health: Health, shell: Shell, tmp_path: Path
) -> None:
    probes = Probes(health, tmp_path, host="127.0.0.1", port=0)
    try:
        assert shell.byok("healthcheck", "worker").out == "worker: alive\n"
        assert shell.byok("healthcheck", "worker", "--ready", "--json").object == {
            "role": "worker",
            "ok": True,
            "processes": [{"pid": os.getpid(), "ok": True, "wrong": {}}],
        }
        health.answered("broker", well=False)
        assert shell.byok("healthcheck", "worker").code == 0
        unready = shell.byok("healthcheck", "worker", "--ready")
        assert (unready.code, unready.out) == (1, "")
        assert unready.err == (
            f"byok: The worker is not ready: process {os.getpid()}: broker does not answer.\n"
        )
        other = shell.byok("healthcheck", "scheduler")
        assert (other.code, other.err.count("\n")) == (1, 1)
        assert "No scheduler runs here" in other.err
    finally:
        probes.close()
    assert shell.byok("healthcheck", "worker").code == 1


def test_a_role_that_does_not_answer_is_not_alive(shell: Shell, tmp_path: Path) -> None:
    # As of a process that was stopped: its port takes connections, and nobody answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        file = address_file(tmp_path, "worker", socket.gethostname(), os.getpid())
        file.parent.mkdir()
        file.write_text(f"http://127.0.0.1:{silent.getsockname()[1]}\n")
        done = shell.byok("healthcheck", "worker", "--timeout", "0.2")
    assert done.code == 1
    assert "got no answer within 0.2 s" in done.err


def test_what_a_killed_process_left_is_passed_over(tmp_path: Path) -> None:
    gone = address_file(tmp_path, "worker", socket.gethostname(), 2**22 + 1)
    elsewhere = address_file(tmp_path, "worker", "another-host", os.getpid())
    gone.parent.mkdir()
    for file in (gone, elsewhere):
        file.write_text("http://127.0.0.1:1\n")
    assert list(processes_of(tmp_path, "worker")) == []
    assert not gone.exists()
    assert elsewhere.exists()


@pytest.mark.parametrize(("path", "ok"), [("/livez", True), ("/readyz?verbose", True)])
def test_probes_are_answered_over_http(health: Health, tmp_path: Path, path: str, ok: bool) -> None:
    probes = Probes(health, tmp_path, host="127.0.0.1", port=0)
    try:
        assert told_by(1, probes.url, path, 1) == {"pid": 1, "ok": ok, "wrong": {}}
        assert not told_by(1, probes.url, "/", 1)["ok"]
    finally:
        probes.close()
