"""A mail: read from a raw RFC 5322 message, and its text as an analysis reads it.

`read_eml` is for whoever publishes `analysis.requested` from a raw message; `body_text` is for
whoever asks a provider. What `read_eml` returns is bounded so that the sealed event stays below
256 KiB whatever the characters are, and so is its time: 2 MiB of a message are parsed, with
attachments in base64 shortened first.
"""

import email
import re
from collections.abc import Iterator
from email.message import Message
from email.policy import EmailPolicy, Policy, compat32
from itertools import islice

from events.analyses import RULE_HEADERS, MailInput
from workers.analyses.body import body_text
from workers.analyses.characters import clean, cut, decoded, one_line
from workers.analyses.markup import declared_charset, looks_like_html, without_ballast
from workers.analyses.transfer import transfer_decoded, without_encoded_files

__all__ = ["HTML_LIMIT", "INPUT_LIMIT", "TEXT_LIMIT", "MailUnreadable", "body_text", "read_eml"]

TEXT_LIMIT = 24_000
"""Characters of the plain text that travel. As much as one question holds (`BODY_LIMIT`)."""

HTML_LIMIT = 60_000
"""Characters of the HTML that travel, without comments, styles, scripts and embedded data.
The longest newsletter of the sample has 35,000."""

INPUT_LIMIT = 185_000
"""Bytes of the mail's JSON. Sealing adds 48 bytes and base64url a third: 247 kB of the 256 KiB
(262,144 bytes) that an event may have. Where CJK text makes it more, the HTML is cut further."""

_SUBJECT_LIMIT = 1_000
_ADDRESSES_LIMIT = 2_000
_RULE_HEADER_LIMIT = 1_000
# The parser of the standard library is quadratic on some headers: 0.2 s at this many characters.
_RAW_HEADER_LIMIT = 4_000
_RAW_LIMIT = 2 * 1024 * 1024
# The parser costs lines x depth, and 50 us a part: without these bounds, 10 MB built for it take
# minutes. Real mail has three multiparts and a dozen parts.
_MULTIPARTS_LIMIT = 30
_DELIMITERS_LIMIT = 2_000
# Of one part, still encoded. Four bytes a character, base64, and what `without_ballast` drops.
_ENCODED_LIMIT = 1_000_000

# A picture, a program, an archive. Words without a header are read as a mail's text.
_LOOKED_AT = 4_096
_HEADER = re.compile(rb">?From |[!-9;-~]+[ \t]*:")

_LONG_BASE64 = re.compile(rb"(?m)(?:^[A-Za-z0-9+/=]{60,998}+\r?\n)++")
_MULTIPART = re.compile(
    rb"(?im)^content-type[ \t]*:(?:[^\n]|\n[ \t])*?(?:multipart|message)/"  # folded lines, too
)
_DELIMITER = re.compile(rb"(?m)^--[^\r\n]")
_LOST_BOUNDARY = re.compile(rb"(?mi)^--([^\s\"]{1,70})[ \t]*\r?\ncontent-[a-z-]+:")
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\s]*)\?=(?:\s+(?==\?))?")


class MailUnreadable(ValueError):
    """There is nothing in the file that could be analysed. `sentence` says what is missing."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class _Bounded(EmailPolicy):
    """The modern policy, with headers cut before they are parsed."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:_RAW_HEADER_LIMIT]


_POLICY = _Bounded()


