"""What an operator pauses stands still within a second, loses nothing, and comes back."""

from datetime import UTC, datetime, timedelta

import pytest

from events import ProviderChoice
from store import pauses
from tests.road import GOOD_ANTHROPIC, Road
from workers.cli.pause import described_pauses

one_road = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)


def change(road: Road, kind: str, name: str, *, pausing: bool) -> None:
    """Pause or resume something, and wait until worker and scheduler know."""
    effects = road.app.effects
    made = pauses.Pause(
        kind=kind, name=name, at=effects.now_ms(), source="test#ann", note="", resumed_at=None
    )
    with road.app.database.write() as connection:
        done = (pauses.pause if pausing else pauses.resume)(connection, made, effects.new_id())
    assert done

    def known() -> bool:
        return all((name in getattr(app.pauses.known, f"{kind}s")) is pausing for app in road.roles)

    road.until(known)


def state(road: Road, request_id: str, account: str = "acme") -> str:
    request = road.request(request_id, account)
    return "" if request is None else f"{request.state}: {request.reason}"


def calls(road: Road) -> int:
    return sum(row["calls"] for row in road.sandbox.bill())


@one_road
def test_requests_of_a_paused_provider_wait_and_come_back_when_it_goes_on(road: Road) -> None:
    road.account()
    road.give_key()
    change(road, "provider", "openai", pausing=True)
    asked = [road.ask(provider=ProviderChoice.OPENAI) for _ in range(5)]
    road.until(lambda: all(state(road, one) == "waiting: paused_openai" for one in asked))
    assert calls(road) == 0
    (told,) = described_pauses(road.app)
    assert (told["kind"], told["name"], told["requests_waiting"]) == ("provider", "openai", 5)
    change(road, "provider", "openai", pausing=False)
    assert {road.ended(one).state for one in asked} == {"completed"}
    assert calls(road) == len(asked)
    assert described_pauses(road.app) == []


@one_road
def test_auto_takes_the_accounts_other_key_while_one_provider_is_paused(road: Road) -> None:
    road.account()
    road.give_key()
    road.give_key(GOOD_ANTHROPIC)
    change(road, "provider", "openai", pausing=True)
    ended = road.ended(road.ask())
    assert (ended.state, ended.provider, ended.credential) == ("completed", "anthropic", "byok")


@one_road
def test_the_validation_of_a_key_waits_for_its_paused_provider(road: Road) -> None:
    road.account()
    change(road, "provider", "openai", pausing=True)
    key_id = road.give_key(settled=False)
    road.until(lambda: road.key(key_id))
    asked = road.ask(provider=ProviderChoice.OPENAI)
    road.until(lambda: state(road, asked) == "waiting: paused_openai")
    key = road.key(key_id)
    assert key is not None
    assert (key.status, key.validation_no) == ("pending", 1)
    assert road.sandbox.stats()["in_flight"] == 0
    change(road, "provider", "openai", pausing=False)
    assert road.ended(asked).credential == "byok"


@one_road
def test_a_paused_account_waits_alone_and_its_requests_expire_as_ever(road: Road) -> None:
    road.account()
    road.account("other")
    change(road, "account", "acme", pausing=True)
    soon = datetime.now(UTC) + timedelta(seconds=1)
    expires, waits = road.ask(expires_at=soon), road.ask()
    assert road.ended(road.ask("other"), "other").state == "completed"
    road.until(lambda: state(road, waits) == "waiting: paused_account")
    expired = road.ended(expires)
    assert (expired.state, expired.reason) == ("failed", "expired")
    change(road, "account", "acme", pausing=False)
    assert road.ended(waits).state == "completed"


def test_nothing_is_taken_from_a_paused_queue_and_all_of_it_afterwards(road: Road) -> None:
    road.account()
    change(road, "queue", "analyses", pausing=True)
    # The consumer is told on its next round, which RabbitMQ's makes once a second.
    asked = [road.ask() for _ in range(5)]
    road.account(plan="enterprise")
    taken = [one for one in asked if road.request(one)]
    assert len(taken) == 0
    assert road.unacknowledged("analyses") == len(asked)
    change(road, "queue", "analyses", pausing=False)
    assert {road.ended(one).state for one in asked} == {"completed"}
    road.until(lambda: road.unacknowledged("analyses") == 0)
    assert calls(road) == len(asked)


@one_road
def test_a_key_event_that_waits_for_its_account_outlasts_a_pause_of_the_queue(road: Road) -> None:
    change(road, "queue", "accounts", pausing=True)
    key_id = road.give_key(account="late", settled=False)
    asked = road.ask("late")
    road.until(lambda: road.waiting_events() == 1)
    road.until(lambda: state(road, asked, "late") == "waiting: account")
    change(road, "queue", "accounts", pausing=False)
    road.account("late")
    road.until(lambda: (k := road.key(key_id)) is not None and k.status == "valid")
    assert road.ended(asked, "late").state == "completed"
