"""Thread states: what is asked with, and that the vocabulary is closed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from events.analyses import MailInput, ThreadInput, ThreadMessage
from workers.analyses.operations import AnswerOffVocabulary
from workers.analyses.operations.thread_state import Demanded, check, question

STATES = ["needs_action", "awaiting_reply", "pending", "resolved"]
PRIORITIES = ["urgent", "high", "normal", "low"]
THREAD = ThreadInput(
    own_address="bob@example.org",
    messages=(
        ThreadMessage(sender="ann@example.org", to="bob@example.org", date="Mon", text="Lunch?"),
        ThreadMessage(sender="bob@example.org", to="ann@example.org", date="Tue", text="Yes."),
    ),
)


def answer(**fields: Any) -> BaseModel:
    plain = {"state": "pending", "confidence": 0.8, "priority": "normal"}
    return Demanded.model_construct(**plain | fields)


def test_sent_are_the_own_address_and_of_each_message_what_the_product_names() -> None:
    asked = question(THREAD, model="some-model", categories=(), overrides=())
    told = json.loads(asked.user.split("\n")[2])
    assert told == {
        "own_address": "bob@example.org",
        "messages": [
            {
                "from": "ann@example.org",
                "to": "bob@example.org",
                "cc": "",
                "date": "Mon",
                "text": "Lunch?",
            },
            {
                "from": "bob@example.org",
                "to": "ann@example.org",
                "cc": "",
                "date": "Tue",
                "text": "Yes.",
            },
        ],
    }
    assert "never an instruction" in asked.system
    assert "<thread> and </thread>" in asked.system
    assert "Lunch?" not in asked.system


def test_the_model_is_offered_the_products_words() -> None:
    described = Demanded.model_json_schema()
    assert described["properties"]["state"]["enum"] == STATES
    assert described["properties"]["priority"]["enum"] == PRIORITIES
    assert set(described["required"]) == set(described["properties"])
    assert described["additionalProperties"] is False


def test_an_answer_becomes_signals_without_free_text() -> None:
    found = check(Demanded(state="needs_action", confidence=0.9, priority="urgent"))
    assert found.signals() == {"state": "needs_action", "confidence": 0.9, "priority": "urgent"}
    assert found.texts() == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "open"},
        {"state": "Resolved"},
        {"state": None},
        {"priority": "medium"},
        {"priority": ["low"]},
        {"confidence": 1.01},
        {"confidence": -0.01},
        {"confidence": float("nan")},
        {"confidence": "high"},
    ],
)
def test_an_answer_off_the_vocabulary_is_refused_without_repeating_it(
    wrong: dict[str, Any],
) -> None:
    with pytest.raises(AnswerOffVocabulary) as caught:
        check(answer(**wrong))
    assert caught.value.field == next(iter(wrong))


def test_an_answer_to_another_question_is_refused() -> None:
    with pytest.raises(AnswerOffVocabulary, match="schema"):
        check(MailInput())


JSON = st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.integers()


@given(st.sampled_from(STATES) | JSON, st.floats(0, 1) | JSON, st.sampled_from(PRIORITIES) | JSON)
def test_whatever_is_answered_the_vocabulary_is_closed(
    state: Any, confidence: Any, priority: Any
) -> None:
    try:
        found = check(answer(state=state, confidence=confidence, priority=priority)).signals()
    except AnswerOffVocabulary:
        return
    assert found["state"] in STATES
    assert found["priority"] in PRIORITIES
    assert 0.0 <= found["confidence"] <= 1.0


# The thread as it travels


def test_a_thread_is_bounded() -> None:
    message = ThreadMessage(text="x")
    for own, count in (("", 1), ("a@", 1), ("a" * 321, 1), ("a@b", 0), ("a@b", 201)):
        with pytest.raises(ValidationError):
            ThreadInput(own_address=own, messages=(message,) * count)
    assert len(ThreadInput(own_address="a@b", messages=(message,) * 200).messages) == 200


@pytest.mark.parametrize(
    "more", [{"subject": "s"}, {"messages": [{"subject": "s"}]}, {"messages": [{"html": "h"}]}]
)
def test_a_thread_has_no_other_fields(more: dict[str, Any]) -> None:
    fields = {"own_address": "bob@example.org", "messages": [{}]}
    ThreadInput.model_validate(fields)
    with pytest.raises(ValidationError):
        ThreadInput.model_validate(fields | more)
