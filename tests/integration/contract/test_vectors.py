"""Our own code holds to the vectors, and goes on reading the old ones."""

import hashlib
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from events import INCOMING, EventData, KeyTested, SealingKeys, registry
from events.contract import Vectors, check_vectors
from events.contract.hpke import seal_with
from events.contract.refused import text_of
from events.contract.testkeys import WORKERS_SOURCE
from events.envelope import MAX_EVENT_BYTES
from store.ledger import LedgerRow
from workers.app import SOURCE

RELEASED = Path(__file__).with_name("released.json")


def failing(vectors: Vectors) -> dict[str, list[str]]:
    """The vectors that do not hold, with what is wrong."""
    return {one.name: one.problems for one in check_vectors(vectors) if not one.ok}


def test_our_own_code_holds_to_every_vector(vectors: Vectors) -> None:
    assert failing(vectors) == {}


def test_there_is_a_vector_of_every_event_that_is_read(vectors: Vectors) -> None:
    assert {vector["type"] for vector in vectors["events"]} >= set(INCOMING)


def test_names_are_not_used_twice(vectors: Vectors) -> None:
    names = [one.name for one in check_vectors(vectors)]
    assert len(names) == len(set(names))


def test_every_way_of_being_refused_before_the_store_has_a_vector(vectors: Vectors) -> None:
    told = {v["reason"] for v in (*vectors["events_refused"], *vectors["sealing_refused"])}
    assert told == {
        *("too_large", "not_json", "not_cloudevent", "unknown_type", "unknown_version"),
        *("readable_key", "unsigned", "unknown_source", "source_not_allowed", "bad_signature"),
        *("stale_signature", "invalid_event"),
        *("seal_broken", "seal_unknown_key", "seal_malformed"),
    }


def test_the_event_that_is_too_large_is_so_by_one_byte(vectors: Vectors) -> None:
    (large,) = (v for v in vectors["events_refused"] if v["reason"] == "too_large")
    assert len(text_of(large).encode()) == MAX_EVENT_BYTES + 1
    assert len(json.dumps(large)) < 10_000


def test_every_key_in_the_vectors_is_named_a_test_key(vectors: Vectors) -> None:
    keys = vectors["keys"]
    assert all(key["id"].startswith("test-") for key in keys["sealing"])
    assert "never configure" in keys["note"]
    for vector in vectors["sealing"]:
        if vector["plaintext"].startswith("sk-"):
            assert "not-a-real-key" in vector["plaintext"]


def test_usage_messages_come_from_the_workers_themselves(vectors: Vectors) -> None:
    usage = [v for v in vectors["events"] if v["queue"] == "usage"]
    assert {v["event"]["source"] for v in usage} == {WORKERS_SOURCE} == {SOURCE}


# Old vectors must still be read.


def test_a_released_vector_is_there_and_unchanged(vectors: Vectors) -> None:
    """A new vector is a new line in `released.json`; a line is never changed nor taken out."""
    now = {v["name"]: _digest(v) for v in (*vectors["sealing"], *vectors["events"])}
    assert now == json.loads(RELEASED.read_text())


def test_old_usage_rows_are_still_ledger_rows(vectors: Vectors) -> None:
    for vector in vectors["events"]:
        if vector["queue"] == "usage":
            for row in vector["event"]["data"]["rows"]:
                fields = json.loads(row) if isinstance(row, str) else row
                assert LedgerRow.from_fields(fields).id == fields["id"]


