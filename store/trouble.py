"""What is wrong with a database that fails, in words for whoever runs it.

The servers' own messages name users, hosts and statements; what is told is one of these sentences.
"""

import sqlite3

from sqlalchemy.exc import DBAPIError

Trouble = tuple[str, str]
"""What is wrong, and what to do about it."""

_CHECK = "check BYOK_DATABASE_URL"

_SQLITE: dict[int, Trouble] = {
    sqlite3.SQLITE_CANTOPEN: (
        "the file cannot be opened",
        f"{_CHECK} and its directory",
    ),
    sqlite3.SQLITE_NOTADB: ("the file is no SQLite database", _CHECK),
    sqlite3.SQLITE_CORRUPT: ("the file is damaged", "restore a backup (docs/backup.md)"),
    sqlite3.SQLITE_FULL: ("its disk is full", "make room on that disk"),
    sqlite3.SQLITE_READONLY: ("the file cannot be written", "check who owns it, and its disk"),
    sqlite3.SQLITE_IOERR: ("its disk cannot be read or written", "check that disk"),
    sqlite3.SQLITE_BUSY: ("another process holds it", "try again"),
}

_NO_RIGHT = "42501"
"""PostgreSQL's `insufficient_privilege`."""

_POSTGRESQL: dict[str, Trouble] = {
    "password": ("it refuses the login", "check user and password in BYOK_DATABASE_URL"),
    "pg_hba.conf": ("it refuses the login", "check BYOK_DATABASE_URL and the server's pg_hba.conf"),
    'role "': ("it refuses the login", "check the user in BYOK_DATABASE_URL"),
    'database "': ("the server has no database of that name", f"create it, or {_CHECK}"),
    "refused": ("nothing listens there", f"{_CHECK} and that the server runs"),
    "resolve": ("there is no host of that name", _CHECK),
    "translate host name": ("there is no host of that name", _CHECK),
    "timeout": ("it does not answer", f"{_CHECK} and the network"),
    "connection slots": ("it has no connection left", "raise its max_connections"),
    "too many": ("it has no connection left", "raise its max_connections"),
}
"""By what stands in libpq's message: a connection that fails has no code."""


def trouble(error: BaseException) -> Trouble | None:
    """What is wrong with the database, where `error` says so."""
    if not isinstance(error, DBAPIError):
        return None
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return _SQLITE.get(code & 0xFF)
    if getattr(error.orig, "sqlstate", None) == _NO_RIGHT:
        return (
            "its user has no right to do this",
            "name the role for this process in BYOK_DATABASE_URL (docs/deployment.md)",
        )
    if getattr(error.orig, "sqlstate", None) is None:
        message = str(error.orig)
        return next((told for part, told in _POSTGRESQL.items() if part in message), None)
    return None
