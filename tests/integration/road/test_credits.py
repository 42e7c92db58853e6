"""Credits where many requests want them at once."""

import pytest

from store import analyses
from tests.road import Road

pytestmark = pytest.mark.parametrize(
    "services", ["sqlite-valkey", "postgresql-valkey"], indirect=True
)


def test_of_two_hundred_requests_on_fifty_credits_exactly_fifty_complete(road: Road) -> None:
    road.account(credits=50)
    asked = [road.ask() for _ in range(200)]

    def all_ended() -> bool:
        with road.app.database.read() as connection:
            found = analyses.find_many(connection, "acme", asked)
        ended = [request for request in found if request.state in analyses.TERMINAL]
        return len(ended) == len(asked)

    road.until(all_ended, 60)
    ended = [road.ended(request_id) for request_id in asked]
    completed = [request for request in ended if request.state == "completed"]
    assert len(completed) == 50
    assert {request.reason for request in ended if request.state != "completed"} == {"credits"}
    assert road.credits() == (50, 0)
    assert sum(row["calls"] for row in road.sandbox.bill()) == 50
    # Told once in the period, however many found it so.
    assert len(road.out_events("credits.exhausted")) == 1
    # An own key is not blocked by that, and not charged.
    road.give_key()
    own = road.ended(road.ask())
    assert (own.state, own.credential) == ("completed", "byok")
    assert road.credits() == (50, 0)


def test_a_request_that_waits_holds_no_credit(road: Road) -> None:
    road.account(credits=1)
    road.sandbox.fault("ratelimited", provider="openai", endpoint="completion", retry_after=30)
    waits = road.ask()
    road.until(
        lambda: (r := road.request(waits)) is not None and (r.state, r.attempt) == ("waiting", 1)
    )
    assert road.credits() == (0, 0)
