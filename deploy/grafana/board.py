"""What a dashboard is made of, free of Grafana's own forms."""

from dataclasses import dataclass
from enum import StrEnum

RATE = "$__rate_interval"
"""Grafana's window for rates: a few scrapes at least, longer when one looks at months."""


class Kind(StrEnum):
    """How a panel shows its queries."""

    LINES = "lines"
    STACK = "stack"
    FIGURE = "figure"
    TABLE = "table"


class Unit(StrEnum):
    """Grafana's names of units."""

    COUNT = "short"
    SECONDS = "s"
    EACH_SECOND = "ops"
    SHARE = "percentunit"
    DOLLARS = "currencyUSD"
    YES_NO = "bool"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL and the legend of its series: `{{label}}`, or a name."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its title, what it tells, and its queries."""

    title: str
    tells: str
    queries: tuple[Query, ...]
    unit: Unit = Unit.COUNT
    kind: Kind = Kind.LINES


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard. `name` is part of its file's name and of its address."""

    name: str
    title: str
    tells: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, in their order."""
        return tuple(panel for row in self.rows for panel in row.panels)


def lines(title: str, tells: str, unit: Unit, *queries: tuple[str, str]) -> Panel:
    """A panel of lines over time."""
    return Panel(title, tells, tuple(Query(*query) for query in queries), unit)


def stack(title: str, tells: str, unit: Unit, *queries: tuple[str, str]) -> Panel:
    """A panel of areas that add up."""
    return Panel(title, tells, tuple(Query(*query) for query in queries), unit, Kind.STACK)


def figure(title: str, tells: str, unit: Unit, *queries: tuple[str, str]) -> Panel:
    """A panel of one figure, as it stands."""
    return Panel(title, tells, tuple(Query(*query) for query in queries), unit, Kind.FIGURE)


def table(title: str, tells: str, *queries: tuple[str, str]) -> Panel:
    """A panel of rows, as they stand."""
    return Panel(title, tells, tuple(Query(*query) for query in queries), kind=Kind.TABLE)


def by(labels: str, counter: str, selector: str = "") -> str:
    """What a counter gains a second, by labels."""
    return f"sum by ({labels}) (rate({counter}{_braced(selector)}[{RATE}]))"


def gained(labels: str, counter: str, selector: str = "") -> str:
    """What a counter gained within five minutes, by labels.

    Unlike `by` it sees the first of a series that was not there before, which is what matters of
    rare failures; it can, since no counter ever falls. After five minutes without a scrape it
    shows everything as gained.
    """
    now = f"sum by ({labels}) ({counter}{_braced(selector)})"
    before = f"sum by ({labels}) ({counter}{_braced(selector)} offset 5m)"
    return f"{now} - ({before} or 0 * {now})"


def quantile(share: float, histogram: str, labels: str = "", selector: str = "") -> str:
    """The duration (s) that the part `share` of a histogram's does not exceed, by labels."""
    grouped = f"le, {labels}" if labels else "le"
    rates = f"rate({histogram}_bucket{_braced(selector)}[{RATE}])"
    return f"histogram_quantile({share:g}, sum by ({grouped}) ({rates}))"


def most(labels: str, gauge: str, selector: str = "") -> str:
    """A gauge by labels. Every exporter tells the same, so they are not added up."""
    return f"max by ({labels}) ({gauge}{_braced(selector)})"


def _braced(selector: str) -> str:
    return f"{{{selector}}}" if selector else ""
