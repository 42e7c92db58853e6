"""Requests a minute, per key: what the rate-limit headers say, and a real 429 once used up."""

import time
from collections.abc import Callable
from dataclasses import dataclass

DEFAULT_PER_MINUTE = 600_000
"""High enough that a benchmark never meets it; `PUT /_sandbox/settings` lowers it."""


@dataclass(slots=True, frozen=True)
class Standing:
    """Where a key stands. `reset` is the seconds until the limit is whole again, `wait` the
    seconds until one more request is allowed (0 where this one was).
    """

    limit: int
    remaining: int
    reset: float
    wait: float = 0.0


class RateLimits:
    """A bucket per key that refills evenly, as both providers describe theirs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self.per_minute = DEFAULT_PER_MINUTE

    def take(self, digest: str) -> Standing:
        """Take one request from the bucket of the key with this digest."""
        now, rate = self._clock(), self.per_minute / 60
        level, since = self._buckets.get(digest, (float(self.per_minute), now))
        level = min(float(self.per_minute), level + (now - since) * rate)
        allowed = level >= 1
        level -= 1 if allowed else 0
        self._buckets[digest] = (level, now)
        reset = (self.per_minute - level) / rate
        wait = 0.0 if allowed else (1 - level) / rate
        return Standing(self.per_minute, int(level), reset, wait)

    def clear(self) -> None:
        """Fill every bucket and go back to the default limit."""
        self._buckets.clear()
        self.per_minute = DEFAULT_PER_MINUTE
