"""The vectors of sealing: what must open, and what must not."""

import base64
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from events.contract import testkeys
from events.contract.hpke import Sealing, seal_with
from events.contract.keeping import Vector, merged, refusal_of, required
from events.contract.samples import (
    ACCOUNT,
    ANTHROPIC_KEY_ID,
    FAKE_ANTHROPIC,
    FAKE_OPENAI,
    MAIL,
    OPENAI_KEY_ID,
    OTHER_ACCOUNT,
    REQUEST_ID,
    TEXT,
    THREAD,
)
from events.keys import Provider
from events.sealing import SealingKeys, SealingPublicKey, input_info, key_info, seal, text_info

OPENAI_INFO = key_info(ACCOUNT, Provider.OPENAI, OPENAI_KEY_ID)
ANTHROPIC_INFO = key_info(ACCOUNT, Provider.ANTHROPIC, ANTHROPIC_KEY_ID)
MAIL_INFO = input_info(ACCOUNT, REQUEST_ID)
TEXT_INFO = text_info(ACCOUNT, REQUEST_ID)


def make_sealed(kept: Mapping[str, Vector]) -> list[Vector]:
    """The sealed values that must open; `kept` are those that were released, by name."""
    fixed = [
        _with_ephemeral(name, info, plaintext, testkeys.EPHEMERAL_BYTE + number)
        for number, (name, info, plaintext) in enumerate(
            [
                ("openai-key", OPENAI_INFO, FAKE_OPENAI),
                ("anthropic-key", ANTHROPIC_INFO, FAKE_ANTHROPIC),
                ("mail", MAIL_INFO, MAIL),
                ("thread", MAIL_INFO, THREAD),
                # The subscriber's key would be another one; how it is used is the same.
                ("text-for-a-subscriber", TEXT_INFO, TEXT),
            ]
        )
    ]
    # What our own library sealed, with an ephemeral key that nobody knows: made once and kept.
    drawn = [
        kept.get(name) or _by_library(name, info, plaintext)
        for name, info, plaintext in (
            ("openai-key-by-our-library", OPENAI_INFO, FAKE_OPENAI),
            ("mail-by-our-library", MAIL_INFO, MAIL),
        )
    ]
    return merged(kept, [*fixed, *drawn])


def make_unsealable(values: Mapping[str, str]) -> list[Vector]:
    """The sealed values that must not open; `values` are the good ones by name."""
    key, mail = values["openai-key"], values["mail"]
    unknown = _fixed_value(testkeys.UNKNOWN_SEALING_KEY_ID, 0x2F, OPENAI_INFO, FAKE_OPENAI)
    broken = [
        ("cut", OPENAI_INFO, key[:-8]),
        ("cut-to-its-first-half", OPENAI_INFO, key[: len(key) // 2]),
        ("altered-in-the-ciphertext", OPENAI_INFO, _altered(key, -1)),
        ("altered-in-the-encapsulated-key", OPENAI_INFO, _altered(key, 0)),
        ("for-another-account", key_info(OTHER_ACCOUNT, Provider.OPENAI, OPENAI_KEY_ID), key),
        ("for-another-provider", key_info(ACCOUNT, Provider.ANTHROPIC, OPENAI_KEY_ID), key),
        ("for-another-key-id", key_info(ACCOUNT, Provider.OPENAI, ANTHROPIC_KEY_ID), key),
        ("a-key-in-place-of-a-mail", MAIL_INFO, key),
        ("mail-for-another-account", input_info(OTHER_ACCOUNT, REQUEST_ID), mail),
        ("mail-for-another-request", input_info(ACCOUNT, "req-0002"), mail),
        (
            "renamed-to-a-sealing-key-that-is-held",
            OPENAI_INFO,
            unknown.replace(testkeys.UNKNOWN_SEALING_KEY_ID, testkeys.SEALING_KEY_ID),
        ),
    ]
    wrong = [
        *((name, info, sealed, "seal_broken") for name, info, sealed in broken),
        ("for-an-unknown-sealing-key", OPENAI_INFO, unknown, "seal_unknown_key"),
        ("of-another-version", OPENAI_INFO, f"v2{key[2:]}", "seal_malformed"),
    ]
    keys = testkeys.held(testkeys.as_json())
    return [_unsealable(keys, *vector) for vector in wrong]


def check_sealed(vector: Vector, keys: SealingKeys) -> list[str]:
    """What our code does otherwise than the vector says; empty where nothing."""
    info = bytes.fromhex(vector["info_hex"])
    plaintext = bytes.fromhex(vector["plaintext_hex"])
    problems = []
    if vector["info"].encode() != info or vector["plaintext"].encode() != plaintext:
        problems.append("its texts are not its bytes")
    reason, _ = refusal_of(lambda: keys.open(vector["sealed"], info))
    if reason or keys.open(vector["sealed"], info) != plaintext:
        problems.append(f"does not open to its plaintext {reason}".strip())
    if "ephemeral_private_hex" in vector:
        public = _public_of(keys, vector["sealing_key"])
        made = seal_with(
            X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["ephemeral_private_hex"])),
            X25519PublicKey.from_public_bytes(public.raw),
            info,
            plaintext,
        )
        steps = _steps(made) | {"sealed": _text(public.key_id, made)}
        problems += [f"seals to another {name}" for name in steps if steps[name] != vector[name]]
    return problems


