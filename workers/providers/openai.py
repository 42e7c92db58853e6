"""OpenAI behind the port: chat completions with a strict JSON schema.

Facts: the API reference (chat completions, models), the guides to rate limits and to errors, and
the source of openai 3.54.0; see `docs/providers.md`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient, pydantic_function_tool
from openai._base_client import get_platform
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

OPENAI_URL = "https://api.openai.com/v1"
"""Where OpenAI is, unless the operator says otherwise."""

_DURATION = re.compile(
    r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?"
    r"(?:(\d{1,9}(?:\.\d*)?)s)?(?:(\d{1,9}(?:\.\d*)?)ms)?",
    re.ASCII,
)


class OpenAIClient:
    """A `ProviderClient`. One per process; it belongs to the event loop that first uses it.

    `base_url` is the operator's, never from an event. `max_in_flight` is the most calls at a time.
    `probe_timeout` is in seconds, for each call of a probe. `http` takes the place of the
    connections to the provider (a transport that a test wraps) and is closed with this client.
    """

    name = Provider.OPENAI

    def __init__(
        self,
        *,
        base_url: str = OPENAI_URL,
        max_in_flight: int = 256,
        probe_timeout: float = 15.0,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        self._probe_timeout = probe_timeout
        self._sdk = AsyncOpenAI(
            api_key=PLACEHOLDER_KEY,
            base_url=base_url,
            max_retries=0,
            http_client=http
            or open_http(DefaultAioHttpClient, base_url=base_url, max_in_flight=max_in_flight),
        )
        self._platform = get_platform()
        refuse_foreign_credentials(self._sdk.default_headers, "OPENAI_CUSTOM_HEADERS")

    async def ask(self, key: SecretStr, question: Question) -> Answer | Failure:
        """Ask `question`, paid by `key`. Never raises but `CancelledError`."""

        async def call() -> httpx2.Response:
            # Not `chat.completions.create`: it looks through the whole body for what is to be
            # transformed, of which there is nothing, and takes a third of the call's time for it.
            return await self._with(key).post(
                "/chat/completions",
                body={
                    "model": question.model,
                    "messages": [
                        {"role": "system", "content": question.system},
                        {"role": "user", "content": question.user},
                    ],
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": _strict_schema(question.schema),
                    },
                    "max_completion_tokens": question.max_output_tokens,
                    # OpenAI caches by prefix, on the machine that this leads to: so prompts that
                    # begin alike come to the same one. The stable part stands first.
                    "prompt_cache_key": _cache_key(question.system),
                    "store": False,
                },
                options={"timeout": timeouts(question.timeout)},
                cast_to=httpx2.Response,
            )

        outcome = await send(call, seconds=question.timeout)
        return answer(_DIALECT, outcome, read_completion, question)

    async def probe(
        self,
        key: SecretStr,
        *,
        model: str,  # noqa: ARG002 -- the port's; nothing that is free here is about a model
        prove_quota: bool = False,
    ) -> Proof | Failure | Undecided:
        """Find out for nothing whether `key` works; see `ProviderClient.probe`."""
        listed = await self._list_models(key)
        if isinstance(listed, Failure):
            if listed.kind is not OutcomeClass.RESTRICTED:
                return listed
        elif not prove_quota:
            return listed
        return Undecided()

    async def spend(self, key: SecretStr, *, model: str) -> Proof | Failure:
        """Have `key` pay for one token; see `ProviderClient.spend`."""

        async def call() -> Any:
            return await self._with(key).chat.completions.with_raw_response.create(
                model=model,
                messages=[{"role": "user", "content": "1"}],
                max_completion_tokens=1,
                store=False,
                timeout=timeouts(self._probe_timeout),
            )

        outcome = await send(call, seconds=self._probe_timeout)
        return billed_proof(_DIALECT, outcome, read_completion, model)

    async def close(self) -> None:
        """Close the connections."""
        await self._sdk.close()

    def _with(self, key: SecretStr) -> AsyncOpenAI:
        """A light copy that carries `key`, on the same connections."""
        copy = self._sdk.with_options(api_key=key.get_secret_value())
        # Each copy reads `OPENAI_ORG_ID` and `OPENAI_PROJECT_ID` anew. They are the operator's:
        # OpenAI refuses a user's key that comes with an organization not its own.
        copy.organization = copy.project = None
        # Each copy would ask in another thread what machine this is, before its one call.
        copy._platform = self._platform
        return copy

    async def _list_models(self, key: SecretStr) -> Proof | Failure:
        async def call() -> Any:
            models = self._with(key).models.with_raw_response
            return await models.list(timeout=timeouts(self._probe_timeout))

        outcome = await send(call, seconds=self._probe_timeout)
        return free_proof(_DIALECT, outcome, stage=1, holds="data", kind=list)


class _Details(BaseModel):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    finish_reason: str | None = None
    message: _Message


class _ChatCompletion(BaseModel):
    """The few fields that are read. The SDK's own model takes any JSON for a completion."""

    model: str
    choices: list[_Choice]
    usage: _Usage | None = None


