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
    _pass(connection, f"byok-account:{account_id}", alone=False)


def alone(connection: Connection, account_id: str) -> None:
    """Pass the gate alone, until the transaction ends."""
    _pass(connection, f"byok-account:{account_id}", alone=True)


def share_lease(connection: Connection, process_id: str) -> None:
    """Keep a process's lease from being ended, together with its other claims."""
    _pass(connection, f"byok-process:{process_id}", alone=False)


def end_lease(connection: Connection, process_id: str) -> None:
    """Wait for the claims under a process's lease, and keep others from beginning."""
    _pass(connection, f"byok-process:{process_id}", alone=True)


def _pass(connection: Connection, name: str, *, alone: bool) -> None:
    if connection.dialect.name != "sqlite":
        digest = hashlib.sha256(name.encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        connection.execute(_ALONE if alone else _SHARE, {"key": key})
