"""Anthropic behind the port: messages with a JSON output format.

Facts: the API reference (messages, models, errors, rate limits) and the source of anthropic
2.12.0; see `docs/providers.md`.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import httpx2
from anthropic import AsyncAnthropic, DefaultAioHttpClient, transform_schema
from anthropic._base_client import get_platform
from pydantic import BaseModel, SecretStr

from events.keys import Provider
from workers.providers.codes import Code
from workers.providers.port import (
    Answer,
    Failure,
    Limits,
    OutcomeClass,
    Proof,
    Question,
    Tokens,
    Undecided,
)
from workers.providers.reply import (
    Completion,
    Dialect,
    ErrorFields,
    answer,
    billed_proof,
    free_proof,
    seconds_until,
    text_or_none,
    whole_number,
)
from workers.providers.transport import (
    PLACEHOLDER_KEY,
    open_http,
    refuse_foreign_credentials,
    send,
    timeouts,
)

ANTHROPIC_URL = "https://api.anthropic.com"
"""Where Anthropic is, unless the operator says otherwise."""

_COUNT_CANNOT_TELL = frozenset(
    {OutcomeClass.RESTRICTED, OutcomeClass.BAD_REQUEST, OutcomeClass.MODEL_UNAVAILABLE}
)
"""Answers to `count_tokens` that may be about counting only: the real call decides."""


class AnthropicClient:
    """A `ProviderClient`. One per process; it belongs to the event loop that first uses it.

    `base_url` is the operator's, never from an event. `max_in_flight` is the most calls at a time.
    `probe_timeout` is in seconds, for each call of a probe. `http` takes the place of the
    connections to the provider (a transport that a test wraps) and is closed with this client.
    """

    name = Provider.ANTHROPIC

    def __init__(
        self,
        *,
        base_url: str = ANTHROPIC_URL,
        max_in_flight: int = 256,
        probe_timeout: float = 15.0,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        self._probe_timeout = probe_timeout
        self._sdk = AsyncAnthropic(
            api_key=PLACEHOLDER_KEY,
            base_url=base_url,
            max_retries=0,
            # Its spans can hold the whole mail, switched on by a variable of the environment.
            open_telemetry=False,
            http_client=http
            or open_http(DefaultAioHttpClient, base_url=base_url, max_in_flight=max_in_flight),
        )
        self._platform = get_platform()
        refuse_foreign_credentials(self._sdk.default_headers, "ANTHROPIC_CUSTOM_HEADERS")

    async def ask(self, key: SecretStr, question: Question) -> Answer | Failure:
        """Ask `question`, paid by `key`. Never raises but `CancelledError`."""

        async def call() -> httpx2.Response:
            # Not `messages.create`: it looks through the whole body for what is to be transformed,
            # of which there is nothing.
            return await self._with(key).post(
                "/v1/messages",
                body={
                    "model": question.model,
                    "max_tokens": question.max_output_tokens,
                    # Anthropic caches only up to a mark; the stable part ends here.
                    "system": [
                        {
                            "type": "text",
                            "text": question.system,
                            "cache_control": {"type": "ephemeral"},
                        }
                    ],
                    "messages": [{"role": "user", "content": question.user}],
                    "output_config": {
                        "format": {"type": "json_schema", "schema": _schema(question.schema)}
                    },
                },
                options={"timeout": timeouts(question.timeout)},
                cast_to=httpx2.Response,
            )

        outcome = await send(call, seconds=question.timeout)
        return answer(_DIALECT, outcome, read_completion, question)

    async def probe(
        self, key: SecretStr, *, model: str, prove_quota: bool = False
    ) -> Proof | Failure | Undecided:
        """Find out for nothing whether `key` works; see `ProviderClient.probe`.

        Counting tokens is free and reports an empty credit balance, so it goes before a call that
        is billed.
        """
        listed = await self._list_models(key)
        if isinstance(listed, Failure):
            if listed.kind is not OutcomeClass.RESTRICTED:
                return listed
        elif not prove_quota:
            return listed
        counted = await self._count_tokens(key, model)
        if not isinstance(counted, Failure):
            return counted
        if counted.kind in _COUNT_CANNOT_TELL or counted.code == Code.NOT_FOUND:
            return Undecided()
        return counted

    async def spend(self, key: SecretStr, *, model: str) -> Proof | Failure:
        """Have `key` pay for one token; see `ProviderClient.spend`."""

        async def call() -> Any:
            return await self._with(key).messages.with_raw_response.create(
                model=model,
                max_tokens=1,
                messages=[{"role": "user", "content": "1"}],
                timeout=timeouts(self._probe_timeout),
            )

        outcome = await send(call, seconds=self._probe_timeout)
        return billed_proof(_DIALECT, outcome, read_completion, model)

    async def close(self) -> None:
        """Close the connections."""
        await self._sdk.close()

    def _with(self, key: SecretStr) -> AsyncAnthropic:
        """A light copy that carries `key`, on the same connections."""
        copy = self._sdk.with_options(api_key=key.get_secret_value())
        # Each copy would ask in another thread what machine this is, before its one call.
        copy._platform = self._platform
        return copy

    async def _list_models(self, key: SecretStr) -> Proof | Failure:
        async def call() -> Any:
            models = self._with(key).models.with_raw_response
            return await models.list(limit=1, timeout=timeouts(self._probe_timeout))

        outcome = await send(call, seconds=self._probe_timeout)
        return free_proof(_DIALECT, outcome, stage=1, holds="data", kind=list)

    async def _count_tokens(self, key: SecretStr, model: str) -> Proof | Failure:
        async def call() -> Any:
            return await self._with(key).messages.with_raw_response.count_tokens(
                model=model,
                messages=[{"role": "user", "content": "1"}],
                timeout=timeouts(self._probe_timeout),
            )

        outcome = await send(call, seconds=self._probe_timeout)
        return free_proof(_DIALECT, outcome, stage=2, holds="input_tokens", kind=int, model=model)


class _Details(BaseModel):
    thinking_tokens: int | None = None


class _Usage(BaseModel):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _Details | None = None


class _Block(BaseModel):
    type: str
    text: str | None = None


class _Message(BaseModel):
    """The few fields that are read. The SDK's own model takes any JSON for a message."""

    model: str
    content: list[_Block]
    stop_reason: str | None = None
    usage: _Usage | None = None


