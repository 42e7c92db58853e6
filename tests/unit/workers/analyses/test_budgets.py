"""Budgets on the way of an analysis: reserved in the claim, settled with the answer, told once."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from store import outbox
from store.schema import budget_holds, budget_months
from tests.unit.workers.analyses.test_attempts import (
    OVERLOADED,
    Desk,
    answered,
    failed,
    open_desk,
)
from tests.unit.workers.standins import clockwork_of
from workers.app import App
from workers.providers.port import Answer, Failure, OutcomeClass, Question

COST = 3_500_000
"""What each of these calls costs in nano-dollars."""
ROOMY = "1.00"


@pytest.fixture
def desk(app: App) -> Desk:
    return open_desk(app)


def told(desk: Desk) -> list[dict[str, Any]]:
    """What `budget.reached` events say, in order, each read once."""
    with desk.app.database.write() as connection:
        rows = outbox.take_due(connection, outbox.EVENT, desk.app.effects.now_ms(), 500)
    events = [json.loads(row.payload) for row in rows]
    return [{"subject": e["subject"], **e["data"]} for e in events if "budget.reached" in e["type"]]


def months_of(desk: Desk) -> dict[str, tuple[int, int, int]]:
    """(spent, billed, reserved) by scope."""
    with desk.app.database.read() as connection:
        rows = connection.execute(select(budget_months)).all()
    return {
        row.scope.partition(":")[0]: (
            row.spent_nano_usd,
            row.billed_nano_usd,
            row.reserved_nano_usd,
        )
        for row in rows
    }


def holds(desk: Desk) -> int:
    with desk.app.database.read() as connection:
        return len(connection.execute(select(budget_holds)).all())


def unpriced(question: Question) -> Answer:
    """An answer by a model that no price is known of."""
    return replace(answered(question), model="gpt-unit-1")


Sets = Callable[[Desk, str], object]


def of_key(desk: Desk, usd: str) -> None:
    desk.give_key(budget_usd=usd)


def of_account(desk: Desk, usd: str) -> None:
    desk.account(3, budget_usd=usd)


def of_platform(desk: Desk, usd: str) -> None:
    changed = {"platform_budget_usd": Decimal(usd)}
    desk.app.settings = desk.app.settings.model_copy(update=changed)


@pytest.mark.parametrize(
    ("scope", "sets", "subject"),
    [
        ("key", of_key, "acme"),
        ("account", of_account, "acme"),
        ("platform", of_platform, "byok"),
    ],
)
def test_a_budget_that_is_used_up_skips_what_comes_and_tells_once(
    desk: Desk,
    scope: str,
    sets: Sets,
    subject: str,
) -> None:
    sets(desk, "0.02")
    ended = [desk.ask(f"req-{number}") for number in range(6)]
    states = [(request.state, request.reason) for request in ended]
    passed = states.count(("completed", ""))
    assert 0 < passed < 6
    assert states == [("completed", "")] * passed + [("skipped", "budget")] * (6 - passed)
    assert len(desk.provider.keys_seen) == passed
    assert passed * COST <= 20_000_000
    (event,) = told(desk)
    assert (event["subject"], event["scope"], event["month"]) == (subject, scope, "2026-01")
    assert (event["key_id"] is None) == (scope != "key")
    assert float(event["budget_usd"]) == 0.02
    # No credit is spent or held for what was skipped.
    assert desk.credits() == ((0, 0) if scope == "key" else (passed, 0))
    desk.ledger()
    assert months_of(desk)[scope] == (passed * COST, 0, 0)
    assert holds(desk) == 0


def test_the_soft_limit_is_told_when_it_is_reached_and_stops_nothing(desk: Desk) -> None:
    desk.app.settings = desk.app.settings.model_copy(update={"budget_soft_share": 0.007})
    desk.give_key(budget_usd=ROOMY)
    desk.ask("req-1")
    assert told(desk) == []
    desk.ask("req-2")
    (event,) = told(desk)
    assert (event["reason"], event["spent_usd"]) == ("soft_limit", "0.007")
    assert desk.ask("req-3").state == "completed"
    assert told(desk) == []


def test_a_budget_of_nothing_lets_nothing_through_and_says_so(desk: Desk) -> None:
    desk.give_key(budget_usd="0")
    assert (desk.ask().state, desk.request().reason) == ("skipped", "budget")
    (event,) = told(desk)
    assert (event["reason"], event["spent_usd"]) == ("hard_limit", "0")
    assert desk.provider.keys_seen == []


def test_a_new_month_by_the_accounts_calendar_runs_again(desk: Desk) -> None:
    desk.account(3, budget_usd="0.01", timezone="Pacific/Kiritimati")
    desk.give_key()
    # 9:00 UTC on 31 January is 23:00 there.
    clockwork_of(desk.app).pass_time(29 * 86_400 + 21 * 3_600)
    assert desk.ask("req-1").state == "completed"
    assert desk.ask("req-2").reason == "budget"
    clockwork_of(desk.app).pass_time(2 * 3_600)
    assert desk.ask("req-3").state == "completed"


def test_while_a_call_is_in_flight_its_dearest_outcome_is_reserved(desk: Desk) -> None:
    desk.give_key(budget_usd=ROOMY)
    seen: list[tuple[int, int, int]] = []

    def look(question: Question) -> Answer | Failure:
        seen.append(months_of(desk)["key"])
        return answered(question)

    desk.provider.steps = [look]
    desk.ask()
    ((spent, billed, reserved),) = seen
    assert (spent, billed) == (0, 0)
    assert reserved > COST
    assert months_of(desk)["key"] == (0, COST, 0)
    desk.ledger()
    assert months_of(desk)["key"] == (COST, 0, 0)


def test_a_call_that_was_not_billed_gives_back_what_it_reserved(desk: Desk) -> None:
    desk.give_key(budget_usd=ROOMY)
    desk.provider.steps = [OVERLOADED, answered]
    assert desk.ask().state == "waiting"
    assert months_of(desk)["key"] == (0, 0, 0)
    assert holds(desk) == 0


def test_a_lost_call_keeps_its_reservation_until_its_request_ends(desk: Desk) -> None:
    desk.give_key(budget_usd=ROOMY)
    lost = failed(OutcomeClass.UNAVAILABLE, status=None)
    desk.provider.steps = [lost, answered]
    assert desk.ask().state == "waiting"
    assert months_of(desk)["key"][2] > 0
    clockwork_of(desk.app).pass_time(60)
    assert desk.resume().state == "completed"
    assert months_of(desk)["key"] == (0, COST, 0)
    desk.ledger()
    assert months_of(desk)["key"] == (COST, 0, 0)


def test_a_worker_that_dies_in_a_call_leaves_no_reservation_behind(desk: Desk) -> None:
    desk.give_key(budget_usd=ROOMY)

    def die(question: Question) -> Answer | Failure:
        desk.lose_the_worker()
        desk.resume()
        return answered(question)

    desk.provider.steps = [die, answered]
    desk.ask()
    assert desk.request().state == "completed"
    # The late answer was billed, too: it is on the ledger and counts as spent.
    desk.ledger()
    assert months_of(desk)["key"] == (2 * COST, 0, 0)
    assert holds(desk) == 0


def test_without_credits_nothing_of_a_budget_stays_reserved(desk: Desk) -> None:
    desk.account(3, credit=0, budget_usd=ROOMY)
    assert desk.ask().reason == "credits"
    assert months_of(desk)["account"] == (0, 0, 0)
    assert holds(desk) == 0


def test_a_model_without_a_price_uses_no_budget_up(desk: Desk) -> None:
    desk.give_key(budget_usd="0.01")
    desk.provider.steps = [unpriced]
    asked = [desk.ask(f"req-{number}", model="gpt-unit-1") for number in range(5)]
    assert {request.state for request in asked} == {"completed"}
    desk.ledger()
    assert months_of(desk)["key"] == (0, 0, 0)
