"""What could not be read or done: kept with its reason, visible, out of everybody's way."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select

from store.schema import set_aside
from store.statements import insert_ignore, upsert
from store.vault import SYSTEM_SCOPE, Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A message that was set aside; its bytes are read with `payload`."""

    id: str
    at: int
    queue: str
    reason: str
    sentence: str
    event_id: str | None
    event_type: str | None
    account_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A message as it came, and by which row it was kept when it was read."""

    payload: bytes
    stored: bytes


def put(connection: Connection, vault: Vault, item: SetAside, payload: bytes) -> bool:
    """Keep `payload`, encrypted, under the item's reason; false where the id was kept already.

    Then it is kept anew, with the time and the reason of now: what is written is never the same
    twice, so that whoever read the row before does not take this one for it.
    """
    row = {
        "id": item.id,
        "at": item.at,
        "queue": item.queue,
        "reason": item.reason,
        "sentence": item.sentence,
        "event_id": item.event_id,
        "event_type": item.event_type,
        "account_id": item.account_id,
        "payload": vault.encrypt(
            connection, SYSTEM_SCOPE, f"set-aside:{item.id}", payload, item.at
        ),
    }
    fresh = insert_ignore(connection, set_aside, row)
    if not fresh:
        # An UPDATE would find nothing where the row was removed since.
        upsert(connection, set_aside, row)
    return fresh


def newest(connection: Connection, limit: int = 100) -> list[SetAside]:
    """What was set aside, newest first."""
    rows = connection.execute(_COLUMNS.order_by(set_aside.c.at.desc(), set_aside.c.id).limit(limit))
    return [SetAside(**row._mapping) for row in rows]


def find(connection: Connection, item_id: str) -> SetAside | None:
    """One item, or `None`."""
    row = connection.execute(_COLUMNS.where(set_aside.c.id == item_id)).one_or_none()
    return None if row is None else SetAside(**row._mapping)


def ids(connection: Connection) -> list[str]:
    """The ids of all that is set aside."""
    return list(connection.execute(select(set_aside.c.id)).scalars())


def payload(connection: Connection, vault: Vault, item_id: str) -> bytes:
    """The message as it came. Raises `DoesNotOpen` where it was altered."""
    stored = connection.execute(
        select(set_aside.c.payload).where(set_aside.c.id == item_id)
    ).scalar_one()
    return vault.decrypt(connection, SYSTEM_SCOPE, f"set-aside:{item_id}", stored)


def copy(connection: Connection, vault: Vault, item_id: str) -> Copy | None:
    """The message, to be sent again; `None` where it is kept no more.

    Raises `DoesNotOpen` where it was altered.
    """
    stored = connection.execute(
        select(set_aside.c.payload).where(set_aside.c.id == item_id)
    ).scalar_one_or_none()
    if stored is None:
        return None
    opened = vault.decrypt(connection, SYSTEM_SCOPE, f"set-aside:{item_id}", stored)
    return Copy(payload=opened, stored=stored)


def remove_copied(connection: Connection, item_id: str, copied: Copy) -> bool:
    """Delete an item that was sent again, unless it was set aside again since it was read."""
    row = delete(set_aside).where(set_aside.c.id == item_id, set_aside.c.payload == copied.stored)
    return bool(connection.execute(row).rowcount)


def remove(connection: Connection, item_id: str) -> bool:
    """Delete one item; whether it was there."""
    return bool(connection.execute(delete(set_aside).where(set_aside.c.id == item_id)).rowcount)


def counts(connection: Connection) -> dict[tuple[str, str], int]:
    """How many are set aside, by (queue, reason)."""
    rows = connection.execute(
        select(set_aside.c.queue, set_aside.c.reason, func.count()).group_by(
            set_aside.c.queue, set_aside.c.reason
        )
    )
    return {(queue, reason): count for queue, reason, count in rows}


_COLUMNS = select(*(column for column in set_aside.c if column.name != "payload"))
