"""How budgets stand: how many are near their cap or used up, for the gauges and the doctor."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Connection

from store import accounts, budgets, months
from workers.app import App

NEAR = "near"
USED_UP = "used_up"

_HOUR_MS = 3_600_000
_EARLIEST_HOURS, _LATEST_HOURS = 12, 14
"""How far time zones are behind UTC and before it."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """How many budgets are in a state, by (scope, state), and how the platform's stands.

    `platform_share` is what part of it is used in this month; 0 where there is none.
    """

    states: Mapping[tuple[str, str], int]
    platform_share: float
    platform_state: str | None


def budget_states(app: App, connection: Connection, now: int) -> Budgets:
    """How the budgets of the present month stand; a plain read."""
    this = months.name(months.of_ms(now))
    named = {
        this,
        months.name(months.of_ms(now - _EARLIEST_HOURS * _HOUR_MS)),
        months.name(months.of_ms(now + _LATEST_HOURS * _HOUR_MS)),
    }
    counted: Counter[tuple[str, str]] = Counter()
    platform_state: str | None = None
    platform = app.settings.platform_budget_usd
    cap = None if platform is None else int(platform * accounts.NANO)
    for one in budgets.reached(connection, sorted(named)):
        is_platform = one.scope == budgets.PLATFORM
        state = _state(app, one, cap if is_platform else one.cap_nano_usd)
        present = this if is_platform else accounts.local_date(one.timezone or "UTC", now)[:7]
        if state is None or one.month != present:
            continue
        counted[one.scope.partition(":")[0], state] += 1
        if is_platform:
            platform_state = state
    used = budgets.standing(connection, budgets.PLATFORM, this).used
    return Budgets(counted, used / cap if cap else 0.0, platform_state)


def _state(app: App, reached: budgets.Reached, cap: int | None) -> str | None:
    """The state of a budget by its cap as it is now; `None` where enough is left, or it is none."""
    if cap is None:
        return None
    refused_at = reached.refused_cap_nano_usd
    # Less may be left than a call may cost; a cap that was raised since lets it through again.
    if reached.used_nano_usd >= cap or (refused_at is not None and cap <= refused_at):
        return USED_UP
    near = reached.used_nano_usd >= cap * Decimal(str(app.settings.budget_soft_share))
    return NEAR if near else None