def read_eml(raw: bytes) -> MailInput:
    """Read one raw message: named fields and its own text, never an attachment.

    Whatever is broken falls back for itself alone: an unknown charset to UTF-8 or Windows-1252, an
    undecodable header to its raw characters, a multipart without its boundary to the boundary
    that is there, and a message that cannot be parsed to a header block and a text.

    Raises `MailUnreadable` where there is neither a subject, an address nor a body, and for a file
    of another kind.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n\t \x00")
    if not raw:
        raise MailUnreadable("The file is empty: there is no mail in it.")
    if not _HEADER.match(raw) and b"\x00" in raw[:_LOOKED_AT]:
        raise MailUnreadable("The file is no mail: it has no header lines and is not text.")
    message = _parsed(_bounded(raw))
    fields = _first_fields(message)
    plain, html = _bodies(message)
    mail = MailInput(
        subject=cut(_header("Subject", fields), _SUBJECT_LIMIT),
        sender=cut(_header("From", fields), _ADDRESSES_LIMIT),
        to=cut(_header("To", fields), _ADDRESSES_LIMIT),
        cc=cut(_header("Cc", fields), _ADDRESSES_LIMIT),
        date=cut(_header("Date", fields), _RULE_HEADER_LIMIT),
        text=plain,
        html=html,
        headers={
            name: cut(value, _RULE_HEADER_LIMIT)
            for name in RULE_HEADERS
            if (value := one_line(_as_text(fields.get(name.lower(), ""))))
        },
    )
    if not any((mail.subject, mail.sender, mail.to, mail.cc, mail.text, mail.html)):
        raise MailUnreadable(
            "The file holds neither a subject, an address nor a text: there is nothing to analyse."
        )
    return _fitted(mail)


def _fitted(mail: MailInput) -> MailInput:
    """Cut the HTML until the JSON is within `INPUT_LIMIT`.

    All else is below it at four bytes a character: 24,000 of text, 3 x 2,000 of addresses and
    8 x 1,000 of subject, date and rule headers make 152,000 bytes.
    """
    while len(mail.to_json()) > INPUT_LIMIT and mail.html:
        mail = mail.model_copy(update={"html": cut(mail.html, len(mail.html) * 3 // 4)})
    return mail


def _bounded(raw: bytes) -> bytes:
    """Cut `raw` to what is parsed, long base64 first: a text may stand behind an attachment."""

    def shortened(run: re.Match[bytes]) -> bytes:
        if run.end() - run.start() <= _ENCODED_LIMIT // 2:
            return run[0]
        end = raw.rfind(b"\n", run.start(), run.start() + _ENCODED_LIMIT // 2) + 1
        return raw[run.start() : end]

    if len(raw) > _RAW_LIMIT:
        raw = _LONG_BASE64.sub(shortened, raw)[:_RAW_LIMIT]
    if _MULTIPART.search(raw):
        raw = _before(_MULTIPART, _MULTIPARTS_LIMIT, raw)
        raw = _before(_DELIMITER, _DELIMITERS_LIMIT, raw)
    return raw


def _before(pattern: re.Pattern[bytes], limit: int, raw: bytes) -> bytes:
    """What stands before the occurrence of `pattern` that is one too many."""
    beyond = next(islice(pattern.finditer(raw), limit, None), None)
    return raw[: beyond.start()] if beyond else raw


def _parsed(raw: bytes) -> Message:
    policies: tuple[Policy, ...] = (_POLICY, compat32)
    for policy in policies:
        try:
            return email.message_from_bytes(raw, policy=policy)
        except Exception:  # noqa: BLE001, S112 -- the parsers of header values raise what they like
            continue
    head, _, body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
    message = email.message_from_bytes(b"X-Broken: yes\n\n", policy=compat32)
    for line in head.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and name.lower() in (b"subject", b"from", b"to", b"cc", b"date"):
            message[name.decode("ascii")] = value.decode("ascii", "surrogateescape")
    message.set_payload(body.decode("ascii", "surrogateescape"))
    return message


def _first_fields(message: Message) -> dict[str, str]:
    """The raw values of the first header of each name, lower-cased; `To` and `Cc` joined."""
    fields: dict[str, str] = {}
    for name, value in message.raw_items():
        key, raw = str(name).lower(), str(value)[:_RAW_HEADER_LIMIT]
        if key not in fields:
            fields[key] = raw
        elif key in ("to", "cc") and len(fields[key]) < _RAW_HEADER_LIMIT:
            fields[key] += ", " + raw
    return fields


def _header(name: str, fields: dict[str, str]) -> str:
    """A header's value as people read it, on one line."""
    raw = fields.get(name.lower(), "")[:_RAW_HEADER_LIMIT]
    if raw.isascii():
        try:
            text = str(_POLICY.header_fetch_parse(name, raw))
        except Exception:  # noqa: BLE001 -- as above: IndexError, RecursionError, AttributeError …
            text = "\ufffd"
        # U+FFFD and surrogates: a charset that the policy does not know. A word that is left
        # encoded: it stood where RFC 2047 does not allow it, and is meant all the same.
        if text.isprintable() and "\ufffd" not in text and "=?" not in text:
            return one_line(text)
    return one_line(_ENCODED_WORD.sub(_word, _as_text(raw)))