def read_completion(body: bytes) -> Completion:
    """Read a message. Raises `pydantic.ValidationError` where it is none."""
    read = _Message.model_validate_json(body)
    text = "".join(block.text or "" for block in read.content if block.type == "text")
    return Completion(
        model=read.model, tokens=_tokens(read.usage), text=text, stopped=_stopped(read, text)
    )


def read_error(body: Mapping[str, Any]) -> ErrorFields:
    """Read an error. Its code, where it has one, lies in `details`."""
    error = body.get("error")
    if not isinstance(error, dict):
        return ErrorFields(message=text_or_none(error) or "")
    details = error.get("details")
    return ErrorFields(
        code=text_or_none(details.get("error_code")) if isinstance(details, dict) else None,
        type=text_or_none(error.get("type")),
        message=text_or_none(error.get("message")) or "",
    )


def read_limits(headers: Mapping[str, str]) -> Limits:
    """Read the `anthropic-ratelimit-…` headers; `tokens` there is the tightest limit of tokens."""
    tokens = next(
        (
            kind
            for kind in ("tokens", "input-tokens")
            if f"anthropic-ratelimit-{kind}-remaining" in headers
        ),
        "tokens",
    )
    return Limits(
        remaining_requests=whole_number(headers, "anthropic-ratelimit-requests-remaining"),
        remaining_tokens=whole_number(headers, f"anthropic-ratelimit-{tokens}-remaining"),
        reset_requests=_until(headers, "anthropic-ratelimit-requests-reset"),
        reset_tokens=_until(headers, f"anthropic-ratelimit-{tokens}-reset"),
    )


_DIALECT = Dialect(
    provider=Provider.ANTHROPIC,
    request_id_header="request-id",
    read_error=read_error,
    read_limits=read_limits,
)


@lru_cache(maxsize=256)
def _schema(schema: type[BaseModel]) -> dict[str, Any]:
    """The schema as `messages.parse(output_format=…)` sends it."""
    return transform_schema(schema)


def _stopped(message: _Message, text: str) -> Code | None:
    if message.stop_reason == "refusal":
        return Code.REFUSAL
    if message.stop_reason in ("max_tokens", "model_context_window_exceeded"):
        return Code.LENGTH
    return None if text else Code.EMPTY


def _tokens(usage: _Usage | None) -> Tokens | None:
    """Anthropic's `input_tokens` exclude what went to and came from the cache; ours include it."""
    if usage is None:
        return None
    read = usage.cache_read_input_tokens or 0
    written = usage.cache_creation_input_tokens or 0
    details = usage.output_tokens_details or _Details()
    return Tokens(
        input=usage.input_tokens + read + written,
        cached_read=read,
        cache_write=written,
        output=usage.output_tokens,
        reasoning=details.thinking_tokens or 0,
    )


def _until(headers: Mapping[str, str], name: str) -> float | None:
    """Seconds until the time of day (RFC 3339) in the header `name`."""
    try:
        moment = datetime.fromisoformat(headers.get(name, ""))
    except ValueError:
        return None
    return seconds_until(headers, moment)
