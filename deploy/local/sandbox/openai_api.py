"""OpenAI's API as its SDK sees it: models, chat completions, responses.

Shapes are those of the official SDK's types; error codes are those of OpenAI's guide "Error codes"
and of bodies quoted in public issues.
"""

import math
import re
import time
from collections.abc import Mapping
from typing import Any

from deploy.local.sandbox.exchange import (
    Asked,
    Call,
    Draft,
    ProviderName,
    Refused,
    Reply,
    json_bytes,
    plain_text,
)
from deploy.local.sandbox.limits import Standing
from deploy.local.sandbox.prompt_cache import Cached, PromptCache
from deploy.local.sandbox.tokens import Piece, encode

SNAPSHOTS = {
    "gpt-5.5": "gpt-5.5-2026-04-23",
    "gpt-5.4-mini": "gpt-5.4-mini-2026-03-17",
    "gpt-5.4-nano": "gpt-5.4-nano-2026-03-17",
    "gpt-5.2": "gpt-5.2-2025-12-11",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
}
"""The dated model that answers for an undated name, and is named in the answer and on the bill."""

_KEY = re.compile(r"sk-(?!ant-|admin-)[\w-]{8,}", re.ASCII)
_MODEL = re.compile(r"gpt-|o\d|chatgpt-|codex-|ft:")
_REASONS = re.compile(r"gpt-[5-9]|o\d")
_LISTED = ("gpt-6-luna", "gpt-5.6-luna", "gpt-5.4", *SNAPSHOTS, *SNAPSHOTS.values())
_CREATED = 1767225600  # The sandbox's own; clients read only that it is a Unix time.
_CONTEXT_TOKENS = 400_000
_LIMIT_TOKENS = 2_000_000_000

_INVALID = "invalid_request_error"
_QUOTA = "You exceeded your current quota, please check your plan and billing details."
_NO_SCOPE = (
    "You have insufficient permissions for this operation. Missing scopes: {}. Check that you have "
    "the correct role in your organization (Reader, Writer, Owner) and project (Member, Owner), "
    "and if you're using a restricted API key, that it has the necessary scopes."
)
_WRONG_KEY = (
    "Incorrect API key provided: {masked}. You can find your API key at "
    "https://platform.openai.com/account/api-keys."
)
_NO_MODEL = "The model `{model}` does not exist or you do not have access to it."
_TOO_LONG = f"This model's maximum context length is {_CONTEXT_TOKENS} tokens."
_TOO_FAST = (
    "Rate limit reached for {model} in organization org-sandbox on requests per min (RPM). "
    "Please try again in {wait}."
)

_ERRORS: dict[str, tuple[int, str, str | None, str]] = {
    "keyless": (401, _INVALID, None, "You didn't provide an API key."),
    "invalid": (401, _INVALID, "invalid_api_key", _WRONG_KEY),
    "revoked": (401, _INVALID, "invalid_api_key", _WRONG_KEY),
    "deactivated": (
        *(401, _INVALID, "account_deactivated"),
        "The OpenAI account associated with this API key has been deactivated.",
    ),
    # Both statuses are seen in the wild: 403 on the models, 401 on calls.
    "restricted": (403, _INVALID, None, _NO_SCOPE.format("api.model.read")),
    "restrictedall": (401, _INVALID, "missing_scope", _NO_SCOPE.format("model.request")),
    "ip": (401, _INVALID, "ip_not_authorized", "Your IP is not authorized to use this API key."),
    "region": (
        *(403, "request_forbidden", "unsupported_country_region_territory"),
        "Country, region, or territory not supported",
    ),
    "nomodel": (404, _INVALID, "model_not_found", _NO_MODEL),
    "ratelimited": (429, "requests", "rate_limit_exceeded", _TOO_FAST),
    "noquota": (429, "insufficient_quota", "insufficient_quota", _QUOTA),
    "billing": (429, "insufficient_quota", "credit_balance_exhausted", _QUOTA),
    "spendlimit": (429, "insufficient_quota", "organization_spend_limit_exceeded", _QUOTA),
    "error500": (500, "server_error", None, "The server had an error processing your request."),
    "error502": (502, "server_error", None, "Bad gateway."),
    "error503": (503, "server_error", None, "The service is temporarily unavailable."),
    "error504": (504, "server_error", None, "The upstream server timed out."),
    "overloaded": (
        *(503, "service_unavailable_error", "server_is_overloaded"),
        "The engine is currently overloaded, please try again later",
    ),
    "toolong": (400, _INVALID, "context_length_exceeded", _TOO_LONG),
}


