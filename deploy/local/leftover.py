"""A Valkey that was left behind by a parent that was killed: found by its pid file, and ended."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

STOP_SECONDS = 10.0
"""For a server to write what it holds and end, before it is killed."""

_POLL_SECONDS = 0.02


class DoesNotEnd(RuntimeError):
    """A server that was left behind survives SIGKILL: it hangs in the kernel."""


def end_leftover(directory: Path, pid_file: Path) -> None:
    """End the server whose number is in `pid_file`, where it is one on `directory`.

    Waits until it has written its data. Raises `DoesNotEnd`.
    """
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return
    if not _is_ours(pid, directory):
        pid_file.unlink(missing_ok=True)
        return
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 1.0)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not _is_ours(pid, directory):
                pid_file.unlink(missing_ok=True)
                return
            time.sleep(_POLL_SECONDS)
    raise DoesNotEnd(f"The Valkey left behind on {directory} (process {pid}) does not end: end it.")


def _is_ours(pid: int, directory: Path) -> bool:
    """Say whether process `pid` lives and is a Valkey on `directory`: numbers are used again."""
    arguments = _arguments(pid)
    if not arguments or not arguments.partition("\0")[0].endswith("valkey-server"):
        return False
    return f"\0--dir\0{directory.resolve()}\0" in arguments


def _arguments(pid: int) -> str:
    """The command line of a process, each argument ended by NUL; empty where it does not live."""
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        if sys.platform == "linux":
            return ""
    listed = subprocess.run(
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    # `ps` joins by spaces; our own arguments start with dashes, which is enough to split by.
    return listed.stdout.strip().replace(" --", "\0--").replace("--dir ", "--dir\0") + "\0"
