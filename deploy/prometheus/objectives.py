"""What users are promised, and the rules that tell how fast a promise is being used up.

An objective leaves a budget of bad operations. A burn rate is how many times too fast it goes: at
1 the budget is gone after its period of 30 days. Pages come at 14.4 over an hour (2 % of the
budget gone) and at 6 over six hours (5 %), a ticket at 1 over three days (10 %); the short window
beside each says that it still goes on, so that an alert clears soon after. The method and the
numbers are those of Google's "The Site Reliability Workbook", chapter 5.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploy.prometheus.clock import Clock

Rule = dict[str, Any]
WINDOWS = ("5m", "30m", "1h", "6h", "3d")

FEWEST = 5
"""Fewer bad operations in the long window burn nothing: with little traffic, one would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A promise: of `all` operations at most the part `budget` is `bad`.

    `bad` and `all` are selectors of counters; with `good` in place of `bad`, the bad ones are the
    rest. `alert` begins the names of its alerts, `runbook` names its page.
    """

    name: str
    alert: str
    summary: str
    budget: float
    all: str
    bad: str = ""
    good: str = ""

    def bad_over(self, function: str, window: str) -> str:
        """How many are bad, by `rate` or `increase` over a window."""
        everything = f"sum({function}({self.all}[{window}]))"
        if self.bad:
            return f"(sum({function}({self.bad}[{window}])) or 0 * {everything})"
        return f"({everything} - (sum({function}({self.good}[{window}])) or 0 * {everything}))"

    def burn_over(self, window: str) -> str:
        """How many times too fast the budget goes; 0 where there is no traffic."""
        everything = f"sum(rate({self.all}[{window}]))"
        return f"{self.bad_over('rate', window)} / clamp_min({everything}, 1e-9) / {self.budget:g}"


ANALYSES_SUCCEED = Objective(
    name="analyses",
    alert="AnalysesFail",
    summary="Analyses fail through no fault of the user.",
    budget=0.005,
    all='byok_analysis_verdicts_total{verdict=~"good|bad"}',
    bad='byok_analysis_verdicts_total{verdict="bad"}',
)
ANALYSES_ARE_FAST = Objective(
    name="analysis_speed",
    alert="AnalysesSlow",
    summary="Analyses take longer than a minute.",
    budget=0.01,
    all='byok_analysis_duration_seconds_count{outcome="completed"}',
    good='byok_analysis_duration_seconds_bucket{outcome="completed",le="60.0"}',
)
CHANGES_ARE_PROMPT = Objective(
    name="changes",
    alert="ChangesWait",
    summary="Consents, plans, keys and removals wait for longer than five seconds.",
    budget=0.001,
    all='byok_queue_wait_seconds_count{queue=~"accounts|keys"}',
    good='byok_queue_wait_seconds_bucket{queue=~"accounts|keys",le="5.0"}',
)
OBJECTIVES = (ANALYSES_SUCCEED, ANALYSES_ARE_FAST, CHANGES_ARE_PROMPT)


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast over which windows is too fast, and how urgent that is."""

    suffix: str
    rate: float
    long: str
    short: str
    severity: str


BURNS = (
    Burn("Fast", 14.4, "1h", "5m", "page"),
    Burn("", 6.0, "6h", "30m", "page"),
    Burn("Slowly", 1.0, "3d", "6h", "ticket"),
)


def burn_record(objective: Objective, window: str) -> str:
    """The name under which a burn rate is recorded."""
    return f"byok:{objective.name}:burn_rate{window}"


def burn_records(clock: Clock) -> Iterator[Rule]:
    """Recording rules for the burn rates."""
    for objective in OBJECTIVES:
        for window in WINDOWS:
            yield {
                "record": burn_record(objective, window),
                "expr": objective.burn_over(clock.window(window)),
            }


def burn_alerts(clock: Clock) -> Iterator[Rule]:
    """Alerts for burn rates that are too high."""
    for objective in OBJECTIVES:
        for burn in BURNS:
            yield {
                "alert": f"Byok{objective.alert}{burn.suffix}",
                "expr": (
                    f"{burn_record(objective, burn.long)} > {burn.rate:g}\n"
                    f"and {burn_record(objective, burn.short)} > {burn.rate:g}\n"
                    f"and {objective.bad_over('increase', clock.window(burn.long))} >= {FEWEST}"
                ),
                "labels": {"severity": burn.severity},
                "annotations": {
                    "summary": f"{objective.summary} The budget of 30 days goes "
                    f"{{{{ $value | humanize }}}} times too fast.",
                    "runbook": f"docs/runbooks/{objective.alert}.md",
                },
            }
