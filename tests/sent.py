"""What a provider may receive of us: held against the sandbox's record."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

OF_A_MAIL = {"subject", "from", "to", "cc", "text"}
OF_A_THREAD = {"own_address", "messages"}
OF_A_MESSAGE = {"from", "to", "cc", "date", "text"}

_BODY = {
    "openai": {
        *("model", "messages", "response_format", "max_completion_tokens", "store"),
        "prompt_cache_key",
    },
    "anthropic": {"model", "messages", "system", "output_config", "max_tokens"},
}
_HEADERS = {
    *("accept", "accept-encoding", "authorization", "connection", "content-length"),
    *("content-type", "host", "user-agent", "x-api-key", "anthropic-version"),
    "idempotency-key",
}


def assert_only_what_is_named(record: Iterable[Mapping[str, Any]]) -> None:
    """Every completion holds one fenced mail or thread with the fields that the product names.

    Beside it are the instructions, which hold nothing of a mail, and what the API asks for: no
    field of a body and no header but the known ones.
    """
    for entry in record:
        named = {name for name in entry["header_names"] if not name.startswith("x-stainless-")}
        assert named <= _HEADERS, named - _HEADERS
        assert not entry["key_in_body"]
        # The smallest call, by which a key is proved, asks about the figure 1.
        if entry["endpoint"] == "completion" and entry["user"] != "1":
            assert set(entry["body"]) <= _BODY[entry["provider"]]
            _assert_fenced(entry["user"])
            assert "<mail>\n" not in entry["system"]


def _assert_fenced(user: str) -> None:
    lead_in, opening, fenced, closing = user.split("\n")
    assert lead_in.endswith(":")
    told = json.loads(fenced)
    if opening == "<thread>":
        assert closing == "</thread>"
        assert set(told) == OF_A_THREAD
        for message in told["messages"]:
            assert isinstance(message, str) or set(message) == OF_A_MESSAGE
    else:
        assert (opening, closing) == ("<mail>", "</mail>")
        assert set(told) == OF_A_MAIL
