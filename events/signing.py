"""Signatures: who sent an event, and whether they may send that type.

Sealing says nothing of the sender: with access to the broker alone one could swap a key or switch
consent on. So each event carries the extension attribute `signature`,
`ed25519.<base64url of 64 bytes>`, over the canonical bytes (RFC 8785, JCS) of the event without it.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from events.envelope import EventRefused
from events.sealing import parse_named_key

SIGNATURE = "signature"
_SCHEME = "ed25519"

OLDEST = timedelta(days=3)
"""An event that was signed longer ago is refused: what a recorder of the queue kept cannot be
played for ever. Longer than any outage that the queue is to survive."""

MOST_AHEAD = timedelta(minutes=10)
"""How far a publisher's clock may be ahead."""


def canonical_bytes(fields: Mapping[str, Any]) -> bytes:
    """What is signed: the event without its signature, in RFC 8785's form.

    Raises `EventRefused` (`invalid_event`) for numbers that have no canonical form.
    """
    unsigned = {name: value for name, value in fields.items() if name != SIGNATURE}
    try:
        return _PLAIN.encode(unsigned).encode() if _is_plain(unsigned) else rfc8785.dumps(unsigned)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError):
        raise EventRefused(
            "invalid_event", "The event holds a number or a text that JSON cannot carry exactly."
        ) from None


_PLAIN = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_MOST = 2**53 - 1


def _is_plain(fields: Any) -> bool:
    """Whether Python's own encoder gives RFC 8785's form, in a twentieth of the time.

    It writes strings and whole numbers so, and orders names alike where they are ASCII; what is
    left are other numbers, and names by UTF-16.
    """
    # A stack, not recursion: the depth of the JSON is the sender's choice.
    waiting = [fields]
    while waiting:
        item = waiting.pop()
        kind = type(item)
        if kind is dict:
            if not all(type(name) is str and name.isascii() for name in item):
                return False
            waiting.extend(item.values())
        elif kind is list:
            waiting.extend(item)
        elif kind is int:
            if not -_MOST <= item <= _MOST:
                return False
        elif kind not in _AS_THEY_ARE:
            return False
    return True


_AS_THEY_ARE = (str, bool, type(None))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A publisher's private key, `id:base64` of 32 bytes."""

    key_id: str
    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "SigningKey":
        """Read `id:base64`. Raises `ValueError` with a sentence that does not repeat the text."""
        key_id, raw = parse_named_key(text, what="signing key")
        return cls(key_id, Ed25519PrivateKey.from_private_bytes(raw))

    @classmethod
    def derived(cls, secret: bytes, purpose: str) -> "SigningKey":
        """A key that whoever holds `secret` can derive, for `purpose` alone (HKDF-SHA256)."""
        raw = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(secret)
        return cls(purpose, Ed25519PrivateKey.from_private_bytes(raw))

    @property
    def public(self) -> str:
        """The public half in base64, for `BYOK_PUBLISHERS`."""
        return base64.b64encode(self.private.public_key().public_bytes_raw()).decode()

    def sign(self, fields: Mapping[str, Any]) -> str:
        """The `signature` of an event."""
        raw = self.private.sign(canonical_bytes(fields))
        return f"{_SCHEME}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


@dataclass(frozen=True, slots=True)
class Source:
    """What one source may send, and the keys it signs with (several while it changes them)."""

    keys: Sequence[Ed25519PublicKey]
    types: Sequence[str]


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources that are believed."""

    by_name: Mapping[str, Source]

    @classmethod
    def parse(cls, text: str) -> "Sources":
        """Read `{"<source>": {"keys": ["<base64>", …], "types": ["byok.key.*", …]}}`.

        Raises `ValueError` with a sentence that names the source.
        """
        try:
            given = json.loads(text)
            items = given.items()
        except (ValueError, AttributeError):
            raise ValueError("it is not a JSON object of sources") from None
        return cls({name: _source(name, value) for name, value in items})

    def and_also(self, name: str, source: Source) -> "Sources":
        """The same with one more source."""
        return Sources({**self.by_name, name: source})

    def verify(self, fields: Mapping[str, Any], now: datetime) -> None:
        """Raise `EventRefused` unless a known source signed the event and may send its type.

        Reasons: `unsigned`, `unknown_source`, `source_not_allowed`, `bad_signature`,
        `stale_signature`.
        """
        signature = fields.get(SIGNATURE)
        if not isinstance(signature, str):
            raise EventRefused("unsigned", "The event has no `signature`: sign it, with Ed25519.")
        name = str(fields.get("source"))
        # What follows a `#` says who at the source, for the audit trail (`byok/cli#ann`).
        source = self.by_name.get(name) or self.by_name.get(name.partition("#")[0])
        if source is None:
            raise EventRefused(
                "unknown_source", "The event's `source` is not one of BYOK_PUBLISHERS."
            )
        kind = str(fields.get("type"))
        if not any(fnmatchcase(kind, pattern) for pattern in source.types):
            raise EventRefused(
                "source_not_allowed", "The event's `source` may not send events of this type."
            )
        if not _signed_by(source.keys, signature, canonical_bytes(fields)):
            raise EventRefused(
                "bad_signature",
                "The event's `signature` is not its source's: it was altered, or signed with "
                "another key, or over other bytes than RFC 8785 gives.",
            )
        _refuse_stale(fields, now)


def _source(name: str, value: Any) -> Source:
    try:
        keys = [
            Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
            for key in value["keys"]
        ]
        types = [str(pattern) for pattern in value["types"]]
    except (KeyError, TypeError, ValueError, binascii.Error):
        keys, types = [], []
    if not keys or not types:
        raise ValueError(
            f"the source {name!r} needs `keys`, a list of Ed25519 public keys in base64, and "
            "`types`, a list of event types"
        )
    return Source(keys, types)


def _signed_by(keys: Sequence[Ed25519PublicKey], signature: str, signed: bytes) -> bool:
    scheme, _, encoded = signature.partition(".")
    if scheme != _SCHEME:
        return False
    try:
        padded = encoded + "=" * (-len(encoded) % 4)
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return False
    for key in keys:
        try:
            key.verify(raw, signed)
        except InvalidSignature:
            continue
        return True
    return False


def _refuse_stale(fields: Mapping[str, Any], now: datetime) -> None:
    try:
        # RFC 3339 allows the letters in lower case, Python does not.
        signed_at = datetime.fromisoformat(str(fields.get("time")).upper())
    except ValueError:
        signed_at = datetime.fromtimestamp(0, tz=UTC)
    if signed_at.tzinfo is None or not now - OLDEST <= signed_at <= now + MOST_AHEAD:
        raise EventRefused(
            "stale_signature",
            "The event's `time` is too long ago or ahead of our clock: publish it anew, with the "
            "publisher's clock right.",
        )
