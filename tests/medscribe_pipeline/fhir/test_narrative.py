from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.fhir.narrative import XHTML, both_forms, clean_text, is_blank, plain_text, to_xhtml

if TYPE_CHECKING:
    from medscribe_pipeline.notes import TextFormat

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()))  # surrogates and controls included
ALLOWED = {f"{{{XHTML}}}{name}" for name in ("div", "p", "br", "ul", "li")}


def words(text: str) -> list[str]:
    """The words a reader must find: of each line, without the mark of a bullet."""
    found: list[str] = []
    for line in clean_text(text).split("\n"):
        parts = line.split()
        marked = len(parts) > 1 and parts[0] in ("-", "•")
        found += parts[1:] if marked else parts
    return found


def inner(text: str) -> str:
    return to_xhtml(text).removeprefix(f'<div xmlns="{XHTML}">').removesuffix("</div>")


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT)
@example("- a\n\n  - b\n c\nd")
@example("<script>alert(1)</script> &nbsp; ]]> <!-- -->")
@example("\ud83d\ude00 \ud800 \x00")
def test_any_text_is_wellformed_allowed_and_whole(text: str) -> None:
    root = ET.fromstring(to_xhtml(text))  # noqa: S314  written by our own code a moment ago

    assert root.tag == f"{{{XHTML}}}div"
    assert {element.tag for element in root.iter()} <= ALLOWED
    assert not any(element.attrib for element in root.iter())
    assert "".join(root.itertext()).split() == words(text)


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean_text(text)

    assert clean_text(once) == once
    once.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n\nthree", "<p>one<br/>\ntwo</p>\n<p>three</p>"),
        ("Plan:\n- rest\n- water", "<p>Plan:</p>\n<ul>\n<li>rest</li>\n<li>water</li>\n</ul>"),
        ("- rest\n  at home\nthen", "<ul>\n<li>rest<br/>\nat home</li>\n</ul>\n<p>then</p>"),
        ("-5 kg\n-", "<p>-5 kg<br/>\n-</p>"),
        ("• thé", "<ul>\n<li>thé</li>\n</ul>"),
        ('Hb <10 & "A&P" &nbsp;', '<p>Hb &lt;10 &amp; "A&amp;P" &amp;nbsp;</p>'),
        (" \n\t\u00a0", ""),
    ],
)
def test_layout(text: str, expected: str) -> None:
    assert inner(text) == expected


@pytest.mark.parametrize("text", ["😀", "👩‍⚕️", "\u202eאבג\u202c", "e\u0301", "\u200dx", "½ ™ 𝔸"])
def test_visible_characters_are_unharmed(text: str) -> None:
    assert clean_text(text) == text
    assert inner(text) == f"<p>{text}</p>"


def test_halves_of_an_emoji_meet_and_lone_ones_show() -> None:
    assert clean_text("a\ud83d\ude00b") == "a😀b"
    assert clean_text("a\ud83db\ude00") == "a\ufffdb\ufffd"


def test_line_ends_of_every_kind_part_lines() -> None:
    assert clean_text("a\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h").split("\n") == list("abcdefgh")


@pytest.mark.parametrize(("text", "blank"), [("", True), ("\x00 \n", True), ("\u00a0", True), ("-", False)])
def test_blank_is_what_nobody_would_see(text: str, blank: bool) -> None:
    assert is_blank(text) is blank


@given(
    text=st.text(
        st.sampled_from("\x00\x08\x0e\x1b\x1c \n\t\x0b\x85\u00a0\u2028\u200d\ufffe\uffff\ud83d\ude00-a"), max_size=4
    )
)
@settings(max_examples=300, deadline=None)
def test_blank_is_what_has_no_plain_text(text: str) -> None:
    assert is_blank(text) == (plain_text(text) == "")


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT | st.text(st.sampled_from("-*a \n1.<&`#\t"), max_size=12), st.sampled_from(["text", "markdown"]))
@example("- a\n\n  - b\n c\nd", "text")
@example("---", "markdown")
@example("**a**\n\n1. *b*\n", "markdown")
def test_both_forms_at_once_are_those_of_each_alone(text: str, text_format: TextFormat) -> None:
    alone = plain_text(text, text_format), to_xhtml(text, text_format)

    assert both_forms(text, text_format) == (("", "") if is_blank(text, text_format) else alone)
