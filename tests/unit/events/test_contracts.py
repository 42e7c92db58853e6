"""What each type of event accepts and refuses."""

import json
from typing import Any

import pytest

from events import (
    AccountUpdated,
    AnalysisRequested,
    EventRefused,
    KeyAdded,
    MailInput,
    UsageRecorded,
    read_event,
)
from tests.unit.events.samples import SAMPLES, event, event_with

ACCOUNT = "byok.account.updated.v1"
ADDED = "byok.key.added.v1"
REQUESTED = "byok.analysis.requested.v1"
USAGE = "byok.usage.recorded.v1"
CATEGORY = SAMPLES[ACCOUNT]["custom_categories"][0]
PERIOD = {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (ACCOUNT, {"revision": -1}),
        (ACCOUNT, {"revision": 2**53 + 1}),
        (ACCOUNT, {"revision": 1.5}),
        (ACCOUNT, {"plan": ""}),
        (ACCOUNT, {"plan": "Business"}),
        (ACCOUNT, {"plan": "b" * 41}),
        (ACCOUNT, {"plan_status": "gone"}),
        (ACCOUNT, {"ai_consent": None}),
        (ACCOUNT, {"ai_consent": "perhaps"}),
        (ACCOUNT, {"credits": -1}),
        (ACCOUNT, {"credits": "many"}),
        (ACCOUNT, {"credit_period": None}),
        (ACCOUNT, {"credit_period": PERIOD | {"end": PERIOD["start"]}}),
        (ACCOUNT, {"credit_period": PERIOD | {"end": "2025-01-01T00:00:00Z"}}),
        (ACCOUNT, {"credit_period": PERIOD | {"end": "2026-02-01T00:00:00"}}),
        (ACCOUNT, {"timezone": "Mars/Olympus"}),
        (ACCOUNT, {"timezone": "../../etc/passwd"}),
        (ACCOUNT, {"timezone": ""}),
        (ACCOUNT, {"budget_usd": -1}),
        (ACCOUNT, {"budget_usd": "0.001"}),
        (ACCOUNT, {"budget_usd": "NaN"}),
        (ACCOUNT, {"custom_categories": [CATEGORY] * 101}),
        (ACCOUNT, {"custom_categories": [CATEGORY | {"confidence_threshold": 49}]}),
        (ACCOUNT, {"custom_categories": [CATEGORY | {"confidence_threshold": 96}]}),
        (ACCOUNT, {"custom_categories": [CATEGORY | {"priority": 0}]}),
        (ACCOUNT, {"custom_categories": [CATEGORY | {"priority": 101}]}),
        (ACCOUNT, {"custom_categories": [CATEGORY | {"type": "mood"}]}),
        (ACCOUNT, {"custom_categories": [CATEGORY | {"keywords": ["k"] * 51}]}),
        (ACCOUNT, {"custom_categories": [CATEGORY | {"definition_prompt": "x" * 1001}]}),
        (ACCOUNT, {"category_overrides": [{"type": "category", "key": "s", "delete": True}]}),
        (ADDED, {"provider": "mistral"}),
        (ADDED, {"provider": "auto"}),
        (ADDED, {"key_id": "a b"}),
        (ADDED, {"sealed_key": ""}),
        (ADDED, {"sealed_key": "sk-fake"}),
        (ADDED, {"sealed_key": "v2.s1.AAAA"}),
        (ADDED, {"sealed_key": "v1.s1.AAAA\n"}),
        (ADDED, {"sealed_key": "v1.s1.AA=="}),
        (ADDED, {"sealed_key": "v1.s1." + "A" * 20_000}),
        (REQUESTED, {"operation": "gossip"}),
        (REQUESTED, {"provider": "mistral"}),
        (REQUESTED, {"model": "a model"}),
        (REQUESTED, {"model": "m" * 101}),
        (REQUESTED, {"sealed_input": "Dear Ann,"}),
        (REQUESTED, {"expires_at": "2026-01-02T00:00:00"}),
        (USAGE, {"rows": []}),
        (USAGE, {"rows": [{}] * 501}),
        (USAGE, {"rows": [7]}),
    ],
)
def test_what_is_outside_the_contract_is_refused(kind: str, changes: dict[str, Any]) -> None:
    with pytest.raises(EventRefused) as caught:
        read_event(json.dumps(event_with(kind, **changes)))
    assert caught.value.reason == "invalid_event"


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_there_are_two_providers(provider: str) -> None:
    data = read_event(json.dumps(event_with(ADDED, provider=provider))).data
    assert isinstance(data, KeyAdded)
    assert data.provider == provider


def test_fallback_to_the_platform_is_off_unless_it_is_asked_for() -> None:
    fields = event(ADDED)
    del fields["data"]["allow_platform_fallback"]
    data = read_event(json.dumps(fields)).data
    assert isinstance(data, KeyAdded)
    assert data.allow_platform_fallback is False


def test_consent_and_credits_have_no_default() -> None:
    for name in ("ai_consent", "credits"):
        fields = event(ACCOUNT)
        del fields["data"][name]
        with pytest.raises(EventRefused, match=name):
            read_event(json.dumps(fields))


def test_an_account_without_a_limit_of_credits_stays_so_on_its_way() -> None:
    read = read_event(json.dumps(event_with(ACCOUNT, credits=None)))
    again = read_event(read.to_json())
    assert isinstance(again.data, AccountUpdated)
    assert again.data.credits is None


def test_a_usage_row_keeps_its_empty_fields_on_its_way() -> None:
    again = read_event(read_event(json.dumps(event(USAGE))).to_json())
    assert isinstance(again.data, UsageRecorded)
    assert again.data.rows == ({"id": "row-1", "key_id": None},)


def test_a_sealed_input_may_be_as_long_as_the_event_allows() -> None:
    sealed = "v1.s1." + "A" * 240_000
    data = read_event(json.dumps(event_with(REQUESTED, sealed_input=sealed))).data
    assert isinstance(data, AnalysisRequested)
    assert data.sealed_input == sealed


def test_an_event_is_not_changed_after_it_was_made() -> None:
    data = read_event(json.dumps(event(ADDED))).data
    with pytest.raises(ValueError, match="frozen"):
        data.key_id = "other"  # type: ignore[attr-defined]


def test_a_mail_travels_with_the_headers_that_the_rules_read_and_no_other() -> None:
    mail = MailInput.model_validate(
        {"from": "a@example.org", "headers": {"List-Id": "<l.example.org>"}}
    )
    assert MailInput.model_validate_json(mail.to_json()) == mail
    assert json.loads(mail.to_json())["from"] == "a@example.org"
    with pytest.raises(ValueError, match="headers"):
        MailInput.model_validate({"headers": {"X-Secret-Header": "1"}})
    with pytest.raises(ValueError, match="attachments"):
        MailInput.model_validate({"attachments": []})
