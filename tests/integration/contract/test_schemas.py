"""The schemas accept what is read and refuse what is not."""

import json
from copy import deepcopy
from typing import Any

import pytest

from events import EventRefused, MailInput, read_event
from events.contract import Vectors, event_schemas
from tests.integration.contract.json_schema import problems
from tests.unit.events.samples import SAMPLES, event_with

SCHEMAS = event_schemas()

ACCOUNT = "byok.account.updated.v1"
ADDED = "byok.key.added.v1"


def test_every_event_that_is_read_is_valid(vectors: Vectors) -> None:
    for vector in vectors["events"]:
        assert problems(json.loads(vector["signed"]), SCHEMAS[vector["type"]]) == []


def test_every_event_that_is_refused_for_its_content_is_not_valid(vectors: Vectors) -> None:
    refused = [v for v in vectors["events_refused"] if v["reason"] == "invalid_event"]
    assert len(refused) > 5
    for vector in refused:
        fields = json.loads(vector["text"])
        assert problems(fields, SCHEMAS[fields["type"]]), vector["name"]


def test_what_travels_sealed_is_valid(vectors: Vectors) -> None:
    for vector in vectors["sealing"]:
        if vector["name"].startswith("mail"):
            mail = json.loads(vector["plaintext"])
            assert problems(mail, SCHEMAS["sealed.mail"]) == []
            assert MailInput.model_validate(mail).sender


@pytest.mark.parametrize(
    "mail", [{"attachments": []}, {"headers": {"X-Other": "1"}}, {"subject": None}, []]
)
def test_what_is_no_mail_is_not_valid(mail: Any) -> None:
    assert problems(mail, SCHEMAS["sealed.mail"])


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_no_field_that_a_schema_demands_can_be_left_out(kind: str) -> None:
    whole = event_with(kind)
    assert problems(whole, SCHEMAS[kind]) == []
    data = SCHEMAS[kind]["$defs"][_data_of(kind)]
    for name in SAMPLES[kind]:
        fields = deepcopy(whole)
        del fields["data"][name]
        demanded = name in data.get("required", ())
        assert bool(problems(fields, SCHEMAS[kind])) == demanded
        assert _refused(fields) == demanded, name


@pytest.mark.parametrize(
    "budget", ["0", "12.50", "9999999999.99", 0, 3, 12.5, None, "-1", "0.001", "1e3", "NaN", -1]
)
def test_an_amount_that_a_schema_allows_is_read(budget: Any) -> None:
    fields = event_with(ADDED, budget_usd=budget)
    if not problems(fields, SCHEMAS[ADDED]):
        assert not _refused(fields)


def test_an_account_without_a_limit_of_credits_is_valid() -> None:
    assert problems(event_with(ACCOUNT, credits=None), SCHEMAS[ACCOUNT]) == []
    assert problems(event_with(ACCOUNT, credits=-1), SCHEMAS[ACCOUNT])


def test_every_field_says_what_it_is() -> None:
    silent = []
    for kind, schema in SCHEMAS.items():
        for name, part in {kind: schema, **schema.get("$defs", {})}.items():
            assert part.get("description"), name
            for field, told in part.get("properties", {}).items():
                if field != "data" and len(told.get("description", "")) < 9:
                    silent.append(f"{name}.{field}")
    assert silent == []


def _data_of(kind: str) -> str:
    return str(SCHEMAS[kind]["properties"]["data"]["$ref"]).rpartition("/")[2]


def _refused(fields: dict[str, Any]) -> bool:
    try:
        read_event(json.dumps(fields))
    except EventRefused:
        return True
    return False
