"""Sealing: what is sealed opens for what it belongs to, with the right key, unaltered."""

import base64
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from events import EventRefused, Provider, SealingKeys, SealingPublicKey, seal_input, seal_key
from events.sealing import input_info, key_info, parse_named_key, seal, seal_text, text_info

OPENAI, ANTHROPIC = Provider.OPENAI, Provider.ANTHROPIC
FAKE = "sk-proj-fake-not-a-real-key-0123456789"


def named(key_id: str, fill: int) -> str:
    """A named key of 32 equal bytes."""
    return f"{key_id}:{base64.b64encode(bytes([fill]) * 32).decode()}"


KEYS = SealingKeys.parse(f"{named('s2', 2)},{named('s1', 1)}")
INFO = key_info("acme", OPENAI, "key-1")


def sealed_key(public: SealingPublicKey = KEYS.current) -> str:
    """The fake key, sealed for its account, provider and key id."""
    return seal_key(FAKE, public, account="acme", provider=OPENAI, key_id="key-1")


def raw_of(sealed: str) -> bytes:
    """The bytes behind the name of the key."""
    encoded = sealed.rpartition(".")[2]
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


def with_raw(raw: bytes) -> str:
    """A sealed value of these bytes."""
    return f"v1.s2.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def why_not(sealed: str, info: bytes = INFO, keys: SealingKeys = KEYS) -> str:
    """With which reason a sealed value does not open."""
    with pytest.raises(EventRefused) as caught:
        keys.open(sealed, info)
    assert FAKE not in str(caught.value)
    return caught.value.reason


@settings(max_examples=50)
@given(st.binary(max_size=2_000), st.binary(max_size=100))
def test_what_is_sealed_opens_for_what_it_was_sealed_for(plaintext: bytes, info: bytes) -> None:
    assert KEYS.open(seal(plaintext, KEYS.current, info), info) == plaintext


def test_a_key_opens_as_it_was_pasted() -> None:
    assert KEYS.open(sealed_key(), INFO).decode() == FAKE


def test_an_input_opens_for_its_account_and_request() -> None:
    sealed = seal_input(b"{}", KEYS.current, account="acme", request_id="req-1")
    assert KEYS.open(sealed, input_info("acme", "req-1")) == b"{}"


def test_sealing_the_same_twice_gives_different_values() -> None:
    assert sealed_key() != sealed_key()


def test_a_sealed_value_shows_nothing_of_the_key() -> None:
    assert FAKE not in sealed_key()
    assert FAKE.encode() not in raw_of(sealed_key())


def test_an_old_sealing_key_still_opens_and_the_first_one_seals() -> None:
    assert KEYS.current.key_id == "s2"
    old = SealingKeys.parse(named("s1", 1)).current
    assert KEYS.open(sealed_key(old), INFO).decode() == FAKE


@pytest.mark.parametrize(
    "info",
    [
        key_info("other", OPENAI, "key-1"),
        key_info("acme", ANTHROPIC, "key-1"),
        key_info("acme", OPENAI, "key-2"),
        input_info("acme", "key-1"),
        b"",
    ],
    ids=["account", "provider", "key-id", "purpose", "nothing"],
)
def test_a_key_does_not_open_for_anything_else(info: bytes) -> None:
    assert why_not(sealed_key(), info) == "seal_broken"


@pytest.mark.parametrize(("account", "request_id"), [("other", "req-1"), ("acme", "req-2")])
def test_an_input_does_not_open_for_another_account_or_request(
    account: str, request_id: str
) -> None:
    sealed = seal_input(b"{}", KEYS.current, account="acme", request_id="req-1")
    assert why_not(sealed, input_info(account, request_id)) == "seal_broken"


def test_a_text_opens_for_its_account_and_request_alone() -> None:
    sealed = seal_text(b"{}", KEYS.current, account="acme", request_id="req-1")
    assert KEYS.open(sealed, text_info("acme", "req-1")) == b"{}"
    others = (text_info("other", "req-1"), text_info("acme", "req-2"), input_info("acme", "req-1"))
    for info in others:
        assert why_not(sealed, info) == "seal_broken"


def test_no_two_bindings_have_the_same_bytes() -> None:
    bindings = [
        key_info("a", OPENAI, "b"),
        key_info("b", OPENAI, "a"),
        key_info("a", ANTHROPIC, "b"),
        input_info("a", "b"),
        input_info("a", "openai"),
        key_info("a-openai", OPENAI, "b"),
    ]
    assert len(set(bindings)) == len(bindings)


@pytest.mark.parametrize("place", range(0, 86, 3))
def test_a_changed_byte_does_not_open(place: int) -> None:
    raw = bytearray(raw_of(sealed_key()))
    assert len(raw) == 32 + len(FAKE) + 16
    raw[place] ^= 1 << (place % 8)
    assert why_not(with_raw(bytes(raw))) == "seal_broken"


