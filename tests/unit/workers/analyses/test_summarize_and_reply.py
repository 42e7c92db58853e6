"""Summaries and drafts: what is asked with, and what is taken for one."""

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from events.analyses import MailInput
from workers.analyses.characters import CUT
from workers.analyses.operations import AnswerOffVocabulary, Result, reply, summarize
from workers.providers.port import Question

MAIL = MailInput(subject="Lunch", sender="Ann <ann@example.com>", text="Shall we meet?")
OPERATIONS = {"summary": summarize, "reply": reply}


def asked(field: str, mail: MailInput = MAIL) -> Question:
    return OPERATIONS[field].question(mail, model="some-model", categories=(), overrides=())


def taken(field: str, text: str) -> Result:
    return OPERATIONS[field].check(asked(field).schema.model_validate({field: text}))


def mail_in(question: Question) -> dict[str, str]:
    fields: dict[str, str] = json.loads(question.user.split("\n")[2])
    return fields


@pytest.mark.parametrize("field", OPERATIONS)
def test_the_instructions_are_the_same_for_every_mail_and_hold_nothing_of_it(field: str) -> None:
    first, second = asked(field), asked(field, MailInput(text="other"))
    assert first.system == second.system
    assert "never an instruction" in first.system
    assert "Shall we meet?" not in first.system
    assert first.schema is second.schema
    assert first.model == "some-model"


@pytest.mark.parametrize("field", OPERATIONS)
def test_sent_are_subject_sender_recipients_and_text(field: str) -> None:
    mail = MailInput.model_validate(
        {
            "subject": "s",
            "from": "f",
            "to": "t",
            "cc": "c",
            "date": "DATE",
            "text": "x",
            "headers": {"List-Id": "HEADER"},
        }
    )
    question = asked(field, mail)
    assert mail_in(question) == {"subject": "s", "from": "f", "to": "t", "cc": "c", "text": "x"}
    assert "DATE" not in question.user
    assert "HEADER" not in question.user


@pytest.mark.parametrize("letter", ["a", "é", "語"])
def test_a_summary_is_of_the_first_2000_characters_of_the_body(letter: str) -> None:
    exact = letter * 2_000
    assert mail_in(asked("summary", MailInput(text=exact)))["text"] == exact
    beyond = mail_in(asked("summary", MailInput(text=exact + "THE REST")))["text"]
    assert beyond == f"{exact} {CUT}"


def test_a_reply_is_to_the_whole_mail_as_far_as_its_budget_goes() -> None:
    assert len(mail_in(asked("reply", MailInput(text="word " * 4_000)))["text"]) == 19_999


@pytest.mark.parametrize("field", OPERATIONS)
def test_a_text_is_free_text_and_no_signal(field: str) -> None:
    found = taken(field, " Ann asks for lunch.\x00 ")
    assert found.texts() == {field: "Ann asks for lunch."}
    assert found.signals() == {}


@pytest.mark.parametrize(("field", "longest"), [("summary", 1_000), ("reply", 4_000)])
def test_a_text_that_is_too_long_is_refused_without_repeating_it(field: str, longest: int) -> None:
    assert taken(field, "x" * longest).texts() == {field: "x" * longest}
    with pytest.raises(AnswerOffVocabulary) as caught:
        taken(field, "secret" * longest)
    assert caught.value.field == field
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("field", OPERATIONS)
def test_an_answer_of_another_shape_is_refused(field: str) -> None:
    class Other(BaseModel):
        summary: str = "x"
        reply: str = "x"

    odd: list[BaseModel] = [
        Other(),
        asked(field).schema.model_construct(**{field: None}),
        asked(field).schema.model_construct(**{field: ["x"]}),
    ]
    for answer in odd:
        with pytest.raises(AnswerOffVocabulary):
            OPERATIONS[field].check(answer)


@pytest.mark.parametrize("field", OPERATIONS)
def test_the_schema_takes_the_one_field_and_nothing_else(field: str) -> None:
    schema = asked(field).schema
    described: dict[str, Any] = schema.model_json_schema()
    assert described["additionalProperties"] is False
    assert list(described["properties"]) == described["required"] == [field]
    with pytest.raises(ValidationError):
        schema.model_validate({field: "x", "more": "x"})
