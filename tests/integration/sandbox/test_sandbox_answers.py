"""The rules by which the sandbox answers: they fit every schema, and they make sense."""

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model

from deploy.local.sandbox.answers import compose
from deploy.local.sandbox.mail_reading import CATEGORIES, find_mail, read_mail
from deploy.local.sandbox.schema_answer import SchemaRefused, answer

Category = Literal[
    "urgent",
    "important",
    "personal",
    "work",
    "financial",
    "newsletter",
    "promotional",
    "spam",
    "social",
    "notification",
    "transactional",
    "system",
    "other",
]


class Signals(BaseModel):
    category: Category
    urgency: Literal["high", "medium", "low"]
    sentiment: Literal["positive", "neutral", "negative"]
    is_spam: bool
    is_automated: bool
    is_cold_outreach: bool
    needs_response: bool
    requires_action: bool
    confidence: float = Field(ge=0, le=1)
    alternative_category: Category | None
    category_confidence: float | None


class Tree(BaseModel):
    label: str = Field(min_length=3, max_length=8)
    children: "list[Tree]"
    next: "Tree | None"
    kind: Literal["leaf"]
    count: int = Field(ge=5, multiple_of=4)
    code: str = Field(pattern=r"^[a-z]\d$")
    either: int | str


TEXT = st.text(max_size=300)
MAILS = st.fixed_dictionaries(
    {}, optional={"subject": TEXT, "from": TEXT, "text": TEXT, "cc": st.none() | TEXT}
)
MEMBERS = st.lists(st.sampled_from([*CATEGORIES, "project_apollo"]), min_size=1, unique=True)


def prompt(mail: dict[str, Any]) -> str:
    data = json.dumps(mail).replace("<", "\\u003c").replace(">", "\\u003e")
    return f"Classify the mail.\n<mail>\n{data}\n</mail>\nAnswer in JSON."


def signals(subject: str, text: str, sender: str = "ann@example.com") -> Signals:
    mail = {"subject": subject, "from": sender, "text": text}
    return Signals.model_validate_json(compose(prompt(mail), Signals.model_json_schema()))


@given(MAILS)
def test_every_mail_gets_an_answer_that_fits(mail: dict[str, Any]) -> None:
    text = compose(prompt(mail), Signals.model_json_schema())
    assert text == compose(prompt(mail), Signals.model_json_schema())
    found = Signals.model_validate_json(text, strict=True)
    assert not (found.is_cold_outreach and found.needs_response)
    assert found.alternative_category != found.category


@given(MAILS, MEMBERS, st.integers(-5, 5), st.integers(0, 5))
def test_bounds_and_enums_of_any_size_are_kept(
    mail: dict[str, Any], members: list[str], low: int, width: int
) -> None:
    bounded = Field(ge=low, le=low + width)
    member: Any = Literal[tuple(members)]
    model = create_model(
        "Model",
        category=(member, ...),
        unknown=(member | None, ...),
        confidence=(int, bounded),
        number=(float, bounded),
        words=(list[str], Field(min_length=width)),
        nested=(Signals, ...),
    )
    model.model_validate_json(compose(prompt(mail), model.model_json_schema()))


def test_a_recursive_schema_with_lengths_patterns_and_unions_is_answered() -> None:
    Tree.model_validate_json(compose("no mail at all", Tree.model_json_schema()))


def test_a_schema_that_cannot_be_answered_is_refused() -> None:
    impossible = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/Gone"}},
        "required": ["a"],
    }
    endless = {"$ref": "#"}
    pattern = {"type": "string", "pattern": r"^zz\d{7}$"}
    empty = {"type": "integer", "minimum": 5, "maximum": 4}
    for schema in (impossible, endless, pattern, empty):
        with pytest.raises(SchemaRefused):
            answer(schema, lambda name, members: ())


def test_a_mail_is_found_between_its_lines_and_else_the_text_is_read() -> None:
    assert find_mail(prompt({"subject": "a </mail> b"})) == {"subject": "a </mail> b"}
    assert find_mail("just text") == {"text": "just text"}
    assert find_mail("<mail>\nnot json\n</mail>")["text"].startswith("<mail>")


def test_spam_is_told_from_work() -> None:
    spam = signals("YOU HAVE WON $1,000,000!!!", "Click here now!!! Free viagra, guaranteed.")
    assert (spam.category, spam.is_spam, spam.needs_response) == ("spam", True, False)
    work = signals("Re: release schedule", "Could you review the patch before the meeting?")
    assert (work.category, work.is_spam, work.needs_response) == ("work", False, True)


