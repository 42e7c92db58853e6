"""`byok rekey`: every data key under the current master key, online, resumable, losing nothing."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import select

from store import keys, rekey
from store.engine import Database
from store.schema import provider_keys
from store.vault import SYSTEM_SCOPE, Vault
from tests.integration.keys.keeping import (
    NEW,
    OLD,
    ONE,
    ROOT,
    TWO,
    byok,
    change_key,
    fake_secret,
    master_keys_of,
    put_key,
    row_of,
    stored_key,
    vault_of,
)
from tests.road import fake_key
from tests.unit.workers.standins import START
from workers.app import App

KEYS = 25
PAGE = 10


def here(number: int) -> dict[str, str]:
    """Whose the key of a number is."""
    return {"account": f"a-{number:02}", "provider": "openai", "key_id": f"key-{number:02}"}


def put_keys(database: Database, vault: Vault, numbers: range = range(KEYS)) -> None:
    for number in numbers:
        place = here(number)
        put_key(
            database,
            vault,
            place["key_id"],
            account=place["account"],
            secret=fake_secret(number),
        )


def rotate(
    database: Database, vault: Vault, progress: Callable[[int], None] = lambda _: None
) -> rekey.Rotation:
    return rekey.rotate(database, vault, "t2", progress, page=PAGE, threads=2)


@pytest.fixture
def kept(database: Database) -> tuple[bytes, bytes]:
    """Keys, and texts of an account and of the system, all under the old master key."""
    vault = vault_of(OLD)
    put_keys(database, vault)
    with database.write() as connection:
        return (
            vault.encrypt(connection, "a-00", "purpose", b"of the account", START),
            vault.encrypt(connection, SYSTEM_SCOPE, "purpose", b"of the system", START),
        )


def test_every_data_key_is_put_under_the_current_master_key_and_opens_without_the_old_one(
    database: Database, kept: tuple[bytes, bytes]
) -> None:
    before = [row_of(database, here(number)["key_id"]).ciphertext for number in range(KEYS)]
    assert rotate(database, vault_of(NEW)) == rekey.Rotation(KEYS + 2, unreadable=0, left=0)
    assert set(master_keys_of(database).values()) == {"t2"}
    without = vault_of({"t2": TWO})
    for number in range(KEYS):
        place = here(number)
        assert without.open_key(stored_key(database, place["key_id"]), **place) == fake_secret(
            number
        )
        # Only the wrapping is new: the secret's own ciphertext is as it was.
        assert row_of(database, place["key_id"]).ciphertext == before[number]
    with database.read() as connection:
        of_account, of_system = kept
        assert without.decrypt(connection, "a-00", "purpose", of_account) == b"of the account"
        assert without.decrypt(connection, SYSTEM_SCOPE, "purpose", of_system) == b"of the system"


@pytest.mark.usefixtures("kept")
def test_a_second_rotation_has_nothing_to_do(database: Database) -> None:
    rotate(database, vault_of(NEW))
    seen: list[int] = []
    assert rotate(database, vault_of(NEW), seen.append).rewrapped == 0
    assert seen == []


@pytest.mark.usefixtures("kept")
def test_a_rotation_that_was_stopped_goes_on_where_it_was(database: Database) -> None:
    pages = 0

    def stop(_: int) -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotate(database, vault_of(NEW), stop)
    with database.read() as connection:
        left = rekey.left(connection, "t2")
    assert 0 < left < KEYS + 2
    seen: list[int] = []
    assert rotate(database, vault_of(NEW), seen.append).rewrapped == left == sum(seen)


KILLED = """
import os, signal, sys
from store import rekey
from store.engine import Database
from tests.integration.keys.keeping import NEW, vault_of

pages = 0
def die(_):
    global pages
    pages += 1
    if pages == 2:
        os.kill(os.getpid(), signal.SIGKILL)

