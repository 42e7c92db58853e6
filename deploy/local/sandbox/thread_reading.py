"""What the sandbox makes of a thread: its last message, and whose turn it is."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Any

from deploy.local.sandbox.mail_reading import Reading, read_mail

_THREAD = re.compile(r"^<thread>\r?\n(.*)\r?\n</thread>\s*$", re.MULTILINE | re.DOTALL)
_CLOSES = re.compile(
    r"\b(?:thanks|thank you|done|solved|resolved|sounds good|see you|perfect)\b", re.IGNORECASE
)
_CLOSING_CHARACTERS = 400
"""A last message that is longer does more than close the matter."""


@dataclass(slots=True, frozen=True)
class ThreadReading:
    """The last message, read as a mail, and whose turn it is."""

    last: Reading
    state: str


def find_thread(user_text: str) -> Mapping[str, Any] | None:
    """The thread between the lines `<thread>` and `</thread>`, where there is one."""
    found = _THREAD.search(user_text)
    if found is None:
        return None
    try:
        thread = json.loads(found[1])
    except ValueError:
        return None
    return thread if isinstance(thread, dict) else None


def read_thread(thread: Mapping[str, Any]) -> ThreadReading:
    """Read `thread`, whose fields are `own_address, messages`; what is no message is passed over.

    The reader's own question awaits a reply; a stranger's, or something to do, needs action; a
    short word of thanks resolves it; all else is pending.
    """
    messages = [one for one in thread.get("messages") or () if isinstance(one, dict)]
    message = messages[-1] if messages else {}
    last = read_mail(message)
    text = str(message.get("text") or "")
    closes = len(text) <= _CLOSING_CHARACTERS and _CLOSES.search(text) is not None
    own = str(thread.get("own_address") or "").strip().lower()
    if own and parseaddr(last.sender)[1].lower() == own:
        state = "awaiting_reply" if "?" in text else "resolved" if closes else "pending"
    elif last.needs_response or last.requires_action:
        state = "needs_action"
    else:
        quiet = closes or last.is_spam or last.is_automated
        state = "resolved" if quiet else "pending"
    return ThreadReading(last, state)
