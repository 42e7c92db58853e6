"""`byok doctor` says when an old master key or an old sealing key can be dropped."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from events import KeyAdded, Provider, SealingKeys, seal_key
from events.sealing import sealing_keys_named
from store import migrate, rekey, setaside, waiting
from store.setaside import SetAside
from store.waiting import WaitingEvent
from tests.conftest import Services
from tests.integration.keys.keeping import OLD, change_key, put_key, vault_of
from tests.road import fake_key
from tests.unit.workers.standins import START, event_of, stand_in_settings
from workers.app import App
from workers.cli.oldkeys import tell_master_keys, tell_sealing_keys

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
BOTH = f"{fake_key(2)},{fake_key(1)}"


@pytest.fixture
def rotating(services: Services, tmp_path: Path) -> Iterator[App]:
    """An app that holds an old and a new key of each kind."""
    settings = stand_in_settings(
        tmp_path,
        broker_url=services.broker,
        redis_url=services.redis,
        database_url=services.database,
        master_keys=BOTH,
        sealing_keys=BOTH,
    )
    app = App(settings, role="test")
    migrate.upgrade(app.database)
    yield app
    app.close()


def test_an_old_master_key_can_go_when_no_data_key_is_under_it(rotating: App) -> None:
    put_key(rotating.database, vault_of(OLD), "key-1")
    assert tell_master_keys(rotating) == "2 held, current t2; t1 still needed: run `byok rekey`"
    rekey.rotate(rotating.database, rotating.vault, "t2", lambda _: None)
    assert "; t1 can be dropped" in tell_master_keys(rotating)


def test_a_master_key_that_is_needed_and_not_held_is_named(rotating: App) -> None:
    put_key(rotating.database, vault_of(OLD), "key-1")
    change_key(rotating.database, "key-1", master_key_id="t9")
    with pytest.raises(ValueError, match="need t9, which BYOK_MASTER_KEYS lacks"):
        tell_master_keys(rotating)


# Sealing keys


def sealed_event(key_id: str) -> str:
    """An event in JSON that was sealed for the sealing key of an id."""
    public = SealingKeys.parse(fake_key(int(key_id[1:]))).current
    sealed = seal_key(
        "sk-proj-fake-not-a-real-key",
        public,
        account="acme",
        provider=Provider.OPENAI,
        key_id="key-1",
    )
    data = KeyAdded(revision=1, provider=Provider.OPENAI, key_id="key-1", sealed_key=sealed)
    return event_of(data).to_json()


def wait_for_account(app: App, key_id: str) -> None:
    event = WaitingEvent(
        event_id="e-1",
        account_id="acme",
        queue="keys",
        envelope=sealed_event(key_id),
        until_at=START,
    )
    with app.database.write() as connection:
        waiting.put(connection, event)


def set_aside(app: App, key_id: str) -> None:
    item = SetAside(
        id="i-1",
        at=START,
        queue="keys",
        reason="seal_broken",
        sentence="It does not open.",
        event_id=None,
        event_type=None,
        account_id=None,
    )
    with app.database.write() as connection:
        setaside.put(connection, app.vault, item, sealed_event(key_id).encode())


def lie_on_the_queue(app: App, key_id: str) -> None:
    app.publisher.send("keys", "keys_event", sealed_event(key_id))


def lie_among_the_dead(app: App, key_id: str) -> None:
    lie_on_the_queue(app, key_id)
    queue = "byok:keys"
    client = app.publisher._broker._redis
    assert client is not None
    for message_id, message in client.hgetall(f"{queue}.msgs").items():
        client.hset(f"{queue}.XQ.msgs", message_id, message)
        client.hdel(f"{queue}.msgs", message_id)


@pytest.mark.parametrize("use", [wait_for_account, set_aside, lie_on_the_queue, lie_among_the_dead])
def test_an_old_sealing_key_stays_while_a_message_is_sealed_for_it(
    rotating: App, use: object
) -> None:
    assert callable(use)
    use(rotating, "t2")
    assert "; t1 can be dropped" in tell_sealing_keys(rotating)
    with rotating.database.write() as connection:
        waiting.remove(connection, "e-1")
        setaside.remove(connection, "i-1")
    use(rotating, "t1")
    assert tell_sealing_keys(rotating) == "2 held, current t2; still needed: t1 (by 1)"


def test_an_old_sealing_key_stays_while_a_message_that_was_set_aside_does_not_open(
    rotating: App,
) -> None:
    set_aside(rotating, "t2")
    with rotating.database.write() as connection:
        connection.exec_driver_sql("UPDATE set_aside SET payload = x'00'")
    assert "1 set-aside messages do not open" in tell_sealing_keys(rotating)


def test_what_lies_on_rabbitmq_is_said_to_be_unknown(
    rotating: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("events.broker.PublishingBroker.messages", lambda _broker, _queue: None)
    assert "what lies on RabbitMQ cannot be told" in tell_sealing_keys(rotating)


@pytest.mark.usefixtures("services")
def test_the_id_of_a_sealing_key_is_read_from_a_message_however_it_is_wrapped() -> None:
    event = sealed_event("t1")
    in_a_message = json.dumps({"args": [event]}).encode()
    for message in (event.encode(), in_a_message):
        assert sealing_keys_named(message) == {"t1"}
    assert sealing_keys_named(b'{"type": "byok.key.added.v1", "x": "v1.2"}') == set()
