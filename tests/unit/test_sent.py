"""The search of what sandboxes received finds what must not be there, in each of them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sent import MAILS, Records, kept_back
from workers.analyses.mail import read_eml

TESTS = Path(__file__).parents[1]
NOT_OURS = ("integration/sandbox/", "benchmarks/", "crashpoints/lanes.py", "upgrade/record.py")
"""The sandbox's own tests, which talk to it by themselves, and what is not in the suite."""

SHIPPED = read_eml(MAILS[0].read_bytes())
MAIL = {"subject": "Lunch?", "from": "ann@example.org", "to": "", "cc": "", "text": "On Friday?"}


def fenced(told: Mapping[str, Any], tag: str = "mail") -> str:
    return f"Classify this:\n<{tag}>\n{json.dumps(told)}\n</{tag}>"


def call(user: str = fenced(MAIL), **changed: Any) -> dict[str, Any]:
    """One call as a sandbox writes it down."""
    return {
        "provider": "openai",
        "endpoint": "completion",
        "key_in_body": False,
        "header_names": ["authorization", "content-type", "x-stainless-lang"],
        "system": "You classify mail.",
        "user": user,
        "body": {"model": "m", "messages": []},
    } | changed


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., None]:
    def to(file: Path, *calls: Mapping[str, Any]) -> None:
        with file.open("a") as record:
            record.writelines(f"{json.dumps(one)}\n" for one in calls)

    return to


def test_what_is_named_may_be_sent(tmp_path: Path, add: Callable[..., None]) -> None:
    records, file = Records(), tmp_path / "record"
    records.watch(file)
    records.search()
    add(file, call(), call("1"), call("", endpoint="models", body=None))
    records.search()
    records.search()
    add(file, call())
    records.search()
    told = str(records.searched)
    assert told.startswith("2 records of sandboxes searched, 4 calls, 2 of them with a mail")


@pytest.mark.parametrize(
    "wrong",
    [
        call(header_names=["authorization", "x-account"]),
        call(key_in_body=True),
        call(body={"model": "m", "messages": [], "user": "acme"}),
        call("Classify this: On Friday?"),
        call(fenced(MAIL | {"message_id": "<1@example.org>"})),
        call(fenced({"own_address": "", "messages": [{"from": "", "bcc": ""}]}, "thread")),
        call(system="You classify mail.\n<mail>\n{}"),
        call(fenced(MAIL | {"subject": SHIPPED.subject, "text": max(kept_back(), key=len)})),
        call(fenced(MAIL | {"text": "the words of a mail without consent"})),
    ],
    ids=[
        *("a header", "the key", "a field of the body", "no fence", "a field of the mail"),
        *("a field of a message", "a mail in the instructions", "an attachment", "no consent"),
    ],
)
def test_what_is_not_named_is_found(
    wrong: dict[str, Any], tmp_path: Path, add: Callable[..., None]
) -> None:
    records, file = Records(), tmp_path / "record"
    records.watch(file)
    records.withhold("acme", "request", "mail without consent")
    add(file, call(), wrong, call())
    with pytest.raises(AssertionError):
        records.search()
    assert records.searched.calls == 3
    # It is told once, where it happened.
    records.search()


def test_a_request_may_be_sent_once_consent_is_given(
    tmp_path: Path, add: Callable[..., None]
) -> None:
    records, file = Records(), tmp_path / "record"
    records.watch(file)
    records.withhold("acme", "request", "On Friday?")
    assert records.withheld_of("acme") == ["request"]
    records.give("acme", "request")
    add(file, call())
    records.search()


def test_every_sandbox_of_the_suite_is_searched() -> None:
    # `clean_environment` has each process tree add to a record that is searched.
    starts = ("SandboxServer(", '"deploy.local.sandbox"')
    starting = {
        name
        for file in TESTS.rglob("*.py")
        if not (name := str(file.relative_to(TESTS))).startswith(NOT_OURS)
        and any(start in file.read_text() for start in starts)
    }
    assert starting == {"sent.py", "unit/test_sent.py"}
