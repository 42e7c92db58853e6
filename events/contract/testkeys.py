"""The keys of the test vectors: made from fixed bytes, known to everybody, never to be used."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from events.sealing import SealingKeys, SealingPublicKey
from events.signing import SigningKey, Sources

SEALING_KEY_ID = "test-sealing-1"
UNKNOWN_SEALING_KEY_ID = "test-sealing-unknown"
_SEALING = {SEALING_KEY_ID: 0x11, UNKNOWN_SEALING_KEY_ID: 0x12}

EPHEMERAL_BYTE = 0x21
"""The first of the ephemeral keys; each sealing vector takes the next."""

SOURCE = "test/vectors"
ACCOUNTS_SOURCE = "test/accounts-only"
WORKERS_SOURCE = "byok/workers"
"""The `source` of usage messages, which the workers send themselves."""
STRANGER = "test/nobody"
"""A source that `BYOK_PUBLISHERS` does not name."""

_SIGNING = {SOURCE: 0x31, ACCOUNTS_SOURCE: 0x32, WORKERS_SOURCE: 0x33, STRANGER: 0x34}
_TYPES = {
    SOURCE: ["byok.account.*", "byok.key.*", "byok.analysis.*"],
    ACCOUNTS_SOURCE: ["byok.account.*"],
    WORKERS_SOURCE: ["byok.usage.*"],
}

NOTE = (
    "Test keys, each 32 times the same byte. They are published here, so whatever is sealed or "
    "signed with them is neither secret nor proven: never configure them anywhere."
)


def fixed(byte: int) -> bytes:
    """The 32 bytes of a test key."""
    return bytes([byte]) * 32


def sealing_private(key_id: str) -> X25519PrivateKey:
    """The private half of a test sealing key."""
    return X25519PrivateKey.from_private_bytes(fixed(_SEALING[key_id]))


def sealing_public(key_id: str) -> SealingPublicKey:
    """The public half, as publishers hold it."""
    return SealingPublicKey(key_id, sealing_private(key_id).public_key().public_bytes_raw())


def signing_key(source: str) -> SigningKey:
    """What a test source signs with."""
    return SigningKey(
        f"{source}-key", Ed25519PrivateKey.from_private_bytes(fixed(_SIGNING[source]))
    )


def as_json() -> dict[str, Any]:
    """The keys as the vectors' file tells them: everything that a reader needs."""
    return {
        "note": NOTE,
        "sealing": [
            {
                "id": key_id,
                "private": _base64(fixed(byte)),
                "public": _base64(sealing_public(key_id).raw),
                "held_by_workers": key_id == SEALING_KEY_ID,
            }
            for key_id, byte in _SEALING.items()
        ],
        "signing": [
            {
                "source": source,
                "seed": _base64(fixed(byte)),
                "public": signing_key(source).public,
            }
            for source, byte in _SIGNING.items()
        ],
        "BYOK_PUBLISHERS": {
            source: {"keys": [signing_key(source).public], "types": types}
            for source, types in _TYPES.items()
        },
    }


def held(keys: Mapping[str, Any]) -> SealingKeys:
    """The sealing keys that the workers hold, as the vectors' file tells them."""
    return SealingKeys.parse(
        ",".join(f"{key['id']}:{key['private']}" for key in keys["sealing"] if _is_held(key))
    )


def believed(keys: Mapping[str, Any]) -> Sources:
    """The sources that are believed, as the vectors' file tells them."""
    return Sources.parse(json.dumps(keys["BYOK_PUBLISHERS"]))


def signer(keys: Mapping[str, Any], source: str) -> SigningKey:
    """The signing key of `source`, as the vectors' file tells it."""
    (seed,) = (key["seed"] for key in keys["signing"] if key["source"] == source)
    return SigningKey.parse(f"{source}-key:{seed}")


def _is_held(key: Mapping[str, Any]) -> bool:
    return bool(key["held_by_workers"])


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
