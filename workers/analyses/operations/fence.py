"""The fence: how a stranger's mail stands in a question without getting out of it.

The mail is one line of JSON between a line `<mail>` and a line `</mail>`. Within the JSON `<`,
`>` and `&` are escaped, and so is every character at which a line could end, so no content can
close the fence, open another or start a line of its own.
"""

import json

from events.analyses import MailInput
from workers.analyses.characters import cut, cut_to_tokens, one_line
from workers.analyses.mail import body_text

MAIL_TOKENS = 6_000
"""The budget of one mail in a question: 24,000 characters of English, one token a CJK character."""

_SUBJECT_CHARACTERS = 500
_ADDRESS_CHARACTERS = 1_000
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\x7f\x85\u2028\u2029"}


def escaped_json(value: object) -> str:
    """Return `value` as one line of JSON that can stand in markup."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


def fenced_mail(mail: MailInput, *, lead_in: str, tokens: int = MAIL_TOKENS) -> str:
    """Return `lead_in` and the fenced mail: subject, From, To, Cc and text, nothing else.

    The text gets what the other fields leave of the budget; what was cut off is marked.
    """
    fields = {
        "subject": cut(one_line(mail.subject), _SUBJECT_CHARACTERS),
        "from": cut(one_line(mail.sender), _ADDRESS_CHARACTERS),
        "to": cut(one_line(mail.to), _ADDRESS_CHARACTERS),
        "cc": cut(one_line(mail.cc), _ADDRESS_CHARACTERS),
    }
    used = sum(
        len(value) if not value.isascii() else len(value) // 4 + 1 for value in fields.values()
    )
    fields["text"] = cut_to_tokens(body_text(mail), max(0, tokens - used))
    return f"{lead_in}\n<mail>\n{escaped_json(fields)}\n</mail>"
