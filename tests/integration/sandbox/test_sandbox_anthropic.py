"""Anthropic's SDK meets the sandbox and cannot tell."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import anthropic
import httpx2
import pydantic
import pytest
from pydantic import BaseModel, Field

from deploy.local.sandbox import SandboxServer

MODEL = "claude-haiku-4-5"
SNAPSHOT = "claude-haiku-4-5-20251001"
GOOD_KEY = "sk-ant-api03-fake-anthropic-key-0001"


class Kind(StrEnum):
    SPAM = "spam"
    WORK = "work"
    OTHER = "other"


class Verdict(BaseModel):
    category: Kind
    is_spam: bool
    confidence: float = Field(ge=0, le=1)
    score: int = Field(ge=3, le=9)
    alternative_category: Kind | None = None


MAIL = {"subject": "You WON cash!!!", "from": "x@example.com", "text": "Free money, click here!!!"}
USER = f"Classify this mail.\n<mail>\n{json.dumps(MAIL)}\n</mail>"


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        yield server


@pytest.fixture(autouse=True)
def fresh(server: SandboxServer) -> None:
    server.reset()


def client(
    server: SandboxServer, key: str = GOOD_KEY, *, timeout: float = 10.0
) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        api_key=key, base_url=server.anthropic_url, max_retries=0, timeout=timeout
    )


def ask(
    server: SandboxServer,
    key: str = GOOD_KEY,
    *,
    system: Any = "You sort mail.",
    timeout: float = 10.0,
    max_tokens: int = 500,
) -> Any:
    with client(server, key, timeout=timeout) as sdk:
        return sdk.messages.parse(
            model=MODEL,
            max_tokens=max_tokens,
            system=system,
            messages=[{"role": "user", "content": USER}],
            output_format=Verdict,
        )


def count(server: SandboxServer, key: str = GOOD_KEY) -> int:
    with client(server, key) as sdk:
        return sdk.messages.count_tokens(
            model=MODEL,
            system="You sort mail.",
            messages=[{"role": "user", "content": USER}],
            output_format=Verdict,
        ).input_tokens


def listed(server: SandboxServer, key: str = GOOD_KEY) -> list[str]:
    with client(server, key) as sdk:
        return [model.id for model in sdk.models.list(limit=3)]


def test_a_structured_answer_parses_and_fits_the_mail(server: SandboxServer) -> None:
    message = ask(server)
    assert message.parsed_output.category is Kind.SPAM
    assert message.parsed_output.is_spam is True
    assert message.stop_reason == "end_turn"
    assert message.model == SNAPSHOT


def test_bounds_that_the_sdk_moved_into_the_description_are_kept(server: SandboxServer) -> None:
    assert 3 <= ask(server).parsed_output.score <= 9
    sent = server.record()[-1]["body"]["output_config"]["format"]["schema"]
    assert "minimum" not in sent["properties"]["score"]


def test_counting_tokens_agrees_with_what_is_billed_and_is_free(server: SandboxServer) -> None:
    counted = count(server)
    assert server.bill() == []
    assert counted == ask(server).usage.input_tokens == server.bill()[0]["input_tokens"]


def test_headers_carry_the_request_id_and_the_rate_limits(server: SandboxServer) -> None:
    server.settings(requests_per_minute=600)
    with client(server) as sdk:
        raw = sdk.messages.with_raw_response.create(
            model=MODEL, max_tokens=50, messages=[{"role": "user", "content": USER}]
        )
    assert raw.request_id == raw.headers["request-id"]
    assert raw.headers["anthropic-ratelimit-requests-limit"] == "600"
    assert raw.headers["anthropic-ratelimit-requests-remaining"] == "599"
    reset = datetime.fromisoformat(raw.headers["anthropic-ratelimit-requests-reset"])
    assert abs((reset - datetime.now(UTC)).total_seconds()) < 60


def test_models_are_listed_page_by_page_and_found(server: SandboxServer) -> None:
    names = listed(server)
    assert SNAPSHOT in names
    assert len(names) == len(set(names)) > 3
    assert server.stats()["calls"]["models"]["200"] > 1
    with client(server) as sdk:
        assert sdk.models.retrieve(MODEL).id == SNAPSHOT
        with pytest.raises(anthropic.NotFoundError):
            sdk.models.retrieve("no-such-model")


FAULTS = [
    ("invalid", anthropic.AuthenticationError, 401, "authentication_error"),
    ("revoked", anthropic.AuthenticationError, 401, "authentication_error"),
    ("deactivated", anthropic.AuthenticationError, 401, "authentication_error"),
    ("restrictedall", anthropic.PermissionDeniedError, 403, "permission_error"),
    ("ip", anthropic.AuthenticationError, 401, "authentication_error"),
    ("region", anthropic.PermissionDeniedError, 403, "forbidden"),
    ("nomodel", anthropic.NotFoundError, 404, "not_found_error"),
    ("ratelimited", anthropic.RateLimitError, 429, "rate_limit_error"),
    ("noquota", anthropic.BadRequestError, 400, "invalid_request_error"),
    ("billing", anthropic.PaymentRequiredError, 402, "billing_error"),
    ("spendlimit", anthropic.EnforcedSpendLimitReachedError, 429, "rate_limit_error"),
    ("error500", anthropic.InternalServerError, 500, "api_error"),
    ("error502", anthropic.InternalServerError, 502, "api_error"),
    ("error503", anthropic.ServiceUnavailableError, 503, "api_error"),
    ("error504", anthropic.GatewayTimeoutError, 504, "timeout_error"),
    ("overloaded", anthropic.OverloadedError, 529, "overloaded_error"),
    ("html", anthropic.InternalServerError, 502, None),
    ("toolong", anthropic.BadRequestError, 400, "invalid_request_error"),
]


@pytest.mark.parametrize(("fault", "error", "status", "kind"), FAULTS)
def test_a_key_named_after_a_fault_fails_as_the_provider_does(
    server: SandboxServer,
    fault: str,
    error: type[anthropic.APIStatusError],
    status: int,
    kind: str | None,
) -> None:
    with pytest.raises(error) as caught:
        ask(server, f"sk-ant-api03-sandbox-{fault}-fake")
    assert caught.value.status_code == status
    assert caught.value.type == kind
    assert caught.value.request_id
    assert server.bill() == []


def test_only_the_spend_limit_is_an_enforced_one(server: SandboxServer) -> None:
    with pytest.raises(anthropic.RateLimitError) as caught:
        ask(server, "sk-ant-api03-sandbox-ratelimited-fake")
    assert not isinstance(caught.value, anthropic.EnforcedSpendLimitReachedError)
    assert caught.value.response.headers["retry-after"] == "1"
    with pytest.raises(anthropic.RateLimitError) as caught:
        ask(server, "sk-ant-api03-sandbox-spendlimit-fake")
    assert caught.value.error_code == "enforced_spend_limit_reached"


def test_error_bodies_name_the_request(server: SandboxServer) -> None:
    with pytest.raises(anthropic.BadRequestError, match="credit balance is too low") as caught:
        ask(server, "sk-ant-api03-sandbox-noquota-fake")
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["request_id"] == caught.value.request_id


@pytest.mark.parametrize("fault", ["noquota", "billing", "spendlimit", "nomodel"])
def test_faults_of_calls_show_on_the_free_count_but_not_on_the_models(
    server: SandboxServer, fault: str
) -> None:
    key = f"sk-ant-api03-sandbox-{fault}-fake"
    assert listed(server, key)
    with pytest.raises(anthropic.APIStatusError):
        count(server, key)


def test_a_restricted_key_may_call_but_not_list(server: SandboxServer) -> None:
    key = "sk-ant-api03-sandbox-restricted-fake"
    with pytest.raises(anthropic.PermissionDeniedError):
        listed(server, key)
    assert ask(server, key).parsed_output


@pytest.mark.parametrize("key", ["sk-proj-fake-openai-key-0001", "sk-ant-admin01-fake", "garbage"])
def test_what_is_no_key_of_anthropic_is_refused(server: SandboxServer, key: str) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        listed(server, key)


def test_a_hanging_call_runs_into_the_clients_timeout(server: SandboxServer) -> None:
    with pytest.raises(anthropic.APITimeoutError):
        ask(server, "sk-ant-api03-sandbox-hang-fake", timeout=0.5)
    server.wait_idle()


def test_a_reset_connection_is_a_connection_error(server: SandboxServer) -> None:
    with pytest.raises(anthropic.APIConnectionError):
        ask(server, "sk-ant-api03-sandbox-reset-fake")


def test_a_cut_body_is_a_json_error_from_outside_the_sdk(server: SandboxServer) -> None:
    with pytest.raises(json.JSONDecodeError):
        ask(server, "sk-ant-api03-sandbox-malformed-fake")


def test_an_answer_off_the_schema_is_a_validation_error(server: SandboxServer) -> None:
    with pytest.raises(pydantic.ValidationError):
        ask(server, "sk-ant-api03-sandbox-offschema-fake")


def test_a_refusal_is_a_reason_to_stop(server: SandboxServer) -> None:
    message = ask(server, "sk-ant-api03-sandbox-refusal-fake")
    assert message.stop_reason == "refusal"
    assert message.parsed_output is None
    assert message.usage.output_tokens > 0


def test_an_answer_cut_by_length_stops_at_max_tokens(server: SandboxServer) -> None:
    server.fault("length", count=1)
    with client(server) as sdk:
        message = sdk.messages.create(
            model=MODEL, max_tokens=500, messages=[{"role": "user", "content": USER}]
        )
    assert message.stop_reason == "max_tokens"
    with pytest.raises(pydantic.ValidationError):
        ask(server, max_tokens=2)


def test_an_empty_answer_has_no_content(server: SandboxServer) -> None:
    assert ask(server, "sk-ant-api03-sandbox-empty-fake").content == []


def test_a_marked_prefix_is_written_once_and_then_read(server: SandboxServer) -> None:
    rules = "rule " * 2000
    system = [{"type": "text", "text": rules, "cache_control": {"type": "ephemeral"}}]
    first, second = ask(server, system=system).usage, ask(server, system=system).usage
    assert first.cache_creation_input_tokens == second.cache_read_input_tokens > 1024
    assert first.cache_creation.ephemeral_5m_input_tokens == first.cache_creation_input_tokens
    assert first.cache_read_input_tokens == second.cache_creation_input_tokens == 0
    assert first.input_tokens == second.input_tokens < 1024
    line = server.bill()[0]
    assert line["cached_read_tokens"] == line["cache_write_tokens"] > 1024
    assert line["input_tokens"] == 2 * (first.input_tokens + line["cache_write_tokens"])


def test_an_hour_long_mark_is_told_apart(server: SandboxServer) -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    system = [{"type": "text", "text": "rule " * 2000, "cache_control": mark}]
    usage = ask(server, system=system).usage
    assert usage.cache_creation.ephemeral_1h_input_tokens == usage.cache_creation_input_tokens > 0
    assert usage.cache_creation.ephemeral_5m_input_tokens == 0


def test_a_short_or_unmarked_prefix_is_not_cached(server: SandboxServer) -> None:
    short = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    unmarked = [{"type": "text", "text": "rule " * 2000}]
    for system in (short, short, unmarked, unmarked):
        usage = ask(server, system=system).usage
        assert usage.cache_creation_input_tokens == usage.cache_read_input_tokens == 0


def test_five_marks_are_one_too_many(server: SandboxServer) -> None:
    block = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    with pytest.raises(anthropic.BadRequestError, match="maximum of 4 blocks"):
        ask(server, system=[block] * 5)


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"model":"claude-x","messages":[]}'])
def test_a_wrong_body_is_a_400_and_never_a_500(server: SandboxServer, body: bytes) -> None:
    headers = {"x-api-key": GOOD_KEY, "anthropic-version": "2023-06-01"}
    response = httpx2.post(f"{server.url}/v1/messages", content=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
