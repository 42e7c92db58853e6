"""The sandbox in a thread of the running process, for tests."""

import asyncio
import threading
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.sandbox.control_client import SandboxControl
from deploy.local.sandbox.server import serving
from deploy.local.sandbox.state import Sandbox

START_SECONDS = 10.0


class SandboxServer(SandboxControl):
    """A sandbox on a free port, with an event loop and a thread of its own.

    Use it as a context manager, or `start` and `stop` it; `url` is empty before the start.
    `latency` is the seconds that a completion takes, `record` a file that all requests are added
    to (`record.Record`).
    """

    def __init__(self, *, latency: float = 0.0, port: int = 0, record: Path | None = None) -> None:
        super().__init__("")
        self._latency = latency
        self._record = record
        self._port = port
        self._started: Future[str] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Start serving; raises `OSError` where the port is taken."""
        self._started = Future()
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)
        self._thread.start()
        self.url = self._started.result(START_SECONDS)
        return self

    def stop(self) -> None:
        """Stop serving; connections are closed and calls that hang are cut off."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()
        self._loop = self._stop = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)  # Handed to who called `start`.

    async def _serve(self) -> None:
        stop = asyncio.Event()
        sandbox = Sandbox(latency=self._latency, record=self._record)
        async with serving(sandbox, self._port) as url:
            self._loop, self._stop = asyncio.get_running_loop(), stop
            self._started.set_result(url)
            await stop.wait()
