"""Budgets are never passed, whatever is in flight, and what is spent is what the ledger says."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from store import budgets, ledger
from store.budgets import Budget, Standing
from store.engine import Database
from store.schema import budget_months
from tests.unit.store.rows import NOW, ledger_row

CAP = 1_000
KEY = Budget(scope=budgets.key_scope("key-1"), month="2026-01", cap_nano_usd=CAP)
ACCOUNT = Budget(scope=budgets.account_scope("s-1"), month="2026-01", cap_nano_usd=CAP)
NOTHING = Standing(spent=0, billed=0, reserved=0)


def reserve(
    database: Database, nano_usd: int, *wanted: Budget, request_id: str = "r", attempt: int = 1
) -> Budget | None:
    with database.write() as connection:
        return budgets.reserve(
            connection,
            wanted or (KEY,),
            account_id="acme",
            request_id=request_id,
            attempt=attempt,
            nano_usd=nano_usd,
        )


def settle(
    database: Database, billed: tuple[str, int] | None, *, request_id: str = "r", attempt: int = 1
) -> list[Budget]:
    with database.write() as connection:
        return budgets.settle(connection, "acme", request_id, attempt, billed=billed)


def record(database: Database, **changes: Any) -> None:
    with database.write() as connection:
        ledger.record(connection, [ledger_row(**changes)], NOW)


def standing(database: Database, budget: Budget = KEY) -> Standing:
    with database.read() as connection:
        return budgets.standing(connection, budget.scope, budget.month)


def test_what_was_never_spent_stands_at_nothing(database: Database) -> None:
    assert standing(database) == NOTHING


def test_sixteen_at_once_reserve_no_more_than_there_is(database: Database) -> None:
    together = threading.Barrier(16)

    def take(number: int) -> Budget | None:
        together.wait(30)
        return reserve(database, 300, KEY, ACCOUNT, request_id=f"r-{number}")

    with ThreadPoolExecutor(16) as pool:
        refused = [done.result(60) for done in [pool.submit(take, n) for n in range(16)]]
    assert refused.count(None) == 3
    assert standing(database).reserved == standing(database, ACCOUNT).reserved == 900


def test_a_call_moves_from_reserved_to_billed_to_spent(database: Database) -> None:
    assert reserve(database, 400) is None
    assert standing(database) == Standing(spent=0, billed=0, reserved=400)
    assert settle(database, ("row-1", 250)) == [KEY]
    assert standing(database) == Standing(spent=0, billed=250, reserved=0)
    record(database, id="row-1", cost_nano_usd=250)
    assert standing(database) == Standing(spent=250, billed=0, reserved=0)


def test_a_row_that_comes_again_is_spent_once(database: Database) -> None:
    reserve(database, 400)
    settle(database, ("row-1", 250))
    for _ in range(3):
        record(database, id="row-1", cost_nano_usd=250)
    assert standing(database) == Standing(spent=250, billed=0, reserved=0)


def test_a_call_that_cost_nothing_gives_back_what_it_held(database: Database) -> None:
    reserve(database, 400)
    settle(database, None)
    assert standing(database) == NOTHING
    assert settle(database, ("late", 5)) == []
    assert standing(database) == NOTHING


def test_where_one_budget_is_short_none_is_held(database: Database) -> None:
    narrow = Budget(scope="platform", month="2026-01", cap_nano_usd=100)
    assert reserve(database, 400, KEY, narrow) == narrow
    assert standing(database) == NOTHING
    with database.write() as connection:
        budgets.release(connection, "acme", "r")
    assert standing(database) == NOTHING


def test_a_request_that_ends_gives_back_its_lost_attempts_and_keeps_its_billed_one(
    database: Database,
) -> None:
    reserve(database, 400, attempt=1)
    reserve(database, 300, attempt=2)
    settle(database, ("row-2", 50), attempt=2)
    with database.write() as connection:
        budgets.release(connection, "acme", "r")
    assert standing(database) == Standing(spent=0, billed=50, reserved=0)
    record(database, id="row-2", cost_nano_usd=50)
    assert standing(database) == Standing(spent=50, billed=0, reserved=0)


def test_a_budget_of_nothing_lets_nothing_through(database: Database) -> None:
    nothing = Budget(scope=KEY.scope, month=KEY.month, cap_nano_usd=0)
    assert reserve(database, 0, nothing) == nothing
    assert reserve(database, 1, nothing) == nothing


def test_a_budget_can_be_used_to_its_last_cent_and_no_further(database: Database) -> None:
    assert reserve(database, CAP, request_id="a") is None
    settle(database, ("row-1", CAP), request_id="a")
    assert reserve(database, 0, request_id="b") == KEY


def test_what_was_spent_before_there_was_a_budget_counts(database: Database) -> None:
    record(database, cost_nano_usd=900)
    assert reserve(database, 200) == KEY
    assert reserve(database, 100) is None


def test_a_new_month_begins_with_the_whole_budget(database: Database) -> None:
    record(database, cost_nano_usd=900)
    following = Budget(scope=KEY.scope, month="2026-02", cap_nano_usd=CAP)
    assert reserve(database, CAP, following) is None


@pytest.mark.parametrize(
    ("changes", "spent"),
    [
        ({}, {("account:s-1", "2026-01"), ("key:key-1", "2026-01")}),
        (
            {"credential": "platform", "key_id": None},
            {("account:s-1", "2026-01"), ("platform", "2026-01")},
        ),
        # The account is in February already, the platform goes by UTC.
        (
            {"credential": "platform", "key_id": None, "local_date": "2026-02-01"},
            {("account:s-1", "2026-02"), ("platform", "2026-01")},
        ),
        (
            {"kind": "probe", "completes": False},
            {("account:s-1", "2026-01"), ("key:key-1", "2026-01")},
        ),
        ({"cost_nano_usd": 0}, set()),
    ],
)
def test_a_cost_is_spent_by_its_account_and_by_whoever_paid(
    database: Database, changes: dict[str, Any], spent: set[tuple[str, str]]
) -> None:
    record(database, **changes)
    with database.read() as connection:
        found = connection.execute(select(budget_months)).all()
    assert {(row.scope, row.month) for row in found} == spent
    assert {row.spent_nano_usd for row in found} <= {1_234_567}


def test_that_it_is_reached_is_noted_once_a_month_and_not_too_soon(database: Database) -> None:
    def note(budget: Budget, share: int) -> Standing | None:
        with database.write() as connection:
            return budgets.note_reached(connection, budget, NOW, from_nano_usd=share)

    reserve(database, 900)
    assert note(KEY, 800) is None
    settle(database, ("row-1", 850))
    assert note(KEY, 800) == Standing(spent=0, billed=850, reserved=0)
    assert note(KEY, 800) is None
    following = Budget(scope=KEY.scope, month="2026-02", cap_nano_usd=CAP)
    reserve(database, 1, following, request_id="next")
    assert note(following, 0) is not None


keys_seen = (f"key-of-{number}" for number in range(10**6))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.integers(0, 400)),
        st.tuples(st.just("answer"), st.integers(0, 400)),
        st.tuples(st.sampled_from(["fail", "lose", "arrive"]), st.just(0)),
    ),
    max_size=25,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_no_order_of_steps_passes_the_cap(database: Database, steps: list[tuple[str, int]]) -> None:
    key = next(keys_seen)
    budget = Budget(scope=budgets.key_scope(key), month="2026-01", cap_nano_usd=CAP)
    flying: list[tuple[str, int]] = []
    arriving: list[tuple[str, int]] = []
    spent = 0
    for number, (step, amount) in enumerate(steps):
        request_id, row_id = f"{key}-{number}", f"row-{key}-{number}"
        if step == "claim":
            held = spent + sum(n for _, n in [*flying, *arriving])
            refused = reserve(database, amount, budget, request_id=request_id)
            assert (refused is None) == (held + amount <= CAP and held < CAP)
            flying += [(request_id, amount)] if refused is None else []
        elif step == "arrive" and arriving:
            row, cost = arriving.pop(0)
            record(database, id=row, key_id=key, cost_nano_usd=cost, surrogate=key)
            spent += cost
        elif step in ("answer", "fail", "lose") and flying:
            flown, reserved = flying.pop(0)
            if step == "answer":
                # No call costs more than its dearest outcome.
                settle(database, (row_id, min(amount, reserved)), request_id=flown)
                arriving.append((row_id, min(amount, reserved)))
            elif step == "fail":
                settle(database, None, request_id=flown)
            else:
                with database.write() as connection:
                    budgets.release(connection, "acme", flown)
        now = standing(database, budget)
        assert now.spent + now.billed + now.reserved <= CAP
        assert now.spent == spent
        assert now.billed == sum(cost for _, cost in arriving)
        assert now.reserved == sum(amount for _, amount in flying)
