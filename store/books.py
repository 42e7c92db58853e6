"""The books: what is added up, held against the ledger that it was added up from, and put right.

Rollups, spending and per-key counts follow from the ledger's rows. Where retention took months off
it, only what the remaining rows cover whole is compared.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    and_,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    union_all,
)

from store import months, partitions
from store.budgets import spending
from store.ledger import MEASURES, ROLLUP_KEY, handled, rollups
from store.schema import budget_months, daily_usage, ledger, provider_keys
from store.statements import addition, json_rows

ROLLUPS = "rollups"
SPENDING = "spending"
KEY_COUNTS = "key_counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One row of what is added up that is not what the ledger says.

    `live` is what stands there, `rebuilt` what the ledger adds up to, by measure and only where
    they differ; money is in nano-dollars.
    """

    what: str
    key: Mapping[str, str]
    live: Mapping[str, int]
    rebuilt: Mapping[str, int]


def differences(connection: Connection) -> list[Difference]:
    """All of them, as of the transaction's one moment (`Database.snapshot`)."""
    floor = partitions.floor(connection)
    return [
        *_between(connection, ROLLUPS, ROLLUP_KEY, MEASURES, _rollups(floor)),
        *_between(
            connection,
            SPENDING,
            ("scope", "month"),
            ("spent_nano_usd",),
            _spending(connection, floor),
        ),
        *_between(connection, KEY_COUNTS, ("key_id",), ("requests",), _counts()),
    ]


def rebuild(connection: Connection) -> list[Difference]:
    """Put right what is added up; what was wrong. Aggregators wait until the transaction ends."""
    if connection.dialect.name != "sqlite":
        # An aggregator changes the rollups of every row that it puts on the ledger: whoever has
        # done that has committed now, and nobody else's rows are visible here.
        connection.execute(text("LOCK TABLE daily_usage IN EXCLUSIVE MODE"))
    found = differences(connection)
    for what, table, measures in (
        (ROLLUPS, daily_usage, MEASURES),
        (SPENDING, budget_months, ("spent_nano_usd",)),
    ):
        wrong = [_missing(d, measures) for d in found if d.what == what]
        names = [*(column.name for column in table.primary_key), *measures]
        rows = json_rows(connection.dialect, [table.c[name] for name in names])
        source = f"SELECT {', '.join(names)} FROM {rows}"  # noqa: S608 -- our own names
        connection.execute(text(addition(table, measures, source)), {"rows": json.dumps(wrong)})
    for difference in found:
        if difference.what == KEY_COUNTS:
            connection.execute(
                provider_keys.update()
                .where(provider_keys.c.key_id == difference.key["key_id"])
                .values(requests=difference.rebuilt["requests"])
            )
    if found:
        nothing = and_(*(daily_usage.c[name] == 0 for name in MEASURES))
        connection.execute(delete(daily_usage).where(nothing))
    return found


def _missing(difference: Difference, measures: Sequence[str]) -> dict[str, Any]:
    return {
        **difference.key,
        **{
            name: difference.rebuilt.get(name, 0) - difference.live.get(name, 0)
            for name in measures
        },
    }


def _between(
    connection: Connection,
    what: str,
    keys: Sequence[str],
    measures: Sequence[str],
    sides: tuple[Select[Any], Select[Any]],
) -> list[Difference]:
    """What differs between two sides, (live, rebuilt), each with the keys and the measures."""
    live, rebuilt = (side.subquery() for side in sides)
    zero = literal(0, BigInteger)
    both = union_all(
        select(
            *(live.c[key] for key in keys),
            *(live.c[name].label(f"live_{name}") for name in measures),
            *(zero.label(f"rebuilt_{name}") for name in measures),
        ),
        select(
            *(rebuilt.c[key] for key in keys),
            *(zero.label(f"live_{name}") for name in measures),
            *(rebuilt.c[name].label(f"rebuilt_{name}") for name in measures),
        ),
    ).subquery()
    sums = {
        f"{side}_{name}": cast(func.sum(both.c[f"{side}_{name}"]), BigInteger)
        for side in ("live", "rebuilt")
        for name in measures
    }
    rows = connection.execute(
        select(*(both.c[key] for key in keys), *(s.label(name) for name, s in sums.items()))
        .group_by(*(both.c[key] for key in keys))
        .having(or_(*(sums[f"live_{name}"] != sums[f"rebuilt_{name}"] for name in measures)))
        .order_by(*(both.c[key] for key in keys))
    )
    found = []
    for row in rows.mappings():
        differing = [n for n in measures if row[f"live_{n}"] != row[f"rebuilt_{n}"]]
        found.append(
            Difference(
                what=what,
                key={key: row[key] for key in keys},
                live={name: row[f"live_{name}"] for name in differing},
                rebuilt={name: row[f"rebuilt_{name}"] for name in differing},
            )
        )
    return found


def _rollups(floor: int) -> tuple[Select[Any], Select[Any]]:
    rebuilt = rollups(ledger)
    live = select(*(daily_usage.c[name] for name in (*ROLLUP_KEY, *MEASURES)))
    if floor:
        # The first day after a month that went may have begun in it, by the account's calendar.
        first = f"{months.name(months.plus(floor, 1))}-02"
        live = live.where(daily_usage.c.local_date >= first)
        rebuilt = rebuilt.where(ledger.c.local_date >= first)
    return live, rebuilt


def _spending(connection: Connection, floor: int) -> tuple[Select[Any], Select[Any]]:
    rebuilt = spending(connection.dialect, ledger)
    live = select(budget_months.c.scope, budget_months.c.month, budget_months.c.spent_nano_usd)
    if floor:
        last = months.name(months.plus(floor, 1))
        live = live.where(budget_months.c.month > last)
        every = rebuilt.subquery()
        rebuilt = select(every).where(every.c.month > last)
    return live, rebuilt


def _counts() -> tuple[Select[Any], Select[Any]]:
    live = select(
        provider_keys.c.key_id,
        (provider_keys.c.requests - provider_keys.c.requests_dropped).label("requests"),
    )
    counted = handled(ledger).subquery()
    known = select(counted).join(provider_keys, provider_keys.c.key_id == counted.c.key_id)
    return live, known
