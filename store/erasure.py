"""Erasing an account: what is personal goes, the ledger's sums stay under a dead surrogate.

A deletion may come late, when the account lives again already. Then what is of the life before
goes, and what is of the life after stays.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update
from sqlalchemy import true as everything

from store import accounts
from store.schema import (
    analyses,
    data_keys,
    deletions,
    key_settings,
    ledger,
    provider_keys,
    set_aside,
    surrogates,
)
from store.statements import insert_ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Destroyed:
    """What a deletion destroyed: the ids of keys, and of everything else how many.

    `data_keys` counts wrapped data keys, those of `keys` among them. `personal_data` has the parts
    of the account's own state, `ledger_rows_kept` what stays under a surrogate that leads nowhere.
    """

    keys: list[str]
    data_keys: int
    key_settings: int
    requests_ended: int
    inputs: int
    results: int
    texts: int
    set_aside: int
    personal_data: dict[str, int] = field(default_factory=dict)
    ledger_rows_kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One deletion, for whoever asks what was destroyed. `at` is Unix ms."""

    revision: int
    event_id: str
    source: str
    at: int
    destroyed: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What `erase_requests` and `erase_rest` erased."""

    inputs: int = 0
    results: int = 0
    texts: int = 0
    key_settings: int = 0
    set_aside: int = 0
    ledger_rows_kept: int = 0

    def __add__(self, other: Self) -> "Erased":
        mine, others = asdict(self), asdict(other)
        return Erased(**{name: count + others[name] for name, count in mine.items()})


def erase_requests(connection: Connection, account_id: str, life: int | None) -> Erased:
    """Erase inputs and results of requests that have ended.

    With `life` only of those that were accepted under that revision of the account or before.
    """
    of_life = [analyses.c.account_id == account_id, in_life(life)]
    parts = {
        "inputs": analyses.c.input.is_not(None),
        "results": analyses.c.result.is_not(None),
        "texts": analyses.c.result_text.is_not(None),
    }
    counts = {
        name: connection.execute(
            select(func.count()).select_from(analyses).where(*of_life, there)
        ).scalar_one()
        for name, there in parts.items()
    }
    connection.execute(
        update(analyses)
        .where(*of_life, or_(*parts.values(), analyses.c.reuse_digest.is_not(None)))
        .values(input=None, result=None, result_text=None, reuse_digest=None)
    )
    return Erased(**counts)


def erase_rest(connection: Connection, account_id: str, revision: int) -> Erased:
    """Erase what is stored of an account beside its keys, its row, its requests and its data key.

    A key event of the account's next life may have come before the deletion of `revision`: what
    it set stays. The surrogate goes, so that nothing leads to the account's rows of the ledger.
    """
    surrogate = accounts.find_surrogate(connection, account_id)
    kept = connection.execute(
        select(func.count()).select_from(ledger).where(ledger.c.surrogate == surrogate)
    ).scalar_one()
    settings = connection.execute(
        delete(key_settings).where(
            key_settings.c.account_id == account_id, key_settings.c.revision <= revision
        )
    )
    messages = connection.execute(delete(set_aside).where(set_aside.c.account_id == account_id))
    connection.execute(delete(surrogates).where(surrogates.c.account_id == account_id))
    return Erased(
        key_settings=settings.rowcount, set_aside=messages.rowcount, ledger_rows_kept=kept
    )


def in_life(life: int | None) -> ColumnElement[bool]:
    """Which requests were accepted under the revision `life` of their account, or before it."""
    return everything() if life is None else analyses.c.account_revision <= life


def note(connection: Connection, account_id: str, evidence: Evidence) -> None:
    """Keep what a deletion destroyed. A repeat of it changes nothing."""
    insert_ignore(connection, deletions, {"account_id": account_id} | asdict(evidence))


def find(connection: Connection, account_id: str, revision: int) -> Evidence | None:
    """What the deletion of `revision` destroyed, or `None` where it has not come yet."""
    row = connection.execute(
        select(*(c for c in deletions.c if c.name != "account_id")).where(
            deletions.c.account_id == account_id, deletions.c.revision == revision
        )
    ).one_or_none()
    return None if row is None else Evidence(**row._mapping)


def left(connection: Connection, account_id: str) -> dict[str, int]:
    """What there is of an account to be destroyed: all zero after a deletion."""
    secret = or_(provider_keys.c.ciphertext.is_not(None), provider_keys.c.wrapped_key.is_not(None))
    content = or_(
        analyses.c.input.is_not(None),
        analyses.c.result.is_not(None),
        analyses.c.result_text.is_not(None),
    )
    looks = {
        "keys": (provider_keys, provider_keys.c.account_id, secret),
        "requests": (analyses, analyses.c.account_id, content),
        "data_keys": (data_keys, data_keys.c.scope, everything()),
        "set_aside": (set_aside, set_aside.c.account_id, everything()),
        "surrogates": (surrogates, surrogates.c.account_id, everything()),
    }
    return {
        name: connection.execute(
            select(func.count()).select_from(table).where(owner == account_id, there)
        ).scalar_one()
        for name, (table, owner, there) in looks.items()
    }
