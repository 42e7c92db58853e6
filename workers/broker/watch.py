"""What consumers ask and tell on each of their rounds."""

from typing import Protocol


class Watch(Protocol):
    """Knows what is paused, and is told how the consumers fare."""

    def is_paused(self, queue: str) -> bool:
        """Whether nothing is to be taken from `queue` now."""
        ...

    def goes_round(self, queue: str) -> None:
        """The consumer of `queue` begins a round: it is not stuck."""
        ...

    def answered(self, queue: str, *, well: bool) -> None:
        """The broker answered the consumer of `queue`, or did not."""
        ...


class Unwatched:
    """Nothing is paused, and nobody listens."""

    def is_paused(self, queue: str) -> bool:  # noqa: ARG002 -- as the protocol has it
        return False

    def goes_round(self, queue: str) -> None:
        pass

    def answered(self, queue: str, *, well: bool) -> None:
        pass
