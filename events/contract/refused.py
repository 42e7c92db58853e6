"""The vectors of events that must be refused, each with its reason."""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime
from typing import Any

from events.contract import testkeys
from events.contract.carried import sign
from events.contract.keeping import Vector, refusal_of, required
from events.contract.samples import FAKE_OPENAI, NOW, TIME
from events.envelope import MAX_EVENT_BYTES
from events.registry import read_event
from events.signing import SIGNATURE, Sources

_Change = Callable[[dict[str, Any]], object]


def make_refused(good: Mapping[str, Vector]) -> list[Vector]:
    """The events that must be refused, made from the `good` ones by name."""
    added = good["key-added"]
    made = [
        *_of_form(added),
        *_of_signature(added),
        *_of_content(added),
        *_of_values(good),
    ]
    sources = testkeys.believed(testkeys.as_json())
    return [_refused(sources, vector) for vector in made]


def check_refused(vector: Vector, sources: Sources) -> list[str]:
    """What our code does otherwise than the vector says; empty where nothing."""
    now = datetime.fromisoformat(vector["now"])
    reason, sentence = refusal_of(lambda: read_event(text_of(vector), sources, now))
    return required(vector, reason, sentence)


def text_of(vector: Vector) -> str:
    """The text of a refused event. A large one is described, not stored."""
    if "text" in vector:
        return str(vector["text"])
    described = vector["described"]
    text, size = str(described["text"]), int(described["padded_with_spaces_to_bytes"])
    return text + " " * (size - len(text.encode()))


def _of_form(good: Vector) -> list[Vector]:
    event = good["event"]
    return [
        _wrong("not-json", "not_json", good["signed"][:-1]),
        _wrong("not-an-object", "not_cloudevent", "[]"),
        _wrong("not-a-cloudevent", "not_cloudevent", json.dumps(event["data"])),
        _wrong(
            "another-specversion",
            "not_cloudevent",
            _changed(good, lambda e: e.update(specversion="0.3")),
        ),
        _wrong(
            "unknown-type",
            "unknown_type",
            _changed(good, lambda e: e.update(type="byok.key.borrowed.v1")),
        ),
        _wrong(
            "an-out-event",
            "unknown_type",
            _changed(good, lambda e: e.update(type="byok.key.status_changed.v1")),
        ),
        _wrong(
            "unknown-version",
            "unknown_version",
            _changed(good, lambda e: e.update(type="byok.key.added.v999")),
        ),
        {
            "name": "too-large",
            "now": NOW,
            "described": {
                "text": good["signed"],
                "padded_with_spaces_to_bytes": MAX_EVENT_BYTES + 1,
            },
            "reason": "too_large",
        },
    ]


def _of_signature(good: Vector) -> list[Vector]:
    event, signed = good["event"], good["signed"]
    altered = json.loads(signed)
    altered["data"]["allow_platform_fallback"] = False
    return [
        _wrong("unsigned", "unsigned", json.dumps(event)),
        _wrong(
            "unknown-source",
            "unknown_source",
            sign({**event, "source": testkeys.STRANGER}, testkeys.STRANGER),
        ),
        _wrong(
            "wrong-source-for-the-type",
            "source_not_allowed",
            sign({**event, "source": testkeys.ACCOUNTS_SOURCE}, testkeys.ACCOUNTS_SOURCE),
        ),
        _wrong("signed-by-another-source", "bad_signature", sign(event, testkeys.STRANGER)),
        _wrong("altered-after-signing", "bad_signature", json.dumps(altered)),
        _wrong(
            "another-scheme",
            "bad_signature",
            json.dumps({**event, SIGNATURE: good["signature"].replace("ed25519", "rsa")}),
        ),
        _wrong("stale-signature", "stale_signature", signed, now="2026-01-18T12:00:01Z"),
        _wrong("ahead-of-time", "stale_signature", signed, now="2026-01-15T11:49:59Z"),
        _wrong(
            "a-time-without-a-zone",
            "stale_signature",
            _changed(good, lambda e: e.update(time=TIME.removesuffix("Z"))),
        ),
    ]


def _of_content(good: Vector) -> list[Vector]:
    return [
        _wrong(name, "invalid_event", _changed(good, change))
        for name, change in (
            ("missing-field", lambda e: e["data"].pop("key_id")),
            ("extra-field", lambda e: e["data"].update(nickname="mine")),
            ("another-provider", lambda e: e["data"].update(provider="mistral")),
            ("an-account-with-a-space", lambda e: e.update(subject="acct 0001")),
            ("no-data", lambda e: e.pop("data")),
            ("another-content-type", lambda e: e.update(datacontenttype="text/plain")),
        )
    ]


def _of_values(good: Mapping[str, Vector]) -> list[Vector]:
    added, account = good["key-added"], good["account-updated-shortest"]
    return [
        _wrong(
            "readable-key",
            "readable_key",
            _changed(added, lambda e: e["data"].update(sealed_key=FAKE_OPENAI)),
        ),
        _wrong(
            "readable-key-in-a-text",
            "readable_key",
            _changed(account, lambda e: e["data"].update(plan=f"my key is {FAKE_OPENAI}")),
        ),
        _wrong(
            "a-number-that-is-not-exact",
            "invalid_event",
            added["signed"].replace('"revision":9,', '"revision":9007199254740993,'),
        ),
    ]


def _wrong(name: str, reason: str, text: str, *, now: str = NOW) -> Vector:
    return {"name": name, "now": now, "text": text, "reason": reason}


def _changed(good: Vector, change: _Change) -> str:
    """The event with a change made before it is signed."""
    event = deepcopy(good["event"])
    change(event)
    return sign(event, event["source"])


def _refused(sources: Sources, vector: Vector) -> Vector:
    now = datetime.fromisoformat(vector["now"])
    reason, sentence = refusal_of(lambda: read_event(text_of(vector), sources, now))
    vector = {**vector, "sentence": sentence}
    if problems := required(vector, reason, sentence):
        raise ValueError(f"the event vector {vector['name']!r} {problems[0]}")
    return vector
