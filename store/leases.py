"""Process leases: who is alive, by one heartbeat row a process.

On PostgreSQL the heartbeat is dated by the server's clock, so that machines whose clocks differ do
not take each other over. On SQLite there is one machine.
"""

from typing import Any

from sqlalchemy import BigInteger, Connection, literal, literal_column, select, update

from store import gate
from store.schema import processes
from store.statements import insert_into

RENEW_SECONDS = 3.0
DEAD_AFTER_SECONDS = 10.0

_SERVER_NOW: Any = literal_column(
    "(extract(epoch from clock_timestamp()) * 1000)::bigint", BigInteger
)


def register(
    connection: Connection, process_id: str, *, role: str, host: str, pid: int, now: int
) -> None:
    """Start a lease."""
    moment = _moment(connection, now)
    connection.execute(
        insert_into(connection, processes).values(
            process_id=process_id,
            role=role,
            host=host,
            pid=pid,
            started_at=moment,
            heartbeat_at=moment,
        )
    )


def renew(connection: Connection, process_id: str, now: int) -> bool:
    """Renew a lease; false where it was already taken over, so that the holder must start anew."""
    return bool(
        connection.execute(
            update(processes)
            .where(processes.c.process_id == process_id, processes.c.stopped_at.is_(None))
            .values(heartbeat_at=_moment(connection, now))
        ).rowcount
    )


def hold(connection: Connection, process_id: str) -> bool:
    """Keep a lease from being ended until the transaction ends; false where it was ended.

    A claim that commits under a lease that was taken over would be found by nobody. The row itself
    is not locked: its renewal would have to wait until no claim is under way.
    """
    gate.share_lease(connection, process_id)
    statement = select(processes.c.process_id).where(
        processes.c.process_id == process_id, processes.c.stopped_at.is_(None)
    )
    return connection.execute(statement).first() is not None


def end(connection: Connection, process_id: str, now: int) -> None:
    """End a lease: its holder stopped."""
    gate.end_lease(connection, process_id)
    connection.execute(
        update(processes)
        .where(processes.c.process_id == process_id, processes.c.stopped_at.is_(None))
        .values(stopped_at=_moment(connection, now))
    )


def end_if_dead(connection: Connection, process_id: str, now: int) -> bool:
    """End a lease that ran out; false where its holder renewed it, or stopped."""
    gate.end_lease(connection, process_id)
    moment = _moment(connection, now)
    return bool(
        connection.execute(
            update(processes)
            .where(
                processes.c.process_id == process_id,
                processes.c.stopped_at.is_(None),
                processes.c.heartbeat_at < moment - int(DEAD_AFTER_SECONDS * 1000),
            )
            .values(stopped_at=moment)
        ).rowcount
    )


def dead(connection: Connection, now: int) -> list[str]:
    """The processes whose lease ran out and was not ended."""
    moment = _moment(connection, now)
    return list(
        connection.execute(
            select(processes.c.process_id).where(
                processes.c.stopped_at.is_(None),
                processes.c.heartbeat_at < moment - int(DEAD_AFTER_SECONDS * 1000),
            )
        ).scalars()
    )


def live_roles(connection: Connection, now: int) -> dict[str, int]:
    """How many processes of each role hold a lease."""
    moment = _moment(connection, now)
    roles: dict[str, int] = {}
    for role in connection.execute(
        select(processes.c.role).where(
            processes.c.stopped_at.is_(None),
            processes.c.heartbeat_at >= moment - int(DEAD_AFTER_SECONDS * 1000),
        )
    ).scalars():
        roles[role] = roles.get(role, 0) + 1
    return roles


def _moment(connection: Connection, now: int) -> Any:
    """The database's time in Unix ms where it has one for all machines, else `now`."""
    return literal(now) if connection.dialect.name == "sqlite" else _SERVER_NOW
