"""What looks like a provider key is found; what people write in mails is left alone."""

import json
import random
import string
import time
from contextlib import suppress
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
    keys = [make(source) for _ in range(10_000)]
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


@pytest.mark.parametrize("make", FORMATS)
def test_every_key_is_found_also_when_it_is_stuck_to_a_word(make: Any) -> None:
    source = random.Random(20260102)  # noqa: S311 -- as above
    for _ in range(10_000):
        assert redact(f"thekeyis{make(source)}") == f"thekeyis{REDACTED}"


@pytest.mark.parametrize(
    "text",
    [
        "task-management-software",
        "noreply@helpdesk-notifications-europe.example",
        "https://example.org/risk-assessment-of-the-year-2024",
        "Ask-Me-Anything-With-The-Team",
        "desk-booking-confirmations",
        "DISK-REPLACEMENT-PROGRAM",
    ],
)
def test_a_word_that_ends_like_the_beginning_of_a_key_is_none(text: str) -> None:
    assert redact(text) == text
    refuse_readable_keys({"data": {"custom_categories": [{"keywords": [text]}]}})


def words_of_mails() -> list[str]:
    """The words that stand in forty real mails, headers included."""
    text = " ".join(path.read_bytes().decode("latin-1") for path in sorted(MAILS.glob("*.eml")))
    return text.split()


def test_ten_megabytes_of_mail_have_one_false_hit_at_most() -> None:
    # Real words in another order, and as many of them joined as titles are joined in links.
    source = random.Random(20260103)  # noqa: S311 -- as above
    words = words_of_mails()
    plain = [word.strip(".,:;!?\"'()<>").lower() for word in words]
    short = [word for word in plain if word.isascii() and word.isalpha() and len(word) < 12]
    short += ["task", "risk", "desk", "ask", "disk", "mask", "2024"] * (len(short) // 200)
    hits = size = 0
    while size < 10_000_000:
        line = source.choices(words, k=1_000)
        line += ["https://example.org/" + "-".join(source.choices(short, k=6)) for _ in range(50)]
        text = " ".join(line)
        size += len(text)
        hits += redact(text).count(REDACTED)
    assert hits <= 1


ADVERSE = {
    "prefixes": "sk-",
    "prefixes of projects": "sk-proj-",
    "prefixes of Anthropic": "sk-ant-api03-",
    "words": "ask-",
    "words, then letters": "ask-aaaaaaaaaaaaaaaaaaa",
    "hyphens": "-",
    "one letter": "s",
    "too short by one": "sk-aaaaaaaaaaaaaaa ",
    "keys": "sk-aaaaaaaaaaaaaaaaaaaaaa ",
}


@pytest.mark.parametrize("piece", ADVERSE.values(), ids=ADVERSE)
def test_the_work_grows_as_the_text_does(piece: str) -> None:
    def seconds(size: int) -> float:
        text = "sk-" + piece * (size // len(piece))
        took = []
        for _ in range(3):
            began = time.process_time_ns()
            redact(text)
            with suppress(EventRefused):
                refuse_readable_keys({"data": text})
            took.append(time.process_time_ns() - began)
        return min(took) + 1e5

    # 16 times the text: 16 times the work, or 256 times where the work grows with the square.
    assert seconds(800_000) < 80 * seconds(50_000)


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
