"""Prompt caching, as both providers account for it.

OpenAI caches by itself: prompts of 1,024 tokens and more, in steps of 128
(developers.openai.com, "Prompt caching"). Anthropic caches up to `cache_control` marks, and only
where the prefix has a minimum length; the sandbox takes 1,024 tokens for every model, while the
real minimum depends on it (platform.claude.com, "Prompt caching").
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from deploy.local.sandbox.tokens import BYTES_PER_TOKEN, Mark, Piece

MINIMUM_TOKENS = 1024
STEP_TOKENS = 128
SECONDS: dict[Mark, float] = {"5m": 300.0, "1h": 3600.0}
MAX_ENTRIES = 100_000


@dataclass(slots=True, frozen=True)
class Cached:
    """Tokens read from the cache, and written to it for five minutes or for an hour."""

    read: int = 0
    write_5m: int = 0
    write_1h: int = 0

    @property
    def write(self) -> int:
        """All tokens written to the cache."""
        return self.write_5m + self.write_1h


class PromptCache:
    """The prefixes seen lately, as digests, each with the time at which it is forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def automatic(self, scope: str, pieces: Sequence[Piece]) -> Cached:
        """OpenAI's way: the longest prefix of `pieces` that `scope` has sent before."""
        data = b"".join(piece.data for piece in pieces)
        minimum, step = MINIMUM_TOKENS * BYTES_PER_TOKEN, STEP_TOKENS * BYTES_PER_TOKEN
        if len(data) < minimum:
            return Cached()
        prefix = blake2b(scope.encode(), digest_size=16)
        start, read, unbroken = 0, 0, True
        for end in range(minimum, len(data) + 1, step):
            prefix.update(data[start:end])
            start, digest = end, prefix.digest()
            unbroken = unbroken and self._alive(digest)
            if unbroken:
                read = end // BYTES_PER_TOKEN
            self._keep(digest, SECONDS["5m"])
        return Cached(read=read)

    def marked(self, scope: str, pieces: Sequence[Piece]) -> Cached:
        """Anthropic's way: read up to the last known mark, write from there to the last mark."""
        if not any(piece.mark for piece in pieces):
            return Cached()
        prefix, size = blake2b(scope.encode(), digest_size=16), 0
        read, written, writes = 0, 0, {"5m": 0, "1h": 0}
        for piece in pieces:
            # The length keeps "ab" + "c" and "a" + "bc" apart.
            prefix.update(len(piece.data).to_bytes(8, "big") + piece.data)
            size += piece.tokens
            if piece.mark is None or size < MINIMUM_TOKENS:
                continue
            digest = prefix.digest()
            if self._alive(digest):
                read, written, writes = size, size, {"5m": 0, "1h": 0}
            else:
                writes[piece.mark] += size - written
                written = size
            self._keep(digest, SECONDS[piece.mark])
        return Cached(read, writes["5m"], writes["1h"])

    def clear(self) -> None:
        """Forget everything."""
        self._until.clear()

    def _alive(self, digest: bytes) -> bool:
        return self._until.get(digest, 0.0) > self._clock()

    def _keep(self, digest: bytes, seconds: float) -> None:
        self._until[digest] = self._clock() + seconds
        self._until.move_to_end(digest)
        if len(self._until) > MAX_ENTRIES:
            self._until.popitem(last=False)
