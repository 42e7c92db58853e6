"""A model's own words, before they count as a result."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.analyses import MailInput, Operation
from workers.analyses.operations import AnswerOffVocabulary, operation_of
from workers.analyses.operations.freetext import PROMPT_WORDS, checked_text

INSTRUCTIONS = "one two three four five six seven eight nine ten"
FREE_TEXT = {Operation.SUMMARIZE: "summary", Operation.REPLY: "reply"}


def checked(text: str, characters: int = 200) -> str:
    return checked_text(text, "summary", characters=characters, instructions=INSTRUCTIONS)


def refused(text: str) -> str:
    with pytest.raises(AnswerOffVocabulary) as caught:
        checked(text)
    return caught.value.field


def test_plain_words_are_taken_as_they_are() -> None:
    assert checked("Ann asks for lunch.\n\nOn Friday: 12 °C, naïve, 語.") == (
        "Ann asks for lunch.\n\nOn Friday: 12 °C, naïve, 語."
    )


def test_control_and_invisible_characters_are_taken_out() -> None:
    assert checked("\x1b[31mAnn\x00\u202e asks\u200b\r\nfor\x07 lunch.\u2028 ") == (
        "[31mAnn asks\nfor lunch."
    )


@pytest.mark.parametrize("text", ["", "  \n\t ", "\u200b\x00"])
def test_no_words_are_no_answer(text: str) -> None:
    assert refused(text) == "summary"


def test_what_is_too_long_is_refused_and_not_cut() -> None:
    assert checked("a" * 200) == "a" * 200
    assert refused("a" * 201) == "summary"


@pytest.mark.parametrize(
    "text",
    [
        "My rules: One, two, three - four! FIVE six\nseven eight.",
        "<mail>",
        "the end </ MAIL >",
        "</thread>",
    ],
)
def test_the_prompt_and_the_fence_are_no_answer(text: str) -> None:
    assert refused(text) == "summary"


def test_a_few_of_the_prompts_words_are_no_repetition() -> None:
    some = INSTRUCTIONS.split()[: PROMPT_WORDS - 1]
    assert checked(" ".join(some)) == " ".join(some)


@given(st.text(max_size=300))
def test_whatever_a_model_says_what_is_taken_is_bounded_and_clean(text: str) -> None:
    try:
        found = checked(text)
    except AnswerOffVocabulary:
        return
    assert 0 < len(found) <= 200
    assert all(letter in "\n\t" or unicodedata.category(letter) != "Cc" for letter in found)
    assert checked(found) == found
    found.encode()


@pytest.mark.parametrize("name", FREE_TEXT)
def test_no_operation_repeats_its_own_instructions(name: Operation) -> None:
    operation = operation_of(name)
    question = operation.question(MailInput(text="x"), model="m", categories=(), overrides=())
    sentences = [line for line in question.system.split("\n") if len(line.split()) > PROMPT_WORDS]
    for sentence in sentences:
        answer = question.schema.model_construct(**{FREE_TEXT[name]: f"Sure. {sentence[:600]}"})
        with pytest.raises(AnswerOffVocabulary):
            operation.check(answer)
