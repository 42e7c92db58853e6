"""Whatever an account calls its mail, and whatever a model answers: the vocabulary stays closed."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from events.accounts import CategoryOverride, CustomCategory
from events.analyses import MailInput
from workers.analyses.operations import AnswerOffVocabulary, Signals
from workers.analyses.operations.classify import check, question
from workers.analyses.operations.vocabulary import BUILT_IN, LAST_RESORT, Kind, vocabulary_of
from workers.providers.port import Question

KINDS: tuple[Kind, ...] = ("category", "urgency", "sentiment")
MAIL = MailInput(subject="Hello", text="Shall we meet?")
SURE = {"category_confidence": 1.0, "alternative_confidence": None, "confidence": 1.0}

texts = st.text(min_size=1, max_size=20)
keys = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
built_in = st.sampled_from([(kind, key) for kind in KINDS for key in BUILT_IN[kind]])
shares = st.one_of(st.floats(0, 1), st.sampled_from([0.5, 0.55, 0.57, 0.95]))
details = {
    "definition_prompt": texts,
    "keywords": st.lists(texts, max_size=3).map(tuple),
    "sender_patterns": st.lists(texts, max_size=3).map(tuple),
    "positive_examples": st.lists(texts, max_size=3).map(tuple),
    "negative_examples": st.lists(texts, max_size=3).map(tuple),
    "confidence_threshold": st.integers(50, 95),
    "priority": st.integers(1, 100),
    "enabled": st.booleans(),
}
own_categories = st.lists(
    st.builds(
        CustomCategory,
        type=st.sampled_from(KINDS),
        key=keys,
        display_name=texts,
        description=texts,
        **details,
    ),
    max_size=5,
)
optional = {name: st.none() | strategy for name, strategy in details.items() if name != "enabled"}
overrides = st.lists(
    built_in.flatmap(
        lambda named: st.builds(
            CategoryOverride,
            type=st.just(named[0]),
            key=st.just(named[1]),
            display_name=st.none() | texts,
            description=st.none() | texts,
            enabled=st.booleans(),
            **optional,
        )
    ),
    max_size=6,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


def asked(
    own: list[CustomCategory] | None = None, edits: list[CategoryOverride] | None = None
) -> Question:
    return question(MAIL, "m", own or (), edits or ())


def properties_of(found: Question) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = found.schema.model_json_schema()["properties"]
    return properties


def offered(described: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """What the schema of one field lets through."""
    return st.one_of(
        [
            st.sampled_from(part["enum"])
            if "enum" in part
            else st.just(part["const"])
            if "const" in part
            else {"number": shares, "boolean": st.booleans(), "null": st.none()}[part["type"]]
            for part in described.get("anyOf", [described])
        ]
    )


def answered(found: Question, answer: object) -> Signals | None:
    """What comes of an answer as a provider sends it; `None` where it is none."""
    try:
        value = found.schema.model_validate_json(json.dumps(answer))
    except ValidationError:
        return None
    try:
        return check(value)
    except AnswerOffVocabulary:
        return None


def assert_closed(
    signals: Signals, own: list[CustomCategory], edits: list[CategoryOverride]
) -> None:
    """Every value is one that the account knows, and the invariants hold."""
    vocabulary = vocabulary_of(own, edits)
    known = {*vocabulary.built_in_keys("category"), *vocabulary.own_of("category")}
    known |= {"cold_email"} if vocabulary.cold_email else set()
    assert signals.category in {*known, LAST_RESORT["category"]}
    assert signals.alternative_category in {*known, None} - {signals.category, "cold_email"}
    for kind, value, custom in (
        ("urgency", signals.urgency, signals.custom_urgency),
        ("sentiment", signals.sentiment, signals.custom_sentiment),
    ):
        assert value in {*vocabulary.built_in_keys(kind), LAST_RESORT[kind]}
        assert custom is None or custom in vocabulary.own_of(kind)
    assert not (signals.is_cold_outreach and signals.needs_response)
    assert signals.category != "cold_email" or signals.is_cold_outreach
    for share in (signals.confidence, signals.category_confidence):
        assert share is None or 0 <= share <= 1


@settings(deadline=None, max_examples=30)
@given(own_categories, overrides, st.data())
def test_an_answer_within_the_schema_gives_signals_within_the_vocabulary(
    own: list[CustomCategory], edits: list[CategoryOverride], data: st.DataObject
) -> None:
    found = asked(own, edits)
    drawn = {
        field: data.draw(offered(described), label=field)
        for field, described in properties_of(found).items()
    }
    signals = answered(found, drawn)
    assert signals is not None
    assert_closed(signals, own, edits)


@settings(deadline=None, max_examples=70)
@given(own_categories, overrides, st.dictionaries(keys, json_values, max_size=3), st.data())
def test_an_arbitrary_answer_is_refused_or_gives_signals_within_the_vocabulary(
    own: list[CustomCategory],
    edits: list[CategoryOverride],
    more: dict[str, object],
    data: st.DataObject,
) -> None:
    found = asked(own, edits)
    described = properties_of(found)
    drawn: dict[str, Any] = {
        field: data.draw(offered(part), label=field) for field, part in described.items()
    }
    for field in data.draw(st.lists(st.sampled_from(sorted(described)), max_size=3)):
        drawn[field] = data.draw(json_values, label=f"instead of {field}")
    signals = answered(found, drawn | more)
    if more.keys() - described.keys():
        assert signals is None
    if signals is not None:
        assert_closed(signals, own, edits)


@given(json_values)
@example([])
@example({"category": "work"})
def test_what_is_no_answer_at_all_gives_none(value: object) -> None:
    assert answered(asked(), value) is None


def plain(**changed: object) -> dict[str, object]:
    return {
        "category": "work",
        "alternative_category": None,
        "urgency": "high",
        "sentiment": "neutral",
        **dict.fromkeys(("is_spam", "is_automated", "is_cold_outreach", "needs_response"), False),
        "requires_action": False,
        "expects_reply": False,
        **SURE,
        **changed,
    }


def test_every_field_of_an_own_category_is_told_to_the_model() -> None:
    for kind in KINDS:
        fields = {
            "display_name": "Name of it",
            "description": "What it is",
            "definition_prompt": "How it is told",
            "keywords": ["keyword"],
            "sender_patterns": ["*@sender.example"],
            "positive_examples": ["A subject that fits"],
            "negative_examples": ["A subject that does not"],
        }
        own = CustomCategory.model_validate({"type": kind, "key": "mine", **fields})
        (line,) = (line for line in asked([own]).system.split("\n") if '"mine"' in line)
        told = json.loads(line)
        assert list(told.values()) == ["mine", *fields.values()]


def test_every_field_of_an_edited_built_in_is_told_and_counts() -> None:
    edit = CategoryOverride(
        type="category",
        key="work",
        display_name="Job",
        description="The day job",
        definition_prompt="Anything from colleagues",
        keywords=("standup",),
        sender_patterns=("*@job.example",),
        positive_examples=("Standup at ten",),
        negative_examples=("A job offer",),
        confidence_threshold=80,
        priority=60,
    )
    found = asked([], [edit])
    (line,) = (line for line in found.system.split("\n") if line.startswith("- work: "))
    told, _, more = line.partition(" {")
    assert told == "- work: The day job"
    assert json.loads("{" + more) == {
        "name": "Job",
        "definition": "Anything from colleagues",
        "keywords": ["standup"],
        "senders": ["*@job.example"],
        "subjects_that_fit": ["Standup at ten"],
        "subjects_that_do_not": ["A job offer"],
    }
    below = answered(found, plain(category_confidence=0.79))
    reached = answered(found, plain(category_confidence=0.8))
    assert below is not None
    assert reached is not None
    assert (below.category, reached.category) == ("other", "work")


@pytest.mark.parametrize(("own_priority", "expected"), [(59, "work"), (61, "mine")])
def test_an_edited_built_in_is_ranked_among_the_own_ones(own_priority: int, expected: str) -> None:
    own = CustomCategory(type="category", key="mine", display_name="Mine", priority=own_priority)
    edit = CategoryOverride(type="category", key="work", priority=60)
    answer = plain(category="mine", alternative_category="work", alternative_confidence=0.6)
    signals = answered(asked([own], [edit]), answer)
    assert signals is not None
    assert signals.category == expected


@pytest.mark.parametrize(("confidence", "expected"), [(0.89, "medium"), (0.9, "high")])
def test_an_edited_urgency_counts_from_its_threshold_on(confidence: float, expected: str) -> None:
    edit = CategoryOverride(type="urgency", key="high", confidence_threshold=90)
    signals = answered(asked([], [edit]), plain(confidence=confidence))
    assert signals is not None
    assert signals.urgency == expected


def test_what_an_account_adds_to_the_built_ins_is_bounded() -> None:
    long = tuple("x" * 200 for _ in range(15))
    edits = [
        CategoryOverride(type="category", key=key, description=f"about {key}", keywords=long)
        for key in BUILT_IN["category"]
    ]
    system = asked([], edits).system
    assert len(system) < len(asked().system) + 16_000
    assert all(f"- {key}: about {key}" in system for key in BUILT_IN["category"])


@pytest.mark.parametrize("field", ["confidence", "category_confidence", "alternative_confidence"])
@pytest.mark.parametrize("share", [1.0001, -0.0001, 1e308, float("nan"), float("inf")])
def test_a_share_off_its_range_is_no_answer(field: str, share: float) -> None:
    sure = plain(alternative_category="social", alternative_confidence=0.5)
    assert answered(asked(), sure) is not None
    assert answered(asked(), sure | {field: share}) is None
