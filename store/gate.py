"""The gate of an account: what orders its claims against its changes.

Claims and completions of one account pass the gate together; an update, a deletion, a key event
or a verdict passes it alone. It is the first statement of such a transaction, so transactions that
touch one account's rows take everything else in the same order and cannot wait for each other in
a circle; and a lock of the database's that queues fairly, so that a stream of claims does not
keep a withdrawal of consent waiting (with `FOR SHARE` on the account's row it did, for up to 60 s).

On SQLite a write transaction is alone anyway.
"""

import hashlib

from sqlalchemy import Connection, text

_SHARE = text("SELECT pg_advisory_xact_lock_shared(:key)")
_ALONE = text("SELECT pg_advisory_xact_lock(:key)")


def share(connection: Connection, account_id: str) -> None:
    """Pass the gate together with others that share it, until the transaction ends."""
    _pass(connection, _account(account_id), alone=False)


def alone(connection: Connection, account_id: str) -> None:
    """Pass the gate alone, until the transaction ends."""
    _pass(connection, _account(account_id), alone=True)


def share_lease(connection: Connection, process_id: str) -> None:
    """Keep a process's lease from being ended, together with its other claims."""
    _pass(connection, _process(process_id), alone=False)


def end_lease(connection: Connection, process_id: str) -> None:
    """Wait for the claims under a process's lease, and keep others from beginning."""
    _pass(connection, _process(process_id), alone=True)


def numbers(account_id: str, process_id: str | None) -> tuple[int, int | None]:
    """What the gates of an account and of a process's lease are called on PostgreSQL."""
    return _number(_account(account_id)), _number(_process(process_id)) if process_id else None


def _account(account_id: str) -> str:
    return f"byok-account:{account_id}"


def _process(process_id: str) -> str:
    return f"byok-process:{process_id}"


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _pass(connection: Connection, name: str, *, alone: bool) -> None:
    if connection.dialect.name != "sqlite":
        connection.execute(_ALONE if alone else _SHARE, {"key": _number(name)})
