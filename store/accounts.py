"""Accounts: plan, consent, credits and categories, as the highest revision says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, select, update

from events.accounts import AccountUpdated
from store.schema import accounts, surrogates
from store.statements import insert_ignore, upsert_newer

NANO = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account as it was read in the current transaction."""

    account_id: str
    revision: int
    plan: str
    plan_status: str
    ai_consent: bool
    credits_limit: int | None
    period_start_at: int
    period_end_at: int
    timezone: str
    budget_nano_usd: int | None = None
    custom_categories: tuple[Mapping[str, Any], ...] = ()
    category_overrides: tuple[Mapping[str, Any], ...] = ()

    def local_date(self, now: int) -> str:
        """The account's calendar date at `now` (Unix ms), as YYYY-MM-DD."""
        return local_date(self.timezone, now)


def local_date(timezone: str, now: int) -> str:
    """The calendar date in `timezone` at `now` (Unix ms), as YYYY-MM-DD."""
    return (
        datetime.fromtimestamp(now / 1000, tz=UTC).astimezone(ZoneInfo(timezone)).date().isoformat()
    )


def apply_update(
    connection: Connection, account_id: str, event_id: str, data: AccountUpdated, now: int
) -> bool:
    """Take over the account's state where (revision, event id) is higher; whether it was.

    A deleted account is not brought back by a lower revision, since the deletion's own revision
    stays on its row.
    """
    state = data.model_dump(mode="json")
    return upsert_newer(
        connection,
        accounts,
        {
            "account_id": account_id,
            "revision": data.revision,
            "event_id": event_id,
            "deleted": False,
            "plan": data.plan,
            "plan_status": data.plan_status.value,
            "ai_consent": data.ai_consent,
            "credits_limit": data.credits,
            "period_start_at": _millis(data.credit_period.start),
            "period_end_at": _millis(data.credit_period.end),
            "timezone": data.timezone,
            "custom_categories": state["custom_categories"],
            "category_overrides": state["category_overrides"],
            "budget_nano_usd": None if data.budget_usd is None else int(data.budget_usd * NANO),
            "updated_at": now,
        },
    )


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion found. `first`: it was not known; `newest`: nothing that came is newer."""

    first: bool
    newest: bool


def apply_deletion(
    connection: Connection, account_id: str, event_id: str, revision: int, now: int
) -> Deletion:
    """Empty the account's row where (revision, event id) is higher.

    What is of `revision` or before is void from here on, also where the row itself is newer.
    """
    newest = upsert_newer(
        connection,
        accounts,
        {
            "account_id": account_id,
            "revision": revision,
            "event_id": event_id,
            "deleted": True,
            "plan": "",
            "plan_status": "",
            "ai_consent": False,
            "credits_limit": 0,
            "period_start_at": 0,
            "period_end_at": 0,
            "timezone": "UTC",
            "custom_categories": [],
            "category_overrides": [],
            "budget_nano_usd": None,
            "updated_at": now,
        },
    )
    raised = connection.execute(
        update(accounts)
        .where(accounts.c.account_id == account_id, accounts.c.deleted_revision < revision)
        .values(deleted_revision=revision)
    )
    return Deletion(first=raised.rowcount > 0, newest=newest)


def admits(connection: Connection, account_id: str, revision: int) -> bool | None:
    """Whether a key event of `revision` counts: `False` where the account was deleted since.

    `None` where it is ahead of its account, which is not known (or not known again) yet.
    """
    row = connection.execute(
        select(accounts.c.deleted, accounts.c.deleted_revision).where(
            accounts.c.account_id == account_id
        )
    ).one_or_none()
    if row is not None and revision <= row.deleted_revision:
        return False
    return None if row is None or row.deleted else True


def find(connection: Connection, account_id: str) -> Account | None:
    """The account, or `None` where it is unknown or deleted.

    Where something is decided on it, the account's gate (`store.gate`) is passed before.
    """
    row = connection.execute(
        select(accounts).where(accounts.c.account_id == account_id, ~accounts.c.deleted)
    ).one_or_none()
    return None if row is None else of_row(row)


def highest_revision(connection: Connection, account_id: str) -> int:
    """The highest revision seen on the account's own row; 0 where there is none."""
    row = connection.execute(
        select(accounts.c.revision).where(accounts.c.account_id == account_id)
    ).one_or_none()
    return row.revision if row else 0


def surrogate_of(connection: Connection, account_id: str, new_id: Callable[[], str]) -> str:
    """The name under which the ledger knows the account; made on first use.

    Deleting the mapping row is what makes the ledger anonymous.
    """
    found = find_surrogate(connection, account_id)
    if found is None:
        insert_ignore(connection, surrogates, {"account_id": account_id, "surrogate": new_id()})
        found = find_surrogate(connection, account_id)
    if found is None:
        raise LookupError(f"The surrogate of an account vanished: {account_id}")
    return found


def find_surrogate(connection: Connection, account_id: str) -> str | None:
    """The account's name in the ledger, or `None` where it never used anything."""
    found: str | None = connection.execute(
        select(surrogates.c.surrogate).where(surrogates.c.account_id == account_id)
    ).scalar_one_or_none()
    return found


def of_row(row: Row[Any]) -> Account:
    """The account that a row with all columns of `accounts` tells of."""
    return Account(
        account_id=row.account_id,
        revision=row.revision,
        plan=row.plan,
        plan_status=row.plan_status,
        ai_consent=row.ai_consent,
        credits_limit=row.credits_limit,
        period_start_at=row.period_start_at,
        period_end_at=row.period_end_at,
        timezone=row.timezone,
        budget_nano_usd=row.budget_nano_usd,
        custom_categories=tuple(row.custom_categories),
        category_overrides=tuple(row.category_overrides),
    )


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
