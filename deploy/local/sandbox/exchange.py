"""What passes between the server and one provider's API: a call in, a reply out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deploy.local.sandbox.prompt_cache import Cached
from deploy.local.sandbox.tokens import Piece

ProviderName = Literal["openai", "anthropic"]
Endpoint = Literal["models", "completion", "count_tokens"]


@dataclass(slots=True, kw_only=True)
class Call:
    """One request as it was received. `key` lives no longer than the call; `digest`, its
    SHA-256 in hex, and its last four characters are all that is kept of it.
    """

    provider: ProviderName
    endpoint: Endpoint
    path: str
    query: Mapping[str, str]
    request_id: str
    key: str = field(repr=False)
    digest: str
    raw: bytes = field(repr=False)

    def body(self) -> dict[str, Any]:
        """The JSON object that was sent, empty where it is none."""
        try:
            body = json.loads(self.raw)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


@dataclass(slots=True)
class Reply:
    """What is sent back; `body` is JSON unless `content_type` says otherwise."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class Refused(Exception):
    """The request is wrong, and `reply` is how the provider says so."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass(slots=True, kw_only=True)
class Asked:
    """A completion request, read. `requested` is the model's name in it, `model` the one that
    answers; `pieces` stand in the order in which the provider caches; `schema` is what the answer
    must fit, `limit` the most output tokens.
    """

    requested: str
    model: str
    pieces: list[Piece]
    user: str
    schema: Mapping[str, Any] | None
    limit: int | None

    @property
    def input_tokens(self) -> int:
        """All tokens of the prompt, cached ones included."""
        return sum(piece.tokens for piece in self.pieces)


@dataclass(slots=True)
class Draft:
    """An answer of `output` tokens, before it takes a provider's shape."""

    text: str
    stop: Literal["end", "length", "refusal", "empty"]
    output: int
    cached: Cached = field(default_factory=Cached)


def json_bytes(value: object) -> bytes:
    """`value` as JSON. ASCII only: a mail may hold lone surrogates, which UTF-8 cannot carry."""
    return json.dumps(value, separators=(",", ":")).encode()


def plain_text(content: Any) -> str:
    """The text of a message's content: a string, a block with a `text`, or a list of these."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return plain_text(content.get("text"))
    if isinstance(content, list):
        return "\n".join(text for item in content if (text := plain_text(item)))
    return ""
