"""Events that wait for their account, cooldowns, and what was set aside."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from store import cooldowns, setaside, waiting
from store.engine import Database
from store.masterkeys import DoesNotOpen
from store.schema import set_aside
from store.setaside import SetAside
from store.waiting import WaitingEvent
from workers.app import App

NOW = 1_767_268_800_000
EVENT = WaitingEvent(
    event_id="event-1", account_id="acme", queue="keys", envelope="{}", until_at=NOW + 60_000
)
ITEM = SetAside(
    id="item-1",
    at=NOW,
    queue="keys",
    reason="not_json",
    sentence="The message is not JSON.",
    event_id=None,
    event_type=None,
    account_id=None,
)
CANARY = b"sk-proj-fake-canary-not-a-real-key-0123456789"


def test_an_event_waits_until_its_time_or_its_account(database: Database) -> None:
    with database.write() as connection:
        waiting.put(connection, EVENT)
        assert waiting.until(connection, "event-1") == NOW + 60_000
        assert not waiting.any_due(connection, NOW + 59_999)
        assert waiting.take_due(connection, NOW + 60_000, 10) == [EVENT]


def test_a_known_account_wakes_its_events_alone(database: Database) -> None:
    with database.write() as connection:
        waiting.put(connection, EVENT)
        waiting.put(connection, replace(EVENT, event_id="event-2", account_id="other"))
        waiting.wake(connection, "acme", NOW)
        assert waiting.any_due(connection, NOW)
        assert waiting.take_due(connection, NOW, 10) == [EVENT]


def test_a_repeat_does_not_prolong_the_wait(database: Database) -> None:
    with database.write() as connection:
        waiting.put(connection, EVENT)
        waiting.put(connection, replace(EVENT, until_at=NOW + 120_000))
        assert waiting.until(connection, "event-1") == NOW + 60_000


def test_a_woken_event_that_nothing_takes_comes_again(database: Database) -> None:
    again = NOW + waiting.RESEND_SECONDS * 1000
    with database.write() as connection:
        waiting.put(connection, EVENT)
        waiting.wake(connection, "acme", NOW)
        assert waiting.take_due(connection, NOW, 10) == [EVENT]
        assert waiting.take_due(connection, again - 1, 10) == []
        assert waiting.take_due(connection, again, 10) == [EVENT]


def test_an_event_that_was_taken_waits_no_more(database: Database) -> None:
    with database.write() as connection:
        waiting.put(connection, EVENT)
        waiting.remove(connection, "event-1")
        waiting.remove(connection, "event-1")
        assert waiting.until(connection, "event-1") is None
        assert not waiting.any_due(connection, NOW + 10**9)


def test_a_cooldown_holds_until_its_time(database: Database) -> None:
    key, platform = cooldowns.key_scope("key-1"), cooldowns.platform_scope("openai")
    with database.write() as connection:
        cooldowns.set_until(connection, key, NOW + 10, "rate_limited")
        assert cooldowns.active(connection, [key, platform], NOW) == {key: NOW + 10}
        assert cooldowns.active(connection, [key], NOW + 10) == {}
        assert cooldowns.active(connection, [platform], NOW) == {}


def test_a_cooldown_is_made_longer_and_never_shorter(database: Database) -> None:
    scope = cooldowns.key_scope("key-1")
    with database.write() as connection:
        cooldowns.set_until(connection, scope, NOW + 10, "rate_limited")
        cooldowns.set_until(connection, scope, NOW + 5, "no_quota")
        assert cooldowns.active(connection, [scope], NOW) == {scope: NOW + 10}
        cooldowns.set_until(connection, scope, NOW + 20, "no_quota")
        assert cooldowns.active(connection, [scope], NOW) == {scope: NOW + 20}


def test_cooldowns_that_ran_out_are_forgotten_and_no_others(database: Database) -> None:
    with database.write() as connection:
        cooldowns.set_until(connection, "past", NOW, "r")
        cooldowns.set_until(connection, "ahead", NOW + 1, "r")
        assert not cooldowns.any_past(connection, NOW - 1)
        assert cooldowns.any_past(connection, NOW)
        cooldowns.forget_past(connection, NOW)
        assert not cooldowns.any_past(connection, NOW)
        assert cooldowns.active(connection, ["past", "ahead"], 0) == {"ahead": NOW + 1}


def test_what_is_set_aside_is_kept_once_with_its_newest_reason(app: App) -> None:
    again = replace(ITEM, reason="other", at=NOW + 1)
    with app.database.write() as connection:
        assert setaside.put(connection, app.vault, ITEM, b"the same")
        assert not setaside.put(connection, app.vault, again, b"the same")
        assert setaside.newest(connection) == [again]
        assert setaside.payload(connection, app.vault, "item-1") == b"the same"
        assert setaside.find(connection, "item-2") is None
        assert setaside.copy(connection, app.vault, "item-2") is None


def test_what_is_set_aside_again_is_not_what_was_copied_before(app: App) -> None:
    with app.database.write() as connection:
        setaside.put(connection, app.vault, ITEM, b"the same")
        before = setaside.copy(connection, app.vault, "item-1")
        # In the same millisecond, for the same reason.
        setaside.put(connection, app.vault, ITEM, b"the same")
        after = setaside.copy(connection, app.vault, "item-1")
        assert before is not None
        assert after is not None
        assert not setaside.remove_copied(connection, "item-1", before)
        assert setaside.remove_copied(connection, "item-1", after)
        assert setaside.newest(connection) == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_what_is_set_aside_again_while_it_is_removed_is_kept(app: App) -> None:
    with app.database.write() as connection:
        setaside.put(connection, app.vault, ITEM, b"the same")

    @event.listens_for(app.database.engine, "after_cursor_execute")
    def _remove(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO set_aside") and "DO NOTHING" in statement:
            with app.database.write() as other:
                setaside.remove(other, "item-1")

    with app.database.write() as connection:
        assert not setaside.put(connection, app.vault, ITEM, b"the same")
    with app.database.read() as connection:
        assert setaside.newest(connection) == [ITEM]


def test_the_newest_is_told_first(app: App) -> None:
    with app.database.write() as connection:
        for number in (2, 1, 3):
            item = replace(ITEM, id=f"item-{number}", at=NOW + number, queue=f"q{number % 2}")
            setaside.put(connection, app.vault, item, b"")
        told = [item.id for item in setaside.newest(connection, 2)]
        assert told == ["item-3", "item-2"]
        assert setaside.counts(connection) == {("q1", "not_json"): 2, ("q0", "not_json"): 1}


def test_what_is_set_aside_is_not_readable_where_it_lies(app: App) -> None:
    with app.database.write() as connection:
        setaside.put(connection, app.vault, ITEM, b'{"key": "' + CANARY + b'"}')
    with app.database.read() as connection:
        stored = connection.execute(select(set_aside.c.payload)).scalar_one()
        assert CANARY not in stored
        assert CANARY in setaside.payload(connection, app.vault, "item-1")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_no_file_of_the_database_holds_what_is_set_aside(app: App) -> None:
    with app.database.write() as connection:
        setaside.put(connection, app.vault, ITEM, CANARY)
        # Where files are searched, something that is there has to be found.
        setaside.put(connection, app.vault, replace(ITEM, id="control-0123456789"), b"")
    directory = Path(app.database.url.database or "").parent
    files = [path.read_bytes() for path in directory.iterdir() if path.is_file()]
    assert any(b"control-0123456789" in content for content in files)
    assert not any(CANARY[:12] in content for content in files)


def test_a_payload_moved_to_another_item_does_not_open(app: App) -> None:
    with app.database.write() as connection:
        setaside.put(connection, app.vault, ITEM, b"one")
        setaside.put(connection, app.vault, replace(ITEM, id="item-2"), b"two")
        one = connection.execute(
            select(set_aside.c.payload).where(set_aside.c.id == "item-1")
        ).scalar_one()
        connection.execute(set_aside.update().values(payload=one))
        with pytest.raises(DoesNotOpen):
            setaside.payload(connection, app.vault, "item-2")
