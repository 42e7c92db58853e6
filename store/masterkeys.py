"""Master keys: what wraps the data keys. A ring holds them by id; one is the current one.

A master key is a port with two implementations: one held in memory (here), and one that AWS KMS
holds (`store.kms`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
DATA_KEY_BYTES = 32

RandomBytes = Callable[[int], bytes]


class MasterKeyMissing(LookupError):
    """A stored value is wrapped by a master key that this process was not given."""

    def __init__(self, master_key_id: str) -> None:
        super().__init__(
            f"Stored values need the master key {master_key_id!r}; BYOK_MASTER_KEYS lacks it."
        )
        self.master_key_id = master_key_id


class MasterKeyRefused(MasterKeyMissing):
    """The service that holds a master key does not let us use it, and no waiting brings it.

    What it wrapped is not known to be broken: for the key's owner it is as if the master key were
    missing, and the operator's to mend.
    """

    def __init__(self, master_key_id: str, code: str) -> None:
        LookupError.__init__(
            self,
            f"The master key {master_key_id!r} may not be used here ({code}): look at the KMS "
            "key's state and policy, and whether its id still stands for the key that it named.",
        )
        self.master_key_id = master_key_id


class MasterKeyUnavailable(RuntimeError):
    """The service that holds a master key does not answer now: waiting helps."""

    def __init__(self, master_key_id: str, code: str) -> None:
        super().__init__(
            f"The master key {master_key_id!r} cannot be reached ({code}): check the KMS endpoint, "
            "the region and the credentials."
        )
        self.master_key_id = master_key_id


class DoesNotOpen(ValueError):
    """A stored value was altered, or moved to another account, provider, key or request."""

    def __init__(self) -> None:
        super().__init__("The stored value does not open here: it was altered or moved.")


class MasterKey(Protocol):
    """One master key: wraps and unwraps data keys of 32 bytes."""

    def wrap(self, data_key: bytes, aad: bytes, nonce: bytes) -> bytes:
        """Wrap `data_key`, bound to `aad`; `nonce` is fresh, for whoever needs one.

        Raises `MasterKeyUnavailable`.
        """
        ...

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Unwrap a data key.

        Raises `DoesNotOpen`, `MasterKeyRefused` or `MasterKeyUnavailable`.
        """
        ...

    def prove(self, random_bytes: RandomBytes) -> None:
        """Wrap and unwrap something, past every cache. Raises as `unwrap` does."""
        ...


def prove_by_use(master_key: MasterKey, random_bytes: RandomBytes) -> None:
    """What most master keys' `prove` is."""
    data_key, aad = random_bytes(DATA_KEY_BYTES), b"byok-proof"
    wrapped = master_key.wrap(data_key, aad, random_bytes(NONCE_BYTES))
    if master_key.unwrap(wrapped, aad) != data_key:
        raise DoesNotOpen


class MasterKeys(Protocol):
    """The master keys of a process."""

    @property
    def current_id(self) -> str:
        """The id of the master key that new data keys are wrapped with."""
        ...

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the master keys that are held."""
        ...

    def wrap(self, data_key: bytes, aad: bytes, nonce: bytes) -> bytes:
        """Wrap `data_key` with the current master key; as `MasterKey.wrap`."""
        ...

    def unwrap(self, master_key_id: str, wrapped: bytes, aad: bytes) -> bytes:
        """Unwrap a data key; as `MasterKey.unwrap`, and raises `MasterKeyMissing`."""
        ...

    def prove(self, master_key_id: str, random_bytes: RandomBytes) -> None:
        """Prove that a master key works; as `MasterKey.prove`, and raises `MasterKeyMissing`."""
        ...


@dataclass(frozen=True, slots=True)
class LocalKey:
    """A master key of 32 bytes that is held in memory."""

    raw: bytes = field(repr=False)

    def wrap(self, data_key: bytes, aad: bytes, nonce: bytes) -> bytes:
        return nonce + AESGCM(self.raw).encrypt(nonce, data_key, aad)

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        try:
            return AESGCM(self.raw).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], aad)
        except (InvalidTag, ValueError):
            raise DoesNotOpen from None

    def prove(self, random_bytes: RandomBytes) -> None:
        prove_by_use(self, random_bytes)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Master keys of any kind by id, from `BYOK_MASTER_KEYS`; the first one is current."""

    keys: Mapping[str, MasterKey] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("There is no master key: make one with `byok keygen`.")

    @property
    def current_id(self) -> str:
        return next(iter(self.keys))

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self.keys)

    def wrap(self, data_key: bytes, aad: bytes, nonce: bytes) -> bytes:
        return self.keys[self.current_id].wrap(data_key, aad, nonce)

    def unwrap(self, master_key_id: str, wrapped: bytes, aad: bytes) -> bytes:
        return self._held(master_key_id).unwrap(wrapped, aad)

    def prove(self, master_key_id: str, random_bytes: RandomBytes) -> None:
        self._held(master_key_id).prove(random_bytes)

    def _held(self, master_key_id: str) -> MasterKey:
        try:
            return self.keys[master_key_id]
        except KeyError:
            raise MasterKeyMissing(master_key_id) from None


class LocalKeyRing(KeyRing):
    """Master keys that are all held in memory."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        super().__init__({key_id: LocalKey(raw) for key_id, raw in keys.items()})
