"""Envelope encryption: AES-256-GCM data keys, wrapped by a master key, bound by AAD.

A provider key has a data key of its own. Everything else that is encrypted (parked input, free
text, messages set aside) is under the data key of its account, so that destroying one row makes
all of an account's text unreadable.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, delete, select

from store.masterkeys import DATA_KEY_BYTES, NONCE_BYTES, DoesNotOpen, MasterKeys
from store.schema import data_keys, provider_keys
from store.statements import insert_ignore

SYSTEM_SCOPE = "*"
"""The scope of what belongs to no known account. An account id cannot be this."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A provider key as it lies in the store."""

    master_key_id: str
    wrapped_key: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it lies in the store."""

    master_key_id: str
    wrapped_key: bytes = field(repr=False)


def key_aad(account: str, provider: str, key_id: str) -> bytes:
    """What a provider key's ciphertext and data key are bound to."""
    return "\n".join(("byok-key-at-rest", account, provider, key_id)).encode()


def scope_aad(scope: str) -> bytes:
    """What the data key of an account, or of `SYSTEM_SCOPE`, is bound to."""
    return "\n".join(("byok-data-key", scope)).encode()


@dataclass(frozen=True, slots=True)
class AccountVault:
    """What one account's data key does, with the key in hand: for many values at once."""

    account: str
    data_key: bytes = field(repr=False)
    random_bytes: Callable[[int], bytes]

    def digest(self, content: bytes) -> bytes:
        """A keyed digest of the account's content; it tells a repeat from a changed message."""
        return hmac.digest(self.data_key, content, "sha256")

    def encrypt(self, purpose: str, content: bytes) -> bytes:
        """See `Vault.encrypt`."""
        nonce = self.random_bytes(NONCE_BYTES)
        aad = _text_aad(self.account, purpose)
        return nonce + AESGCM(self.data_key).encrypt(nonce, content, aad)

    def decrypt(self, purpose: str, content: bytes) -> bytes:
        """See `Vault.decrypt`."""
        return _decrypt(self.data_key, content, _text_aad(self.account, purpose))


