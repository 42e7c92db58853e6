"""Reading raw messages: the real ones of `tests/data/mail`, and ones built to be broken."""

import time
from base64 import b64encode
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.analyses import RULE_HEADERS, MailInput
from events.envelope import MAX_EVENT_BYTES
from workers.analyses.characters import CUT
from workers.analyses.mail import (
    HTML_LIMIT,
    INPUT_LIMIT,
    TEXT_LIMIT,
    MailUnreadable,
    body_text,
    read_eml,
)

MAILS = sorted((Path(__file__).parents[3] / "data" / "mail").glob("*.eml"))
HEAD = b"From: Ann <ann@example.com>\nTo: bob@example.com\nSubject: Hello\n"
SECONDS = 5.0
"""For anything, however large: generous, as the machine may be busy. Quadratic is minutes."""


def mail_named(name: str) -> MailInput:
    return read_eml(next(path for path in MAILS if path.stem == name).read_bytes())


def sealed_size(mail: MailInput) -> int:
    """Bytes of an event with this mail: HPKE adds 48, base64url a third, the rest is generous."""
    return (len(mail.to_json()) + 48) * 4 // 3 + 4 + 2_000


def is_clean(text: str) -> bool:
    text.encode()  # a lone surrogate raises
    return not any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in text)


def test_there_are_forty_real_mails() -> None:
    assert len(MAILS) == 40


@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.stem)
def test_a_real_mail_is_read_with_sender_and_text(path: Path) -> None:
    mail = read_eml(path.read_bytes())
    text = body_text(mail)
    assert "@" in mail.sender
    assert text.strip()
    assert is_clean(text + mail.subject + mail.sender + mail.to + mail.cc + mail.date)
    assert is_clean(mail.text + mail.html)
    assert "\n" not in mail.subject + mail.sender + mail.to + mail.cc + mail.date
    assert set(mail.headers) <= set(RULE_HEADERS)
    assert len(mail.text) <= TEXT_LIMIT
    assert len(mail.html) <= HTML_LIMIT
    assert sealed_size(mail) < MAX_EVENT_BYTES


@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.stem)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_real_mail_that_is_cut_off_anywhere_is_read(path: Path, share: float) -> None:
    raw = path.read_bytes()
    with suppress(MailUnreadable):  # a tenth of some mails is the route that it took
        assert is_clean(body_text(read_eml(raw[: int(len(raw) * share)])))


def test_an_encoded_header_is_decoded() -> None:
    assert mail_named("easy-ham-2-01188").sender.startswith("Ville Skyttä <")
    assert mail_named("spam-2-01262").subject == "創業轉業工讀新行業超商連鎖加盟"


def test_a_charset_that_stands_only_in_the_html_is_used() -> None:
    assert "產品名稱" in body_text(mail_named("spam-2-00959"))


def test_chinese_charsets_are_decoded() -> None:
    assert "您還在用20%的信用卡嗎" in body_text(mail_named("spam-2-00006"))  # "chinesebig5"
    assert "信" in body_text(mail_named("spam-2-01262"))


def test_a_mail_without_a_subject_has_an_empty_one() -> None:
    mail = mail_named("hard-ham-1-00175")
    assert mail.subject == ""
    assert "Jean_Tourrilhes" in body_text(mail)


def test_a_plain_part_that_only_points_at_the_html_is_passed_over() -> None:
    assert "OTN TechBlast" in body_text(mail_named("hard-ham-1-00021"))
    assert "subscribed to the HTML version" not in body_text(mail_named("hard-ham-1-00017"))


def test_html_that_is_declared_plain_is_read_as_html() -> None:
    text = body_text(mail_named("spam-2-00048"))
    assert "Bulletproof hosting" in text
    assert "<p>" not in text


