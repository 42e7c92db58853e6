"""What looks like a provider key, and how it is kept out of what must not hold one.

The pattern is loose on purpose: formats change. It is linear, since no part of it can match in two
ways; `tests/benchmarks/redaction.py` measures it. Where it begins within a word, as in
"desk-booking-confirmations", it is a key only if letters and digits are mixed, as they are in keys.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from events.envelope import EventRefused

LOOKS_LIKE_A_KEY = re.compile(
    r"sk-(?:(?:proj|svcacct|service|admin|None)-|ant-(?:api|admin|oat|ort)\d{2}-)?[\w-]{16,}",
    re.ASCII,
)
MIXED = re.compile(r"[a-z][A-Z0-9]|[0-9][A-Za-z]|_", re.ASCII)
"""What a match holds that begins after a letter and is a key all the same."""

SEALED = re.compile(r"v1\.[A-Za-z0-9_:@+-]{1,128}\.[A-Za-z0-9_-]+", re.ASCII)
REDACTED = "sk-[redacted]"


def redact(text: str) -> str:
    """Replace what looks like a provider key."""
    if "sk-" not in text:
        return text
    return LOOKS_LIKE_A_KEY.sub(lambda found: REDACTED if _is_key(found) else found[0], text)


def _is_key(found: re.Match[str]) -> bool:
    before = found.string[max(0, found.start() - 1) : found.start()]
    return not (before.isascii() and before.isalpha()) or MIXED.search(found[0]) is not None


def refuse_readable_keys(fields: Mapping[str, Any]) -> None:
    """Raise `EventRefused` (`readable_key`) where an event holds a key in the clear.

    Sealed values are passed over, unless what is in them begins like a key: their alphabet has the
    letters of a key's prefix, and in a mail of 200 kB the prefix comes up by chance. (`seal` makes
    none that begins so.) So is the signature, for the same reason.
    """
    unsigned = {name: value for name, value in fields.items() if name != "signature"}
    for text in _texts(unsigned):
        if "sk-" in text and _shows_a_key(text):
            raise EventRefused(
                "readable_key",
                "The event holds something of a provider key's shape in the clear: seal it. If it "
                "was a real key it must be replaced at the provider, since it has been on the "
                "way readable.",
            )


def _shows_a_key(text: str) -> bool:
    if SEALED.fullmatch(text):
        return LOOKS_LIKE_A_KEY.match(text.rpartition(".")[2]) is not None
    return any(map(_is_key, LOOKS_LIKE_A_KEY.finditer(text)))


def _texts(value: Any) -> Iterator[str]:
    # A stack, not recursion: the depth of the JSON is the sender's choice.
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