rekey.rotate(Database(sys.argv[1]), vault_of(NEW), "t2", die, page=10)
"""


@pytest.mark.usefixtures("kept")
def test_a_rotation_that_was_killed_loses_nothing_and_goes_on(database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, url],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    both = vault_of(NEW)
    for number in range(KEYS):
        place = here(number)
        assert both.open_key(stored_key(database, place["key_id"]), **place) == fake_secret(number)
    under = list(master_keys_of(database).values())
    assert 0 < under.count("t1") < len(under)
    assert rotate(database, both) == rekey.Rotation(under.count("t1"), unreadable=0, left=0)


@pytest.mark.usefixtures("kept")
def test_readers_go_on_without_a_failed_read(database: Database) -> None:
    done, failed, reads = threading.Event(), [], [0, 0]

    def read(thread: int) -> None:
        vault = vault_of(NEW)
        while not done.is_set():
            place = here(reads[thread] % KEYS)
            try:
                vault.open_key(stored_key(database, place["key_id"]), **place)
            except Exception as error:  # noqa: BLE001 -- any of them is what must not be
                failed.append(error)
            reads[thread] += 1

    threads = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        # There and back again, so that they read in the midst of it.
        for _ in range(3):
            assert rotate(database, vault_of(NEW)).left == 0
            back = rekey.rotate(
                database, vault_of({"t1": ONE, "t2": TWO}), "t1", lambda _: None, page=1, threads=1
            )
            assert back.left == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert min(reads) > KEYS


class Meddling(Vault):
    """A vault that lets somebody else at a key just after its data key was wrapped anew."""

    def __init__(self, meddle: Callable[[], None], aad: bytes) -> None:
        inner = vault_of(NEW)
        super().__init__(inner._master_keys, inner._random)
        self._meddle, self._aad = meddle, aad

    def rewrap(self, master_key_id: str, wrapped: bytes, aad: bytes) -> tuple[str, bytes]:
        made = super().rewrap(master_key_id, wrapped, aad)
        if aad == self._aad and master_key_id == "t1":
            self._meddle()
        return made


@pytest.mark.usefixtures("kept")
def test_a_key_that_is_removed_meanwhile_stays_destroyed(database: Database) -> None:
    def remove() -> None:
        with database.write() as connection:
            key = keys.find(connection, "key-07")
            assert key is not None
            cause = keys.Cause(name="removed", event_id="e", source="s", history_id="h", now=START)
            keys.destroy(connection, key, cause)

    aad = b"byok-key-at-rest\na-07\nopenai\nkey-07"
    assert rotate(database, Meddling(remove, aad)).rewrapped == KEYS + 1
    row = row_of(database, "key-07")
    assert (row.master_key_id, row.wrapped_key, row.ciphertext) == (None, None, None)


@pytest.mark.usefixtures("kept")
def test_a_secret_that_takes_a_keys_place_meanwhile_is_not_lost(database: Database) -> None:
    fresh = vault_of(OLD).store_key("sk-proj-fake-the-next-one", **here(7))
    replaced = False

    def replace_it() -> None:
        nonlocal replaced
        if not replaced:
            replaced = True
            change_key(
                database, "key-07", wrapped_key=fresh.wrapped_key, ciphertext=fresh.ciphertext
            )

    aad = b"byok-key-at-rest\na-07\nopenai\nkey-07"
    done = rotate(database, Meddling(replace_it, aad))
    # The first attempt at it found it changed; the second round took the new one along.
    assert done == rekey.Rotation(KEYS + 2, unreadable=0, left=0)
    opened = vault_of({"t2": TWO}).open_key(stored_key(database, "key-07"), **here(7))
    assert opened == "sk-proj-fake-the-next-one"


@pytest.mark.usefixtures("kept")
def test_a_row_that_somebody_holds_is_left_and_nobody_is_waited_for(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("a write transaction is alone on SQLite")
    with database.write() as connection:
        connection.execute(
            select(provider_keys)
            .where(provider_keys.c.key_id.in_(["key-03", "key-12"]))
            .with_for_update()
        )
        assert rotate(database, vault_of(NEW)) == rekey.Rotation(KEYS, unreadable=0, left=2)
    assert rotate(database, vault_of(NEW)) == rekey.Rotation(2, unreadable=0, left=0)


@pytest.mark.usefixtures("kept")
def test_what_does_not_open_is_counted_and_left_as_it_is(database: Database) -> None:
    broken = bytearray(row_of(database, "key-05").wrapped_key)
    broken[20] ^= 1
    change_key(database, "key-05", wrapped_key=bytes(broken))
    assert rotate(database, vault_of(NEW)) == rekey.Rotation(KEYS + 1, unreadable=1, left=1)
    row = row_of(database, "key-05")
    assert (row.master_key_id, row.wrapped_key) == ("t1", bytes(broken))


# The command


@pytest.fixture
def old_app(app: App) -> App:
    """An app with keys under the old master key `t1`."""
    put_keys(app.database, vault_of(OLD))
    return app


on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
BOTH = f"{fake_key(2)},{fake_key(1)}"


@on_sqlite
def test_the_command_tells_what_it_did_and_which_key_can_go(old_app: App) -> None:
    code, told, _ = byok(old_app, "rekey", "--json", BYOK_MASTER_KEYS=BOTH)
    assert (code, told) == (
        0,
        {"current": "t2", "rewrapped": KEYS, "unreadable": 0, "left": 0, "droppable": ["t1"]},
    )
    code, told, _ = byok(old_app, "rekey", "--json", BYOK_MASTER_KEYS=fake_key(2))
    assert (code, told["rewrapped"], told["droppable"]) == (0, 0, [])


@on_sqlite
def test_the_command_refuses_without_the_old_key_and_touches_nothing(old_app: App) -> None:
    before = master_keys_of(old_app.database)
    code, told, said = byok(old_app, "rekey", "--json", BYOK_MASTER_KEYS=fake_key(2))
    assert (code, told) == (1, {})
    assert "need t1, which BYOK_MASTER_KEYS lacks" in said
    assert master_keys_of(old_app.database) == before


@on_sqlite
def test_the_command_fails_and_says_so_where_a_data_key_does_not_open(old_app: App) -> None:
    # Another key under the id of the old one.
    code, told, said = byok(
        old_app,
        "rekey",
        "--json",
        BYOK_MASTER_KEYS=f"{fake_key(2)},{fake_key(3).replace('t3:', 't1:')}",
    )
    assert code == 1
    assert (told["unreadable"], told["left"], told["droppable"]) == (KEYS, KEYS, [])
    assert "do not open under the master key that they name" in said
    place = here(0)
    assert vault_of(OLD).open_key(stored_key(old_app.database, "key-00"), **place) == fake_secret(0)
