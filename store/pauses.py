"""What operators have paused: a provider, an account or a queue; and the log of what they did.

A row stays for a while after it was resumed: what waited comes back bit by bit, and a worker that
heard of it late may have put one more to wait.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    func,
    insert,
    select,
    tuple_,
    update,
)

from store.schema import IS_PAUSED, analyses, operator_log, pauses
from store.statements import insert_ignore

PROVIDER = "provider"
ACCOUNT = "account"
QUEUE = "queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """One thing that is paused, or that was (`resumed_at`). Times are Unix ms."""

    kind: str
    name: str
    at: int
    source: str
    note: str
    resumed_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that an operator did."""

    at: int
    source: str
    action: str
    kind: str
    name: str
    note: str


@dataclass(frozen=True, slots=True)
class Paused:
    """What is paused at one moment, by name; `resumed_at` (Unix ms) of providers that were."""

    providers: Collection[str] = frozenset()
    accounts: Collection[str] = frozenset()
    queues: Collection[str] = frozenset()
    resumed_at: Mapping[str, int] = field(default_factory=dict)


def reason_for(kind: str, name: str) -> str:
    """Why a request waits that a pause of this holds back: from a small closed set."""
    return f"paused_{name if kind == PROVIDER else kind}"


def pause(connection: Connection, made: Pause, action_id: str) -> bool:
    """Pause something and log who did it; false where it was paused already."""
    values = {
        "at": made.at,
        "source": made.source,
        "note": made.note,
        "resumed_at": None,
    }
    fresh = insert_ignore(connection, pauses, {"kind": made.kind, "name": made.name, **values})
    changed = fresh or bool(
        connection.execute(
            update(pauses).where(_is(made), pauses.c.resumed_at.is_not(None)).values(**values)
        ).rowcount
    )
    if changed:
        _log(connection, "pause", made, action_id)
    return changed


def resume(connection: Connection, made: Pause, action_id: str) -> bool:
    """Resume something at `made.at` and log who did it; false where it is not paused."""
    changed = bool(
        connection.execute(
            update(pauses)
            .where(_is(made), pauses.c.resumed_at.is_(None))
            .values(resumed_at=made.at)
        ).rowcount
    )
    if changed:
        _log(connection, "resume", made, action_id)
    return changed


def standing(connection: Connection) -> list[Pause]:
    """All pauses, and those that were resumed and not forgotten yet; the oldest first."""
    rows = connection.execute(select(pauses).order_by(pauses.c.at, pauses.c.kind, pauses.c.name))
    return [Pause(**row._mapping) for row in rows]


def paused(standing: Sequence[Pause]) -> Paused:
    """What is paused, by kind."""

    def names(kind: str) -> frozenset[str]:
        return frozenset(p.name for p in standing if p.kind == kind and p.resumed_at is None)

    return Paused(
        providers=names(PROVIDER),
        accounts=names(ACCOUNT),
        queues=names(QUEUE),
        resumed_at={
            p.name: p.resumed_at
            for p in standing
            if p.kind == PROVIDER and p.resumed_at is not None
        },
    )


def is_paused(connection: Connection, kind: str, name: str) -> bool:
    """Whether something is paused now."""
    found = connection.execute(
        select(pauses.c.name).where(
            pauses.c.kind == kind, pauses.c.name == name, pauses.c.resumed_at.is_(None)
        )
    )
    return found.first() is not None


def log(connection: Connection, limit: int) -> list[Action]:
    """What operators did, the newest first."""
    rows = connection.execute(
        select(*(operator_log.c[name] for name in Action.__slots__))
        .order_by(operator_log.c.at.desc(), operator_log.c.id.desc())
        .limit(limit)
    )
    return [Action(**row._mapping) for row in rows]


def held_back(connection: Connection) -> dict[tuple[str, str], int]:
    """How many requests wait for pauses to end, by (kind, name)."""
    of_account = reason_for(ACCOUNT, "")
    by_provider = (
        select(analyses.c.reason, func.count())
        .where(IS_PAUSED, analyses.c.reason != of_account)
        .group_by(analyses.c.reason)
    )
    by_account = (
        select(analyses.c.account_id, func.count())
        .where(IS_PAUSED, analyses.c.reason == of_account)
        .group_by(analyses.c.account_id)
    )
    return {
        (PROVIDER, reason.removeprefix("paused_")): count
        for reason, count in connection.execute(by_provider)
    } | {(ACCOUNT, account_id): count for account_id, count in connection.execute(by_account)}


def any_held_back(connection: Connection, by: Pause) -> bool:
    """Whether a request waits for the pause to end; a plain read."""
    found = connection.execute(select(analyses.c.request_id).where(_waits_for(by)).limit(1))
    return found.first() is not None


def bring_back(connection: Connection, by: Pause, now: int, limit: int) -> int:
    """Make at most `limit` requests due that wait for a pause to end; how many."""
    chosen = [
        (account_id, request_id)
        for account_id, request_id in connection.execute(
            select(analyses.c.account_id, analyses.c.request_id)
            .where(_waits_for(by))
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
    ]
    if chosen:
        connection.execute(
            update(analyses)
            .where(tuple_(analyses.c.account_id, analyses.c.request_id).in_(chosen))
            .values(due_at=now, reason="")
        )
    return len(chosen)


def forget(connection: Connection, ended: Pause) -> None:
    """Delete a pause that is over, unless it was paused again meanwhile."""
    connection.execute(delete(pauses).where(_is(ended), pauses.c.resumed_at == ended.resumed_at))


def _is(made: Pause) -> ColumnElement[bool]:
    return and_(pauses.c.kind == made.kind, pauses.c.name == made.name)


def _waits_for(by: Pause) -> Any:
    # A paused queue holds messages back, not requests.
    waits = and_(IS_PAUSED, analyses.c.reason == reason_for(by.kind, by.name))
    return and_(waits, analyses.c.account_id == by.name) if by.kind == ACCOUNT else waits


def _log(connection: Connection, action: str, made: Pause, action_id: str) -> None:
    connection.execute(
        insert(operator_log).values(
            id=action_id,
            at=made.at,
            source=made.source,
            action=action,
            kind=made.kind,
            name=made.name,
            note=made.note,
        )
    )
