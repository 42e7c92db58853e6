"""Events about users' provider keys."""

from decimal import Decimal
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from events.envelope import EventData, Flag, Identifier, Revision

KEYS_QUEUE = "keys"


class Provider(StrEnum):
    """A provider whose keys can be connected. There is no other."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class KeyStatus(StrEnum):
    """What is known of a key."""

    PENDING = "pending"
    VALID = "valid"
    INVALID = "invalid"
    REMOVED = "removed"


class _KeyGiven(EventData):
    queue: ClassVar[str] = KEYS_QUEUE

    revision: Revision
    provider: Provider = Field(description="Whose key it is.")
    key_id: Identifier = Field(
        description="The key's id, of your making: it names this key, for this account and "
        "provider, for ever."
    )
    sealed_key: str = Field(
        min_length=1,
        max_length=20_000,
        pattern=r"^v1\.[A-Za-z0-9._:@+-]+\.[A-Za-z0-9_-]+$",
        description="The key, sealed to the workers' public key: `v1.<id of that>.<base64url>`.",
    )
    allow_platform_fallback: Flag = Field(
        default=False,
        description="Whether the platform's key may pay, with credits, where this one cannot.",
    )
    budget_usd: Decimal | None = Field(
        default=None,
        ge=0,
        max_digits=12,
        decimal_places=2,
        description="US dollars that calls with the key may cost in a calendar month of the "
        "account's time zone; null: no cap.",
    )


class KeyAdded(_KeyGiven):
    """An account connected a key. `sealed_key` is made by `events.seal_key`."""

    event_type: ClassVar[str] = "byok.key.added.v1"


class KeyReplaced(_KeyGiven):
    """An account swapped in a new key, under a new key id."""

    event_type: ClassVar[str] = "byok.key.replaced.v1"


class KeyUpdated(EventData):
    """The settings of a key changed, the key itself did not."""

    event_type: ClassVar[str] = "byok.key.updated.v1"
    queue: ClassVar[str] = KEYS_QUEUE

    revision: Revision
    key_id: Identifier = Field(description="The key whose settings these are.")
    allow_platform_fallback: Flag = Field(
        description="Whether the platform's key may pay, with credits, where this one cannot."
    )
    budget_usd: Decimal | None = Field(
        default=None,
        ge=0,
        max_digits=12,
        decimal_places=2,
        description="US dollars that calls with the key may cost in a calendar month of the "
        "account's time zone; null: no cap.",
    )


class KeyTested(EventData):
    """The account asks for a key to be validated again."""

    event_type: ClassVar[str] = "byok.key.tested.v1"
    queue: ClassVar[str] = KEYS_QUEUE

    key_id: Identifier = Field(description="The key to ask the provider about.")


class KeyRemoved(EventData):
    """The account removed its key: what is stored of it is destroyed."""

    event_type: ClassVar[str] = "byok.key.removed.v1"
    queue: ClassVar[str] = KEYS_QUEUE

    revision: Revision
    provider: Provider = Field(description="Whose key it was.")
    key_id: Identifier = Field(description="The key that is removed.")


class KeyStatusChanged(EventData):
    """Out: a key moved from one status or reason to another."""

    event_type: ClassVar[str] = "byok.key.status_changed.v1"
    queue: ClassVar[str] = ""

    key_id: Identifier = Field(description="The key that it is about.")
    provider: Provider = Field(description="Whose key it is.")
    old: KeyStatus | None = Field(description="What was known before; null for a key that is new.")
    new: KeyStatus = Field(description="What is known now.")
    reason: str = Field(
        description="Why, as a code: `ok`, `no_quota`, `rejected`, `revoked`, `restricted`, … "
        "Empty while it is pending; with `plan_without_byok` the key is kept and not used."
    )
    revision: Revision = Field(description="The revision of the event that gave the key.")
