"""What the rest of the system knows of a provider: one question in, one outcome out.

An adapter never raises for what a provider or the network does: every way in which a call can
end is an `Answer` or a `Failure`. That keeps exceptions of the SDKs, which carry requests and
therefore keys (see `docs/security.md`), inside the adapter.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Protocol

from pydantic import BaseModel, SecretStr

from events.keys import Provider


class OutcomeClass(StrEnum):
    """What an answer means, whoever gave it."""

    OK = "ok"
    REJECTED = "rejected"
    RESTRICTED = "restricted"
    FORBIDDEN = "forbidden"
    MODEL_UNAVAILABLE = "model_unavailable"
    RATE_LIMITED = "rate_limited"
    NO_QUOTA = "no_quota"
    UNAVAILABLE = "unavailable"
    BAD_REQUEST = "bad_request"
    BAD_ANSWER = "bad_answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens as the provider counted them. `input` includes cached reads and cache writes."""

    input: int = 0
    cached_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is left of the key's rate limits, from the answer's headers; `None` where not said.

    `reset_requests` and `reset_tokens` are seconds from the answer on.
    """

    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests: float | None = None
    reset_tokens: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One structured question.

    `system` is the stable part (it comes first, so that providers can cache it), `user` is the
    part that differs, `schema` is what the answer must look like, `timeout` is in seconds.
    """

    model: str
    system: str = field(repr=False)
    user: str = field(repr=False)
    schema: type[BaseModel]
    max_output_tokens: int = 1024
    timeout: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The provider answered, and the answer fits the schema."""

    value: BaseModel = field(repr=False)
    model: str
    tokens: Tokens
    request_id: str | None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The provider or the network did not give a usable answer.

    `code` is the provider's own error code where it is a known one, else a code of ours; never
    the provider's message, which can hold a piece of the key. `retry_after` is in seconds.
    `tokens` is set where the provider billed the call all the same (a refusal, an answer off
    the schema or cut short).
    `sent` is false only where it is certain that no byte of the request reached the provider.
    """

    kind: OutcomeClass
    code: str
    status: int | None = None
    retry_after: float | None = None
    request_id: str | None = None
    model: str | None = None
    tokens: Tokens | None = None
    limits: Limits = field(default_factory=Limits)
    sent: bool = True

    @property
    def is_lost(self) -> bool:
        """Whether it was sent and its answer did not come, or is unreadable: it may be billed."""
        return self.sent and self.tokens is None and self.status in (None, HTTPStatus.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A key was accepted by a probe. `tokens` is set where the probe was billed."""

    stage: int
    request_id: str | None
    model: str | None = None
    tokens: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Undecided:
    """What is free does not tell whether a key works: only a call that is billed does."""


class ProviderClient(Protocol):
    """One provider. Safe to share between threads' coroutines on one event loop."""

    name: Provider

    async def ask(self, key: SecretStr, question: Question) -> Answer | Failure:
        """Ask `question`, paid by `key`. Never raises but `CancelledError`."""
        ...

    async def probe(
        self, key: SecretStr, *, model: str, prove_quota: bool = False
    ) -> Proof | Failure | Undecided:
        """Find out whether `key` works, as far as that can be known for nothing.

        Stage 1 is `GET /v1/models`. Where it cannot tell (a key with restricted scopes), or where
        `prove_quota` asks for more, stage 2 is for `spend`, unless something free tells as much.
        Never raises but `CancelledError`.
        """
        ...

    async def spend(self, key: SecretStr, *, model: str) -> Proof | Failure:
        """Stage 2: the smallest real call on `model`. It is billed, so it is noted before.

        Never raises but `CancelledError`.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
