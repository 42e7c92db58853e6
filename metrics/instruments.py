"""The instruments. Labels come from small closed sets, never from an account, key or event id.

All processes of a machine write to one directory of memory-mapped files, which the exporter
adds up; so a counter survives the process that counted. `docs/metrics.md` is made from here.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from metrics import labels as of
from metrics.bounded import Bounded, BoundedCounter, BoundedGauge, BoundedHistogram, Budget
from metrics.labels import Label, label
from metrics.processes import claim_identity

_CALL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_ROAD_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0)
_WAIT_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0)


class Instruments:
    """The counters, histograms and gauges of one process.

    `models` are the names of models that are told apart; calls of others are `other`.
    """

    def __init__(self, registry: CollectorRegistry, models: Iterable[str] = ()) -> None:
        self.budget = Budget()

        def counter(name: str, text: str, *labels: Label) -> BoundedCounter:
            names = [label.name for label in labels]
            made = Counter(f"byok_{name}", text, names, registry=registry)
            return BoundedCounter(made, labels, self.budget)

        def seconds(
            name: str, text: str, buckets: tuple[float, ...], *labels: Label
        ) -> BoundedHistogram:
            names = [label.name for label in labels]
            made = Histogram(
                f"byok_{name}_seconds", text, names, buckets=buckets, registry=registry
            )
            return BoundedHistogram(made, labels, self.budget)

        def latest(name: str, text: str, *labels: Label) -> BoundedGauge:
            names = [label.name for label in labels]
            made = Gauge(
                f"byok_{name}", text, names, registry=registry, multiprocess_mode="mostrecent"
            )
            return BoundedGauge(made, labels, self.budget)

        model = label("model", *models)

        # Events and messages
        self.events = counter(
            "events_total", "Events taken from a queue.", of.QUEUE, of.EVENT_TYPE, of.TAKEN
        )
        self.set_aside = counter(
            "set_aside_total", "Messages set aside as unreadable or refused.", of.QUEUE, of.REFUSED
        )
        self.queue_wait = seconds(
            "queue_wait", "From published to taken by a thread.", _WAIT_SECONDS, of.QUEUE
        )
        self.message_seconds = seconds(
            "message_duration",
            "How long a worker thread had a message, calls included.",
            _CALL_SECONDS,
            of.QUEUE,
            of.ACTOR,
            of.HANDLED,
        )
        # Keys
        self.key_changes = counter(
            "key_status_changes_total",
            "Changes of a key's status.",
            of.PROVIDER,
            of.KEY_STATUS,
            of.KEY_REASON,
        )
        self.validations = counter(
            "key_validations_total",
            "Validations of keys, by what the provider said.",
            of.PROVIDER,
            of.OUTCOME_CLASS,
        )
        self.validation_seconds = seconds(
            "key_validation_duration",
            "How long the provider took over a validation.",
            _CALL_SECONDS,
            of.PROVIDER,
        )
        self.key_proof_seconds = seconds(
            "key_proof",
            "From a key added or replaced to its first verdict.",
            _ROAD_SECONDS,
            of.PROVIDER,
        )
        # Analyses
        self.analyses = counter(
            "analyses_total",
            "Analyses that ended, by outcome.",
            of.OPERATION,
            of.ENDED,
            of.END_REASON,
            of.CREDENTIAL,
            of.ANSWERED_BY,
        )
        self.verdicts = counter(
            "analysis_verdicts_total",
            "Analyses that ended, by how that counts for what is promised: `bad` is a failure by a "
            "fault of ours or of a provider, `excused` one that is the user's to mend, or skipped.",
            of.VERDICT,
        )
        self.analysis_seconds = seconds(
            "analysis_duration", "From accepted to ended.", _ROAD_SECONDS, of.OPERATION, of.ENDED
        )
        self.parked = counter(
            "analyses_parked_total", "Analyses parked, by reason.", of.PARK_REASON
        )
        self.fallbacks = counter(
            "platform_fallbacks_total",
            "Operations on the platform's key though the account has its own.",
            of.PROVIDER,
            of.FALLBACK,
        )
        self.credits_refused = counter(
            "credits_refused_total", "Analyses skipped for want of credits."
        )
        self.budget_refused = counter(
            "budget_refused_total", "Analyses skipped because a budget is used up.", of.BUDGET
        )
        # Calls of providers
        self.calls = counter(
            "provider_calls_total",
            "Calls of a provider for analyses, by outcome and reason.",
            of.PROVIDER,
            of.CREDENTIAL,
            of.OUTCOME_CLASS,
            of.CALL_REASON,
        )
        self.call_seconds = seconds(
            "provider_call_duration",
            "Duration of a provider's call.",
            _CALL_SECONDS,
            of.PROVIDER,
        )
        self.limit_left = latest(
            "provider_limit_left",
            "What of its rate limit the provider said is left to the platform's key, at its "
            "latest answer.",
            of.PROVIDER,
            of.LIMIT,
        )
        self.breaker_turns = counter(
            "provider_breaker_turns_total",
            "Times a provider's breaker opened or closed.",
            of.PROVIDER,
            of.TURN,
        )
        self.unpaced = counter(
            "unpaced_calls_total", "Calls let through unpaced because Redis was away."
        )
        # Usage
        self.tokens = counter(
            "tokens_total",
            "Tokens billed by providers; what was read from or written to a cache is part of the "
            "input.",
            of.PROVIDER,
            model,
            of.CREDENTIAL,
            of.DIRECTION,
        )
        self.cached_tokens = counter(
            "cached_tokens_total",
            "Tokens of the input that the provider read from or wrote to its prompt cache.",
            of.PROVIDER,
            of.CREDENTIAL,
            of.CACHE,
        )
        self.cost = counter(
            "cost_usd_total", "Cost of calls in dollars.", of.PROVIDER, model, of.CREDENTIAL
        )
        self.unpriced = counter(
            "unpriced_calls_total", "Calls whose model has no known price.", of.PROVIDER
        )
        self.usage_rows = counter(
            "usage_rows_total", "Usage rows taken by the aggregator.", of.RECORDED
        )
        self.usage_lag = seconds(
            "usage_lag",
            "From a usage row written to its place on the ledger, by the oldest of each batch.",
            _WAIT_SECONDS,
        )
        self.relayed = counter("outbox_relayed_total", "Outbox rows sent on.", of.OUTBOX_KIND)
        # What is kept for a while
        self.erased = counter(
            "erased_total",
            "What was erased because it had been kept for as long as the settings say: rows, "
            "out-events, and months of the ledger.",
            of.KEPT,
        )
        self.erased_last = latest(
            "erased_last_run_timestamp_seconds",
            "When a scheduler last looked for what is to be erased, and found nothing more (Unix "
            "time).",
            of.KEPT,
        )
        # What goes wrong inside
        self.takeovers = counter("lease_takeovers_total", "Dead processes taken over.")
        self.unknown_attempts = counter(
            "attempts_unknown_total", "Attempts whose answer was lost, so that it may be billed."
        )
        self.late_answers = counter(
            "late_answers_total", "Answers that came after their attempt was given up."
        )
        self.sweep_failures = counter(
            "sweep_failures_total", "Sweeps of the scheduler that failed.", of.SWEEP
        )
        self.vault_failures = counter(
            "vault_failures_total", "Stored values that do not open.", of.UNOPENED
        )
        self.outages = counter(
            "outage_waits_total",
            "Times a worker had to wait for what was away, with its message in hand.",
            of.OUTAGE,
        )
        self.replaced = counter(
            "label_values_replaced_total",
            "Values counted as `other` because their label's set does not name them.",
            label("metric", *_names_of(self)),
        )
        self.budget.replaced = self._note_replaced

    def _note_replaced(self, metric: str, name: str) -> None:
        # Model names come from requests: any number of them are unknown, and nothing is wrong.
        if name != "model" and metric != self.replaced.name:
            self.replaced.labels(metric).inc()

    def all(self) -> list[Bounded[Any]]:
        """All instruments, in the order of their documentation."""
        return [made for made in vars(self).values() if isinstance(made, Bounded)]


def _names_of(instruments: Instruments) -> list[str]:
    return [made.name for made in instruments.all()]


def open_instruments(directory: Path | None, models: Iterable[str] = ()) -> Instruments:
    """The instruments of this process, shared through `directory`, or private without one.

    The client library picks its storage when it is first imported, from an environment variable;
    choosing it here instead keeps the order of imports from mattering.
    """
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        values.ValueClass = values.MultiProcessValue(claim_identity(directory))
    else:
        values.ValueClass = values.MutexValue
    return Instruments(CollectorRegistry(), models)
