"""The ring of master keys, KMS's answers, and the cache of unwrapped data keys."""

import threading
from typing import Any

import pytest

from store.engine import is_unavailable
from store.kms import KmsKey, error_code
from store.masterkeys import (
    DoesNotOpen,
    KeyRing,
    LocalKey,
    LocalKeyRing,
    MasterKeyMissing,
    MasterKeyRefused,
    MasterKeyUnavailable,
)
from store.unwrapped import CachedKey, DataKeyCache
from tests.unit.workers.standins import Clockwork

ONE, TWO = bytes([1]) * 32, bytes([2]) * 32
AAD = b"aad"


def test_the_first_key_of_a_ring_is_current_and_all_of_it_unwrap() -> None:
    old = LocalKeyRing({"m1": ONE})
    ring = KeyRing({"m2": LocalKey(TWO), "m1": LocalKey(ONE)})
    assert (ring.current_id, ring.ids) == ("m2", {"m1", "m2"})
    wrapped = old.wrap(bytes(32), AAD, bytes(12))
    assert ring.unwrap("m1", wrapped, AAD) == bytes(32)
    with pytest.raises(DoesNotOpen):
        ring.unwrap("m2", wrapped, AAD)
    with pytest.raises(MasterKeyMissing, match="'m3'"):
        ring.unwrap("m3", wrapped, AAD)


def test_a_ring_proves_the_key_that_it_is_asked_about() -> None:
    ring = LocalKeyRing({"m1": ONE})
    ring.prove("m1", Clockwork().random_bytes)
    with pytest.raises(MasterKeyMissing):
        ring.prove("m2", Clockwork().random_bytes)


def test_no_master_key_is_shown() -> None:
    assert repr(ONE) not in repr(KeyRing({"m1": LocalKey(ONE)})) + repr(LocalKey(ONE))


# What KMS answers


class Answered(Exception):
    """An error as botocore raises it for an answer of KMS."""

    def __init__(self, code: str) -> None:
        super().__init__("a text that quotes the request: c2VjcmV0")
        self.response = {"Error": {"Code": code, "Message": "c2VjcmV0"}}


class EndpointConnectionError(Exception):
    """An error as botocore raises it where there is no answer."""


class FailingClient:
    """A KMS client whose every call fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def encrypt(self, **_: Any) -> Any:
        raise self._error

    decrypt = encrypt


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (Answered("InvalidCiphertextException"), DoesNotOpen),
        (Answered("AccessDeniedException"), MasterKeyRefused),
        (Answered("DisabledException"), MasterKeyRefused),
        (Answered("IncorrectKeyException"), MasterKeyRefused),
        (Answered("KMSInvalidStateException"), MasterKeyRefused),
        (Answered("NotFoundException"), MasterKeyRefused),
        (Answered("KMSInternalException"), MasterKeyUnavailable),
        (Answered("DependencyTimeoutException"), MasterKeyUnavailable),
        (Answered("KeyUnavailableException"), MasterKeyUnavailable),
        (Answered("ThrottlingException"), MasterKeyUnavailable),
        (Answered("ExpiredTokenException"), MasterKeyUnavailable),
        (Answered("500"), MasterKeyUnavailable),
        (EndpointConnectionError("c2VjcmV0"), MasterKeyUnavailable),
    ],
    ids=lambda value: getattr(value, "__name__", "") or error_code(value),
)
def test_what_kms_says_decides_between_broken_refused_and_away(
    error: Exception, becomes: type[Exception]
) -> None:
    master_key = KmsKey("k1", "alias/byok", FailingClient(error))
    with pytest.raises(becomes) as caught:
        master_key.unwrap(b"wrapped", AAD)
    assert type(caught.value) is becomes
    assert is_unavailable(caught.value) == (becomes is MasterKeyUnavailable)
    assert "c2VjcmV0" not in str(caught.value)
    # What is to be stored waits, whatever the reason: an operator can mend all of them.
    with pytest.raises(MasterKeyUnavailable):
        master_key.wrap(bytes(32), AAD, b"")


def test_a_refused_key_is_for_its_owner_like_a_missing_one() -> None:
    assert isinstance(MasterKeyRefused("k1", "DisabledException"), MasterKeyMissing)


# The cache


def test_a_cache_forgets_the_least_recently_used() -> None:
    cache = DataKeyCache(2, 60, Clockwork().monotonic)
    for name in (b"a", b"b"):
        cache.keep("k1", name, AAD, name)
    assert cache.find("k1", b"a", AAD) == b"a"
    cache.keep("k1", b"c", AAD, b"c")
    assert [cache.find("k1", name, AAD) for name in (b"a", b"b", b"c")] == [b"a", None, b"c"]


def test_a_cache_keeps_nothing_beyond_its_time() -> None:
    clock = Clockwork()
    cache = DataKeyCache(10, 30, clock.monotonic)
    cache.keep("k1", b"a", AAD, b"a")
    clock.pass_time(29.999)
    assert cache.find("k1", b"a", AAD) == b"a"
    clock.pass_time(0.001)
    assert cache.find("k1", b"a", AAD) is None
    assert len(cache) == 0


@pytest.mark.parametrize(("size", "seconds"), [(0, 60), (10, 0)])
def test_a_cache_of_no_size_or_no_time_keeps_nothing(size: int, seconds: float) -> None:
    cache = DataKeyCache(size, seconds, Clockwork().monotonic)
    cache.keep("k1", b"a", AAD, b"a")
    assert cache.find("k1", b"a", AAD) is None


@pytest.mark.parametrize("other", [("k2", b"a", AAD), ("k1", b"b", AAD), ("k1", b"a", b"other")])
def test_a_cached_data_key_is_found_under_its_own_name_alone(
    other: tuple[str, bytes, bytes],
) -> None:
    cache = DataKeyCache(10, 60, Clockwork().monotonic)
    cache.keep("k1", b"a", AAD, b"a")
    assert cache.find(*other) is None


def test_what_does_not_open_is_not_cached() -> None:
    cache = DataKeyCache(10, 60, Clockwork().monotonic)
    cached = CachedKey("m1", LocalKey(ONE), cache)
    for _ in range(2):
        with pytest.raises(DoesNotOpen):
            cached.unwrap(bytes(60), AAD)
    assert len(cache) == 0


def test_a_cache_that_many_threads_use_stays_within_its_size() -> None:
    cache = DataKeyCache(50, 60, Clockwork().monotonic)

    def use(thread: int) -> None:
        for number in range(500):
            name = bytes([thread, number % 256])
            cache.keep("k1", name, AAD, name)
            assert cache.find("k1", name, AAD) in (name, None)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 50