@pytest.mark.parametrize(
    ("name", "attached"),
    [
        ("easy-ham-1-00986", "*** "),  # a patch, as text/plain
        ("easy-ham-2-01248", "%define"),  # spec files, as text/plain
        ("easy-ham-2-01177", "IPM."),  # winmail.dat
        ("easy-ham-1-00386", "BEGIN PGP SIGNATURE"),
    ],
)
def test_attachments_of_real_mails_are_left_out(name: str, attached: str) -> None:
    mail = mail_named(name)
    assert mail.text
    assert attached not in mail.to_json().decode()


@pytest.mark.parametrize("raw", [b"", b"\n", b" \r\n\r\n", b"\xef\xbb\xbf\n", b"\x00\x00"])
def test_an_empty_file_is_unreadable_and_says_so_in_a_sentence(raw: bytes) -> None:
    with pytest.raises(MailUnreadable, match=r"^The file is empty: .*\.$"):
        read_eml(raw)


def test_headers_that_say_nothing_and_no_body_are_unreadable() -> None:
    with pytest.raises(MailUnreadable, match=r"nothing to analyse\.$"):
        read_eml(b"Received: from a by b\nX-Mailer: c\n\n \n")


def test_a_subject_alone_is_a_mail() -> None:
    mail = read_eml(b"Subject: lunch?\n\n")
    assert (mail.subject, mail.text, mail.html) == ("lunch?", "", "")
    assert body_text(mail) == ""


def test_a_text_without_headers_is_a_mail() -> None:
    assert "just words" in body_text(read_eml(b"\njust words, no header\n"))


@pytest.mark.parametrize(
    "head", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\x7fELF\2\1\1\0\0", b"PK\3\4\x14\0\0"]
)
def test_a_file_of_another_kind_is_no_mail(head: bytes) -> None:
    with pytest.raises(MailUnreadable, match=r"^The file is no mail: it has no header lines"):
        read_eml(head + bytes(range(256)) * 20)


def test_a_mail_with_a_zero_byte_in_it_is_one() -> None:
    assert "hi" in body_text(read_eml(HEAD + b"\nhi\0there"))


def test_an_mbox_line_and_a_byte_order_mark_before_the_headers_are_passed_over() -> None:
    assert read_eml(b"From a@b.c Mon Sep  2 2002\n" + HEAD + b"\nhi").subject == "Hello"
    assert read_eml(b"\xef\xbb\xbf" + HEAD + b"\nhi").sender == "Ann <ann@example.com>"


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_is_read(line_end: bytes) -> None:
    mail = read_eml((HEAD + b"\none\ntwo").replace(b"\n", line_end))
    assert mail.subject == "Hello"
    assert mail.text == "one\ntwo"


@pytest.mark.parametrize(
    "charset",
    [
        *("x-nonsense", "default", "unknown-8bit", "", "us-ascii", "iso-8859-1", "utf-8", "rot13"),
        # Each of these is a codec that must not run: slow, loud, or not a charset at all.
        *("punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined", "zip", "hex"),
    ],
)
@pytest.mark.parametrize("said", ["naïve café — “quoted” \\d", "naïve café"])
def test_whatever_charset_is_declared_utf8_is_recognised(charset: str, said: str) -> None:
    head = HEAD + b"Content-Type: text/plain; charset=" + charset.encode() + b"\n\n"
    assert read_eml(head + said.encode()).text == said


def test_bytes_that_are_not_utf8_are_read_as_windows_1252() -> None:
    head = HEAD + b"Content-Type: text/plain; charset=x-nonsense\n\n"
    assert read_eml(head + "café — 5 €".encode("cp1252")).text == "café — 5 €"


@pytest.mark.parametrize("name", ["\x00", "a\udcffb", "x" * 5_000, "../../etc", "utf-8\n"])
def test_a_charset_name_that_is_none_does_no_harm(name: str) -> None:
    head = HEAD + b'Content-Type: text/plain; charset="' + name.encode("utf-8", "surrogateescape")
    assert "words" in body_text(read_eml(head + b'"\n\nwords'))