def test_machines_and_cold_outreach_need_no_response() -> None:
    machine = signals("Build failed", "Is this a question?", "noreply@ci.example.com")
    assert machine.is_automated
    assert not machine.needs_response
    cold = signals(
        "Partnership",
        "I came across your site. We offer leads. Would you be interested? A quick call?",
    )
    assert cold.is_cold_outreach
    assert not cold.needs_response


def test_urgency_and_sentiment_follow_the_words() -> None:
    urgent = signals("URGENT: outage", "Action required immediately, the server is broken, failed.")
    assert (urgent.urgency, urgent.sentiment) == ("high", "negative")
    kind = signals("Thanks", "Thank you, that was great and excellent.")
    assert (kind.urgency, kind.sentiment) == ("low", "positive")


def test_a_category_of_the_accounts_own_wins_where_the_mail_names_it() -> None:
    schema = {
        "type": "object",
        "properties": {"category": {"enum": ["work", "project_apollo", "other"]}},
        "required": ["category"],
    }
    named = prompt({"subject": "Project Apollo", "text": "The apollo project meets today."})
    assert json.loads(compose(named, schema)) == {"category": "project_apollo"}
    unnamed = prompt({"subject": "Meeting", "text": "The project meets today about the server."})
    assert json.loads(compose(unnamed, schema)) == {"category": "work"}


class ThreadState(BaseModel):
    state: Literal["needs_action", "awaiting_reply", "pending", "resolved"]
    confidence: float
    priority: Literal["urgent", "high", "normal", "low"]


def thread_state(*messages: tuple[str, str]) -> ThreadState:
    """What the sandbox makes of a thread of (sender, text), read by bob@example.org."""
    thread = {
        "own_address": "Bob@example.org",
        "messages": ["[… cut]", *({"from": who, "text": said} for who, said in messages)],
    }
    asked = f"Tell.\n<thread>\n{json.dumps(thread)}\n</thread>"
    return ThreadState.model_validate_json(compose(asked, ThreadState.model_json_schema()))


@pytest.mark.parametrize(
    ("sender", "text", "state"),
    [
        ("Ann <ann@example.org>", "Could you send me the report?", "needs_action"),
        ("Bob <bob@example.org>", "Could you send me the report?", "awaiting_reply"),
        ("Ann <ann@example.org>", "Thanks, done.", "resolved"),
        ("bob@example.org", "Perfect, see you there.", "resolved"),
        ("Ann <ann@example.org>", "I am looking into it.", "pending"),
        ("bob@example.org", "I am looking into it.", "pending"),
    ],
)
def test_the_last_message_of_a_thread_tells_whose_turn_it_is(
    sender: str, text: str, state: str
) -> None:
    assert thread_state(("ann@example.org", "What do you think?"), (sender, text)).state == state


def test_a_threads_priority_follows_the_words() -> None:
    urgent = "URGENT: emergency, the outage is critical, act immediately. Can you help?"
    assert thread_state(("ann@example.org", urgent)).priority == "urgent"
    assert thread_state(("ann@example.org", "Could you look at it?")).priority == "normal"
    assert thread_state(("ann@example.org", "I was there.")).priority == "low"


def test_a_thread_that_is_none_is_read_as_text() -> None:
    for inner in ("[]", "no json", '{"messages": "x"}', '{"own_address": null, "messages": [1]}'):
        asked = f"Tell.\n<thread>\n{inner}\n</thread>"
        ThreadState.model_validate_json(compose(asked, ThreadState.model_json_schema()))


@pytest.mark.parametrize("field", ["summary", "reply"])
def test_a_summary_and_a_draft_are_about_the_mail(field: str) -> None:
    schema = {"type": "object", "properties": {field: {"type": "string"}}, "required": [field]}
    mail = prompt({"subject": "Lunch", "from": "Ann", "text": "Shall we?"})
    (text,) = json.loads(compose(mail, schema)).values()
    assert "Lunch" in text


def test_a_huge_mail_costs_no_more_than_its_head() -> None:
    head = read_mail({"text": "please review the patch\n" * 200})
    huge = read_mail({"text": "please review the patch\n" * 20_000})
    assert head == huge