def test_a_field_that_becomes_required_breaks_the_old_vectors(
    vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KeyTestedWithMore(KeyTested):
        why: str

    _register(monkeypatch, KeyTestedWithMore)
    assert failing(vectors) == {
        "key-tested": [
            "is refused as invalid_event: In the event byok.key.tested.v1, why: field required."
        ]
    }


def test_an_optional_field_breaks_nothing(
    vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KeyTestedWithMore(KeyTested):
        why: str | None = None

    _register(monkeypatch, KeyTestedWithMore)
    assert failing(vectors) == {}


def test_a_new_version_with_an_upcaster_breaks_nothing(
    vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KeyTestedAnew(KeyTested):
        event_type: ClassVar[str] = "byok.key.tested.v2"

        why: str

    def upcast(data: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        return KeyTestedAnew.event_type, {**data, "why": "asked"}

    _register(monkeypatch, KeyTestedAnew, instead_of=KeyTested.event_type)
    assert list(failing(vectors)) == ["key-tested"]
    monkeypatch.setattr(registry, "UPCASTERS", {KeyTested.event_type: upcast})
    assert failing(vectors) == {}


# The check itself can fail.

CHANGES: dict[str, Callable[[Vectors], object]] = {
    "a sealed value": lambda v: v["sealing"][0].update(sealed=v["sealing"][1]["sealed"]),
    "a plaintext": lambda v: v["sealing"][0].update(plaintext="other"),
    "a step of sealing": lambda v: v["sealing"][0].update(key_hex="00" * 32),
    "a refused sealing that opens": lambda v: v["sealing_refused"][0].update(
        sealed=v["sealing"][0]["sealed"]
    ),
    "a canonical form": lambda v: v["events"][0].update(canonical_hex="7b7d"),
    "a signature": lambda v: v["events"][0].update(signature="ed25519.AAAA"),
    "a signed text": lambda v: v["events"][0].update(signed=v["events"][1]["signed"]),
    "an entry in Redis": lambda v: v["events"][0]["redis"].update(entry="other"),
    "an argument in RabbitMQ": lambda v: v["events"][0]["rabbitmq"]["arguments"].clear(),
    "a refused event that is read": lambda v: v["events_refused"][0].update(
        text=v["events"][0]["signed"]
    ),
    "a reason": lambda v: v["events_refused"][0].update(reason="unsigned"),
    "a sentence": lambda v: v["events_refused"][0].update(sentence="No."),
    "the clock": lambda v: v.update(now="2026-02-15T12:00:00Z"),
    "who is believed": lambda v: v["keys"]["BYOK_PUBLISHERS"].pop("test/accounts-only"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_vector_that_does_not_hold_is_found(vectors: Vectors, what: str) -> None:
    changed = deepcopy(vectors)
    CHANGES[what](changed)
    assert failing(changed)


def test_sealing_with_a_given_ephemeral_key_is_that_of_the_rfc() -> None:
    """RFC 9180, A.1.1: the encapsulation is that of our suite, whatever cipher follows."""
    made = seal_with(
        X25519PrivateKey.from_private_bytes(
            bytes.fromhex("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736")
        ),
        X25519PublicKey.from_public_bytes(
            bytes.fromhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d")
        ),
        b"info",
        b"text",
    )
    assert made.enc.hex() == "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
    assert made.shared_secret.hex() == (
        "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc"
    )


def test_our_library_seals_to_what_the_vectors_keys_open(vectors: Vectors) -> None:
    (key,) = (key for key in vectors["keys"]["sealing"] if key["held_by_workers"])
    keys = SealingKeys.parse(f"{key['id']}:{key['private']}")
    drawn = [v for v in vectors["sealing"] if "ephemeral_private_hex" not in v]
    assert drawn
    for vector in drawn:
        opened = keys.open(vector["sealed"], vector["info"].encode())
        assert opened.decode() == vector["plaintext"]


def _register(
    monkeypatch: pytest.MonkeyPatch, model: type[EventData], instead_of: str | None = None
) -> None:
    models = {**INCOMING, model.event_type: model}
    if instead_of is not None:
        del models[instead_of]
    monkeypatch.setattr(registry, "INCOMING", models)


def _digest(vector: Any) -> str:
    return hashlib.sha256(json.dumps(vector, sort_keys=True).encode()).hexdigest()
