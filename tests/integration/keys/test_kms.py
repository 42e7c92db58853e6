"""Master keys in AWS KMS, as `moto`'s server stands in for it, over HTTP on loopback."""

import base64
import io
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.local.sandbox import SandboxServer
from events import Provider
from store import kms, rekey
from store.engine import Database
from store.masterkeys import (
    DoesNotOpen,
    KeyRing,
    MasterKey,
    MasterKeyRefused,
    MasterKeyUnavailable,
)
from store.unwrapped import CachedKey, DataKeyCache
from store.vault import Vault
from tests.conftest import Services
from tests.integration.keys.conftest import KmsKeys
from tests.integration.keys.keeping import (
    byok,
    counted,
    fake_secret,
    history_of,
    master_keys_of,
    put_key,
    row_of,
    stored_key,
)
from tests.road import GOOD_OPENAI, Road, fake_key, make_settings
from tests.unit.workers.standins import Clockwork, stand_in_app, stand_in_settings
from workers.app import App
from workers.keys.validation import validate
from workers.masterkeys import open_master_keys
from workers.settings import ConfigurationError

HERE = {"account": "acme", "provider": "openai", "key_id": "key-1"}


class Counting:
    """A master key that counts what it is asked."""

    def __init__(self, inner: MasterKey) -> None:
        self.inner = inner
        self.asked: Counter[str] = Counter()

    def wrap(self, data_key: bytes, aad: bytes, nonce: bytes) -> bytes:
        self.asked["wrap"] += 1
        return self.inner.wrap(data_key, aad, nonce)

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        self.asked["unwrap"] += 1
        return self.inner.unwrap(wrapped, aad)

    def prove(self, random_bytes: Any) -> None:
        self.inner.prove(random_bytes)


def kms_key(name: str, key_id: str = "k1") -> kms.KmsKey:
    return kms.KmsKey(key_id, name, kms.open_client())


def vault_of(**master_keys: MasterKey) -> Vault:
    return Vault(KeyRing(master_keys), Clockwork().random_bytes)


def test_a_key_opens_as_it_was_stored_and_nowhere_else(kms_keys: KmsKeys) -> None:
    vault = vault_of(k1=kms_key(kms_keys.one))
    stored = vault.store_key(fake_secret(1), **HERE)
    assert stored.master_key_id == "k1"
    assert vault.open_key(stored, **HERE) == fake_secret(1)
    for other in ({"account": "other"}, {"provider": "anthropic"}, {"key_id": "key-2"}):
        with pytest.raises(DoesNotOpen):
            vault.open_key(stored, **{**HERE, **other})


def test_no_byte_of_what_kms_wrapped_may_be_flipped(kms_keys: KmsKeys) -> None:
    master_key = kms_key(kms_keys.one)
    wrapped = master_key.wrap(bytes(32), b"aad", b"")
    for place in range(len(wrapped)):
        altered = bytearray(wrapped)
        altered[place] ^= 1
        # The head of the value names its key: altered there, KMS says that it knows no such key.
        with pytest.raises((DoesNotOpen, MasterKeyRefused)):
            master_key.unwrap(bytes(altered), b"aad")
    with pytest.raises(DoesNotOpen):
        master_key.unwrap(b"", b"aad")


def test_a_value_under_another_kms_key_is_refused_and_not_called_broken(kms_keys: KmsKeys) -> None:
    wrapped = kms_key(kms_keys.two).wrap(bytes(32), b"aad", b"")
    with pytest.raises(MasterKeyRefused, match="'k1' may not be used here"):
        kms_key(kms_keys.one).unwrap(wrapped, b"aad")


def test_a_key_may_be_named_by_its_alias(kms_keys: KmsKeys) -> None:
    client = kms.open_client()
    client.create_alias(AliasName="alias/byok-test", TargetKeyId=kms_keys.one)
    by_alias = kms.KmsKey("k1", "alias/byok-test", client)
    wrapped = by_alias.wrap(bytes(32), b"aad", b"")
    assert by_alias.unwrap(wrapped, b"aad") == bytes(32)
    assert kms_key(kms_keys.one).unwrap(wrapped, b"aad") == bytes(32)
    client.delete_alias(AliasName="alias/byok-test")


