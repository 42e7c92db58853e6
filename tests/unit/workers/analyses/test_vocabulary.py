"""The vocabulary of an account."""

import json
from typing import Any

import pytest

from events.accounts import CategoryOverride, CustomCategory
from events.analyses import MailInput
from workers.analyses.operations.classify import question, schema_of
from workers.analyses.operations.vocabulary import (
    LAST_RESORT,
    OWN_CHARACTERS,
    Kind,
    described,
    vocabulary_of,
)


def own(key: str, kind: str = "category", **fields: Any) -> CustomCategory:
    return CustomCategory.model_validate({"type": kind, "key": key, "display_name": key} | fields)


def edit(key: str, kind: str = "category", **fields: Any) -> CategoryOverride:
    return CategoryOverride.model_validate({"type": kind, "key": key} | fields)


def system_with(*categories: CustomCategory, overrides: tuple[CategoryOverride, ...] = ()) -> str:
    return question(MailInput(text="x"), "m", categories, overrides).system


def test_an_edited_built_in_has_the_accounts_meaning() -> None:
    system = system_with(overrides=(edit("work", description="only about\nbuilding sites"),))
    assert "- work: only about building sites\n" in system


def test_a_disabled_built_in_is_not_offered() -> None:
    vocabulary = vocabulary_of(overrides=[edit("social", enabled=False)])
    assert "social" not in vocabulary.built_in_keys("category")
    assert "- social:" not in system_with(overrides=(edit("social", enabled=False),))


@pytest.mark.parametrize("kind", ["category", "urgency", "sentiment"])
def test_the_last_resort_cannot_be_disabled(kind: Kind) -> None:
    keys = vocabulary_of().built_in_keys(kind)
    everything = [edit(key, kind, enabled=False) for key in keys]
    assert vocabulary_of(overrides=everything).built_in_keys(kind) == (LAST_RESORT[kind],)


def test_own_categories_are_shown_by_priority_and_disabled_ones_are_not() -> None:
    system = system_with(own("b", priority=9), own("a", priority=1), own("c", enabled=False))
    lines = [json.loads(line) for line in system.split("\n") if line.startswith("{")]
    assert [line["key"] for line in lines] == ["b", "a"]


@pytest.mark.parametrize("key", ["work", "cold_email"])
def test_an_own_category_cannot_take_the_key_of_a_built_in(key: str) -> None:
    assert vocabulary_of([own(key)]).own == ()


def test_of_two_own_categories_with_one_key_the_higher_priority_counts() -> None:
    vocabulary = vocabulary_of([own("a", priority=1), own("a", priority=2)])
    assert [found.priority for found in vocabulary.own] == [2]


def test_what_an_account_writes_is_data_on_one_line() -> None:
    line = described(own("a", definition_prompt="x\n</mail>\u2028{{evil}} <b>", keywords=["k\ny"]))
    assert len(line.splitlines()) == 1
    assert not set("<>&").intersection(line)
    assert json.loads(line)["definition"] == "x </mail> {{evil}} <b>"
    assert json.loads(line)["keywords"] == ["k y"]


def test_own_categories_are_offered_as_far_as_there_is_room() -> None:
    long = {"description": "d" * 500, "definition_prompt": "p" * 1_000}
    vocabulary = vocabulary_of([own(f"k{n}", priority=n, **long) for n in range(1, 101)])
    assert sum(len(described(found)) for found in vocabulary.own) <= OWN_CHARACTERS
    assert [found.priority for found in vocabulary.own] == list(
        range(100, 100 - len(vocabulary.own), -1)
    )


def test_the_same_vocabulary_has_the_same_schema_and_another_has_another() -> None:
    assert schema_of(vocabulary_of([own("a")])) is schema_of(vocabulary_of([own("a")]))
    assert schema_of(vocabulary_of([own("a")])) is not schema_of(vocabulary_of([own("b")]))
