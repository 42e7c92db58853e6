"""What an operation is to the rest of the system, and the results that come out of one."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from events.accounts import CategoryOverride, CustomCategory, Slug
from events.analyses import MailInput, Operation, ThreadInput
from workers.providers.port import Question

COLD_EMAIL = "cold_email"
"""The category that follows from `is_cold_outreach` and that no model picks."""

Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class Result(BaseModel):
    """What an operation found: signals, which may lie readable, and free text, which may not."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    free_text: ClassVar[frozenset[str]] = frozenset()
    """The fields that hold a model's own words. They can tell what stood in the mail."""

    def signals(self) -> dict[str, Any]:
        """The fields that are no free text, as JSON has them."""
        return self.model_dump(mode="json", exclude=set(self.free_text))

    def texts(self) -> dict[str, str]:
        """The free text by its field."""
        return self.model_dump(include=set(self.free_text))


class Signals(Result):
    """What an analysis says of a mail, for rules to act on.

    `category` is a built-in key, `cold_email` or a key of the account's own; `urgency` and
    `sentiment` are built-in keys, and what the account's own ones add is in `custom_urgency` and
    `custom_sentiment`. The invariant is the product's: cold outreach needs no response. Whoever
    builds signals from an answer lets cold outreach win.
    """

    category: Slug
    urgency: Slug
    sentiment: Slug
    is_spam: bool
    is_automated: bool
    is_cold_outreach: bool
    needs_response: bool
    requires_action: bool
    expects_reply: bool
    confidence: Share
    alternative_category: Slug | None = None
    category_confidence: Share | None = None
    custom_urgency: Slug | None = None
    custom_sentiment: Slug | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.is_cold_outreach and self.needs_response:
            raise ValueError("cold outreach needs no response")
        if self.category == COLD_EMAIL and not self.is_cold_outreach:
            raise ValueError("cold_email follows from is_cold_outreach")
        return self


class AnswerOffVocabulary(ValueError):
    """The model's answer holds a value that this account's vocabulary does not know.

    `field` is the name of the field; the value itself is never kept, it may be a piece of a mail.
    """

    def __init__(self, field: str) -> None:
        super().__init__(f"The answer's {field} is not in the vocabulary that was asked for.")
        self.field = field


class AnalysisOperation(Protocol):
    """One kind of analysis; the modules of this package are it."""

    name: Operation
    prompt_version: str
    """Changes with the wording, so that a result is reused only for the same question."""
    timeout: float
    """Seconds that a provider has to answer."""
    reads: type[MailInput] | type[ThreadInput]
    """What a request of this operation carries sealed."""
    uses_categories: bool
    """Whether the account's own categories are part of the question."""

    def question(
        self,
        given: Any,
        /,
        *,
        model: str,
        categories: Sequence[CustomCategory],
        overrides: Sequence[CategoryOverride],
    ) -> Question:
        """Ask about `given`, which is what the operation `reads`, in its account's vocabulary."""
        ...

    def check(self, value: BaseModel, /) -> Result:
        """Turn an answer to a `question` of this operation into its result.

        Raises `AnswerOffVocabulary` where it is no such answer.
        """
        ...