class OpenAi:
    """OpenAI's side of the sandbox; `Anthropic` has the same methods."""

    provider: ProviderName = "openai"

    def request_id(self, serial: int) -> str:
        """The id of the `serial`th request."""
        return f"req_{serial:032x}"

    def key(self, headers: Mapping[str, str]) -> str:
        """The key that the request carries, or an empty string."""
        return headers.get("Authorization", "").removeprefix("Bearer").strip()

    def admits(self, key: str) -> bool:
        """Whether `key` looks like a key of this provider that may call models."""
        return _KEY.fullmatch(key) is not None

    def refuse(self, call: Call, fault: str, *, retry_after: float = 0) -> Reply:
        """The error reply for `fault`, one of `faults.ERRORS`; `retry_after` is in seconds."""
        key = call.key
        if fault == "invalid" and not key:
            fault = "keyless"
        if fault == "restrictedall" and call.endpoint == "models":
            fault = "restricted"
        status, kind, code, text = _ERRORS[fault]
        # The real message shows this much of the key, too; clients must not repeat it.
        masked = f"{key[:8]}{'*' * max(3, len(key) - 12)}{key[-4:]}"
        model, wait = call.body().get("model"), duration(retry_after)
        text = text.format(masked=masked, model=model, wait=wait)
        reply = _error(status, code, text, kind=kind)
        if fault == "ratelimited":
            reply.headers = {
                "retry-after": str(math.ceil(retry_after)),
                "retry-after-ms": str(math.ceil(retry_after * 1000)),
            }
        return reply

    def unreadable(self, _call: Call, sentence: str, *, status: int = 400) -> Reply:
        """The reply to a request that is wrong in itself."""
        return _error(status, None, sentence)

    def headers(self, call: Call, standing: Standing | None) -> dict[str, str]:
        """The headers of every reply, with the rate limits where `standing` is known."""
        headers = {
            "x-request-id": call.request_id,
            "openai-version": "2020-10-01",
            "openai-organization": "org-sandbox",
        }
        if standing is not None:
            headers |= {
                "x-ratelimit-limit-requests": str(standing.limit),
                "x-ratelimit-remaining-requests": str(standing.remaining),
                "x-ratelimit-reset-requests": duration(standing.reset),
                "x-ratelimit-limit-tokens": str(_LIMIT_TOKENS),
                "x-ratelimit-remaining-tokens": str(_LIMIT_TOKENS),
                "x-ratelimit-reset-tokens": "0s",
            }
        return headers

    def models(self, _call: Call) -> Reply:
        """`GET /v1/models`."""
        body = {"object": "list", "data": [_model(name) for name in _LISTED]}
        return Reply(200, json_bytes(body))

    def model(self, _call: Call, name: str) -> Reply:
        """`GET /v1/models/{id}`."""
        if not _MODEL.match(name):
            return _error(404, "model_not_found", _NO_MODEL.format(model=name))
        return Reply(200, json_bytes(_model(name)))

    def read(self, call: Call) -> Asked:
        """Read a completion request; raises `Refused`."""
        body = self._body(call)
        responses = call.path == "/v1/responses"
        name = "input" if responses else "messages"
        turns = body.get(name)
        turns = [{"role": "user", "content": turns}] if isinstance(turns, str) else turns
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise _refused(f"Missing required parameter: '{name}'.", name)
        schema = _schema(body, responses=responses)
        parts = [json_bytes(part) for part in (schema, body.get("tools")) if part]
        texts = [plain_text(turn.get("content")) for turn in turns]
        parts += [encode(text) for text in (plain_text(body.get("instructions")), *texts) if text]
        asked = Asked(
            requested=body["model"],
            model=SNAPSHOTS.get(body["model"], body["model"]),
            pieces=[Piece(part) for part in parts],
            user="\n".join(t for t, turn in zip(texts, turns, strict=True) if _is_user(turn)),
            schema=schema,
            limit=_limit(body, responses=responses),
        )
        if asked.input_tokens > _CONTEXT_TOKENS:
            raise Refused(self.refuse(call, "toolong"))
        return asked

    def cached(self, asked: Asked, cache: PromptCache, scope: str) -> Cached:
        """What of the prompt comes from the cache of `scope` (a key and a model)."""
        return cache.automatic(scope, asked.pieces)

    def compose(self, call: Call, asked: Asked, draft: Draft) -> bytes:
        """The JSON body of a 200."""
        shape = _response if call.path == "/v1/responses" else _completion
        return json_bytes(shape(call, asked, draft))

    def _body(self, call: Call) -> dict[str, Any]:
        body = call.body()
        if not body:
            raise _refused("We could not parse the JSON body of your request.")
        if not isinstance(model := body.get("model"), str):
            raise _refused("you must provide a model parameter")
        if not _MODEL.match(model):
            raise Refused(self.refuse(call, "nomodel"))
        if body.get("stream") or body.get("n", 1) not in (1, None):
            text = "Unsupported value: the sandbox gives one answer, not streamed."
            raise _refused(text, "stream", "unsupported_value")
        return body


