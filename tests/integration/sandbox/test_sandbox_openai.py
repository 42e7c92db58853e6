"""OpenAI's SDK meets the sandbox and cannot tell."""

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import httpx2
import openai
import pydantic
import pytest
from pydantic import BaseModel, Field

from deploy.local.sandbox import SandboxServer

MODEL = "gpt-5.4-mini"
SNAPSHOT = "gpt-5.4-mini-2026-03-17"
GOOD_KEY = "sk-proj-fake-openai-key-0001"


class Kind(StrEnum):
    SPAM = "spam"
    WORK = "work"
    OTHER = "other"


class Verdict(BaseModel):
    category: Kind
    is_spam: bool
    confidence: float = Field(ge=0, le=1)
    alternative_category: Kind | None = None


MAIL = {"subject": "Server meeting", "from": "ann@example.com", "text": "Please review the patch."}
USER = f"Classify this mail.\n<mail>\n{json.dumps(MAIL)}\n</mail>"
MESSAGES: Any = [{"role": "system", "content": "You sort mail."}, {"role": "user", "content": USER}]


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        yield server


@pytest.fixture(autouse=True)
def fresh(server: SandboxServer) -> None:
    server.reset()


def client(server: SandboxServer, key: str = GOOD_KEY, *, timeout: float = 10.0) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=server.openai_url, max_retries=0, timeout=timeout)


def ask(server: SandboxServer, key: str = GOOD_KEY, *, timeout: float = 10.0) -> Any:
    with client(server, key, timeout=timeout) as sdk:
        return sdk.chat.completions.parse(
            model=MODEL, messages=MESSAGES, response_format=Verdict, max_completion_tokens=500
        )


def listed(server: SandboxServer, key: str = GOOD_KEY) -> list[str]:
    with client(server, key) as sdk:
        return [model.id for model in sdk.models.list()]


