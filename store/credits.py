"""AI credits: reserved at the claim, settled or released when the request ends.

One credit is one completed platform operation. A request holds at most one reserved credit,
whatever attempts it takes; it is settled in the period that reserved it.
"""

from sqlalchemy import Connection, select, update

from store.accounts import Account
from store.schema import credit_periods
from store.statements import insert_ignore


def any_left(connection: Connection, account: Account) -> bool:
    """Whether the account's current period has a credit left, as things stand; a plain read."""
    if account.credits_limit is None:
        return True
    used, reserved = standing(connection, account)
    return used + reserved < account.credits_limit


def reserve(connection: Connection, account: Account) -> bool:
    """Reserve one credit of the account's current period; false where none is left.

    All of an account's claims and completions write this one row, so it is written last before
    the commit.
    """
    if _reserve(connection, account):
        return True
    # There was none left, or it is the period's first: then another may be first just now.
    key = {"account_id": account.account_id, "period_start_at": account.period_start_at}
    insert_ignore(connection, credit_periods, key)
    return _reserve(connection, account)


def _reserve(connection: Connection, account: Account) -> bool:
    statement = (
        update(credit_periods)
        .where(
            credit_periods.c.account_id == account.account_id,
            credit_periods.c.period_start_at == account.period_start_at,
        )
        .values(reserved=credit_periods.c.reserved + 1)
    )
    if account.credits_limit is not None:
        # The condition is in the statement, so that two claims cannot both see the last credit.
        taken = credit_periods.c.used + credit_periods.c.reserved
        statement = statement.where(taken < account.credits_limit)
    return bool(connection.execute(statement).rowcount)


def settle(connection: Connection, account_id: str, period_start_at: int, *, spent: bool) -> None:
    """End a reservation: the credit is spent, or it is given back."""
    connection.execute(
        update(credit_periods)
        .where(
            credit_periods.c.account_id == account_id,
            credit_periods.c.period_start_at == period_start_at,
        )
        .values(
            reserved=credit_periods.c.reserved - 1,
            used=credit_periods.c.used + (1 if spent else 0),
        )
    )


def note_exhausted(connection: Connection, account: Account, now: int) -> bool:
    """Note that the period's allowance is used up; true the first time in the period."""
    key = {"account_id": account.account_id, "period_start_at": account.period_start_at}
    insert_ignore(connection, credit_periods, key)
    statement = update(credit_periods).where(
        credit_periods.c.account_id == account.account_id,
        credit_periods.c.period_start_at == account.period_start_at,
        credit_periods.c.exhausted_at.is_(None),
    )
    return bool(connection.execute(statement.values(exhausted_at=now)).rowcount)


def standing(connection: Connection, account: Account) -> tuple[int, int]:
    """Credits (used, reserved) in the account's current period."""
    row = connection.execute(
        select(credit_periods.c.used, credit_periods.c.reserved).where(
            credit_periods.c.account_id == account.account_id,
            credit_periods.c.period_start_at == account.period_start_at,
        )
    ).one_or_none()
    return (row.used, row.reserved) if row else (0, 0)
