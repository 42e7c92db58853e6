"""The embedded Valkey: a real server, started and ended in every way that happens to one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import redis

from deploy.local import valkey
from deploy.local.valkey import SOCKET_PATH_BYTES, ValkeyError, answers_ping, socket_path

ROOT = Path(__file__).parents[3]
SECONDS = 30.0
T = TypeVar("T")


class Running:
    """`python -m deploy.local.valkey` on a directory, and what it says of itself."""

    def __init__(self, directory: Path, path: Path | None = None, *options: str) -> None:
        self.directory = directory
        self.socket = path or directory / "s"
        self.ready_file = directory.parent / f"{directory.name}.ready"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-W", "error", "-m", "deploy.local.valkey"),
                *("--dir", str(directory), "--socket", str(self.socket)),
                *("--ready-file", str(self.ready_file), *options),
            ],
            cwd=ROOT,
            env={**os.environ, "BYOK_MASTER_KEYS": "canary-of-the-environment"},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_ready(self) -> dict[str, Any]:
        def ready() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.errors()
            if not self.ready_file.exists():
                return None
            said: dict[str, Any] = json.loads(self.ready_file.read_text())
            # The file of a start before this one, whose process was killed.
            return said if said["pid"] == self.process.pid else None

        return eventually(ready)

    def client(self, database: int = 0) -> "redis.Redis":
        return redis.Redis(unix_socket_path=str(self.socket), db=database)

    def errors(self) -> str:
        _, errors = self.process.communicate(timeout=SECONDS)
        return errors.decode()

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self.process.terminate()
        self.process.communicate(timeout=SECONDS)


def eventually(look: Callable[[], T | None]) -> T:
    """What `look` finds, as soon as it finds it."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def gone(pid: int) -> bool | None:
    """`True` once the process is dead; one that nobody has waited for yet is dead, too."""
    try:
        dead = psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    return dead or None


def servers_on(directory: Path) -> list[int]:
    found: list[int] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            line = process.cmdline()
            if line and line[0].endswith("valkey-server") and str(directory) in line:
                found.append(process.pid)
    return found


@pytest.fixture
def state() -> Iterator[Path]:
    """A directory whose name leaves room for a socket's, as pytest's own may not."""
    directory = Path(tempfile.mkdtemp(prefix="vk-"))
    yield directory.resolve()
    shutil.rmtree(directory)


