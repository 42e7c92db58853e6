"""How a key is proven: which calls, in which order, and what they come to."""

import asyncio
from types import ModuleType
from typing import Any

import httpx2
import pytest

from events.keys import KeyStatus, Provider
from workers.providers import Failure, OutcomeClass, Proof, Tokens, judge_outcome

BOTH = pytest.mark.parametrize("provider", list(Provider))
OPENAI, ANTHROPIC = Provider.OPENAI, Provider.ANTHROPIC
LIST, CHAT = "/v1/models", "/v1/chat/completions"
COUNT, MESSAGES = "/v1/messages/count_tokens", "/v1/messages"
SCOPES = {"message": "Missing scopes: api.model.read.", "type": "permission_error"}
BILLED = Tokens(input=1_300, cached_read=1_000, cache_write=200, output=50, reasoning=20)


def listed() -> httpx2.Response:
    return httpx2.Response(200, headers={"request-id": "req_1"}, json={"data": []})


def counted() -> httpx2.Response:
    return httpx2.Response(200, headers={"request-id": "req_2"}, json={"input_tokens": 8})


def probe(
    kit: ModuleType, provider: Provider, *steps: Any, prove_quota: bool = False
) -> tuple[Proof | Failure, Any]:
    script = kit.Script(*steps)

    async def run() -> Proof | Failure:
        client = kit.client(provider, script)
        outcome: Proof | Failure = await kit.prove(client, provider, prove_quota=prove_quota)
        await client.close()
        return outcome

    return asyncio.run(run()), script


@BOTH
def test_a_key_that_lists_models_is_proven_for_nothing(kit: ModuleType, provider: Provider) -> None:
    outcome, script = probe(kit, provider, listed())
    assert isinstance(outcome, Proof)
    assert (outcome.stage, outcome.tokens) == (1, None)
    assert script.paths == [LIST]


def test_openai_proves_quota_by_one_output_token(kit: ModuleType) -> None:
    outcome, script = probe(kit, OPENAI, listed(), kit.success(OPENAI), prove_quota=True)
    assert outcome == Proof(
        stage=2, request_id="req_unit", model="gpt-unit-1-2026-01-01", tokens=BILLED
    )
    assert script.paths == [LIST, CHAT]
    assert script.body(1)["max_completion_tokens"] == 1
    assert script.body(1)["model"] == "gpt-unit-1"


def test_anthropic_proves_quota_by_counting_tokens(kit: ModuleType) -> None:
    outcome, script = probe(kit, ANTHROPIC, listed(), counted(), prove_quota=True)
    assert outcome == Proof(stage=2, request_id="req_2", model="claude-unit-1")
    assert script.paths == [LIST, COUNT]


def test_a_restricted_openai_key_is_tried_on_the_model(kit: ModuleType) -> None:
    outcome, script = probe(kit, OPENAI, kit.error(403, SCOPES), kit.success(OPENAI))
    assert isinstance(outcome, Proof)
    assert outcome.stage == 2
    assert script.paths == [LIST, CHAT]


@pytest.mark.parametrize(
    "refused",
    [
        (403, {"type": "permission_error"}),
        (404, {"type": "not_found_error", "message": "Not found"}),
        (404, {"type": "not_found_error", "message": "model: claude-unit-1"}),
        (400, {"type": "invalid_request_error"}),
    ],
)
def test_anthropic_spends_a_token_where_counting_cannot_tell(
    kit: ModuleType, refused: tuple[int, dict[str, str]]
) -> None:
    steps = (kit.error(403, SCOPES), kit.error(*refused), kit.success(ANTHROPIC))
    outcome, script = probe(kit, ANTHROPIC, *steps)
    assert outcome == Proof(
        stage=2, request_id="req_unit", model="claude-unit-1-20260101", tokens=BILLED
    )
    assert script.paths == [LIST, COUNT, MESSAGES]
    assert script.body(2)["max_tokens"] == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, OutcomeClass.REJECTED),
        (402, OutcomeClass.NO_QUOTA),
        (429, OutcomeClass.RATE_LIMITED),
        (500, OutcomeClass.UNAVAILABLE),
    ],
)
def test_anthropic_spends_nothing_where_counting_tells(
    kit: ModuleType, status: int, kind: OutcomeClass
) -> None:
    outcome, script = probe(
        kit, ANTHROPIC, listed(), kit.error(status, {"type": "x"}), prove_quota=True
    )
    assert isinstance(outcome, Failure)
    assert outcome.kind is kind
    assert script.paths == [LIST, COUNT]


@BOTH
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, OutcomeClass.REJECTED),
        (429, OutcomeClass.RATE_LIMITED),
        (500, OutcomeClass.UNAVAILABLE),
    ],
)
def test_no_second_stage_where_the_first_tells(
    kit: ModuleType, provider: Provider, status: int, kind: OutcomeClass
) -> None:
    outcome, script = probe(kit, provider, kit.error(status, {}), prove_quota=True)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.model) == (kind, None)
    assert script.paths == [LIST]


@BOTH
def test_a_key_refused_at_both_stages_is_invalid_and_at_one_is_not(
    kit: ModuleType, provider: Provider
) -> None:
    pending = KeyStatus.PENDING
    twice, _ = probe(kit, provider, kit.error(403, SCOPES))
    assert isinstance(twice, Failure)
    assert (twice.kind, twice.code) == (OutcomeClass.RESTRICTED, "restricted")
    verdict = judge_outcome(twice, status=pending, reason="new")
    assert (verdict.status, verdict.reason) == (KeyStatus.INVALID, "restricted")

    busy = kit.error(503, {})
    outage, _ = probe(kit, provider, kit.error(403, SCOPES), busy)
    assert isinstance(outage, Failure)
    assert outage.kind is OutcomeClass.UNAVAILABLE
    assert judge_outcome(outage, status=pending, reason="new").status is pending


@BOTH
def test_a_portal_that_answers_to_everything_proves_nothing(
    kit: ModuleType, provider: Provider
) -> None:
    for body in (b"<html>Sign in</html>", b"{}", b'{"data": "yes", "input_tokens": true}', b"[]"):
        outcome, _ = probe(kit, provider, httpx2.Response(200, content=body), prove_quota=True)
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.code) == (OutcomeClass.UNAVAILABLE, "malformed")


def test_a_second_stage_that_is_no_completion_proves_nothing(kit: ModuleType) -> None:
    for provider in Provider:
        portal = httpx2.Response(200, content=b'{"ok": true}')
        outcome, _ = probe(kit, provider, listed(), portal, prove_quota=True)
        assert isinstance(outcome, Failure)
        assert outcome.code == "malformed"


def test_a_reasoning_model_that_used_up_the_one_token_has_proven_the_key(kit: ModuleType) -> None:
    text = "Could not finish the message because max_tokens or model output limit was reached."
    spent = kit.error(400, {"message": text}, {"x-request-id": "req_9"})
    outcome, _ = probe(kit, OPENAI, listed(), spent, prove_quota=True)
    assert outcome == Proof(stage=2, request_id="req_9", model="gpt-unit-1")