def _as_text(raw: str) -> str:
    """Raw header characters, with 8-bit bytes (kept as surrogates by the parser) decoded."""
    if raw.isascii():
        return raw
    return decoded(raw.encode("utf-8", "surrogateescape"), None)


def _word(match: re.Match[str]) -> str:
    charset, encoding, text = match.groups()
    raw = text.encode("utf-8", "replace")
    if encoding in "qQ":
        raw = transfer_decoded(raw.replace(b"_", b"=20"), "quoted-printable")
    else:
        raw = transfer_decoded(raw, "base64")
    return decoded(raw, charset.partition("*")[0])


def _bodies(message: Message) -> tuple[str, str]:
    """The plain text and the HTML of a message, each within its limit."""
    plain: list[str] = []
    html: list[str] = []
    for part in _own_parts(message):
        kind = _content_type(part)
        if kind not in ("text/plain", "text/html"):
            continue
        text = _part_text(part, kind)
        if not text.strip():
            continue
        if kind == "text/html" or looks_like_html(text):
            html.append(without_ballast(text))
        else:
            plain.append(without_encoded_files(text))
    return (
        cut("\n\n".join(plain).strip("\n"), TEXT_LIMIT),
        cut("\n".join(html).strip("\n"), HTML_LIMIT),
    )


def _own_parts(message: Message) -> Iterator[Message]:
    """The leaves that are the mail's own, in order: no attachment, no mail within the mail."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        if part is not message and _is_attached(part):
            continue
        kind = _content_type(part)
        if part.is_multipart():
            if kind.startswith("message/"):
                continue
            children = [child for child in part.get_payload() if isinstance(child, Message)]
            waiting += reversed(children)
        elif kind.startswith("multipart/"):
            yield from _recovered(part)
        elif part is not message or _disposition(part) != "attachment":
            yield part


def _recovered(part: Message) -> Iterator[Message]:
    """The parts of a multipart that lost its boundary, or itself as one text."""
    payload = _raw_payload(part)
    if found := _LOST_BOUNDARY.search(payload):
        boundary = found[1]
        head = b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\n\n'
        inner = _parsed(head + payload)
        if inner.is_multipart():
            yield from _own_parts(inner)
            return
    plain = email.message_from_bytes(b"Content-Type: text/plain\n\n", policy=compat32)
    plain.set_payload(payload.decode("ascii", "surrogateescape"))
    yield plain


def _is_attached(part: Message) -> bool:
    try:
        return part.get_content_disposition() == "attachment" or part.get_filename() is not None
    except Exception:  # noqa: BLE001 -- what cannot be told is not let out
        return True


def _disposition(part: Message) -> str | None:
    try:
        return part.get_content_disposition()
    except Exception:  # noqa: BLE001 -- as above
        return "attachment"


def _content_type(part: Message) -> str:
    try:
        return part.get_content_type()
    except Exception:  # noqa: BLE001 -- RFC 2045, 5.2: what cannot be read is plain text
        return "text/plain"


def _part_text(part: Message, kind: str) -> str:
    try:
        charset = part.get_content_charset()
    except Exception:  # noqa: BLE001 -- then the bytes must tell
        charset = None
    encoding = _as_text(_first_fields(part).get("content-transfer-encoding", ""))
    raw = transfer_decoded(_raw_payload(part)[:_ENCODED_LIMIT], encoding)
    if charset is None and kind == "text/html":
        charset = declared_charset(raw)
    return clean(decoded(raw, charset))


def _raw_payload(part: Message) -> bytes:
    """The bytes of a part as they stand in the message; the part's encoding is forgotten.

    Without that header, `decode=True` decodes nothing but still gives bytes. Asking without
    `decode` would run the declared charset, whatever codec that names.
    """
    del part["Content-Transfer-Encoding"]
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
