"""Rotating master keys: every data key is wrapped anew under the current one, while workers read.

What is left to do is what the rows themselves say (`master_key_id` is not the current one), so a
rotation that was killed goes on where it stopped when it is started again. Each page is read,
wrapped with no transaction open (a KMS is a network's call away), and written in a small one that
replaces a wrapped key only where it still is the one that was read: a key that was removed or
replaced meanwhile is left as it is. A reader that took the old bytes opens them all the same,
because it holds both master keys.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Table, bindparam, func, select, update

from store.engine import Database
from store.masterkeys import DoesNotOpen, MasterKeyMissing, MasterKeys
from store.schema import data_keys, provider_keys
from store.vault import Vault, key_aad, scope_aad

PAGE = 200
"""Rows of one transaction: some 5 ms of writing, which is what a worker waits for at most."""

_LOOKED_AT = 3

THREADS = 16
"""Data keys that are wrapped at once, so that a KMS that takes 10 ms a call does 800 a second."""


ROUNDS = 20
"""A bound, should workers with the old order of master keys write faster than this follows."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A table that holds wrapped data keys."""

    table: Table
    name: "Column[str]"
    columns: Sequence["Column[Any]"]
    aad: Callable[[Any], bytes]


_PLACES = (
    _Place(
        data_keys,
        data_keys.c.scope,
        (data_keys.c.scope,),
        lambda row: scope_aad(row.scope),
    ),
    _Place(
        provider_keys,
        provider_keys.c.key_id,
        (provider_keys.c.key_id, provider_keys.c.account_id, provider_keys.c.provider),
        lambda row: key_aad(row.account_id, row.provider, row.key_id),
    ),
)


@dataclass(frozen=True, slots=True)
class Rotation:
    """What became of a rotation.

    `unreadable` data keys do not open under the master key that they name; `left` is how many are
    not under the current master key, those among them.
    """

    rewrapped: int
    unreadable: int
    left: int


@dataclass(frozen=True, slots=True)
class _Rewrapped:
    name: str
    old_id: str
    old: bytes
    new_id: str
    new: bytes


def opens(connection: Connection, master_keys: MasterKeys, master_key_id: str) -> bool:
    """Whether one of a few data keys that name a master key opens with it, or there is none.

    A single one may have been altered. Raises what `MasterKeys.unwrap` raises beside `DoesNotOpen`.
    """
    looked = 0
    for place in _PLACES:
        table = place.table
        rows = connection.execute(
            select(*place.columns, table.c.wrapped_key)
            .where(table.c.master_key_id == master_key_id)
            .limit(_LOOKED_AT)
        )
        for row in rows:
            looked += 1
            try:
                master_keys.unwrap(master_key_id, row.wrapped_key, place.aad(row))
            except DoesNotOpen:
                continue
            return True
    return looked == 0


def left(connection: Connection, current_id: str) -> int:
    """How many data keys are not under the master key `current_id`."""
    return sum(
        connection.execute(
            select(func.count())
            .select_from(place.table)
            .where(place.table.c.master_key_id != current_id)
        ).scalar_one()
        for place in _PLACES
    )


def rotate(
    database: Database,
    vault: Vault,
    current_id: str,
    progress: Callable[[int], None],
    *,
    page: int = PAGE,
    threads: int = THREADS,
) -> Rotation:
    """Wrap every data key under the master key `current_id`, which is the vault's current one.

    `progress` is called with the number of data keys that were looked at, page by page. Goes over
    them until a round finds nothing more to do, so that what was written meanwhile by a worker
    that still has the old order of master keys is taken along.

    Raises `MasterKeyUnavailable` and the database's errors; what was done until then stays done.
    """
    total = unreadable = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="rekey") as pool:
        for _ in range(ROUNDS):
            rewrapped = unreadable = 0
            for place in _PLACES:
                for rows in _pages(database, place, current_id, page):
                    done, failed = _turn(database, vault, place, rows, pool)
                    rewrapped += done
                    unreadable += failed
                    progress(len(rows))
            total += rewrapped
            if not rewrapped:
                break
    with database.read() as connection:
        return Rotation(total, unreadable, left(connection, current_id))


def _pages(
    database: Database, place: _Place, current_id: str, page: int
) -> Iterator[Sequence[Any]]:
    """The rows that are behind, by keyset: what is added or done meanwhile shifts no page."""
    after = ""
    while True:
        with database.read() as connection:
            rows = connection.execute(
                select(*place.columns, place.table.c.master_key_id, place.table.c.wrapped_key)
                .where(place.name > after, place.table.c.master_key_id != current_id)
                .order_by(place.name)
                .limit(page)
            ).all()
        if not rows:
            return
        yield rows
        after = rows[-1][0]


def _turn(
    database: Database, vault: Vault, place: _Place, rows: Sequence[Any], pool: Executor
) -> tuple[int, int]:
    """Rewrap one page; how many were, and how many do not open."""
    found = list(pool.map(lambda row: _rewrap(vault, place, row), rows))
    opened = [each for each in found if each is not None]
    with database.write() as connection:
        done = _replace(connection, place, opened)
    return done, len(found) - len(opened)


def _rewrap(vault: Vault, place: _Place, row: Any) -> _Rewrapped | None:
    if row.wrapped_key is None:
        return None
    try:
        new_id, new = vault.rewrap(row.master_key_id, row.wrapped_key, place.aad(row))
    except (DoesNotOpen, MasterKeyMissing):
        return None
    return _Rewrapped(row[0], row.master_key_id, row.wrapped_key, new_id, new)


def _replace(connection: Connection, place: _Place, rows: Iterable[_Rewrapped]) -> int:
    """Replace the wrapped keys that are still those that were read; how many were replaced."""
    by_name = {row.name: row for row in rows}
    # Rows that another transaction holds are left to the next round: this one waits for nobody, so
    # nobody waits for it in a circle.
    free = connection.execute(
        select(place.name).where(place.name.in_(by_name)).with_for_update(skip_locked=True)
    ).scalars()
    parameters = [
        {
            "row_name": row.name,
            "old_id": row.old_id,
            "old": row.old,
            "new_id": row.new_id,
            "new": row.new,
        }
        for row in (by_name[name] for name in free)
    ]
    if not parameters:
        return 0
    replaced = connection.execute(
        update(place.table)
        .where(
            place.name == bindparam("row_name"),
            place.table.c.master_key_id == bindparam("old_id"),
            place.table.c.wrapped_key == bindparam("old"),
        )
        .values(master_key_id=bindparam("new_id"), wrapped_key=bindparam("new")),
        parameters,
    )
    return replaced.rowcount
