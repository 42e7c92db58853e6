"""The sandbox's answer to a prompt: a JSON object that fits the schema, or a line of text."""

import json
from collections.abc import Sequence
from typing import Any

from deploy.local.sandbox import schema_answer
from deploy.local.sandbox.mail_reading import CATEGORIES, Reading, find_mail, read_mail
from deploy.local.sandbox.schema_answer import Schema
from deploy.local.sandbox.thread_reading import find_thread, read_thread

OFF_SCHEMA = '["this answer breaks the schema on purpose"]'
"""Both providers want an object at the root of a schema, so that an array never fits."""

REFUSAL = "I'm sorry, I can't assist with that request."


def compose(user_text: str, schema: Schema | None) -> str:
    """The answer to `user_text`; raises `schema_answer.SchemaRefused`."""
    reading, states = _read(user_text)
    if schema is None:
        return _summary(reading)
    return json.dumps(schema_answer.answer(schema, _Suggestions(reading, states)))


def mail_text(user_text: str) -> str:
    """All that strangers wrote of a prompt: every text of its mail or of its thread's messages."""
    found: Any = find_thread(user_text) or find_mail(user_text)
    messages = found.get("messages") or [found]
    return "\n".join(
        text
        for message in messages
        if isinstance(message, dict)
        for text in message.values()
        if isinstance(text, str)
    )


def _read(user_text: str) -> tuple[Reading, Sequence[str]]:
    """The mail, or a thread's last one, and the states of the thread."""
    thread = find_thread(user_text)
    if thread is None:
        return read_mail(find_mail(user_text)), ()
    read = read_thread(thread)
    return read.last, (read.state,)


class _Suggestions:
    """The values of the properties that a mail's analysis is known to have, best first.

    `states` are those of the thread, where it is one.
    """

    def __init__(self, reading: Reading, states: Sequence[str] = ()) -> None:
        self._reading = reading
        self._states = states
        self._category = reading.ranked[0]

    def __call__(self, name: str, members: Sequence[Any] | None) -> Sequence[Any]:
        r = self._reading
        match name:
            case "category":
                ranked = [*self._own_categories(members or ()), *r.ranked]
                if members is not None:
                    ranked = [kind for kind in ranked if kind in members]
                    self._category = ranked[0] if ranked else self._category
                return ranked
            case "alternative_category":
                others = [kind for kind in r.ranked if kind != self._category]
                return others if r.close else (None, *others)
            case "confidence" | "category_confidence":
                return (r.confidence,)
            case "urgency" | "priority":
                first = ("urgent",) if r.ranked[0] == "urgent" else ()
                return (*first, r.urgency, {"medium": "normal"}.get(r.urgency, r.urgency))
            case "sentiment":
                return (r.sentiment,)
            case "is_spam":
                return (r.is_spam,)
            case "is_automated":
                return (r.is_automated,)
            case "is_cold_outreach":
                return (r.is_cold,)
            case "needs_response" | "expects_reply":
                return (r.needs_response,)
            case "requires_action":
                return (r.requires_action,)
            case "state" if self._states:
                return self._states
            case "state" if r.needs_response:
                return ("needs_reply", "needs_response", "needs_action", "waiting", "open")
            case "state":
                return ("fyi", "resolved", "done", "closed", "no_reply_needed")
            case "summary" | "text":
                return (_summary(r),)
            case "reply" | "draft" | "body":
                return (f"Thank you for your message about {_about(r)}. I will get back to you.",)
            case "reason" | "reasoning" | "explanation":
                return ("Computed by the sandbox's plain rules.",)
        return ()

    def _own_categories(self, members: Sequence[Any]) -> list[str]:
        """Categories of the account's own whose words all stand in the mail."""
        return [
            member
            for member in members
            if isinstance(member, str)
            and member not in CATEGORIES
            and all(word in self._reading.words for word in member.lower().split("_"))
        ]


def _about(reading: Reading) -> str:
    return f'"{reading.subject[:80]}"' if reading.subject else "this"


def _summary(reading: Reading) -> str:
    who = reading.sender or "Somebody"
    return f"{who[:80]} writes about {_about(reading)}: {reading.first_line[:200]}"