def tokens(text: str) -> int:
    return -(-len(text.encode()) // 4)


def test_a_structured_answer_parses_and_fits_the_mail(server: SandboxServer) -> None:
    completion = ask(server)
    assert completion.choices[0].message.parsed.category is Kind.WORK
    assert completion.choices[0].message.parsed.is_spam is False
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == SNAPSHOT
    assert completion.id.startswith("chatcmpl-")


def test_usage_follows_the_documented_rule(server: SandboxServer) -> None:
    completion = ask(server)
    sent = server.record()[-1]["body"]
    schema = json.dumps(sent["response_format"]["json_schema"]["schema"], separators=(",", ":"))
    expected = tokens(schema) + sum(tokens(message["content"]) for message in MESSAGES)
    assert completion.usage.prompt_tokens == expected
    assert completion.usage.completion_tokens == tokens(completion.choices[0].message.content)
    assert completion.usage.total_tokens == expected + completion.usage.completion_tokens


def test_a_responses_call_parses_too(server: SandboxServer) -> None:
    with client(server) as sdk:
        response = sdk.responses.parse(
            model=MODEL, instructions="You sort mail.", input=USER, text_format=Verdict
        )
    assert response.output_parsed is not None
    assert response.output_parsed.category is Kind.WORK
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_a_call_without_a_schema_gets_a_line_of_text(server: SandboxServer) -> None:
    with client(server) as sdk:
        completion = sdk.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert "Server meeting" in (completion.choices[0].message.content or "")


def test_headers_carry_the_request_id_and_the_rate_limits(server: SandboxServer) -> None:
    server.settings(requests_per_minute=600)
    with client(server) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    assert raw.request_id == raw.headers["x-request-id"]
    assert raw.request_id == server.billed_calls()[-1]["request_id"]
    assert raw.headers["x-ratelimit-limit-requests"] == "600"
    assert raw.headers["x-ratelimit-remaining-requests"] == "599"
    assert raw.headers["x-ratelimit-reset-requests"] == "100ms"
    assert "x-ratelimit-remaining-tokens" in raw.headers


def test_a_used_up_rate_limit_gives_a_real_429(server: SandboxServer) -> None:
    server.settings(requests_per_minute=1)
    ask(server)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(server)
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 60


def test_models_are_listed_and_found(server: SandboxServer) -> None:
    assert MODEL in listed(server)
    with client(server) as sdk:
        assert sdk.models.retrieve(MODEL).owned_by == "system"
        with pytest.raises(openai.NotFoundError):
            sdk.models.retrieve("no-such-model")


FAULTS = [
    ("invalid", openai.AuthenticationError, 401, "invalid_api_key", "invalid_request_error"),
    ("revoked", openai.AuthenticationError, 401, "invalid_api_key", "invalid_request_error"),
    ("deactivated", openai.AuthenticationError, 401, "account_deactivated", None),
    ("restrictedall", openai.AuthenticationError, 401, "missing_scope", None),
    ("ip", openai.AuthenticationError, 401, "ip_not_authorized", None),
    (
        *("region", openai.PermissionDeniedError, 403),
        *("unsupported_country_region_territory", "request_forbidden"),
    ),
    ("nomodel", openai.NotFoundError, 404, "model_not_found", "invalid_request_error"),
    ("ratelimited", openai.RateLimitError, 429, "rate_limit_exceeded", "requests"),
    ("noquota", openai.RateLimitError, 429, "insufficient_quota", "insufficient_quota"),
    ("billing", openai.RateLimitError, 429, "credit_balance_exhausted", "insufficient_quota"),
    (
        *("spendlimit", openai.RateLimitError, 429),
        *("organization_spend_limit_exceeded", "insufficient_quota"),
    ),
    ("error500", openai.InternalServerError, 500, None, "server_error"),
    ("error502", openai.InternalServerError, 502, None, "server_error"),
    ("error503", openai.InternalServerError, 503, None, "server_error"),
    ("error504", openai.InternalServerError, 504, None, "server_error"),
    ("overloaded", openai.InternalServerError, 503, "server_is_overloaded", None),
    ("html", openai.InternalServerError, 502, None, None),
    ("toolong", openai.BadRequestError, 400, "context_length_exceeded", None),
]


@pytest.mark.parametrize(("fault", "error", "status", "code", "kind"), FAULTS)
def test_a_key_named_after_a_fault_fails_as_the_provider_does(
    server: SandboxServer,
    fault: str,
    error: type[openai.APIStatusError],
    status: int,
    code: str | None,
    kind: str | None,
) -> None:
    with pytest.raises(error) as caught:
        ask(server, f"sk-proj-sandbox-{fault}-fake")
    assert caught.value.status_code == status
    assert caught.value.code == code
    assert kind is None or caught.value.type == kind
    assert caught.value.request_id
    assert server.bill() == []


@pytest.mark.parametrize("fault", ["nomodel", "noquota", "billing", "spendlimit", "toolong"])
def test_faults_of_calls_leave_the_models_alone(server: SandboxServer, fault: str) -> None:
    assert listed(server, f"sk-proj-sandbox-{fault}-fake")


@pytest.mark.parametrize("fault", ["invalid", "ip", "region", "ratelimited", "error500"])
def test_faults_of_keys_and_servers_show_on_the_models(server: SandboxServer, fault: str) -> None:
    with pytest.raises(openai.APIStatusError):
        listed(server, f"sk-proj-sandbox-{fault}-fake")


def test_a_restricted_key_may_call_but_not_list(server: SandboxServer) -> None:
    key = "sk-proj-sandbox-restricted-fake"
    with pytest.raises(openai.PermissionDeniedError, match=r"Missing scopes: api\.model\.read"):
        listed(server, key)
    assert ask(server, key).choices[0].message.parsed


def test_a_rate_limit_says_when_to_come_back(server: SandboxServer) -> None:
    server.fault("ratelimited", retry_after=61.5, count=1)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(server)
    headers = caught.value.response.headers
    assert headers["retry-after"] == "62"
    assert headers["retry-after-ms"] == "61500"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "1m1.5s"


def test_a_401_shows_a_masked_piece_of_the_key_and_no_more(server: SandboxServer) -> None:
    key = "sk-proj-sandbox-invalid-SECRETPART-wxyz"
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(server, key)
    assert "wxyz" in caught.value.message
    assert "SECRETPART" not in caught.value.message


@pytest.mark.parametrize(
    "key", ["sk-ant-api03-fake-anthropic-key", "sk-admin-fake-key-0001", "garbage", "sk-short"]
)
def test_what_is_no_key_of_openai_is_refused(server: SandboxServer, key: str) -> None:
    with pytest.raises(openai.AuthenticationError):
        listed(server, key)


def test_a_call_without_a_key_is_told_so(server: SandboxServer) -> None:
    response = httpx2.get(f"{server.openai_url}/models")
    assert response.status_code == 401
    assert response.json()["error"]["code"] is None


def test_a_hanging_call_runs_into_the_clients_timeout(server: SandboxServer) -> None:
    with pytest.raises(openai.APITimeoutError):
        ask(server, "sk-proj-sandbox-hang-fake", timeout=0.5)
    server.wait_idle()
    assert server.stats()["calls"]["completion"] == {"dropped": 1}


def test_a_reset_connection_is_a_connection_error(server: SandboxServer) -> None:
    with pytest.raises(openai.APIConnectionError) as caught:
        ask(server, "sk-proj-sandbox-reset-fake")
    assert not isinstance(caught.value, openai.APITimeoutError)


def test_a_cut_body_is_a_json_error_from_outside_the_sdk(server: SandboxServer) -> None:
    with pytest.raises(json.JSONDecodeError):
        ask(server, "sk-proj-sandbox-malformed-fake")


def test_an_answer_off_the_schema_is_a_validation_error(server: SandboxServer) -> None:
    with pytest.raises(pydantic.ValidationError):
        ask(server, "sk-proj-sandbox-offschema-fake")


def test_a_refusal_comes_in_its_own_field(server: SandboxServer) -> None:
    message = ask(server, "sk-proj-sandbox-refusal-fake").choices[0].message
    assert message.refusal
    assert message.parsed is None
    assert message.content is None


def test_an_answer_cut_by_length_still_tells_its_usage(server: SandboxServer) -> None:
    with pytest.raises(openai.LengthFinishReasonError) as caught:
        ask(server, "sk-proj-sandbox-length-fake")
    assert caught.value.completion.usage is not None
    assert caught.value.completion.usage.completion_tokens > 0


def test_an_empty_answer_has_no_choices(server: SandboxServer) -> None:
    assert ask(server, "sk-proj-sandbox-empty-fake").choices == []


def test_one_output_token_is_enough_to_prove_a_key(server: SandboxServer) -> None:
    with client(server) as sdk:
        completion = sdk.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_completion_tokens=1
        )
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 1


