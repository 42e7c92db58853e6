"""Events about accounts: plan, consent, credits, custom categories."""

from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, ClassVar, Literal
from zoneinfo import available_timezones

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    field_validator,
    model_validator,
)

from events.envelope import EventData, Flag, Revision

ACCOUNTS_QUEUE = "accounts"


@lru_cache
def _timezones() -> frozenset[str]:
    # Looking through the machine's database takes 29 ms of CPU.
    return frozenset(available_timezones())


class PlanStatus(StrEnum):
    """Where an account stands with its plan."""

    ACTIVE = "active"
    TRIAL = "trial"
    PAST_DUE = "past_due"
    CANCELED = "canceled"
    FREE = "free"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class CreditPeriod(_Part):
    """The period that an allowance of credits is for; `end` is not part of it."""

    start: AwareDatetime = Field(description="The first moment of the period, with its time zone.")
    end: AwareDatetime = Field(description="The first moment after the period, with its time zone.")

    @model_validator(mode="after")
    def _ordered(self) -> "CreditPeriod":
        if self.end <= self.start:
            raise ValueError("a credit period ends after it starts")
        return self


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class CustomCategory(_Part):
    """A category, urgency or sentiment of the account's own. Data only, never evaluated."""

    type: Literal["category", "urgency", "sentiment"] = Field(description="What it is one of.")
    key: Slug = Field(description="What results call it; none that is built in.")
    display_name: ShortText = Field(description="Its name as the account reads it.")
    description: str = Field(
        default="", max_length=500, description="What mail it is for, in the account's words."
    )
    definition_prompt: str = Field(
        default="",
        max_length=1000,
        description="A fuller definition; the model gets it as data, never as an instruction.",
    )
    keywords: tuple[ShortText, ...] = Field(
        default=(), max_length=50, description="Words that speak for it."
    )
    sender_patterns: tuple[ShortText, ...] = Field(
        default=(),
        max_length=50,
        description="Senders that speak for it: an address, a domain, or a part of one.",
    )
    positive_examples: tuple[ShortText, ...] = Field(
        default=(), max_length=20, description="Subjects of mail that fits."
    )
    negative_examples: tuple[ShortText, ...] = Field(
        default=(), max_length=20, description="Subjects of mail that does not fit."
    )
    confidence_threshold: int = Field(
        default=50, ge=50, le=95, description="Per cent; it counts from this confidence on."
    )
    priority: int = Field(default=50, ge=1, le=100, description="Of two, the higher comes first.")
    enabled: bool = Field(default=True, description="Whether it counts.")


class CategoryOverride(_Part):
    """A built-in category, urgency or sentiment that the account edited or disabled.

    What is null stays as it is built in. All but `description` and `enabled` came later: accounts
    that are stored do without.
    """

    type: Literal["category", "urgency", "sentiment"] = Field(description="What it is one of.")
    key: Slug = Field(description="The built-in's key.")
    display_name: ShortText | None = Field(
        default=None, description="Its name as the account reads it."
    )
    description: Annotated[str, StringConstraints(max_length=500)] | None = Field(
        default=None, description="What mail it is for, in the account's words."
    )
    definition_prompt: Annotated[str, StringConstraints(max_length=1000)] | None = Field(
        default=None,
        description="A fuller definition; the model gets it as data, never as an instruction.",
    )
    keywords: tuple[ShortText, ...] | None = Field(
        default=None, max_length=50, description="Words that speak for it."
    )
    sender_patterns: tuple[ShortText, ...] | None = Field(
        default=None,
        max_length=50,
        description="Senders that speak for it: an address, a domain, or a part of one.",
    )
    positive_examples: tuple[ShortText, ...] | None = Field(
        default=None, max_length=20, description="Subjects of mail that fits."
    )
    negative_examples: tuple[ShortText, ...] | None = Field(
        default=None, max_length=20, description="Subjects of mail that does not fit."
    )
    confidence_threshold: int | None = Field(
        default=None, ge=50, le=95, description="Per cent; it counts from this confidence on."
    )
    priority: int | None = Field(
        default=None, ge=1, le=100, description="Of two, the higher comes first."
    )
    enabled: bool = Field(default=True, description="Whether it counts.")


class AccountUpdated(EventData):
    """The whole state of an account, as the system of record has it at `revision`."""

    event_type: ClassVar[str] = "byok.account.updated.v1"
    queue: ClassVar[str] = ACCOUNTS_QUEUE

    revision: Revision
    plan: Slug = Field(
        description="The plan; BYOK_PLANS says which ones include keys of one's own."
    )
    plan_status: PlanStatus = Field(
        default=PlanStatus.ACTIVE, description="Where the account stands with its plan."
    )
    ai_consent: Flag = Field(
        description="Whether its owner has agreed that mails go to a provider; else none does."
    )
    credits: Annotated[int, Strict()] | None = Field(
        ge=0,
        le=2**53 - 1,
        description="Requests that the platform pays for in the period; null: unlimited.",
    )
    credit_period: CreditPeriod = Field(description="The period that `credits` are for.")
    timezone: str = Field(
        default="UTC",
        description="The zone of its days and months, by the IANA database: `Europe/Berlin`.",
    )
    custom_categories: tuple[CustomCategory, ...] = Field(
        default=(),
        max_length=100,
        description="Words of its own to describe mail with; they count with BYOK_CATEGORY_PLANS.",
    )
    category_overrides: tuple[CategoryOverride, ...] = Field(
        default=(), max_length=100, description="Built-in words that it changed, with any plan."
    )
    budget_usd: Decimal | None = Field(
        default=None,
        ge=0,
        max_digits=12,
        decimal_places=2,
        description="US dollars that its calls may cost in a calendar month of `timezone`, "
        "whosever key pays; null: no cap.",
    )

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        if name not in _timezones():
            raise ValueError("not a time zone of the IANA database")
        return name


class AccountDeleted(EventData):
    """The account is gone: its keys, results and personal data are destroyed."""

    event_type: ClassVar[str] = "byok.account.deleted.v1"
    queue: ClassVar[str] = ACCOUNTS_QUEUE

    revision: Revision
