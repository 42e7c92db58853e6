"""The usage card, answered from the daily rollups alone."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

from sqlalchemy import Connection, select

from store.accounts import NANO
from store.ledger import NOTHING
from store.schema import daily_usage

BYOK = "byok"
PLATFORM = "platform"


@dataclass(slots=True)
class Sums:
    """What a day, or the whole window, adds up to. Cost is in nano-dollars."""

    operations: int = 0
    byok_operations: int = 0
    platform_operations: int = 0
    tokens: int = 0
    cost_nano_usd: int = 0

    @property
    def cost_usd(self) -> Decimal:
        """The cost in dollars, exact."""
        return Decimal(self.cost_nano_usd) / NANO


@dataclass(slots=True)
class UsageCard:
    """The usage card of one account over a window of days.

    Shares are between 0 and 1, over the operations that had a credential; `byok_share` is `None`
    before an own key was used.
    """

    first_day: str
    last_day: str
    total: Sums = field(default_factory=Sums)
    by_day: dict[str, Sums] = field(default_factory=dict)
    by_provider: dict[str, int] = field(default_factory=dict)

    @property
    def byok_share(self) -> float | None:
        """The share of operations that ran on the account's own keys."""
        paid = self.total.byok_operations + self.total.platform_operations
        return self.total.byok_operations / paid if self.total.byok_operations else None

    @property
    def provider_distribution(self) -> dict[str, float]:
        """The share of operations that each provider ran."""
        paid = sum(self.by_provider.values())
        return {name: count / paid for name, count in sorted(self.by_provider.items())}


def card(connection: Connection, surrogate: str | None, today: str, days: int) -> UsageCard:
    """The card over the last `days` calendar days, `today` (YYYY-MM-DD) being the last."""
    last = date.fromisoformat(today)
    window = [(last - timedelta(days=back)).isoformat() for back in reversed(range(days))]
    result = UsageCard(first_day=window[0], last_day=today, by_day={day: Sums() for day in window})
    rows = connection.execute(
        select(daily_usage).where(
            daily_usage.c.surrogate == (surrogate or ""),
            daily_usage.c.local_date.between(window[0], today),
        )
    )
    for row in rows:
        for sums in (result.total, result.by_day[row.local_date]):
            sums.operations += row.operations
            sums.tokens += row.input_tokens + row.output_tokens
            sums.cost_nano_usd += row.cost_nano_usd
            if row.credential == BYOK:
                sums.byok_operations += row.operations
            elif row.credential == PLATFORM:
                sums.platform_operations += row.operations
        if row.provider != NOTHING and row.operations:
            result.by_provider[row.provider] = (
                result.by_provider.get(row.provider, 0) + row.operations
            )
    return result