def test_what_kms_is_told_of_the_owner_is_a_digest_and_the_purpose() -> None:
    told = kms.encryption_context(b"byok-key-at-rest\nacme\nopenai\nkey-1")
    assert told["purpose"] == "byok-key-at-rest"
    assert set(told) == {"purpose", "bound-to-sha256"}
    assert "acme" not in str(told)
    assert told != kms.encryption_context(b"byok-key-at-rest\nacme\nopenai\nkey-2")


# The cache


@pytest.fixture
def cached(kms_keys: KmsKeys) -> tuple[Counting, DataKeyCache, Clockwork, Vault]:
    clock = Clockwork()
    counting = Counting(kms_key(kms_keys.one))
    cache = DataKeyCache(3, 60, clock.monotonic)
    return counting, cache, clock, vault_of(k1=CachedKey("k1", counting, cache))


def test_kms_is_asked_once_for_a_data_key_and_again_when_its_time_is_over(
    cached: tuple[Counting, DataKeyCache, Clockwork, Vault],
) -> None:
    counting, cache, clock, vault = cached
    stored = vault.store_key(fake_secret(1), **HERE)
    for _ in range(10):
        vault.open_key(stored, **HERE)
    # What was wrapped just now is known, too.
    assert counting.asked == {"wrap": 1}
    clock.pass_time(60)
    for _ in range(10):
        vault.open_key(stored, **HERE)
    assert counting.asked == {"wrap": 1, "unwrap": 1}
    assert len(cache) == 1


def test_the_cache_keeps_no_more_than_its_size_and_opens_nothing_elsewhere(
    cached: tuple[Counting, DataKeyCache, Clockwork, Vault],
) -> None:
    _, cache, _, vault = cached
    places = [{**HERE, "key_id": f"key-{number}"} for number in range(8)]
    kept = [vault.store_key(fake_secret(1), **place) for place in places]
    assert len(cache) == 3
    for stored, place in zip(kept, places, strict=True):
        assert vault.open_key(stored, **place) == fake_secret(1)
    # It is in the cache, and does not open for another account all the same.
    with pytest.raises(DoesNotOpen):
        vault.open_key(kept[-1], **{**places[-1], "account": "other"})


# From the settings


def test_local_keys_and_kms_keys_stand_side_by_side_and_either_can_be_current(
    kms_keys: KmsKeys, app: App, tmp_path: Path
) -> None:
    database = app.database
    put_key(database, app.vault, "key-1", secret=fake_secret(1))
    entries = f"k1:kms:{kms_keys.one},{fake_key(1)}"
    for master_keys, current, others in (
        (entries, "k1", f"k1:kms:{kms_keys.one}"),
        (f"{fake_key(1)},k1:kms:{kms_keys.one}", "t1", fake_key(1)),
    ):
        both = stand_in_app(tmp_path, database, master_keys=master_keys)
        assert (both.master_keys.current_id, both.master_keys.ids) == (current, {"k1", "t1"})
        done = rekey.rotate(database, both.vault, current, lambda _: None, threads=2)
        assert (done.rewrapped, done.left) == (1, 0)
        assert master_keys_of(database) == {"key-1": current}
        alone = stand_in_app(tmp_path, database, master_keys=others)
        assert alone.vault.open_key(stored_key(database, "key-1"), **HERE) == fake_secret(1)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_command_moves_all_keys_to_kms(kms_keys: KmsKeys, app: App) -> None:
    put_key(app.database, app.vault, "key-1", secret=fake_secret(1))
    environment = {
        "AWS_ENDPOINT_URL_KMS": kms_keys.server.url,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "fake",
        "AWS_SECRET_ACCESS_KEY": "fake",
        "BYOK_MASTER_KEYS": f"k1:kms:{kms_keys.one},{fake_key(1)}",
    }
    code, told, said = byok(app, "rekey", "--json", **environment)
    assert (code, said) == (0, "")
    assert (told["current"], told["rewrapped"], told["droppable"]) == ("k1", 1, ["t1"])
    kms_keys.server.stop()
    try:
        code, told, said = byok(app, "rekey", "--json", **environment)
    finally:
        kms_keys.server.start()
    assert (code, told) == (1, {})
    assert "The master key 'k1' cannot be reached" in said


