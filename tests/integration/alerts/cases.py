"""For each alert what Prometheus sees when it must fire, and what when it must be quiet."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Series = Mapping[str, str]
"""The values of each series, a minute apart, in promtool's notation (`0+1x10` counts up)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One alert: it fires on `firing` with `labels`, and not on any of `quiet`, at `at`."""

    firing: Series
    quiet: tuple[Series, ...]
    severity: str = "page"
    labels: Mapping[str, str] = field(default_factory=dict)
    at: str = "40m"


def _analyses(good: float, bad: float, verdict: str = "bad") -> Series:
    return {
        'byok_analysis_verdicts_total{verdict="good"}': _rising(good),
        f'byok_analysis_verdicts_total{{verdict="{verdict}"}}': _rising(bad),
    }


def _slow(all_: float, quick: float) -> Series:
    name, labels = "byok_analysis_duration_seconds", 'operation="classify",outcome="completed"'
    return {
        f"{name}_count{{{labels}}}": _rising(all_),
        f'{name}_bucket{{{labels},le="60.0"}}': _rising(quick),
    }


def _late(all_: float, quick: float) -> Series:
    return {
        'byok_queue_wait_seconds_count{queue="keys"}': _rising(all_),
        'byok_queue_wait_seconds_bucket{queue="keys",le="5.0"}': _rising(quick),
        # What waits elsewhere is no change that somebody waits for.
        'byok_queue_wait_seconds_count{queue="analyses"}': _rising(100),
        'byok_queue_wait_seconds_bucket{queue="analyses",le="5.0"}': _rising(0),
    }


def _rising(each: float) -> str:
    return f"0+{each:g}x500"


def _steady(value: float) -> str:
    return f"{value:g}x60"


def _part(name: str) -> Case:
    return Case(
        firing={f'byok_up{{part="{name}"}}': _steady(0)},
        quiet=(
            {f'byok_up{{part="{name}"}}': _steady(1)},
            # One of two exporters reaches it, or it comes back at once.
            {
                f'byok_up{{part="{name}",instance="a"}}': _steady(0),
                f'byok_up{{part="{name}",instance="b"}}': _steady(1),
            },
            {f'byok_up{{part="{name}"}}': "1x38 0 1x20"},
        ),
    )


def _role(name: str) -> Case:
    return Case(
        firing={f'byok_processes{{role="{name}"}}': _steady(0)},
        quiet=(
            {f'byok_processes{{role="{name}"}}': _steady(1)},
            {f'byok_processes{{role="{name}"}}': "1x38 0 1x20"},
        ),
    )


def _invalid(each: float, keys: float) -> Series:
    return {
        'byok_key_status_changes_total{provider="openai",status="invalid",reason="rejected"}': (
            f"0x30 0+{each:g}x30"
        ),
        'byok_keys{provider="openai",status="valid",reason="ok",instance="a"}': _steady(keys),
        'byok_keys{provider="openai",status="valid",reason="ok",instance="b"}': _steady(keys),
    }


def _budget(scope: str, state: str, count: float = 1) -> Series:
    return {f'byok_budgets{{scope="{scope}",state="{state}"}}': _steady(count)}


def _answered(by_rules: str, by_model: str = "0+4x1700") -> Series:
    name = "byok_analyses_total"
    return {
        f'{name}{{outcome="completed",answered_by="rules"}}': by_rules,
        f'{name}{{outcome="completed",answered_by="model"}}': by_model,
        # What did not complete was not answered at all.
        f'{name}{{outcome="failed",answered_by="none"}}': "0+4x1700",
    }


_LONG = "7h"

