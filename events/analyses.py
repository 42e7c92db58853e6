"""Events about e-mail analyses, and the mail or thread as it travels inside a seal."""

import re
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from events.envelope import EventData, Identifier
from events.keys import Provider

ANALYSES_QUEUE = "analyses"

RULE_HEADERS = (
    "Auto-Submitted",
    "List-Id",
    "List-Unsubscribe",
    "Precedence",
    "Return-Path",
    "Content-Type",
)
"""The only headers that travel with a mail: those that the rules for machine mail read."""


MODEL_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", re.ASCII)
"""What a provider's model may be called."""


class Operation(StrEnum):
    """A kind of AI operation."""

    CLASSIFY = "classify"
    SUMMARIZE = "summarize"
    REPLY = "reply"
    THREAD_STATE = "thread_state"


class ProviderChoice(StrEnum):
    """Which provider a request asks for; `auto` leaves it to the rules."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    AUTO = "auto"


class MailInput(BaseModel):
    """A mail as named fields: never raw MIME, never attachments.

    `from`, `to`, `cc` are address lists as they stand in the header, decoded.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True
    )

    subject: str = Field(default="", description="The subject, decoded.")
    sender: str = Field(default="", alias="from", description="The header `From`, decoded.")
    to: str = Field(default="", description="The header `To`, decoded.")
    cc: str = Field(default="", description="The header `Cc`, decoded.")
    date: str = Field(default="", description="The header `Date`, as it stands.")
    text: str = Field(default="", description="The body's plain text.")
    html: str = Field(default="", description="The body's HTML; read where `text` says too little.")
    headers: dict[Literal[RULE_HEADERS], str] = Field(  # type: ignore[valid-type]
        default_factory=dict,
        description="Headers that rules for machine mail read, as they stand.",
    )

    def to_json(self) -> bytes:
        """The bytes that are sealed."""
        return self.model_dump_json(by_alias=True).encode()


MAX_THREAD_MESSAGES = 200
"""A thread's messages. Those of a longer one that matter for its state are the newest."""


class ThreadMessage(BaseModel):
    """One message of a thread: who wrote to whom, when and what. `text` is plain, without HTML."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True
    )

    sender: str = Field(default="", alias="from", description="The header `From`, decoded.")
    to: str = Field(default="", description="The header `To`, decoded.")
    cc: str = Field(default="", description="The header `Cc`, decoded.")
    date: str = Field(default="", description="The header `Date`, as it stands.")
    text: str = Field(default="", description="The body's plain text.")


class ThreadInput(BaseModel):
    """A thread as its reader has it: the messages, oldest first, and the reader's own address.

    The address tells which messages are the reader's. Subjects do not travel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    own_address: str = Field(
        min_length=3, max_length=320, description="The address of the reader: whose mailbox it is."
    )
    messages: tuple[ThreadMessage, ...] = Field(
        min_length=1, max_length=MAX_THREAD_MESSAGES, description="The messages, oldest first."
    )

    def to_json(self) -> bytes:
        """The bytes that are sealed."""
        return self.model_dump_json(by_alias=True).encode()


AnalysisInput = MailInput | ThreadInput
"""What is sealed for an analysis: a thread for `thread_state`, a mail for the others."""


class AnalysisRequested(EventData):
    """Analyse a mail or a thread. `sealed_input` is made by `events.seal_input`."""

    event_type: ClassVar[str] = "byok.analysis.requested.v1"
    queue: ClassVar[str] = ANALYSES_QUEUE

    request_id: Identifier = Field(
        description="The request's id, of your making. The same id again is the same request."
    )
    operation: Operation = Field(description="What to do.")
    provider: ProviderChoice = Field(
        default=ProviderChoice.AUTO, description="Whom to ask; `auto`: by the account's keys."
    )
    model: str | None = Field(
        default=None,
        max_length=100,
        pattern=MODEL_NAME.pattern,
        description="A model of the provider; null: the one that is configured for the operation.",
    )
    sealed_input: str = Field(
        min_length=1,
        pattern=r"^v1\.[A-Za-z0-9._:@+-]+\.[A-Za-z0-9_-]+$",
        description="`sealed.mail`, or `sealed.thread` for `thread_state`, sealed to the workers' "
        "public key: `v1.<id of that>.<base64url>`.",
    )
    expires_at: AwareDatetime | None = Field(
        default=None,
        description="After this it ends as failed, reason `expired`; null: it waits on.",
    )


