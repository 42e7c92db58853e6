"""HPKE with a given ephemeral key, so that a sealed value can be written down byte for byte.

For test vectors alone: whoever seals for real takes `events.sealing`, whose library draws a fresh
ephemeral key each time. Source: RFC 9180, sections 4 (labels), 4.1 (DHKEM), 5.1 (key schedule) and
5.2 (`seq` 0), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
"""

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEM_ID = 0x0020
"""DHKEM(X25519, HKDF-SHA256)."""
KDF_ID = 0x0001
"""HKDF-SHA256."""
AEAD_ID = 0x0002
"""AES-256-GCM."""

_KEM_SUITE = b"KEM" + KEM_ID.to_bytes(2)
_HPKE_SUITE = b"HPKE" + KEM_ID.to_bytes(2) + KDF_ID.to_bytes(2) + AEAD_ID.to_bytes(2)
_BASE_MODE = b"\x00"
_HASH_BYTES = 32
_KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Sealing:
    """What comes out of sealing, with the steps on the way for whoever writes it anew."""

    enc: bytes
    shared_secret: bytes
    key: bytes
    base_nonce: bytes
    ciphertext: bytes


def seal_with(
    ephemeral: X25519PrivateKey, recipient: X25519PublicKey, info: bytes, plaintext: bytes
) -> Sealing:
    """Seal `plaintext` with an ephemeral key that is given, the additional data being empty."""
    enc = ephemeral.public_key().public_bytes_raw()
    prk = _extract(_KEM_SUITE, b"", b"eae_prk", ephemeral.exchange(recipient))
    shared = _expand(
        _KEM_SUITE, prk, b"shared_secret", enc + recipient.public_bytes_raw(), _HASH_BYTES
    )
    context = (
        _BASE_MODE
        + _extract(_HPKE_SUITE, b"", b"psk_id_hash", b"")
        + _extract(_HPKE_SUITE, b"", b"info_hash", info)
    )
    secret = _extract(_HPKE_SUITE, shared, b"secret", b"")
    key = _expand(_HPKE_SUITE, secret, b"key", context, _KEY_BYTES)
    nonce = _expand(_HPKE_SUITE, secret, b"base_nonce", context, _NONCE_BYTES)
    return Sealing(enc, shared, key, nonce, AESGCM(key).encrypt(nonce, plaintext, b""))


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    salt = salt or bytes(_HASH_BYTES)
    return hmac.digest(salt, b"HPKE-v1" + suite + label + material, hashlib.sha256)


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    # One block of HKDF-Expand: nothing here is longer than a hash.
    labeled = length.to_bytes(2) + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labeled + b"\x01", hashlib.sha256)[:length]
