"""Connections to PostgreSQL that give up on a server which does not answer.

A server that was stopped, or a network that drops what is sent, closes no connection: without a
limit a thread waits for hours, until the kernel gives up.
"""

from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg import capabilities
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import event
from sqlalchemy.engine import Engine

T = TypeVar("T")

LIMITS = {
    # Seconds until a server that cannot be reached counts as away, for each of its addresses.
    "connect_timeout": 5,
    # Milliseconds for which what was sent may stay without the other kernel's acknowledgement.
    "tcp_user_timeout": 10_000,
    # Seconds: an idle connection is asked after 10, then every 3; it is dead after the third.
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}
"""What libpq is told where the URL says nothing else. All of them below the 45 s after which a
loop counts as stuck; `tcp_user_timeout` is Linux's alone."""

CANCEL_SECONDS = 2.0


def limit_waiting(engine: Engine, answer_seconds: float | None) -> None:
    """Have an engine's connections give up as `LIMITS` says.

    With `answer_seconds` a statement without an answer for so long ends its connection, too: TCP
    sees nothing of a server that is stopped, or of a proxy whose other side is gone, since
    something acknowledges every byte. The error is psycopg's `OperationalError`.
    """

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        made = _Connection.connect(*arguments, **{**LIMITS, **options})
        made.answer_seconds = answer_seconds
        return made


class _Connection(psycopg.Connection[Any]):
    answer_seconds: float | None = None

    def wait(self, gen: PQGen[T], *arguments: Any, **options: Any) -> T:
        options.setdefault("timeout", self.answer_seconds)
        try:
            return super().wait(gen, *arguments, **options)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self._give_up()
            raise

    def _give_up(self) -> None:
        """End the connection, and the statement where somebody still runs it."""
        if capabilities.has_cancel_safe():
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_SECONDS)
        self.pgconn.finish()
