"""A billed validation is noted before it is sent: whatever happens then, the bill is explained."""

from collections import Counter
from collections.abc import Iterator

import pytest

from events import KeyTested, Provider
from store import analyses, ledger
from tests.road import Road
from workers import scheduler
from workers.app import App
from workers.keys import validation

OPENAI = "sk-proj-sandbox-restricted-not-a-real-key"
ANTHROPIC = "sk-ant-api03-sandbox-restricted-not-a-real-key"
"""Keys that may not list models, so that only a call tells."""

one_road = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
both_stores = pytest.mark.parametrize(
    "services", ["sqlite-valkey", "postgresql-valkey"], indirect=True
)


class Died(BaseException):
    """The process is gone."""


@pytest.fixture
def doomed(road: Road) -> Iterator[App]:
    """The app of another worker process, with a lease of its own."""
    app = App(road.settings, role="worker")
    app.lease.start()
    yield app
    app.lease.release()
    app.close()


def probes_of(road: Road, key_id: str) -> list[analyses.Attempt]:
    """The billed validations of a key, in order."""
    key = road.key(key_id)
    assert key is not None
    with road.app.database.read() as connection:
        return [
            attempt
            for number in range(1, key.validation_no + 1)
            for attempt in analyses.attempts_of(connection, "acme", f"~probe:{key_id}:{number}")
        ]


def assert_the_bill_is_explained(road: Road) -> None:
    """Each call that the sandbox billed is one row of the ledger, or one `unknown` attempt."""
    rows = Counter(row.provider_request_id for row in road.settled_ledger())
    assert set(rows.values()) <= {1}
    assert {row.kind for row in road.settled_ledger()} <= {ledger.PROBE}
    billed = {call["request_id"] for call in road.sandbox.billed_calls()}
    assert set(rows) <= billed
    with road.app.database.read() as connection:
        lost = analyses.unknown_attempts(connection)
    assert len(billed) == len(rows) + len(lost)


@one_road
def test_a_billed_validation_is_an_attempt_and_a_row_of_the_ledger(road: Road) -> None:
    road.account()
    key_id = road.give_key(OPENAI)
    (probe,) = probes_of(road, key_id)
    assert (probe.state, probe.outcome, probe.key_id) == ("answered", "ok", key_id)
    assert len(road.settled_ledger()) == len(road.sandbox.billed_calls()) == 1
    assert_the_bill_is_explained(road)


@one_road
def test_one_that_costs_nothing_is_noted_nowhere(road: Road) -> None:
    road.account()
    # Anthropic counts tokens for nothing, and that tells as much.
    assert probes_of(road, road.give_key(ANTHROPIC)) == []
    assert probes_of(road, road.give_key()) == []
    assert road.settled_ledger() == road.sandbox.billed_calls() == []


@both_stores
def test_a_process_that_dies_between_probe_and_verdict_leaves_an_unknown_one(
    road: Road, doomed: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.account()
    key_id = road.give_key(OPENAI)
    monkeypatch.setattr(validation, "persistently", _die)
    with pytest.raises(Died):
        validation.validate(doomed, key_id)
    monkeypatch.undo()
    # Nobody is told that it was started in vain, as long as its process may still end it.
    assert scheduler.lost_attempts(road.app) == 0
    assert [probe.state for probe in probes_of(road, key_id)] == ["answered", "started"]
    doomed.lease.release()
    road.until(lambda: [p.state for p in probes_of(road, key_id)] == ["answered", "unknown"])
    assert probes_of(road, key_id)[1].outcome == "worker_lost"
    assert_the_bill_is_explained(road)
    # It is proved anew, and that one is paid for as well.
    road.publish(KeyTested(key_id=key_id), "acme")
    road.until(lambda: len(probes_of(road, key_id)) == 3)
    road.until(lambda: probes_of(road, key_id)[2].state == "answered")
    assert_the_bill_is_explained(road)
    assert len(road.sandbox.billed_calls()) == 3


@one_road
def test_a_verdict_that_comes_after_its_process_was_given_up_is_billed_and_unknown_no_more(
    road: Road, doomed: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.account()
    key_id = road.give_key(OPENAI)
    held = []
    monkeypatch.setattr(validation, "persistently", lambda _app, act: held.append(act))
    validation.validate(doomed, key_id)
    monkeypatch.undo()
    doomed.lease.release()
    road.until(lambda: [p.state for p in probes_of(road, key_id)] == ["answered", "unknown"])
    (late,) = held
    late()
    assert [probe.state for probe in probes_of(road, key_id)] == ["answered", "answered"]
    assert_the_bill_is_explained(road)
    assert len(road.settled_ledger()) == 2


@one_road
@pytest.mark.parametrize("fault", ["bill-then-drop", "reset", "error500"])
def test_a_probe_whose_answer_is_lost_is_unknown_and_one_that_was_refused_is_not(
    road: Road, fault: str
) -> None:
    road.account()
    road.sandbox.fault(fault, key=OPENAI, endpoint="completion", count=1)
    key_id = road.give_key(OPENAI, provider=Provider.OPENAI)
    states = [probe.state for probe in probes_of(road, key_id)]
    assert states == ["failed" if fault == "error500" else "unknown", "answered"]
    if fault != "reset":
        # What was not billed is listed too: nobody can tell from here.
        assert_the_bill_is_explained(road)


def _die(*_: object) -> None:
    raise Died