def test_a_missing_extra_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    settings = stand_in_settings(tmp_path, master_keys="k1:kms:alias/byok")
    with pytest.raises(ConfigurationError, match="extra `kms`") as caught:
        open_master_keys(settings, Clockwork())
    assert str(caught.value).count(".") == 1
    # It is not looked for where no entry needs it.
    local = stand_in_settings(tmp_path, master_keys=fake_key(1))
    assert open_master_keys(local, Clockwork()).current_id == "t1"


@pytest.mark.usefixtures("kms_keys")
def test_a_missing_region_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    settings = stand_in_settings(tmp_path, master_keys="k1:kms:alias/byok")
    with pytest.raises(ConfigurationError, match="set AWS_DEFAULT_REGION"):
        open_master_keys(settings, Clockwork())


def test_no_data_key_is_in_a_log_however_much_is_logged(kms_keys: KmsKeys) -> None:
    data_key = bytes(range(32))
    needle = base64.b64encode(data_key).decode()
    master_key = kms_key(kms_keys.one)
    with everything_logged() as written:
        wrapped = master_key.wrap(data_key, b"aad", b"")
        assert master_key.unwrap(wrapped, b"aad") == data_key
    assert needle not in written.getvalue()
    # The needle would be found: without the pin, it is.
    botocore = logging.getLogger("botocore")
    pinned = botocore.level
    botocore.setLevel(logging.DEBUG)
    try:
        with everything_logged() as written:
            master_key.unwrap(wrapped, b"aad")
    finally:
        botocore.setLevel(pinned)
    assert needle in written.getvalue()


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """What is logged at DEBUG."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield written
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


# Away


@contextmanager
def away(kms_keys: KmsKeys) -> Iterator[None]:
    """KMS is away for the length of a block."""
    kms_keys.server.stop()
    try:
        yield
    finally:
        kms_keys.server.start()


def test_a_kms_that_is_away_is_unavailable_and_nothing_is_called_broken(kms_keys: KmsKeys) -> None:
    master_key = kms_key(kms_keys.one)
    wrapped = master_key.wrap(bytes(32), b"aad", b"")
    with away(kms_keys):
        with pytest.raises(MasterKeyUnavailable, match="'k1' cannot be reached"):
            master_key.unwrap(wrapped, b"aad")
        with pytest.raises(MasterKeyUnavailable):
            master_key.wrap(bytes(32), b"aad", b"")
    assert master_key.unwrap(wrapped, b"aad") == bytes(32)


def test_a_validation_while_kms_is_away_leaves_the_key_as_it_is_and_is_tried_again(
    kms_keys: KmsKeys, database: Database, tmp_path: Path
) -> None:
    app = stand_in_app(
        tmp_path, database, master_keys=f"k1:kms:{kms_keys.one}", kms_cache_seconds=0
    )
    put_key(database, app.vault, "key-1")
    with away(kms_keys):
        validate(app, "key-1")
    row = row_of(database, "key-1")
    assert (row.status, row.reason, row.tested_at) == ("valid", "ok", None)
    assert 0 < row.validate_at - app.effects.now_ms() < 60_000
    assert counted(app.instruments, "MasterKeyUnavailable") == 1
    assert [entry.cause for entry in history_of(database, "key-1")] == ["added"]


@pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
def test_requests_wait_while_kms_is_away_and_are_completed_when_it_is_back(
    services: Services, sandbox: SandboxServer, kms_keys: KmsKeys, tmp_path: Path
) -> None:
    settings = make_settings(
        tmp_path,
        broker=services.broker,
        database=services.database,
        redis_url=services.redis,
        sandbox=sandbox,
        master_keys=f"k1:kms:{kms_keys.one}",
        # So that each use of a key is a call.
        kms_cache_seconds=0,
    )
    road = Road(settings, sandbox)
    road.start()
    try:
        road.account()
        key_id = road.give_key(GOOD_OPENAI, provider=Provider.OPENAI)
        with away(kms_keys):
            request_id = road.ask()
            road.until(lambda: road.unacknowledged("analyses"))
            assert road.request(request_id) is None
        request = road.ended(request_id)
        assert (request.state, request.key_id) == ("completed", key_id)
        key = road.key(key_id)
        assert key is not None
        assert (key.status, key.reason) == ("valid", "ok")
        assert [e["data"]["new"] for e in road.out_events("key.status_changed")] == [
            "pending",
            "valid",
        ]
    finally:
        road.stop()
