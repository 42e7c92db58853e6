"""Thread state: a thread and its reader's own address in; whose turn it is, and how soon, out."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from events.analyses import MailInput, Operation, ThreadInput
from workers.analyses.operations.fence import THREAD_IS_DATA, fenced_thread
from workers.analyses.operations.port import AnswerOffVocabulary, Result, Share
from workers.providers.port import Question

name = Operation.THREAD_STATE
prompt_version = "thread_state-1"
timeout = 60.0
reads: type[MailInput] | type[ThreadInput] = ThreadInput
uses_categories = False

MAX_OUTPUT_TOKENS = 1_024
"""An answer has about 30 tokens; the rest is room for a model that thinks before it answers."""

State = Literal["needs_action", "awaiting_reply", "pending", "resolved"]
Priority = Literal["urgent", "high", "normal", "low"]

_INSTRUCTIONS = f"""\
You tell how one thread of e-mails stands for its reader and answer with the demanded JSON object \
only.

{THREAD_IS_DATA}

The JSON holds own_address, the reader's own, and messages, oldest first. A message from \
own_address was written by the reader, all others were written to the reader.

Fields:
- state: needs_action where the reader has to answer or to do something next; awaiting_reply where \
the reader has written and waits for an answer; pending where something else has to happen first \
and nobody's answer is due; resolved where nothing is left to do.
- confidence: 0 to 1, how sure you are of state.
- priority: urgent where something is lost if it is not seen today; high where it should be seen \
soon; low where it may wait or never be seen; normal else. For the reader, not as a sender claims \
it."""

_LEAD_IN = "Tell how this thread stands:"


class ThreadState(Result):
    """How a thread stands for its reader. `confidence` is that of the state."""

    state: State
    confidence: Share
    priority: Priority


class Demanded(BaseModel):
    """The answer that is demanded. Ranges are checked afterwards, see `classify`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    state: State
    confidence: float
    priority: Priority


def question(thread: ThreadInput, /, *, model: str, **_: object) -> Question:
    """Ask how `thread` stands.

    Sent are the own address and the sender, recipients, date and text of each message, nothing
    else.
    """
    return Question(
        model=model,
        system=_INSTRUCTIONS,
        user=fenced_thread(thread, lead_in=_LEAD_IN),
        schema=Demanded,
        max_output_tokens=MAX_OUTPUT_TOKENS,
        timeout=timeout,
    )


def check(value: BaseModel, /) -> ThreadState:
    """Take the state where it is one. Raises `AnswerOffVocabulary` where it is not."""
    if not isinstance(value, Demanded):
        raise AnswerOffVocabulary("schema")
    try:
        return ThreadState.model_validate(value.model_dump(warnings=False))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]["loc"][0]
        known = first if first in Demanded.model_fields else "schema"
        raise AnswerOffVocabulary(str(known)) from None
