"""Which keys are to be validated: those that are due, and having all of them be."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select, update

from store.engine import Database
from store.keys import RESEND_SECONDS
from store.schema import provider_keys

PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DueKey:
    """What there is to know of a key that is due. Times are Unix ms."""

    key_id: str
    status: str
    reason: str
    validate_at: int
    tested_at: int | None
    last_ok_at: int | None
    suspect_at: int | None


def any_due(connection: Connection, provider: str, now: int) -> bool:
    """Whether `take_due` would find anything; a plain read."""
    found = connection.execute(
        select(provider_keys.c.key_id)
        .where(provider_keys.c.validate_at <= now, provider_keys.c.provider == provider)
        .limit(1)
    )
    return found.first() is not None


def count_due(connection: Connection, provider: str, now: int) -> int:
    """How many of a provider's keys are due."""
    return connection.execute(
        select(func.count())
        .select_from(provider_keys)
        .where(provider_keys.c.validate_at <= now, provider_keys.c.provider == provider)
    ).scalar_one()


def take_due(connection: Connection, provider: str, now: int, limit: int) -> list[DueKey]:
    """A provider's keys that are due, held until the transaction ends.

    Those that requests wait for come first, however many others have been due for longer: a key in
    doubt, then a new one.
    """
    rows = connection.execute(
        select(*(provider_keys.c[name] for name in DueKey.__slots__))
        .where(provider_keys.c.validate_at <= now, provider_keys.c.provider == provider)
        .order_by(
            provider_keys.c.suspect_at.is_(None),
            provider_keys.c.status != "pending",
            provider_keys.c.validate_at,
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [DueKey(**row._mapping) for row in rows]


def put_off(connection: Connection, until: Mapping[str, int]) -> None:
    """Let keys that were taken be due at another time (Unix ms)."""
    if until:
        connection.execute(
            update(provider_keys)
            .where(provider_keys.c.key_id == bindparam("of_key"))
            .values(validate_at=bindparam("at")),
            [{"of_key": key_id, "at": at} for key_id, at in until.items()],
        )


def note_sent(connection: Connection, key_ids: Sequence[str], now: int) -> None:
    """Keys that were taken are on their way; if nothing is heard, they are due again."""
    if key_ids:
        connection.execute(
            update(provider_keys)
            .where(provider_keys.c.key_id.in_(key_ids))
            .values(validate_at=now + RESEND_SECONDS * 1000)
        )


def ask_for_all(database: Database, provider: str, now: int, per_second: float) -> Iterator[int]:
    """Have every key of a provider validated, `per_second` of them from `now` on.

    Yields how many were marked, page by page, each in a transaction of its own. They are due one
    after the other rather than at once, so that nothing else that is due stands in a line behind
    them. One that is due sooner anyway stays as it is.
    """
    marked = 0
    for key_ids in _pages(database, provider):
        moments = {
            key_id: now + int((marked + place) * 1000 / per_second)
            for place, key_id in enumerate(key_ids)
        }
        with database.write() as connection:
            _ask_sooner(connection, moments.items())
        marked += len(key_ids)
        yield len(key_ids)


def _pages(database: Database, provider: str) -> Iterator[Sequence[str]]:
    after = ""
    while True:
        with database.read() as connection:
            key_ids = (
                connection.execute(
                    select(provider_keys.c.key_id)
                    .where(
                        provider_keys.c.key_id > after,
                        provider_keys.c.provider == provider,
                        provider_keys.c.ciphertext.is_not(None),
                    )
                    .order_by(provider_keys.c.key_id)
                    .limit(PAGE)
                )
                .scalars()
                .all()
            )
        if not key_ids:
            return
        yield key_ids
        after = key_ids[-1]


def _ask_sooner(connection: Connection, moments: Iterable[tuple[str, int]]) -> None:
    connection.execute(
        update(provider_keys)
        .where(
            provider_keys.c.key_id == bindparam("of_key"),
            provider_keys.c.ciphertext.is_not(None),
            provider_keys.c.validate_at > bindparam("at"),
        )
        .values(validate_at=bindparam("at")),
        [{"of_key": key_id, "at": at} for key_id, at in moments],
    )
