"""What looks like a provider key is found; what people write in mails is left alone."""

import json
import random
import string
from pathlib import Path
from typing import Any

import pytest

from events import EventRefused, read_event
from events.redaction import REDACTED, redact, refuse_readable_keys
from tests.unit.events.samples import event, event_with

MAILS = Path(__file__).parents[2] / "data" / "mail"
WORD = string.ascii_letters + string.digits + "_-"
LETTERS = string.ascii_letters + string.digits


def some(source: random.Random, alphabet: str, length: int) -> str:
    return "".join(source.choices(alphabet, k=length))


def openai_project(source: random.Random) -> str:
    """`sk-proj-…`, `sk-svcacct-…` or `sk-admin-…`, long or short."""
    kind, half = source.choice(["proj", "svcacct", "admin"]), source.choice([74, 58])
    return f"sk-{kind}-{some(source, WORD, half)}T3BlbkFJ{some(source, WORD, half)}"


def openai_old(source: random.Random) -> str:
    """The form before projects."""
    return f"sk-{some(source, LETTERS, 20)}T3BlbkFJ{some(source, LETTERS, 20)}"


def openai_other(source: random.Random) -> str:
    """Forms that were seen for a while."""
    return f"sk-{source.choice(['None', 'service'])}-{some(source, WORD, 48)}"


def anthropic(source: random.Random) -> str:
    """`sk-ant-api03-…` or `sk-ant-admin01-…`."""
    return f"sk-ant-{source.choice(['api03', 'admin01'])}-{some(source, WORD, 93)}AA"


def anthropic_token(source: random.Random) -> str:
    """Tokens of a login."""
    return f"sk-ant-{source.choice(['oat01', 'ort01'])}-{some(source, WORD, 93)}AA"


FORMATS = [openai_project, openai_old, openai_other, anthropic, anthropic_token]


@pytest.mark.parametrize("make", FORMATS)
def test_every_key_of_a_known_format_is_taken_out_whole(make: Any) -> None:
    source = random.Random(20260101)  # noqa: S311 -- the same keys in every run
    keys = [make(source) for _ in range(2_000)]
    for key in keys:
        assert redact(key) == REDACTED
    text = " ".join(f"key={key!r}," for key in keys)
    assert redact(text) == " ".join(f"key='{REDACTED}'," for _ in keys)


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "Bearer {}",
        '"{}"',
        "api_key={}&x=1",
        "https://x/?k={}#",
        "[{}]",
        "\u00e9{}\u00e9",
        "x{}",
    ],
)
def test_a_key_is_found_wherever_it_stands(make: Any, around: str) -> None:
    key = make(random.Random(7))  # noqa: S311 -- as above
    found = redact(around.format(key))
    assert key[8:40] not in found
    assert REDACTED in found


def test_several_keys_in_a_line_are_each_taken_out() -> None:
    source = random.Random(3)  # noqa: S311 -- as above
    line = f"{openai_project(source)} {anthropic(source)}\n{openai_old(source)}"
    assert redact(line) == f"{REDACTED} {REDACTED}\n{REDACTED}"


@pytest.mark.parametrize(
    "text", ["", "sk-", "sk-short", "task-list", "ask-me", "sk-1234567890", "sk_proj_abc", REDACTED]
)
def test_what_is_no_key_stays(text: str) -> None:
    assert redact(text) == text


def test_what_was_redacted_is_redacted_no_further() -> None:
    once = redact(f"a {anthropic(random.Random(1))} b")  # noqa: S311 -- as above
    assert redact(once) == once


@pytest.mark.parametrize("mail", sorted(MAILS.glob("*.eml")), ids=lambda path: path.stem)
def test_mail_that_people_wrote_is_left_alone(mail: Path) -> None:
    text = mail.read_bytes().decode("latin-1")
    assert redact(text) == text


# Events that hold a key in the clear

KEY = anthropic(random.Random(5))  # noqa: S311 -- as above


@pytest.mark.parametrize(
    "fields",
    [
        event_with("byok.key.added.v1", sealed_key=KEY),
        event_with("byok.key.tested.v1", key_id=KEY),
        event_with("byok.key.tested.v1", **{KEY: 1}),
        event("byok.key.tested.v1", subject=KEY),
        event("byok.key.tested.v1", extension=[{"a": [f"see {KEY}"]}]),
        event("byok.key.tested.v1", id=f"v1.{KEY}"),
        event("byok.key.tested.v1", id=f"v1.s1.{KEY}\n"),
    ],
)
def test_an_event_with_a_key_in_the_clear_is_refused_and_the_key_not_told(
    fields: dict[str, Any],
) -> None:
    with pytest.raises(EventRefused) as caught:
        read_event(json.dumps(fields))
    assert caught.value.reason == "readable_key"
    assert KEY[10:30] not in str(caught.value)


def test_a_sealed_value_that_happens_to_hold_the_prefix_is_no_key() -> None:
    sealed = "v1.s1.AAAAsk-" + "A" * 100
    refuse_readable_keys(event_with("byok.key.added.v1", sealed_key=sealed))


def test_the_depth_of_an_event_does_not_matter() -> None:
    nested: Any = KEY
    for _ in range(50_000):
        nested = [nested]
    with pytest.raises(EventRefused) as caught:
        refuse_readable_keys({"data": nested})
    assert caught.value.reason == "readable_key"
