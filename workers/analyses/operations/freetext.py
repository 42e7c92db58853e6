"""A model's own words, before they count as a result: bounded, clean, nothing of our prompt, and
nothing that can be followed, dialled or looked up unless it stood in what was asked about.

A mail can ask the model for anything, and free text is where it would come out: a schema and a
vocabulary close every other field. What can be told by looking at the words is refused here. What
cannot (a translation of the prompt, a lie) harms little: the prompt is no secret and holds nothing
of another account.
"""

import base64
import codecs
import json
import re
import unicodedata
from binascii import Error as NotBase64
from collections.abc import Callable, Iterator
from functools import lru_cache

from workers.analyses.characters import clean
from workers.analyses.operations.port import AnswerOffVocabulary

PROMPT_WORDS = 8
"""So many words in a row of our instructions are no coincidence: an answer with them is refused."""

_PROMPT_LETTERS = 32
"""The same in letters, for words that were pulled apart or run together: eight short words."""

_PROMPT_CONSONANTS = 24
"""The same without the vowels, which are what letters are most often exchanged in."""

_WORD = re.compile(r"\w+")
_NO_LETTERS = re.compile(r"[\W\d_]+")
_NO_CONSONANTS = re.compile(r"[\W\d_aeiou]+")
_FENCE = re.compile(r"</?\s{0,5}(?:mail|thread)\s{0,5}>", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n{3,}")
_ENCODED = re.compile(r"(?:[A-Za-z0-9+/_-]{24,}+\s{0,4}){1,200}+=?")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[\s:]?){24,}+")

_FOLLOWED = re.compile(
    r"[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{1,255}"  # an address
    r"|(?:[a-z][a-z+.-]{1,20}://|www\.)[^\s<>\"'()\[\]]{1,2000}"  # a link
    # an identifier: letters and five digits
    r"|(?<![\w-])(?=[\w-]{0,60}[a-z])(?=(?:[\w-]{0,60}?\d){5})[\w-]{8,64}",
    re.IGNORECASE,
)
_DIALLED = re.compile(r"(?:\+|\b)\d(?:[ ./()-]{0,2}\d){8,}")
"""Nine digits and more: a telephone number, an account, a card."""

_DATE = re.compile(r"\b(?:\d{4}([-./])\d\d?\1\d\d?|\d\d?([-./])\d\d?\2(?:\d{4}|\d\d))\b")
"""A model may write the mail's dates its own way."""

_SCHEME = re.compile(r"[a-z][a-z+.-]{1,20}://|www\.", re.IGNORECASE)
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


def checked_text(text: str, field: str, *, characters: int, instructions: str) -> str:
    """Return `text` without control and invisible characters, trimmed.

    Raises `AnswerOffVocabulary` where nothing is left, where it has more than `characters`, and
    where it repeats the `instructions` or the fence, be it in other letters, backwards, in base64,
    hex or ROT13.
    """
    cleaned = _BLANK_LINES.sub("\n\n", clean(text)).strip()
    if not cleaned or len(cleaned) > characters:
        raise AnswerOffVocabulary(field)
    for reading in _readings(cleaned):
        if _FENCE.search(reading) or _repeats(reading, instructions):
            raise AnswerOffVocabulary(field)
    return cleaned


def held_against(text: str, field: str, *, asked: str) -> None:
    """Let `text` pass where all in it that can be followed, dialled or looked up stands in `asked`.

    That is addresses, links, identifiers and long numbers. `asked` is what the model was told to
    read. So a mail can neither have a link made with what else it says, nor have a model tell what
    it knows from elsewhere. Raises `AnswerOffVocabulary`.
    """
    known = _essence(asked) + _essence(_unescaped(asked))
    for found in (*_FOLLOWED.findall(text), *_DIALLED.findall(_DATE.sub("; ", text))):
        if _essence(found.rstrip(".,;:!?")) not in known:
            raise AnswerOffVocabulary(field)


def _essence(text: str) -> str:
    """What of `text` is left where writing it another way makes no difference."""
    return _NOT_ALPHANUMERIC.sub(
        "", _SCHEME.sub("", unicodedata.normalize("NFKC", text))
    ).casefold()


def _unescaped(fenced: str) -> str:
    """What stands in a fence, as it was before it became JSON."""
    try:
        return str(json.loads(fenced.split("\n")[2]))
    except (IndexError, ValueError):
        return ""


def _readings(text: str) -> Iterator[str]:
    """`text`, and what it may be in other letters or another encoding."""
    yield text
    plain = unicodedata.normalize("NFKC", text)
    yield plain
    yield plain[::-1]
    yield codecs.encode(plain, "rot13")
    for pattern, decode in ((_ENCODED, _from_base64), (_HEX, _from_hex)):
        for run in pattern.finditer(plain):
            yield decode(_NOT_ALPHANUMERIC.sub("", run[0]) if decode is _from_hex else run[0])


def _from_base64(run: str) -> str:
    joined = "".join(run.split()).translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    try:
        return base64.b64decode(joined[: len(joined) // 4 * 4]).decode("utf-8", "replace")
    except NotBase64:
        return ""


def _from_hex(run: str) -> str:
    return bytes.fromhex(run[: len(run) // 2 * 2]).decode("utf-8", "replace")


_Pieces = Callable[[str], "list[str] | str"]
_MEASURES: tuple[tuple[_Pieces, int], ...] = (
    (_WORD.findall, PROMPT_WORDS),
    (lambda text: _NO_LETTERS.sub("", text), _PROMPT_LETTERS),
    (lambda text: _NO_CONSONANTS.sub("", text), _PROMPT_CONSONANTS),
)


def _repeats(text: str, instructions: str) -> bool:
    told = text.casefold()
    return any(
        not runs.isdisjoint(_runs(pieces(told), length))
        for (pieces, length), runs in zip(_MEASURES, _instruction_runs(instructions), strict=True)
    )


@lru_cache(maxsize=16)
def _instruction_runs(instructions: str) -> tuple[frozenset[tuple[str, ...] | str], ...]:
    told = instructions.casefold()
    return tuple(frozenset(_runs(pieces(told), length)) for pieces, length in _MEASURES)


def _runs(pieces: list[str] | str, length: int) -> Iterator[tuple[str, ...] | str]:
    for start in range(len(pieces) - length + 1):
        run = pieces[start : start + length]
        yield run if isinstance(run, str) else tuple(run)
