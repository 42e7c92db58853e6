"""Master keys: what wraps the data keys. The local key ring is one implementation of the port."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12


class MasterKeyMissing(LookupError):
    """A stored value is wrapped by a master key that this process was not given."""

    def __init__(self, master_key_id: str) -> None:
        super().__init__(
            f"Stored values need the master key {master_key_id!r}; BYOK_MASTER_KEYS lacks it."
        )
        self.master_key_id = master_key_id


class DoesNotOpen(ValueError):
    """A stored value was altered, or moved to another account, provider, key or request."""

    def __init__(self) -> None:
        super().__init__("The stored value does not open here: it was altered or moved.")


class MasterKeys(Protocol):
    """Wraps and unwraps data keys of 32 bytes."""

    @property
    def current_id(self) -> str:
        """The id of the master key that new data keys are wrapped with."""
        ...

    def wrap(self, data_key: bytes, aad: bytes, nonce: bytes) -> bytes:
        """Wrap `data_key` with the current master key, bound to `aad`."""
        ...

    def unwrap(self, master_key_id: str, wrapped: bytes, aad: bytes) -> bytes:
        """Unwrap a data key. Raises `MasterKeyMissing` or `DoesNotOpen`."""
        ...


@dataclass(frozen=True)
class LocalKeyRing:
    """Master keys held in memory, from `BYOK_MASTER_KEYS`; the first one is current."""

    keys: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("There is no master key: make one with `byok keygen`.")

    @property
    def current_id(self) -> str:
        return next(iter(self.keys))

    def wrap(self, data_key: bytes, aad: bytes, nonce: bytes) -> bytes:
        return nonce + AESGCM(self.keys[self.current_id]).encrypt(nonce, data_key, aad)

    def unwrap(self, master_key_id: str, wrapped: bytes, aad: bytes) -> bytes:
        try:
            master_key = self.keys[master_key_id]
        except KeyError:
            raise MasterKeyMissing(master_key_id) from None
        try:
            return AESGCM(master_key).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], aad)
        except (InvalidTag, ValueError):
            raise DoesNotOpen from None
