"""How the sandbox counts tokens: one for every four bytes of UTF-8, rounded up per text.

Neither provider publishes a tokenizer that works offline for its current models, and a test needs
a number that it can compute itself. The texts that count are the JSON schema, the tools, and each
text of the system prompt and of the messages; there is no charge for framing.
"""

from dataclasses import dataclass
from typing import Literal

BYTES_PER_TOKEN = 4

Mark = Literal["5m", "1h"]


def encode(text: str) -> bytes:
    """`text` in UTF-8. Lone surrogates, which a mail can hold, become question marks."""
    return text.encode("utf-8", "replace")


def count_tokens(text: str | bytes) -> int:
    """The tokens of one text."""
    size = len(encode(text) if isinstance(text, str) else text)
    return -(-size // BYTES_PER_TOKEN)


def cut(text: str, limit: int) -> str:
    """The part of `text` that fits into `limit` tokens."""
    return encode(text)[: limit * BYTES_PER_TOKEN].decode("utf-8", "ignore")


@dataclass(slots=True)
class Piece:
    """One text of a prompt. `mark` is the lifetime where a `cache_control` mark ends here."""

    data: bytes
    mark: Mark | None = None

    @property
    def tokens(self) -> int:
        """The tokens of this text."""
        return count_tokens(self.data)
