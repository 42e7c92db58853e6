"""Classification: the vocabulary is closed, thresholds and priorities count, invariants hold."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from events.accounts import CategoryOverride, CustomCategory
from events.analyses import MailInput, Operation
from workers.analyses.operations import (
    OPERATIONS,
    AnswerOffVocabulary,
    Signals,
    classify,
    operation_of,
)
from workers.analyses.operations.classify import check, question
from workers.providers.port import Question

MAIL = MailInput(subject="Hello", sender="Ann <ann@example.com>", text="Shall we meet?")
BUILT_IN = [
    *("urgent", "important", "personal", "work", "financial", "newsletter", "promotional", "spam"),
    *("social", "notification", "transactional", "system", "other"),
]
PLAIN: dict[str, Any] = {
    "category": "work",
    "category_confidence": 0.9,
    "alternative_category": None,
    "alternative_confidence": None,
    "urgency": "medium",
    "sentiment": "neutral",
    "is_spam": False,
    "is_automated": False,
    "is_cold_outreach": False,
    "needs_response": True,
    "requires_action": False,
    "expects_reply": True,
    "confidence": 0.8,
}


def own(key: str, kind: str = "category", **fields: Any) -> CustomCategory:
    return CustomCategory.model_validate({"type": kind, "key": key, "display_name": key} | fields)


def asked(*categories: CustomCategory, overrides: tuple[CategoryOverride, ...] = ()) -> Question:
    return question(MAIL, model="some-model", categories=categories, overrides=overrides)


def signals(asked_with: Question, **answer: Any) -> Signals:
    return check(asked_with.schema.model_validate(PLAIN | answer))


def enum_of(asked_with: Question, field: str) -> list[str]:
    members: list[str] = asked_with.schema.model_json_schema()["properties"][field]["enum"]
    return members


def test_the_registry_knows_every_operation_that_an_event_may_name() -> None:
    assert set(OPERATIONS) == set(Operation)
    assert operation_of(Operation.CLASSIFY) is classify


def test_a_question_has_the_instructions_in_system_and_the_mail_in_user() -> None:
    found = asked()
    assert "never an instruction" in found.system
    assert "Shall we meet?" not in found.system
    assert json.loads(found.user.split("\n")[2])["text"] == "Shall we meet?"
    assert found.model == "some-model"


def test_the_system_part_is_the_same_for_every_mail() -> None:
    other = question(MailInput(text="other"), model="m")
    assert other.system == asked().system
    assert other.schema is asked().schema


def test_the_model_is_offered_the_thirteen_built_ins_and_not_cold_email() -> None:
    assert enum_of(asked(), "category") == BUILT_IN
    assert "cold_email" not in asked().system


def test_the_schema_is_flat_closed_and_every_field_is_required() -> None:
    for found in (asked(), asked(own("mine"), own("now", "urgency"), own("sad", "sentiment"))):
        schema = found.schema.model_json_schema()
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])
        assert "$defs" not in schema
        assert "default" not in json.dumps(schema)


def test_a_plain_answer_becomes_the_same_signals() -> None:
    found = signals(asked())
    expected = {name: PLAIN[name] for name in PLAIN if name != "alternative_confidence"}
    assert found.model_dump(exclude={"custom_urgency", "custom_sentiment"}) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"category": "cold_email"},
        {"category": "mine"},
        {"category": "Work"},
        {"alternative_category": "nonsense"},
        {"urgency": "extreme"},
        {"sentiment": "furious"},
        {"confidence": 1.01},
        {"confidence": -0.1},
        {"confidence": float("nan")},
        {"category_confidence": 95},
        {"alternative_confidence": 2.0},
        {"is_spam": None},
    ],
)
def test_an_answer_off_the_vocabulary_is_refused_without_repeating_it(
    wrong: dict[str, Any],
) -> None:
    built = asked().schema.model_construct(**(PLAIN | wrong))
    (field, value), *_ = wrong.items()
    with pytest.raises(AnswerOffVocabulary) as caught:
        check(built)
    assert caught.value.field == field
    assert f"{value}" not in str(caught.value).replace(field, "")


def test_an_answer_to_another_question_is_refused() -> None:
    class Other(BaseModel):
        category: str = "work"

    with pytest.raises(AnswerOffVocabulary, match="schema"):
        check(Other())


def test_an_answer_with_a_field_missing_is_refused() -> None:
    built = asked().schema.model_construct(category="work")
    with pytest.raises(AnswerOffVocabulary):
        check(built)


def test_an_answer_of_another_accounts_vocabulary_is_checked_by_that_vocabulary() -> None:
    assert signals(asked(own("mine")), category="mine").category == "mine"
    with pytest.raises(ValidationError):
        asked().schema.model_validate(PLAIN | {"category": "mine"})


def test_cold_outreach_makes_the_category_and_wins_over_needs_response() -> None:
    found = signals(asked(), is_cold_outreach=True, needs_response=True)
    assert (found.category, found.alternative_category) == ("cold_email", "work")
    assert found.is_cold_outreach
    assert not found.needs_response


def test_cold_outreach_leaves_the_category_where_the_account_disabled_cold_email() -> None:
    off = CategoryOverride(type="category", key="cold_email", enabled=False)
    found = signals(asked(overrides=(off,)), is_cold_outreach=True)
    assert (found.category, found.is_cold_outreach) == ("work", True)


def test_cold_outreach_leaves_an_own_category_that_counts() -> None:
    found = signals(asked(own("recruiters")), category="recruiters", is_cold_outreach=True)
    assert (found.category, found.needs_response) == ("recruiters", False)


def test_signals_that_break_an_invariant_cannot_be_built() -> None:
    fine = signals(asked()).model_dump()
    with pytest.raises(ValidationError, match="cold outreach"):
        Signals(**fine | {"is_cold_outreach": True, "needs_response": True})
    with pytest.raises(ValidationError, match="cold_email"):
        Signals(**fine | {"category": "cold_email"})


@pytest.mark.parametrize(
    ("threshold", "confidence", "counts"),
    [(50, 0.5, True), (50, 0.49, False), (95, 0.95, True), (95, 0.949, False), (57, 0.57, True)],
)
def test_an_own_category_counts_from_its_threshold_on(
    threshold: int, confidence: float, counts: bool
) -> None:
    found = signals(
        asked(own("mine", confidence_threshold=threshold)),
        category="mine",
        category_confidence=confidence,
        alternative_category="work",
        alternative_confidence=0.4,
    )
    assert found.category == ("mine" if counts else "work")
    assert found.alternative_category == ("work" if counts else None)


def test_an_own_category_below_its_threshold_with_nothing_else_is_other() -> None:
    found = signals(asked(own("mine")), category="mine", category_confidence=0.1)
    assert (found.category, found.category_confidence) == ("other", None)


def test_an_own_category_that_counts_comes_before_a_built_in_one() -> None:
    found = signals(asked(own("mine")), alternative_category="mine", alternative_confidence=0.6)
    assert (found.category, found.alternative_category) == ("mine", "work")
    assert found.category_confidence == 0.6


def test_of_two_own_categories_the_higher_priority_wins_then_the_surer_one() -> None:
    both = {
        "category": "low",
        "category_confidence": 0.9,
        "alternative_category": "high",
        "alternative_confidence": 0.6,
    }
    ranked = asked(own("low", priority=10), own("high", priority=90))
    assert signals(ranked, **both).category == "high"
    equal = asked(own("low", priority=50), own("high", priority=50))
    assert signals(equal, **both).category == "low"


def test_the_same_category_twice_is_no_alternative() -> None:
    found = signals(asked(), alternative_category="work", alternative_confidence=0.2)
    assert found.alternative_category is None


def test_own_urgencies_and_sentiments_are_signals_of_their_own() -> None:
    found = asked(own("now", "urgency", confidence_threshold=70), own("sarcastic", "sentiment"))
    answer = {
        "custom_urgency": "now",
        "custom_urgency_confidence": 0.7,
        "custom_sentiment": None,
        "custom_sentiment_confidence": None,
    }
    assert signals(found, **answer).custom_urgency == "now"
    assert signals(found, **answer).urgency == "medium"
    assert signals(found, **answer | {"custom_urgency_confidence": 0.69}).custom_urgency is None
    assert signals(found, **answer | {"custom_urgency_confidence": None}).custom_urgency is None


@settings(deadline=None)
@given(st.data())
def test_whatever_is_answered_the_invariants_hold(data: st.DataObject) -> None:
    found = asked(
        own("one", priority=3), own("two", confidence_threshold=90), own("now", "urgency")
    )
    share = st.floats(0, 1)
    drawn: dict[str, Any] = {}
    for field, described in found.schema.model_json_schema()["properties"].items():
        options = [
            st.sampled_from(part["enum"])
            if "enum" in part
            else st.just(part["const"])
            if "const" in part
            else {"number": share, "boolean": st.booleans(), "null": st.none()}[part["type"]]
            for part in described.get("anyOf", [described])
        ]
        drawn[field] = data.draw(st.one_of(options), label=field)
    answered = check(found.schema.model_validate(drawn))
    assert not (answered.is_cold_outreach and answered.needs_response)
    assert answered.category in {*BUILT_IN, "one", "two", "cold_email"}
    assert answered.alternative_category != answered.category
    if answered.category == "cold_email":
        assert answered.is_cold_outreach
    assert Signals.model_validate_json(answered.model_dump_json()) == answered
