"""One look at the system as plain values: what `byok top --json` prints and the view draws."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from events import Provider
from events.broker import BrokerAway
from metrics import gauges
from metrics.gauges import Gauge, Reading
from store.engine import is_unavailable
from workers.app import App
from workers.cli.pause import described_pauses
from workers.cli.top.counted import Since
from workers.gauges import Gauges
from workers.queues import ALL_QUEUES


class Look:
    """The gauges as they stand now, part by part; a part that is away is left out."""

    def __init__(self, read: Gauges) -> None:
        self.away: dict[str, str] = {}
        self._samples: dict[str, dict[tuple[str, ...], float]] = {}
        for part, source in (
            ("broker", read.read_broker),
            ("database", read.read_database),
            ("database", read.read_counts),
            ("redis", read.read_redis),
        ):
            self._add(part, source)

    def _add(self, part: str, source: Callable[[], Sequence[Reading]]) -> None:
        if part in self.away:
            return
        try:
            readings = source()
        except Exception as error:
            if not (isinstance(error, BrokerAway | OSError) or is_unavailable(error)):
                raise
            self.away[part] = type(error).__name__
            return
        for reading in readings:
            self._samples.setdefault(reading.gauge.name, {}).update(reading.samples)

    def value(self, gauge: Gauge, *labels: str) -> float | None:
        """One value, or `None` where its part is away or does not tell."""
        return self._samples.get(gauge.name, {}).get(labels)

    def by(self, gauge: Gauge) -> dict[tuple[str, ...], float]:
        """All values of a gauge that are not 0."""
        return {labels: n for labels, n in self._samples.get(gauge.name, {}).items() if n}


def described(app: App, look: Look, since: Since, counted_from: str | None) -> dict[str, Any]:
    """What there is to see. Counts are whole numbers, ages in seconds, rates a second."""
    pauses = [] if "database" in look.away else described_pauses(app)
    paused = {(one["kind"], one["name"]) for one in pauses}
    return {
        "at": datetime.fromtimestamp(app.effects.now_ms() / 1000, tz=UTC).isoformat(),
        "away": look.away,
        "counted_from": counted_from,
        "processes": {role: int(n) for (role,), n in look.by(gauges.PROCESSES).items()},
        "queues": [_queue(look, since, queue, paused) for queue in ALL_QUEUES],
        "analyses": _analyses(look, since),
        "providers": [_provider(look, since, provider.value, paused) for provider in Provider],
        "keys": [
            {"provider": provider, "status": status, "reason": reason, "keys": int(count)}
            for (provider, status, reason), count in sorted(look.by(gauges.KEYS).items())
        ],
        "lag": _lag(look),
        "kept_too_long_seconds": {
            kind: seconds for (kind,), seconds in sorted(look.by(gauges.KEPT_TOO_LONG).items())
        },
        "budgets": [
            {"scope": scope, "state": state, "budgets": int(count)}
            for (scope, state), count in sorted(look.by(gauges.BUDGETS).items())
        ],
        "platform_budget_share": look.value(gauges.PLATFORM_BUDGET),
        "set_aside": {
            f"{queue}: {reason}": int(n)
            for (queue, reason), n in sorted(look.by(gauges.SET_ASIDE).items())
        },
        "pauses": pauses,
    }


def _queue(look: Look, since: Since, queue: str, paused: set[tuple[str, str]]) -> dict[str, Any]:
    ages = [look.value(gauges.QUEUE_AGE, queue, place) for place in ("broker", "store")]
    known = [age for age in ages if age is not None]
    return {
        "queue": queue,
        "paused": ("queue", queue) in paused,
        "waiting": _whole(look.value(gauges.QUEUE_DEPTH, queue, "broker")),
        "taken": _whole(look.value(gauges.QUEUE_DEPTH, queue, "taken")),
        "due_in_store": _whole(look.value(gauges.QUEUE_DEPTH, queue, "store")),
        "oldest_seconds": max(known) if known else None,
        "taken_per_second": since.per_second("byok_message_duration_seconds_count", queue=queue),
        "mean_wait_seconds": since.mean("byok_queue_wait_seconds", queue=queue),
    }


def _analyses(look: Look, since: Since) -> dict[str, Any]:
    return {
        "running": sum(int(n) for n in look.by(gauges.RUNNING).values()),
        "waiting": {reason: int(n) for (reason,), n in sorted(look.by(gauges.WAITING).items())},
        "oldest_seconds": max(look.by(gauges.WAITING_AGE).values(), default=0.0),
        "ended_per_second": {
            outcome: since.per_second("byok_analyses_total", outcome=outcome)
            for outcome in ("completed", "failed", "skipped")
        },
        "answered_without_call_share": _answered_without_call(since),
        "mean_seconds": since.mean("byok_analysis_duration_seconds", outcome="completed"),
        "unknown_attempts": _whole(look.value(gauges.UNKNOWN)),
        "tokens_per_second": since.per_second("byok_tokens_total"),
        "cost_usd_per_hour": _times(since.per_second("byok_cost_usd_total"), 3600),
    }


def _answered_without_call(since: Since) -> float | None:
    """What part of the completed were answered by rules or reuse; `None` where none completed."""
    by = {
        answer: since.per_second("byok_analyses_total", outcome="completed", answered_by=answer)
        for answer in ("rules", "reuse", "model")
    }
    all_ = sum(rate or 0.0 for rate in by.values())
    return (all_ - (by["model"] or 0.0)) / all_ if all_ else None


def _provider(
    look: Look, since: Since, provider: str, paused: set[tuple[str, str]]
) -> dict[str, Any]:
    states = [state for (name, state), n in look.by(gauges.BREAKER).items() if name == provider]
    calls = since.per_second("byok_provider_calls_total", provider=provider)
    fine = since.per_second("byok_provider_calls_total", provider=provider, outcome="ok")
    return {
        "provider": provider,
        "paused": ("provider", provider) in paused,
        "breaker": states[0] if states else None,
        "running": sum(
            int(n) for (name, _), n in look.by(gauges.RUNNING).items() if name == provider
        ),
        "calls_per_second": calls,
        "errors_per_second": None if calls is None or fine is None else max(0.0, calls - fine),
        "mean_call_seconds": since.mean("byok_provider_call_duration_seconds", provider=provider),
        "validations_per_second": since.per_second("byok_key_validations_total", provider=provider),
        "validations_due": _whole(look.value(gauges.VALIDATIONS_DUE, provider)),
        "validations_late": _whole(look.value(gauges.VALIDATIONS_LATE, provider)),
    }


def _lag(look: Look) -> list[dict[str, Any]]:
    return [
        {
            "outbox": kind,
            "rows": int(count),
            "oldest_seconds": look.value(gauges.OUTBOX_AGE, kind),
        }
        for (kind,), count in sorted(look.by(gauges.OUTBOX_ROWS).items())
    ]


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
