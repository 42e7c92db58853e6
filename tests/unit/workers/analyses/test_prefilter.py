"""Which mail the rules answer, and which they leave to the model."""

from pathlib import Path

import pytest

from events.analyses import MailInput
from workers.analyses.mail import read_eml
from workers.analyses.prefilter import RULE_CONFIDENCE, answer_by_rules

MAILS = Path(__file__).parents[3] / "data" / "mail"
MAILMAN = "<http://example.com/mailman/listinfo/talk>, <mailto:talk-request@example.com>"


def category(
    sender: str = "Ann <ann@example.com>", subject: str = "Hello", **headers: str
) -> str | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    found = answer_by_rules(MailInput(sender=sender, subject=subject, text="words", headers=named))
    return found.category if found else None


def test_a_persons_mail_goes_to_the_model() -> None:
    assert category(Return_Path="<ann@example.com>", Content_Type="text/plain") is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("auto-generated", "notification"),
        ("auto-replied", "notification"),
        ("Auto-Replied; owner-email=ann@example.com", "notification"),
        ("auto-notified (a sieve script)", "notification"),
        ("no", None),
        ("No", None),
        ("no; a=b", None),
        ("(a comment) no", None),
        ("", None),
    ],
)
def test_auto_submitted_mail_is_a_notification_unless_it_says_no(
    value: str, expected: str | None
) -> None:
    assert category(Auto_Submitted=value) == expected


def test_a_delivery_report_is_from_the_system() -> None:
    report = 'multipart/report; report-type=delivery-status; boundary="x"'
    assert category(Content_Type=report) == "system"
    assert category("MAILER-DAEMON@example.com", Return_Path="<>") == "system"
    assert category("Mail <Postmaster@example.com>", Return_Path="< >") == "system"


def test_a_bounce_that_is_auto_submitted_is_still_from_the_system() -> None:
    assert (
        category("MAILER-DAEMON@a.example", Return_Path="<>", Auto_Submitted="auto-replied")
        == "system"
    )


def test_an_older_responder_says_so_by_its_precedence() -> None:
    assert category(Precedence="auto_reply") == "notification"
    assert category("MAILER-DAEMON@example.com", Precedence="Auto_Reply") == "system"
    assert category("MAILER-DAEMON@example.com", Auto_Submitted="auto-replied") == "system"
    assert category("MAILER-DAEMON@example.com") is None


def test_a_receipt_and_a_complaint_are_from_the_system() -> None:
    for kind in ("disposition-notification", "feedback-report", "delivery-status"):
        report = f'multipart/report; report-type={kind}; boundary="x"'
        assert category(Content_Type=report) == "system"


def test_an_empty_return_path_alone_decides_nothing() -> None:
    assert category("offers@example.com", Return_Path="<>") is None


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("The News <newsletter@example.com>", "newsletter"),
        ("weekly-digest@example.com", "newsletter"),
        ("noreply@example.com", "notification"),
        ("Do-Not-Reply <donotreply@example.com>", "notification"),
        ("bugzilla-daemon@example.com", "notification"),
    ],
)
@pytest.mark.parametrize("precedence", ["bulk", "List", "junk"])
def test_a_roles_list_mail_is_answered(sender: str, expected: str, precedence: str) -> None:
    assert category(sender, List_Id="<a.example>", Precedence=precedence) == expected


def test_mass_delivery_shows_in_the_return_path_too() -> None:
    leave = "<mailto:leave-1@example.com>"
    for path in ("<bounce-x-1@example.com>", "<a-bounces@example.com>", "<bounces+1@example.com>"):
        assert (
            category("news@example.com", List_Unsubscribe=leave, Return_Path=path) == "newsletter"
        )
    path = "<ann@example.com>"
    assert category("news@example.com", List_Unsubscribe=leave, Return_Path=path) is None


def test_both_list_headers_and_the_precedence_make_a_newsletter_whoever_writes() -> None:
    headers = {"List_Id": "<a.example>", "List_Unsubscribe": "<https://a.example/leave?u=1>"}
    assert category("Ann <ann@example.com>", **headers, Precedence="bulk") == "newsletter"
    assert category("Ann <ann@example.com>", **headers) is None


def test_a_discussion_post_goes_to_the_model() -> None:
    assert category(List_Id="<t.example>", List_Unsubscribe=MAILMAN, Precedence="bulk") is None
    headers = {"List_Id": "<a.example>", "List_Unsubscribe": "<https://a.example/leave>"}
    assert category(subject="[talk] Hello", **headers, Precedence="list") is None
    assert category(subject="Re: Hello", **headers, Precedence="list") is None


def test_a_reply_goes_to_the_model_whoever_sends_it() -> None:
    headers = {"List_Id": "<a.example>", "Precedence": "bulk"}
    assert category("newsletter@example.com", subject="RE: your letter", **headers) is None
    assert category("newsletter@example.com", subject="AW[2]: your letter", **headers) is None


def test_precedence_without_a_list_decides_nothing() -> None:
    assert category("noreply@example.com", Precedence="bulk") is None


def test_an_answer_by_rules_is_not_certain_and_asks_for_nothing() -> None:
    found = answer_by_rules(MailInput(headers={"Auto-Submitted": "auto-generated"}))
    assert found is not None
    assert found.confidence == RULE_CONFIDENCE < 1.0
    said = found.model_dump()
    assert {name for name, value in said.items() if value is True} == {"is_automated"}


def test_of_the_real_mails_the_rules_answer_three_and_no_spam() -> None:
    answered = {
        path.stem: found.category
        for path in MAILS.glob("*.eml")
        if (found := answer_by_rules(read_eml(path.read_bytes())))
    }
    assert answered == {
        "easy-ham-1-01498": "notification",
        "hard-ham-1-00016": "newsletter",
        "hard-ham-1-00236": "newsletter",
    }
