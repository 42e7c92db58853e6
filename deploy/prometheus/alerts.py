"""Alerts on symptoms: what users or operators feel, each with its runbook page."""

from collections.abc import Iterator
from dataclasses import dataclass

from deploy.prometheus.clock import Clock
from deploy.prometheus.objectives import Rule

PAGE = "page"
TICKET = "ticket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. In `when`, `{w:5m}` is a window of that length, `{a:5m}` an age in seconds."""

    name: str
    when: str
    summary: str
    severity: str
    for_: str = "0s"

    def rule(self, clock: Clock) -> Rule:
        """The alert as Prometheus reads it."""
        return {
            "alert": f"Byok{self.name}",
            "expr": _timed(self.when, clock),
            **({} if self.for_ == "0s" else {"for": clock.wait(self.for_)}),
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "runbook": f"docs/runbooks/{self.name}.md",
            },
        }


class _Timed:
    """Formats `{w:5m}` and the like."""

    def __init__(self, clock: Clock, kind: str) -> None:
        self._clock = clock
        self._kind = kind

    def __format__(self, duration: str) -> str:
        clock = self._clock
        return clock.window(duration) if self._kind == "w" else clock.age(duration)


def _timed(text: str, clock: Clock) -> str:
    # Braces of PromQL are doubled by writing its selectors with `<` and `>`.
    marked = text.replace("<<", "{{").replace(">>", "}}")
    return marked.format(w=_Timed(clock, "w"), a=_Timed(clock, "a"))


