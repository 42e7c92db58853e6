"""Messages of accounts that have enough under way, kept from the worker's threads.

A burst of one account would otherwise lie ahead of everybody's messages that come after it. What
is deferred stays with the broker, as taken and not acknowledged, so that a process that dies loses
none of it. One of the worker's threads takes it in together, many messages at a time.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from dramatiq import Message

LARGEST_BYTES = 32 * 1024 * 1024
"""What is deferred lies in memory up to this; from there on the queue is taken as it comes."""

AccountOf = Callable[[Message[Any]], str | None]
"""The account that a message is about, or `None` where it is not to be deferred."""


class Deferral:
    """What one consumer has deferred, and how many messages of each account the threads have.

    `is_crowded` says of an account whether one more is too many, beside so many that it has.
    `taker` is the actor that takes in what was deferred.
    """

    def __init__(
        self, taker: str, account_of: AccountOf, is_crowded: Callable[[str, int], bool]
    ) -> None:
        self.taker = taker
        self._account_of = account_of
        self._is_crowded = is_crowded
        self._lock = threading.Lock()
        self._accounts: dict[str, str] = {}
        self._handed_out: Counter[str] = Counter()
        self._kept: deque[tuple[Message[Any], int]] = deque()
        self._bytes = 0
        self._being_taken = False

    def keeps(self, message: Message[Any], size: int) -> bool:
        """Keep a message of `size` bytes back, or note that the threads get it; which of both."""
        account = self._account_of(message)
        if account is None:
            return False
        with self._lock:
            room = self._bytes + size <= LARGEST_BYTES
            if room and self._is_crowded(account, self._handed_out[account]):
                self._kept.append((message, size))
                self._bytes += size
                return True
            self._accounts[message.message_id] = account
            self._handed_out[account] += 1
            return False

    def let_go(self, message_id: str) -> None:
        """Note that the threads are done with a message."""
        with self._lock:
            account = self._accounts.pop(message_id, None)
            if account is not None:
                self._handed_out[account] -= 1
                if not self._handed_out[account]:
                    del self._handed_out[account]

    def begin(self) -> bool:
        """Whether there is something to be taken in and nobody is at it; if so, somebody is now."""
        with self._lock:
            begins = bool(self._kept) and not self._being_taken
            self._being_taken = self._being_taken or begins
            return begins

    def take(self, count: int) -> list[Message[Any]]:
        """The `count` that were deferred first, or what there is."""
        with self._lock:
            taken = [self._kept.popleft() for _ in range(min(count, len(self._kept)))]
            self._bytes -= sum(size for _, size in taken)
            return [message for message, _ in taken]

    def put_back(self, messages: Sequence[Message[Any]]) -> None:
        """Keep messages that were taken and could not be taken in."""
        sized = [(message, len(message.encode())) for message in messages]
        with self._lock:
            self._kept.extendleft(reversed(sized))
            self._bytes += sum(size for _, size in sized)

    def forget(self) -> None:
        """Forget everything, because the broker delivers all of it again."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
            self._accounts.clear()
            self._handed_out.clear()

    def end(self) -> None:
        """Note that nobody is taking in any more."""
        with self._lock:
            self._being_taken = False
