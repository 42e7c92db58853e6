"""Budgets: caps on what a key, an account or the platform spends in a calendar month.

As with credits, what a call may cost is reserved in the claim, by an update whose condition is the
cap: two claims cannot both take the last cent. The reservation becomes what was billed when the
answer comes, and what is on the ledger when its row arrives there, each in the transaction of that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Dialect,
    FromClause,
    Select,
    String,
    TableClause,
    and_,
    case,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    union_all,
    update,
)

from store import months
from store.schema import (
    IS_REACHED,
    accounts,
    budget_holds,
    budget_months,
    key_settings,
    provider_keys,
    surrogates,
)
from store.statements import addition, insert_ignore, insert_many, sql_of, total

PLATFORM = "platform"
"""The scope of the platform as a whole: what its own keys pay, for whom it may be."""


def key_scope(key_id: str) -> str:
    """What is spent on one key."""
    return f"key:{key_id}"


def account_scope(surrogate: str) -> str:
    """What is spent for one account, whosever key pays; by the account's name in the ledger."""
    return f"account:{surrogate}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A cap on a scope in a month (YYYY-MM), in nano-dollars."""

    scope: str
    month: str
    cap_nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a scope has spent in a month, in nano-dollars, and what is reserved for calls."""

    spent: int
    billed: int
    reserved: int

    @property
    def used(self) -> int:
        """What was billed, whether its ledger row has arrived or not."""
        return self.spent + self.billed


def reserve(
    connection: Connection,
    budget_list: Sequence[Budget],
    *,
    account_id: str,
    request_id: str,
    attempt: int,
    nano_usd: int,
) -> Budget | None:
    """Reserve what an attempt may cost of every budget; the first that has not as much left.

    Where one has not, the others are left as they were.
    """
    taken: list[Budget] = []
    # In the order of their keys, as the aggregator takes them.
    for budget in sorted(budget_list, key=lambda one: (one.scope, one.month)):
        if not _take(connection, budget, nano_usd):
            for other in taken:
                _move(connection, other.scope, other.month, reserved=-nano_usd)
            return budget
        taken.append(budget)
    insert_many(
        connection,
        budget_holds,
        [
            {
                "account_id": account_id,
                "request_id": request_id,
                "attempt": attempt,
                "scope": budget.scope,
                "month": budget.month,
                "nano_usd": nano_usd,
                "cap_nano_usd": budget.cap_nano_usd,
                "row_id": None,
            }
            for budget in taken
        ],
    )
    return None


def _take(connection: Connection, budget: Budget, nano_usd: int) -> bool:
    if _add(connection, budget, nano_usd):
        return True
    # The first of the month makes the row.
    insert_ignore(connection, budget_months, {"scope": budget.scope, "month": budget.month})
    return _add(connection, budget, nano_usd)


def _add(connection: Connection, budget: Budget, nano_usd: int) -> bool:
    held = (
        budget_months.c.spent_nano_usd
        + budget_months.c.billed_nano_usd
        + budget_months.c.reserved_nano_usd
    )
    return bool(
        connection.execute(
            update(budget_months)
            .where(
                budget_months.c.scope == budget.scope,
                budget_months.c.month == budget.month,
                # The condition is in the statement, so that two claims cannot both see the last
                # cent. A cap that is used up lets nothing through, what costs nothing neither.
                held + nano_usd <= budget.cap_nano_usd,
                held < budget.cap_nano_usd,
            )
            .values(reserved_nano_usd=budget_months.c.reserved_nano_usd + nano_usd)
        ).rowcount
    )


def settle(
    connection: Connection,
    account_id: str,
    request_id: str,
    attempt: int,
    *,
    billed: tuple[str, int] | None,
) -> list[Budget]:
    """End the reservation of an attempt; the budgets that it was of.

    `billed` is the ledger row that is on its way and its cost: that much stays held until the row
    arrives. Without it the attempt cost nothing and nothing stays held.
    """
    one = (
        budget_holds.c.account_id == account_id,
        budget_holds.c.request_id == request_id,
        budget_holds.c.attempt == attempt,
        budget_holds.c.row_id.is_(None),
    )
    holds = connection.execute(
        select(budget_holds).where(*one).order_by(budget_holds.c.scope, budget_holds.c.month)
    ).all()
    row_id, cost = billed or (None, 0)
    for hold in holds:
        _move(connection, hold.scope, hold.month, reserved=-hold.nano_usd, billed=cost)
    if holds and row_id is not None:
        connection.execute(update(budget_holds).where(*one).values(row_id=row_id, nano_usd=cost))
    elif holds:
        connection.execute(delete(budget_holds).where(*one))
    return [
        Budget(scope=hold.scope, month=hold.month, cap_nano_usd=hold.cap_nano_usd) for hold in holds
    ]


def release(connection: Connection, account_id: str, request_id: str) -> None:
    """Give back what a request that has ended still holds for attempts that were never billed."""
    one = (
        budget_holds.c.account_id == account_id,
        budget_holds.c.request_id == request_id,
        budget_holds.c.row_id.is_(None),
    )
    holds = connection.execute(
        select(budget_holds).where(*one).order_by(budget_holds.c.scope, budget_holds.c.month)
    ).all()
    for hold in holds:
        _move(connection, hold.scope, hold.month, reserved=-hold.nano_usd)
    if holds:
        connection.execute(delete(budget_holds).where(*one))


def note_reached(
    connection: Connection, budget: Budget, now: int, *, from_nano_usd: int
) -> Standing | None:
    """Note that a budget is reached, once in a month; what was spent, where this is the time.

    It is where at least `from_nano_usd` is used.
    """
    row = connection.execute(
        update(budget_months)
        .where(
            budget_months.c.scope == budget.scope,
            budget_months.c.month == budget.month,
            budget_months.c.reached_at.is_(None),
            budget_months.c.spent_nano_usd + budget_months.c.billed_nano_usd >= from_nano_usd,
        )
        .values(reached_at=now)
        .returning(*_STANDING)
    ).one_or_none()
    return None if row is None else Standing(spent=row[0], billed=row[1], reserved=row[2])


def note_refused(connection: Connection, budget: Budget) -> None:
    """Note that a budget held a request back at its cap."""
    refused = budget_months.c.refused_cap_nano_usd
    connection.execute(
        update(budget_months)
        .where(
            budget_months.c.scope == budget.scope,
            budget_months.c.month == budget.month,
            # So that only the first of many writes.
            or_(refused.is_(None), refused < budget.cap_nano_usd),
        )
        .values(refused_cap_nano_usd=budget.cap_nano_usd)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A budget that was told to be reached in a month, its cap as it is now, and the one at which
    it held a request back.

    `timezone` is that of the account by whose calendar the month is; `None` of the platform's.
    """

    scope: str
    month: str
    used_nano_usd: int
    cap_nano_usd: int | None
    refused_cap_nano_usd: int | None
    timezone: str | None


