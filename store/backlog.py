"""What waits in the store, counted: for gauges. All plain reads."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, FromClause, Table, func, select

from store.analyses import RUNNING, WAITING
from store.outbox import USAGE
from store.schema import analyses, attempts, outbox, provider_keys, waiting_events

LATE_SECONDS = 300
"""A validation that has been due for longer is late: the scheduler sends it within seconds, or
the pace of its provider or an outage holds it back."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many wait, and since when (Unix ms) the first of them does."""

    count: int
    since: int


def due_requests(connection: Connection, now: int) -> Backlog | None:
    """The analyses that are due and were not sent to the workers yet; `None` where none is."""
    return _backlog(connection, analyses, analyses.c.due_at, analyses.c.due_at <= now)


def due_validations(connection: Connection, now: int) -> Backlog | None:
    """The keys whose validation is due and was not sent to the workers yet."""
    at = provider_keys.c.validate_at
    return _backlog(connection, provider_keys, at, at <= now)


def due_usage(connection: Connection) -> Backlog | None:
    """The usage rows that are not on the ledger yet."""
    return _backlog(connection, outbox, outbox.c.created_at, outbox.c.kind == USAGE)


def due_events(connection: Connection, now: int) -> dict[str, Backlog]:
    """By queue: the events that waited for their account and are due again."""
    rows = connection.execute(
        select(waiting_events.c.queue, func.count(), func.min(waiting_events.c.due_at))
        .where(waiting_events.c.due_at <= now)
        .group_by(waiting_events.c.queue)
    )
    return {queue: Backlog(count, since) for queue, count, since in rows}


def validations(connection: Connection, now: int) -> dict[str, tuple[int, int]]:
    """By provider: how many keys' validation is due, and of how many it is late."""
    at = provider_keys.c.validate_at
    late = func.count().filter(at <= now - LATE_SECONDS * 1000)
    rows = connection.execute(
        select(provider_keys.c.provider, func.count(), late)
        .where(at <= now)
        .group_by(provider_keys.c.provider)
    )
    return {provider: (due, late) for provider, due, late in rows}


def waiting_analyses(connection: Connection) -> dict[str, Backlog]:
    """By reason: the analyses that wait, and when the first of them was accepted."""
    rows = connection.execute(
        select(analyses.c.reason, func.count(), func.min(analyses.c.created_at))
        .where(analyses.c.state == WAITING)
        .group_by(analyses.c.reason)
    )
    return {reason: Backlog(count, since) for reason, count, since in rows}


def running_analyses(connection: Connection) -> dict[tuple[str, str], int]:
    """By (provider, credential): the analyses with an attempt under way."""
    rows = connection.execute(
        select(analyses.c.provider, analyses.c.credential, func.count())
        .where(analyses.c.state == RUNNING)
        .group_by(analyses.c.provider, analyses.c.credential)
    )
    return {(provider, credential): count for provider, credential, count in rows}


def unknown_attempts(connection: Connection) -> int:
    """How many attempts ended without anybody knowing whether they were answered."""
    return connection.execute(
        select(func.count()).select_from(attempts).where(attempts.c.state == "unknown")
    ).scalar_one()


def _backlog(
    connection: Connection, of: Table, since: ColumnElement[int], where: ColumnElement[bool]
) -> Backlog | None:
    source: FromClause = of
    count, first = connection.execute(
        select(func.count(), func.min(since)).select_from(source).where(where)
    ).one()
    return Backlog(count, first) if count else None
