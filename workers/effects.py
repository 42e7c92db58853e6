"""Time, identity, chance and waiting. They are made at the composition root and passed on.

Nothing else in the system asks the machine for them, so that a simulation can own them all.
"""

import os
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

_ID_BITS = 74
"""Bits of an id that are neither time nor marks."""
_SPARE_BITS = 7
"""80 random bits give 73: the highest of an id's 74 stays free to be counted into."""
_LOW_BITS = (1 << 62) - 1


class Effects(Protocol):
    """What the system takes from the outside world beside its services."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that is never set back."""
        ...

    def new_id(self) -> str:
        """An id that no one else gets; a later one sorts after an earlier one."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes that nobody can guess."""
        ...

    def jitter(self) -> float:
        """A number from 0 up to 1."""
        ...

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Wait, at most until `stop` is set; whether it is set."""
        ...


def moment(effects: Effects) -> datetime:
    """Now, as an aware datetime in UTC."""
    return datetime.fromtimestamp(effects.now_ms() / 1000, tz=UTC)


@dataclass(slots=True)
class SystemEffects:
    """The real ones."""

    _last_id: int = 0
    _naming: threading.Lock = field(default_factory=threading.Lock)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def new_id(self) -> str:
        # UUID version 7 (RFC 9562): 48 bits of milliseconds, then chance. Sorting by it is
        # sorting by time, which keeps indexes dense and breaks ties of revisions for the later.
        # Within a millisecond the random part is counted up by chance (its method 2), so that this
        # holds for what one process makes in one transaction, too: out-events keep their order.
        fresh = (self.now_ms() << _ID_BITS) | int.from_bytes(os.urandom(10), "big") >> _SPARE_BITS
        with self._naming:
            step = 1 + int.from_bytes(os.urandom(4), "big")
            self._last_id = max(fresh, self._last_id + step)
            counted = self._last_id
        time_part, high, low = counted >> _ID_BITS, (counted >> 62) & 0xFFF, counted & _LOW_BITS
        raw = (time_part << 80) | (0x7 << 76) | (high << 64) | (0x2 << 62) | low
        text = f"{raw:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def jitter(self) -> float:
        return random.random()  # noqa: S311 -- spreads retries, guards nothing

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        return stop.wait(seconds)
