"""A TCP proxy that stands before a service and does to its connections what networks do."""

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

CHUNK = 65_536
_AT_ONCE = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on a port of the loopback address, for `target`: another port, or a unix socket.

    Safe to control from any thread.
    """

    def __init__(self, target: int | Path) -> None:
        self._target = target
        self._flows: set[asyncio.StreamWriter] = set()
        self._refuses = False
        self._drip: float | None = None
        self._loop = asyncio.new_event_loop()
        self._server: Any = None
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="proxy", daemon=True
        )
        self._thread.start()
        started.wait()
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection."""
        self._loop.call_soon_threadsafe(self._cut)

    def refuse(self, on: bool) -> None:
        """Reset each new connection, too, or let them through again."""
        self._refuses = on
        self.cut()

    def drip(self, bytes_a_second: float | None) -> None:
        """Let the service's answers through that slowly; `None`: as fast as they come."""
        self._drip = bytes_a_second

    def close(self) -> None:
        """Stop listening, and reset what is open."""
        self._loop.call_soon_threadsafe(self._server.close)
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._pass_on, "127.0.0.1", 0, backlog=1024)
        )
        started.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            _reset(writer)
            return
        try:
            if isinstance(self._target, Path):
                there, back = await asyncio.open_unix_connection(str(self._target))
            else:
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        # Where the proxy is closed, this is broken off, which is nobody's error.
        with suppress(asyncio.CancelledError):
            await self._both_ways(reader, writer, there, back)

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        mine = {writer, back}
        self._flows |= mine
        try:
            asking = asyncio.create_task(self._flow(reader, back, answers=False))
            await self._flow(there, writer, answers=True)
            asking.cancel()
        finally:
            self._flows -= mine
            for end in mine:
                with suppress(OSError, RuntimeError):
                    end.close()

    async def _flow(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if answers and self._drip is not None:
                    await self._let_drip(data, writer)
                else:
                    writer.write(data)
                    await writer.drain()
            # One side has nothing more to say; the other may.
            if writer.can_write_eof():
                writer.write_eof()

    async def _let_drip(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        for at in range(len(data)):
            rate = self._drip
            if rate is None:
                writer.write(data[at:])
                return
            writer.write(data[at : at + 1])
            await writer.drain()
            await asyncio.sleep(1 / rate)

    def _cut(self) -> None:
        for writer in list(self._flows):
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with no time to linger: the other side sees a reset, not an orderly end."""
    plug = writer.transport.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        if plug.family == socket.AF_INET:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()
