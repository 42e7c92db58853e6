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

    subject: str = ""
    sender: str = Field(default="", alias="from")
    to: str = ""
    cc: str = ""
    date: str = ""
    text: str = ""
    html: str = ""
    headers: dict[Literal[RULE_HEADERS], str] = Field(default_factory=dict)  # type: ignore[valid-type]

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

    sender: str = Field(default="", alias="from")
    to: str = ""
    cc: str = ""
    date: str = ""
    text: str = ""


class ThreadInput(BaseModel):
    """A thread as its reader has it: the messages, oldest first, and the reader's own address.

    The address tells which messages are the reader's. Subjects do not travel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    own_address: str = Field(min_length=3, max_length=320)
    messages: tuple[ThreadMessage, ...] = Field(min_length=1, max_length=MAX_THREAD_MESSAGES)

    def to_json(self) -> bytes:
        """The bytes that are sealed."""
        return self.model_dump_json(by_alias=True).encode()


AnalysisInput = MailInput | ThreadInput
"""What is sealed for an analysis: a thread for `thread_state`, a mail for the others."""


class AnalysisRequested(EventData):
    """Analyse a mail or a thread. `sealed_input` is made by `events.seal_input`."""

    event_type: ClassVar[str] = "byok.analysis.requested.v1"
    queue: ClassVar[str] = ANALYSES_QUEUE

    request_id: Identifier
    operation: Operation
    provider: ProviderChoice = ProviderChoice.AUTO
    model: str | None = Field(default=None, max_length=100, pattern=MODEL_NAME.pattern)
    sealed_input: str = Field(min_length=1, pattern=r"^v1\.[A-Za-z0-9._:@+-]+\.[A-Za-z0-9_-]+$")
    expires_at: AwareDatetime | None = None


class CallUsage(BaseModel):
    """What the call took that gave a result; all zero where none was made.

    `input_tokens` include what was read from the provider's cache and written to it, `cached_share`
    is the part of them that was read. `output_tokens` include the reasoning. Cost is in
    nano-dollars, 0 and not `priced` where the model has no known price. `latency_ms` is the call's.
    What earlier attempts of the request were billed is on the ledger alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    input_tokens: int = 0
    cached_read_tokens: int = 0
    cache_write_tokens: int = 0
    cached_share: float = Field(default=0.0, ge=0, le=1)
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0
    priced: bool = True
    latency_ms: int = 0


class Provenance(BaseModel):
    """Where a result comes from.

    `by` is what answered: a model, the rules for machine mail, or an earlier result (that of
    `reused_from`). `credential` says whose key paid; with a fallback to the platform's,
    `fallback_reason` says why the own key did not. `key_id`, `provider` and `model` are those of
    the call; `prompt_version` is also that of a reused result. `attempts` counts the calls that
    were begun.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    by: Literal["model", "rules", "reuse"]
    credential: Literal["byok", "platform", "none"]
    key_id: str | None = None
    provider: Provider | None = None
    model: str | None = None
    fallback_reason: str | None = None
    prompt_version: str | None = None
    attempts: int = 0
    usage: CallUsage = CallUsage()
    reused_from: str | None = None


class AnalysisCompleted(EventData):
    """Out: what an analysis found. `result` holds its signals.

    Free text (a summary, a draft) is in it only as `sealed_text`, a JSON object sealed to the
    subscriber's key with `events.sealing.text_info`; where there is no such key it is left out.
    """

    event_type: ClassVar[str] = "byok.analysis.completed.v1"
    queue: ClassVar[str] = ""

    request_id: Identifier
    operation: Operation
    result: dict[str, Any]
    sealed_text: str | None = None
    provenance: Provenance


class AnalysisFailed(EventData):
    """Out: a request ended without a result."""

    event_type: ClassVar[str] = "byok.analysis.failed.v1"
    queue: ClassVar[str] = ""

    request_id: Identifier
    reason: str
    retryable: bool


class AnalysisSkipped(EventData):
    """Out: a request was not run, by a rule of the product (consent, credits)."""

    event_type: ClassVar[str] = "byok.analysis.skipped.v1"
    queue: ClassVar[str] = ""

    request_id: Identifier
    reason: str
    retryable: bool


class ProviderHealthChanged(EventData):
    """Out: calls of a provider are held back, or go on. Its `subject` is `byok`, for all."""

    event_type: ClassVar[str] = "byok.provider.health_changed.v1"
    queue: ClassVar[str] = ""

    provider: Provider
    healthy: bool
    since: AwareDatetime
    reason: str


class FallbackUsed(EventData):
    """Out: an operation ran on the platform's key though the account has its own."""

    event_type: ClassVar[str] = "byok.fallback.used.v1"
    queue: ClassVar[str] = ""

    request_id: Identifier
    provider: Provider
    reason: str
