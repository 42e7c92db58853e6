"""Consent and plan are those of the claim, also for what was queued before they changed."""

from collections import Counter
from hashlib import sha256

import pytest
from sqlalchemy import func, select

from store import analyses
from store.schema import analyses as requests
from tests.road import GOOD_OPENAI, Road

pytestmark = pytest.mark.parametrize(
    "services", ["sqlite-valkey", "postgresql-valkey"], indirect=True
)


def how_they_stand(road: Road) -> Counter[tuple[str, str]]:
    """How many of the account's requests stand how."""
    statement = (
        select(requests.c.state, requests.c.reason, func.count())
        .where(requests.c.account_id == "acme")
        .group_by(requests.c.state, requests.c.reason)
    )
    with road.app.database.read() as connection:
        return Counter(
            {(state, reason): count for state, reason, count in connection.execute(statement)}
        )


def waiting(road: Road, count: int) -> list[str]:
    """So many requests, of which those of the account's share are in flight and held there."""
    road.sandbox.gate(closed=True)
    asked = [road.ask() for _ in range(count)]
    share = road.worker_app.shares.limit
    road.sandbox.wait_in_flight(share)
    road.until(lambda: how_they_stand(road)["waiting", analyses.ACCOUNT_BUSY] == count - share)
    return asked


def test_after_consent_is_withdrawn_nothing_is_sent_of_a_thousand_that_wait(road: Road) -> None:
    many = 1_000 if road.app.database.is_sqlite else 100
    road.account(credits=None)
    asked = waiting(road, many)
    in_flight = road.worker_app.shares.limit
    road.account(consent=False, credits=None)
    sent = len(road.sandbox.record())
    road.sandbox.gate(closed=False)
    road.until(lambda: how_they_stand(road) == {("skipped", "consent"): many}, 60)
    assert len(road.sandbox.record()) == sent
    # What was in flight is billed, and nothing of it is kept.
    assert [row.completes for row in road.settled_ledger()] == [False] * in_flight
    with road.app.database.read() as connection:
        found = analyses.find_many(connection, "acme", asked)
    assert all(request.result is None for request in found)
    assert road.credits() == (0, 0)


def test_consent_that_is_given_again_holds_from_its_commit(road: Road) -> None:
    road.account(consent=False)
    before = road.ended(road.ask())
    road.account(consent=True)
    after = road.ended(road.ask())
    assert (before.state, before.reason) == ("skipped", "consent")
    assert after.state == "completed"


def test_what_waits_when_the_plan_loses_byok_is_not_sent_with_the_own_key(road: Road) -> None:
    road.account()
    road.give_key()
    asked = waiting(road, 20)
    in_flight = road.worker_app.shares.limit
    road.account(plan="free")
    road.sandbox.gate(closed=False)
    ended = [road.ended(request_id) for request_id in asked]
    paid = Counter((request.credential, request.fallback_reason) for request in ended)
    assert paid == {("byok", None): in_flight, ("platform", "plan"): len(asked) - in_flight}
    own = sha256(GOOD_OPENAI.encode()).hexdigest()
    sent = [row["calls"] for row in road.sandbox.bill() if row["key_digest"] == own]
    assert sum(sent) == in_flight
