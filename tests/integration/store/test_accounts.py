"""Accounts: the highest revision wins, and a deletion ends a life."""

from datetime import UTC, datetime
from typing import Any

import pytest

from events import AccountUpdated, CategoryOverride, CreditPeriod, CustomCategory, PlanStatus
from store import accounts
from store.accounts import Account, Deletion
from store.engine import Database

NOW = 1_767_268_800_000


def said(revision: int, **changes: Any) -> AccountUpdated:
    """An account as the system of record has it at a revision."""
    fields: dict[str, Any] = {
        "revision": revision,
        "plan": "business",
        "ai_consent": True,
        "credits": 100,
        "credit_period": CreditPeriod(
            start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 2, 1, tzinfo=UTC)
        ),
    }
    return AccountUpdated(**fields | changes)


def update(database: Database, revision: int, event_id: str = "event", **changes: Any) -> bool:
    with database.write() as connection:
        return accounts.apply_update(connection, "acme", event_id, said(revision, **changes), NOW)


def delete(database: Database, revision: int, event_id: str = "deletion") -> Deletion:
    with database.write() as connection:
        return accounts.apply_deletion(connection, "acme", event_id, revision, NOW)


def admits(database: Database, revision: int) -> bool | None:
    with database.write() as connection:
        return accounts.admits(connection, "acme", revision)


def found(database: Database) -> Account | None:
    with database.read() as connection:
        return accounts.find(connection, "acme")


def test_what_was_said_of_an_account_is_found(database: Database) -> None:
    category = CustomCategory(type="category", key="invoices", display_name="Invoices")
    override = CategoryOverride(type="category", key="spam", enabled=False)
    assert update(
        database,
        7,
        plan="enterprise",
        plan_status=PlanStatus.TRIAL,
        credits=None,
        timezone="Asia/Tokyo",
        custom_categories=(category,),
        category_overrides=(override,),
        budget_usd="12.34",
    )
    assert found(database) == Account(
        account_id="acme",
        revision=7,
        plan="enterprise",
        plan_status="trial",
        ai_consent=True,
        credits_limit=None,
        period_start_at=1_767_225_600_000,
        period_end_at=1_769_904_000_000,
        timezone="Asia/Tokyo",
        custom_categories=(category.model_dump(mode="json"),),
        category_overrides=(override.model_dump(mode="json"),),
        budget_nano_usd=12_340_000_000,
    )


def test_of_an_account_that_nothing_was_said_of_nothing_is_found(database: Database) -> None:
    assert found(database) is None
    with database.read() as connection:
        assert accounts.highest_revision(connection, "acme") == 0


def test_a_higher_revision_overwrites_all_of_a_lower_one(database: Database) -> None:
    assert update(database, 1, ai_consent=True, credits=None)
    assert update(database, 2, ai_consent=False, credits=5)
    account = found(database)
    assert account is not None
    assert (account.revision, account.ai_consent, account.credits_limit) == (2, False, 5)


def test_a_lower_revision_changes_nothing(database: Database) -> None:
    update(database, 2, ai_consent=False)
    assert not update(database, 1, ai_consent=True)
    account = found(database)
    assert account is not None
    assert (account.revision, account.ai_consent) == (2, False)


def test_a_repeat_changes_nothing(database: Database) -> None:
    assert update(database, 2, "event")
    assert not update(database, 2, "event", ai_consent=False)
    account = found(database)
    assert account is not None
    assert account.ai_consent


@pytest.mark.parametrize(
    ("first", "second"), [("a", "b"), ("Z", "a"), ("a-", "a0"), ("event-9", "event-91")]
)
def test_of_two_events_with_one_revision_the_higher_id_wins(
    database: Database, first: str, second: str
) -> None:
    # By bytes, as everywhere: not as a database's language sorts them.
    assert update(database, 2, second, credits=2)
    assert not update(database, 2, first, credits=1)
    account = found(database)
    assert account is not None
    assert account.credits_limit == 2


def test_another_account_is_another_account(database: Database) -> None:
    update(database, 9)
    with database.write() as connection:
        assert accounts.apply_update(connection, "other", "event", said(1), NOW)
        assert accounts.highest_revision(connection, "acme") == 9
        assert accounts.highest_revision(connection, "other") == 1


def test_a_deleted_account_is_not_found_and_keeps_nothing_personal(database: Database) -> None:
    update(database, 1, timezone="Asia/Tokyo")
    assert delete(database, 2).newest
    assert found(database) is None
    with database.read() as connection:
        row = connection.exec_driver_sql("SELECT * FROM accounts").one()._asdict()
    assert row["timezone"] == "UTC"
    assert not row["ai_consent"]
    assert row["plan"] == ""


def test_an_older_update_does_not_bring_a_deleted_account_back(database: Database) -> None:
    delete(database, 5)
    assert not update(database, 4)
    assert found(database) is None


def test_a_newer_update_begins_a_new_life(database: Database) -> None:
    update(database, 1)
    delete(database, 2)
    assert update(database, 3)
    assert found(database) is not None


def test_a_late_deletion_leaves_the_life_after_it(database: Database) -> None:
    update(database, 3)
    assert delete(database, 2) == Deletion(first=True, newest=False)
    assert found(database) is not None


def test_the_surrogate_of_an_account_is_made_once(database: Database) -> None:
    with database.write() as connection:
        assert accounts.find_surrogate(connection, "acme") is None
        made = accounts.surrogate_of(connection, "acme", lambda: "first")
        assert accounts.surrogate_of(connection, "acme", lambda: "second") == made == "first"
        assert accounts.find_surrogate(connection, "acme") == "first"
        assert accounts.surrogate_of(connection, "other", lambda: "third") == "third"


def test_a_key_event_waits_for_an_account_that_is_not_known(database: Database) -> None:
    assert admits(database, 1) is None
    update(database, 5)
    assert admits(database, 1) is True
    assert admits(database, 9) is True


def test_a_key_event_of_a_life_that_is_over_is_void(database: Database) -> None:
    update(database, 1)
    delete(database, 5)
    assert admits(database, 4) is False
    assert admits(database, 5) is False
    # Of the next life: it is ahead of its account.
    assert admits(database, 6) is None
    update(database, 6)
    assert admits(database, 5) is False
    assert admits(database, 7) is True


def test_a_late_deletion_voids_the_key_events_before_it(database: Database) -> None:
    update(database, 6)
    assert admits(database, 4) is True
    delete(database, 5)
    assert admits(database, 4) is False
    assert admits(database, 6) is True


def test_an_earlier_deletion_does_not_undo_a_later_one(database: Database) -> None:
    delete(database, 5)
    delete(database, 3)
    assert admits(database, 4) is False
    update(database, 8)
    delete(database, 3)
    assert admits(database, 5) is False
    assert admits(database, 8) is True
