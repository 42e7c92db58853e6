"""`byok demo`: the main job from nothing, and Ctrl-C in the middle of it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from sqlalchemy.exc import SQLAlchemyError

from store import analyses
from store.engine import Database
from tests.integration.process.running import (
    COMMAND_SECONDS,
    MAILS,
    Done,
    clean_environment,
    end_all,
    processes_of,
    until,
)
from workers.cli.output import OUTPUTS


class Demo:
    """`byok demo` on a few mails, under a state directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.state_dir = self.directory / "state"
        self.mails = self.directory / "mails"
        self.mails.mkdir()
        for name in ("easy-ham-1-00386", "easy-ham-1-00986", "hard-ham-1-00016"):
            shutil.copy(MAILS / f"{name}.eml", self.mails)

    def start(self, *options: str, **environment: str) -> "subprocess.Popen[str]":
        """Start it in a process group of its own, as a shell does."""
        # A background job of a shell has this ignored, and its children would too.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "demo", "--mails", str(self.mails), *options],
                cwd=self.directory,
                env=clean_environment(self.state_dir, environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    def ended(self, process: "subprocess.Popen[str]") -> Done:
        """Wait for it to end."""
        try:
            out, err = process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            logged = (self.state_dir / "demo" / "demo.log").read_text().splitlines()
            raise AssertionError(
                "\n".join(["it does not end; its log's end:", *logged[-40:]])
            ) from None
        assert "Traceback" not in err, err
        return Done(process.returncode, out, err)

    def role_runs(self, role: str) -> bool:
        return any(role in process.cmdline() for process in processes_of(self.state_dir))

    def calls_run(self) -> bool:
        file = self.state_dir / "demo" / "byok.sqlite3"
        if not file.exists():
            return False
        database = Database(f"sqlite:///{file}")
        try:
            with database.read() as connection:
                counts = analyses.counts(connection)
        except SQLAlchemyError:
            return False  # its tables are being made
        finally:
            database.close()
        return any(state == analyses.RUNNING for state, _ in counts)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path)
    try:
        yield running
    finally:
        end_all(running.state_dir)


def assert_shows_the_main_job(done: Done, demo: Demo) -> None:
    """Exit 0 and the tables: keys, signals, endings, a usage card for each account."""
    assert done.code == 0, done
    assert done.err == ""
    for told in (
        "answered by the provider sandbox, which is not a model",
        "Keys of demo-own-keys",
        "Keys of demo-invalid-key",
        "Valid",
        "Invalid",
        "Signals",
        "How the mails ended",
        "Usage of demo-own-keys",
        "Usage of demo-platform",
        "BYOK share",
        "on openai",
        "on anthropic",
    ):
        assert told in done.out, told
    first, again = re.findall(r"when they came( again)?\D+(\d+)\D+(\d+)\D+(\d+)\D+(\d+)", done.out)
    assert first == ("", "1", "0", "2", "0"), "rules, reuse, a model, nothing"
    assert again == (" again", "1", "2", "0", "0")
    for mail in demo.mails.iterdir():
        assert mail.name in done.out
    assert "failed: key_invalid" in done.out
    received = (demo.directory / "sandbox.record").read_text()
    assert received.count('"endpoint": "completion"') >= 4
    assert "sk-" not in done.out


def assert_tells_the_main_job(done: Done, demo: Demo) -> None:
    """The same as one JSON object, of the documented type."""
    assert (done.code, done.err) == (0, "")
    told = done.object
    TypeAdapter(OUTPUTS["demo"]).validate_python(told)
    mails = sorted(file.name for file in demo.mails.iterdir())
    assert [one["file"] for one in told["mails"]["demo-own-keys"]] == mails
    assert [one["by"] for one in told["mails_again"]["demo-own-keys"]].count("reuse") == 2
    assert {key["status"] for key in told["keys"]["demo-invalid-key"]} == {"invalid"}
    assert told["usage"]["demo-own-keys"]["byok_share"] == 1
    assert "sk-" not in done.out


def assert_was_stopped(done: Done) -> None:
    """Not a success, and nothing like a traceback."""
    assert done.code in (1, 130)
    assert done.err.count("\n") <= 1


def test_the_demo_shows_the_main_job_and_leaves_no_process(demo: Demo) -> None:
    done = demo.ended(demo.start())
    assert_shows_the_main_job(done, demo)
    assert processes_of(demo.state_dir) == []


def test_ctrl_c_while_it_starts_leaves_no_process(demo: Demo) -> None:
    process = demo.start()
    until(lambda: demo.role_runs("worker"), "the worker is being started")
    os.killpg(process.pid, signal.SIGINT)
    done = demo.ended(process)
    assert_was_stopped(done)
    assert processes_of(demo.state_dir) == []


def test_ctrl_c_in_the_middle_of_calls_leaves_no_process_and_the_next_run_works(
    demo: Demo,
) -> None:
    process = demo.start(BYOK_SANDBOX_LATENCY="2")
    until(demo.calls_run, "calls are on their way")
    os.killpg(process.pid, signal.SIGINT)
    done = demo.ended(process)
    assert_was_stopped(done)
    assert processes_of(demo.state_dir) == []
    assert_tells_the_main_job(demo.ended(demo.start("--json")), demo)
    assert processes_of(demo.state_dir) == []


def test_a_second_ctrl_c_while_it_stops_leaves_no_process_either(demo: Demo) -> None:
    process = demo.start(BYOK_SANDBOX_LATENCY="2")
    until(demo.calls_run, "calls are on their way")
    os.killpg(process.pid, signal.SIGINT)
    log = demo.state_dir / "demo" / "demo.log"
    until(lambda: "worker_draining" in log.read_text(), "the worker finishes its calls")
    os.killpg(process.pid, signal.SIGINT)
    assert_was_stopped(demo.ended(process))
    assert processes_of(demo.state_dir) == []
