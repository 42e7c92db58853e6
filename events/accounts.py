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

    start: AwareDatetime
    end: AwareDatetime

    @model_validator(mode="after")
    def _ordered(self) -> "CreditPeriod":
        if self.end <= self.start:
            raise ValueError("a credit period ends after it starts")
        return self


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class CustomCategory(_Part):
    """A category, urgency or sentiment of the account's own. Data only, never evaluated."""

    type: Literal["category", "urgency", "sentiment"]
    key: Slug
    display_name: ShortText
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    definition_prompt: Annotated[str, StringConstraints(max_length=1000)] = ""
    keywords: tuple[ShortText, ...] = Field(default=(), max_length=50)
    sender_patterns: tuple[ShortText, ...] = Field(default=(), max_length=50)
    positive_examples: tuple[ShortText, ...] = Field(default=(), max_length=20)
    negative_examples: tuple[ShortText, ...] = Field(default=(), max_length=20)
    confidence_threshold: int = Field(default=50, ge=50, le=95, description="per cent")
    priority: int = Field(default=50, ge=1, le=100, description="the higher is tried first")
    enabled: bool = True


class CategoryOverride(_Part):
    """A built-in category, urgency or sentiment that the account edited or disabled.

    What is null stays as it is built in. All but `description` and `enabled` came later: accounts
    that are stored do without.
    """

    type: Literal["category", "urgency", "sentiment"]
    key: Slug
    display_name: ShortText | None = None
    description: Annotated[str, StringConstraints(max_length=500)] | None = None
    definition_prompt: Annotated[str, StringConstraints(max_length=1000)] | None = None
    keywords: tuple[ShortText, ...] | None = Field(default=None, max_length=50)
    sender_patterns: tuple[ShortText, ...] | None = Field(default=None, max_length=50)
    positive_examples: tuple[ShortText, ...] | None = Field(default=None, max_length=20)
    negative_examples: tuple[ShortText, ...] | None = Field(default=None, max_length=20)
    confidence_threshold: int | None = Field(default=None, ge=50, le=95, description="per cent")
    priority: int | None = Field(default=None, ge=1, le=100, description="the higher comes first")
    enabled: bool = True


class AccountUpdated(EventData):
    """The whole state of an account, as the system of record has it at `revision`."""

    event_type: ClassVar[str] = "byok.account.updated.v1"
    queue: ClassVar[str] = ACCOUNTS_QUEUE

    revision: Revision
    plan: Slug
    plan_status: PlanStatus = PlanStatus.ACTIVE
    ai_consent: Flag
    credits: Annotated[int, Strict()] | None = Field(
        ge=0, le=2**53 - 1, description="null: unlimited"
    )
    credit_period: CreditPeriod
    timezone: str = "UTC"
    custom_categories: tuple[CustomCategory, ...] = Field(default=(), max_length=100)
    category_overrides: tuple[CategoryOverride, ...] = Field(default=(), max_length=100)
    budget_usd: Decimal | None = Field(default=None, ge=0, max_digits=12, decimal_places=2)

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
