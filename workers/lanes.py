"""Lanes: how many threads of a process work at once.

An analysis is half a second of waiting for its provider, so hundreds of threads are under way; but
only one of them can run Python at a time. Where all that have something to do are let run, each
hands the interpreter's lock to the next after every statement, and these hand-overs cost more than
the work itself. So a thread works in a lane, and gives it back while it waits for its provider.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

LANES = 8
"""More than there are cores, so that some may wait for a round trip, and fewer than the database's
connections. With 256 threads under way, 16 and 32 make no difference beyond the spread of the runs;
with 4 a worker does a sixth less."""


class Lanes:
    """`count` lanes, taken in turn."""

    def __init__(self, count: int = LANES) -> None:
        # A queue written in C: `threading.Semaphore` runs some fifty lines of Python for each turn.
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)
        self._mine = threading.local()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work in a lane, once one is free."""
        self._free.get()
        self._mine.taken = True
        try:
            yield
        finally:
            self._mine.taken = False
            self._free.put(None)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Let others have this thread's lane while it waits, if it is in one."""
        if not getattr(self._mine, "taken", False):
            yield
            return
        self._mine.taken = False
        self._free.put(None)
        try:
            yield
        finally:
            self._free.get()
            self._mine.taken = True
