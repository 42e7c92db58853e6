"""The vault: what is stored opens where it belongs, unaltered, and nowhere else."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, select, update

from store import keys
from store.engine import Database
from store.masterkeys import DoesNotOpen, LocalKeyRing, MasterKeyMissing
from store.schema import data_keys, provider_keys
from store.vault import StoredKey, Vault
from tests.unit.workers.standins import Clockwork
from workers.app import App

NOW = 1_767_268_800_000
FAKE = "sk-proj-fake-not-a-real-key-0123456789"
HERE = {"account": "acme", "provider": "openai", "key_id": "key-1"}
ONE, TWO = bytes([1]) * 32, bytes([2]) * 32


def a_vault(**master_keys: bytes) -> Vault:
    """A vault with these master keys, the first one current."""
    return Vault(LocalKeyRing(master_keys or {"m1": ONE}), Clockwork().random_bytes)


def test_a_key_opens_as_it_was_stored() -> None:
    vault = a_vault()
    assert vault.open_key(vault.store_key(FAKE, **HERE), **HERE) == FAKE


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=200))
def test_any_text_opens_as_it_was_stored(text: str) -> None:
    vault = a_vault()
    assert vault.open_key(vault.store_key(text, **HERE), **HERE) == text


def test_each_key_has_a_data_key_of_its_own() -> None:
    vault = a_vault()
    first, second = (vault.store_key(FAKE, **HERE) for _ in range(2))
    assert first.ciphertext != second.ciphertext
    assert first.wrapped_key != second.wrapped_key
    with pytest.raises(DoesNotOpen):
        vault.open_key(replace(first, wrapped_key=second.wrapped_key), **HERE)


def test_nothing_of_a_key_is_readable_in_what_is_stored() -> None:
    stored = a_vault().store_key(FAKE, **HERE)
    for piece in (FAKE, FAKE[3:12], FAKE[-8:]):
        assert piece.encode() not in stored.ciphertext + stored.wrapped_key


def test_no_byte_may_be_flipped() -> None:
    vault = a_vault()
    stored = vault.store_key(FAKE, **HERE)
    for field in ("ciphertext", "wrapped_key"):
        whole: bytes = getattr(stored, field)
        for place in range(len(whole)):
            altered = bytearray(whole)
            altered[place] ^= 1 << (place % 8)
            with pytest.raises(DoesNotOpen):
                vault.open_key(replace(stored, **{field: bytes(altered)}), **HERE)


@pytest.mark.parametrize("length", [0, 1, 11, 12, 13, 27, 28])
def test_a_cut_value_does_not_open(length: int) -> None:
    vault = a_vault()
    stored = vault.store_key(FAKE, **HERE)
    for field in ("ciphertext", "wrapped_key"):
        cut = replace(stored, **{field: getattr(stored, field)[:length]})
        with pytest.raises(DoesNotOpen):
            vault.open_key(cut, **HERE)


@pytest.mark.parametrize(
    "there",
    [
        HERE | {"account": "other"},
        HERE | {"provider": "anthropic"},
        HERE | {"key_id": "key-2"},
        {"account": "acme\nopenai", "provider": "key-1", "key_id": ""},
    ],
    ids=["account", "provider", "key-id", "shifted"],
)
def test_a_key_does_not_open_elsewhere(there: dict[str, str]) -> None:
    vault = a_vault()
    with pytest.raises(DoesNotOpen):
        vault.open_key(vault.store_key(FAKE, **HERE), **there)


def test_a_key_opens_under_an_older_master_key() -> None:
    stored = a_vault(m1=ONE).store_key(FAKE, **HERE)
    newer = a_vault(m2=TWO, m1=ONE)
    assert newer.open_key(stored, **HERE) == FAKE
    assert newer.store_key(FAKE, **HERE).master_key_id == "m2"


def test_a_key_whose_master_key_is_missing_says_which() -> None:
    stored = a_vault(m1=ONE).store_key(FAKE, **HERE)
    with pytest.raises(MasterKeyMissing, match="'m1'") as caught:
        a_vault(m2=TWO).open_key(stored, **HERE)
    assert caught.value.master_key_id == "m1"


def test_another_master_key_of_the_same_name_does_not_open() -> None:
    stored = a_vault(m1=ONE).store_key(FAKE, **HERE)
    with pytest.raises(DoesNotOpen):
        a_vault(m1=TWO).open_key(stored, **HERE)


def test_without_a_master_key_there_is_no_vault() -> None:
    with pytest.raises(ValueError, match="no master key"):
        LocalKeyRing({})


def test_master_keys_are_not_shown() -> None:
    assert repr(ONE) not in repr(LocalKeyRing({"m1": ONE}))


# In the store


def put(app: App, account: str, provider: str, key_id: str, secret: str) -> None:
    """Store a key as its event does."""
    with app.database.write() as connection:
        keys.put(
            connection,
            account_id=account,
            provider=provider,
            key_id=key_id,
            revision=1,
            status="valid",
            reason="ok",
            stored=app.vault.store_key(secret, account=account, provider=provider, key_id=key_id),
            fingerprint=app.vault.fingerprint(connection, secret, NOW),
            last4=secret[-4:],
            validate_at=None,
            cause=keys.Cause(
                name="added", event_id="e", source="s", history_id=app.effects.new_id(), now=NOW
            ),
        )


def stored(app: App, key_id: str) -> StoredKey:
    with app.database.read() as connection:
        found = keys.stored_key(connection, key_id)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("account", "provider"), [("other", "openai"), ("acme", "anthropic"), ("acme", "openai")]
)
def test_a_ciphertext_moved_to_another_row_does_not_open(
    app: App, account: str, provider: str
) -> None:
    there = {"account": account, "provider": provider, "key_id": "key-2"}
    put(app, **HERE, secret=FAKE)
    put(app, **there, secret="sk-proj-fake-of-the-other-row")
    secret = [
        provider_keys.c.master_key_id,
        provider_keys.c.wrapped_key,
        provider_keys.c.ciphertext,
    ]
    with app.database.write() as connection:
        moved = connection.execute(select(*secret).where(provider_keys.c.key_id == "key-1")).one()
        connection.execute(
            update(provider_keys).where(provider_keys.c.key_id == "key-2").values(moved._asdict())
        )
    assert app.vault.open_key(stored(app, "key-1"), **HERE) == FAKE
    with pytest.raises(DoesNotOpen):
        app.vault.open_key(stored(app, "key-2"), **there)


@pytest.mark.parametrize(
    ("column", "to"), [("account_id", "other"), ("provider", "anthropic"), ("key_id", "key-2")]
)
def test_a_row_renamed_to_another_owner_does_not_open(app: App, column: str, to: str) -> None:
    put(app, **HERE, secret=FAKE)
    with app.database.write() as connection:
        connection.execute(update(provider_keys).values({column: to}))
        found = keys.find(connection, "key-2" if column == "key_id" else "key-1")
    assert found is not None
    with pytest.raises(DoesNotOpen):
        app.vault.open_key(
            stored(app, found.key_id),
            account=found.account_id,
            provider=found.provider,
            key_id=found.key_id,
        )


def test_the_same_key_has_the_same_fingerprint_and_it_is_no_plain_hash(app: App) -> None:
    with app.database.write() as connection:
        one = app.vault.fingerprint(connection, FAKE, NOW)
        again = app.vault.fingerprint(connection, FAKE, NOW + 1)
        other = app.vault.fingerprint(connection, FAKE + "0", NOW)
    assert one == again != other
    assert len(one) == 32
    elsewhere = Vault(LocalKeyRing({"m1": ONE}), lambda count: bytes([7]) * count)
    assert one != elsewhere_fingerprint(app.database, elsewhere)


def elsewhere_fingerprint(database: Database, vault: Vault) -> bytes:
    """The fingerprint of the same key in another store."""
    with database.write() as connection:
        connection.execute(data_keys.delete())
        return vault.fingerprint(connection, FAKE, NOW)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=500))
def test_a_text_opens_for_its_account_and_purpose(app: App, content: bytes) -> None:
    with app.database.write() as connection:
        sealed = app.vault.encrypt(connection, "acme", "input:req-1", content, NOW)
        app.vault.encrypt(connection, "other", "input:req-1", b"", NOW)
        assert app.vault.decrypt(connection, "acme", "input:req-1", sealed) == content
        for account, purpose in (("other", "input:req-1"), ("acme", "input:req-2")):
            with pytest.raises(DoesNotOpen):
                app.vault.decrypt(connection, account, purpose, sealed)


def test_no_byte_of_a_text_may_be_flipped(app: App) -> None:
    with app.database.write() as connection:
        sealed = app.vault.encrypt(connection, "acme", "purpose", b"some text", NOW)
        for place in range(len(sealed)):
            altered = bytearray(sealed)
            altered[place] ^= 0x10
            with pytest.raises(DoesNotOpen):
                app.vault.decrypt(connection, "acme", "purpose", bytes(altered))


def swap_data_keys(app: App, table: Table, one: str, other: str) -> None:
    """Give the data key of one account to another."""
    with app.database.write() as connection:
        row = connection.execute(select(table).where(table.c.scope == one)).one()
        connection.execute(
            update(table).where(table.c.scope == other).values(wrapped_key=row.wrapped_key)
        )


def test_a_data_key_moved_to_another_account_does_not_open(app: App) -> None:
    with app.database.write() as connection:
        sealed = app.vault.encrypt(connection, "acme", "purpose", b"text", NOW)
        app.vault.encrypt(connection, "other", "purpose", b"text", NOW)
    swap_data_keys(app, data_keys, "acme", "other")
    with app.database.read() as connection, pytest.raises(DoesNotOpen):
        app.vault.decrypt(connection, "other", "purpose", sealed)


def test_a_text_without_its_data_key_does_not_open(app: App) -> None:
    with app.database.write() as connection:
        sealed = app.vault.encrypt(connection, "acme", "purpose", b"text", NOW)
        connection.execute(data_keys.delete())
        with pytest.raises(DoesNotOpen):
            app.vault.decrypt(connection, "acme", "purpose", sealed)


def test_a_digest_tells_a_repeat_from_a_change_within_its_account(app: App) -> None:
    with app.database.write() as connection:
        one = app.vault.of(connection, "acme", NOW).digest(b"mail")
        assert app.vault.of(connection, "acme", NOW).digest(b"mail") == one
        assert app.vault.of(connection, "acme", NOW).digest(b"mail.") != one
        assert app.vault.of(connection, "other", NOW).digest(b"mail") != one