class Vault:
    """Encrypts and decrypts with the given master keys and source of random bytes."""

    def __init__(self, master_keys: MasterKeys, random_bytes: Callable[[int], bytes]) -> None:
        self._master_keys = master_keys
        self._random = random_bytes

    def store_key(self, api_key: str, *, account: str, provider: str, key_id: str) -> StoredKey:
        """Encrypt a provider key under a fresh data key."""
        aad = key_aad(account, provider, key_id)
        data_key = self._random(DATA_KEY_BYTES)
        return StoredKey(
            master_key_id=self._master_keys.current_id,
            wrapped_key=self._master_keys.wrap(data_key, aad, self._random(NONCE_BYTES)),
            ciphertext=self._encrypt(data_key, api_key.encode(), aad),
        )

    def open_key(self, stored: StoredKey, *, account: str, provider: str, key_id: str) -> str:
        """Decrypt a provider key. Raises `DoesNotOpen` or `MasterKeyMissing`."""
        aad = key_aad(account, provider, key_id)
        data_key = self._master_keys.unwrap(stored.master_key_id, stored.wrapped_key, aad)
        return _decrypt(data_key, stored.ciphertext, aad).decode()

    def rewrap(self, master_key_id: str, wrapped: bytes, aad: bytes) -> tuple[str, bytes]:
        """Wrap a data key anew under the current master key; that one's id, and the new bytes.

        Raises `DoesNotOpen`, `MasterKeyMissing` or `MasterKeyUnavailable`.
        """
        data_key = self._master_keys.unwrap(master_key_id, wrapped, aad)
        fresh = self._master_keys.wrap(data_key, aad, self._random(NONCE_BYTES))
        return self._master_keys.current_id, fresh

    def fingerprint(self, connection: Connection, api_key: str, now: int) -> bytes:
        """A keyed digest of a provider key: the same key gives the same 32 bytes in this store.

        It is an HMAC under the system's data key, so that a stolen database cannot be searched
        for a guessed key.
        """
        return hmac.digest(
            self._data_key(connection, SYSTEM_SCOPE, now), api_key.encode(), "sha256"
        )

    def of(self, connection: Connection, account: str, now: int) -> AccountVault:
        """The account's data key, to be used for many values; it is made as in `encrypt`."""
        return AccountVault(account, self._data_key(connection, account, now), self._random)

    def opened(self, account: str, wrapped: WrappedKey) -> AccountVault:
        """The account's data key as it was read. Raises `DoesNotOpen` or `MasterKeyMissing`."""
        return AccountVault(account, self._unwrapped(account, wrapped), self._random)

    def encrypt(
        self, connection: Connection, account: str, purpose: str, content: bytes, now: int
    ) -> bytes:
        """Encrypt `content` under the account's data key, bound to `purpose`.

        Makes the account's data key where there is none: needs a write transaction then.
        """
        return self.of(connection, account, now).encrypt(purpose, content)

    def decrypt(self, connection: Connection, account: str, purpose: str, content: bytes) -> bytes:
        """Decrypt what `encrypt` made. Raises `DoesNotOpen` or `MasterKeyMissing`."""
        data_key = self._find(connection, account)
        if data_key is None:
            raise DoesNotOpen
        return AccountVault(account, data_key, self._random).decrypt(purpose, content)

    def forget(self, connection: Connection, scope: str) -> bool:
        """Destroy the data key of a scope, and so all that is under it; whether there was one."""
        return bool(
            connection.execute(delete(data_keys).where(data_keys.c.scope == scope)).rowcount
        )

    def _data_key(self, connection: Connection, scope: str, now: int) -> bytes:
        found = self._find(connection, scope)
        if found is None:
            data_key = self._random(DATA_KEY_BYTES)
            wrapped = self._master_keys.wrap(data_key, scope_aad(scope), self._random(NONCE_BYTES))
            insert_ignore(
                connection,
                data_keys,
                {
                    "scope": scope,
                    "master_key_id": self._master_keys.current_id,
                    "wrapped_key": wrapped,
                    "created_at": now,
                },
            )
            # Another process may have been first: what is stored counts.
            found = self._find(connection, scope)
        if found is None:
            raise DoesNotOpen
        return found

    def _find(self, connection: Connection, scope: str) -> bytes | None:
        row = connection.execute(
            select(data_keys.c.master_key_id, data_keys.c.wrapped_key).where(
                data_keys.c.scope == scope
            )
        ).one_or_none()
        return row and self._unwrapped(scope, WrappedKey(row.master_key_id, row.wrapped_key))

    def _unwrapped(self, scope: str, wrapped: WrappedKey) -> bytes:
        return self._master_keys.unwrap(
            wrapped.master_key_id, wrapped.wrapped_key, scope_aad(scope)
        )

    def _encrypt(self, data_key: bytes, content: bytes, aad: bytes) -> bytes:
        nonce = self._random(NONCE_BYTES)
        return nonce + AESGCM(data_key).encrypt(nonce, content, aad)


def master_keys_in_use(connection: Connection) -> set[str]:
    """The ids of the master keys that stored values are wrapped with."""
    found: set[str] = set()
    for table in (provider_keys, data_keys):
        column = table.c.master_key_id
        found.update(
            connection.execute(select(column).where(column.is_not(None)).distinct()).scalars()
        )
    return found


def content_digest(content: bytes) -> bytes:
    """An unkeyed SHA-256, for content that is no secret."""
    return hashlib.sha256(content).digest()


def _text_aad(account: str, purpose: str) -> bytes:
    return "\n".join(("byok-text-at-rest", account, purpose)).encode()


def _decrypt(data_key: bytes, content: bytes, aad: bytes) -> bytes:
    try:
        return AESGCM(data_key).decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], aad)
    except (InvalidTag, ValueError):
        raise DoesNotOpen from None
