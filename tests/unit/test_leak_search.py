"""The search for leaked secrets finds what it must, in each encoding, and shows nothing of it."""

import base64
import json
import secrets
from collections.abc import Callable
from urllib.parse import quote

import pytest

from tests.leaks import PIECE, Secret, search, told

ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "reversed": lambda text: text[::-1],
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 after 1": lambda text: base64.b64encode(b"x" + text.encode()).decode(),
    "base64 after 2": lambda text: base64.b64encode(b"xy" + text.encode() + b"z").decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(f"~{text}~?".encode()).decode(),
    "percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "percent, lower": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "in a URL": lambda text: quote(f"https://example.org/?key={text}", safe=""),
    "json": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "json in JSON": lambda text: json.dumps("".join(f"\\u{ord(letter):04x}" for letter in text)),
    "json in JSON in JSON": lambda text: json.dumps(
        json.dumps("".join(f"\\u{ord(letter):04x}" for letter in text))
    ),
    "in JSON": lambda text: json.dumps({"key": f'"{text}"\n'}),
    "utf-16": lambda text: text.encode("utf-16-le").decode("latin-1"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_twelve_characters_of_a_secret_are_found_in_each_encoding(encoding: str) -> None:
    # Characters that base64's two alphabets write differently are among them.
    private = "Zq8~vT?n3LxW>5p_Rk7-YmB2cHd9F~?>ab"
    encode = ENCODINGS[encoding]
    noise = secrets.token_bytes(1000).replace(b"Zq8", b"")
    for start in range(len(private) - PIECE + 1):
        piece = private[start : start + PIECE]
        for shift in (0, 3):
            place = noise[shift:] + encode(piece).encode("latin-1") + noise
            assert search({"place": place}, [Secret("it", private)]), piece
    assert not search({"place": noise * 100}, [Secret("it", private)])


def test_what_is_shown_of_a_key_on_purpose_is_no_hit() -> None:
    secret = Secret("it", "Zq8vTn3LxW5pRk7YmB2cHd9F")
    shown = b"sk-proj-sandbox-good-not-a-real-key-Zq8v...Hd9F, the key that ends with Hd9F"
    assert search({"place": shown}, [secret]) == []


def test_a_hit_shows_nothing_of_the_secret() -> None:
    secret = Secret("it", "Zq8vTn3LxW5pRk7YmB2cHd9F")
    hits = search({"place": b"..Zq8vTn3LxW5pRk7YmB2cHd9F"}, [secret])
    assert hits
    assert "Zq8v" not in repr((hits, secret))


def test_each_secret_is_found_in_each_place() -> None:
    known = [Secret("one", "Zq8vTn3LxW5pRk7YmB2cHd9F"), Secret("two", "ABCDefghIJKLmnopQRSTuvwx")]
    places = {"a": b"", "b": b"1234567", "c": b"..ABCDefghIJKLmnop", "d": b"Zq8vTn3LxW5pRk7YmB"}
    found = {(hit.secret, hit.place, hit.encoding) for hit in search(places, known)}
    assert found == {("two", "c", "raw"), ("one", "d", "raw")}


def test_what_was_searched_is_told() -> None:
    secret = Secret("it", "Zq8vTn3LxW5pRk7YmB2cHd9F")
    line = told({"a": b"12345", "b": bytes(1000)}, [secret], [])
    assert line == (
        f"0 leaks: searched 1,005 bytes in 2 artefacts for {len(secret.needles)} needles "
        "of 1 secrets"
    )
