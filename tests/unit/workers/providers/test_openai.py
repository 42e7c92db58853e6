"""What is OpenAI's own: the request, the headers, the environment."""

import asyncio
from types import ModuleType
from typing import Any, Generic, TypeVar

import httpx2
import openai
import pytest
from pydantic import BaseModel

from events.keys import Provider
from workers.providers import Answer, Failure, Limits, OpenAIClient, OutcomeClass
from workers.providers.openai import duration, read_completion, read_limits

OPENAI = Provider.OPENAI
T = TypeVar("T")


def ask(kit: ModuleType, script: Any, **changes: Any) -> Answer | Failure:
    async def run() -> Answer | Failure:
        client = kit.client(OPENAI, script)
        outcome: Answer | Failure = await client.ask(
            kit.KEYS[OPENAI], kit.question(OPENAI, **changes)
        )
        await client.close()
        return outcome

    return asyncio.run(run())


def test_the_schema_is_sent_as_the_sdks_own_parse_sends_it(kit: ModuleType) -> None:
    script = kit.Script(kit.success(OPENAI))
    ask(kit, script)

    async def parse() -> None:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(script))
        sdk = openai.AsyncOpenAI(api_key="sk-fake", base_url="https://o.invalid", http_client=http)
        await sdk.chat.completions.parse(
            model="m", messages=[{"role": "user", "content": "?"}], response_format=kit.Signals
        )
        await sdk.close()

    asyncio.run(parse())
    assert script.body(0)["response_format"] == script.body(1)["response_format"]
    assert script.body(0)["response_format"]["json_schema"]["strict"] is True


def test_the_stable_part_goes_first_and_nothing_is_stored(kit: ModuleType) -> None:
    script = kit.Script(kit.success(OPENAI))
    ask(kit, script, max_output_tokens=77)
    body = script.body()
    assert body["messages"] == [
        {"role": "system", "content": "You classify mail."},
        {"role": "user", "content": "Subject: budget"},
    ]
    assert body["max_completion_tokens"] == 77
    assert body["store"] is False
    assert set(body) == {
        *("model", "messages", "response_format", "max_completion_tokens", "store"),
        "prompt_cache_key",
    }
    # It leads prompts that begin alike to one machine, and tells nothing of what they say.
    assert len(body["prompt_cache_key"]) == 32
    assert "mail" not in body["prompt_cache_key"]
    assert str(script.requests[0].url) == "https://openai.invalid/v1/chat/completions"


def test_a_schema_with_an_unusual_name_gets_one_that_openai_takes(kit: ModuleType) -> None:
    class Pair(BaseModel, Generic[T]):
        """A generic schema: its name holds brackets."""

        category: str
        score: T

    script = kit.Script(kit.success(OPENAI))
    outcome = ask(kit, script, schema=Pair[int])
    assert isinstance(outcome, Answer)
    assert script.body()["response_format"]["json_schema"]["name"] == "Pair_int_"


def test_the_operators_organization_and_endpoint_are_not_for_users_keys(
    kit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ORG_ID", "PROJECT_ID", "BASE_URL", "API_KEY", "ADMIN_KEY"):
        monkeypatch.setenv(f"OPENAI_{name}", "https://operators.invalid")
    script = kit.Script(kit.success(OPENAI))
    ask(kit, script)
    request = script.requests[0]
    assert "operators" not in repr([str(request.url), request.headers.raw])
    assert "openai-organization" not in request.headers
    assert "openai-project" not in request.headers


@pytest.mark.parametrize("name", ["Authorization", "authorization", "X-Api-Key"])
def test_a_header_of_the_environment_must_not_replace_users_keys(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"{name}: Bearer sk-fake-of-the-operator")
    with pytest.raises(ValueError, match="OPENAI_CUSTOM_HEADERS") as refused:
        OpenAIClient()
    assert "sk-fake" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6ms", 0.006),
        ("0s", 0.0),
        ("1s", 1.0),
        ("1.5s", 1.5),
        ("20.000s", 20.0),
        ("1m0.5s", 60.5),
        ("6m0s", 360.0),
        ("1m", 60.0),
        ("1h0m0s", 3_600.0),
        ("1h30m", 5_400.0),
        ("1d2h3m4s5ms", 93_784.005),
        ("", None),
        ("soon", None),
        ("1", None),
        ("-1s", None),
        ("1s1m", None),
        ("1ms1s", None),
        ("\u0661s", None),
        ("9" * 400 + "s", None),
    ],
)
def test_a_duration_reads_as_openai_writes_it(text: str, seconds: float | None) -> None:
    assert duration(text) == pytest.approx(seconds)


def test_limits_come_from_the_headers() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    limits = Limits(
        remaining_requests=59, remaining_tokens=149_984, reset_requests=1.0, reset_tokens=360.0
    )
    assert read_limits(headers) == limits
    assert read_limits({}) == Limits()
    assert read_limits(dict.fromkeys(headers, "-1")) == Limits()


def test_limits_come_with_a_failure_and_with_an_answer(kit: ModuleType) -> None:
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "2s"}
    expected = Limits(remaining_requests=3, reset_requests=2.0)
    answered, off = kit.success(OPENAI), kit.success(OPENAI, "{}")
    refused, odd = kit.error(429, {}), httpx2.Response(200, content=b"{}")
    for reply in (answered, off, refused, odd):
        reply.headers.update(headers)
        assert ask(kit, kit.Script(reply)).limits == expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "whenever"}, None),
        (
            {
                "date": "Tue, 24 Nov 2026 07:00:00 GMT",
                "retry-after": "Tue, 24 Nov 2026 07:00:30 GMT",
            },
            30.0,
        ),
        (
            {
                "date": "Tue, 24 Nov 2026 07:00:00 GMT",
                "retry-after": "Tue, 24 Nov 2026 06:00:00 GMT",
            },
            0.0,
        ),
        ({"retry-after": "Tue, 24 Nov 2026 07:00:30 GMT"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "8s"}, 8.0),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "8s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1m0s",
            },
            60.0,
        ),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "8s"}, None),
        ({}, None),
    ],
)
def test_a_rate_limit_tells_how_long_to_wait(
    kit: ModuleType, headers: dict[str, str], seconds: float | None
) -> None:
    outcome = ask(kit, kit.Script(kit.error(429, {"code": "rate_limit_exceeded"}, headers)))
    assert isinstance(outcome, Failure)
    assert outcome.retry_after == seconds


def test_a_missing_scope_told_as_a_bare_sentence_is_understood(kit: ModuleType) -> None:
    text = "You have insufficient permissions for this operation. Missing scopes: model.request."
    outcome = ask(kit, kit.Script(httpx2.Response(403, json={"error": text})))
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.code) == (OutcomeClass.RESTRICTED, "missing_scope")


def test_a_content_filter_is_not_taken_for_an_answer(kit: ModuleType) -> None:
    choice = {"message": {"content": kit.FITTING}, "finish_reason": "content_filter"}
    outcome = ask(kit, kit.Script(kit.success(OPENAI, choices=[choice])))
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.code) == (OutcomeClass.BAD_ANSWER, "content_filter")


def test_details_of_the_usage_may_be_missing() -> None:
    usage = b'{"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": null}'
    read = read_completion(b'{"model": "m", "choices": [], "usage": ' + usage + b"}")
    assert read.tokens is not None
    assert (read.tokens.input, read.tokens.cached_read, read.tokens.output) == (7, 0, 2)