def read_completion(body: bytes) -> Completion:
    """Read a chat completion. Raises `pydantic.ValidationError` where it is none."""
    read = _ChatCompletion.model_validate_json(body)
    tokens = _tokens(read.usage)
    stopped = _stopped(read)
    text = (read.choices[0].message.content or "") if stopped is None else ""
    return Completion(model=read.model, tokens=tokens, text=text, stopped=stopped)


def read_error(body: Mapping[str, Any]) -> ErrorFields:
    """Read an error. A missing scope is sometimes told as `{"error": "<sentence>"}`."""
    error = body.get("error")
    if not isinstance(error, dict):
        return ErrorFields(message=text_or_none(error) or "")
    return ErrorFields(
        code=text_or_none(error.get("code")),
        type=text_or_none(error.get("type")),
        message=text_or_none(error.get("message")) or "",
    )


def read_limits(headers: Mapping[str, str]) -> Limits:
    """Read the `x-ratelimit-…` headers."""
    return Limits(
        remaining_requests=whole_number(headers, "x-ratelimit-remaining-requests"),
        remaining_tokens=whole_number(headers, "x-ratelimit-remaining-tokens"),
        reset_requests=duration(headers.get("x-ratelimit-reset-requests", "")),
        reset_tokens=duration(headers.get("x-ratelimit-reset-tokens", "")),
    )


def duration(text: str) -> float | None:
    """Seconds of a duration as OpenAI writes it ("1m0.5s", "6ms"); `None` for any other text."""
    found = _DURATION.fullmatch(text)
    if found is None or not text:
        return None
    days, hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return days * 86_400 + hours * 3_600 + minutes * 60 + seconds + milliseconds / 1_000


_DIALECT = Dialect(
    provider=Provider.OPENAI,
    request_id_header="x-request-id",
    read_error=read_error,
    read_limits=read_limits,
)


@lru_cache(maxsize=256)
def _cache_key(system: str) -> str:
    """What prompts that begin with `system` have in common: a digest, so that it tells nothing."""
    return blake2b(system.encode("utf-8", "replace"), digest_size=16).hexdigest()


@lru_cache(maxsize=256)
def _strict_schema(schema: type[BaseModel]) -> Any:
    """The schema as `chat.completions.parse` sends it.

    The SDK's public way to its strict form of a schema is the one for tools.
    """
    name = re.sub(r"[^A-Za-z0-9_-]", "_", schema.__name__)[:64]
    strict = pydantic_function_tool(schema, name=name)["function"]
    return {"name": name, "schema": strict["parameters"], "strict": True}


def _stopped(completion: _ChatCompletion) -> Code | None:
    if not completion.choices:
        return Code.EMPTY
    choice = completion.choices[0]
    if choice.message.refusal:
        return Code.REFUSAL
    if choice.finish_reason == "content_filter":
        return Code.CONTENT_FILTER
    if choice.finish_reason == "length":
        return Code.LENGTH
    return None if choice.message.content else Code.EMPTY


def _tokens(usage: _Usage | None) -> Tokens | None:
    """OpenAI's `prompt_tokens` include the cached ones, as ours do."""
    if usage is None:
        return None
    prompt = usage.prompt_tokens_details or _Details()
    completion = usage.completion_tokens_details or _Details()
    return Tokens(
        input=usage.prompt_tokens,
        cached_read=prompt.cached_tokens or 0,
        cache_write=prompt.cache_write_tokens or 0,
        output=usage.completion_tokens,
        reasoning=completion.reasoning_tokens or 0,
    )
