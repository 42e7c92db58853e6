"""The books: what is added up, held against the ledger that it was added up from, and put right.

Rollups, spending and per-key counts follow from the ledger's rows. Where retention took months off
it, only what the remaining rows cover whole is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    String,
    and_,
    case,
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
from store.budgets import PLATFORM
from store.ledger import BILLED, MEASURES, PRICED, ROLLUP_KEY, TOKENS
from store.schema import budget_months, daily_usage, ledger, provider_keys
from store.statements import addition, change

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
        change(connection, [addition(connection, table, measures, wrong)])
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


def _sum(value: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(value), 0), BigInteger)


def _rollups(floor: int) -> tuple[Select[Any], Select[Any]]:
    billed = ledger.c.kind.in_(BILLED)
    measured = {
        "operations": case((ledger.c.completes, 1), else_=0),
        "calls": case((billed, 1), else_=0),
        **{name: ledger.c[name] for name in TOKENS},
        "cost_nano_usd": ledger.c.cost_nano_usd,
        "unpriced_calls": case(
            (and_(billed, ~ledger.c.priced), 1), (ledger.c.kind == PRICED, -1), else_=0
        ),
    }
    rebuilt = select(
        *(ledger.c[key] for key in ROLLUP_KEY),
        *(_sum(measured[name]).label(name) for name in MEASURES),
    ).group_by(*(ledger.c[key] for key in ROLLUP_KEY))
    live = select(*(daily_usage.c[name] for name in (*ROLLUP_KEY, *MEASURES)))
    if floor:
        # The first day after a month that went may have begun in it, by the account's calendar.
        first = f"{months.name(months.plus(floor, 1))}-02"
        live = live.where(daily_usage.c.local_date >= first)
        rebuilt = rebuilt.where(ledger.c.local_date >= first)
    return live, rebuilt


def _spending(connection: Connection, floor: int) -> tuple[Select[Any], Select[Any]]:
    local = func.substr(ledger.c.local_date, 1, 7)
    # Undated ids go by their row's time.
    stamp = (
        func.strftime("%Y%m", ledger.c.at / 1000, "unixepoch")
        if connection.dialect.name == "sqlite"
        else func.to_char(
            func.timezone("UTC", func.to_timestamp(cast(ledger.c.at, BigInteger) / 1000)), "YYYYMM"
        )
    )
    stamped = case((ledger.c.month == months.UNDATED, stamp), else_=cast(ledger.c.month, String))
    utc = func.substr(stamped, 1, 4) + "-" + func.substr(stamped, 5, 2)
    parts = union_all(
        _spent(literal("account:") + ledger.c.surrogate, local),
        _spent(literal("key:") + ledger.c.key_id, local).where(ledger.c.key_id.is_not(None)),
        _spent(literal(PLATFORM), utc).where(ledger.c.credential == PLATFORM),
    ).subquery()
    rebuilt = select(
        parts.c.scope, parts.c.month, _sum(parts.c.spent_nano_usd).label("spent_nano_usd")
    ).group_by(parts.c.scope, parts.c.month)
    live = select(budget_months.c.scope, budget_months.c.month, budget_months.c.spent_nano_usd)
    if floor:
        last = months.name(months.plus(floor, 1))
        live = live.where(budget_months.c.month > last)
        rebuilt = rebuilt.where(parts.c.month > last)
    return live, rebuilt


def _spent(scope: ColumnElement[Any], month: ColumnElement[Any]) -> Select[Any]:
    return select(
        scope.label("scope"), month.label("month"), ledger.c.cost_nano_usd.label("spent_nano_usd")
    )


def _counts() -> tuple[Select[Any], Select[Any]]:
    live = select(
        provider_keys.c.key_id,
        (provider_keys.c.requests - provider_keys.c.requests_dropped).label("requests"),
    )
    handled = (
        select(ledger.c.key_id, func.count().label("requests"))
        .join(provider_keys, provider_keys.c.key_id == ledger.c.key_id)
        .where(ledger.c.completes)
        .group_by(ledger.c.key_id)
    )
    return live, handled
