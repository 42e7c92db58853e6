"""The outbox: what must follow a commit, written inside it.

`usage` rows are packed into messages for the aggregator, which clears them in the transaction
that writes the ledger. `event` rows go to the out-event stream and are cleared by the relay.
`rewrite` rows ask for the queue's file to be rewritten, because it held a readable key.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Dialect, func, select, text, update

from store.schema import outbox
from store.statements import insert_many, json_strings

USAGE = "usage"
EVENT = "event"
REWRITE = "rewrite"

RESEND_BASE_SECONDS = 5
RESEND_MAX_SECONDS = 300


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One thing to send: its id and its JSON."""

    id: str
    payload: str


def add(
    connection: Connection,
    kind: str,
    rows: Iterable[OutboxRow],
    now: int,
    *,
    due_at: int | None = None,
) -> None:
    """Put rows into the outbox, due at once or at `due_at` (Unix ms)."""
    insert_many(
        connection,
        outbox,
        [
            {
                "id": row.id,
                "kind": kind,
                "payload": row.payload,
                "created_at": now,
                "due_at": now if due_at is None else due_at,
            }
            for row in rows
        ],
    )


def any_due(connection: Connection, kind: str, now: int) -> bool:
    """Whether `take_due` would find anything; a plain read."""
    found = connection.execute(
        select(outbox.c.id).where(outbox.c.kind == kind, outbox.c.due_at <= now).limit(1)
    )
    return found.first() is not None


def take_due(connection: Connection, kind: str, now: int, limit: int) -> list[OutboxRow]:
    """Rows that are due, oldest first, put off so that they come again if unconfirmed.

    The pause grows with each send: 5 s, 10 s, … 5 min.
    """
    due = connection.execute(
        select(outbox.c.id, outbox.c.payload, outbox.c.sends)
        .where(outbox.c.kind == kind, outbox.c.due_at <= now)
        .order_by(outbox.c.due_at, outbox.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    by_pause: dict[int, list[str]] = {}
    for row in due:
        pause = min(RESEND_BASE_SECONDS * 2**row.sends, RESEND_MAX_SECONDS)
        by_pause.setdefault(pause, []).append(row.id)
    for pause, ids in by_pause.items():
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_(ids))
            .values(due_at=now + pause * 1000, sends=outbox.c.sends + 1)
        )
    return [OutboxRow(row.id, row.payload) for row in due]


def clear(connection: Connection, ids: Sequence[str]) -> None:
    """Delete rows that have arrived."""
    connection.execute(text(clearing(connection.dialect)), {"ids": json.dumps(list(ids))})


def clearing(dialect: Dialect) -> str:
    """SQL that deletes rows that have arrived, whose ids are its parameter `ids` in JSON."""
    return f"DELETE FROM outbox WHERE id IN {json_strings(dialect)}"  # noqa: S608 -- our own names


def backlog(connection: Connection) -> dict[str, tuple[int, int]]:
    """By kind: how many rows wait, and when the oldest was written (Unix ms)."""
    rows = connection.execute(
        select(outbox.c.kind, func.count(), func.min(outbox.c.created_at)).group_by(outbox.c.kind)
    )
    return {kind: (count, oldest) for kind, count, oldest in rows}