ALERTS = (
    Alert(
        name="NoWorker",
        when='max(byok_processes<<role="worker">>) < 1',
        for_="1m",
        severity=PAGE,
        summary="No worker process holds a lease: nothing is taken from the queues.",
    ),
    Alert(
        name="NoScheduler",
        when='max(byok_processes<<role="scheduler">>) < 1',
        for_="2m",
        severity=PAGE,
        summary="No scheduler holds a lease: what waits is not sent on, usage does not arrive.",
    ),
    Alert(
        name="ExporterDown",
        when='max(up<<job="byok">>) < 1 or absent(up<<job="byok">>)',
        for_="2m",
        severity=PAGE,
        summary="No exporter can be scraped: every other alert is blind.",
    ),
    Alert(
        name="BrokerDown",
        when='max(byok_up<<part="broker">>) < 1',
        for_="1m",
        severity=PAGE,
        summary="The message queue cannot be reached: nothing new is taken.",
    ),
    Alert(
        name="DatabaseDown",
        when='max(byok_up<<part="database">>) < 1',
        for_="1m",
        severity=PAGE,
        summary="The database cannot be reached: workers wait with their messages in hand.",
    ),
    Alert(
        name="RedisDown",
        when='max(byok_up<<part="redis">>) < 1',
        for_="2m",
        severity=PAGE,
        summary="Redis cannot be reached: calls go unpaced and out-events wait.",
    ),
    Alert(
        name="ChangesStuck",
        when=(
            "max by (queue) (byok_queue_oldest_age_seconds"
            '<<place="broker",queue=~"accounts|keys">>) > {a:1m}'
        ),
        for_="1m",
        severity=PAGE,
        summary="On the queue {{ $labels.queue }} a consent, plan, key or removal waits for "
        "{{ $value | humanizeDuration }}.",
    ),
    Alert(
        name="QueueStuck",
        when=(
            "max by (queue) (byok_queue_oldest_age_seconds"
            '<<place="broker",queue!~"accounts|keys">>) > {a:5m}'
        ),
        for_="2m",
        severity=PAGE,
        summary="On the queue {{ $labels.queue }} a message waits for "
        "{{ $value | humanizeDuration }}.",
    ),
    Alert(
        name="OutboxStuck",
        when='max by (kind) (byok_outbox_oldest_age_seconds<<kind=~"event|usage">>) > {a:5m}',
        for_="2m",
        severity=PAGE,
        summary="A row of kind {{ $labels.kind }} is in the outbox for "
        "{{ $value | humanizeDuration }}: out-events or usage do not arrive.",
    ),
    Alert(
        name="ProviderDown",
        when='max by (provider) (byok_provider_breaker<<state="closed">>) < 1',
        for_="5m",
        severity=TICKET,
        summary="{{ $labels.provider }} is out: its analyses wait, or move to another key.",
    ),
    Alert(
        name="ProviderErrors",
        when=(
            "sum by (provider) (rate(byok_provider_calls_total"
            '<<outcome=~"unavailable|bad_answer">>[{w:15m}]))\n'
            "/ sum by (provider) (rate(byok_provider_calls_total[{w:15m}])) > 0.1\n"
            "and sum by (provider) (increase(byok_provider_calls_total[{w:15m}])) > 20"
        ),
        for_="5m",
        severity=TICKET,
        summary="{{ $value | humanizePercentage }} of the calls of {{ $labels.provider }} bring "
        "no usable answer.",
    ),
    Alert(
        name="PlatformKeyRefused",
        when=(
            "max by (reason) (byok_analyses_waiting"
            '<<reason=~"platform_key_refused|platform_no_quota">>) > 0'
        ),
        severity=PAGE,
        summary="A provider refuses the platform's key ({{ $labels.reason }}): {{ $value }} "
        "analyses on platform credits wait.",
    ),
    Alert(
        name="KeysTurnInvalid",
        when=(
            "sum by (provider) (increase("
            'byok_key_status_changes_total<<status="invalid">>[{w:15m}])) > 10\n'
            "and sum by (provider) (increase("
            'byok_key_status_changes_total<<status="invalid">>[{w:15m}]))\n'
            "> 0.05 * sum by (provider) (max by (provider, status, reason) (byok_keys))"
        ),
        severity=PAGE,
        summary="{{ $value | humanize }} keys of {{ $labels.provider }} turned Invalid within 15 "
        "minutes.",
    ),
    Alert(
        name="ValidationsLate",
        when="max by (provider) (byok_key_validations_late) > 0",
        for_="15m",
        severity=TICKET,
        summary="The validations of {{ $value }} keys of {{ $labels.provider }} are late.",
    ),
    Alert(
        name="StoredValuesDoNotOpen",
        when="sum by (reason) (increase(byok_vault_failures_total[{w:15m}])) > 0",
        severity=PAGE,
        summary="Stored keys or inputs do not open ({{ $labels.reason }}).",
    ),
    Alert(
        name="MessagesFailInside",
        when=(
            "max by (queue, reason) (byok_set_aside_messages"
            '<<reason=~"internal_error|vault_unreadable">>) > 0'
        ),
        severity=PAGE,
        summary="{{ $value }} good messages of {{ $labels.queue }} are set aside by a fault of "
        "ours ({{ $labels.reason }}).",
    ),
    Alert(
        name="MessagesSetAside",
        when=(
            "sum by (queue, reason) (increase(byok_set_aside_total"
            '<<reason!~"internal_error|vault_unreadable">>[{w:15m}])) > 20'
        ),
        severity=TICKET,
        summary="{{ $value | humanize }} messages of {{ $labels.queue }} were set aside within 15 "
        "minutes ({{ $labels.reason }}).",
    ),
    Alert(
        name="WorkersDie",
        when="sum(increase(byok_lease_takeovers_total[{w:15m}])) > 1",
        severity=PAGE,
        summary="{{ $value | humanize }} processes died or hung within 15 minutes.",
    ),
    Alert(
        name="AnswersLost",
        when="sum(increase(byok_attempts_unknown_total[{w:30m}])) > 5",
        severity=TICKET,
        summary="The answers of {{ $value | humanize }} calls were lost within 30 minutes; each "
        "may have been billed.",
    ),
    Alert(
        name="RequestsHeld",
        when='max(byok_analyses_waiting<<reason="unknown_attempt_held">>) > 0',
        for_="10m",
        severity=TICKET,
        summary="{{ $value }} analyses are held because the answer of a call was lost.",
    ),
    Alert(
        name="SweepsFail",
        when="sum by (sweep) (increase(byok_sweep_failures_total[{w:10m}])) > 5",
        severity=TICKET,
        summary="The scheduler's sweep {{ $labels.sweep }} fails.",
    ),
    Alert(
        name="UsageConflicts",
        when='sum(increase(byok_usage_rows_total<<outcome="conflicting">>[{w:1h}])) > 0',
        severity=TICKET,
        summary="Usage rows came twice with different content: the ledger has the first.",
    ),
    Alert(
        name="CallsUnpriced",
        when="sum by (provider) (increase(byok_unpriced_calls_total[{w:1h}])) > 0",
        severity=TICKET,
        summary="Calls of {{ $labels.provider }} are on the ledger with a cost of 0: their model "
        "has no known price.",
    ),
    Alert(
        name="PlatformCostJumps",
        when=(
            'sum(rate(byok_cost_usd_total<<credential="platform">>[{w:1h}])) * 3600 > 1\n'
            'and sum(rate(byok_cost_usd_total<<credential="platform">>[{w:1h}]))\n'
            '> 3 * sum(rate(byok_cost_usd_total<<credential="platform">>[{w:1h}] offset {w:1d}))'
        ),
        for_="15m",
        severity=TICKET,
        summary="The platform's keys cost {{ $value | humanize }} dollars an hour, more than "
        "three times what they did a day ago.",
    ),
    Alert(
        name="PlatformBudgetNear",
        when='max(byok_budgets<<scope="platform",state="near">>) > 0',
        severity=TICKET,
        summary="The platform's budget of this month is nearly used: beyond it, analyses on "
        "platform credits are skipped.",
    ),
    Alert(
        name="PlatformBudgetUsedUp",
        when='max(byok_budgets<<scope="platform",state="used_up">>) > 0',
        severity=PAGE,
        summary="The platform's budget of this month is used up: analyses on platform credits are "
        "skipped until the month ends or the budget is raised.",
    ),
    Alert(
        name="BudgetsHoldBack",
        when=(
            'sum by (scope) (increase(byok_budget_refused_total<<scope=~"key|account">>[{w:1h}])) '
            "> 20"
        ),
        severity=TICKET,
        summary="{{ $value | humanize }} analyses were skipped within an hour because a budget of "
        "their {{ $labels.scope }} is used up.",
    ),
    Alert(
        name="KeptTooLong",
        when="max by (kind) (byok_kept_too_long_seconds) > {a:1d}",
        severity=TICKET,
        summary="{{ $labels.kind }} are kept for {{ $value | humanizeDuration }} longer than the "
        "settings say.",
    ),
    Alert(
        name="PauseForgotten",
        when="max by (kind, name) (byok_paused_seconds) > {a:4h}",
        severity=TICKET,
        summary="The {{ $labels.kind }} {{ $labels.name }} is paused for "
        "{{ $value | humanizeDuration }}.",
    ),
    Alert(
        name="RulesAnswerLess",
        when=(
            "byok:answered_without_call:share1h\n"
            "< 0.5 * (byok:answered_without_call:share1h offset {w:1d})\n"
            'and sum(increase(byok_analyses_total<<outcome="completed">>[{w:1h}])) > 100'
        ),
        for_="15m",
        severity=TICKET,
        summary="{{ $value | humanizePercentage }} of the analyses are answered by rules or reuse, "
        "less than half of what it was a day ago: the rest is paid for.",
    ),
    Alert(
        name="LabelValuesUnknown",
        when="sum by (metric) (increase(byok_label_values_replaced_total[{w:1h}])) > 0",
        severity=TICKET,
        summary="{{ $labels.metric }} counts as `other` what its labels do not name.",
    ),
)


def symptom_alerts(clock: Clock) -> Iterator[Rule]:
    """All alerts on symptoms."""
    for alert in ALERTS:
        yield alert.rule(clock)
