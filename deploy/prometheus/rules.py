"""`byok.rules.yml`: all recording rules and alerts, as Prometheus reads them.

`python -m deploy.prometheus.rules` writes it; a test compares it.
"""

from pathlib import Path
from typing import Any

import yaml

from deploy.prometheus.alerts import symptom_alerts
from deploy.prometheus.clock import Clock
from deploy.prometheus.objectives import Rule, burn_alerts
from deploy.prometheus.recordings import recordings

PATH = Path(__file__).parent / "byok.rules.yml"

_HEAD = "# Made by `python -m deploy.prometheus.rules`; do not edit.\n"


def groups(clock: Clock | None = None, *, interval: str = "30s") -> dict[str, Any]:
    """The groups of rules, evaluated each `interval`; what is recorded comes first."""
    timed = clock or Clock()
    recorded: list[Rule] = list(recordings(timed))
    burns, symptoms = list(burn_alerts(timed)), list(symptom_alerts(timed))
    return {
        "groups": [
            {"name": "byok-records", "interval": interval, "rules": recorded},
            {"name": "byok-objectives", "interval": interval, "rules": burns},
            {"name": "byok-symptoms", "interval": interval, "rules": symptoms},
        ]
    }


def text(clock: Clock | None = None, *, interval: str = "30s") -> str:
    """The file's text."""
    return _HEAD + yaml.dump(
        groups(clock, interval=interval), Dumper=_Dumper, sort_keys=False, width=100
    )


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as lines."""


def _block(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _block)


if __name__ == "__main__":
    PATH.write_text(text())
