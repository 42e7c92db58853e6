"""A removal leaves nothing of a key: not in a row, and not in a byte of the database's files."""

from pathlib import Path

import pytest

from events import AccountDeleted, KeyStatus
from store import keys
from tests.road import Road

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)


def bytes_of_database(road: Road) -> bytes:
    """The database file and its write-ahead log."""
    path = Path(str(road.app.database.url.database))
    files = [path, path.with_name(path.name + "-wal")]
    return b"".join(file.read_bytes() for file in files if file.exists())


def ciphertext_of(road: Road, key_id: str) -> bytes:
    """A key's ciphertext as it lies in the store."""
    with road.app.database.read() as connection:
        stored = keys.stored_key(connection, key_id)
    assert stored is not None
    return stored.ciphertext


def test_a_removed_keys_ciphertext_is_in_no_file(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    ciphertext = ciphertext_of(road, key_id)
    assert ciphertext in bytes_of_database(road)
    road.remove_key(key_id)
    road.until(lambda: ciphertext not in bytes_of_database(road))
    with road.app.database.read() as connection:
        assert keys.stored_key(connection, key_id) is None


def test_a_replaced_keys_ciphertext_is_in_no_file(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    ciphertext = ciphertext_of(road, key_id)
    road.give_key("sk-proj-sandbox-good-next-not-a-real-key", replaces=True)
    road.until(lambda: ciphertext not in bytes_of_database(road))
    old = road.key(key_id)
    assert old is not None
    assert old.status == KeyStatus.REMOVED


def test_a_deleted_accounts_keys_and_mail_are_in_no_file(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    ciphertext = ciphertext_of(road, key_id)
    road.ended(road.ask())
    road.publish(AccountDeleted(revision=road.revision()), "acme")
    road.until(lambda: ciphertext not in bytes_of_database(road))
