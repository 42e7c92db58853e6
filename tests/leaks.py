"""A search for secrets in bytes, in whatever form they may have got there.

A secret is told by its private part, the characters that nothing but it holds. Any 12 characters
of it in a row are found: as they are, reversed, in hex, in base64 (both alphabets, at each of the
three offsets that a surrounding text can give them), percent-encoded and JSON-escaped.

    hits = search({"the log": log}, [Secret("the key", "Zq8vTn3LxW5pRk7YmB2c")])
    assert not hits, hits

Only windows of 8 characters are looked for, one at every fifth character: whichever 12 in a row
are there, one whole window is among them. What is compressed or encrypted is not looked into.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import quote

PIECE = 12
"""So many characters in a row of a secret are found wherever they stand."""

_WINDOW = 8
_STEP = PIECE - _WINDOW + 1


@dataclass(frozen=True)
class Secret:
    """What is looked for. `private` is what no public prefix or suffix shares with it."""

    name: str
    private: str = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.private) < PIECE or not self.private.isascii():
            raise ValueError(f"{self.name} must have {PIECE} or more characters, all of ASCII")

    @cached_property
    def needles(self) -> dict[bytes, str]:
        """What is looked for in the bytes, and the name of its encoding."""
        raw = self.private.encode()
        starts = {*range(0, len(raw) - _WINDOW + 1, _STEP), len(raw) - _WINDOW}
        found: dict[bytes, str] = {}
        for start in sorted(starts):
            for encoding, needle in _forms(raw[start : start + _WINDOW]):
                found.setdefault(needle, encoding)
        return found


@dataclass(frozen=True, slots=True)
class Hit:
    """A secret that was found. It is told by its name, so that a failed test shows no more."""

    secret: str
    place: str
    encoding: str
    offset: int


def search(places: Mapping[str, bytes], secrets: Iterable[Secret]) -> list[Hit]:
    """Find every secret in every place, each encoding once."""
    return [
        Hit(secret.name, place, encoding, offset)
        for secret in secrets
        for place, content in places.items()
        for encoding, offset in _found(content, secret).items()
    ]


def _found(content: bytes, secret: Secret) -> dict[str, int]:
    found: dict[str, int] = {}
    for needle, encoding in secret.needles.items():
        if encoding not in found and (offset := content.find(needle)) >= 0:
            found[encoding] = offset
    return found


def _forms(window: bytes) -> Iterator[tuple[str, bytes]]:
    yield "raw", window
    yield "reversed", window[::-1]
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield "base64", _sure_part(encode, window, before)
    for case in (str.lower, str.upper):
        digits = [case(f"{byte:02x}") for byte in window]
        yield "hex", "".join(digits).encode()
        yield "percent", "".join(f"%{pair}" for pair in digits).encode()
        yield "json", "".join(f"\\u00{pair}" for pair in digits).encode()
    # Only what must be escaped: for letters and digits these are the raw form.
    yield "percent", quote(window, safe="").encode()
    yield "json", json.dumps(window.decode())[1:-1].encode()


def _sure_part(encode: Callable[[bytes], bytes], window: bytes, before: int) -> bytes:
    """The characters of base64 that are the same whatever stands around `window`.

    `before` is how many bytes of the group of three that it starts in belong to its neighbour.
    """
    encoded = encode(bytes(before) + window)
    bits = 8 * before
    return encoded[-(-bits // 6) : (bits + 8 * len(window)) // 6]
