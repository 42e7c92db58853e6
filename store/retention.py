"""Erasing what has been kept long enough, a bounded batch at a time.

Each function erases at most `limit` of what ended before `before` (Unix ms), and says how many. It
reads first, so that a sweep that finds nothing takes no lock. Two at once do no harm.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, delete, func, select

from store.engine import Database
from store.schema import ENDED_PROBE, analyses, attempts, processes, set_aside


def erase_requests(database: Database, before: int, limit: int) -> int:
    """Erase ended requests with their results and attempts; their ids are new ones from here."""
    old = (
        select(analyses.c.account_id, analyses.c.request_id)
        .where(analyses.c.finished_at < before)
        .order_by(analyses.c.finished_at)
        .limit(limit)
    )
    return _erase(database, old, (attempts, analyses))


def erase_probes(database: Database, before: int, limit: int) -> int:
    """Erase billed validations that have ended, those whose answer was lost among them."""
    old = (
        select(attempts.c.account_id, attempts.c.request_id, attempts.c.attempt)
        .where(ENDED_PROBE, attempts.c.ended_at < before)
        .order_by(attempts.c.ended_at)
        .limit(limit)
    )
    return _erase(database, old, (attempts,))


def erase_set_aside(database: Database, before: int, limit: int) -> int:
    """Erase messages that were set aside and neither retried nor dropped."""
    # With its time, so that one that is set aside again meanwhile is another.
    old = (
        select(set_aside.c.id, set_aside.c.at)
        .where(set_aside.c.at < before)
        .order_by(set_aside.c.at)
        .limit(limit)
    )
    return _erase(database, old, (set_aside,))


def erase_processes(database: Database, before: int, limit: int) -> int:
    """Erase the leases of processes that have stopped: one that is not there is one that ended."""
    old = select(processes.c.process_id).where(processes.c.stopped_at < before).limit(limit)
    return _erase(database, old, (processes,))


ERASE: Mapping[str, Callable[[Database, int, int], int]] = {
    "requests": erase_requests,
    "probes": erase_probes,
    "set_aside": erase_set_aside,
    "processes": erase_processes,
}
"""By kind of what is kept for a while: what erases it."""


def oldest(connection: Connection) -> dict[str, int]:
    """By kind: since when (Unix ms) the oldest is over that is still kept; a plain read."""
    ended = {
        "requests": select(func.min(analyses.c.finished_at)).where(
            analyses.c.finished_at.is_not(None)
        ),
        "probes": select(func.min(attempts.c.ended_at)).where(ENDED_PROBE),
        "set_aside": select(func.min(set_aside.c.at)),
        "processes": select(func.min(processes.c.stopped_at)),
    }
    found = {kind: connection.execute(query).scalar_one() for kind, query in ended.items()}
    return {kind: at for kind, at in found.items() if at is not None}


def _erase(database: Database, old: Select[Any], tables: Sequence[Table]) -> int:
    with database.read() as connection:
        keys = [dict(row) for row in connection.execute(old).mappings()]
    if not keys:
        return 0
    with database.write() as connection:
        for table in tables:
            named = (table.c[name] == bindparam(f"old_{name}") for name in keys[0])
            connection.execute(
                delete(table).where(*named),
                [{f"old_{name}": value for name, value in key.items()} for key in keys],
            )
    return len(keys)
