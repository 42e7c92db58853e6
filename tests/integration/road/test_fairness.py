"""One account's burst leaves others their turn, and none of it is lost or run twice."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from events import MailInput
from events.analyses import ANALYSES_QUEUE
from store import analyses
from tests.road import MAIL, PATIENCE, Road
from workers.analyses import actors

pytestmark = pytest.mark.parametrize(
    "services", ["sqlite-valkey", "postgresql-valkey"], indirect=True
)

BURST = 40


@pytest.fixture
def flooded(road: Road) -> list[str]:
    """A burst of one account that fills its share with calls that are not answered."""
    road.account("flood", credits=None)
    road.account("quiet", credits=None)
    road.sandbox.gate(closed=True)
    asked = [road.ask("flood") for _ in range(BURST)]
    share = road.worker_app.shares.limit
    road.until(lambda: states(road, asked)["waiting: account_busy"] == BURST - share)
    return asked


def states(road: Road, request_ids: list[str], account: str = "flood") -> Counter[str]:
    """How many requests stand how."""
    with road.app.database.read() as connection:
        found = analyses.find_many(connection, account, request_ids)
    return Counter(f"{request.state}: {request.reason}" for request in found)


def test_a_burst_waits_in_the_store_and_not_on_the_queue(road: Road, flooded: list[str]) -> None:
    # What is left with the broker are the requests whose calls are under way.
    share = road.worker_app.shares.limit
    road.until(lambda: road.unacknowledged(ANALYSES_QUEUE) == share)
    quiet = road.ask("quiet")
    road.sandbox.wait_in_flight(share + 1)
    road.sandbox.gate(closed=False)
    assert road.ended(quiet, "quiet").state == "completed"
    road.until(lambda: states(road, flooded) == {"completed: ": BURST})
    assert sum(row["calls"] for row in road.sandbox.bill()) == BURST + 1
    road.until(lambda: road.unacknowledged(ANALYSES_QUEUE) == 0)


def test_a_stop_in_a_burst_loses_nothing_and_the_next_process_goes_on_at_once(
    road: Road, flooded: list[str]
) -> None:
    road.sandbox.gate(closed=False)
    road.stop_working()
    left = BURST - states(road, flooded)["completed: "]
    road.start()
    # Long before what waits for its turn would become due by itself.
    patience = PATIENCE if left == 0 else analyses.TURN_SECONDS - 1
    road.until(lambda: states(road, flooded) == {"completed: ": BURST}, patience)
    assert sum(row["calls"] for row in road.sandbox.bill()) == BURST


def test_in_a_burst_each_request_is_looked_at_as_it_would_be_alone(
    road: Road, flooded: list[str]
) -> None:
    again, other = flooded[-1], MAIL.model_copy(update={"text": "Something else altogether."})
    # The last one once more, the same id with another content, and one that is no mail.
    road.ask("flood", request_id=again)
    road.ask("flood", request_id=again, mail=other)
    road.ask("flood", mail=_NoMail.model_validate_json(MAIL.to_json()))
    road.until(lambda: len(road.out_events("event.rejected")) == 2)
    reasons = {event["data"]["reason"] for event in road.out_events("event.rejected")}
    assert reasons == {"id_conflict", "invalid_input"}
    road.sandbox.gate(closed=False)
    road.until(lambda: states(road, flooded) == {"completed: ": BURST})
    assert sum(row["calls"] for row in road.sandbox.bill()) == BURST


class _NoMail(MailInput):
    """What a publisher may seal that knows nothing of mails."""

    def to_json(self) -> bytes:
        return json.dumps({"nothing": "of it"}).encode()


def test_a_batch_that_cannot_be_written_is_looked_at_one_by_one(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse: Callable[..., set[str]] = lambda *_: _raise()  # noqa: E731 -- the shape of what it stands for
    monkeypatch.setattr("store.analyses.accept_held", refuse)
    monkeypatch.setattr(actors, "TAKE_IN_BATCH", 3)
    road.account("flood", credits=None)
    asked = [road.ask("flood") for _ in range(BURST)]
    road.until(lambda: states(road, asked) == {"completed: ": BURST})


def _raise() -> set[str]:
    raise ValueError
