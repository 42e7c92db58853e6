"""What the roles have counted, from the exporter's page; rates are told by two looks at it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

PAGE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Counted:
    """The counters at one moment (`at`: seconds on a steady clock), by name and labels."""

    at: float
    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)

    def total(self, name: str, **labels: str) -> float:
        """The sum of a counter's samples that have `labels`."""
        wanted = set(labels.items())
        return sum(
            value
            for (sample, having), value in self.samples.items()
            if sample == name and wanted <= having
        )

    def values(self, name: str, label: str) -> Iterator[str]:
        """The values that a label of a counter has."""
        seen = {
            told
            for sample, having in self.samples
            if sample == name
            for key, told in having
            if key == label
        }
        yield from sorted(seen)


@dataclass(frozen=True, slots=True)
class Since:
    """What was counted between two looks."""

    before: Counted
    after: Counted

    def per_second(self, name: str, **labels: str) -> float | None:
        """How many a second, or `None` where it was looked at only once."""
        grown = self.grown(name, **labels)
        return None if grown is None else grown / (self.after.at - self.before.at)

    def grown(self, name: str, **labels: str) -> float | None:
        """By how much a counter grew."""
        if self.after.at <= self.before.at or not self.before.samples:
            return None
        # A role that was started again counts from 0.
        return max(0.0, self.after.total(name, **labels) - self.before.total(name, **labels))

    def mean(self, histogram: str, **labels: str) -> float | None:
        """The mean of what a histogram observed meanwhile, or `None` where that is nothing."""
        count = self.grown(f"{histogram}_count", **labels)
        total = self.grown(f"{histogram}_sum", **labels)
        return total / count if count and total is not None else None


def read_page(url: str, at: float) -> Counted:
    """Read the exporter's page. Raises `OSError` where it is not served."""
    with urlopen(url, timeout=PAGE_SECONDS) as page:  # noqa: S310 -- an http address of our own
        text = page.read().decode()
    return Counted(
        at,
        {
            (sample.name, frozenset(sample.labels.items())): float(sample.value)
            for family in text_string_to_metric_families(text)
            if family.type in ("counter", "histogram")
            for sample in family.samples
        },
    )
