"""What both adapters make of a question, over the real SDKs."""

import asyncio
from types import ModuleType
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel, SecretStr, field_validator

from events.keys import Provider
from workers.providers import Answer, Failure, OutcomeClass, Tokens

BOTH = pytest.mark.parametrize("provider", list(Provider))
REFUSALS: dict[Provider, dict[str, Any]] = {
    Provider.OPENAI: {
        "choices": [{"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}]
    },
    Provider.ANTHROPIC: {"content": [], "stop_reason": "refusal"},
}
CUT_SHORT: dict[Provider, dict[str, Any]] = {
    Provider.OPENAI: {"choices": [{"message": {"content": '{"categ'}, "finish_reason": "length"}]},
    Provider.ANTHROPIC: {
        "content": [{"type": "text", "text": '{"categ'}],
        "stop_reason": "max_tokens",
    },
}
NOTHING: dict[Provider, dict[str, Any]] = {
    Provider.OPENAI: {"choices": []},
    Provider.ANTHROPIC: {"content": []},
}
SAID_NOTHING: dict[Provider, dict[str, Any]] = {
    Provider.OPENAI: {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]},
    Provider.ANTHROPIC: {"content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]},
}
BILLED = Tokens(input=1_300, cached_read=1_000, cache_write=200, output=50, reasoning=20)


def ask(
    kit: ModuleType, provider: Provider, *steps: Any, **changes: Any
) -> tuple[Answer | Failure, Any]:
    script = kit.Script(*steps)

    async def run() -> Answer | Failure:
        client = kit.client(provider, script)
        try:
            outcome: Answer | Failure = await client.ask(
                kit.KEYS[provider], kit.question(provider, **changes)
            )
            return outcome
        finally:
            await client.close()

    return asyncio.run(run()), script


@BOTH
def test_an_answer_comes_validated_with_its_model_tokens_and_request_id(
    kit: ModuleType, provider: Provider
) -> None:
    outcome, _ = ask(kit, provider, kit.success(provider))
    dated = {Provider.OPENAI: "gpt-unit-1-2026-01-01", Provider.ANTHROPIC: "claude-unit-1-20260101"}
    assert outcome == Answer(
        value=kit.Signals(category="work", score=80),
        model=dated[provider],
        tokens=BILLED,
        request_id="req_unit",
    )


@BOTH
def test_one_question_is_one_request_whatever_it_comes_to(
    kit: ModuleType, provider: Provider
) -> None:
    for status in (200, 408, 409, 429, 500, 503, 529):
        answered = kit.success(provider) if status == 200 else kit.error(status, {})
        _, script = ask(kit, provider, answered)
        assert len(script.requests) == 1


@BOTH
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (REFUSALS, "refusal"),
        (CUT_SHORT, "length"),
        (NOTHING, "empty"),
        (SAID_NOTHING, "empty"),
    ],
    ids=["refusal", "length", "nothing", "said-nothing"],
)
def test_an_answer_without_words_is_a_bad_one_and_is_billed(
    kit: ModuleType, provider: Provider, changes: dict[Provider, dict[str, Any]], code: str
) -> None:
    outcome, _ = ask(kit, provider, kit.success(provider, **changes[provider]))
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.code) == (OutcomeClass.BAD_ANSWER, code)
    assert outcome.tokens == BILLED
    assert outcome.request_id == "req_unit"
    assert outcome.status == 200


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "",
        "certainly!",
        "[]",
        "{}",
        '{"category": "work"}',
        '{"category": "spam", "score": 1, "note": null}',
        '{"category": "work", "score": 101, "note": null}',
        '{"category": "work", "score": 80, "note": nul',
        "[" * 10_000,
    ],
)
def test_an_answer_off_the_schema_is_a_bad_one_and_is_billed(
    kit: ModuleType, provider: Provider, text: str
) -> None:
    outcome, _ = ask(kit, provider, kit.success(provider, text))
    assert isinstance(outcome, Failure)
    assert outcome.kind is OutcomeClass.BAD_ANSWER
    assert outcome.code == ("off_schema" if text else "empty")
    assert outcome.tokens == BILLED


class Quarrelsome(BaseModel):
    """A schema whose own validator breaks."""

    category: str

    @field_validator("category")
    @classmethod
    def _break(cls, value: str) -> str:
        raise RuntimeError(value)


