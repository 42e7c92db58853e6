"""Connections to Redis that are not asked whether they still stand when they have just answered."""

import time
from functools import cache
from typing import Any

from redis.connection import AbstractConnection

TRUSTED_SECONDS = 1.0
"""So long after its last answer a connection counts as good. One that breaks in that time fails a
command, as it does where it breaks a moment later."""


@cache
def trusting(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """A kind of connection like `kind`, for a pool of redis-py.

    The pool looks at each connection that it hands out for data or an end: three system calls, as
    many as the command itself then takes. In a process with many threads each of them is also a
    moment at which another may take the interpreter's lock: a tenth of an analysis's time.
    """

    class Trusting(kind):  # type: ignore[misc,valid-type]  # a class that is only known here
        _answered_at = float("-inf")

        def send_packed_command(self, *arguments: Any, **options: Any) -> None:
            # Until all of its answers are read there is something to be found.
            self._answered_at = float("-inf")
            super().send_packed_command(*arguments, **options)

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            # What goes wrong in here ends the connection: redis-py sees to that.
            response = super().read_response(*arguments, **options)
            self._answered_at = time.monotonic()
            return response

        def can_read(self, timeout: float = 0) -> bool:
            if time.monotonic() - self._answered_at < TRUSTED_SECONDS:
                return False
            return bool(super().can_read(timeout))

    return Trusting
