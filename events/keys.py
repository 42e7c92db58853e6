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
    provider: Provider
    key_id: Identifier
    sealed_key: str = Field(
        min_length=1, max_length=20_000, pattern=r"^v1\.[A-Za-z0-9._:@+-]+\.[A-Za-z0-9_-]+$"
    )
    allow_platform_fallback: Flag = False
    budget_usd: Decimal | None = Field(default=None, ge=0, max_digits=12, decimal_places=2)


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
    key_id: Identifier
    allow_platform_fallback: Flag
    budget_usd: Decimal | None = Field(default=None, ge=0, max_digits=12, decimal_places=2)


class KeyTested(EventData):
    """The account asks for a key to be validated again."""

    event_type: ClassVar[str] = "byok.key.tested.v1"
    queue: ClassVar[str] = KEYS_QUEUE

    key_id: Identifier


class KeyRemoved(EventData):
    """The account removed its key: what is stored of it is destroyed."""

    event_type: ClassVar[str] = "byok.key.removed.v1"
    queue: ClassVar[str] = KEYS_QUEUE

    revision: Revision
    provider: Provider
    key_id: Identifier


class KeyStatusChanged(EventData):
    """Out: a key moved from one status or reason to another."""

    event_type: ClassVar[str] = "byok.key.status_changed.v1"
    queue: ClassVar[str] = ""

    key_id: Identifier
    provider: Provider
    old: KeyStatus | None
    new: KeyStatus
    reason: str
    revision: Revision
