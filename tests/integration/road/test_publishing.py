"""Who may publish, what is refused, and what a publisher hears."""

import asyncio
import threading
from datetime import timedelta
from pathlib import Path

import pika
import pytest
import redis

from events import (
    AnalysisCompleted,
    Envelope,
    EventRefused,
    KeyAdded,
    KeyStatusChanged,
    KeyTested,
    NotClaimed,
    Provider,
    Publisher,
    Refused,
    SigningKey,
    subscribe,
)
from events.envelope import wrap
from store import setaside
from store.setaside import SetAside
from tests.road import GOOD_OPENAI, SIGNING_KEY, Road, fake_key
from workers.effects import moment


def refusals(road: Road) -> list[SetAside]:
    """What was set aside, newest first."""
    with road.app.database.read() as connection:
        return setaside.newest(connection)


def publisher_as(road: Road, source: str, key: SigningKey | None) -> Publisher:
    """A publisher on the road's queue that says it is `source`."""
    return Publisher(
        road.settings.effective_broker_url,
        source=source,
        signing_key=key,
        redis_url=road.settings.effective_redis_url,
    )


@pytest.mark.parametrize(
    ("source", "key", "reason"),
    [
        ("test/upstream", None, "unsigned"),
        ("test/nobody", SIGNING_KEY, "unknown_source"),
        ("test/upstream", SigningKey.parse(fake_key(9)), "bad_signature"),
        ("byok/workers", SIGNING_KEY, "source_not_allowed"),
    ],
)
def test_an_event_that_nobody_may_send_is_set_aside_and_told(
    road: Road, source: str, key: SigningKey | None, reason: str
) -> None:
    publisher = publisher_as(road, source, key)
    with pytest.raises(Refused, match=reason):
        publisher.publish(KeyTested(key_id="k1"), account="acme", wait="claimed", timeout=20)
    publisher.close()
    (kept,) = refusals(road)
    assert (kept.reason, kept.queue, kept.account_id) == (reason, "keys", "acme")
    (told,) = road.out_events("event.rejected")
    assert told["data"] == {"event_id": kept.event_id, "reason": reason}


@pytest.mark.parametrize("shift", [timedelta(days=-4), timedelta(hours=1)])
def test_a_signature_of_another_time_is_refused(road: Road, shift: timedelta) -> None:
    event = wrap(
        KeyTested(key_id="k1"),
        event_id="stale-1",
        source="test/upstream",
        time=moment(road.app.effects) + shift,
        account="acme",
        sign=SIGNING_KEY.sign,
    )
    road.app.publisher.send("keys", "keys_event", event.to_json())
    road.until(lambda: refusals(road))
    assert refusals(road)[0].reason == "stale_signature"


def test_a_publisher_hears_that_its_event_is_in_the_store(road: Road) -> None:
    road.account()
    publisher = publisher_as(road, "test/upstream", SIGNING_KEY)
    asyncio.run(
        publisher.publish_async(
            KeyTested(key_id="unknown"), account="acme", wait="claimed", timeout=20
        )
    )
    publisher.close()


def test_a_publisher_hears_when_nobody_claims(road: Road) -> None:
    road.stop_working()
    publisher = publisher_as(road, "test/upstream", SIGNING_KEY)
    with pytest.raises(NotClaimed):
        publisher.publish(KeyTested(key_id="k"), account="acme", wait="claimed", timeout=0.2)
    publisher.close()


def test_a_full_queue_refuses_more(road: Road) -> None:
    road.stop_working()
    publisher = Publisher(
        road.settings.effective_broker_url,
        source="test/upstream",
        signing_key=SIGNING_KEY,
        depth_limit=2,
    )
    for _ in range(2):
        publisher.publish(KeyTested(key_id="k"), account="acme")
    with pytest.raises(EventRefused, match="holds 2 messages") as refused:
        publisher.publish(KeyTested(key_id="k"), account="acme")
    assert refused.value.reason == "queue_full"
    publisher.close()


def test_a_readable_key_does_not_leave_the_publisher(road: Road) -> None:
    with pytest.raises(EventRefused) as refused:
        road.publish(KeyTested(key_id=GOOD_OPENAI), "acme")
    assert refused.value.reason == "readable_key"
    assert GOOD_OPENAI not in str(refused.value)