def reached(connection: Connection, months_named: Sequence[str]) -> list[Reached]:
    """The budgets that are reached in one of the months; the platform's without its cap."""
    scope, of_key = budget_months.c.scope, accounts.alias("of_key")
    rows = connection.execute(
        select(
            scope,
            budget_months.c.month,
            (budget_months.c.spent_nano_usd + budget_months.c.billed_nano_usd).label("used"),
            budget_months.c.refused_cap_nano_usd,
            func.coalesce(key_settings.c.budget_nano_usd, accounts.c.budget_nano_usd).label("cap"),
            func.coalesce(of_key.c.timezone, accounts.c.timezone).label("timezone"),
        )
        .select_from(
            # By what stands behind the scope's colon, so that the keys of the tables serve.
            budget_months.outerjoin(
                provider_keys,
                and_(
                    scope.startswith("key:"),
                    provider_keys.c.key_id == func.substr(scope, len("key:") + 1),
                    provider_keys.c.removed_at.is_(None),
                ),
            )
            .outerjoin(
                key_settings,
                and_(
                    key_settings.c.account_id == provider_keys.c.account_id,
                    key_settings.c.key_id == provider_keys.c.key_id,
                ),
            )
            .outerjoin(of_key, of_key.c.account_id == provider_keys.c.account_id)
            .outerjoin(
                surrogates,
                and_(
                    scope.startswith("account:"),
                    surrogates.c.surrogate == func.substr(scope, len("account:") + 1),
                ),
            )
            .outerjoin(accounts, accounts.c.account_id == surrogates.c.account_id)
        )
        .where(IS_REACHED, budget_months.c.month.in_(months_named))
    )
    return [
        Reached(
            scope=row.scope,
            month=row.month,
            used_nano_usd=row.used,
            cap_nano_usd=row.cap,
            refused_cap_nano_usd=row.refused_cap_nano_usd,
            timezone=row.timezone,
        )
        for row in rows
    ]


