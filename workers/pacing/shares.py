"""An account's share of one worker process.

All worker processes take from the same queue, so a bound in each is a bound over all, and one that
a killed process cannot leave behind.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

LARGEST_SHARE = 0.75
"""One account may have this part of a process's threads: the rest is always free for others, who
then wait for nobody's calls."""

FEW = 8
"""So many requests of an account that gets no permit are tried all the same: they may be for its
other key, and a flood is more than that."""


TRANSACTIONS = 4
"""So many transactions of one account a process has open at once. They wait for each other in the
database anyway (its credits are one row); here they do so without holding the connections, or on
SQLite the one turn, that other accounts and consents need."""


_ACCOUNTS_APART = 1024
"""So many accounts have a count of their own, on average, of what was looked for in vain."""


class _Line:
    """Who waits for one account's transactions."""

    def __init__(self) -> None:
        self.turns = threading.Semaphore(TRANSACTIONS)
        self.users = 0


class Shares:
    """Counts what each account has under way in this process, and which of its requests wait next.

    `monotonic` are seconds on a clock that is never set back.
    """

    def __init__(self, threads: int, monotonic: Callable[[], float]) -> None:
        self.limit = max(1, int(threads * LARGEST_SHARE))
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # Accounts come and go; what is not under way is not remembered.
        self._taken: Counter[str] = Counter()
        self._held_until: dict[str, float] = {}
        self._picked: set[tuple[str, str]] = set()
        self._waiting: set[str] = set()
        self._lines: dict[str, _Line] = {}
        self._in_vain = [0] * _ACCOUNTS_APART

    def enter(self, account: str) -> bool:
        """Take a place; false where the account has its share already."""
        with self._lock:
            if self._taken[account] >= self.limit:
                self._in_vain[hash(account) % _ACCOUNTS_APART] += 1
                return False
            self._taken[account] += 1
            return True

    def leave(self, account: str) -> None:
        """Give a place back."""
        with self._lock:
            self._taken[account] -= 1
            if not self._taken[account]:
                del self._taken[account]

    def has_room(self, account: str) -> bool:
        """Whether `enter` would give a place."""
        with self._lock:
            return self._taken[account] < self.limit

    def note_waiting(self, account: str) -> None:
        """Note that a request of the account waits for its turn, once that is written.

        Where nothing of the account is under way here, nobody would ask.
        """
        with self._lock:
            if self._taken[account]:
                self._waiting.add(account)

    def were_waiting(self, account: str) -> bool:
        """Whether that was noted since this was asked before."""
        with self._lock:
            noted = account in self._waiting
            self._waiting.discard(account)
            return noted

    def in_vain(self, account: str) -> int:
        """How often a thread found no place, or nothing to run, for the account or a few others.

        Where it has grown while a thread had a place or a request in its hands, that may have been
        why: a thread that then runs nothing has to look for what waits in the other's stead.
        """
        with self._lock:
            return self._in_vain[hash(account) % _ACCOUNTS_APART]

    def hold(self, account: str, seconds: float) -> None:
        """Note that the account's calls get no permit for so long."""
        with self._lock:
            now = self._monotonic()
            self._held_until = {who: at for who, at in self._held_until.items() if at > now}
            self._held_until[account] = now + seconds

    def is_crowded(self, account: str, messages: int) -> bool:
        """Whether one more message is too many, beside `messages` that the threads have of it."""
        with self._lock:
            held = self._held_until.get(account, 0.0) > self._monotonic()
        return messages >= (min(FEW, self.limit) if held else self.limit)

    def pick(self, account: str, requests: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
        """The first of the requests that no other thread of this process is about to look at.

        `requests` are ids, each with the provider that it wants.
        It is this thread's until it says `unpick`.
        """
        with self._lock:
            for request_id, wanted in requests:
                if (account, request_id) not in self._picked:
                    self._picked.add((account, request_id))
                    return request_id, wanted
            self._in_vain[hash(account) % _ACCOUNTS_APART] += 1
        return None

    def unpick(self, account: str, request_id: str) -> None:
        """Let others look at a request again."""
        with self._lock:
            self._picked.discard((account, request_id))

    @contextmanager
    def transaction(self, account: str) -> Iterator[None]:
        """One of the account's turns to write. To be taken before a connection is."""
        with self._lock:
            line = self._lines.setdefault(account, _Line())
            line.users += 1
        try:
            with line.turns:
                yield
        finally:
            with self._lock:
                line.users -= 1
                if not line.users:
                    del self._lines[account]
