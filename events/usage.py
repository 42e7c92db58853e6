"""The inside event that carries ledger rows from the outbox to the aggregator."""

from decimal import Decimal
from typing import Any, ClassVar, Literal

from pydantic import Field

from events.envelope import EventData

USAGE_QUEUE = "usage"
MAX_ROWS_PER_MESSAGE = 500
"""Rows packed into one message; at some 450 bytes a row this stays below the event limit."""


class UsageRecorded(EventData):
    """Ledger rows, each as `store.ledger.LedgerRow.to_json` writes it. Inside the system alone.

    A row is its JSON text: that is signed as one string and not field by field, which takes
    a tenth of the time. An object is read too, as messages in flight from before have it.
    """

    event_type: ClassVar[str] = "byok.usage.recorded.v1"
    queue: ClassVar[str] = USAGE_QUEUE

    rows: tuple[str | dict[str, Any], ...] = Field(
        min_length=1,
        max_length=MAX_ROWS_PER_MESSAGE,
        description="Ledger rows as JSON text; as objects in messages in flight from before.",
    )


class CreditsExhausted(EventData):
    """Out: the account's allowance for the period is used up. Once per period."""

    event_type: ClassVar[str] = "byok.credits.exhausted.v1"
    queue: ClassVar[str] = ""

    period_start: str = Field(
        description="The first moment of the credit period: Unix time in milliseconds, as text."
    )
    limit: int = Field(description="How many requests the allowance was for.")


class BudgetReached(EventData):
    """Out: a monthly budget is reached; once a month for each. The platform's `subject` is `byok`.

    `reason` is `soft_limit` where the share of the budget is used from which this is told, and
    `hard_limit` where a request was skipped because not enough is left for it. `month` is YYYY-MM,
    by the account's calendar, and by UTC for the platform.
    """

    event_type: ClassVar[str] = "byok.budget.reached.v1"
    queue: ClassVar[str] = ""

    scope: Literal["key", "account", "platform"] = Field(description="Whose budget it is.")
    key_id: str | None = Field(default=None, description="The key, where the budget is a key's.")
    month: str = Field(description="The calendar month, YYYY-MM.")
    budget_usd: Decimal = Field(description="The budget of a month, in US dollars.")
    spent_usd: Decimal = Field(description="What was billed in the month, in US dollars.")
    reason: Literal["soft_limit", "hard_limit"] = Field(
        description="Whether it is nearly used up, or a request was skipped for it."
    )


class EventRejected(EventData):
    """Out: an event of upstream was refused."""

    event_type: ClassVar[str] = "byok.event.rejected.v1"
    queue: ClassVar[str] = ""

    event_id: str = Field(description="The `id` of the event that was refused.")
    reason: str = Field(
        description="Why, as a code; `byok contract refusals` has all with their sentences."
    )
