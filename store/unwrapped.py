"""A bounded cache of unwrapped data keys, for master keys that are a network's call away.

What is in it is in a worker's memory anyway while it is used. How long it stays there is bounded by
time, and how much of it by number.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable

from store.masterkeys import MasterKey, RandomBytes


class DataKeyCache:
    """At most `size` data keys, each for at most `seconds`; a size of 0 keeps none.

    Least recently used ones go first. Safe to share between threads. An entry is found only under
    the same master key, wrapped bytes and binding: what was altered or moved is never found.
    """

    def __init__(self, size: int, seconds: float, monotonic: Callable[[], float]) -> None:
        self._size = size
        self._seconds = seconds
        self._monotonic = monotonic
        self._entries: OrderedDict[tuple[str, bytes, bytes], tuple[float, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, master_key_id: str, wrapped: bytes, aad: bytes) -> bytes | None:
        """The data key, or `None` where it is not known or known for too long."""
        name = (master_key_id, wrapped, aad)
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return None
            until, data_key = entry
            if self._monotonic() >= until:
                del self._entries[name]
                return None
            self._entries.move_to_end(name)
            return data_key

    def keep(self, master_key_id: str, wrapped: bytes, aad: bytes, data_key: bytes) -> None:
        """Keep a data key that was wrapped or unwrapped just now."""
        name = (master_key_id, wrapped, aad)
        with self._lock:
            self._entries[name] = (self._monotonic() + self._seconds, data_key)
            self._entries.move_to_end(name)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)


class CachedKey:
    """A master key whose unwrapped data keys are kept in `cache`."""

    def __init__(self, master_key_id: str, inner: MasterKey, cache: DataKeyCache) -> None:
        self._id = master_key_id
        self._inner = inner
        self._cache = cache

    def wrap(self, data_key: bytes, aad: bytes, nonce: bytes) -> bytes:
        """As `MasterKey.wrap`. What is wrapped is about to be used, and spares its unwrapping."""
        wrapped = self._inner.wrap(data_key, aad, nonce)
        self._cache.keep(self._id, wrapped, aad, data_key)
        return wrapped

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """As `MasterKey.unwrap`."""
        found = self._cache.find(self._id, wrapped, aad)
        if found is None:
            found = self._inner.unwrap(wrapped, aad)
            self._cache.keep(self._id, wrapped, aad, found)
        return found

    def prove(self, random_bytes: RandomBytes) -> None:
        """As `MasterKey.prove`."""
        self._inner.prove(random_bytes)
