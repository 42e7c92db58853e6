"""Recording rules: what several panels and alerts read, computed once."""

from collections.abc import Iterator

from deploy.prometheus.clock import Clock
from deploy.prometheus.objectives import Rule, burn_records

_COMPLETED = 'outcome="completed"'
_WITHOUT = f'{_COMPLETED},answered_by=~"rules|reuse"'


def recordings(clock: Clock) -> Iterator[Rule]:
    """All recording rules."""
    yield from burn_records(clock)
    five = clock.window("5m")
    for record, expr in {
        "byok:analyses:rate5m": (
            f"sum by (operation, outcome, credential) (rate(byok_analyses_total[{five}]))"
        ),
        "byok:events:rate5m": f"sum by (queue, outcome) (rate(byok_events_total[{five}]))",
        "byok:provider_calls:rate5m": (
            f"sum by (provider, credential, outcome) (rate(byok_provider_calls_total[{five}]))"
        ),
        "byok:analysis_duration_seconds:p99_5m": (
            "histogram_quantile(0.99, sum by (le, operation) "
            f"(rate(byok_analysis_duration_seconds_bucket[{five}])))"
        ),
        "byok:queue_wait_seconds:p99_5m": (
            "histogram_quantile(0.99, sum by (le, queue) "
            f"(rate(byok_queue_wait_seconds_bucket[{five}])))"
        ),
        "byok:answered_without_call:share1h": (
            f"sum(rate(byok_analyses_total{{{_WITHOUT}}}[{clock.window('1h')}]))\n"
            f"/ sum(rate(byok_analyses_total{{{_COMPLETED}}}[{clock.window('1h')}]))"
        ),
        "byok:queue_depth:max": "max by (queue, place) (byok_queue_depth)",
        "byok:keys:max": "max by (provider, status, reason) (byok_keys)",
        "byok:cost_usd:rate1h": (
            f"sum by (provider, credential) (rate(byok_cost_usd_total[{clock.window('1h')}]))"
        ),
    }.items():
        yield {"record": record, "expr": expr}
