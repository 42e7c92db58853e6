"""Publishing: one event, one message, on the queue that takes it."""

import errno
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from dramatiq import Message

from events import (
    AccountUpdated,
    CreditPeriod,
    EventRefused,
    KeyRemoved,
    KeyTested,
    NotClaimed,
    Provider,
    Publisher,
    UsageRecorded,
    claims,
    read_event,
)
from events.broker import NAMESPACE, BrokerAway, actor_of, redis_client, scheme_of
from events.publisher import from_environment
from events.usage import CreditsExhausted, EventRejected
from tests.chaos.proxy import Proxy
from tests.integration.process.running import until
from tests.road import fake_key

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class Desk:
    """A publisher on a queue of its own, with a clock that stands and ids that count."""

    publisher: Publisher
    queue: "redis.Redis"

    def messages(self, queue: str) -> list[Message[object]]:
        """What lies on a queue, oldest first."""
        ids = self.queue.lrange(f"{NAMESPACE}:{queue}", 0, -1)
        stored: Any = self.queue.hmget(f"{NAMESPACE}:{queue}.msgs", ids) if ids else []
        return [Message.decode(raw) for raw in stored]


@pytest.fixture
def desk(valkey: str) -> Iterator[Desk]:
    ids = (f"id-{number}" for number in count())
    with redis.Redis.from_url(f"{valkey}?db=0") as queue:
        queue.flushdb()
        publisher = Publisher(
            f"{valkey}?db=0", source="upstream/tests", now=lambda: NOW, new_id=lambda: next(ids)
        )
        yield Desk(publisher, queue)
        publisher.close()


def test_an_event_is_one_message_for_the_actor_of_its_queue(desk: Desk) -> None:
    desk.publisher.publish(KeyTested(key_id="key-1"), account="acme")
    (message,) = desk.messages("keys")
    assert (message.queue_name, message.actor_name) == ("keys", actor_of("keys"))
    (raw,) = message.args
    assert isinstance(raw, str)
    read = read_event(raw)
    assert (read.subject, read.source, read.time) == ("acme", "upstream/tests", NOW)
    assert read.data == KeyTested(key_id="key-1")


def test_each_event_has_an_id_of_its_own_unless_it_is_given(desk: Desk) -> None:
    data = KeyTested(key_id="key-1")
    first = desk.publisher.publish(data, account="acme")
    second = desk.publisher.publish(data, account="acme")
    third = desk.publisher.publish(data, account="acme", event_id="chosen")
    assert len({first.id, second.id, third.id}) == 3
    assert third.id == "chosen"


def test_what_is_published_is_what_the_workers_read(desk: Desk) -> None:
    unlimited = AccountUpdated(
        revision=1,
        plan="enterprise",
        ai_consent=True,
        credits=None,
        credit_period=CreditPeriod(start=NOW, end=NOW + timedelta(days=30)),
    )
    desk.publisher.publish(unlimited, account="acme")
    (raw,) = desk.messages("accounts")[0].args
    assert isinstance(raw, str)
    assert read_event(raw).data == unlimited


@pytest.mark.parametrize(
    "data",
    [EventRejected(event_id="e", reason="r"), CreditsExhausted(period_start="0", limit=1)],
)
def test_an_out_event_cannot_be_published_on_a_queue(
    desk: Desk, data: EventRejected | CreditsExhausted
) -> None:
    with pytest.raises(EventRefused) as caught:
        desk.publisher.publish(data, account="acme")
    assert caught.value.reason == "not_incoming"


@pytest.mark.parametrize("account", ["", "two words", "*"])
def test_an_event_about_no_account_is_refused_before_it_is_on_the_queue(
    desk: Desk, account: str
) -> None:
    data = KeyRemoved(revision=1, provider=Provider.OPENAI, key_id="key-1")
    with pytest.raises(EventRefused) as caught:
        desk.publisher.publish(data, account=account)
    assert caught.value.reason == "invalid_event"
    assert desk.messages("keys") == []


def test_a_wait_that_there_is_not_is_refused_before_it_is_on_the_queue(desk: Desk) -> None:
    removed = KeyRemoved(revision=1, provider=Provider.OPENAI, key_id="k")
    wrong: Any = "claimd"
    with pytest.raises(ValueError, match=r'^wait takes "queued" or "claimed"\.$'):
        desk.publisher.publish(removed, account="acme", wait=wrong)
    assert desk.messages("keys") == []


def test_an_event_that_is_too_large_is_refused_before_it_is_on_the_queue(desk: Desk) -> None:
    data = UsageRecorded(rows=({"text": "x" * 300_000},))
    with pytest.raises(EventRefused) as caught:
        desk.publisher.publish(data, account="acme")
    assert caught.value.reason == "too_large"
    assert desk.messages("usage") == []


def test_a_message_says_no_more_than_its_event(desk: Desk) -> None:
    desk.publisher.publish(KeyTested(key_id="key-1"), account="acme")
    (message,) = desk.messages("keys")
    assert message.kwargs == {}
    assert set(message.options) <= {"redis_message_id"}
    assert json.loads(str(message.args[0]))["type"] == "byok.key.tested.v1"


