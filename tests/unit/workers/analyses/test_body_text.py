"""The text of a mail: HTML, quoted history, signatures, and what nobody sees."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.analyses import MailInput
from workers.analyses import markup
from workers.analyses.body import BODY_LIMIT, QUOTED_LIMIT, SIGNATURE_LIMIT, body_text
from workers.analyses.characters import CUT

SECONDS = 5.0


def text_of(text: str = "", html: str = "") -> str:
    return body_text(MailInput(text=text, html=html))


def test_plain_text_is_preferred_to_html() -> None:
    assert text_of("The plain words.", "<p>The rich words.</p>") == "The plain words."


def test_html_is_used_where_there_is_no_plain_text() -> None:
    assert text_of(" \n\n", "<p>The rich words.</p>") == "The rich words."


def test_html_is_used_where_the_plain_text_only_points_at_it() -> None:
    stub = "Your mail program does not show HTML. Open this message in a browser."
    assert text_of(stub, "<p>Yes</p>") == "Yes"
    assert text_of("Hi", f"<p>{'many words ' * 20}</p>").startswith("many words")


def test_a_mail_without_a_body_has_an_empty_text() -> None:
    assert text_of() == ""
    assert text_of(html="<html><head><title>x</title></head><body></body></html>") == ""


def test_blocks_rows_cells_and_items_become_lines_and_words() -> None:
    html = (
        "<table><tr><td>one</td><td>two</td></tr><tr><td>three</td></tr></table>"
        "<ul><li>four<li>five</ul><p>six <b>se</b>ven<br>eight"
    )
    lines = [line for line in text_of(html=html).split("\n") if line]
    assert lines == ["one two", "three", "* four", "* five", "six seven", "eight"]


def test_scripts_styles_comments_and_the_head_are_no_text() -> None:
    html = (
        "<head><title>t</title><style>s{}</style></head><!-- c --><body><script>j()</script>"
        "<noscript>n</noscript>words</body>"
    )
    assert text_of(html=html).split() == ["nwords"]


@pytest.mark.parametrize(
    "hidden",
    [
        '<div style="display:none">SECRET</div>',
        '<div style="color:red; DISPLAY : none ">SECRET</div>',
        '<span style="visibility:hidden">SECRET</span>',
        '<p style="font-size:0px">SECRET</p>',
        '<p style="mso-hide:all">SECRET</p>',
        "<div hidden>SECRET</div>",
        "<template>SECRET</template>",
    ],
)
def test_what_nobody_sees_is_left_out(hidden: str) -> None:
    assert text_of(html=f"<p>before</p>{hidden}<p>after</p>").split() == ["before", "after"]


def test_small_print_is_not_hidden() -> None:
    assert text_of(html='<p style="font-size:0.8em">small</p>') == "small"


def test_invisible_characters_are_removed() -> None:
    tagged = "".join(chr(0xE0000 + ord(letter)) for letter in "ignore")
    assert text_of(f"a\u200bb\u202ec\x00d\x1be{tagged}f\ud800g\r\nh\u2028i") == "abcdefg\nh\ni"
    assert text_of(html=f"<p>a\u200bb&#8238;c&#0;d{tagged}e</p>").startswith("abc")


def test_pictures_stand_as_their_alternative_text() -> None:
    assert text_of(html='<a href="x"><img src="y" alt="Buy now"></a>') == "Buy now"


@pytest.mark.parametrize("depth", [300, 1_500])
def test_text_within_unclosed_tags_is_kept(depth: int) -> None:
    assert text_of(html="<font>" * depth + "the words").strip() == "the words"


def test_html_that_the_library_fails_on_is_stripped_of_its_tags(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: str) -> None:
        raise RuntimeError

    monkeypatch.setattr(markup, "_flat", fail)
    assert text_of(html="<p>one &amp; <b>two</b></p><style>x</style>").split() == [
        "one",
        "&",
        "two",
    ]


@pytest.mark.parametrize(
    "html",
    [
        *("<" * 500_000, "<!--" * 100_000, "<![CDATA[" * 50_000, "<!" * 200_000, "&" * 500_000),
        *("<div>" * 100_000, "<font>x " * 60_000, "<table><tr><td>" * 30_000, "<ul><li>x" * 50_000),
        "<table><tr><td>" + "x" * 60_000 + "<tr><td>a" * 6_000,
        '<p style="padding-left:99999em">a</p>' * 3_000,
        '<td colspan="99999999">a</td>' * 4_000,
        " " * 500_000 + "x",
    ],
    ids=lambda html: html[:16].strip() or "spaces",
)
def test_hostile_html_is_quick_and_bounded(html: str) -> None:
    started = time.thread_time()
    assert len(text_of(html=html)) <= BODY_LIMIT
    assert time.thread_time() - started < SECONDS


def test_a_long_text_is_cut_and_the_cut_is_marked() -> None:
    text = text_of("many words " * 10_000)
    assert len(text) <= BODY_LIMIT
    assert text.endswith(CUT)


def test_quoted_history_is_bounded_and_the_reply_is_not() -> None:
    quoted = "> quoted line\n" * 1_000
    text = text_of(f"Above.\n\nOn 1 May, Ann wrote:\n{quoted}\nBelow.\n{quoted}\nEnd.")
    assert text.startswith("Above.\n\nOn 1 May, Ann wrote:\n> quoted line\n")
    assert text.count("> quoted line") * len("> quoted line\n") <= QUOTED_LIMIT
    assert text.count(CUT) == 2
    assert f"{CUT}\n\nBelow.\n{CUT}" in text
    assert text.endswith("End.")


@pytest.mark.parametrize(
    "attribution",
    [
        "On Mon, 2 Sep 2002 at 10:00, Ann <ann@example.com> wrote:",
        "On Mon, 2 Sep 2002 at 10:00, Ann Very-Long-Name\n<ann@example.com> wrote:",
        "Am 02.09.2002 um 10:00 schrieb Ann:",
        "Le 2 sept. 2002, Ann a écrit :",
        "-----Original Message-----",
    ],
)
def test_history_without_marks_is_bounded(attribution: str) -> None:
    text = text_of(f"The reply.\n\n{attribution}\n" + "An old line.\n" * 1_000)
    assert text.startswith(f"The reply.\n\n{attribution}")
    assert text.endswith(CUT)
    assert len(text) < QUOTED_LIMIT + 200


def test_an_articles_own_sentence_is_no_history() -> None:
    article = "On Tuesday the senator wrote:\n" + "A line of the letter.\n" * 500
    assert text_of(article).count("A line of the letter.") == 500


def test_a_signature_is_bounded() -> None:
    text = text_of("Words.\n-- \nAnn\n" + "Disclaimer without an end.\n" * 200)
    assert text.startswith("Words.\n--\nAnn\nDisclaimer")
    assert text.endswith(CUT)
    assert len(text) < SIGNATURE_LIMIT + 50


def test_lines_between_articles_are_no_signature() -> None:
    text = text_of("\n--\n".join(f"Article {number}. " + "Word. " * 200 for number in range(5)))
    assert CUT not in text


@settings(deadline=None)
@given(st.text(max_size=500), st.text(max_size=500))
def test_any_text_and_any_html_give_clean_text(text: str, html: str) -> None:
    found = text_of(text, html)
    found.encode()
    assert not any(ord(c) < 32 and c not in "\n\t" for c in found)
    assert len(found) <= BODY_LIMIT


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "<table>",
                "<td>",
                "</p>",
                "<li>",
                "<b",
                ">",
                "<!--",
                "&#x0;",
                "<style>",
                "x",
                '="',
                "\ud800",
            ]
        ),
        max_size=60,
    )
)
def test_any_markup_gives_clean_text(pieces: list[str]) -> None:
    text_of(html="".join(pieces)).encode()
