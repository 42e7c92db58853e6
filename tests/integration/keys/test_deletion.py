"""What a deletion of an account destroys, and the evidence that it leaves."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import select

from events import (
    AccountDeleted,
    AccountUpdated,
    CallUsage,
    CreditPeriod,
    CustomCategory,
    EventData,
    KeyAdded,
    Operation,
    Provider,
    seal_key,
)
from store import accounts, analyses, erasure, keys
from store.engine import Database
from store.masterkeys import DoesNotOpen
from store.schema import analyses as requests_table
from store.schema import data_keys, ledger
from tests.integration.keys.keeping import byok
from tests.road import GOOD_ANTHROPIC, Road
from tests.unit.workers.standins import event_of
from workers import accounts as account_events
from workers.analyses import texts
from workers.analyses.ending import Found, finish_completed
from workers.app import App
from workers.keys import lifecycle

HANDLERS = {**account_events.HANDLERS.by_type, **lifecycle.HANDLERS.by_type}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SAID = {"summary": "Ann asks for lunch."}


def deliver(app: App, data: EventData) -> None:
    """What a worker does with an event, without the queue."""
    revision = getattr(data, "revision", 0)
    HANDLERS[type(data)](app, event_of(data, event_id=f"event-{revision}"), data)


def updated(revision: int) -> AccountUpdated:
    return AccountUpdated(
        revision=revision,
        plan="business",
        ai_consent=True,
        credits=5,
        credit_period=CreditPeriod(start=NOW, end=NOW + timedelta(30)),
    )


def key_added(app: App, revision: int) -> KeyAdded:
    key_id = f"key-{revision}"
    sealed = seal_key(
        f"sk-proj-fake-not-a-real-key-{revision:04}",
        app.settings.sealing_public,
        account="acme",
        provider=Provider.OPENAI,
        key_id=key_id,
    )
    return KeyAdded(revision=revision, provider=Provider.OPENAI, key_id=key_id, sealed_key=sealed)


def accepted(app: App, request_id: str) -> analyses.Request:
    """A request that waits with a mail, in the life that the account is in."""
    now = app.effects.now_ms()
    with app.database.write() as connection:
        purpose = analyses.input_purpose(request_id)
        new = analyses.NewRequest(
            account_id="acme",
            request_id=request_id,
            event_id="event",
            digest=app.vault.of(connection, "acme", now).digest(b"content"),
            operation="summarize",
            provider_wanted="auto",
            model_wanted=None,
            input=app.vault.encrypt(connection, "acme", purpose, b"the mail", now),
            created_at=now,
            expires_at=now + 86_400_000,
        )
        assert analyses.accept(connection, new)
        found = analyses.find(connection, "acme", request_id)
    assert found is not None
    return found


def completed(app: App, request_id: str) -> None:
    """A request that has a result, with a free text."""
    request = accepted(app, request_id)
    with app.database.write() as connection:
        found = Found(signals={"priority": "high"}, texts=SAID)
        finish_completed(
            app, connection, request, found, by="rules", credential="none", usage=CallUsage()
        )


def read_back(app: App, request_id: str) -> Any:
    """(state, the input in the clear, the text in the clear) of a request."""
    with app.database.read() as connection:
        row = connection.execute(
            select(requests_table).where(requests_table.c.request_id == request_id)
        ).one()
        purpose = analyses.input_purpose(request_id)
        given = row.input and app.vault.decrypt(connection, "acme", purpose, row.input)
        said = row.result_text and texts.opened(
            app, connection, "acme", request_id, row.result_text
        )
    return row.state, given, said


def wrapped_of(database: Database) -> bytes | None:
    with database.read() as connection:
        return connection.execute(
            select(data_keys.c.wrapped_key).where(data_keys.c.scope == "acme")
        ).scalar_one_or_none()


def test_a_deletion_that_comes_late_destroys_the_life_before_it_and_leaves_the_one_after(
    app: App,
) -> None:
    deliver(app, updated(1))
    deliver(app, key_added(app, 2))
    completed(app, "old-completed")
    accepted(app, "old-waiting")
    old_wrapped = wrapped_of(app.database)
    assert old_wrapped is not None
    deliver(app, updated(5))
    completed(app, "new-completed")
    accepted(app, "new-waiting")
    deliver(app, AccountDeleted(revision=3))
    assert read_back(app, "old-completed") == ("completed", None, None)
    assert read_back(app, "old-waiting") == ("skipped", None, None)
    assert read_back(app, "new-completed") == ("completed", None, SAID)
    assert read_back(app, "new-waiting") == ("waiting", b"the mail", None)
    assert wrapped_of(app.database) not in (None, old_wrapped)
    with app.database.read() as connection:
        evidence = erasure.find(connection, "acme", 3)
        assert accounts.find(connection, "acme") is not None
        assert keys.active(connection, "acme") == {}
    assert evidence is not None
    assert evidence.destroyed["keys"] == ["key-2"]
    counts = {name: evidence.destroyed[name] for name in ("data_keys", "requests_ended", "texts")}
    assert counts == {"data_keys": 2, "requests_ended": 1, "texts": 1}


def test_what_was_encrypted_before_a_late_deletion_opens_with_nothing_that_is_left(
    app: App,
) -> None:
    deliver(app, updated(1))
    request = accepted(app, "old")
    with app.database.read() as connection:
        stolen = analyses.sealed_input(connection, "acme", request.request_id)
    assert stolen is not None
    deliver(app, updated(5))
    accepted(app, "new")
    deliver(app, AccountDeleted(revision=3))
    with app.database.read() as connection, pytest.raises(DoesNotOpen):
        app.vault.decrypt(connection, "acme", analyses.input_purpose("old"), stolen)


@pytest.mark.parametrize("order", [*permutations((1, 2, 3, 4))], ids=str)
def test_in_whatever_order_a_deletion_comes_no_secret_of_the_life_before_it_is_left(
    app: App, order: tuple[int, ...]
) -> None:
    events: dict[int, EventData] = {
        1: updated(1),
        2: key_added(app, 2),
        3: AccountDeleted(revision=3),
        4: updated(4),
    }
    for number in order:
        deliver(app, events[number])
    with app.database.read() as connection:
        assert keys.active(connection, "acme") == {}
        assert erasure.left(connection, "acme")["keys"] == 0
        found = accounts.find(connection, "acme")
    assert found is not None
    assert found.revision == 4


def test_a_deletion_that_is_repeated_destroys_nothing_more(app: App) -> None:
    deliver(app, updated(1))
    completed(app, "old")
    deliver(app, AccountDeleted(revision=3))
    deliver(app, updated(5))
    completed(app, "new")
    wrapped = wrapped_of(app.database)
    for _ in range(2):
        deliver(app, AccountDeleted(revision=3))
    assert read_back(app, "new") == ("completed", None, SAID)
    assert wrapped_of(app.database) == wrapped


def test_a_message_that_comes_again_after_a_late_deletion_is_no_conflict(app: App) -> None:
    deliver(app, updated(1))
    deliver(app, updated(5))
    accepted(app, "new")
    deliver(app, AccountDeleted(revision=3))
    with app.database.read() as connection:
        request = analyses.find(connection, "acme", "new")
    assert request is not None
    # What the digest was made with is gone, so that it is not compared.
    assert (request.state, request.digest) == ("waiting", b"")


def test_a_text_that_does_not_open_keeps_no_deletion_from_happening(app: App) -> None:
    deliver(app, updated(1))
    deliver(app, updated(5))
    accepted(app, "spoilt")
    accepted(app, "whole")
    with app.database.write() as connection:
        connection.execute(
            requests_table.update()
            .where(requests_table.c.request_id == "spoilt")
            .values(input=b"something else that is long enough")
        )
    deliver(app, AccountDeleted(revision=3))
    assert read_back(app, "whole") == ("waiting", b"the mail", None)


def test_a_key_id_stays_its_accounts_after_the_account_is_gone(app: App) -> None:
    deliver(app, updated(1))
    deliver(app, key_added(app, 2))
    deliver(app, AccountDeleted(revision=3))
    with app.database.write() as connection, pytest.raises(keys.KeyIdTaken):
        keys.refuse_foreign_id(connection, "thief", "key-2")


@pytest.mark.parametrize("services", ["sqlite-valkey", "postgresql-valkey"], indirect=True)
def test_the_command_prints_what_was_destroyed_and_that_nothing_is_left(road: Road) -> None:
    category = CustomCategory(key="invoices", display_name="Invoices", type="category")
    road.account(timezone="Europe/Vienna", custom_categories=(category,))
    given = [road.give_key(), road.give_key(GOOD_ANTHROPIC)]
    road.give_key("no key at all", "other", provider=Provider.OPENAI, settled=False)
    for operation in (Operation.CLASSIFY, Operation.SUMMARIZE):
        road.ended(road.ask(operation=operation))
    rows = len(road.settled_ledger())
    environment = {
        "BYOK_SIGNING_KEY": road.settings.signing_key.get_secret_value(),  # type: ignore[union-attr]  # it has one
        "BYOK_SOURCE": "test/upstream",
        "BYOK_OPERATOR": "ann",
    }
    code, told, said = byok(road.app, "account", "delete", "acme", "--json", **environment)
    assert code == 0, said
    assert (told["account"], told["deleted"], told["source"]) == (
        "acme",
        True,
        "test/upstream#ann",
    )
    assert told["destroyed"] == {
        "keys": sorted(given),
        "data_keys": 3,
        "key_settings": 2,
        "requests_ended": 0,
        "inputs": 0,
        "results": 2,
        "texts": 1,
        "set_aside": 0,
        "personal_data": {
            "plan": 1,
            "credits": 1,
            "timezone": 1,
            "custom_categories": 1,
            "category_overrides": 0,
        },
        "ledger_rows_kept": rows,
    }
    assert set(told["left"].values()) == {0}
    assert len(road.settled_ledger()) == rows
    with road.app.database.read() as connection:
        assert accounts.find_surrogate(connection, "acme") is None
        assert connection.execute(select(ledger.c.surrogate).distinct()).scalars().all() != ["acme"]
    code, _, said = byok(road.app, "account", "delete", "acme", **environment)
    assert code == 1
    assert "is not known" in said
