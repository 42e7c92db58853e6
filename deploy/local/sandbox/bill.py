"""What the sandbox would charge, to the token: the oracle that a ledger is compared with."""

import time
from collections import deque
from typing import Any

from deploy.local.sandbox.exchange import Asked, Call, Draft

MAX_DETAILS = 500_000
"""Billed calls that are kept one by one; the sums per key never lose any."""

_NAMES = ("provider", "key_digest", "key_hint", "model")
_TOKENS = ("input_tokens", "cached_read_tokens", "cache_write_tokens", "output_tokens")
_DETAIL = (*_NAMES, *_TOKENS, "requested_model", "request_id", "fault", "at")


class Bill:
    """Sums per provider, key and model as answered, and the billed calls one by one."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], list[int]] = {}
        self._details: deque[tuple[Any, ...]] = deque(maxlen=MAX_DETAILS)

    def charge(self, call: Call, asked: Asked, draft: Draft, *, fault: str) -> None:
        """Charge one call; `fault` is the scripted one that it met, or empty."""
        names = (call.provider, call.digest, call.key[-4:], asked.model)
        tokens = (asked.input_tokens, draft.cached.read, draft.cached.write, draft.output)
        sums = self._sums.setdefault(names, [0, 0, 0, 0, 0])
        for index, amount in enumerate((1, *tokens)):
            sums[index] += amount
        tail = (asked.requested, call.request_id, fault, time.time())
        self._details.append((*names, *tokens, *tail))

    def lines(self) -> list[dict[str, Any]]:
        """The sums, one object per provider, key and model."""
        fields = (*_NAMES, "calls", *_TOKENS)
        return [
            dict(zip(fields, (*names, *sums), strict=True)) for names, sums in self._sums.items()
        ]

    def details(self) -> list[dict[str, Any]]:
        """The last `MAX_DETAILS` billed calls, oldest first; `at` is a Unix time in seconds."""
        return [dict(zip(_DETAIL, detail, strict=True)) for detail in self._details]

    def clear(self) -> None:
        """Start a new bill."""
        self._sums.clear()
        self._details.clear()
