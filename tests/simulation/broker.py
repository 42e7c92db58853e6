"""The message queue of the simulation: at least once, in any order, sometimes empty."""

from collections import defaultdict
from dataclasses import dataclass


@dataclass(eq=False)
class Delivery:
    """A message that a process has taken and not acknowledged."""

    queue: str
    data: bytes


class Queues:
    """What waits, by queue."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[bytes]] = defaultdict(list)

    def put(self, queue: str, data: bytes) -> None:
        """Put a message at the end of a queue."""
        self.waiting[queue].append(data)

    def empty(self) -> None:
        """Come back with nothing."""
        self.waiting.clear()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not any(self.waiting.values())
