"""Characters: bytes of any charset to text, text without what nobody sees, and marked cuts."""

import codecs
import re
from collections.abc import Iterable

CUT = "[… cut]"
"""Stands wherever something was left out, so that no reader takes a part for the whole."""

_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 and C1 but tab and line feed; PostgreSQL has no NUL
    "\xad\u200b\u200e\u200f\u2060-\u2064\ufeff"  # soft hyphen, zero width, direction marks
    "\u202a-\u202e\u2066-\u206f\ufff9-\ufffb"  # direction overrides, annotations
    "\ud800-\udfff\ufffe\uffff"  # lone surrogates and noncharacters: neither is valid UTF-8 text
    "\U000e0000-\U000e007f\U000e0100-\U000e01ef]"  # tags and selectors that hide whole sentences
)
_LINE_END = re.compile("\r\n?|[\x85\u2028\u2029]")
_CODEC_NAME = re.compile(r"[A-Za-z0-9][\w.:+-]{0,39}", re.ASCII)

_NOT_FOR_MAIL = frozenset(
    # punycode is quadratic, unicode_escape warns, undefined always raises, mbcs and oem depend on
    # the machine. None of them is a charset of a mail.
    {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
)
_MEANT = {
    # What mail says against what it means. The supersets are those of the WHATWG encoding
    # standard; the other names were seen in the SpamAssassin corpus or are common mistakes.
    "chinesebig5": "big5hkscs",
    "big5": "big5hkscs",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "x-sjis": "cp932",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-9": "cp1254",
    "utf8mb4": "utf-8",
    "windows-874": "cp874",
}
_GUESSED = frozenset({None, "ascii", "iso8859-1", "cp1252"})
"""Charsets that are often only a default: UTF-8 that decodes without an error is believed first."""


def decoded(raw: bytes, declared: str | None) -> str:
    """Return `raw` as text, by its declared charset where that is one. Never raises.

    A sequence that is cut off at the end is dropped, not replaced.
    """
    codec = _codec(declared)
    for attempt in ("utf-8",) if codec in _GUESSED else (str(codec), "utf-8"):
        try:
            return codecs.getincrementaldecoder(attempt)("strict").decode(raw, False)
        except UnicodeError:
            continue
    return raw.decode("cp1252" if codec is None or codec in _GUESSED else codec, "replace")


def _codec(declared: str | None) -> str | None:
    """The canonical name of a text codec that is safe on any bytes, or `None`."""
    name = (declared or "").strip().strip("\"'").lower()
    if not _CODEC_NAME.fullmatch(name):
        return None
    try:
        canonical = codecs.lookup(_MEANT.get(name, name)).name
        # An empty value would skip the check that this is no bytes-to-bytes codec like zlib.
        b"a".decode(canonical)
    except UnicodeError:
        pass
    except (LookupError, ValueError):
        return None
    return None if canonical.replace("-", "_") in _NOT_FOR_MAIL else canonical


def clean(text: str) -> str:
    """Return `text` without control characters, lone surrogates and invisible characters.

    Every kind of line end becomes a line feed.
    """
    return _UNSEEN.sub("", _LINE_END.sub("\n", text))


def one_line(text: str) -> str:
    """Return `text` cleaned, with every run of white space as one space."""
    return " ".join(clean(text).split())


def cut(text: str, limit: int) -> str:
    """Return `text` with at most `limit` characters, the mark of the cut included.

    Nothing is returned where only the mark would fit.
    """
    if len(text) <= limit:
        return text
    if limit <= len(CUT):
        return ""
    return text[: limit - len(CUT) - 1].rstrip() + " " + CUT


def tokens_of(texts: Iterable[str]) -> int:
    """About how many tokens `texts` are, by the rule of thumb of `cut_to_tokens`."""
    return sum(_quarters(text) // 4 + 1 for text in texts)


def cut_to_tokens(text: str, tokens: int) -> str:
    """Return `text` cut so that it is about `tokens` tokens or fewer.

    The rule of thumb: four ASCII characters are a token (OpenAI's and Anthropic's own advice for
    English), any other character is one. It errs on the side of too many tokens.
    """
    if len(text) <= tokens:
        return text
    if text.isascii():
        return cut(text, 4 * tokens)
    left = 4 * tokens
    for position, character in enumerate(text):
        left -= 1 if character < "\x80" else 4
        if left < 0:
            return cut(text, position)
    return text


def _quarters(text: str) -> int:
    return 4 * len(text) - 3 * len(text.encode("ascii", "ignore"))
