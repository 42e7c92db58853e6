"""A provider that answers from a script, below the real SDKs."""

import json
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal

import httpx2
import pytest
from pydantic import BaseModel, Field, SecretStr

from events.keys import Provider
from workers.providers import (
    AnthropicClient,
    Failure,
    OpenAIClient,
    Proof,
    ProviderClient,
    Question,
    Undecided,
)


class Signals(BaseModel):
    """What the questions of these tests ask for."""

    category: Literal["work", "other"]
    score: int = Field(ge=0, le=100, description="per cent")
    note: str | None = None


FITTING = '{"category": "work", "score": 80, "note": null}'
KEYS = {
    Provider.OPENAI: SecretStr("sk-proj-fake-Zq8vTn3LxW5pRk7Y"),
    Provider.ANTHROPIC: SecretStr("sk-ant-api03-fake-Zq8vTn3LxW5pRk7Y"),
}
MODELS = {Provider.OPENAI: "gpt-unit-1", Provider.ANTHROPIC: "claude-unit-1"}

Step = httpx2.Response | Exception


class Script:
    """Answers one request after the other; the last step goes on for ever."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, Exception):
            raise step
        # A response belongs to one request: a step that goes on is given as a copy.
        return httpx2.Response(step.status_code, headers=step.headers, content=step.content)

    @property
    def paths(self) -> list[str]:
        """The paths asked for, in order."""
        return [request.url.path for request in self.requests]

    def body(self, index: int = 0) -> Any:
        """The JSON of a request."""
        return json.loads(self.requests[index].content)


def client(provider: Provider, script: Script) -> ProviderClient:
    """The real adapter over the real SDK, talking to `script`."""
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(script))
    if provider is Provider.OPENAI:
        return OpenAIClient(base_url="https://openai.invalid/v1", http=http)
    return AnthropicClient(base_url="https://anthropic.invalid", http=http)


async def prove(
    asked: ProviderClient, provider: Provider, *, prove_quota: bool = False
) -> Proof | Failure:
    """Both stages of a validation, one after the other."""
    told = await asked.probe(KEYS[provider], model=MODELS[provider], prove_quota=prove_quota)
    if isinstance(told, Undecided):
        return await asked.spend(KEYS[provider], model=MODELS[provider])
    return told


def success(provider: Provider, text: str = FITTING, **changes: Any) -> httpx2.Response:
    """A whole success of `provider`; `changes` replace parts of its body."""
    body: dict[str, Any] = {
        "id": "msg_unit",
        "type": "message",
        "role": "assistant",
        "model": "claude-unit-1-20260101",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 100,
            "cache_read_input_tokens": 1_000,
            "cache_creation_input_tokens": 200,
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 20},
        },
    }
    if provider is Provider.OPENAI:
        body = {
            "id": "chatcmpl-unit",
            "object": "chat.completion",
            "created": 0,
            "model": "gpt-unit-1-2026-01-01",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 1_300,
                "completion_tokens": 50,
                "total_tokens": 1_350,
                "prompt_tokens_details": {"cached_tokens": 1_000, "cache_write_tokens": 200},
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
        }
    headers = {"x-request-id": "req_unit", "request-id": "req_unit"}
    return httpx2.Response(200, headers=headers, json=body | changes)


def error(
    status: int, fields: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> httpx2.Response:
    """An error of either provider."""
    return httpx2.Response(
        status, headers=headers, json={"type": "error", "error": {"message": "", **fields}}
    )


def question(provider: Provider, **changes: Any) -> Question:
    """A question that `FITTING` answers."""
    asked: dict[str, Any] = {
        "model": MODELS[provider],
        "system": "You classify mail.",
        "user": "Subject: budget",
        "schema": Signals,
        "timeout": 5.0,
    }
    return Question(**asked | changes)


@pytest.fixture(scope="session")
def kit() -> ModuleType:
    """This module: everything to script a provider with."""
    return sys.modules[__name__]