@pytest.fixture
def run(state: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(directory: Path | None = None, path: Path | None = None, *options: str) -> Running:
        started.append(Running(directory or state / "d", path, *options))
        return started[-1]

    yield start
    for one in started:
        one.end()
    assert [servers_on(one.directory) for one in started] == [[]] * len(started)


def test_it_starts_on_its_socket_alone_and_writes_what_it_takes(
    run: Callable[..., Running],
) -> None:
    running = run()
    said = running.wait_ready()
    assert said["socket"] == str(running.socket)
    assert answers_ping(running.socket)
    with running.client() as client:
        wanted = {
            "port": "0",
            "databases": "2",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        client.set("a-key", "a value that is kept")
    aof = running.directory / "appendonlydir"
    eventually(lambda: True if b"a value that is kept" in read_all(aof) else None)
    assert running.directory.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in aof.iterdir())


def read_all(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(directory.iterdir()))


def test_the_url_of_the_socket_is_one_that_redis_py_reads(run: Callable[..., Running]) -> None:
    running = run()
    running.wait_ready()
    with redis.Redis.from_url(f"unix://{running.socket}?db=1") as client:
        assert client.ping()


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGHUP", "stdin"])
def test_it_stops_and_leaves_no_process_and_no_file_that_says_it_runs(
    run: Callable[..., Running], how: str
) -> None:
    running = run(None, None, "--stop-on-stdin-eof")
    server = running.wait_ready()["server_pid"]
    with running.client() as client:
        client.set("kept", "yes")
    if how == "stdin":
        assert running.process.stdin is not None
        running.process.stdin.close()
        running.process.stdin = None
    else:
        running.process.send_signal(signal.Signals[how])
    assert running.errors() == ""
    assert running.process.returncode == 0
    assert not psutil.pid_exists(server)
    assert not running.ready_file.exists()
    assert not running.socket.exists()
    assert b"kept" in read_all(running.directory / "appendonlydir")


def test_without_the_option_the_end_of_stdin_stops_nothing(run: Callable[..., Running]) -> None:
    running = run()
    running.wait_ready()
    assert running.process.stdin is not None
    running.process.stdin.close()
    running.process.stdin = None
    with running.client() as client:
        assert client.ping()
    assert running.process.poll() is None


def test_what_it_took_is_there_after_the_next_start(run: Callable[..., Running]) -> None:
    first = run()
    first.wait_ready()
    with first.client(1) as client:
        client.set("kept", "yes")
    first.end()
    second = run()
    second.wait_ready()
    with second.client(1) as client:
        assert client.get("kept") == b"yes"


def test_a_killed_parent_takes_the_server_with_it_and_the_next_start_works(
    run: Callable[..., Running],
) -> None:
    first = run()
    server = first.wait_ready()["server_pid"]
    with first.client() as client:
        client.set("kept", "yes")
    first.process.kill()
    first.process.wait()
    if sys.platform == "linux":  # elsewhere the next start ends it
        eventually(lambda: gone(server))
    second = run()
    assert second.wait_ready()["server_pid"] != server
    eventually(lambda: gone(server))
    with second.client() as client:
        assert client.get("kept") == b"yes"
    assert len(servers_on(second.directory)) == 1


def test_a_server_that_was_left_behind_is_ended_cleanly_by_the_next_start(
    run: Callable[..., Running], state: Path
) -> None:
    directory = state / "d"
    directory.mkdir()
    command = valkey.Server(directory, directory / "old")._command()
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL) as left_behind:
        eventually(lambda: answers_ping(directory / "old") or None)
        with redis.Redis(unix_socket_path=str(directory / "old")) as client:
            client.set("kept", "yes")
        running = run()
        running.wait_ready()
        assert left_behind.wait(SECONDS) == 0
    with running.client() as client:
        assert client.get("kept") == b"yes"


@pytest.mark.parametrize("content", ["mine", "", "not a number", "999999999"])
def test_a_pid_file_that_names_no_server_of_ours_harms_nobody(
    run: Callable[..., Running], state: Path, content: str
) -> None:
    (state / "d").mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        named = str(bystander.pid) if content == "mine" else content
        (state / "d" / "valkey.pid").write_text(named)
        run().wait_ready()
        assert bystander.poll() is None


def test_a_second_start_on_the_same_directory_is_refused_and_the_first_goes_on(
    run: Callable[..., Running],
) -> None:
    first = run()
    said = first.wait_ready()
    second = run()
    errors = second.errors()
    assert second.process.returncode == 1
    assert errors.startswith(f"A Valkey already runs on {first.directory}: ")
    assert errors.count("\n") == 1
    assert first.wait_ready() == said
    assert answers_ping(first.socket)


def test_of_two_starts_at_once_one_runs_and_the_other_is_refused(
    run: Callable[..., Running], state: Path
) -> None:
    both = [run(), run()]
    refused = eventually(
        lambda: next((one for one in both if one.process.poll() is not None), None)
    )
    assert refused.errors().startswith(f"A Valkey already runs on {state / 'd'}: ")
    both.remove(refused)
    both[0].wait_ready()


def test_another_directorys_socket_is_not_taken_over(
    run: Callable[..., Running], state: Path
) -> None:
    first = run()
    first.wait_ready()
    second = run(state / "other", first.socket)
    assert second.errors().startswith(f"Another server listens on {first.socket}: ")
    assert second.process.returncode == 1
    assert answers_ping(first.socket)


