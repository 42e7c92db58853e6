"""Credits are never overdrawn and never spent twice."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import credits
from store.accounts import Account
from store.engine import Database

NOW = 1_767_268_800_000
PERIOD = 1_767_225_600_000
ACCOUNT = Account(
    account_id="acme",
    revision=1,
    plan="business",
    plan_status="active",
    ai_consent=True,
    credits_limit=5,
    period_start_at=PERIOD,
    period_end_at=PERIOD + 1,
    timezone="UTC",
)
UNLIMITED = replace(ACCOUNT, credits_limit=None)


def reserve(database: Database, account: Account = ACCOUNT) -> bool:
    with database.write() as connection:
        return credits.reserve(connection, account)


def settle(database: Database, *, spent: bool, account: Account = ACCOUNT) -> None:
    with database.write() as connection:
        credits.settle(connection, account.account_id, account.period_start_at, spent=spent)


def standing(database: Database, account: Account = ACCOUNT) -> tuple[int, int]:
    with database.read() as connection:
        return credits.standing(connection, account)


def note(database: Database, account: Account = ACCOUNT) -> bool:
    with database.write() as connection:
        return credits.note_exhausted(connection, account, NOW)


def test_an_account_that_never_used_any_has_used_none(database: Database) -> None:
    assert standing(database) == (0, 0)


def test_sixteen_at_once_get_the_five_there_are(database: Database) -> None:
    together = threading.Barrier(16)

    def take() -> bool:
        together.wait(30)
        return reserve(database)

    with ThreadPoolExecutor(16) as pool:
        got = [done.result(60) for done in [pool.submit(take) for _ in range(16)]]
    assert got.count(True) == 5
    assert standing(database) == (0, 5)


def test_a_reserved_credit_is_spent_or_given_back(database: Database) -> None:
    assert all(reserve(database) for _ in range(5))
    assert not reserve(database)
    settle(database, spent=True)
    assert standing(database) == (1, 4)
    assert not reserve(database)
    settle(database, spent=False)
    assert standing(database) == (1, 3)
    assert reserve(database)
    assert not reserve(database)


def test_a_limit_of_nothing_gives_nothing(database: Database) -> None:
    assert not reserve(database, replace(ACCOUNT, credits_limit=0))
    assert standing(database) == (0, 0)


def test_an_unlimited_account_always_gets_one_and_it_is_counted(database: Database) -> None:
    assert all(reserve(database, UNLIMITED) for _ in range(20))
    settle(database, spent=True)
    assert standing(database) == (1, 19)


def test_a_lower_limit_in_the_middle_of_a_period_gives_no_more(database: Database) -> None:
    for _ in range(4):
        assert reserve(database)
        settle(database, spent=True)
    assert not reserve(database, replace(ACCOUNT, credits_limit=4))
    assert not reserve(database, replace(ACCOUNT, credits_limit=1))
    assert reserve(database)


def test_a_new_period_begins_with_the_whole_allowance(database: Database) -> None:
    assert all(reserve(database) for _ in range(5))
    following = replace(ACCOUNT, period_start_at=PERIOD + 1)
    assert reserve(database, following)
    assert standing(database, following) == (0, 1)


def test_a_credit_is_settled_in_the_period_that_reserved_it(database: Database) -> None:
    following = replace(ACCOUNT, period_start_at=PERIOD + 1)
    assert reserve(database)
    assert reserve(database, following)
    settle(database, spent=True)
    assert standing(database) == (1, 0)
    assert standing(database, following) == (0, 1)


def test_the_credits_of_another_account_are_its_own(database: Database) -> None:
    other = replace(ACCOUNT, account_id="other")
    assert all(reserve(database) for _ in range(5))
    assert reserve(database, other)
    assert standing(database, other) == (0, 1)


def test_that_the_allowance_is_used_up_is_noted_once_a_period(database: Database) -> None:
    assert note(database)
    assert not note(database)
    assert note(database, replace(ACCOUNT, period_start_at=PERIOD + 1))
    assert note(database, replace(ACCOUNT, account_id="other"))


def test_of_many_that_find_it_used_up_one_notes_it(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        noted = [done.result(60) for done in [pool.submit(note, database) for _ in range(16)]]
    assert noted.count(True) == 1


def test_a_reservation_that_is_rolled_back_was_none(database: Database) -> None:
    for _ in range(3):
        try:
            with database.write() as connection:
                assert credits.reserve(connection, ACCOUNT)
                raise RuntimeError("on purpose")
        except RuntimeError:
            continue
    assert standing(database) == (0, 0)


accounts_seen = (replace(ACCOUNT, account_id=f"acme-{number}") for number in range(10**6))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.sampled_from(["reserve", "spend", "give back"]), max_size=25))
def test_no_order_of_steps_overdraws(database: Database, steps: list[str]) -> None:
    account = next(accounts_seen)
    held = spent = 0
    for step in steps:
        if step == "reserve":
            got = reserve(database, account)
            assert got == (held + spent < 5)
            held += got
        elif held:
            settle(database, spent=step == "spend", account=account)
            held, spent = held - 1, spent + (step == "spend")
        assert standing(database, account) == (spent, held)
        assert held + spent <= 5