def check_unsealable(vector: Vector, keys: SealingKeys) -> list[str]:
    """As `check_sealed`, of a value that must not open."""
    info = bytes.fromhex(vector["info_hex"])
    reason, sentence = refusal_of(lambda: keys.open(vector["sealed"], info))
    return required(vector, reason, sentence)


def _with_ephemeral(name: str, info: bytes, plaintext: str, byte: int) -> Vector:
    made = _seal_fixed(testkeys.SEALING_KEY_ID, byte, info, plaintext)
    return {
        **_inputs(name, info, plaintext),
        "ephemeral_private_hex": testkeys.fixed(byte).hex(),
        **_steps(made),
        "sealed": _text(testkeys.SEALING_KEY_ID, made),
    }


def _by_library(name: str, info: bytes, plaintext: str) -> Vector:
    public = testkeys.sealing_public(testkeys.SEALING_KEY_ID)
    return {
        **_inputs(name, info, plaintext),
        "sealed": seal(plaintext.encode(), public, info),
    }


def _inputs(name: str, info: bytes, plaintext: str) -> dict[str, Any]:
    return {
        "name": name,
        "sealing_key": testkeys.SEALING_KEY_ID,
        "info": info.decode(),
        "info_hex": info.hex(),
        "plaintext": plaintext,
        "plaintext_hex": plaintext.encode().hex(),
    }


def _unsealable(keys: SealingKeys, name: str, info: bytes, sealed: str, reason: str) -> Vector:
    found, sentence = refusal_of(lambda: keys.open(sealed, info))
    vector: Vector = {
        "name": name,
        "info": info.decode(),
        "info_hex": info.hex(),
        "sealed": sealed,
        "reason": reason,
        "sentence": sentence,
    }
    if problems := required(vector, found, sentence):
        raise ValueError(f"the sealing vector {name!r} {problems[0]}")
    return vector


def _seal_fixed(key_id: str, byte: int, info: bytes, plaintext: str) -> Sealing:
    return seal_with(
        X25519PrivateKey.from_private_bytes(testkeys.fixed(byte)),
        testkeys.sealing_private(key_id).public_key(),
        info,
        plaintext.encode(),
    )


def _fixed_value(key_id: str, byte: int, info: bytes, plaintext: str) -> str:
    return _text(key_id, _seal_fixed(key_id, byte, info, plaintext))


def _steps(made: Sealing) -> dict[str, str]:
    return {
        "enc_hex": made.enc.hex(),
        "shared_secret_hex": made.shared_secret.hex(),
        "key_hex": made.key.hex(),
        "base_nonce_hex": made.base_nonce.hex(),
        "ciphertext_hex": made.ciphertext.hex(),
    }


def _text(key_id: str, made: Sealing) -> str:
    return f"v1.{key_id}.{_base64url(made.enc + made.ciphertext)}"


def _altered(sealed: str, place: int) -> str:
    head, _, encoded = sealed.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    raw[place] ^= 0x01
    return f"{head}.{_base64url(bytes(raw))}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _public_of(keys: SealingKeys, key_id: str) -> SealingPublicKey:
    return SealingPublicKey(key_id, keys.private[key_id].public_key().public_bytes_raw())
