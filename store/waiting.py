"""Key events that came ahead of their account: they wait here, sealed as they are."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from store.schema import waiting_events
from store.statements import insert_ignore

WAIT_SECONDS = 60
RESEND_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingEvent:
    """An event and until when (Unix ms) it waits for its account."""

    event_id: str
    account_id: str
    queue: str
    envelope: str
    until_at: int


def put(connection: Connection, event: WaitingEvent) -> None:
    """Let an event wait; a repeat does not prolong the wait."""
    insert_ignore(
        connection,
        waiting_events,
        {
            "event_id": event.event_id,
            "account_id": event.account_id,
            "queue": event.queue,
            "envelope": event.envelope,
            "until_at": event.until_at,
            "due_at": event.until_at,
        },
    )


def wake(connection: Connection, account_id: str, now: int) -> None:
    """The account is known now: its events are due."""
    connection.execute(
        update(waiting_events).where(waiting_events.c.account_id == account_id).values(due_at=now)
    )


def prolong(connection: Connection, now: int) -> None:
    """Let all that wait have the whole time from `now` (Unix ms) on: their queue stood still."""
    until = now + WAIT_SECONDS * 1000
    connection.execute(update(waiting_events).values(until_at=until, due_at=until))


def any_due(connection: Connection, now: int) -> bool:
    """Whether `take_due` would find anything; a plain read."""
    found = connection.execute(
        select(waiting_events.c.due_at).where(waiting_events.c.due_at <= now).limit(1)
    )
    return found.first() is not None


def take_due(connection: Connection, now: int, limit: int) -> list[WaitingEvent]:
    """Events to be sent again, put off so that they come again if nothing takes them."""
    rows = connection.execute(
        select(waiting_events)
        .where(waiting_events.c.due_at <= now)
        .order_by(waiting_events.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if rows:
        connection.execute(
            update(waiting_events)
            .where(waiting_events.c.event_id.in_([row.event_id for row in rows]))
            .values(due_at=now + RESEND_SECONDS * 1000)
        )
    return [
        WaitingEvent(
            event_id=row.event_id,
            account_id=row.account_id,
            queue=row.queue,
            envelope=row.envelope,
            until_at=row.until_at,
        )
        for row in rows
    ]


def until(connection: Connection, event_id: str) -> int | None:
    """Until when an event waits, or `None` where it does not."""
    found: int | None = connection.execute(
        select(waiting_events.c.until_at).where(waiting_events.c.event_id == event_id)
    ).scalar_one_or_none()
    return found


def count(connection: Connection) -> int:
    """How many events wait."""
    return connection.execute(select(func.count()).select_from(waiting_events)).scalar_one()


def envelopes(connection: Connection) -> Iterator[str]:
    """All events that wait, as they were sent."""
    yield from connection.execute(select(waiting_events.c.envelope)).scalars()


def remove(connection: Connection, event_id: str, envelope: str | None = None) -> None:
    """An event was taken, or given up.

    With `envelope` only where it was sent as that: anybody can write an id on a message.
    """
    statement = delete(waiting_events).where(waiting_events.c.event_id == event_id)
    if envelope is not None:
        statement = statement.where(waiting_events.c.envelope == envelope)
    connection.execute(statement)