def duration(seconds: float) -> str:
    """`seconds` as OpenAI writes them: "6ms", "1.5s", "1m0s", "1h0m0s"."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    shown = f"{round(rest, 3):g}s"
    return f"{hours}h{minutes}m{shown}" if hours else f"{minutes}m{shown}" if minutes else shown


def _completion(call: Call, asked: Asked, draft: Draft) -> dict[str, Any]:
    refused = draft.stop == "refusal"
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused else draft.text,
        "refusal": draft.text if refused else None,
        "annotations": [],
    }
    stop = "length" if draft.stop == "length" else "stop"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": stop}
    return {
        "id": f"chatcmpl-{call.request_id[4:]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.model,
        "choices": [] if draft.stop == "empty" else [choice],
        "usage": {
            "prompt_tokens": asked.input_tokens,
            "completion_tokens": draft.output,
            "total_tokens": asked.input_tokens + draft.output,
            "prompt_tokens_details": {"cached_tokens": draft.cached.read, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _response(call: Call, asked: Asked, draft: Draft) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "output_text", "text": draft.text, "annotations": []}
    if draft.stop == "refusal":
        part = {"type": "refusal", "refusal": draft.text}
    cut = draft.stop == "length"
    message = {
        "id": f"msg_{call.request_id[4:]}",
        "type": "message",
        "role": "assistant",
        "status": "incomplete" if cut else "completed",
        "content": [part],
    }
    return {
        "id": f"resp_{call.request_id[4:]}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "model": asked.model,
        "output": [] if draft.stop == "empty" else [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": asked.input_tokens,
            "input_tokens_details": {"cached_tokens": draft.cached.read, "cache_write_tokens": 0},
            "output_tokens": draft.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked.input_tokens + draft.output,
        },
    }


def _is_user(turn: Mapping[str, Any]) -> bool:
    return turn.get("role") == "user"


def _limit(body: Mapping[str, Any], *, responses: bool) -> int | None:
    if "max_tokens" in body and _REASONS.match(body["model"]):
        text = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead."
        )
        raise _refused(text, "max_tokens", "unsupported_parameter")
    name = "max_output_tokens" if responses else "max_completion_tokens"
    limit = body.get(name, body.get("max_tokens"))
    lowest = 16 if responses else 1  # The API's own lower bounds.
    if limit is None or (isinstance(limit, int) and limit >= lowest):
        return limit
    text = f"Invalid '{name}': integer below minimum value. Expected a value >= {lowest}."
    raise _refused(text, name, "integer_below_min_value")


def _schema(body: Mapping[str, Any], *, responses: bool) -> Mapping[str, Any] | None:
    place = (body.get("text") or {}).get("format") if responses else body.get("response_format")
    if not isinstance(place, dict) or place.get("type") != "json_schema":
        return None
    place = place if responses else place.get("json_schema") or {}
    for name in ("name", "schema"):
        if not place.get(name):
            param = f"text.format.{name}" if responses else f"response_format.json_schema.{name}"
            text = f"Missing required parameter: '{param}'."
            raise _refused(text, param, "missing_required_parameter")
    schema: Mapping[str, Any] = place["schema"]
    return schema


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "system"}


def _refused(text: str, param: str | None = None, code: str | None = None) -> Refused:
    return Refused(_error(400, code, text, param=param))


def _error(
    status: int, code: str | None, message: str, *, kind: str = _INVALID, param: str | None = None
) -> Reply:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Reply(status, json_bytes({"error": error}))
