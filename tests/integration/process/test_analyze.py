"""`byok analyze`: every operation over every shipped mail, as a person runs it."""

import json
import re
from collections import Counter
from typing import Any

import pytest

from tests.integration.process.running import MAILS, Up

MAIL = MAILS / "easy-ham-1-00386.eml"
SIGNALS = {
    *("category", "urgency", "sentiment", "is_spam", "is_automated", "is_cold_outreach"),
    *("needs_response", "requires_action", "expects_reply", "confidence"),
    *("alternative_category", "category_confidence", "custom_urgency", "custom_sentiment"),
}
FIELDS = {
    "classify": SIGNALS,
    "summarize": {"summary"},
    "reply": {"reply"},
    "thread_state": {"state", "confidence", "priority"},
}


@pytest.fixture(scope="module")
def account(up: Up) -> str:
    up.json("account", "set", "acme", "--plan", "business", "--consent", "--credits", "1000")
    return "acme"


@pytest.fixture(scope="module", params=FIELDS)
def lines(request: pytest.FixtureRequest, up: Up, account: str) -> list[dict[str, Any]]:
    """Every shipped mail under one operation, twice."""
    arguments = ("--operation", request.param, "--wait")
    return [*up.analyze(account, MAILS, *arguments), *up.analyze(account, MAILS, *arguments)]


def test_every_shipped_mail_gets_a_result_and_the_second_time_by_reuse(
    lines: list[dict[str, Any]],
) -> None:
    mails = len(list(MAILS.glob("*.eml")))
    assert len(lines) == 2 * mails
    for line in lines:
        assert (line["state"], line["reason"]) == ("completed", "")
        assert set(line["result"]) == FIELDS[line["operation"]]
        assert "" not in line["result"].values()
        # How sure the model is of it does not say how sure a flag's consequence is.
        assert None not in line["result"].values() or line["operation"] == "classify"
    by = [Counter(line["by"] for line in part) for part in (lines[:mails], lines[mails:])]
    ruled = 3 if lines[0]["operation"] == "classify" else 0
    wanted = [{"model": mails - ruled, "rules": ruled}, {"reuse": mails - ruled, "rules": ruled}]
    assert by == [{name: count for name, count in one.items() if count} for one in wanted]
    for first, second in zip(lines[:mails], lines[mails:], strict=True):
        assert second["result"] == first["result"]
        assert (second["provider"], second["model"], second["key_id"]) == (None, None, None)
        assert (second["credential"], second["attempts"]) == ("none", 0)
        assert second["prompt_version"] == first["prompt_version"]


def test_no_request_ended_by_a_traceback(up: Up, lines: list[dict[str, Any]]) -> None:
    assert len(lines) > 0
    assert (up.logged("Traceback"), up.logged("analysis_failed")) == (0, 0)


def test_the_table_of_what_answered_adds_up(up: Up) -> None:
    up.json("account", "set", "tabled", "--plan", "business", "--consent", "--credits", "1000")
    done = up.byok("analyze", "tabled", str(MAILS), "--wait")
    table = done.out[done.out.index("How the mails ended") :]
    told = re.findall(r"tabled\W+completed\W+(\w+)\W+(?:platform\W+)?(\d+)", table)
    mails = len(list(MAILS.glob("*.eml")))
    assert {by: int(count) for by, count in told} == {"model": mails - 3, "rules": 3}


def test_tables_show_what_was_found(up: Up, account: str) -> None:
    for operation, fields in FIELDS.items():
        done = up.byok("analyze", account, str(MAIL), "--operation", operation, "--wait")
        assert done.code == 0
        shown = {"category", "urgency", "flags"} if operation == "classify" else fields
        assert all(field in done.out for field in (MAIL.name, "How the mails ended", *shown))


def test_a_threads_own_address_is_the_one_that_is_given(up: Up, account: str) -> None:
    up.analyze(
        account, MAIL, *("--operation", "thread_state", "--own-address", "me@example.org"), "--wait"
    )
    (asked,) = up.sandbox.record(1)
    assert json.loads(asked["user"].split("\n")[2])["own_address"] == "me@example.org"


def test_a_mail_without_a_recipient_needs_an_own_address(up: Up, account: str) -> None:
    mail = b"From: ann@example.org\nSubject: Hello\n\nIs this for you?\n"
    asked = ("analyze", account, "-", "--operation", "thread_state", "--json", "--wait")
    refused = up.byok(*asked, stdin=mail)
    assert refused.code == 1
    assert "--own-address" in refused.object["reason"]
    taken = up.byok(*asked, "--own-address", "bob@example.org", stdin=mail)
    assert (taken.code, taken.object["state"]) == (0, "completed")


def test_what_is_no_address_is_wrong_usage(up: Up, account: str) -> None:
    for wrong in ("bob", "a@b, c@d", "Bob <bob@example.org>"):
        done = up.byok("analyze", account, str(MAIL), "--own-address", wrong)
        assert (done.code, done.out) == (2, "")