@pytest.mark.parametrize(
    "url", ["redis://h:1/0", "rediss://h:1/0", "unix:///run/x.sock", "amqp://h", "amqps://h"]
)
def test_the_queue_is_named_by_the_scheme_of_its_url(url: str) -> None:
    assert url.startswith(f"{scheme_of(url)}://")


@pytest.mark.parametrize("url", ["http://h", "localhost:6379", "", "kafka://h"])
def test_another_scheme_is_told_in_one_sentence(url: str) -> None:
    with pytest.raises(ValueError, match="BYOK_BROKER_URL has the scheme"):
        scheme_of(url)


def test_a_queue_that_is_away_is_told_as_such() -> None:
    away = Publisher("redis://127.0.0.1:9/0", source="upstream/tests")
    with pytest.raises(BrokerAway, match="BYOK_BROKER_URL"):
        away.publish(KeyTested(key_id="key-1"), account="acme")
    away.close()


def test_a_queue_that_is_full_is_told_as_one_that_took_nothing(desk: Desk) -> None:
    desk.queue.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerAway):
            desk.publisher.publish(KeyTested(key_id="key-1"), account="acme")
    finally:
        desk.queue.config_set("maxmemory", 0)
    assert desk.messages("keys") == []


def test_a_publisher_that_cannot_hear_the_answer_is_told_to_publish_again() -> None:
    client = redis_client("redis://127.0.0.1:9/0", max_connections=2)
    with pytest.raises(NotClaimed, match="publish it again"):
        claims.wait(client, "nobody-answers", "event-1", 0.2)
    client.close()


def test_an_answer_is_heard_though_the_connection_was_lost_meanwhile(valkey: str) -> None:
    proxy = Proxy(Path(valkey.removeprefix("unix://")))
    client = redis_client(f"redis://127.0.0.1:{proxy.port}/1", max_connections=2)
    with redis.Redis.from_url(f"{valkey}?db=1") as answers, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(claims.wait, client, "cut-off", "event-1", 20)
        until(lambda: answers.info("clients")["blocked_clients"], "the publisher waits")
        proxy.cut()
        until(lambda: not answers.info("clients")["blocked_clients"], "it was cut off")
        claims.answer(answers, "cut-off")
        waiting.result(20)
    client.close()
    proxy.close()


def test_what_a_publisher_is_given_may_lie_in_files(
    valkey: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"BROKER_URL": f"{valkey}?db=0", "SIGNING_KEY": fake_key(3)}.items():
        (tmp_path / name).write_text(f"{value}\n")
        monkeypatch.delenv(f"BYOK_{name}", raising=False)
        monkeypatch.setenv(f"BYOK_{name}_FILE", str(tmp_path / name))
    publisher = from_environment()
    event = publisher.publish(KeyTested(key_id="key-1"), account="acme")
    publisher.close()
    assert event.signature is not None
    monkeypatch.setenv("BYOK_BROKER_URL_FILE", str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="BYOK_BROKER_URL_FILE names a file that cannot be read"):
        from_environment()


def test_a_publisher_may_wait_for_longer_than_one_command_takes(valkey: str) -> None:
    client = redis_client(f"{valkey}?db=1", max_connections=2, timeout=1.2)
    with pytest.raises(NotClaimed):
        claims.wait(client, "nobody-answers", "event-1", 1.5)
    client.close()


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps(
            {"queue_name": "keys", "actor_name": "keys_event", "args": [], "kwargs": {}}
            | {"options": None, "message_id": "m", "message_timestamp": 0}
        ).encode(),
        b'{"type": "byok.key.tested.v1"}',
    ],
    ids=["a-message-in-part", "an-event"],
)
def test_what_was_set_aside_goes_to_the_actor_of_its_queue(desk: Desk, payload: bytes) -> None:
    desk.publisher.resend("keys", payload)
    (message,) = desk.messages("keys")
    assert (message.actor_name, message.args) == (actor_of("keys"), (payload.decode(),))


@pytest.mark.parametrize("payload", [b"", b"no message", b'{"\xff', b"[1]"])
def test_what_is_neither_event_nor_message_is_not_sent(desk: Desk, payload: bytes) -> None:
    with pytest.raises(EventRefused) as caught:
        desk.publisher.resend("keys", payload)
    assert caught.value.reason == "not_a_message"
    assert desk.messages("keys") == []


def test_a_rabbitmq_that_resets_a_new_connection_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_gone(_: socket.socket) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    # As it is where the reset comes before pika has looked at what it connected to.
    monkeypatch.setattr(socket.socket, "getpeername", is_gone)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        publisher = Publisher(f"amqp://guest:guest@127.0.0.1:{port}", source="upstream/tests")
        for ask in (
            lambda: publisher.depth("keys"),
            lambda: publisher.send("keys", actor_of("keys"), "{}"),
        ):
            with pytest.raises(BrokerAway):
                ask()
