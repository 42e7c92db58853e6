"""The usage card, answered from the daily rollups alone."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, select

from store.accounts import NANO
from store.ledger import NOTHING, cached_share
from store.schema import daily_usage

BYOK = "byok"
PLATFORM = "platform"
CREDENTIALS = (BYOK, PLATFORM, NOTHING)
"""Whose key paid; `none` of what rules or an earlier result answered."""


@dataclass(slots=True)
class Sums:
    """What a day, a part or the whole window adds up to. Cost is in nano-dollars.

    What was read from or written to a cache is part of the input, thinking is part of the output.
    """

    operations: int = 0
    byok_operations: int = 0
    platform_operations: int = 0
    calls: int = 0
    input_tokens: int = 0
    cached_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0
    byok_cost_nano_usd: int = 0
    platform_cost_nano_usd: int = 0
    unpriced_calls: int = 0

    @property
    def tokens(self) -> int:
        """Tokens used: input and output."""
        return self.input_tokens + self.output_tokens

    @property
    def unpaid_operations(self) -> int:
        """Operations that needed no call: by rules, by reuse."""
        return self.operations - self.byok_operations - self.platform_operations

    @property
    def cached_share(self) -> float:
        """The part of the input tokens that was read from a provider's cache, from 0 to 1."""
        return cached_share(self.cached_read_tokens, self.input_tokens)

    @property
    def cost_usd(self) -> Decimal:
        """The cost in dollars, exact."""
        return usd(self.cost_nano_usd)

    def add(self, row: Row[Any]) -> None:
        """Add a rollup row."""
        self.operations += row.operations
        self.calls += row.calls
        self.input_tokens += row.input_tokens
        self.cached_read_tokens += row.cached_read_tokens
        self.cache_write_tokens += row.cache_write_tokens
        self.output_tokens += row.output_tokens
        self.reasoning_tokens += row.reasoning_tokens
        self.cost_nano_usd += row.cost_nano_usd
        self.unpriced_calls += row.unpriced_calls
        if row.credential == BYOK:
            self.byok_operations += row.operations
            self.byok_cost_nano_usd += row.cost_nano_usd
        elif row.credential == PLATFORM:
            self.platform_operations += row.operations
            self.platform_cost_nano_usd += row.cost_nano_usd


def usd(nano_usd: int) -> Decimal:
    """Nano-dollars in dollars, exact."""
    return Decimal(nano_usd) / NANO


Part = tuple[str, str, str, str, str]
"""A day, operation, provider, model and credential."""


@dataclass(slots=True)
class UsageCard:
    """The usage card of one account over a window of days.

    Shares are between 0 and 1, over the operations that had a credential; `byok_share` is `None`
    before an own key was used. `by_part` is the finest there is: whatever else is on the card is a
    sum over it.
    """

    first_day: str
    last_day: str
    total: Sums = field(default_factory=Sums)
    by_day: dict[str, Sums] = field(default_factory=dict)
    by_operation: dict[str, Sums] = field(default_factory=dict)
    by_provider: dict[str, Sums] = field(default_factory=dict)
    by_model: dict[tuple[str, str], Sums] = field(default_factory=dict)
    by_credential: dict[str, Sums] = field(default_factory=dict)
    by_part: dict[Part, Sums] = field(default_factory=dict)

    @property
    def byok_share(self) -> float | None:
        """The share of operations that ran on the account's own keys."""
        paid = self.total.byok_operations + self.total.platform_operations
        return self.total.byok_operations / paid if self.total.byok_operations else None

    @property
    def provider_distribution(self) -> dict[str, float]:
        """The share of operations that each provider ran."""
        ran = {name: sums.operations for name, sums in self.by_provider.items() if sums.operations}
        paid = sum(ran.values())
        return {name: count / paid for name, count in sorted(ran.items())}

    @property
    def empty(self) -> bool:
        """Whether nothing happened in the window: no operation, and nothing that was billed."""
        return not self.by_part


def card(connection: Connection, surrogate: str | None, today: str, days: int) -> UsageCard:
    """The card over the last `days` calendar days, `today` (YYYY-MM-DD) being the last."""
    last = date.fromisoformat(today)
    window = [(last - timedelta(days=back)).isoformat() for back in reversed(range(days))]
    result = UsageCard(first_day=window[0], last_day=today, by_day={day: Sums() for day in window})
    rows = connection.execute(
        select(daily_usage)
        .where(
            daily_usage.c.surrogate == (surrogate or ""),
            daily_usage.c.local_date.between(window[0], today),
        )
        .order_by(*daily_usage.primary_key)
    )
    for row in rows:
        part = (row.local_date, row.operation, row.provider, row.model, row.credential)
        result.total.add(row)
        result.by_day[row.local_date].add(row)
        result.by_operation.setdefault(row.operation, Sums()).add(row)
        result.by_credential.setdefault(row.credential, Sums()).add(row)
        result.by_part.setdefault(part, Sums()).add(row)
        if row.provider != NOTHING:
            result.by_provider.setdefault(row.provider, Sums()).add(row)
            result.by_model.setdefault((row.provider, row.model), Sums()).add(row)
    return result
