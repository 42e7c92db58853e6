"""All that one sandbox remembers."""

from pathlib import Path

from deploy.local.sandbox.bill import Bill
from deploy.local.sandbox.faults import Faults
from deploy.local.sandbox.limits import RateLimits
from deploy.local.sandbox.prompt_cache import PromptCache
from deploy.local.sandbox.record import Record
from deploy.local.sandbox.traffic import Traffic


class Sandbox:
    """All that one sandbox remembers.

    `latency` is the seconds that a completion takes, `record` a file that requests are added to.
    Raises `OSError` where it cannot be written.
    """

    def __init__(self, *, latency: float = 0.0, record: Path | None = None) -> None:
        self._first_latency = latency
        self.latency = latency
        self.bill = Bill()
        self.cache = PromptCache()
        self.faults = Faults()
        self.limits = RateLimits()
        self.record = Record(record)
        self.traffic = Traffic()

    def reset(self) -> None:
        """Forget everything and go back to the latency of the start."""
        self.latency = self._first_latency
        for part in (self.bill, self.cache, self.faults, self.limits, self.record, self.traffic):
            part.clear()
