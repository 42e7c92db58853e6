"""Connections: SQLite or PostgreSQL behind the same two doors, `read` and `write`."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from store.masterkeys import MasterKeyUnavailable
from store.postgresql import limit_waiting

SQLITE_BUSY_SECONDS = 30

_following: "WeakKeyDictionary[Connection, list[Callable[[], None]]]" = WeakKeyDictionary()

IDLE_SECONDS = 5.0
"""A connection to PostgreSQL that was not used for so long is asked whether it still stands."""

_USED = "byok_used"

READ_ONLY = "25006"
"""PostgreSQL's `read_only_sql_transaction`."""


class Database:
    """One database, shared by the threads of a process.

    On SQLite each write transaction begins with `BEGIN IMMEDIATE`: a deferred one that reads
    before it writes fails at once with "database is locked", whatever the timeout. The threads
    of one process queue for a lock of ours first, because SQLite's own waiting is a poll with
    growing pauses that starves some threads for seconds.
    """

    def __init__(
        self, url: str, *, pool_size: int = 16, answer_seconds: float | None = None
    ) -> None:
        """With `answer_seconds` a PostgreSQL without an answer to a statement for so long is away.

        Not for what may rightly take longer: migrations, and reports over everything.
        """
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = (
            _sqlite_engine(url, pool_size)
            if self.is_sqlite
            else _postgresql_engine(url, pool_size, answer_seconds)
        )
        self._writing: Any = threading.Lock() if self.is_sqlite else nullcontext()
        self._brief = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writes = (
            self.engine.execution_options(byok_write=True) if self.is_sqlite else self.engine
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """For statements that only read and need not see one moment: on PostgreSQL one round trip
        each, where `read` begins and ends a transaction around them.
        """
        with (self.engine if self.is_sqlite else self._brief).connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A transaction that only reads, and sees one moment however many statements it takes."""
        with self.engine.connect() as connection:
            if not self.is_sqlite:
                # On SQLite every reading transaction is one.
                connection = connection.execution_options(isolation_level="REPEATABLE READ")  # noqa: PLW2901 -- the same one
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed when the block ends and rolled back when it raises."""
        with self._writing, self._writes.begin() as connection:
            yield connection
            follow = _following.pop(connection, [])
        for act in follow:
            act()

    @contextmanager
    def brief(self) -> Iterator[Connection]:
        """For statements that are each a transaction of their own: on PostgreSQL one round trip.

        On SQLite, where a round trip costs nothing, it is one write transaction.
        """
        if self.is_sqlite:
            with self.write() as connection:
                yield connection
        else:
            with self._brief.connect() as connection:
                yield connection

    def scrub(self) -> None:
        """Let nothing linger that was destroyed: on SQLite, empty the write-ahead log.

        Until it is overwritten it holds what the pages held before. Where readers keep it from
        being emptied now, the next one that is scrubbed or closed does it.
        """
        if self.is_sqlite:
            plain = self.engine.raw_connection()
            try:
                plain.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                plain.close()

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()


def after_commit(connection: Connection, act: Callable[[], None]) -> None:
    """Have `act` done once the write transaction of `connection` is committed, and only then.

    For what counts what was done: a transaction that fails is run again, and would count twice.
    """
    _following.setdefault(connection, []).append(act)


def is_unavailable(error: BaseException) -> bool:
    """Whether the database, or what holds its master keys, is away or busy: waiting helps."""
    if isinstance(error, PoolTimeout | InterfaceError | MasterKeyUnavailable):
        return True
    if isinstance(error, OperationalError):
        # On SQLite a statement that cannot work is one too (no such table, no such column).
        code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_BUSY)
        return code & 0xFF != sqlite3.SQLITE_ERROR
    if not isinstance(error, DBAPIError):
        return False
    # A PostgreSQL that is read-only has been demoted: its successor takes over.
    return error.connection_invalidated or getattr(error.orig, "sqlstate", "") == READ_ONLY


def _postgresql_engine(url: str, pool_size: int, answer_seconds: float | None) -> Engine:
    engine = create_engine(url, pool_size=pool_size, max_overflow=0, hide_parameters=True)

    @event.listens_for(engine, "checkin")
    def _note_use(_dbapi_connection: Any, record: Any) -> None:
        record.info[_USED] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ask_idle(dbapi_connection: Any, record: Any, _proxy: Any) -> None:
        # One that was used just now is not asked: where it breaks, the work is tried again anyway.
        # The pool's own `pool_pre_ping` asks each time: one more round trip.
        if time.monotonic() - record.info.get(_USED, float("-inf")) > IDLE_SECONDS:
            try:
                engine.dialect.do_ping(dbapi_connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError from error

    limit_waiting(engine, answer_seconds)

    @event.listens_for(engine, "handle_error")
    def _drop_demoted(context: Any) -> None:
        # Otherwise the pool would go on handing out connections to the demoted server.
        if getattr(context.original_exception, "sqlstate", "") == READ_ONLY:
            context.is_disconnect = True

    return engine


def _sqlite_engine(url: str, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": SQLITE_BUSY_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def _configure(dbapi_connection: Any, _record: Any) -> None:
        # The driver's own BEGIN is deferred; transactions are begun below instead.
        dbapi_connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            # A commit survives a power cut; `NORMAL` would lose the last ones.
            "synchronous=FULL",
            "foreign_keys=ON",
            # What is deleted is overwritten with zeros: a removed key leaves no ciphertext.
            "secure_delete=ON",
        ):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("byok_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
