"""A model's own words, before they count as a result: bounded, clean, and nothing of our prompt.

A mail can ask the model for anything, and free text is where it would come out: a schema and a
vocabulary close every other field. What can be told by looking at the words is refused here.
"""

import re
from functools import lru_cache

from workers.analyses.characters import clean
from workers.analyses.operations.port import AnswerOffVocabulary

PROMPT_WORDS = 8
"""So many words in a row of our instructions are no coincidence: an answer with them is refused."""

_WORD = re.compile(r"\w+")
_FENCE = re.compile(r"</?\s{0,5}(?:mail|thread)\s{0,5}>", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n{3,}")


def checked_text(text: str, field: str, *, characters: int, instructions: str) -> str:
    """Return `text` without control and invisible characters, trimmed.

    Raises `AnswerOffVocabulary` where nothing is left, where it has more than `characters`, and
    where it repeats the `instructions` or the fence.
    """
    cleaned = _BLANK_LINES.sub("\n\n", clean(text)).strip()
    if not cleaned or len(cleaned) > characters:
        raise AnswerOffVocabulary(field)
    if _FENCE.search(cleaned) or not _runs(cleaned).isdisjoint(_instruction_runs(instructions)):
        raise AnswerOffVocabulary(field)
    return cleaned


@lru_cache(maxsize=16)
def _instruction_runs(instructions: str) -> frozenset[tuple[str, ...]]:
    return _runs(instructions)


def _runs(text: str) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return frozenset(
        tuple(words[start : start + PROMPT_WORDS]) for start in range(len(words) - PROMPT_WORDS + 1)
    )