def test_a_readable_key_of_a_foreign_publisher_is_kept_nowhere(road: Road) -> None:
    event = wrap(
        KeyTested(key_id=GOOD_OPENAI),
        event_id="leak-1",
        source="test/upstream",
        time=moment(road.app.effects),
        account="acme",
        sign=SIGNING_KEY.sign,
    )
    road.app.publisher.send("keys", "keys_event", event.to_json())
    road.until(lambda: road.out_events("event.rejected"))
    (kept,) = refusals(road)
    assert kept.reason == "readable_key"
    with road.app.database.read() as connection:
        assert GOOD_OPENAI.encode() not in setaside.payload(connection, road.app.vault, kept.id)
    road.until(lambda: not in_queue_files(road, GOOD_OPENAI))


def in_queue_files(road: Road, secret: str) -> bool:
    """Whether `secret` is in an append-only file of the queue, where we can look into it."""
    url = road.settings.effective_broker_url
    if url.startswith("amqp"):
        return False
    with redis.Redis.from_url(url) as client:
        settings = client.config_get("*")
        if settings["appendonly"] != "yes":
            return False
        directory = Path(settings["dir"]) / settings["appenddirname"]
        try:
            return any(secret.encode() in file.read_bytes() for file in directory.iterdir())
        except FileNotFoundError:
            # A file was replaced while we looked: look again.
            return True


def test_a_subscriber_gets_what_it_asked_for_and_goes_on_where_it_stopped(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    road.ended(road.ask())
    road.out_events("analysis.completed")
    stop = threading.Event()
    seen: list[Envelope] = []

    class Crash(Exception):
        """The handler's own trouble."""

    def crash(event: Envelope) -> None:
        seen.append(event)
        raise Crash

    url = road.settings.effective_redis_url
    with pytest.raises(Crash):
        subscribe("mailprism", [KeyStatusChanged], crash, redis_url=url)
    (lost,) = seen

    def take(event: Envelope) -> None:
        seen.append(event)
        if isinstance(event.data, AnalysisCompleted):
            stop.set()

    types = [KeyStatusChanged, AnalysisCompleted]
    subscribe("mailprism", types, take, redis_url=url, stop=stop)
    assert [event.id for event in seen].count(lost.id) == 2
    assert isinstance(seen[1].data, KeyStatusChanged)
    assert seen[1].data.key_id == key_id
    assert [type(event.data) for event in seen[1:]] == [
        KeyStatusChanged,
        KeyStatusChanged,
        AnalysisCompleted,
    ]


def test_a_key_event_ahead_of_its_account_waits_for_it(road: Road) -> None:
    key_id = road.give_key(settled=False)
    road.until(lambda: road.waiting_events() == 1)
    assert road.key(key_id) is None
    road.account()
    road.until(lambda: (k := road.key(key_id)) is not None and k.status == "valid")
    assert road.waiting_events() == 0


def test_a_key_id_of_another_account_is_refused(road: Road) -> None:
    road.account()
    road.account("other")
    key_id = road.give_key()
    road.give_key(account="other", key_id=key_id, settled=False)
    road.until(lambda: refusals(road))
    assert refusals(road)[0].reason == "key_id_taken"
    key = road.key(key_id)
    assert key is not None
    assert (key.account_id, key.status) == ("acme", "valid")


def test_a_key_sealed_for_another_account_does_not_open(road: Road) -> None:
    road.account()
    sealed = road.sealed_key(GOOD_OPENAI, "other", Provider.OPENAI, "k1")
    road.publish(
        KeyAdded(revision=2, provider=Provider.OPENAI, key_id="k1", sealed_key=sealed), "acme"
    )
    road.until(lambda: refusals(road))
    assert refusals(road)[0].reason == "seal_broken"
    assert road.key("k1") is None


@pytest.mark.parametrize("services", ["postgresql-rabbitmq"], indirect=True)
def test_a_publisher_goes_on_where_the_broker_has_lost_its_queues(road: Road) -> None:
    road.account()
    road.stop_working()
    url = pika.URLParameters(road.settings.effective_broker_url)
    with pika.BlockingConnection(url) as connection:
        connection.channel().queue_delete("accounts")
    assert road.app.publisher.depth("accounts") == 0