class CallUsage(BaseModel):
    """What the call took that gave a result; all zero where none was made.

    `input_tokens` include what was read from the provider's cache and written to it, `cached_share`
    is the part of them that was read. `output_tokens` include the reasoning. Cost is in
    nano-dollars, 0 and not `priced` where the model has no known price. `latency_ms` is the call's.
    What earlier attempts of the request were billed is on the ledger alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    input_tokens: int = Field(default=0, description="Tokens that went in, cached ones with them.")
    cached_read_tokens: int = Field(
        default=0, description="Those of them that were read from the provider's cache."
    )
    cache_write_tokens: int = Field(
        default=0, description="Those of them that were written to the provider's cache."
    )
    cached_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="`cached_read_tokens` by `input_tokens`; 0 where none went in.",
    )
    output_tokens: int = Field(default=0, description="Tokens that came out, reasoning with them.")
    reasoning_tokens: int = Field(default=0, description="Those of them that were reasoning.")
    cost_nano_usd: int = Field(
        default=0, description="What the call cost, in nano-dollars: 1,000,000,000 are a US dollar."
    )
    priced: bool = Field(default=True, description="Whether the model has a known price.")
    latency_ms: int = Field(default=0, description="How long the call took, in milliseconds.")


class Provenance(BaseModel):
    """Where a result comes from.

    `by` is what answered: a model, the rules for machine mail, or an earlier result (that of
    `reused_from`). `credential` says whose key paid; with a fallback to the platform's,
    `fallback_reason` says why the own key did not. `key_id`, `provider` and `model` are those of
    the call; `prompt_version` is also that of a reused result. `attempts` counts the calls that
    were begun.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    by: Literal["model", "rules", "reuse"] = Field(description="What answered.")
    credential: Literal["byok", "platform", "none"] = Field(
        description="Whose key paid: the account's own, the platform's, or nobody's."
    )
    key_id: str | None = Field(default=None, description="The account's key that paid.")
    provider: Provider | None = Field(default=None, description="Who was asked.")
    model: str | None = Field(default=None, description="The model that was asked.")
    fallback_reason: str | None = Field(
        default=None,
        description="Why the platform's key paid and not the account's own, as a code.",
    )
    prompt_version: str | None = Field(
        default=None, description="The version of the question: `classify-1`."
    )
    attempts: int = Field(default=0, description="How many calls were begun for the request.")
    usage: CallUsage = Field(
        default=CallUsage(), description="What the call took that gave the result."
    )
    reused_from: str | None = Field(
        default=None, description="The id of the request whose result this is, where `by` is reuse."
    )


class AnalysisCompleted(EventData):
    """Out: what an analysis found. `result` holds its signals.

    Free text (a summary, a draft) is in it only as `sealed_text`, a JSON object sealed to the
    subscriber's key with `events.sealing.text_info`; where there is no such key it is left out.
    """

    event_type: ClassVar[str] = "byok.analysis.completed.v1"
    queue: ClassVar[str] = ""

    request_id: Identifier = Field(description="The request that is answered.")
    operation: Operation = Field(description="What was done.")
    result: dict[str, Any] = Field(
        description="The signals, which differ by operation: `docs/events.md` has each."
    )
    sealed_text: str | None = Field(
        default=None,
        description="Free text, sealed to BYOK_SUBSCRIBER_PUBLIC_KEY; null without one.",
    )
    provenance: Provenance = Field(description="Where the result comes from.")


class AnalysisFailed(EventData):
    """Out: a request ended without a result."""

    event_type: ClassVar[str] = "byok.analysis.failed.v1"
    queue: ClassVar[str] = ""

    request_id: Identifier = Field(description="The request that failed.")
    reason: str = Field(description="Why, as a code: `key_invalid`, `expired`, `bad_answer`, …")
    retryable: bool = Field(description="Whether the same request, under a new id, may succeed.")


class AnalysisSkipped(EventData):
    """Out: a request was not run, by a rule of the product (consent, credits)."""

    event_type: ClassVar[str] = "byok.analysis.skipped.v1"
    queue: ClassVar[str] = ""

    request_id: Identifier = Field(description="The request that was not run.")
    reason: str = Field(description="Which rule, as a code: `consent`, `credits`, `budget`, …")
    retryable: bool = Field(
        description="Whether it can run, under a new id, once the rule lets it."
    )


class ProviderHealthChanged(EventData):
    """Out: calls of a provider are held back, or go on. Its `subject` is `byok`, for all."""

    event_type: ClassVar[str] = "byok.provider.health_changed.v1"
    queue: ClassVar[str] = ""

    provider: Provider = Field(description="Whose calls.")
    healthy: bool = Field(description="Whether calls go on.")
    since: AwareDatetime = Field(description="When that began, with its time zone.")
    reason: str = Field(description="`calls fail`, or `answers again`.")


class FallbackUsed(EventData):
    """Out: an operation ran on the platform's key though the account has its own."""

    event_type: ClassVar[str] = "byok.fallback.used.v1"
    queue: ClassVar[str] = ""

    request_id: Identifier = Field(description="The request that the platform's key paid for.")
    provider: Provider = Field(description="Whose key of the platform it was.")
    reason: str = Field(description="Why the account's own key did not pay, as a code.")
