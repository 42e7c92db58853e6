"""Somebody writes into the database: nothing opens, each with a clear reason and a metric."""

import pytest
from sqlalchemy import select, update

from store import keys, setaside
from store.engine import Database
from store.masterkeys import DoesNotOpen, MasterKeyMissing
from store.schema import data_keys
from tests.integration.keys.keeping import (
    NEW,
    change_key,
    counted,
    fake_secret,
    history_of,
    put_key,
    row_of,
    stored_key,
    vault_of,
)
from tests.road import Road, fake_key
from tests.unit.workers.standins import stand_in_app
from workers.app import App
from workers.keys.validation import UNREADABLE, validate

SECRET = ("master_key_id", "wrapped_key", "ciphertext")
PLACES = {
    "key-1": {"account": "acme", "provider": "openai", "key_id": "key-1"},
    "key-2": {"account": "acme", "provider": "anthropic", "key_id": "key-2"},
    "key-3": {"account": "other", "provider": "openai", "key_id": "key-3"},
}


@pytest.fixture
def kept(app: App) -> App:
    """An app with three keys: of two providers, and of two accounts."""
    for number, (key_id, place) in enumerate(PLACES.items()):
        put_key(
            app.database,
            app.vault,
            key_id,
            account=place["account"],
            provider=place["provider"],
            secret=fake_secret(number),
        )
    return app


def opened(app: App, key_id: str) -> str:
    """A key, opened as the row says whose it is."""
    row = row_of(app.database, key_id)
    return app.vault.open_key(
        stored_key(app.database, key_id),
        account=row.account_id,
        provider=row.provider,
        key_id=row.key_id,
    )


def is_unreadable(app: App, key_id: str) -> None:
    """The key does not open, its validation says so, once, and it is counted."""
    with pytest.raises(DoesNotOpen, match="altered or moved"):
        opened(app, key_id)
    before = counted(app.instruments, "DoesNotOpen")
    validate(app, key_id)
    assert counted(app.instruments, "DoesNotOpen") == before + 1
    row = row_of(app.database, key_id)
    assert (row.status, row.reason) == ("invalid", UNREADABLE)
    # Nobody was asked: the stand-in app has no provider.
    assert "providers" not in app.__dict__


@pytest.mark.parametrize("column", ["ciphertext", "wrapped_key"])
def test_no_byte_of_a_stored_key_may_be_flipped(kept: App, column: str) -> None:
    whole: bytes = getattr(row_of(kept.database, "key-1"), column)
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 1 << place % 8
        change_key(kept.database, "key-1", **{column: bytes(altered)})
        is_unreadable(kept, "key-1")
    assert counted(kept.instruments, "DoesNotOpen") == len(whole)
    change_key(kept.database, "key-1", **{column: whole})
    assert opened(kept, "key-1") == fake_secret(0)


@pytest.mark.parametrize("column", ["ciphertext", "wrapped_key"])
@pytest.mark.parametrize("length", [0, 1, 12, 28, 40])
def test_no_stored_key_may_be_cut(kept: App, column: str, length: int) -> None:
    whole: bytes = getattr(row_of(kept.database, "key-1"), column)
    change_key(kept.database, "key-1", **{column: whole[:length]})
    is_unreadable(kept, "key-1")


@pytest.mark.parametrize("column", ["wrapped_key", "master_key_id"])
def test_a_key_whose_row_lost_a_part_is_unreadable_and_no_crash(kept: App, column: str) -> None:
    change_key(kept.database, "key-1", **{column: None})
    with kept.database.read() as connection:
        assert keys.stored_key(connection, "key-1") is None
    validate(kept, "key-1")
    row = row_of(kept.database, "key-1")
    assert (row.status, row.reason) == ("invalid", UNREADABLE)
    assert counted(kept.instruments, "DoesNotOpen") == 1


@pytest.mark.parametrize("to", ["key-2", "key-3"], ids=["another-provider", "another-account"])
@pytest.mark.parametrize(
    "columns",
    [SECRET, ("ciphertext",), ("wrapped_key",), ("wrapped_key", "ciphertext")],
    ids="+".join,
)
def test_what_is_copied_from_another_row_does_not_open(
    kept: App, to: str, columns: tuple[str, ...]
) -> None:
    source = row_of(kept.database, "key-1")
    change_key(kept.database, to, **{name: getattr(source, name) for name in columns})
    is_unreadable(kept, to)
    assert opened(kept, "key-1") == fake_secret(0)


def test_two_rows_that_were_swapped_open_neither_way(kept: App) -> None:
    one, other = (row_of(kept.database, key_id) for key_id in ("key-1", "key-3"))
    for key_id, source in (("key-1", other), ("key-3", one)):
        change_key(kept.database, key_id, **{name: getattr(source, name) for name in SECRET})
    is_unreadable(kept, "key-1")
    is_unreadable(kept, "key-3")


@pytest.mark.parametrize(
    ("column", "to"), [("account_id", "thief"), ("provider", "anthropic"), ("key_id", "key-9")]
)
def test_a_row_that_was_given_to_somebody_else_does_not_open(
    kept: App, column: str, to: str
) -> None:
    change_key(kept.database, "key-1", **{column: to})
    is_unreadable(kept, to if column == "key_id" else "key-1")


# Master-key ids


def test_the_id_of_another_master_key_that_is_held_does_not_open(
    database: Database, kept: App
) -> None:
    both = stand_in_app(
        kept.settings.state_dir, database, master_keys=f"{fake_key(2)},{fake_key(1)}"
    )
    put_key(database, vault_of(NEW), "key-4", account="acme", secret=fake_secret(4))
    for key_id, named in (("key-1", "t2"), ("key-4", "t1")):
        change_key(database, key_id, master_key_id=named)
        is_unreadable(both, key_id)


