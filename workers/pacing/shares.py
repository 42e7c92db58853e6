"""An account's share of one worker process.

All worker processes take from the same queue, so a bound in each is a bound over all, and one that
a killed process cannot leave behind.
"""

import threading

LARGEST_SHARE = 0.75
"""One account may have this part of a process's threads: the rest is always free for others, who
then wait for nobody's calls."""


class Shares:
    """Counts what each account has under way in this process."""

    def __init__(self, threads: int) -> None:
        self.limit = max(1, int(threads * LARGEST_SHARE))
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}

    def enter(self, account: str) -> bool:
        """Take a place; false where the account has its share already."""
        with self._lock:
            taken = self._taken.get(account, 0)
            if taken >= self.limit:
                return False
            self._taken[account] = taken + 1
            return True

    def leave(self, account: str) -> None:
        """Give a place back."""
        with self._lock:
            left = self._taken[account] - 1
            if left:
                self._taken[account] = left
            else:
                # Accounts come and go; what is not under way is not remembered.
                del self._taken[account]
