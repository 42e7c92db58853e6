"""What is Anthropic's own: the request, the headers, the environment."""

import asyncio
from types import ModuleType
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types.shared.enforced_spend_limit_reached_error import (
    EnforcedSpendLimitReachedError,
)

from events.keys import Provider
from workers.providers import Answer, AnthropicClient, Failure, Limits, OutcomeClass
from workers.providers.anthropic import read_completion, read_limits

ANTHROPIC = Provider.ANTHROPIC
ANSWERED = "Tue, 24 Nov 2026 07:00:00 GMT"


def ask(kit: ModuleType, script: Any, **changes: Any) -> Answer | Failure:
    async def run() -> Answer | Failure:
        client = kit.client(ANTHROPIC, script)
        outcome: Answer | Failure = await client.ask(
            kit.KEYS[ANTHROPIC], kit.question(ANTHROPIC, **changes)
        )
        await client.close()
        return outcome

    return asyncio.run(run())


def test_the_schema_is_sent_as_the_sdks_own_parse_sends_it(kit: ModuleType) -> None:
    script = kit.Script(kit.success(ANTHROPIC))
    ask(kit, script)

    async def parse() -> None:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(script))
        sdk = anthropic.AsyncAnthropic(
            api_key="sk-ant-fake", base_url="https://a.invalid", http_client=http
        )
        await sdk.messages.parse(
            model="m",
            max_tokens=9,
            messages=[{"role": "user", "content": "?"}],
            output_format=kit.Signals,
        )
        await sdk.close()

    asyncio.run(parse())
    assert script.body(0)["output_config"] == script.body(1)["output_config"]
    assert script.requests[0].headers.get("anthropic-beta") == script.requests[1].headers.get(
        "anthropic-beta"
    )


def test_the_stable_part_is_marked_for_the_cache(kit: ModuleType) -> None:
    script = kit.Script(kit.success(ANTHROPIC))
    ask(kit, script, max_output_tokens=77)
    body = script.body()
    assert body["system"] == [
        {
            "type": "text",
            "text": "You classify mail.",
            "cache_control": {"type": "ephemeral"},
        }
    ]
    assert body["messages"] == [{"role": "user", "content": "Subject: budget"}]
    assert body["max_tokens"] == 77
    assert set(body) == {"model", "max_tokens", "system", "messages", "output_config"}
    assert str(script.requests[0].url) == "https://anthropic.invalid/v1/messages"


def test_the_operators_credentials_and_endpoint_are_not_for_users_keys(
    kit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AUTH_TOKEN", "API_KEY", "BASE_URL", "PROFILE"):
        monkeypatch.setenv(f"ANTHROPIC_{name}", "https://operators.invalid")
    script = kit.Script(kit.success(ANTHROPIC))
    ask(kit, script)
    request = script.requests[0]
    assert "operators" not in repr([str(request.url), request.headers.raw])


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key"])
def test_a_header_of_the_environment_must_not_replace_users_keys(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", f"{name}: sk-ant-fake-of-the-operator")
    with pytest.raises(ValueError, match="ANTHROPIC_CUSTOM_HEADERS") as refused:
        AnthropicClient()
    assert "sk-ant" not in str(refused.value)


def test_limits_come_from_the_headers_by_the_providers_own_clock() -> None:
    headers = {
        "date": ANSWERED,
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-11-24T07:00:02Z",
        "anthropic-ratelimit-tokens-remaining": "30000",
        "anthropic-ratelimit-tokens-reset": "2026-11-24T07:01:00Z",
        "anthropic-ratelimit-input-tokens-remaining": "20000",
    }
    limits = Limits(
        remaining_requests=49, remaining_tokens=30_000, reset_requests=2.0, reset_tokens=60.0
    )
    assert read_limits(headers) == limits
    assert read_limits({}) == Limits()


def test_a_limit_of_input_tokens_stands_in_where_there_is_no_other() -> None:
    headers = {
        "date": ANSWERED,
        "anthropic-ratelimit-input-tokens-remaining": "20000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-24T07:00:30+00:00",
    }
    assert read_limits(headers) == Limits(remaining_tokens=20_000, reset_tokens=30.0)


@pytest.mark.parametrize(
    ("date", "reset"),
    [
        (ANSWERED, "soon"),
        (ANSWERED, "2026-11-24T07:00:02"),
        ("", "2026-11-24T07:00:02Z"),
        ("yesterday", "2026-11-24T07:00:02Z"),
    ],
)
def test_a_reset_that_cannot_be_placed_is_not_told(date: str, reset: str) -> None:
    headers = {"date": date, "anthropic-ratelimit-requests-reset": reset}
    assert read_limits(headers).reset_requests is None


def test_a_reset_that_has_passed_is_now() -> None:
    headers = {"date": ANSWERED, "anthropic-ratelimit-requests-reset": "2026-11-24T06:59:00Z"}
    assert read_limits(headers).reset_requests == 0.0


def test_the_billing_stop_that_the_sdk_takes_for_a_rate_limit_is_none(kit: ModuleType) -> None:
    assert issubclass(EnforcedSpendLimitReachedError, anthropic.RateLimitError)
    details = {"error_code": "enforced_spend_limit_reached"}
    reply = kit.error(429, {"type": "rate_limit_error", "details": details})
    outcome = ask(kit, kit.Script(reply))
    assert isinstance(outcome, Failure)
    assert outcome.kind is OutcomeClass.NO_QUOTA
    assert outcome.code == "enforced_spend_limit_reached"


def test_a_wait_of_weeks_is_told_and_not_slept(kit: ModuleType) -> None:
    script = kit.Script(kit.error(429, {"type": "rate_limit_error"}, {"retry-after": "2592000"}))
    outcome = ask(kit, script)
    assert isinstance(outcome, Failure)
    assert outcome.retry_after == 2_592_000.0
    assert len(script.requests) == 1


def test_the_text_is_told_apart_from_the_thinking(kit: ModuleType) -> None:
    half = len(kit.FITTING) // 2
    content = [
        {"type": "thinking", "thinking": '{"category": "other"}', "signature": "s"},
        {"type": "text", "text": kit.FITTING[:half]},
        {"type": "text", "text": kit.FITTING[half:]},
    ]
    outcome = ask(kit, kit.Script(kit.success(ANTHROPIC, content=content)))
    assert isinstance(outcome, Answer)
    assert outcome.value == kit.Signals(category="work", score=80)


def test_a_full_context_window_cuts_an_answer_short(kit: ModuleType) -> None:
    reply = kit.success(ANTHROPIC, stop_reason="model_context_window_exceeded")
    outcome = ask(kit, kit.Script(reply))
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.code) == (OutcomeClass.BAD_ANSWER, "length")


def test_details_of_the_usage_may_be_missing() -> None:
    usage = b'{"input_tokens": 7, "output_tokens": 2, "cache_read_input_tokens": null}'
    read = read_completion(b'{"model": "m", "content": [], "usage": ' + usage + b"}")
    assert read.tokens is not None
    assert (read.tokens.input, read.tokens.cached_read, read.tokens.output) == (7, 0, 2)
