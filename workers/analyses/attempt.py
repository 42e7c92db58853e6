"""An attempt: what its completion needs to know of its claim."""

from dataclasses import dataclass, field
from typing import Literal

from events import Operation, Provider
from store.analyses import Request
from store.vault import WrappedKey
from workers.analyses.operations import Result
from workers.billing import Owner
from workers.providers.port import Answer

KEY_UNREADABLE = "key_unreadable"
"""The code of an attempt that was not sent because the stored key does not open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An attempt that was claimed, as its completion needs to know it."""

    account_id: str
    request_id: str
    operation: Operation
    provider: Provider
    model: str
    key_id: str | None
    key_revision: int | None
    key_validation: int | None
    """The number of the key's last validation when the attempt was claimed."""
    fallback: str | None
    attempt: int
    budgeted: bool = False
    """Whether what the call may cost is reserved of a budget."""
    reuse_digest: bytes | None = field(default=None, repr=False)
    """What the result may be reused for: by what was asked, so it is fixed when that is."""

    @property
    def credential(self) -> Literal["byok", "platform"]:
        """Whose key pays."""
        return "byok" if self.key_id else "platform"


@dataclass(frozen=True, slots=True)
class Success:
    """An answer that fits the schema and the vocabulary."""

    answer: Answer
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Straight:
    """What was read for a claim, from which its result can be written without reading again.

    `account_version` is as in `store.calls.Scene`, `request` as it stands after the claim.
    """

    request: Request
    account_version: str | None
    owner: Owner
    data_key: WrappedKey
