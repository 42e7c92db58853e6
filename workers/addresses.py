"""Where the roles of a machine answer probes, and what they answer.

Each process writes its address into the state directory. This loads nothing of the system: a
probe is run every few seconds.
"""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def address_file(state_dir: Path, role: str, host: str, pid: int) -> Path:
    """Where the process `pid` on `host` says at which address it answers probes."""
    return state_dir / "health" / f"{role}@{host}@{pid}"


def processes_of(state_dir: Path, role: str) -> Iterator[tuple[int, str]]:
    """The processes of a role that run on this host, and where they answer."""
    prefix = f"{role}@{socket.gethostname()}@"
    with suppress(FileNotFoundError):
        for file in sorted((state_dir.expanduser() / "health").iterdir()):
            pid = file.name.removeprefix(prefix)
            if not file.name.startswith(prefix) or not pid.isdecimal():
                continue
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                # It was killed and could not tidy up.
                file.unlink(missing_ok=True)
                continue
            except PermissionError:
                pass
            with suppress(FileNotFoundError):
                yield int(pid), file.read_text().strip()


def told_by(pid: int, url: str, path: str, timeout: float) -> dict[str, Any]:
    """What a process answers at `path` within `timeout` seconds: `{pid, ok, wrong}`."""
    wrong: dict[str, str]
    try:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        try:
            connection.request("GET", path)
            wrong = dict(json.loads(connection.getresponse().read())["wrong"])
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        wrong = {"probe": f"got no answer within {timeout:g} s"}
    return {"pid": pid, "ok": not wrong, "wrong": wrong}
