"""Process leases: who is alive, by one heartbeat row a process."""

from sqlalchemy import Connection, select, update

from store.schema import processes
from store.statements import insert_into

RENEW_SECONDS = 3.0
DEAD_AFTER_SECONDS = 10.0


def register(
    connection: Connection, process_id: str, *, role: str, host: str, pid: int, now: int
) -> None:
    """Start a lease."""
    connection.execute(
        insert_into(connection, processes).values(
            process_id=process_id, role=role, host=host, pid=pid, started_at=now, heartbeat_at=now
        )
    )


def renew(connection: Connection, process_id: str, now: int) -> bool:
    """Renew a lease; false where it was already taken over, so that the holder must start anew."""
    return bool(
        connection.execute(
            update(processes)
            .where(processes.c.process_id == process_id, processes.c.stopped_at.is_(None))
            .values(heartbeat_at=now)
        ).rowcount
    )


def end(connection: Connection, process_id: str, now: int) -> None:
    """End a lease: its holder stopped, or it was found dead."""
    connection.execute(
        update(processes)
        .where(processes.c.process_id == process_id, processes.c.stopped_at.is_(None))
        .values(stopped_at=now)
    )


def dead(connection: Connection, now: int) -> list[str]:
    """The processes whose lease ran out and was not ended."""
    return list(
        connection.execute(
            select(processes.c.process_id).where(
                processes.c.stopped_at.is_(None),
                processes.c.heartbeat_at < now - int(DEAD_AFTER_SECONDS * 1000),
            )
        ).scalars()
    )


def live_roles(connection: Connection, now: int, since: int = 0) -> dict[str, int]:
    """How many processes of each role hold a lease that was taken at or after `since`."""
    roles: dict[str, int] = {}
    for role in connection.execute(
        select(processes.c.role).where(
            processes.c.stopped_at.is_(None),
            processes.c.heartbeat_at >= now - int(DEAD_AFTER_SECONDS * 1000),
            processes.c.started_at >= since,
        )
    ).scalars():
        roles[role] = roles.get(role, 0) + 1
    return roles