def test_two_state_directories_run_side_by_side(run: Callable[..., Running], state: Path) -> None:
    both = [run(state / "d"), run(state / "e")]
    for number, running in enumerate(both):
        running.wait_ready()
        with running.client() as client:
            client.set("number", number)
    for number, running in enumerate(both):
        with running.client() as client:
            assert client.get("number") == str(number).encode()
    both[1].end()
    assert answers_ping(both[0].socket)


def test_a_directory_with_spaces_and_quotes_in_its_name_is_served(
    run: Callable[..., Running], state: Path
) -> None:
    directory = state / "a b 'c' \"d\" #e"
    running = run(directory)
    server = running.wait_ready()["server_pid"]
    running.process.kill()
    running.process.wait()
    again = run(directory)
    assert again.wait_ready()["server_pid"] != server
    assert len(servers_on(directory)) == 1


def test_the_server_is_not_in_the_terminals_process_group(run: Callable[..., Running]) -> None:
    running = run()
    server = running.wait_ready()["server_pid"]
    assert os.getsid(server) == server
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.errors() == ""
    log = (running.directory / "valkey.log").read_text()
    assert "SIGINT" not in log
    assert "SIGTERM" in log


def test_the_server_knows_nothing_of_the_environment(run: Callable[..., Running]) -> None:
    server = psutil.Process(run().wait_ready()["server_pid"])
    assert "canary-of-the-environment" not in json.dumps(server.environ())


def test_a_server_that_ends_by_itself_is_reported(run: Callable[..., Running]) -> None:
    running = run()
    psutil.Process(running.wait_ready()["server_pid"]).kill()
    errors = running.errors()
    assert running.process.returncode == 1
    assert errors.startswith("Valkey ended by itself (exit code -9): ")
    assert errors.count("\n") == 1
    assert not running.ready_file.exists()


def test_data_that_cannot_be_read_is_reported_in_one_line(
    run: Callable[..., Running], state: Path
) -> None:
    first = run()
    first.wait_ready()
    with first.client() as client:
        client.set("kept", "yes")
    first.end()
    manifest = next((state / "d" / "appendonlydir").glob("*.manifest"))
    manifest.write_text("nonsense\n")
    second = run()
    errors = second.errors()
    assert second.process.returncode == 1
    assert errors.startswith("Valkey did not start: ")
    assert errors.count("\n") == 1
    assert servers_on(state / "d") == []


def test_a_short_state_directory_holds_its_own_socket(state: Path) -> None:
    assert socket_path(state) == state / "valkey.sock"


@pytest.fixture
def deep(state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(state))
    return state / ("deep" * 30)


def test_a_long_state_directory_has_its_socket_in_a_private_directory(
    run: Callable[..., Running], deep: Path
) -> None:
    path = socket_path(deep)
    assert len(os.fsencode(path)) <= SOCKET_PATH_BYTES
    assert path.parent.parent == deep.parent
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path == socket_path(deep)
    assert path != socket_path(deep.with_name(deep.name[1:]))
    run(deep, path).wait_ready()
    assert answers_ping(path)


def test_a_long_socket_path_that_was_chosen_is_refused(
    run: Callable[..., Running], deep: Path
) -> None:
    refused = run(deep)
    assert "is longer than 100 bytes" in refused.errors()
    assert refused.process.returncode == 1


def test_a_private_directory_that_others_can_use_is_refused(deep: Path) -> None:
    socket_path(deep).parent.chmod(0o777)
    with pytest.raises(ValkeyError, match="only you can use"):
        socket_path(deep)


def test_a_link_in_place_of_the_private_directory_is_refused(deep: Path) -> None:
    private = socket_path(deep).parent
    private.rmdir()
    elsewhere = deep.parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    private.symlink_to(elsewhere)
    with pytest.raises(ValkeyError, match="only you can use"):
        socket_path(deep)


def test_a_socket_that_nobody_listens_on_answers_no_ping(state: Path) -> None:
    assert not answers_ping(state / "nothing")