def test_the_highest_bit_of_the_point_counts_too() -> None:
    # X25519 does not look at it (RFC 7748, 5); the key schedule binds it all the same.
    raw = bytearray(raw_of(sealed_key()))
    raw[31] ^= 0x80
    assert why_not(with_raw(bytes(raw))) == "seal_broken"


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 47, 48, 85])
def test_a_cut_value_does_not_open(length: int) -> None:
    assert why_not(with_raw(raw_of(sealed_key())[:length])) == "seal_broken"


def test_a_value_with_bytes_behind_it_does_not_open() -> None:
    assert why_not(with_raw(raw_of(sealed_key()) + b"\0")) == "seal_broken"


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31), b"\xff" * 32])
def test_a_point_that_gives_no_secret_does_not_open(point: bytes) -> None:
    assert why_not(with_raw(point + raw_of(sealed_key())[32:])) == "seal_broken"


@pytest.mark.parametrize(
    "sealed", ["", "v1", "v1.", "v1.s2", "v2.s2.AAAA", "V1.s2.AAAA", FAKE, ".s2.AAAA"]
)
def test_another_form_is_malformed(sealed: str) -> None:
    assert why_not(sealed) == "seal_malformed"


@pytest.mark.parametrize("encoded", ["A", "AAAAA", "\u00e9\u00e9\u00e9\u00e9", "....", "  "])
def test_what_is_no_base64_does_not_open(encoded: str) -> None:
    assert why_not(f"v1.s2.{encoded}") in {"seal_broken", "seal_unknown_key"}


def test_a_key_that_is_not_held_is_told_apart() -> None:
    stranger = SealingPublicKey("s9", X25519PrivateKey.generate().public_key().public_bytes_raw())
    assert why_not(sealed_key(stranger)) == "seal_unknown_key"


def test_a_value_of_another_key_under_our_name_does_not_open() -> None:
    stranger = SealingPublicKey("s2", X25519PrivateKey.generate().public_key().public_bytes_raw())
    assert why_not(sealed_key(stranger)) == "seal_broken"


def test_a_value_renamed_to_another_key_of_ours_does_not_open() -> None:
    assert why_not(sealed_key().replace("v1.s2.", "v1.s1.")) == "seal_broken"


@settings(max_examples=60)
@given(st.text(max_size=200))
def test_any_text_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(EventRefused) as caught:
        KEYS.open(f"v1.s2.{text}", INFO)
    assert len(text) < 4 or text not in caught.value.sentence


def test_private_keys_are_not_shown() -> None:
    assert base64.b64encode(bytes([2]) * 32).decode() not in repr(KEYS)
    assert "X25519" not in repr(KEYS)


def test_a_public_key_is_written_as_it_is_read() -> None:
    public = KEYS.current
    assert SealingPublicKey.parse(str(public)) == public
    assert SealingPublicKey.parse(f" {public}\n") == public


def test_a_public_key_cannot_open() -> None:
    half = SealingKeys.parse(str(KEYS.current))
    assert why_not(sealed_key(), keys=half) == "seal_broken"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "s1",
        "s1:",
        f":{base64.b64encode(bytes(32)).decode()}",
        f"s.1:{base64.b64encode(bytes(32)).decode()}",
        f"s1:{base64.b64encode(bytes(31)).decode()}",
        f"s1:{base64.b64encode(bytes(33)).decode()}",
        "s1:hunter2hunter2hunter2hunter2hunter2hunter2!",
        "s1:hunter2\u00e9",
        f"s1:{base64.urlsafe_b64encode(bytes([251]) * 32).decode()}",
    ],
)
def test_a_key_that_is_not_written_rightly_is_told_without_its_value(text: str) -> None:
    with pytest.raises(ValueError, match="sealing key must be written") as caught:
        parse_named_key(text, what="sealing key")
    assert "hunter2" not in str(caught.value)
    assert len(text) < 5 or text not in str(caught.value)


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_without_a_sealing_key_nothing_is_opened(text: str) -> None:
    with pytest.raises(ValueError, match="no sealing key"):
        SealingKeys.parse(text)


def test_a_wrong_key_among_good_ones_is_told() -> None:
    with pytest.raises(ValueError, match="sealing key must be written"):
        SealingKeys.parse(f"{named('s1', 1)},s2:nonsense")


def test_a_mail_of_any_size_opens_whole() -> None:
    payload = os.urandom(150_000)
    sealed = seal_input(payload, KEYS.current, account="acme", request_id="req-1")
    assert KEYS.open(sealed, input_info("acme", "req-1")) == payload
