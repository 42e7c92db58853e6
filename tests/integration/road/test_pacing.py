"""Whose turn it is, and what happens while a provider is out."""

import pytest

from events import Provider, ProviderChoice
from store import keys
from tests.road import GOOD_ANTHROPIC, Road
from workers.analyses import retry
from workers.keys import revalidation
from workers.pacing import permits

pytestmark = pytest.mark.parametrize(
    "services", ["sqlite-valkey", "postgresql-valkey"], indirect=True
)


def state(road: Road, request_id: str, account: str = "acme") -> str:
    """A request's state and why it waits."""
    request = road.request(request_id, account)
    return "" if request is None else f"{request.state}: {request.reason}"


def test_one_accounts_flood_leaves_room_for_another(road: Road) -> None:
    road.account("flood", credits=None)
    road.account("quiet", credits=None)
    road.sandbox.gate(closed=True)
    share = road.worker_app.shares.limit
    flood = [road.ask("flood") for _ in range(4 * share)]
    road.until(
        lambda: (
            sum(state(road, one, "flood") == "waiting: account_busy" for one in flood) == 3 * share
        )
    )
    quiet = road.ask("quiet")
    road.sandbox.wait_in_flight(share + 1)
    assert state(road, quiet, "quiet") == "running: "
    road.sandbox.gate(closed=False)
    assert road.ended(quiet, "quiet").state == "completed"
    # What waited is run as places become free, not when it would be due again.
    for request_id in flood:
        assert road.ended(request_id, "flood").state == "completed"
    assert sum(row["calls"] for row in road.sandbox.bill()) == len(flood) + 1


def test_a_key_has_no_more_under_way_than_it_bears(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "FIRST_LIMIT", 2)
    road.account()
    road.give_key()
    road.sandbox.gate(closed=True)
    asked = [road.ask() for _ in range(5)]
    road.until(lambda: sum(state(road, one) == "waiting: key_busy" for one in asked) == 3)
    assert road.sandbox.stats()["in_flight"] == 2
    road.sandbox.gate(closed=False)
    for request_id in asked:
        assert road.ended(request_id).credential == "byok"


@pytest.fixture
def quick_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A breaker that opens after few failures and probes soon."""
    monkeypatch.setattr(permits, "BREAKER_FAILURES", 3)
    monkeypatch.setattr(permits, "BREAKER_OPEN_MS", 200)
    monkeypatch.setattr(permits, "BREAKER_LONGEST_MS", 400)
    monkeypatch.setattr(permits, "OUT_KNOWN_SECONDS", 0.0)
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(retry, "LONGEST_PAUSE_SECONDS", 0.2)


@pytest.mark.usefixtures("quick_breaker")
def test_in_an_outage_calls_stop_and_after_it_all_that_waited_is_run(road: Road) -> None:
    road.account()
    road.give_key()
    road.sandbox.fault("error503", provider="openai", endpoint="completion")
    asked = [road.ask(provider=ProviderChoice.OPENAI) for _ in range(10)]
    road.until(lambda: road.out_events("provider.health_changed"))
    road.sandbox.clear_faults()
    for request_id in asked:
        assert road.ended(request_id).state == "completed"
    told = [event["data"] for event in road.out_events("provider.health_changed")]
    assert [(event["provider"], event["healthy"]) for event in told] == [
        ("openai", False),
        ("openai", True),
    ]
    assert sum(row["calls"] for row in road.sandbox.bill()) == len(asked)


@pytest.mark.usefixtures("quick_breaker")
def test_in_an_outage_auto_takes_the_accounts_other_key(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "BREAKER_OPEN_MS", 60_000)
    monkeypatch.setattr(permits, "BREAKER_LONGEST_MS", 60_000)
    road.account()
    road.give_key()
    road.give_key(GOOD_ANTHROPIC)
    road.sandbox.fault("error503", provider="openai", endpoint="completion")
    for _ in range(3):
        road.ask(provider=ProviderChoice.OPENAI)
    road.until(lambda: road.out_events("provider.health_changed"))
    request = road.ended(road.ask(provider=ProviderChoice.AUTO))
    assert (request.state, request.provider) == ("completed", "anthropic")


@pytest.mark.usefixtures("quick_breaker")
def test_in_an_outage_the_platform_stands_in_only_where_the_key_allows_it(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "BREAKER_OPEN_MS", 60_000)
    monkeypatch.setattr(permits, "BREAKER_LONGEST_MS", 60_000)
    road.account("strict")
    road.account("easy")
    road.give_key("sk-proj-sandbox-good-strict-not-a-real-key", "strict")
    road.give_key("sk-proj-sandbox-good-easy-not-a-real-key", "easy", fallback=True)
    road.sandbox.fault("error503", provider="openai", endpoint="completion")
    for _ in range(3):
        road.ask("strict", provider=ProviderChoice.OPENAI)
    road.until(lambda: road.out_events("provider.health_changed"))
    easy = road.ended(road.ask("easy"), "easy")
    assert (easy.provider, easy.credential, easy.fallback_reason) == (
        "anthropic",
        "platform",
        "provider_outage",
    )
    strict = road.ask("strict")
    road.until(lambda: state(road, strict, "strict") == "waiting: provider_unavailable")


@pytest.mark.usefixtures("quick_breaker")
def test_in_an_outage_no_validation_is_sent_out_and_after_it_they_go_on(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "BREAKER_OPEN_MS", 60_000)
    road.account()
    key_id = road.give_key()
    before = road.key(key_id)
    assert before is not None
    road.sandbox.fault("error503", provider="openai", endpoint="completion")
    for _ in range(3):
        road.ask(provider=ProviderChoice.OPENAI)
    road.until(lambda: road.out_events("provider.health_changed"))
    with road.app.database.write() as connection:
        keys.ask_validation(connection, key_id, 0)
    assert revalidation.send_due(road.app, Provider.OPENAI).sent == 0
    road.sandbox.clear_faults()
    road.app.stream.delete("byok:breaker:openai")
    road.until(
        lambda: (k := road.key(key_id)) is not None and k.validation_no > before.validation_no
    )
