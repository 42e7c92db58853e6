"""The event loop that provider calls run on, in a thread of its own.

Only the call itself is asynchronous: everything around it is plain code in the worker's thread,
which costs fewer hand-overs between threads than an actor that is itself a coroutine.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Calls(Protocol):
    """Runs coroutines for threads that are not on an event loop."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` and return its result, or raise what it raised."""
        ...

    def every(self, seconds: float, act: Callable[[], None]) -> None:
        """Have the loop call `act` now and then every so many seconds, until it is let go of."""
        ...

    def close(self) -> None:
        """Let go of the loop."""
        ...


class LoopThread:
    """One event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="calls", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def every(self, seconds: float, act: Callable[[], None]) -> None:
        def again() -> None:
            act()
            self._loop.call_later(seconds, again)

        self._loop.call_soon_threadsafe(again)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
