"""`docs/metrics.md`: every metric that the exporter shows, made from their definitions.

`python -m metrics.document` writes it; a test compares it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from metrics import gauges
from metrics.bounded import SERIES_LIMIT, Bounded
from metrics.instruments import Instruments, open_instruments
from metrics.labels import Label

PATH = Path(__file__).parents[1] / "docs" / "metrics.md"

_HEAD = f"""# Metrics

Made by `python -m metrics.document`; do not edit.

`byok exporter` serves them on `http://127.0.0.1:9464/metrics` (`BYOK_EXPORTER_HOST`, `…_PORT`).
Counters and histograms are added up over all worker processes of the machine, ended ones included.
Gauges of broker and store are the same on every machine: aggregate them with `max`, never `sum`.
Durations are in seconds, money is in dollars.

Labels have closed sets of values and never an account, a key or an event. What a set does not name
is counted under `other`, and nothing at all under `none`. So a process makes {SERIES_LIMIT:,}
series at most, whatever it is sent. `model` has the names of the price table and those configured.
"""


def document() -> str:
    """The page."""
    return "\n".join((_HEAD, *_instruments(open_instruments(None)), *_gauges(), *_labels()))


def _instruments(instruments: Instruments) -> Iterator[str]:
    yield "## Counted by the processes\n\n| metric | kind | labels | what |\n|---|---|---|---|"
    for made in instruments.all():
        text = made.instrument._documentation
        yield _row(made.name, _kind(made), made.label_sets, text)


def _gauges() -> Iterator[str]:
    yield "\n## Read from broker, store and Redis\n\n| metric | labels | what |\n|---|---|---|"
    for gauge in gauges.ALL:
        yield f"| `byok_{gauge.name}` | {_named(gauge.labels)} | {gauge.text} |"


def _labels() -> Iterator[str]:
    yield "\n## The labels' values\n\n| metric | label | values |\n|---|---|---|"
    users: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name, labels in names_and_labels().items():
        for label in labels:
            if label.values:
                users.setdefault((label.name, tuple(sorted(label.values))), []).append(name)
    for (name, values), metrics in users.items():
        if name != "metric":
            shown = ", ".join(f"`{value}`" for value in values)
            yield f"| {', '.join(f'`{metric}`' for metric in metrics)} | `{name}` | {shown} |"
    yield ""


def names_and_labels() -> dict[str, tuple[Label, ...]]:
    """Every metric by its name, with its labels; a histogram by the name without a suffix."""
    return {
        **{made.name: made.label_sets for made in open_instruments(None).all()},
        **{f"byok_{gauge.name}": gauge.labels for gauge in gauges.ALL},
    }


def _row(name: str, kind: str, labels: Iterable[Label], text: str) -> str:
    return f"| `{name}` | {kind} | {_named(labels)} | {text} |"


def _named(labels: Iterable[Label]) -> str:
    return ", ".join(f"`{label.name}`" for label in labels) or "none"


def _kind(made: Bounded[Counter] | Bounded[Gauge] | Bounded[Histogram]) -> str:
    return str(made.instrument._type)


if __name__ == "__main__":
    PATH.write_text(document())
