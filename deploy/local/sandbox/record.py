"""What left the house: the requests as received, without their keys, for tests that search it."""

import json
import time
from collections import deque
from pathlib import Path
from typing import Any

from deploy.local.sandbox.exchange import Call, plain_text

MAX_REQUESTS = 20_000
MAX_BYTES = 64 * 1024 * 1024


class Record:
    """The last requests, at most `MAX_REQUESTS` of them and `MAX_BYTES` of bodies.

    All of them are also added to `file`, where there is one: JSON as `last` gives it, one request
    a line, which outlives the process and a `clear`. Raises `OSError` where it cannot be written.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        if file is not None:
            # The mails in it are for nobody else's eyes.
            file.touch(0o600)
        self._entries: deque[tuple[dict[str, Any], bytes]] = deque()
        self._bytes = 0

    def add(self, call: Call, header_names: list[str]) -> None:
        """Keep `call`. A body that holds the call's own key loses it, and says that it did."""
        secret = call.key.encode("utf-8", "replace")
        leaked = bool(secret) and secret in call.raw
        raw = call.raw.replace(secret, b"[the key]") if leaked else call.raw
        about = {
            "provider": call.provider,
            "endpoint": call.endpoint,
            "path": call.path,
            "request_id": call.request_id,
            "key_digest": call.digest,
            "key_hint": call.key[-4:],
            "key_in_body": leaked,
            "header_names": header_names,
            "at": time.time(),
        }
        if self._file is not None:
            line = json.dumps(_shown(about, raw)).encode() + b"\n"
            # Unbuffered: a line is there at once and whole, however the process ends.
            with self._file.open("ab", buffering=0) as file:
                file.write(line)
        self._entries.append((about, raw))
        self._bytes += len(raw)
        while len(self._entries) > MAX_REQUESTS or self._bytes > MAX_BYTES:
            self._bytes -= len(self._entries.popleft()[1])

    def last(self, limit: int | None = None) -> list[dict[str, Any]]:
        """The last `limit` requests (all where `None`), oldest first."""
        start = 0 if limit is None else max(0, len(self._entries) - limit)
        return [_shown(*entry) for entry in list(self._entries)[start:]]

    def clear(self) -> None:
        """Forget everything; what is in the file stays there."""
        self._entries.clear()
        self._bytes = 0


def _shown(about: dict[str, Any], raw: bytes) -> dict[str, Any]:
    body: Any
    try:
        body = json.loads(raw) if raw else None
    except ValueError:
        body = raw.decode("utf-8", "replace")
    fields: dict[str, Any] = body if isinstance(body, dict) else {}
    said: dict[str, list[Any]] = {
        "system": [fields.get("system"), fields.get("instructions")],
        "user": [],
    }
    turns = fields.get("messages") or fields.get("input") or ()
    for turn in [{"role": "user", "content": turns}] if isinstance(turns, str) else turns:
        if isinstance(turn, dict):
            role = "system" if turn.get("role") == "developer" else str(turn.get("role"))
            said.setdefault(role, []).append(turn.get("content"))
    texts = {role: plain_text(said[role]) for role in ("system", "user")}
    return about | texts | {"model": fields.get("model"), "body": body}