CASES: dict[str, Case] = {
    # A fault in 5 of 100 is ten times the budget; in 10, twenty times; in 1, twice.
    "ByokAnalysesFailFast": Case(
        firing=_analyses(90, 10),
        quiet=(
            _analyses(96, 4),
            _analyses(90, 10, verdict="excused"),
            _analyses(0.01, 0.01),
            _analyses(0, 0),
        ),
        at="2h",
    ),
    "ByokAnalysesFail": Case(
        firing=_analyses(95, 5),
        quiet=(_analyses(98, 2), _analyses(90, 10, "excused")),
        at=_LONG,
    ),
    "ByokAnalysesFailSlowly": Case(
        firing=_analyses(99, 1), quiet=(_analyses(999, 1),), severity="ticket", at=_LONG
    ),
    "ByokAnalysesSlowFast": Case(firing=_slow(100, 80), quiet=(_slow(100, 90),), at="2h"),
    "ByokAnalysesSlow": Case(firing=_slow(100, 90), quiet=(_slow(100, 96),), at=_LONG),
    "ByokAnalysesSlowSlowly": Case(
        firing=_slow(100, 98), quiet=(_slow(1000, 999),), severity="ticket", at=_LONG
    ),
    "ByokChangesWaitFast": Case(firing=_late(100, 98), quiet=(_late(100, 99),), at="2h"),
    "ByokChangesWait": Case(firing=_late(100, 99), quiet=(_late(1000, 996),), at=_LONG),
    "ByokChangesWaitSlowly": Case(
        firing=_late(1000, 998), quiet=(_late(10_000, 9_995),), severity="ticket", at=_LONG
    ),
    "ByokNoWorker": _role("worker"),
    "ByokNoScheduler": _role("scheduler"),
    "ByokExporterDown": Case(
        firing={'up{job="byok",instance="a"}': _steady(0)},
        quiet=(
            {'up{job="byok",instance="a"}': _steady(1)},
            {'up{job="byok",instance="a"}': _steady(0), 'up{job="byok",instance="b"}': _steady(1)},
            {'up{job="byok",instance="a"}': "1x38 0 1x20"},
        ),
    ),
    "ByokBrokerDown": _part("broker"),
    "ByokDatabaseDown": _part("database"),
    "ByokRedisDown": _part("redis"),
    "ByokChangesStuck": Case(
        firing={'byok_queue_oldest_age_seconds{queue="keys",place="broker"}': "0+60x60"},
        quiet=(
            {'byok_queue_oldest_age_seconds{queue="keys",place="broker"}': _steady(50)},
            {'byok_queue_oldest_age_seconds{queue="keys",place="store"}': "0+60x60"},
            {'byok_queue_oldest_age_seconds{queue="analyses",place="broker"}': "0+60x60"},
        ),
        labels={"queue": "keys"},
    ),
    "ByokQueueStuck": Case(
        firing={'byok_queue_oldest_age_seconds{queue="analyses",place="broker"}': "0+60x60"},
        quiet=(
            {'byok_queue_oldest_age_seconds{queue="analyses",place="broker"}': _steady(290)},
            {'byok_queue_oldest_age_seconds{queue="keys",place="broker"}': "0+60x60"},
        ),
        labels={"queue": "analyses"},
    ),
    "ByokOutboxStuck": Case(
        firing={'byok_outbox_oldest_age_seconds{kind="usage"}': "0+60x60"},
        quiet=(
            {'byok_outbox_oldest_age_seconds{kind="usage"}': _steady(200)},
            {'byok_outbox_oldest_age_seconds{kind="rewrite"}': "0+60x60"},
        ),
        labels={"kind": "usage"},
    ),
    "ByokProviderDown": Case(
        firing={'byok_provider_breaker{provider="openai",state="closed"}': "1x20 0x40"},
        quiet=(
            {'byok_provider_breaker{provider="openai",state="closed"}': _steady(1)},
            {'byok_provider_breaker{provider="openai",state="closed"}': "1x37 0x2 1x30"},
        ),
        severity="ticket",
        labels={"provider": "openai"},
    ),
    "ByokProviderErrors": Case(
        firing={
            'byok_provider_calls_total{provider="openai",outcome="ok"}': "0+80x60",
            'byok_provider_calls_total{provider="openai",outcome="unavailable"}': "0+20x60",
        },
        quiet=(
            {
                'byok_provider_calls_total{provider="openai",outcome="ok"}': "0+95x60",
                'byok_provider_calls_total{provider="openai",outcome="unavailable"}': "0+5x60",
            },
            # A user's own refused keys are no fault of the provider's.
            {'byok_provider_calls_total{provider="openai",outcome="rejected"}': "0+20x60"},
            {'byok_provider_calls_total{provider="openai",outcome="unavailable"}': "0+0.5x60"},
        ),
        severity="ticket",
        labels={"provider": "openai"},
    ),
    "ByokPlatformKeyRefused": Case(
        firing={'byok_analyses_waiting{reason="platform_key_refused"}': "0x38 1x10"},
        quiet=(
            {'byok_analyses_waiting{reason="platform_key_refused"}': _steady(0)},
            {'byok_analyses_waiting{reason="rate_limited"}': _steady(9)},
        ),
        labels={"reason": "platform_key_refused"},
    ),
    "ByokKeysTurnInvalid": Case(
        firing=_invalid(2, 100),
        quiet=(_invalid(0.5, 100), _invalid(2, 10_000)),
        labels={"provider": "openai"},
    ),
    "ByokValidationsLate": Case(
        firing={'byok_key_validations_late{provider="openai"}': "0x10 3x40"},
        quiet=(
            {'byok_key_validations_late{provider="openai"}': _steady(0)},
            {'byok_key_validations_late{provider="openai"}': "0x35 3x40"},
        ),
        severity="ticket",
        labels={"provider": "openai"},
    ),
    "ByokStoredValuesDoNotOpen": Case(
        firing={'byok_vault_failures_total{reason="DoesNotOpen"}': "0x35 1x20"},
        quiet=(
            {'byok_vault_failures_total{reason="DoesNotOpen"}': _steady(7)},
            {'byok_vault_failures_total{reason="DoesNotOpen"}': "0x10 1x50"},
        ),
        labels={"reason": "DoesNotOpen"},
    ),
    "ByokMessagesFailInside": Case(
        firing={'byok_set_aside_messages{queue="keys",reason="internal_error"}': "0x39 1x9"},
        quiet=(
            {'byok_set_aside_messages{queue="keys",reason="internal_error"}': _steady(0)},
            {'byok_set_aside_messages{queue="keys",reason="not_json"}': _steady(5)},
        ),
        labels={"queue": "keys", "reason": "internal_error"},
    ),
    "ByokMessagesSetAside": Case(
        firing={'byok_set_aside_total{queue="keys",reason="not_json"}': "0x30 0+3x30"},
        quiet=(
            {'byok_set_aside_total{queue="keys",reason="not_json"}': "0x30 0+1x30"},
            {'byok_set_aside_total{queue="keys",reason="internal_error"}': "0+3x60"},
        ),
        severity="ticket",
        labels={"queue": "keys", "reason": "not_json"},
    ),
    "ByokWorkersDie": Case(
        firing={"byok_lease_takeovers_total": "0x30 1 2 3x30"},
        quiet=({"byok_lease_takeovers_total": "0x30 1x30"}, {"byok_lease_takeovers_total": "9x60"}),
    ),
    "ByokAnswersLost": Case(
        firing={"byok_attempts_unknown_total": "0x30 0+1x30"},
        quiet=(
            {"byok_attempts_unknown_total": "0x30 4x30"},
            {"byok_attempts_unknown_total": "90x60"},
        ),
        severity="ticket",
    ),
    "ByokRequestsHeld": Case(
        firing={'byok_analyses_waiting{reason="unknown_attempt_held"}': "0x10 2x40"},
        quiet=(
            {'byok_analyses_waiting{reason="unknown_attempt_held"}': _steady(0)},
            {'byok_analyses_waiting{reason="unknown_attempt_held"}': "0x38 2x40"},
        ),
        severity="ticket",
    ),
    "ByokSweepsFail": Case(
        firing={'byok_sweep_failures_total{sweep="relay_usage"}': "0+1x60"},
        quiet=({'byok_sweep_failures_total{sweep="relay_usage"}': "0x35 3x30"},),
        severity="ticket",
        labels={"sweep": "relay_usage"},
    ),
    "ByokUsageConflicts": Case(
        firing={'byok_usage_rows_total{outcome="conflicting"}': "0x30 1x30"},
        quiet=({'byok_usage_rows_total{outcome="repeated"}': "0+9x60"},),
        severity="ticket",
    ),
    "ByokCallsUnpriced": Case(
        firing={'byok_unpriced_calls_total{provider="openai"}': "0x30 1x30"},
        quiet=({'byok_unpriced_calls_total{provider="openai"}': _steady(4)},),
        severity="ticket",
        labels={"provider": "openai"},
    ),
    "ByokPlatformCostJumps": Case(
        firing={'byok_cost_usd_total{credential="platform"}': "0+0.01x1500 15+1x180"},
        quiet=(
            {'byok_cost_usd_total{credential="platform"}': "0+1x1700"},
            {'byok_cost_usd_total{credential="platform"}': "0+0.0001x1500 0.15+0.01x180"},
            {'byok_cost_usd_total{credential="byok"}': "0+0.01x1500 15+1x180"},
        ),
        severity="ticket",
        at="1560m",
    ),
    "ByokPlatformBudgetNear": Case(
        firing=_budget("platform", "near"),
        quiet=(
            _budget("platform", "near", 0),
            _budget("platform", "used_up"),
            _budget("account", "near"),
        ),
        severity="ticket",
    ),
    "ByokPlatformBudgetUsedUp": Case(
        firing=_budget("platform", "used_up"),
        quiet=(
            _budget("platform", "used_up", 0),
            _budget("platform", "near"),
            _budget("key", "used_up"),
        ),
    ),
    "ByokBudgetsHoldBack": Case(
        firing={'byok_budget_refused_total{scope="account"}': "0x30 0+3x30"},
        quiet=(
            {'byok_budget_refused_total{scope="account"}': "0x30 0+1x30"},
            {'byok_budget_refused_total{scope="key"}': "500x60"},
            {'byok_budget_refused_total{scope="platform"}': "0+9x60"},
        ),
        severity="ticket",
        labels={"scope": "account"},
    ),
    "ByokKeptTooLong": Case(
        firing={'byok_kept_too_long_seconds{kind="requests"}': _steady(90_000)},
        quiet=(
            {'byok_kept_too_long_seconds{kind="requests"}': _steady(80_000)},
            {'byok_kept_too_long_seconds{kind="requests"}': _steady(0)},
        ),
        severity="ticket",
        labels={"kind": "requests"},
    ),
    "ByokPauseForgotten": Case(
        firing={'byok_paused_seconds{kind="provider",name="openai"}': "13000+60x60"},
        quiet=(
            {'byok_paused_seconds{kind="provider",name="openai"}': "0+60x60"},
            {'byok_paused_seconds{kind="provider",name="openai"}': "15000+60x35 0x20"},
        ),
        severity="ticket",
        labels={"kind": "provider", "name": "openai"},
    ),
    "ByokRulesAnswerLess": Case(
        firing=_answered("0+6x1450 8700+1x200"),
        quiet=(
            _answered("0+6x1700"),
            _answered("0+6x1450 8700+4x200"),
            # So few that chance decides.
            _answered("0+0.006x1450 8.7+0.001x200", "0+0.004x1700"),
        ),
        severity="ticket",
        at="1560m",
    ),
    "ByokLabelValuesUnknown": Case(
        firing={'byok_label_values_replaced_total{metric="byok_keys"}': "0x30 1x30"},
        quiet=({'byok_label_values_replaced_total{metric="byok_keys"}': _steady(0)},),
        severity="ticket",
        labels={"metric": "byok_keys"},
    ),
}
