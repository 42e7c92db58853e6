"""A search for secrets in bytes, in whatever form they may have got there.

A secret is told by its private part, the characters that nothing but it holds. Any 12 characters
of it in a row are found: as they are, reversed, in hex, in base64 (both alphabets, at each of the
three offsets that a surrounding text can give them), percent-encoded, JSON-escaped and in UTF-16.

    hits = search({"the log": log}, [Secret("the key", "Zq8vTn3LxW5pRk7YmB2c")])
    assert not hits, hits

Only windows of 8 characters are looked for, one at every fifth character: whichever 12 in a row
are there, one whole window is among them. All windows of all secrets are looked for at once, as
numbers of 8 bytes, so that more secrets cost nothing more. What is compressed or encrypted is not
looked into.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import quote

PIECE = 12
"""So many characters in a row of a secret are found wherever they stand."""

_WINDOW = 8
_STEP = PIECE - _WINDOW + 1
_WORD = 8
_BACKSLASHES = re.compile(rb"\\{2,}")
"""What was escaped is escaped again by what it is written into, with twice as many."""


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
    wanted: dict[int, list[tuple[bytes, str, str]]] = {}
    for secret in secrets:
        for needle, encoding in secret.needles.items():
            wanted.setdefault(_number(needle), []).append((needle, secret.name, encoding))
    found: dict[tuple[str, str, str], Hit] = {}
    for place, whole in places.items():
        for content in {whole, _BACKSLASHES.sub(rb"\\", whole)}:
            for number in _numbers(content, wanted.keys()):
                for needle, name, encoding in wanted[number]:
                    offset = content.find(needle)
                    if offset >= 0:
                        hit = Hit(name, place, encoding, offset)
                        found.setdefault((name, place, encoding), hit)
    return list(found.values())


def told(places: Mapping[str, bytes], secrets: Iterable[Secret], hits: Iterable[Hit]) -> str:
    """One line on how much was searched for how much."""
    kept = list(secrets)
    return (
        f"{len(list(hits))} leaks: searched {sum(map(len, places.values())):,} bytes in "
        f"{len(places):,} artefacts for {sum(len(secret.needles) for secret in kept):,} needles "
        f"of {len(kept)} secrets"
    )


def _numbers(content: bytes, wanted: Iterable[int]) -> set[int]:
    """Which of `wanted` stand in `content`, at whatever offset."""
    keys, found = set(wanted), set()
    for offset in range(_WORD):
        whole = (len(content) - offset) // _WORD * _WORD
        if whole > 0:
            found |= keys.intersection(memoryview(content)[offset : offset + whole].cast("Q"))
    return found


def _number(needle: bytes) -> int:
    return memoryview(needle[:_WORD]).cast("Q")[0]


def _forms(window: bytes) -> Iterator[tuple[str, bytes]]:
    yield "raw", window
    yield "reversed", window[::-1]
    yield "utf-16", window.decode().encode("utf-16-le")
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
