"""Figures of several rounds, side by side: medians, spreads, ratios, as a table, JSON and SVG."""

import json
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("dramatiq", "redis", "sqlalchemy", "psycopg", "openai", "aiohttp", "celery", "taskiq")


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds: its median, and between what it lay."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of `values`, of which there is at least one."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:,.3g} ({self.least:,.3g} to {self.most:,.3g})"


@dataclass(slots=True)
class Rounds:
    """Rounds of contenders that take turns, so that the machine's noise is every one's."""

    title: str
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def run(
        self, contenders: Mapping[str, Callable[[], Mapping[str, float]]], *, rounds: int
    ) -> None:
        """Let each contender run once a round; the order turns round by round."""
        names = list(contenders)
        for number in range(rounds):
            turned = names[number % len(names) :] + names[: number % len(names)]
            for name in turned:
                measured = contenders[name]()
                print(f"  {self.title}, round {number + 1}, {name}: {_line(measured)}", flush=True)
                mine = self.figures.setdefault(name, {})
                for figure, value in measured.items():
                    mine.setdefault(figure, []).append(value)

    def spread(self, name: str, figure: str) -> Spread | None:
        """One contender's figure; `None` where it has none."""
        values = self.figures.get(name, {}).get(figure)
        return Spread.of(values) if values else None

    def ratio(self, name: str, beside: str, figure: str) -> Spread | None:
        """A figure against another contender's of the same round."""
        ours, theirs = (self.figures.get(one, {}).get(figure) for one in (name, beside))
        if not ours or not theirs:
            return None
        return Spread.of([mine / yours for mine, yours in zip(ours, theirs, strict=False) if yours])

    def table(self, *, beside: str) -> str:
        """All figures as text; each but the contender `beside` with its ratio to that one."""
        names = sorted({figure for mine in self.figures.values() for figure in mine})
        lines = [f"\n{self.title}", "=" * len(self.title)]
        for figure in names:
            lines.append(f"{figure}")
            for name in self.figures:
                spread, ratio = self.spread(name, figure), self.ratio(name, beside, figure)
                if spread is None:
                    continue
                told = f"   {ratio.median:.2f} of {beside}" if ratio and name != beside else ""
                lines.append(f"  {name:<34} {spread!s:<28}{told}")
        return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What was measured on, and with which versions."""
    found: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            continue
    return found


def write_json(path: Path, measured: Sequence[Rounds]) -> None:
    """All rounds of all measurements."""
    content = {
        "machine": machine(),
        "measurements": {one.title: one.figures for one in measured},
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def _line(measured: Mapping[str, float]) -> str:
    return ", ".join(f"{figure} {value:,.3g}" for figure, value in measured.items())