def test_a_long_prompt_sent_twice_is_read_from_the_cache(server: SandboxServer) -> None:
    messages: Any = [{"role": "system", "content": "rule " * 2000}, *MESSAGES[1:]]
    with client(server) as sdk, client(server, "sk-proj-another-fake-key") as other:
        first, second = (
            sdk.chat.completions.create(model=MODEL, messages=messages) for _ in range(2)
        )
        stranger = other.chat.completions.create(model=MODEL, messages=messages)
    for completion, least in ((first, 0), (second, 1024), (stranger, 0)):
        assert completion.usage is not None
        assert completion.usage.prompt_tokens_details is not None
        cached = completion.usage.prompt_tokens_details.cached_tokens
        assert cached is not None
        assert cached % 128 == 0
        assert (cached >= least) if least else (cached == 0)
        assert cached <= completion.usage.prompt_tokens


def test_a_stream_and_an_unsupported_parameter_are_refused(server: SandboxServer) -> None:
    with client(server) as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        assert caught.value.param == "stream"
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=5)
        assert caught.value.code == "unsupported_parameter"
        with pytest.raises(openai.NotFoundError):
            sdk.chat.completions.create(model="no-such-model", messages=MESSAGES)


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"model":"gpt-5.4"}'])
def test_a_wrong_body_is_a_400_and_never_a_500(server: SandboxServer, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {GOOD_KEY}"}
    response = httpx2.post(f"{server.openai_url}/chat/completions", content=body, headers=headers)
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_an_unknown_path_is_a_404_in_openais_words(server: SandboxServer) -> None:
    headers = {"Authorization": f"Bearer {GOOD_KEY}"}
    response = httpx2.get(f"{server.openai_url}/nothing", headers=headers)
    assert response.status_code == 404
    assert response.json()["error"]["message"].startswith("Invalid URL")


def test_a_body_above_the_limit_is_a_413(server: SandboxServer) -> None:
    headers = {"Authorization": f"Bearer {GOOD_KEY}"}
    response = httpx2.post(
        f"{server.openai_url}/chat/completions", content=b" " * (33 << 20), headers=headers
    )
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "invalid_request_error"
