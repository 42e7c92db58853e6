"""What is going through the sandbox now, and the gate that holds it up for tests."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deploy.local.sandbox.exchange import Endpoint

POLL_SECONDS = 0.005


@dataclass(slots=True)
class Passage:
    """One request on its way; `outcome` is its status, or how it ended without one."""

    outcome: str = "gone"


class Traffic:
    """Counts by endpoint and status, completions in flight, and the gate."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._gate = asyncio.Event()
        self._gate.set()
        self.in_flight = 0
        self._peak = 0

    @contextmanager
    def passing(self, endpoint: Endpoint) -> Iterator[Passage]:
        """Count one request from its arrival to its end."""
        passage = Passage()
        counted = 1 if endpoint == "completion" else 0
        self.in_flight += counted
        self._peak = max(self._peak, self.in_flight)
        try:
            yield passage
        finally:
            self.in_flight -= counted
            self._counts.setdefault(endpoint, Counter())[passage.outcome] += 1

    async def pass_gate(self) -> None:
        """Wait until the gate is open."""
        await self._gate.wait()

    def set_gate(self, *, closed: bool) -> None:
        """Close the gate, or open it and let go who waits."""
        if closed:
            self._gate.clear()
        else:
            self._gate.set()

    async def wait(self, reached: Callable[[int], bool], timeout: float) -> bool:
        """Wait until `reached(in_flight)`; false where `timeout` seconds pass first."""
        end = time.monotonic() + timeout
        while not reached(self.in_flight):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def shown(self) -> dict[str, Any]:
        """The counts as the control endpoint gives them."""
        return {
            "calls": {endpoint: dict(counts) for endpoint, counts in self._counts.items()},
            "in_flight": self.in_flight,
            "peak_in_flight": self._peak,
        }

    def clear(self) -> None:
        """Forget the counts and open the gate; what is in flight stays counted."""
        self._counts.clear()
        self._peak = self.in_flight
        self._gate.set()
