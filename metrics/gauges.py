"""The gauges: what stands in broker and store, read at each scrape, so with no worker too."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from metrics import labels as of
from metrics.bounded import NONE
from metrics.labels import OTHER, Label

Key = TypeVar("Key", bound=tuple[str, ...])


@dataclass(frozen=True, slots=True)
class Gauge:
    """A gauge: its name without the prefix, its help, and its labels."""

    name: str
    text: str
    labels: tuple[Label, ...]

    def of(self, samples: Mapping[Key, float]) -> "Reading":
        """The gauge with its values. Labels that no set names are added up under `other`."""
        bounded: dict[tuple[str, ...], float] = {}
        for key, value in samples.items():
            named = tuple(
                known if (known := told or NONE) in label.values else OTHER
                for label, told in zip(self.labels, key, strict=True)
            )
            bounded[named] = bounded.get(named, 0.0) + value
        return Reading(self, bounded)

    def every(self, samples: Mapping[Key, float]) -> "Reading":
        """As `of`, with 0 for each combination of labels that has no value."""
        names = product(*(sorted(label.values) for label in self.labels))
        return self.of({**dict.fromkeys(names, 0.0), **samples})


@dataclass(frozen=True, slots=True)
class Reading:
    """A gauge as it was read: a value for each combination of labels."""

    gauge: Gauge
    samples: Mapping[tuple[str, ...], float]


def _gauge(name: str, text: str, *labels: Label) -> Gauge:
    return Gauge(name, text, labels)


# Told by the exporter itself
UP = _gauge("up", "Whether a part can be reached.", of.PART)
READ_AGE = _gauge(
    "gauges_age_seconds",
    "How old the gauges of a part are that are shown: what takes long to count is read beside "
    "the scrape.",
    of.SOURCE,
)
BUILD = _gauge(
    "build_info",
    "Always 1; its labels say what runs.",
    Label("version", frozenset()),
    Label("python", frozenset()),
    Label("prices", frozenset()),
)

# From the broker and from the store
QUEUE_DEPTH = _gauge(
    "queue_depth",
    "Messages that wait: on the `broker`, `taken` by a worker and not acknowledged (Redis alone "
    "tells), or, of a request or event that is due again, in the `store`.",
    of.QUEUE,
    of.PLACE,
)
QUEUE_AGE = _gauge(
    "queue_oldest_age_seconds",
    "Age of the oldest message that waits, on the `broker` or, since it was due, in the `store`; "
    "0 where none does.",
    of.QUEUE,
    of.PLACE,
)

# From the store
KEYS = _gauge("keys", "Keys that are connected.", of.PROVIDER, of.KEY_STATUS, of.KEY_REASON)
VALIDATIONS_DUE = _gauge("key_validations_due", "Keys whose validation is due.", of.PROVIDER)
VALIDATIONS_LATE = _gauge(
    "key_validations_late",
    "Keys whose validation has been due for more than five minutes.",
    of.PROVIDER,
)
WAITING = _gauge("analyses_waiting", "Analyses that wait, by reason.", of.PARK_REASON)
WAITING_AGE = _gauge(
    "analyses_oldest_age_seconds",
    "How long ago the analysis was accepted that has not ended for longest, by why it waits.",
    of.PARK_REASON,
)
RUNNING = _gauge(
    "analyses_running", "Analyses with an attempt under way.", of.PROVIDER, of.CREDENTIAL
)
UNKNOWN = _gauge(
    "attempts_unknown", "Attempts in the store whose answer was lost, so that they may be billed."
)
OUTBOX_ROWS = _gauge("outbox_rows", "Rows that wait in the outbox.", of.OUTBOX_KIND)
OUTBOX_AGE = _gauge(
    "outbox_oldest_age_seconds", "Age of the oldest row in the outbox.", of.OUTBOX_KIND
)
PAUSED = _gauge("paused", "How many are paused by operators.", of.PAUSED_KIND, of.PAUSED)
PAUSED_SECONDS = _gauge(
    "paused_seconds",
    "For how long the one has been paused that is for longest.",
    of.PAUSED_KIND,
    of.PAUSED,
)
BUDGETS = _gauge(
    "budgets",
    "Budgets that are `near` their cap in their present month (BYOK_BUDGET_SOFT_SHARE of it is "
    "used), or `used_up`: a request was skipped for want of it.",
    of.BUDGET,
    of.BUDGET_STATE,
)
PLATFORM_BUDGET = _gauge(
    "platform_budget_share",
    "What part of the platform's budget is used in this month; 0 where it has none.",
)
KEPT_TOO_LONG = _gauge(
    "kept_too_long_seconds",
    "For how long the oldest of what is kept for a while should have been erased.",
    of.KEPT_IN_STORE,
)
SET_ASIDE = _gauge("set_aside_messages", "Messages that are set aside.", of.QUEUE, of.REFUSED)
PROCESSES = _gauge("processes", "Processes that hold a lease.", of.ROLE)

# From Redis
BREAKER = _gauge(
    "provider_breaker",
    "1 for the state that a provider's breaker is in, 0 for the others.",
    of.PROVIDER,
    of.BREAKER,
)

ALL = tuple(value for value in list(globals().values()) if isinstance(value, Gauge))
"""All gauges, in the order of their documentation."""