def standing(connection: Connection, scope: str, month: str) -> Standing:
    """How a scope stands in a month."""
    row = connection.execute(
        select(*_STANDING).where(budget_months.c.scope == scope, budget_months.c.month == month)
    ).one_or_none()
    return (
        Standing(spent=row[0], billed=row[1], reserved=row[2])
        if row
        else Standing(spent=0, billed=0, reserved=0)
    )


_STANDING = (
    budget_months.c.spent_nano_usd,
    budget_months.c.billed_nano_usd,
    budget_months.c.reserved_nano_usd,
)


def _move(
    connection: Connection, scope: str, month: str, *, reserved: int, billed: int = 0
) -> None:
    connection.execute(
        update(budget_months)
        .where(budget_months.c.scope == scope, budget_months.c.month == month)
        .values(
            reserved_nano_usd=budget_months.c.reserved_nano_usd + reserved,
            billed_nano_usd=budget_months.c.billed_nano_usd + billed,
        )
    )


def spending(dialect: Dialect, rows: FromClause) -> Select[Any]:
    """What rows of the ledger's columns that cost something add up to, by scope and month.

    A key's and an account's month is by the account's calendar, the platform's by UTC.
    """
    local = func.substr(rows.c.local_date, 1, 7)
    # Undated ids go by their row's time.
    stamp = (
        func.strftime("%Y%m", rows.c.at / 1000, "unixepoch")
        if dialect.name == "sqlite"
        else func.to_char(
            func.timezone("UTC", func.to_timestamp(cast(rows.c.at, BigInteger) / 1000)), "YYYYMM"
        )
    )
    stamped = case((rows.c.month == months.UNDATED, stamp), else_=cast(rows.c.month, String))
    utc = func.substr(stamped, 1, 4) + "-" + func.substr(stamped, 5, 2)

    def spent(scope: ColumnElement[Any], month: ColumnElement[Any]) -> Select[Any]:
        cost = rows.c.cost_nano_usd.label("spent_nano_usd")
        return select(scope.label("scope"), month.label("month"), cost).where(cost != 0)

    parts = union_all(
        spent(literal("account:") + rows.c.surrogate, local),
        spent(literal("key:") + rows.c.key_id, local).where(rows.c.key_id.is_not(None)),
        spent(literal(PLATFORM), utc).where(rows.c.credential == PLATFORM),
    ).subquery()
    return select(
        parts.c.scope, parts.c.month, total(parts.c.spent_nano_usd).label("spent_nano_usd")
    ).group_by(parts.c.scope, parts.c.month)


def arriving(dialect: Dialect, rows: TableClause) -> dict[str, str]:
    """SQL that adds new rows to what is spent and ends their holds, by the table it changes."""
    ended = f"FROM budget_holds WHERE row_id IN (SELECT id FROM {rows.name})"  # noqa: S608 -- our own names
    coming = sql_of(dialect, spending(dialect, rows))
    moved = (
        "SELECT scope, month, CAST(sum(spent) AS bigint) AS spent_nano_usd, "  # noqa: S608 -- our own names
        "CAST(sum(billed) AS bigint) AS billed_nano_usd FROM "
        f"(SELECT scope, month, spent_nano_usd AS spent, 0 AS billed FROM ({coming}) AS c "
        f"UNION ALL SELECT scope, month, 0, -nano_usd {ended}) AS m GROUP BY scope, month"
    )
    return {
        # In one statement both see what there was before; in several the last is done first.
        budget_holds.name: f"DELETE {ended}",
        budget_months.name: addition(budget_months, ("spent_nano_usd", "billed_nano_usd"), moved),
    }
