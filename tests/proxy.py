"""A TCP proxy that a test can have fall silent: connections stay, and nothing comes through."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Passes on what comes, until it is silent."""

    def __init__(self, target: tuple[str, int] | str) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        self._heard = threading.Event()
        self._heard.set()
        self._ended = False

    def silence(self) -> None:
        """Pass nothing on: each kernel goes on acknowledging what it is sent."""
        self._heard.clear()

    def speak(self) -> None:
        """Pass on again, also what has come meanwhile."""
        self._heard.set()

    def run(self) -> None:
        """Accept until the proxy is closed."""
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = self._connected()
            self._open += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def close(self) -> None:
        """End everything."""
        self._ended = True
        self._heard.set()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _connected(self) -> socket.socket:
        if not isinstance(self._target, str):
            return socket.create_connection(self._target)
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(self._target)
        return connected

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._heard.wait()
                if self._ended:
                    return
                sink.sendall(data)
            self._heard.wait()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


@contextmanager
def proxy_to(target: tuple[str, int] | str) -> Iterator[Proxy]:
    """A proxy before a TCP address or a unix socket's path."""
    proxy = Proxy(target)
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(10)
