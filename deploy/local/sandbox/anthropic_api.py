"""Anthropic's API as its SDK sees it: models, messages, token counts.

Shapes are those of the official SDK's types; error types are those of Anthropic's page "Errors",
`error_code`s those of the SDK's table of error classes.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
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
from deploy.local.sandbox.tokens import Mark, Piece, encode

SNAPSHOTS = {
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
}
"""The dated model that answers for an undated name, and is named in the answer and on the bill."""

_KEY = re.compile(r"sk-ant-(?!admin)[\w-]{8,}", re.ASCII)
_LISTED = (
    *("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-sonnet-5"),
    *("claude-opus-4-8", "claude-sonnet-4-6", *SNAPSHOTS.values()),
)
_CONTEXT_TOKENS = 200_000
_LIMIT_TOKENS = 2_000_000_000
_MAX_MARKS = 4

_INVALID = "invalid_request_error"
_NO_PERMISSION = "Your API key does not have permission to use the specified resource."
_NO_CREDIT = (
    "Your credit balance is too low to access the Anthropic API. "
    "Please go to Plans & Billing to upgrade or purchase credits."
)
_TOO_FAST = "This request would exceed your organization's rate limit. Please try again later."
_TOO_LONG = f"prompt is too long: {_CONTEXT_TOKENS + 1} tokens > {_CONTEXT_TOKENS} maximum"

_ERRORS: dict[str, tuple[int, str, str]] = {
    "keyless": (401, "authentication_error", "x-api-key header is required"),
    "invalid": (401, "authentication_error", "invalid x-api-key"),
    "revoked": (401, "authentication_error", "invalid x-api-key"),
    "deactivated": (401, "authentication_error", "This organization has been disabled."),
    "restricted": (403, "permission_error", _NO_PERMISSION),
    "restrictedall": (403, "permission_error", _NO_PERMISSION),
    "ip": (401, "authentication_error", "This IP address is not authorized to use this API key."),
    "region": (403, "forbidden", "Request not allowed"),
    "nomodel": (404, "not_found_error", "model: {model}"),
    "ratelimited": (429, "rate_limit_error", _TOO_FAST),
    "noquota": (400, _INVALID, _NO_CREDIT),
    "billing": (402, "billing_error", "There is an issue with your organization's billing."),
    "spendlimit": (429, "rate_limit_error", "You have reached your API usage limits."),
    "error500": (500, "api_error", "Internal server error"),
    "error502": (502, "api_error", "Bad gateway"),
    "error503": (503, "api_error", "Service unavailable"),
    "error504": (504, "timeout_error", "The request timed out"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "toolong": (400, _INVALID, _TOO_LONG),
}


class Anthropic:
    """Anthropic's side of the sandbox; the methods mean what those of `OpenAi` mean."""

    provider: ProviderName = "anthropic"

    def request_id(self, serial: int) -> str:
        """The id of the `serial`th request."""
        return f"req_01{serial:022x}"

    def key(self, headers: Mapping[str, str]) -> str:
        """The key that the request carries, or an empty string."""
        # SDK 2.x sends the key as a bearer token, 1.x and most other clients as `x-api-key`.
        bearer = headers.get("Authorization", "").removeprefix("Bearer")
        return (headers.get("X-Api-Key") or bearer).strip()

    def admits(self, key: str) -> bool:
        """Whether `key` looks like a key of this provider that may call models."""
        return _KEY.fullmatch(key) is not None

    def refuse(self, call: Call, fault: str, *, retry_after: float = 0) -> Reply:
        """The error reply for `fault`, one of `faults.ERRORS`; `retry_after` is in seconds."""
        if fault == "invalid" and not call.key:
            fault = "keyless"
        status, kind, text = _ERRORS[fault]
        if fault == "region":
            # The edge answers here, not the API: no outer type and no request id.
            return Reply(status, json_bytes({"error": {"type": kind, "message": text}}))
        # By this code the SDK tells a billing stop (EnforcedSpendLimitReachedError) from a limit.
        code = "enforced_spend_limit_reached" if fault == "spendlimit" else None
        reply = _error(call, status, kind, text.format(model=call.body().get("model")), code=code)
        if fault == "ratelimited":
            reply.headers = {"retry-after": str(math.ceil(retry_after))}
        return reply

    def unreadable(self, call: Call, sentence: str, *, status: int = 400) -> Reply:
        """The reply to a request that is wrong in itself."""
        kinds = {404: "not_found_error", 413: "request_too_large"}
        return _error(call, status, kinds.get(status, _INVALID), sentence)

    def headers(self, call: Call, standing: Standing | None) -> dict[str, str]:
        """The headers of every reply, with the rate limits where `standing` is known."""
        headers = {
            "request-id": call.request_id,
            "anthropic-organization-id": "00000000-0000-4000-8000-000000000000",
        }
        if standing is not None:
            moment = datetime.now(UTC) + timedelta(seconds=math.ceil(standing.reset))
            reset = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
            headers |= {
                "anthropic-ratelimit-requests-limit": str(standing.limit),
                "anthropic-ratelimit-requests-remaining": str(standing.remaining),
                "anthropic-ratelimit-requests-reset": reset,
                "anthropic-ratelimit-tokens-limit": str(_LIMIT_TOKENS),
                "anthropic-ratelimit-tokens-remaining": str(_LIMIT_TOKENS),
                "anthropic-ratelimit-tokens-reset": reset,
            }
        return headers

    def models(self, call: Call) -> Reply:
        """`GET /v1/models`, page by page with `limit` and `after_id`."""
        after, limit = call.query.get("after_id"), call.query.get("limit", "20")
        if (after is not None and after not in _LISTED) or not limit.isdecimal():
            return self.unreadable(call, "after_id or limit is not valid")
        rest = _LISTED[_LISTED.index(after) + 1 if after else 0 :]
        page = rest[: int(limit)]
        body = {
            "data": [_model(name) for name in page],
            "has_more": len(rest) > len(page),
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
        }
        return Reply(200, json_bytes(body))

    def model(self, call: Call, name: str) -> Reply:
        """`GET /v1/models/{id}`."""
        if not name.startswith("claude-"):
            return _error(call, 404, "not_found_error", f"model: {name}")
        return Reply(200, json_bytes(_model(SNAPSHOTS.get(name, name))))

    def read(self, call: Call) -> Asked:
        """Read a message or a count request; raises `Refused`."""
        body = self._body(call)
        schema = _schema(body)
        pieces = [Piece(json_bytes(schema))] if schema else []
        pieces += [Piece(json_bytes(tool), _mark(tool)) for tool in body.get("tools") or ()]
        pieces += _pieces(body.get("system"))
        for turn in body["messages"]:
            pieces += _pieces(turn.get("content"))
        if pieces and body.get("cache_control"):
            pieces[-1].mark = pieces[-1].mark or _mark(body)
        marks = sum(piece.mark is not None for piece in pieces)
        if marks > _MAX_MARKS:
            text = f"A maximum of 4 blocks with cache_control may be provided. Found {marks}."
            raise Refused(self.unreadable(call, text))
        said = [turn.get("content") for turn in body["messages"] if turn.get("role") == "user"]
        asked = Asked(
            requested=body["model"],
            model=SNAPSHOTS.get(body["model"], body["model"]),
            pieces=pieces,
            user=plain_text(said),
            schema=schema,
            limit=body.get("max_tokens"),
        )
        if asked.input_tokens > _CONTEXT_TOKENS and call.endpoint == "completion":
            raise Refused(self.refuse(call, "toolong"))
        return asked

    def cached(self, asked: Asked, cache: PromptCache, scope: str) -> Cached:
        """What of the prompt comes from the cache of `scope` (a key and a model)."""
        return cache.marked(scope, asked.pieces)

    def count(self, call: Call) -> Reply:
        """`POST /v1/messages/count_tokens`; raises `Refused`."""
        return Reply(200, json_bytes({"input_tokens": self.read(call).input_tokens}))

    def compose(self, call: Call, asked: Asked, draft: Draft) -> bytes:
        """The JSON body of a 200."""
        cached = draft.cached
        # A refusal of the safety classifiers leaves no text, and still bills what was computed.
        spoken = draft.stop in ("end", "length")
        stops = {"length": "max_tokens", "refusal": "refusal"}
        details = {"type": "refusal", "category": None, "explanation": None}
        body = {
            "id": f"msg_{call.request_id[4:]}",
            "type": "message",
            "role": "assistant",
            "model": asked.model,
            "content": [{"type": "text", "text": draft.text}] if spoken else [],
            "stop_reason": stops.get(draft.stop, "end_turn"),
            "stop_sequence": None,
            "stop_details": details if draft.stop == "refusal" else None,
            "usage": {
                "input_tokens": asked.input_tokens - cached.read - cached.write,
                "cache_creation_input_tokens": cached.write,
                "cache_read_input_tokens": cached.read,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": cached.write_5m,
                    "ephemeral_1h_input_tokens": cached.write_1h,
                },
                "output_tokens": draft.output,
                "service_tier": "standard",
            },
        }
        return json_bytes(body)

    def _body(self, call: Call) -> dict[str, Any]:
        body = call.body()
        if not body:
            raise Refused(self.unreadable(call, "The request body is not valid JSON"))
        needed: dict[str, type] = {"model": str, "messages": list}
        if call.endpoint == "completion":
            needed["max_tokens"] = int
        for name, kind in needed.items():
            if not isinstance(body.get(name), kind):
                raise Refused(self.unreadable(call, f"{name}: Field required"))
        if not body["messages"] or not all(isinstance(turn, dict) for turn in body["messages"]):
            raise Refused(self.unreadable(call, "messages: at least one message is required"))
        if body.get("max_tokens", 1) < 1:
            text = "max_tokens: Input should be greater than or equal to 1"
            raise Refused(self.unreadable(call, text))
        if not body["model"].startswith("claude-"):
            raise Refused(self.refuse(call, "nomodel"))
        if body.get("stream"):
            raise Refused(self.unreadable(call, "stream: the sandbox does not stream"))
        return body


def _pieces(content: Any) -> list[Piece]:
    if isinstance(content, list):
        return [Piece(encode(plain_text(block)), _mark(block)) for block in content]
    return [Piece(encode(content))] if isinstance(content, str) else []


def _mark(block: Any) -> Mark | None:
    control = block.get("cache_control") if isinstance(block, dict) else None
    if not isinstance(control, dict):
        return None
    return "1h" if control.get("ttl") == "1h" else "5m"


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    # `output_format` is what the beta took before `output_config.format`.
    wanted = (body.get("output_config") or {}).get("format") or body.get("output_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    schema: Mapping[str, Any] | None = wanted.get("schema")
    return schema


def _model(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": "1970-01-01T00:00:00Z",  # As the API has it where a date is unknown.
        "lifecycle": "active",
        "max_input_tokens": _CONTEXT_TOKENS,
        "max_tokens": 64_000,
    }


def _error(call: Call, status: int, kind: str, message: str, *, code: str | None = None) -> Reply:
    error: dict[str, Any] = {"type": kind, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    body = {"type": "error", "error": error, "request_id": call.request_id}
    return Reply(status, json_bytes(body))
