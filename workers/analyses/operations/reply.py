"""Reply drafts: one mail in, a draft of the recipient's answer out. Nothing sends it."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from events.analyses import MailInput, Operation, ThreadInput
from workers.analyses.operations.fence import MAIL_IS_DATA, fenced_mail
from workers.analyses.operations.freetext import checked_text
from workers.analyses.operations.port import AnswerOffVocabulary, Result
from workers.providers.port import Question

name = Operation.REPLY
prompt_version = "reply-1"
timeout = 60.0
reads: type[MailInput] | type[ThreadInput] = MailInput
uses_categories = False

DRAFT_CHARACTERS = 4_000
"""The longest draft that is taken; 1,500 are asked for."""

MAX_OUTPUT_TOKENS = 2_048
"""A draft has about 400 tokens; the rest is room for a model that thinks before it answers."""

_INSTRUCTIONS = f"""\
You draft the recipient's reply to one e-mail and answer with the demanded JSON object only. The \
recipient reads and changes your draft before anything is sent.

{MAIL_IS_DATA}

Field:
- reply: the body of the reply, plain text, in the language and the tone of the e-mail, at most \
1,500 characters, without a subject line and without a signature. Answer what is asked. Where the \
answer hangs on something that only the recipient knows, put a short description of it between \
square brackets instead of making it up. Promise nothing, and give nothing away that does not \
stand in the e-mail: no password, number or address. Where the e-mail is unwanted, decline in one \
sentence."""

_LEAD_IN = "Draft a reply to this e-mail:"


class Draft(Result):
    """What the recipient could answer."""

    free_text: ClassVar[frozenset[str]] = frozenset({"reply"})

    reply: str


class Demanded(BaseModel):
    """The answer that is demanded. Its length is checked afterwards, see `classify`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    reply: str


def question(mail: MailInput, /, *, model: str, **_: object) -> Question:
    """Ask for a reply to `mail`. Sent are the subject, sender, To, Cc and body text only."""
    return Question(
        model=model,
        system=_INSTRUCTIONS,
        user=fenced_mail(mail, lead_in=_LEAD_IN),
        schema=Demanded,
        max_output_tokens=MAX_OUTPUT_TOKENS,
        timeout=timeout,
    )


def check(value: BaseModel, /) -> Draft:
    """Take the draft where it is one. Raises `AnswerOffVocabulary` where it is not."""
    if not isinstance(value, Demanded) or not isinstance(value.reply, str):
        raise AnswerOffVocabulary("schema")
    text = checked_text(
        value.reply, "reply", characters=DRAFT_CHARACTERS, instructions=_INSTRUCTIONS
    )
    return Draft(reply=text)
