"""The text of a mail as an analysis reads it: what this mail says, and little of what it quotes."""

import re

from events.analyses import MailInput
from workers.analyses.characters import CUT, clean, cut
from workers.analyses.markup import html_to_text, looks_like_html

BODY_LIMIT = 24_000
"""Characters of a body: about 6,000 tokens of English."""

QUOTED_LIMIT = 1_500
"""Characters of quoted history that are kept, in all: enough to see what is answered."""

SIGNATURE_LIMIT = 400
"""Characters of a signature that are kept: name, role and telephone, not the disclaimer."""

_SOURCE_LIMIT = 120_000
_HTML_SOURCE_LIMIT = 512 * 1024  # above what an event can hold; the converter bounds it further
# A short plain part beside HTML can be a stub: "your program does not show HTML".
_STUB_LENGTH = 600
_STUB_SHARE = 4
_STUB = re.compile(
    r"\bhtml\b|\bmime\b|\bbrowser\b|\bview (?:this|it|online)\b"
    r"|e-?mail (?:client|program|reader)\b",
    re.IGNORECASE,
)
_DELIMITERS = 2
_BLANK_LINES = re.compile(r"\n{3,}")
_SHORT_LINE = 200
# With a date or an address in it: "On Tuesday the senator wrote:" is an article's own sentence.
_ATTRIBUTION = re.compile(
    r"\s?(?:On|Am|Le|El|Il|Op)\b(?=.{0,400}[\d@]).{1,400}"
    r"\b(?:wrote|writes|schrieb|écrit|escribió|scritto|schreef)\b.{0,100}:\s{0,5}"
    r"|\s?-{2,9}\s?(?:Original Message|Ursprüngliche Nachricht|Message d'origine)\s?-{2,9}\s{0,5}"
)


def body_text(mail: MailInput) -> str:
    """Return the text of `mail`, at most `BODY_LIMIT` characters, cuts marked. Never raises.

    HTML is turned to text where there is no usable plain text: none, or a short one that speaks
    of HTML or says less than a quarter of what the HTML says.
    """
    plain = clean(mail.text[:_SOURCE_LIMIT])
    if looks_like_html(plain):
        plain = html_to_text(plain)
    text = plain = _tidy(plain)
    if mail.html and len(plain) < _STUB_LENGTH:
        rich = _tidy(clean(html_to_text(clean(mail.html[:_HTML_SOURCE_LIMIT]))))
        if rich and (_STUB.search(plain) or len(plain) * _STUB_SHARE < len(rich)):
            text = rich
    return cut(_shortened(text), BODY_LIMIT)


def _tidy(text: str) -> str:
    # Line by line: a pattern for trailing white space is quadratic on a long run of it.
    lines = [line.rstrip() for line in text.replace("\xa0", " ").split("\n")]
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip("\n")


def _shortened(text: str) -> str:
    """Bound what is quoted and the signature; the mail's own words stay as they are."""
    lines = text.split("\n")
    signature = _signature_line(lines)
    history = _history_line(lines)
    kept: list[str] = []
    quoted, signed = QUOTED_LIMIT, SIGNATURE_LIMIT
    for number, line in enumerate(lines):
        if number >= history or line.startswith(">"):
            quoted = _keep(kept, line, quoted)
        elif number >= signature:
            signed = _keep(kept, line, signed)
        else:
            kept.append(line)
    return "\n".join(kept)


def _keep(kept: list[str], line: str, left: int) -> int:
    """Keep `line` while there is room, then one mark; return the room that is left."""
    if len(line) < left:
        kept.append(line)
        return left - len(line) - 1
    if not kept or not kept[-1].endswith(CUT):
        # Of a short line nothing is kept; a long one may be all that there is.
        kept.append(line[:left] + CUT if len(line) > _SHORT_LINE else CUT)
    return 0


def _signature_line(lines: list[str]) -> int:
    """Where the signature begins: the last delimiter of RFC 3676, 4.3.

    More than two of them are lines that a newsletter draws between its articles.
    """
    delimiters = [number for number, line in enumerate(lines) if line == "--"]
    return delimiters[-1] if 0 < len(delimiters) <= _DELIMITERS else len(lines)


def _history_line(lines: list[str]) -> int:
    """Where unmarked history begins: after "On … wrote:" without any `>` below it."""
    for number, line in enumerate(lines):
        if not line or len(line) > _SHORT_LINE:
            continue
        below = lines[number + 1 : number + 4]
        wrapped = f"{line} {below[0][:_SHORT_LINE]}" if below else line
        if not any(following.startswith(">") for following in below) and any(
            _ATTRIBUTION.fullmatch(said) for said in (line, wrapped)
        ):
            return number + 1
    return len(lines)