def test_raw_8_bit_characters_in_a_header_are_decoded() -> None:
    assert read_eml("Subject: Grüße\nFrom: a@b.c\n\nx".encode()).subject == "Grüße"
    assert read_eml("Subject: Grüße\nFrom: a@b.c\n\nx".encode("latin-1")).subject == "Grüße"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?utf-8?B?R3LDvMOf?=\n =?utf-8?Q?e?=", "Grüße"),
        (b"=?x-nonsense?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?zip?B?R3LDvMOfZQ==?=", "Grüße"),
        (b"=?utf-8?B?not base64?=", "not base64"),
        (b"=?iso-8859-1*de?Q?Gr=FC=DFe?=", "Grüße"),
        (b"Re:=?utf-8?Q?Gr=C3=BC=C3=9Fe?=!", "Re:Grüße!"),
    ],
)
def test_encoded_words_are_decoded_by_any_charset(raw: bytes, said: str) -> None:
    assert read_eml(b"Subject: " + raw + b"\nFrom: a@b.c\n\nx").subject == said


@pytest.mark.parametrize("raw", [b"(" * 3_000, b'"' * 3_000, b"<" * 3_000, b"a@" * 3_000, b"\xff"])
@pytest.mark.parametrize(
    "name", [b"From", b"To", b"Subject", b"Date", b"Content-Type", b"Content-Disposition"]
)
def test_a_header_that_breaks_the_parser_costs_only_itself(name: bytes, raw: bytes) -> None:
    mail = read_eml(b"Cc: carol@example.com\n" + name + b": " + raw + b"\n\nthe text")
    assert mail.cc == "carol@example.com"


def test_several_recipient_headers_are_joined() -> None:
    mail = read_eml(b"To: a@example.com\nTo: b@example.com\nFrom: c@example.com\n\nx")
    assert mail.to == "a@example.com, b@example.com"


def test_only_the_headers_that_rules_need_travel() -> None:
    mail = read_eml(
        HEAD + b"Auto-Submitted: auto-replied\nList-Id: <x.example.com>\nReturn-Path: <>\n"
        b"Precedence: bulk\nReceived: from secret.example.com\nX-Spam: no\nMessage-Id: <1@b>\n\nx"
    )
    assert mail.headers == {
        "Auto-Submitted": "auto-replied",
        "List-Id": "<x.example.com>",
        "Return-Path": "<>",
        "Precedence": "bulk",
    }
    assert "secret.example.com" not in mail.to_json().decode()


def build(*, attached: bool = True) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.com", "b@example.com", "Report"
    message.set_content("The plain words.\n")
    message.add_alternative("<p>The <b>rich</b> words.</p>", subtype="html")
    if attached:
        message.add_attachment(
            b"SECRET-PDF", maintype="application", subtype="pdf", filename="a.pdf"
        )
        message.add_attachment("SECRET-NOTES", filename="notes.txt")
        message.add_attachment("<p>SECRET-PAGE</p>", subtype="html", filename="page.html")
        inner = EmailMessage()
        inner["Subject"] = "SECRET-SUBJECT"
        inner.set_content("SECRET-FORWARDED")
        message.add_attachment(inner)
    return message


def test_both_alternatives_are_read_and_no_attachment_is() -> None:
    mail = read_eml(build().as_bytes(policy=SMTP))
    assert mail.text == "The plain words."
    assert "rich" in mail.html
    written = mail.to_json()
    assert b"SECRET" not in written
    assert b64encode(b"SECRET-PDF") not in written
    assert body_text(mail) == "The plain words."


@pytest.mark.parametrize(
    "disposition",
    [
        b"Content-Disposition: attachment",
        b'Content-Disposition: inline; filename="a.txt"',
        b'Content-Type: text/plain; name="a.txt"',
        b"Content-Disposition: " + b"(" * 3_000,
        b"Content-Disposition: x-odd; filename*=utf-8''a\"b.txt",
    ],
)
def test_a_text_that_is_a_file_is_an_attachment(disposition: bytes) -> None:
    raw = HEAD + b"Content-Type: multipart/mixed; boundary=q\n\n--q\n\nown words\n--q\n"
    mail = read_eml(raw + disposition + b"\n\nSECRET\n--q--\n")
    assert "own words" in mail.text
    assert b"SECRET" not in mail.to_json()


