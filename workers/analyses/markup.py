"""HTML of a mail: what of it travels, and the text that a person would see.

The HTML is a stranger's. Measured with inscriptis 2.7.6 on 120,000 characters built for it: a
table with one long cell becomes 360 MB of padding, a `padding-left` 100,000 spaces a line, and
beyond 255 levels (unclosed `<font>` in real spam) libxml2 drops the text. So the tree is made
flat first: no tables, no attributes, nothing inline. What is left is what the library does well,
blocks and white space.
"""

import re
from html.parser import HTMLParser
from typing import Any

import lxml.html  # type: ignore[import-untyped]  # ships no types
from inscriptis.css_profiles import CSS_PROFILES  # type: ignore[import-untyped]  # as above
from inscriptis.html_engine import Inscriptis  # type: ignore[import-untyped]  # as above
from inscriptis.model.config import ParserConfig  # type: ignore[import-untyped]  # as above
from lxml import etree

SOURCE_LIMIT = 120_000
"""Characters of HTML that are converted, twice of what `read_eml` lets travel: 0.03 s for prose,
0.2 s for the worst that was built."""

_FALLBACK_LIMIT = 20_000
"""Characters for the parser of the standard library, which is quadratic on broken markup."""

_HTML_START = re.compile(
    r"\s{0,100}<(?:!doctype html|(?:html|head|body|table|div|font|center|p)[\s>])", re.IGNORECASE
)
_DECLARED = re.compile(
    rb"<meta[^>]{1,200}charset\s{0,9}=\s{0,9}[\"']?([\w:+-]{2,40})", re.IGNORECASE
)
_BALLAST = re.compile(r"<!--|<(style|script)\b", re.IGNORECASE)
_BALLAST_ENDS = {
    "<!--": re.compile("-->"),
    "style": re.compile(r"</style[^>]{0,100}>", re.IGNORECASE),
    "script": re.compile(r"</script[^>]{0,100}>", re.IGNORECASE),
}
_EMBEDDED_DATA = re.compile(r"(?i)\bdata:[^\"'\s>)]{100,}+")
_HIDDEN = re.compile(
    r"display\s{0,9}:\s{0,9}none|visibility\s{0,9}:\s{0,9}hidden|mso-hide\s{0,9}:\s{0,9}all"
    r"|font-size\s{0,9}:\s{0,9}0(?![.\d]*[1-9])",
    re.IGNORECASE,
)

_UNSEEN_ELEMENTS = ("head", "style", "script", "template", "object", "select", "svg", "math")
_ROWS = frozenset(
    {"table", "tbody", "thead", "tfoot", "tr", "caption", "ul", "ol", "dl", "dt", "dd"}
)
_BLOCKS = frozenset(
    {"html", "body", "div", "p", "br", "hr", "pre", "blockquote", "center", "form", "address"}
    | {"h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "header", "footer", "main", "nav"}
)


def looks_like_html(text: str) -> bool:
    """Say whether a text that is declared plain is an HTML document."""
    return _HTML_START.match(text) is not None


def declared_charset(html: bytes) -> str | None:
    """Return the charset that a `<meta>` near the beginning names, where one does."""
    found = _DECLARED.search(html[:4_000])
    return found[1].decode("ascii", "replace") if found else None


def without_ballast(html: str) -> str:
    """Return `html` without comments, styles, scripts and embedded data (`data:` addresses).

    Linear: an opening without its end is looked for once, and then left with all that follows.
    """
    kept: list[str] = []
    position = 0
    unclosed: set[str] = set()
    for opening in _BALLAST.finditer(html):
        kind = (opening[1] or opening[0]).lower()
        if opening.start() < position or kind in unclosed:
            continue
        end = _BALLAST_ENDS[kind].search(html, opening.end())
        if end is None:
            unclosed.add(kind)
            continue
        kept.append(html[position : opening.start()])
        position = end.end()
    kept.append(html[position:])
    return _EMBEDDED_DATA.sub("data:", "".join(kept))


def html_to_text(html: str) -> str:
    """Return the text of `html` as a person would see it. Never raises.

    What is hidden by a style or the `hidden` attribute is left out: nobody sees it, and it is
    where instructions to a model are put. Pictures stand as their `alt` text.
    """
    html = without_ballast(html[:SOURCE_LIMIT])
    if not html.strip():
        return ""
    try:
        # The strict profile: the relaxed one indents every `div`.
        text: str = Inscriptis(_flat(html), ParserConfig(CSS_PROFILES["strict"])).get_text()
    except Exception:  # noqa: BLE001 -- lxml's errors, RecursionError: any text beats none
        return _stripped(html)
    return text


def _flat(html: str) -> Any:
    # `huge_tree` lifts libxml2's depth of 256; the size is bounded by SOURCE_LIMIT already.
    parser = lxml.html.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True
    )
    tree = lxml.html.document_fromstring(html.encode("utf-8", "replace"), parser=parser)
    for element in tree.iter(etree.Element):
        tag = element.tag
        hidden = tag in _UNSEEN_ELEMENTS or "hidden" in element.attrib
        hidden = hidden or _HIDDEN.search(element.get("style", "")[:1_000]) is not None
        alternative = element.get("alt", "") if tag == "img" else ""
        element.attrib.clear()
        if hidden and tag not in ("html", "body"):
            element.tag = "unseen"
        elif tag in ("td", "th"):
            element.tag, element.tail = "inline", " " + (element.tail or "")
        elif tag == "li":
            element.tag, element.text = "div", "* " + (element.text or "")
        elif tag in _ROWS:
            element.tag = "div"
        elif tag not in _BLOCKS:
            element.tag, element.text = "inline", (alternative + (element.text or "")) or None
    etree.strip_elements(tree, "unseen", with_tail=False)
    etree.strip_tags(tree, "inline")
    return tree


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    def handle_starttag(
        self,
        tag: str,
        attrs: list[tuple[str, str | None]],  # noqa: ARG002 -- the base class passes it
    ) -> None:
        self.pieces.append("\n" if tag in _BLOCKS or tag in _ROWS else " ")


def _stripped(html: str) -> str:
    parser = _Text()
    try:
        parser.feed(html[:_FALLBACK_LIMIT])
        parser.close()
    except Exception:  # noqa: BLE001 -- AssertionError on some broken declarations
        parser.pieces.append("")
    return "".join(parser.pieces)
