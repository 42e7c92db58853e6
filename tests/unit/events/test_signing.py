"""Signatures: who sent an event, and whether they may send it."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from events import EventRefused, SigningKey, Sources, read_event
from events.signing import MOST_AHEAD, OLDEST, canonical_bytes
from tests.unit.events.samples import SAMPLES, event

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def signing_key(fill: int) -> SigningKey:
    """A key of 32 equal bytes."""
    return SigningKey.parse(f"k{fill}:{base64.b64encode(bytes([fill]) * 32).decode()}")


KEY, NEW_KEY, STRANGER = signing_key(1), signing_key(2), signing_key(3)
SOURCES = Sources.parse(
    json.dumps(
        {
            "upstream/tests": {
                "keys": [KEY.public, NEW_KEY.public],
                "types": ["byok.*"],
            },
            "upstream/keys": {"keys": [KEY.public], "types": ["byok.key.*"]},
        }
    )
)
TESTED = "byok.key.tested.v1"


def signed(fields: dict[str, Any], key: SigningKey = KEY) -> dict[str, Any]:
    return fields | {"signature": key.sign(fields)}


def refusal(fields: dict[str, Any], now: datetime = NOW) -> str:
    """With which reason an event is refused."""
    with pytest.raises(EventRefused) as caught:
        read_event(json.dumps(fields), SOURCES, now)
    return caught.value.reason


@pytest.mark.parametrize("kind", sorted(SAMPLES))
@pytest.mark.parametrize("key", [KEY, NEW_KEY])
def test_an_event_signed_by_its_source_is_read(kind: str, key: SigningKey) -> None:
    assert read_event(json.dumps(signed(event(kind), key)), SOURCES, NOW).type == kind


def test_the_spelling_of_the_json_does_not_matter() -> None:
    fields = signed(event("byok.account.updated.v1"))
    backwards = dict(reversed(fields.items()))
    read = read_event(json.dumps(backwards, indent=3, ensure_ascii=False), SOURCES, NOW)
    assert read.subject == "acme"


def test_an_event_without_a_signature_is_refused() -> None:
    assert refusal(event(TESTED)) == "unsigned"
    assert refusal(event(TESTED, signature=None)) == "unsigned"
    assert refusal(event(TESTED, signature=["ed25519.AAAA"])) == "unsigned"


def test_an_event_of_an_unknown_source_is_refused() -> None:
    assert refusal(signed(event(TESTED, source="upstream/other"))) == "unknown_source"
    assert refusal(signed(event(TESTED, source=["upstream/tests"]))) == "unknown_source"


def test_a_source_may_send_its_own_types_alone() -> None:
    own = signed(event(TESTED, source="upstream/keys"))
    assert read_event(json.dumps(own), SOURCES, NOW).source == "upstream/keys"
    for kind in SAMPLES:
        if not kind.startswith("byok.key."):
            fields = signed(event(kind, source="upstream/keys"))
            assert refusal(fields) == "source_not_allowed"


def test_a_key_of_another_source_does_not_sign_for_this_one() -> None:
    fields = signed(event(TESTED, source="upstream/keys"), NEW_KEY)
    assert refusal(fields) == "bad_signature"
    assert refusal(signed(event(TESTED), STRANGER)) == "bad_signature"


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.update(id="evt-2"),
        lambda e: e.update(subject="other"),
        lambda e: e.update(source="upstream/keys"),
        lambda e: e.update(type="byok.key.removed.v1"),
        lambda e: e.update(time="2026-01-01T12:00:01Z"),
        lambda e: e.update(replyto="0a"),
        lambda e: e.update(extension=1),
        lambda e: e.pop("datacontenttype"),
        lambda e: e["data"].update(key_id="key-3"),
        lambda e: e["data"].update(more=1),
    ],
)
def test_no_part_of_an_event_may_be_changed_after_it_was_signed(change: Change) -> None:
    fields = signed(event(TESTED))
    change(fields)
    assert refusal(fields) in {"bad_signature", "source_not_allowed"}


@pytest.mark.parametrize("place", range(0, 64, 5))
def test_no_byte_of_a_signature_may_be_changed(place: int) -> None:
    scheme, _, encoded = KEY.sign(event(TESTED)).partition(".")
    raw = bytearray(base64.urlsafe_b64decode(encoded + "=="))
    raw[place] ^= 1 << (place % 8)
    altered = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    assert refusal(event(TESTED, signature=f"{scheme}.{altered}")) == "bad_signature"


@pytest.mark.parametrize(
    "signature",
    ["", "ed25519", "ed25519.", "ed25519.AAAA", "ed25519.\u00e9", "none.", "rsa.AAAA", "." * 50],
)
def test_what_is_no_signature_is_a_bad_one(signature: str) -> None:
    assert refusal(event(TESTED, signature=signature)) == "bad_signature"


def test_a_signature_of_another_event_is_a_bad_one() -> None:
    other = KEY.sign(event(TESTED, id="evt-2"))
    assert refusal(event(TESTED, signature=other)) == "bad_signature"


@pytest.mark.parametrize(
    ("age", "good"),
    [
        (timedelta(0), True),
        (OLDEST, True),
        (OLDEST + timedelta(seconds=1), False),
        (-MOST_AHEAD, True),
        (-MOST_AHEAD - timedelta(seconds=1), False),
    ],
)
def test_a_signature_counts_for_its_time_alone(age: timedelta, good: bool) -> None:
    fields = signed(event(TESTED))
    if good:
        assert read_event(json.dumps(fields), SOURCES, NOW + age).id == "evt-1"
    else:
        assert refusal(fields, NOW + age) == "stale_signature"


@pytest.mark.parametrize(
    "time",
    [
        "soon",
        "",
        "2026-01-01T12:00:00",
        1_767_268_800,
        None,
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_a_time_that_cannot_be_compared_is_stale(time: object) -> None:
    assert refusal(signed(event(TESTED, time=time))) == "stale_signature"


@pytest.mark.parametrize("number", [2**53, -(2**53), 1e400, float("nan")])
def test_a_number_that_json_cannot_carry_exactly_is_refused(number: float) -> None:
    fields = event(TESTED, extension=number, signature="ed25519.AAAA")
    assert refusal(fields) == "invalid_event"


def test_a_text_that_utf8_cannot_carry_is_refused() -> None:
    fields = event(TESTED, extension="\ud800", signature="ed25519.AAAA")
    assert refusal(fields) == "invalid_event"


def test_the_signature_itself_is_not_signed() -> None:
    fields = event(TESTED)
    assert canonical_bytes(fields) == canonical_bytes(fields | {"signature": "x"})


def test_canonical_bytes_are_those_of_rfc_8785() -> None:
    fields = {"b": 1.0, "a": "\u20ac$\u000f\nA'\"\\", "\u20ac": [1e30, 4.5, 2e-3, 1e-27]}
    assert canonical_bytes(fields) == (
        b'{"a":"\xe2\x82\xac$\\u000f\\nA\'\\"\\\\","b":1,"\xe2\x82\xac":[1e+30,4.5,0.002,1e-27]}'
    )


@settings(max_examples=200)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    ),
    st.text(),
)
def test_canonical_bytes_are_those_of_the_library_that_knows_nothing_else(
    value: Any, name: str
) -> None:
    fields = {"value": value, name: "\x00\x1f\x7f\u2028 / \U0001f511"}
    assert canonical_bytes(fields) == rfc8785.dumps(
        {name: value for name, value in fields.items() if name != "signature"}
    )


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
            ),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_whatever_an_event_holds_its_signature_is_the_same_after_its_journey(
    extra: dict[str, Any],
) -> None:
    fields = signed({**extra, **event(TESTED)})
    assert read_event(json.dumps(fields), SOURCES, NOW).id == "evt-1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "no json",
        '{"a": 1}',
        '{"a": {}}',
        '{"a": {"keys": [], "types": ["*"]}}',
        '{"a": {"keys": ["AAAA"], "types": ["*"]}}',
        '{"a": {"keys": "hunter2", "types": ["*"]}}',
        json.dumps({"a": {"keys": [KEY.public], "types": []}}),
        json.dumps({"a": {"keys": [KEY.public, "hunter2"], "types": ["*"]}}),
    ],
)
def test_sources_that_are_not_written_rightly_are_told_without_their_values(text: str) -> None:
    with pytest.raises(ValueError, match="source") as caught:
        Sources.parse(text)
    assert "hunter2" not in str(caught.value)


def test_a_private_key_is_not_shown() -> None:
    assert base64.b64encode(bytes([1]) * 32).decode() not in repr(KEY)


def test_a_derived_key_is_of_its_secret_and_purpose() -> None:
    derived = SigningKey.derived(b"secret", "purpose").public
    assert derived == SigningKey.derived(b"secret", "purpose").public
    assert derived != SigningKey.derived(b"secret", "other").public
    assert derived != SigningKey.derived(b"secret2", "purpose").public
