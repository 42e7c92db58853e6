"""Events about e-mail analyses, and the mail or thread as it travels inside a seal."""

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
    model: str | None = Field(
        default=None, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$"
    )
    sealed_input: str = Field(min_length=1, pattern=r"^v1\.[A-Za-z0-9._:@+-]+\.[A-Za-z0-9_-]+$")
    expires_at: AwareDatetime | None = None


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
    provenance: dict[str, Any]


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
