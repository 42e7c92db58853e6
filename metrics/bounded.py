"""Instruments whose series are bounded, whatever values come along.

A value that its label's set does not name is counted under `other`, an empty one under `none`
(Prometheus takes an empty label for a missing one). Should all sets together still make more
series than a process is allowed, new ones are counted under `other` in every label.
"""

import threading
from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Any, Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from metrics.labels import OTHER, Label

SERIES_LIMIT = 2_000
"""Series that one process may make, each bucket of a histogram counted."""

PRESENT_FROM_THE_START = 150
"""An instrument that can have no more series shows them all from the start: a series that appears
with a 1 is no rise in Prometheus' eyes, so the first of its kind would go unseen."""

NONE = "none"

Made = TypeVar("Made", bound=Counter | Gauge | Histogram)


class Budget:
    """How many series a process may still make. `replaced` is told of each value not named."""

    def __init__(self, limit: int = SERIES_LIMIT) -> None:
        self._limit = limit
        self._made = 0
        self._lock = threading.Lock()
        self.replaced: Callable[[str, str], None] = lambda _metric, _label: None

    @property
    def made(self) -> int:
        """Series made so far."""
        return self._made

    def take(self, series: int) -> bool:
        """Count `series` more, where that many are left."""
        with self._lock:
            if self._made + series > self._limit:
                return False
            self._made += series
            return True

    def reserve(self, series: int) -> None:
        """Count what is always there."""
        self._made += series


class Bounded(Generic[Made]):
    """One instrument. `labels(…)` takes the labels' values in order and gives what counts them."""

    def __init__(self, instrument: Made, labels: Sequence[Label], budget: Budget) -> None:
        self.instrument = instrument
        self.label_sets = tuple(labels)
        self._budget = budget
        self._children: dict[tuple[str, ...], Made] = {}
        self._lock = threading.Lock()
        buckets = getattr(instrument, "_upper_bounds", ())
        # A histogram has its buckets, a sum and a count.
        self._each = len(buckets) + 2 if buckets else 1
        # The one that everything else falls into is always there to be had.
        budget.reserve(self._each)
        all_ = self._each * prod(len(label.values) for label in labels)
        # A gauge of a process has no value before there is one.
        if all_ <= PRESENT_FROM_THE_START and not isinstance(instrument, Gauge):
            for values in product(*(sorted(label.values) for label in labels)):
                self.labels(*values)

    @property
    def name(self) -> str:
        """The name on the page."""
        name = self.instrument._name
        return f"{name}_total" if isinstance(self.instrument, Counter) else name

    def labels(self, *values: str) -> Made:
        """What counts under these values. Raises `ValueError` where their number is wrong."""
        child = self._children.get(values)
        return child if child is not None else self._child(values)

    def _child(self, values: tuple[str, ...]) -> Made:
        if len(values) != len(self.label_sets):
            raise ValueError(f"{self.name} has {len(self.label_sets)} labels, not {len(values)}")
        if not values:
            return self._children.setdefault((), self.instrument)
        named = tuple(map(self._named, self.label_sets, values))
        with self._lock:
            child = self._children.get(named)
            if child is None:
                rest = (OTHER,) * len(values)
                if named != rest and not self._budget.take(self._each):
                    named = rest
                # Only what is named is kept, so that junk takes no memory either.
                made: Any = self.instrument.labels(*named)
                child = self._children.setdefault(named, made)
        return child

    def _named(self, label: Label, value: str) -> str:
        known = value or NONE
        if known in label.values or known == OTHER:
            return known
        self._budget.replaced(self.name, label.name)
        return OTHER


class BoundedCounter(Bounded[Counter]):
    """A counter; `inc` counts where there are no labels."""

    def inc(self, amount: float = 1) -> None:
        self.labels().inc(amount)


class BoundedHistogram(Bounded[Histogram]):
    """A histogram of seconds; `observe` notes some where there are no labels."""

    def observe(self, seconds: float) -> None:
        self.labels().observe(seconds)


class BoundedGauge(Bounded[Gauge]):
    """A gauge."""