def test_a_message_that_is_an_attachment_itself_has_no_text() -> None:
    mail = read_eml(HEAD + b"Content-Disposition: attachment; filename=x\n\nSECRET")
    assert mail.text == ""


def test_the_parts_of_a_multipart_whose_boundary_is_wrong_are_found() -> None:
    raw = build().as_bytes().replace(b'boundary="', b'boundary="wrong', 1)
    mail = read_eml(raw)
    assert "The plain words." in mail.text
    assert b"SECRET" not in mail.to_json()
    assert b64encode(b"SECRET-PDF") not in mail.to_json()


def test_a_multipart_without_any_boundary_is_one_text() -> None:
    mail = read_eml(HEAD + b"Content-Type: multipart/mixed\n\nThe words.\n")
    assert "The words." in mail.text


def test_encoded_files_within_a_plain_text_are_left_out() -> None:
    base64 = (b64encode(bytes(range(57))) + b"\n") * 40
    uuencoded = b"begin 644 a.gif\n" + b"M" + b"'" * 60 + b"\n`\nend\n"
    mail = read_eml(HEAD + b"\nbefore\n" + base64 + b"between\n" + uuencoded + b"after\n")
    assert mail.text.split("\n") == ["before", CUT, "between", CUT, "", "after"]


def test_pictures_within_html_are_left_out() -> None:
    picture = b"data:image/png;base64," + b64encode(bytes(3_000))
    html = b'<p>Hi<img src="' + picture + b'"></p><style>p{}</style><!-- x --><script>y</script>'
    mail = read_eml(HEAD + b"Content-Type: text/html\n\n" + html)
    assert mail.html == '<p>Hi<img src="data:"></p>'


def test_a_base64_text_with_a_list_servers_footer_keeps_both() -> None:
    raw = HEAD + b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"
    mail = read_eml(raw + b64encode("Grüße, Ann".encode()) + b"\n____\nthe list's footer\n")
    assert mail.text == "Grüße, Ann____\nthe list's footer"


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable", b"x-uuencode", b"nonsense"])
def test_a_text_that_is_not_what_its_transfer_encoding_says_stays_readable(encoding: bytes) -> None:
    raw = HEAD + b"Content-Transfer-Encoding: " + encoding + b"\n\nPlain words, 100 % plain.\n"
    assert "Plain words, 100 % plain." in read_eml(raw).text


@pytest.mark.parametrize("depth", [2, 10, 25])
def test_nested_multiparts_are_read_to_the_innermost_text(depth: int) -> None:
    raw = HEAD + b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (level, level)
        for level in range(depth)
    )
    assert read_eml(raw + b"\nthe innermost words\n").text == "the innermost words"


LINE = b"word word word word word word word word word word\n"
TEN_MB = {
    "lines": b"\n" + LINE * 200_000,
    "one line": b"\n" + b"w" * 10_000_000,
    "one word a line": b"\n" + b"w\n" * 5_000_000,
    "spaces": b"\nwords" + b" " * 10_000_000 + b"x",
    "base64": b"Content-Transfer-Encoding: base64\n\n" + (b64encode(b"w" * 57) + b"\n") * 130_000,
    "CJK": b"Content-Type: text/plain; charset=utf-8\n\n" + "語".encode() * 3_000_000,
    "html": b"Content-Type: text/html\n\n" + b"<p>word word word</p>" * 500_000,
    "CJK html": b"Content-Type: text/html; charset=utf-8\n\n" + "語".encode() * 3_000_000,
    "open tags": b"Content-Type: text/html\n\nwords" + b"<div>" * 2_000_000,
    "cells": b"Content-Type: text/html\n\n<table><tr><td>words" + b"<tr><td>a" * 1_000_000,
    "comments": b"Content-Type: text/html\n\nwords" + b"<!--" * 2_500_000,
    "quotes": b"\nwords\n" + b"> quoted\n" * 1_000_000,
    "signatures": b"\nwords\n" + b"-- \n" * 2_500_000,
}


