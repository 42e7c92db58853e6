"""Durations in rules, which a test runs through in seconds where operation takes days."""

import re
from dataclasses import dataclass

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Clock:
    """How fast the rules run: 1 in operation. `shortest` is the shortest window, in seconds.

    A window must hold a few scrapes, however fast the rules run.
    """

    speed: float = 1.0
    shortest: float = 0.0

    def window(self, duration: str) -> str:
        """`duration` (`5m`) as a window that rates are taken over."""
        if self.speed == 1:
            return duration
        return f"{max(self.shortest, seconds(duration) / self.speed):.0f}s"

    def wait(self, duration: str) -> str:
        """`duration` as the time for which a condition must hold; none stays none."""
        if self.speed == 1 or duration == "0s":
            return duration
        return f"{max(1.0, seconds(duration) / self.speed):.0f}s"

    def age(self, duration: str) -> str:
        """`duration` as a number of seconds to compare an age with."""
        if self.speed == 1:
            return str(seconds(duration))
        return f"{max(self.shortest, seconds(duration) / self.speed):g}"


def seconds(duration: str) -> int:
    """`duration` in seconds."""
    found = re.fullmatch(r"(\d+)([smhd])", duration)
    if found is None:
        raise ValueError(f"{duration!r} is not a number with one of the units s, m, h, d")
    return int(found[1]) * _UNITS[found[2]]
