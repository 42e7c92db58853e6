"""A key event that comes ahead of its account waits for it, for a minute."""

from datetime import UTC, datetime

import pytest

from events import AccountDeleted, AccountUpdated, CreditPeriod, KeyAdded, Provider, seal_key
from store import keys, setaside, waiting
from store.waiting import RESEND_SECONDS, WAIT_SECONDS
from tests.unit.workers.standins import clockwork_of, event_of, outbasket_of, signed_event
from workers import accounts
from workers.app import App
from workers.boundary import take_event
from workers.keys import lifecycle
from workers.scheduler import due_waiting_events


def key_added(app: App, revision: int = 2) -> str:
    """A key event as it lies on the queue."""
    data = KeyAdded(
        revision=revision,
        provider=Provider.OPENAI,
        key_id="key-1",
        sealed_key=seal_key(
            "sk-proj-fake-not-a-real-key-0001",
            app.settings.sealing_public,
            account="acme",
            provider=Provider.OPENAI,
            key_id="key-1",
        ),
    )
    return signed_event(data, event_id="evt-key")


def know_account(app: App, revision: int = 1) -> None:
    data = AccountUpdated(
        revision=revision,
        plan="business",
        ai_consent=True,
        credits=1,
        credit_period=CreditPeriod(
            start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 2, 1, tzinfo=UTC)
        ),
    )
    accounts.updated(app, event_of(data, event_id=f"evt-account-{revision}"), data)


def resend(app: App) -> int:
    """Let the scheduler send what is due, and a worker take it; how many that was."""
    found = due_waiting_events(app)
    basket = outbasket_of(app)
    for queue, actor, arguments in list(basket.sent):
        if actor == "keys_event":
            assert queue == "keys"
            basket.sent.remove((queue, actor, arguments))
            take_event(app, lifecycle.HANDLERS, arguments)
    return found


def parked(app: App) -> int | None:
    """Until when the event waits."""
    with app.database.read() as connection:
        return waiting.until(connection, "evt-key")


def refused(app: App) -> list[str]:
    with app.database.read() as connection:
        return [item.reason for item in setaside.newest(connection)]


def active(app: App) -> list[str]:
    with app.database.read() as connection:
        return [key.key_id for key in keys.active(connection, "acme").values()]


@pytest.fixture
def waiting_key(app: App) -> App:
    """An app with a key event that waits."""
    take_event(app, lifecycle.HANDLERS, [key_added(app)])
    assert parked(app) == app.effects.now_ms() + WAIT_SECONDS * 1000
    return app


def test_it_waits_and_is_not_refused(waiting_key: App) -> None:
    assert active(waiting_key) == []
    assert refused(waiting_key) == []
    assert resend(waiting_key) == 0


def test_when_its_account_is_known_it_is_acted_on_at_once(waiting_key: App) -> None:
    know_account(waiting_key)
    assert resend(waiting_key) == 1
    assert active(waiting_key) == ["key-1"]
    assert parked(waiting_key) is None
    assert resend(waiting_key) == 0


def test_a_redelivery_does_not_prolong_the_wait(waiting_key: App) -> None:
    until = parked(waiting_key)
    clockwork_of(waiting_key).pass_time(WAIT_SECONDS - 1)
    take_event(waiting_key, lifecycle.HANDLERS, [key_added(waiting_key)])
    assert parked(waiting_key) == until
    assert refused(waiting_key) == []


def test_after_a_minute_it_is_refused_and_waits_no_more(waiting_key: App) -> None:
    clockwork_of(waiting_key).pass_time(WAIT_SECONDS)
    assert resend(waiting_key) == 1
    assert refused(waiting_key) == ["unknown_account"]
    assert parked(waiting_key) is None
    clockwork_of(waiting_key).pass_time(10 * WAIT_SECONDS)
    assert resend(waiting_key) == 0


def test_a_message_that_was_lost_on_the_way_back_is_sent_again(waiting_key: App) -> None:
    know_account(waiting_key)
    assert due_waiting_events(waiting_key) == 1
    outbasket_of(waiting_key).sent.clear()
    assert resend(waiting_key) == 0
    clockwork_of(waiting_key).pass_time(RESEND_SECONDS)
    assert resend(waiting_key) == 1
    assert active(waiting_key) == ["key-1"]


def test_a_deletion_makes_the_waiting_event_of_its_life_void(app: App) -> None:
    take_event(app, lifecycle.HANDLERS, [key_added(app, revision=2)])
    data = AccountDeleted(revision=3)
    accounts.deleted(app, event_of(data, event_id="evt-deleted"), data)
    assert resend(app) == 1
    assert parked(app) is None
    know_account(app, 4)
    assert active(app) == []
    assert refused(app) == []


def test_a_deletion_leaves_the_waiting_event_of_the_next_life(app: App) -> None:
    take_event(app, lifecycle.HANDLERS, [key_added(app, revision=9)])
    data = AccountDeleted(revision=3)
    accounts.deleted(app, event_of(data, event_id="evt-deleted"), data)
    assert resend(app) == 1
    assert parked(app) is not None
    know_account(app, 4)
    assert resend(app) == 1
    assert active(app) == ["key-1"]
