"""A model's own words, before they count as a result."""

import base64
import codecs
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.analyses import MailInput, Operation
from workers.analyses.operations import AnswerOffVocabulary, operation_of
from workers.analyses.operations.freetext import PROMPT_WORDS, checked_text, held_against

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


@pytest.mark.parametrize(
    "encoded",
    [
        INSTRUCTIONS[::-1],
        codecs.encode(INSTRUCTIONS, "rot13"),
        base64.b64encode(INSTRUCTIONS.encode()).decode(),
        f"Here: {base64.urlsafe_b64encode(INSTRUCTIONS.encode()).decode()[:60]} is it.",
        INSTRUCTIONS.encode().hex(),
        INSTRUCTIONS.encode().hex(" "),
        " ".join(INSTRUCTIONS),
        INSTRUCTIONS.replace(" ", ""),
        "".join(chr(ord(c) + 0xFEE0) if c != " " else c for c in INSTRUCTIONS),
    ],
)
def test_the_prompt_in_another_encoding_is_no_answer(encoded: str) -> None:
    with pytest.raises(AnswerOffVocabulary):
        checked(encoded, characters=2_000)


ASKED = """Look at this:
<mail>
{"subject":"Call +49 (30) 123 456-78 or see https://shop.example/a?x=1\\u0026y=2","text":\
"Order A-77-2024-1 of 2024-05-30, from ann.lee@shop.example"}
</mail>"""


@pytest.mark.parametrize(
    "text",
    [
        "Ann (Ann.Lee@shop.example) wants a call: +493012345678, or 30/123 456 78.",
        "See shop.example/a?x=1&y=2, www.shop.example/a or https://shop.example/a?x=1&y=2.",
        "Order A-77-2024-1 was placed on 30.05.2024, that is 5/30/2024 or 2024-05-30 10:15:00.",
        "In 2024 and 2025, some 1,500,000 people and 12 345 678 sheep paid $99.95.",
        "[your telephone number], @ann, a@b, item-5 and level42",
    ],
)
def test_what_can_be_followed_is_taken_where_it_stood_in_the_question(text: str) -> None:
    held_against(text, "reply", asked=ASKED)


@pytest.mark.parametrize(
    "text",
    [
        "Write to eve@elsewhere.example.",
        "See https://shop.example/a?x=1&secret=4711 for it.",
        "![](https://elsewhere.example/p.png)",
        "www.elsewhere.example",
        "The account is acct-000291-b.",
        "req_01J8ZC4N5W",
        "IBAN DE89 3704 0044 0532 0130 00",
        "Call +44 20 7946 0958.",
    ],
)
def test_what_can_be_followed_and_was_made_up_is_no_answer(text: str) -> None:
    with pytest.raises(AnswerOffVocabulary) as caught:
        held_against(text, "reply", asked=ASKED)
    assert caught.value.field == "reply"


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
