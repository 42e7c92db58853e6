"""What leaves for a provider, searched in the sandbox's record after mail of every kind."""

import base64
import email.policy
import json
import secrets
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest

from events import MailInput, Operation, ProviderChoice, ThreadInput, ThreadMessage
from tests.conftest import MAILS
from tests.leaks import Secret, search
from tests.road import GOOD_ANTHROPIC, GOOD_OPENAI, Road
from tests.sent import assert_only_what_is_named, kept_back, squeezed
from workers.analyses.mail import read_eml

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)

FILES = sorted(MAILS.glob("*.eml"))
NAMED = ("subject", "from", "to", "cc", "text")


class Canaries:
    """Words that stand nowhere else, by the part of a mail that they are put into."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}

    def __getitem__(self, part: str) -> str:
        return self.words.setdefault(part, secrets.token_hex(12))

    def secrets(self) -> list[Secret]:
        """All of them, to be searched for."""
        return [Secret(part, word) for part, word in self.words.items()]


def composed(canaries: Canaries) -> bytes:
    """A mail with every kind of attachment and header there is, each with a canary in it."""
    mail = EmailMessage()
    mail["Subject"] = f"About {canaries['subject']}"
    mail["From"] = f"Ann {canaries['from']} <ann@example.org>"
    mail["To"] = f"{canaries['to']}@example.org"
    mail["Cc"] = f"{canaries['cc']}@example.org"
    for name in ("Bcc", "Reply-To", "Sender", "Message-ID", "References", "In-Reply-To"):
        mail[name] = f"<{canaries[name]}@example.org>"
    for name in ("Received", "X-Mailer", "X-Originating-IP", "DKIM-Signature", "Comments"):
        mail[name] = f"by {canaries[name]}"
    mail["Authentication-Results"] = f"mx; spf=pass {canaries['Authentication-Results']}"
    mail["Date"] = f"Mon, 2 Mar 2026 10:00:00 +0000 ({canaries['Date']})"
    for name in ("List-Id", "List-Unsubscribe", "Return-Path"):
        mail[name] = f"<{canaries[name]}.example.org>"
    mail.set_content(f"Could you look at {canaries['text']}, please?")
    mail.add_alternative(
        f"<html><head><title>{canaries['title']}</title></head><body>"
        f"<p>Could you look at {canaries['text']}, please?</p>"
        f"<!-- {canaries['comment']} --><style>.{canaries['style']} {{}}</style>"
        f"<a href='https://example.org/{canaries['href']}'>here</a>"
        f"<img src='https://example.org/{canaries['src']}.gif'></body></html>",
        subtype="html",
    )
    mail.add_attachment(f"a note {canaries['note']}", filename=f"{canaries['name']}.txt")
    mail.add_attachment(
        f"%PDF {canaries['pdf']}".encode(), maintype="application", subtype="pdf", filename="a.pdf"
    )
    mail.add_attachment(
        f"BEGIN:VCALENDAR {canaries['calendar']}".encode(),
        maintype="text",
        subtype="calendar",
        filename="invite.ics",
    )
    inner = EmailMessage()
    inner["Subject"] = canaries["forwarded subject"]
    inner.set_content(canaries["forwarded text"])
    mail.add_attachment(inner)
    mail.add_attachment(
        f"<p>{canaries['page']}</p>".encode(), maintype="text", subtype="html", filename="p.html"
    )
    return mail.as_bytes(policy=email.policy.SMTP)


def completions(road: Road) -> list[dict[str, Any]]:
    return [entry for entry in road.sandbox.record() if entry["endpoint"] == "completion"]


def everything(road: Road) -> dict[str, bytes]:
    """All that the providers received, to the letter."""
    return {
        f"request {number}": json.dumps(entry, ensure_ascii=False).encode()
        for number, entry in enumerate(road.sandbox.record())
    }


def test_of_a_mail_with_everything_in_it_the_five_named_fields_leave(road: Road) -> None:
    road.account()
    road.give_key(GOOD_OPENAI)
    road.give_key(GOOD_ANTHROPIC)
    canaries = Canaries()
    mail = read_eml(composed(canaries))
    for operation in (Operation.CLASSIFY, Operation.SUMMARIZE, Operation.REPLY):
        for provider in (ProviderChoice.OPENAI, ProviderChoice.ANTHROPIC):
            request_id = road.ask(mail=mail, operation=operation, provider=provider)
            assert road.ended(request_id).answered_by == "model"
    sent = completions(road)
    assert len(sent) == 6
    for entry in sent:
        found = {hit.secret for hit in search({"": json.dumps(entry).encode()}, canaries.secrets())}
        assert found == {*NAMED}
    assert_only_what_is_named(road.sandbox.record())


def test_of_the_shipped_mails_no_attachment_and_no_other_header_leaves(road: Road) -> None:
    road.account(credits=None)
    asked = [
        road.ask(mail=read_eml(file.read_bytes()), operation=operation)
        for file in FILES
        for operation in (Operation.CLASSIFY, Operation.REPLY)
    ]
    assert {road.ended(one).state for one in asked} == {"completed"}
    assert len(completions(road)) > len(FILES)
    sent = squeezed("\n".join(text for entry in completions(road) for text in _said(entry)))
    assert not [piece for piece in kept_back() if piece in sent]
    assert len(kept_back()) > 500
    assert_only_what_is_named(road.sandbox.record())


def test_of_a_thread_the_four_named_fields_of_each_message_leave(road: Road) -> None:
    road.account()
    thread = ThreadInput(
        own_address="bob@example.org",
        messages=(ThreadMessage(sender="ann@example.org", date="Mon", text="Lunch?"),) * 3,
    )
    road.ended(road.ask(mail=thread, operation=Operation.THREAD_STATE))
    (entry,) = completions(road)
    assert len(json.loads(entry["user"].split("\n")[2])["messages"]) == 3
    assert_only_what_is_named(road.sandbox.record())


def test_nothing_leaves_of_accounts_without_consent(road: Road) -> None:
    canaries = Canaries()

    def mail(account: str) -> MailInput:
        return MailInput(subject="Hello", text=f"Dear {canaries[account]}, lunch?")

    road.account("consents")
    road.account("never", consent=False)
    road.account("withdrew")
    road.give_key(GOOD_ANTHROPIC, "never")
    first = road.ask("withdrew", mail=mail("before"))
    assert road.ended(first, "withdrew").state == "completed"
    road.account("withdrew", consent=False)
    for operation in (Operation.CLASSIFY, Operation.SUMMARIZE, Operation.REPLY):
        for account in ("never", "withdrew"):
            for provider in ProviderChoice:
                request_id = road.ask(
                    account, mail=mail(account), operation=operation, provider=provider
                )
                ended = road.ended(request_id, account)
                assert (ended.state, ended.reason) == ("skipped", "consent")
    unknown = road.ask("unknown", mail=mail("unknown"))
    assert road.ended(road.ask("consents", mail=mail("consents")), "consents").state == "completed"
    # An account that nothing is known of is waited for.
    road.until(lambda: (r := road.request(unknown, "unknown")) and r.state == "waiting")
    found = {hit.secret for hit in search(everything(road), canaries.secrets())}
    assert found == {"before", "consents"}


def _said(entry: dict[str, Any]) -> Iterator[str]:
    """What a request said, with the escapes of the fence undone."""
    yield entry["system"]
    yield json.dumps(json.loads(entry["user"].split("\n")[2]), ensure_ascii=False)


def test_the_record_would_show_what_must_not_leave(road: Road) -> None:
    road.account()
    hidden = secrets.token_hex(12)
    road.ended(road.ask(mail=MailInput(text=f"This leaves: {hidden}")))
    encoded = base64.b64encode(hidden.encode())
    assert search(everything(road), [Secret("what left", hidden)])
    assert search({"": encoded}, [Secret("what left", hidden)])
