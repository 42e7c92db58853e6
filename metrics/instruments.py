"""The instruments. Labels come from small closed sets, never from an account, key or event id.

All processes of a machine write to one directory of memory-mapped files, which the exporter
adds up; so a counter survives the process that counted.
"""

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, values

_CALL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_ROAD_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0)


class Instruments:
    """The counters and histograms of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"byok_{name}", text, labels, registry=registry)

        def seconds(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(
                f"byok_{name}_seconds", text, labels, buckets=buckets, registry=registry
            )

        self.events = counter(
            "events_total", "Events taken from a queue.", "queue", "type", "outcome"
        )
        self.set_aside = counter(
            "set_aside_total", "Messages set aside as unreadable or refused.", "queue", "reason"
        )
        self.key_changes = counter(
            "key_status_changes_total",
            "Changes of a key's status.",
            "provider",
            "status",
            "reason",
        )
        self.validations = counter(
            "key_validations_total", "Validations of keys, by outcome.", "provider", "outcome"
        )
        self.analyses = counter(
            "analyses_total",
            "Analyses that ended, by outcome.",
            "operation",
            "outcome",
            "reason",
            "credential",
            "answered_by",
        )
        self.analysis_seconds = seconds(
            "analysis_duration",
            "From accepted to ended.",
            _ROAD_SECONDS,
            "operation",
            "outcome",
        )
        self.parked = counter("analyses_parked_total", "Analyses parked, by reason.", "reason")
        self.calls = counter(
            "provider_calls_total",
            "Calls of a provider, by outcome and reason.",
            "provider",
            "credential",
            "outcome",
            "reason",
        )
        self.call_seconds = seconds(
            "provider_call_duration", "Duration of a provider's call.", _CALL_SECONDS, "provider"
        )
        self.tokens = counter(
            "tokens_total", "Tokens billed by providers.", "provider", "credential", "direction"
        )
        self.cost = counter("cost_usd_total", "Cost of calls in dollars.", "provider", "credential")
        self.unpriced = counter(
            "unpriced_calls_total", "Calls whose model has no known price.", "provider"
        )
        self.fallbacks = counter(
            "platform_fallbacks_total",
            "Operations on the platform's key though the account has its own.",
            "provider",
            "reason",
        )
        self.credits_refused = counter(
            "credits_refused_total", "Analyses skipped for want of credits."
        )
        self.takeovers = counter("lease_takeovers_total", "Dead processes taken over.")
        self.unknown_attempts = counter(
            "attempts_unknown_total", "Attempts whose answer was lost with their worker."
        )
        self.late_answers = counter(
            "late_answers_total", "Answers that came after their attempt was given up."
        )
        self.usage_rows = counter(
            "usage_rows_total", "Usage rows taken by the aggregator.", "outcome"
        )
        self.relayed = counter("outbox_relayed_total", "Outbox rows sent on.", "kind")
        self.sweep_failures = counter(
            "sweep_failures_total", "Sweeps of the scheduler that failed.", "sweep"
        )
        self.vault_failures = counter(
            "vault_failures_total", "Stored values that do not open.", "reason"
        )


def open_instruments(directory: Path | None) -> Instruments:
    """The instruments of this process, shared through `directory`, or private without one.

    The client library picks its storage when it is first imported, from an environment variable;
    choosing it here instead keeps the order of imports from mattering.
    """
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        values.ValueClass = values.MultiProcessValue()
    else:
        values.ValueClass = values.MutexValue
    return Instruments(CollectorRegistry())