@BOTH
def test_a_validator_that_breaks_does_not_lose_the_bill(
    kit: ModuleType, provider: Provider
) -> None:
    outcome, _ = ask(kit, provider, kit.success(provider), schema=Quarrelsome)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.code) == (OutcomeClass.BAD_ANSWER, "off_schema")
    assert outcome.tokens == BILLED


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"ok"',
        b'{"model": "m"',
        b"\xff\xfe",
        b"<html>Sign in to the network</html>",
        b'{"model": "m", "choices": {}, "content": {}}',
        b'{"model": "m", "choices": [null], "content": [null]}',
        b'{"error": {"message": "late failure"}}',
    ],
)
def test_a_success_in_name_only_is_an_outage(
    kit: ModuleType, provider: Provider, body: bytes
) -> None:
    for kind in ("application/json", "text/html"):
        reply = httpx2.Response(200, headers={"content-type": kind}, content=body)
        outcome, _ = ask(kit, provider, reply)
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.code) == (OutcomeClass.UNAVAILABLE, "malformed")
        assert outcome.sent
        assert outcome.tokens is None


@BOTH
def test_usage_that_is_not_told_is_not_made_up(kit: ModuleType, provider: Provider) -> None:
    answered, _ = ask(kit, provider, kit.success(provider, usage=None))
    refused, _ = ask(kit, provider, kit.success(provider, usage=None, **REFUSALS[provider]))
    assert isinstance(answered, Answer)
    assert answered.tokens == Tokens()
    assert isinstance(refused, Failure)
    assert refused.tokens is None


@BOTH
@pytest.mark.parametrize("odd", ["", "m" * 500, "two words", "semi;colon", "<b>bold</b>"])
def test_a_model_or_request_id_of_odd_shape_is_not_passed_on(
    kit: ModuleType, provider: Provider, odd: str
) -> None:
    reply = kit.success(provider, model=odd)
    reply.headers["x-request-id"] = reply.headers["request-id"] = odd
    outcome, _ = ask(kit, provider, reply)
    assert isinstance(outcome, Answer)
    assert outcome.model == kit.MODELS[provider]
    assert outcome.request_id is None


@BOTH
def test_a_refused_call_tells_its_status_request_id_model_and_wait(
    kit: ModuleType, provider: Provider
) -> None:
    headers = {"retry-after": "7", "x-request-id": "req_no", "request-id": "req_no"}
    outcome, _ = ask(kit, provider, kit.error(429, {"code": None}, headers))
    assert isinstance(outcome, Failure)
    assert outcome.kind is OutcomeClass.RATE_LIMITED
    assert (outcome.status, outcome.request_id, outcome.retry_after) == (429, "req_no", 7.0)
    assert outcome.model == kit.MODELS[provider]
    assert outcome.tokens is None
    assert outcome.sent


@BOTH
def test_a_redirect_is_not_followed(kit: ModuleType, provider: Provider) -> None:
    for status in (301, 302, 307, 308):
        moved = httpx2.Response(status, headers={"location": "https://elsewhere.invalid/"})
        outcome, script = ask(kit, provider, moved)
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.code) == (OutcomeClass.UNAVAILABLE, "redirect")
        assert [request.url.host for request in script.requests] == [f"{provider}.invalid"]


@BOTH
def test_each_call_carries_the_key_it_was_given_and_no_other(
    kit: ModuleType, provider: Provider
) -> None:
    script = kit.Script(kit.success(provider))
    keys = [SecretStr(f"{kit.KEYS[provider].get_secret_value()}-{n}") for n in range(20)]

    async def run() -> None:
        client = kit.client(provider, script)
        await asyncio.gather(*(client.ask(key, kit.question(provider)) for key in keys))
        await client.close()

    asyncio.run(run())
    sent = sorted(request.headers["authorization"] for request in script.requests)
    assert sent == sorted(f"Bearer {key.get_secret_value()}" for key in keys)


@BOTH
def test_a_schema_that_no_provider_could_take_is_a_failure_too(
    kit: ModuleType, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    class Open(BaseModel):
        """A schema of something that has no JSON schema."""

        model_config = {"arbitrary_types_allowed": True}
        thing: ModuleType

    outcome, script = ask(kit, provider, kit.success(provider), schema=Open)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.code) == (OutcomeClass.UNAVAILABLE, "unexpected")
    assert script.requests == []
    assert "PydanticInvalidForJsonSchema" in caplog.text
