"""Where a result comes from: complete in the out-event, the same in the store and on the ledger."""

from typing import Any

import pytest

from events import Operation, Provenance, Provider, ProviderChoice
from tests.road import GOOD_ANTHROPIC, MAIL, Road
from workers.analyses.operations import operation_of

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)

BOUNCE = MAIL.model_copy(update={"headers": {"Auto-Submitted": "auto-replied"}})
INVALID = "sk-proj-sandbox-revoked-not-a-real-key-0001"


def provenance(road: Road, request_id: str) -> Provenance:
    """What the request's one `analysis.completed` says."""
    (data,) = (
        event["data"]
        for event in road.out_events("analysis.completed")
        if event["data"]["request_id"] == request_id
    )
    told: dict[str, Any] = data["provenance"]
    assert set(told) == set(Provenance.model_fields), "every field is told, null where it is none"
    return Provenance.model_validate(told)


@pytest.mark.parametrize("operation", [Operation.CLASSIFY, Operation.SUMMARIZE])
def test_an_answer_of_a_model_says_who_paid_what_for_which_call(
    road: Road, operation: Operation
) -> None:
    road.account()
    key_id = road.give_key(GOOD_ANTHROPIC)
    road.sandbox.fault("offschema", endpoint="completion", count=1)
    request = road.ended(road.ask(mail=MAIL, operation=operation))
    told = provenance(road, request.request_id)
    assert (told.by, told.credential, told.key_id) == ("model", "byok", key_id)
    assert (told.provider, told.model) == (Provider.ANTHROPIC, "claude-haiku-5-5")
    assert (told.fallback_reason, told.reused_from) == (None, None)
    assert told.prompt_version == operation_of(operation).prompt_version
    assert told.attempts == 2
    assert told.usage.model_dump() == request.usage

    refused, row = road.settled_ledger()
    assert (refused.attempt, row.attempt, row.completes) == (1, 2, True)
    usage = told.usage
    assert (usage.input_tokens, usage.output_tokens) == (row.input_tokens, row.output_tokens)
    assert usage.cached_read_tokens == row.cached_read_tokens
    assert usage.cache_write_tokens == row.cache_write_tokens
    assert usage.reasoning_tokens == row.reasoning_tokens
    assert (usage.cost_nano_usd, usage.priced) == (row.cost_nano_usd, True)
    assert usage.cost_nano_usd > 0
    assert usage.latency_ms >= 0


def test_a_fallback_says_why_the_own_key_did_not_pay(road: Road) -> None:
    road.account()
    road.give_key(INVALID, fallback=True)
    request = road.ended(road.ask(provider=ProviderChoice.OPENAI))
    told = provenance(road, request.request_id)
    assert (told.credential, told.key_id) == ("platform", None)
    assert told.fallback_reason == "key_invalid"
    assert request.fallback_reason == "key_invalid"


def test_an_answer_without_a_call_costs_nothing_and_says_where_it_comes_from(road: Road) -> None:
    road.account()
    first = road.ended(road.ask(mail=MAIL))
    again = provenance(road, road.ended(road.ask(mail=MAIL)).request_id)
    ruled = provenance(road, road.ended(road.ask(mail=BOUNCE)).request_id)
    assert (again.by, again.reused_from) == ("reuse", first.request_id)
    assert again.prompt_version == first.prompt_version
    assert (ruled.by, ruled.reused_from, ruled.prompt_version) == ("rules", None, None)
    for told in (again, ruled):
        assert (told.credential, told.key_id, told.provider, told.model) == (
            *("none", None, None, None),
        )
        assert not any(told.usage.model_dump(exclude={"priced"}).values())
        assert told.attempts == 0


def test_a_model_without_a_known_price_costs_nothing_and_says_so(road: Road) -> None:
    road.account()
    request = road.ended(road.ask(provider=ProviderChoice.OPENAI, model="gpt-5.4-unheard-of"))
    usage = provenance(road, request.request_id).usage
    assert (usage.cost_nano_usd, usage.priced) == (0, False)
    assert usage.input_tokens > 0