def test_a_master_key_that_is_not_held_leaves_the_key_as_it_is(kept: App) -> None:
    change_key(kept.database, "key-1", master_key_id="t9")
    with pytest.raises(MasterKeyMissing, match="'t9'"):
        opened(kept, "key-1")
    for expected in (1, 2):
        validate(kept, "key-1")
        assert counted(kept.instruments, "MasterKeyMissing") == expected
    row = row_of(kept.database, "key-1")
    assert (row.status, row.reason, row.tested_at) == ("valid", "ok", None)
    assert row.validation_failures == 2
    assert row.validate_at > kept.effects.now_ms()
    # When the operator has mended it, nothing has been lost.
    change_key(kept.database, "key-1", master_key_id="t1")
    assert opened(kept, "key-1") == fake_secret(0)


def test_an_unreadable_key_is_told_once_and_comes_back_when_it_is_restored(kept: App) -> None:
    whole = row_of(kept.database, "key-1").ciphertext
    change_key(kept.database, "key-1", ciphertext=whole[:-1])
    for _ in range(3):
        validate(kept, "key-1")
    assert [(e.old_status, e.new_status, e.reason) for e in history_of(kept.database, "key-1")] == [
        (None, "valid", "ok"),
        ("valid", "invalid", UNREADABLE),
    ]
    row = row_of(kept.database, "key-1")
    # Looked at again as any Invalid key is.
    assert row.validate_at > kept.effects.now_ms() + 3_600_000


# An account's own data key


@pytest.fixture
def texts(app: App) -> tuple[App, bytes]:
    """An app, and a text of an account's under its data key."""
    with app.database.write() as connection:
        app.vault.encrypt(connection, "other", "purpose", b"text", app.effects.now_ms())
        return app, app.vault.encrypt(connection, "acme", "purpose", b"text", app.effects.now_ms())


def wrapped_of(database: Database, scope: str) -> bytes:
    with database.read() as connection:
        found: bytes = connection.execute(
            select(data_keys.c.wrapped_key).where(data_keys.c.scope == scope)
        ).scalar_one()
    return found


def set_wrapped(database: Database, scope: str, wrapped: bytes) -> None:
    with database.write() as connection:
        connection.execute(
            update(data_keys).where(data_keys.c.scope == scope).values(wrapped_key=wrapped)
        )


def test_no_byte_of_an_accounts_data_key_may_be_flipped(texts: tuple[App, bytes]) -> None:
    app, text = texts
    whole = wrapped_of(app.database, "acme")
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 1 << place % 8
        set_wrapped(app.database, "acme", bytes(altered))
        with app.database.read() as connection, pytest.raises(DoesNotOpen):
            app.vault.decrypt(connection, "acme", "purpose", text)
    set_wrapped(app.database, "acme", wrapped_of(app.database, "other"))
    with app.database.read() as connection, pytest.raises(DoesNotOpen):
        app.vault.decrypt(connection, "acme", "purpose", text)


# The whole road


both_stores = pytest.mark.parametrize(
    "services", ["sqlite-valkey", "postgresql-valkey"], indirect=True
)


def spoil(road: Road, key_id: str) -> None:
    """Flip a bit of a key's ciphertext."""
    altered = bytearray(row_of(road.app.database, key_id).ciphertext)
    altered[-1] ^= 1
    change_key(road.app.database, key_id, ciphertext=bytes(altered))


@both_stores
def test_requests_on_a_spoilt_key_end_with_a_reason_and_its_owner_is_told(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    spoil(road, key_id)
    request = road.ended(road.ask())
    assert (request.state, request.reason) == ("failed", "key_unreadable")
    road.until(lambda: (k := road.key(key_id)) is not None and k.status == "invalid")
    key = road.key(key_id)
    assert key is not None
    assert key.reason == UNREADABLE
    request = road.ended(road.ask())
    assert (request.state, request.reason) == ("failed", "key_invalid")
    assert road.sandbox.bill() == []
    (told,) = [e for e in road.out_events("key.status_changed") if e["data"]["new"] == "invalid"]
    assert (told["data"]["old"], told["data"]["reason"]) == ("valid", UNREADABLE)


@both_stores
def test_requests_on_a_key_whose_master_key_is_missing_wait_for_it(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.analyses.retry.FIRST_PAUSE_SECONDS", 0.01)
    road.account()
    key_id = road.give_key()
    change_key(road.app.database, key_id, master_key_id="t9")
    request_id = road.ask()
    road.until(
        lambda: (r := road.request(request_id)) is not None and r.reason == "master_key_unavailable"
    )
    key = road.key(key_id)
    assert key is not None
    assert (key.status, key.reason) == ("valid", "ok")
    change_key(road.app.database, key_id, master_key_id="t1")
    request = road.ended(request_id)
    assert (request.state, request.key_id) == ("completed", key_id)


@both_stores
def test_a_message_for_an_account_whose_data_key_was_spoilt_is_set_aside_with_its_reason(
    road: Road,
) -> None:
    road.account()
    road.ended(road.ask())
    wrapped = wrapped_of(road.app.database, "acme")
    set_wrapped(road.app.database, "acme", wrapped[:-1] + bytes([wrapped[-1] ^ 1]))
    road.ask()

    def kept() -> list[setaside.SetAside]:
        with road.app.database.read() as connection:
            return setaside.newest(connection)

    road.until(kept)
    (item,) = kept()
    assert item.reason == "vault_unreadable"
    assert "does not open (DoesNotOpen)" in item.sentence
    assert counted(road.worker_app.instruments, "DoesNotOpen") > 0
    # Nobody else is held up.
    road.account("other")
    assert road.ended(road.ask("other"), "other").state == "completed"