@pytest.mark.parametrize("kind", TEN_MB)
def test_ten_megabytes_are_cut_quickly_and_the_cut_is_marked(kind: str) -> None:
    started = time.thread_time()
    mail = read_eml(HEAD + TEN_MB[kind])
    text = body_text(mail)
    assert time.thread_time() - started < SECONDS
    assert sealed_size(mail) < MAX_EVENT_BYTES
    assert (mail.text or mail.html).endswith(CUT)
    assert len(text) <= TEXT_LIMIT


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"X-Many: y\n" * 1_000_000 + b"\nwords",
        b"Subject: " + b"many " * 2_000_000 + b"\n\nwords",
        HEAD + b"Cc: " + b'"' * 10_000_000 + b"\n\nwords",
        HEAD + b"Content-Type: multipart/mixed; boundary=q\n\n" + b"--q\n\nhi\n" * 1_000_000,
        HEAD + b"Content-Type: message/rfc822\n\n" * 100_000 + b"words",
        HEAD
        + b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(9_999)
        )
        + b"\nwords\n" * 1_000_000,
        HEAD + b"Content-Type: text/plain\n" + b" \n" * 3_000_000 + b"\nwords",
    ],
    ids=["headers", "subject", "quotes", "parts", "messages", "nesting", "folds"],
)
def test_ten_megabytes_of_structure_take_no_longer(raw: bytes) -> None:
    started = time.thread_time()
    mail = read_eml(raw)
    assert time.thread_time() - started < SECONDS
    assert sealed_size(mail) < MAX_EVENT_BYTES


def test_a_text_behind_a_large_attachment_is_found() -> None:
    attachment = (b64encode(bytes(57)) + b"\n") * 200_000
    raw = HEAD + b"Content-Type: multipart/mixed; boundary=q\n\n--q\nContent-Type: image/png\n"
    raw += b"Content-Transfer-Encoding: base64\n\n" + attachment + b"--q\n\nthe words\n--q--\n"
    assert read_eml(raw).text == "the words"


def test_the_sealed_event_fits_whatever_the_characters_are() -> None:
    message = EmailMessage()
    message["From"], message["To"] = "Ann <a@example.com>", "b@example.com, " * 1_000
    message["Subject"] = "語" * 2_000
    message.set_content("\U0001f600" * 50_000)
    message.add_alternative("\U0001f600" * 100_000, subtype="html")
    mail = read_eml(message.as_bytes())
    assert len(mail.to_json()) <= INPUT_LIMIT
    assert sealed_size(mail) < MAX_EVENT_BYTES
    assert mail.text.endswith(CUT)
    assert mail.html.endswith(CUT)


HEADER_LINES = st.sampled_from(
    b"""From: a@b.c
Subject: =?utf-8?B?
To: <a:(b);>
Content-Type: multipart/mixed; boundary=q
Content-Type: multipart/alternative; boundary=q
Content-Type: text/html; charset=big5
Content-Type: message/rfc822
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename*0*=x
 a;b=c
--q
--q--

<html><p>
=?q?""".split(b"\n")
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=2_000))
def test_random_bytes_raise_nothing_but_mail_unreadable(raw: bytes) -> None:
    try:
        mail = read_eml(raw)
    except MailUnreadable as error:
        assert error.sentence.endswith(".")  # noqa: PT017 -- both outcomes are right
    else:
        assert is_clean(body_text(mail))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(HEADER_LINES, st.binary(max_size=60)), max_size=40))
def test_random_messages_raise_nothing_but_mail_unreadable(lines: list[bytes]) -> None:
    try:
        mail = read_eml(b"\n".join(lines))
    except MailUnreadable:
        return
    assert is_clean(mail.text + mail.html + mail.subject + mail.sender)
    assert is_clean(body_text(mail))
    assert sealed_size(mail) < MAX_EVENT_BYTES
