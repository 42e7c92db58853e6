"""What can be told of a pasted key without asking anybody.

The formats behind the prefix change without notice (`docs/security.md`), so nothing behind it is
ever a reason to refuse: the provider's word is asked for instead.
"""

from enum import StrEnum

from pydantic import SecretStr

from events.keys import Provider

MAX_KEY_CHARACTERS = 512
"""No provider's key comes near: the longest known has 167 characters."""

_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
"""Characters of no width that web pages and password managers paste along, and `strip()` leaves."""

_ADMIN_PREFIXES = ("sk-admin-", "sk-ant-admin")


class ShapeProblem(StrEnum):
    """Why a pasted key is Invalid at once. The values are reasons of a key's status."""

    MALFORMED = "malformed"
    WRONG_KIND = "wrong_kind"
    WRONG_PROVIDER = "wrong_provider"


def check_shape(provider: Provider, pasted: str) -> SecretStr | ShapeProblem:
    """Give the trimmed key, or say why it cannot be one of `provider`'s API keys.

    An admin key is of the wrong kind whichever provider it belongs to: it manages an organization
    and cannot be spent on a call.
    """
    key = _trimmed(pasted)
    if not key.startswith("sk-") or len(key) > MAX_KEY_CHARACTERS:
        return ShapeProblem.MALFORMED
    if not all("!" <= character <= "~" for character in key):
        return ShapeProblem.MALFORMED
    if key.startswith(_ADMIN_PREFIXES):
        return ShapeProblem.WRONG_KIND
    owner = Provider.ANTHROPIC if key.startswith("sk-ant-") else Provider.OPENAI
    return SecretStr(key) if owner is provider else ShapeProblem.WRONG_PROVIDER


def _trimmed(pasted: str) -> str:
    """`pasted` without white space of any script, line ends and invisible characters around it."""
    start, end = 0, len(pasted)
    while start < end and _is_blank(pasted[start]):
        start += 1
    while end > start and _is_blank(pasted[end - 1]):
        end -= 1
    return pasted[start:end]


def _is_blank(character: str) -> bool:
    return character.isspace() or character in _INVISIBLE
