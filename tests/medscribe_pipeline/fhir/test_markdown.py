"""Markdown of a note as XHTML and as plain text: readable by the strictest, and no word lost."""

from __future__ import annotations

import base64
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir import build_documents, check
from medscribe_pipeline.fhir.narrative import LONGEST_MARKDOWN, XHTML, clean_text, is_blank, plain_text, to_xhtml
from medscribe_pipeline.notes import NoteSection
from tests.fhir_options import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medscribe_pipeline.notes import ScribeNote, TextFormat

TEXT = {"br", "code", "div", "em", "hr", "li", "ol", "p", "pre", "strong", "ul"}
TABLES = {"table", "tbody", "td", "th", "thead", "tr"}
ALLOWED = TEXT | TABLES | {f"h{level}" for level in range(1, 7)}
FORMATS: tuple[TextFormat, ...] = ("text", "markdown")

# What Markdown takes for its marks; where it does not, they stay, but these tests do not tell which is which.
MARKS = set("*_#~|:-\\`![]()")
PIECES = [
    *"ab12é ?\n+>=<'\".,%\xa0\t",
    *("\n- ", "\n* ", "\n1. ", "\n2) ", "- ", "  ", "    ", "\n\n", "# ", "\n## "),
    *("*", "**", "_", "`", "\n```\n", "\n~~~ x\n", "\\", "!", "[", "](", ")", "\n---\n", "[b]: "),
    *("|", "\n| a | b | c |\n", "\n|--|:-:|\n", "\n-|-\n"),
]
MARKDOWN = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
# Surrogates and controls included, entities and addresses, too.
ANY_TEXT = st.lists(
    st.sampled_from(
        [*PIECES, "&", "&nbsp;", "&#12;", "&#x2028;", "&#xD800;", "&lt;p>", "](https://x.test)", "<mailto:a@b>"]
    )
    | st.text(alphabet=st.characters(exclude_categories=()), max_size=4),
    max_size=30,
).map("".join)


def read(text: str, text_format: TextFormat = "markdown") -> ET.Element:
    return ET.fromstring(to_xhtml(text, text_format))  # noqa: S314  written by our own code a moment ago


def inner(text: str) -> str:
    return to_xhtml(text, "markdown").removeprefix(f'<div xmlns="{XHTML}">').removesuffix("</div>")


def seen(element: ET.Element) -> Iterator[str]:
    """What a reader sees of an element: its text, and the numbers of the lists that count."""
    yield element.text or ""
    for number, child in enumerate(element, 1):
        if element.tag == f"{{{XHTML}}}ol":
            yield f"{number} "
        yield from seen(child)
        yield child.tail or ""


def without(text: str, marks: set[str]) -> str:
    return "".join(character for character in text if not character.isspace() and character not in marks)


@settings(max_examples=400, deadline=None)
@given(ANY_TEXT, st.sampled_from(FORMATS))
@example("<script>alert(1)</script> <b onclick='x'>a</b> &nbsp; ]]> <!-- -->", "markdown")
@example("\ud83d\ude00 \ud800 \x00 **\ud800**", "markdown")
@example("1. a\n2. b\n\n7) c\n\n- \n- d\n\n|a|b|\n|-|-|\n|c|d|e|", "markdown")
def test_any_text_is_wellformed_allowed_and_the_same_in_both_forms(text: str, text_format: TextFormat) -> None:
    root = read(text, text_format)

    assert root.tag == f"{{{XHTML}}}div"
    assert {element.tag.removeprefix(f"{{{XHTML}}}") for element in root.iter()} <= ALLOWED
    assert not any(element.attrib for element in root.iter())
    # Both forms mark bullets, numbers and cells, each in its way.
    plain = plain_text(text, text_format)
    assert without("".join(seen(root)), set("-•|.)")) == without(plain, set("-•|.)"))
    assert is_blank(text, text_format) is (not "".join(root.itertext()).strip()) is (not plain)
    plain.encode()


@settings(max_examples=500, deadline=None)
@given(MARKDOWN)
@example("a\n===\nb\n---\nc")
@example("| a | b |\n|--|--|\n| 1 | 2 | 3 |\n|| 4 ||\n 5")
@example("~~~ penicillin\n1\n~~~\n2")
@example("- > 3\n- + a\n3. b\n1) c")
def test_of_markdown_only_its_marks_go(text: str) -> None:
    assert without(plain_text(text, "markdown"), MARKS) == without(clean_text(text), MARKS)


WORD = st.text("abcdé123", min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(
    WORD,
    WORD,
    st.sampled_from(["https://x.test/", "HTTP://", "mailto:", "javascript:", "data:image/png;base64,"]),
    st.text("xyz/?=%.", max_size=8),
    st.sampled_from(["", "!"]),
)
def test_of_a_link_its_words_stay_and_where_it_leads_goes(
    word: str, title: str, scheme: str, rest: str, image: str
) -> None:
    text = f'before {image}[{word}]({scheme}{rest} "{title}") after'

    assert plain_text(text, "markdown") == f"before {word} ({title}) after"
    assert inner(text) == f"<p>before {word} ({title}) after</p>"


@settings(max_examples=200, deadline=None)
@given(st.lists(WORD, min_size=1, max_size=6), st.sampled_from([1, 0, 2, 9, 2024]), st.sampled_from(".)"))
def test_numbers_of_a_list_are_those_that_were_written(words: list[str], first: int, end: str) -> None:
    text = "\n".join(f"{number}{end} {word}" for number, word in enumerate(words, first))

    assert plain_text(text, "markdown") == text
    shown = [word.rstrip(end) for word in "".join(seen(read(text))).split()]
    assert shown == text.replace(end, "").split()


HEAD = "<thead>\n<tr>\n<th>Drug</th>\n<th><em>Dose</em></th>\n</tr>\n</thead>"
ROW = "<tr>\n<td>A&amp;P &lt;b&gt;</td>\n<td>1 | 2</td>\n</tr>"
ROWS = f"{ROW}\n<tr>\n<td></td>\n<td>b</td>\n<td>c</td>\n</tr>"


@pytest.mark.parametrize(
    ("text", "xhtml", "plain"),
    [
        ("one\ntwo  \nthree\n\nfour", "<p>one<br/>\ntwo<br/>\nthree</p>\n<p>four</p>", "one\ntwo\nthree\n\nfour"),
        (
            "Plan:\n- **rest**\n  - at home\n\n- water",
            "<p>Plan:</p>\n<ul>\n<li><strong>rest</strong>\n<ul>\n<li>at home</li>\n</ul></li>\n<li>water</li>\n</ul>",
            "Plan:\n- rest\n  - at home\n- water",
        ),
        (
            "1. a\n   - b\n2. c\n\n   d",
            "<ol>\n<li>a\n<ul>\n<li>b</li>\n</ul></li>\n<li>c\n<p>d</p></li>\n</ol>",
            "1. a\n   - b\n2. c\n   d",
        ),
        ("3. a\n4. b", "<ul>\n<li>3. a</li>\n<li>4. b</li>\n</ul>", "3. a\n4. b"),
        ("2. - a", "<ul>\n<li>2.\n<ul>\n<li>a</li>\n</ul></li>\n</ul>", "2. - a"),
        ("1. a\n2.\n3. b", "<ul>\n<li>1. a</li>\n<li>2.</li>\n<li>3. b</li>\n</ul>", "1. a\n2.\n3. b"),
        ("- [ ] call\n- [x] done", "<ul>\n<li>[ ] call</li>\n<li>[x] done</li>\n</ul>", "- [ ] call\n- [x] done"),
        (
            "| Drug | *Dose* |\n|:--|--:|\n| A&P <b> | 1 \\| 2 |\n|  | b | c |",
            f"<table>\n{HEAD}\n<tbody>\n{ROWS}\n</tbody>\n</table>",
            "Drug | Dose\nA&P <b> | 1 | 2\n | b | c",
        ),
        (
            "| | |\n|-|-|\n| a | b |",
            "<table>\n<tbody>\n<tr>\n<td>a</td>\n<td>b</td>\n</tr>\n</tbody>\n</table>",
            "a | b",
        ),
        ("## Knee ##\nstable", "<h2>Knee</h2>\n<p>stable</p>", "Knee\n\nstable"),
        ("a\n---\nb", "<p>a</p>\n<hr/>\n<p>b</p>", "a\n\nb"),
        ("```text\n  a <1\n\n b\n```", "<pre><code>  a &lt;1\n\n b</code></pre>", "  a <1\n\n b"),
        ("```penicillin\na", "<pre><code>penicillin\na</code></pre>", "penicillin\na"),
        (
            "`a  <b`, \\*c\\* &lt;5 &amp; &eacute;",
            "<p><code>a  &lt;b</code>, *c* &lt;5 &amp; é</p>",
            "a  <b, *c* <5 & é",
        ),
        ("***a* b** __c__ ~~d~~", "<p><strong><em>a</em> b</strong> <strong>c</strong> ~~d~~</p>", "a b c ~~d~~"),
        ("**a **b** c**", "<p><strong>a b c</strong></p>", "a b c"),
        ("<https://x.test/a?b> <a@x.test>", "<p>https://x.test/a?b a@x.test</p>", "https://x.test/a?b a@x.test"),
        ("    - a\n\n    b", "<ul>\n<li>a</li>\n</ul>\n<p>b</p>", "- a\n\nb"),
    ],
)
def test_layout(text: str, xhtml: str, plain: str) -> None:
    assert inner(text) == xhtml
    assert plain_text(text, "markdown") == plain


@pytest.mark.parametrize(
    "text",
    [
        "> 38.5 since Monday",
        ">3 days",
        "+ Murphy sign",
        "HLA-B*27:05 and HLA-B*57:01",
        "2*3*4 = 24, 5**2, 2 * 3 * 4",
        "CYP2D6 *1/*4",
        "[Allergies]: penicillin",
        "[leaflet]: https://x.test/a",
        '[pain](left) ![knee](right "worse")',
        "Hb <10, plt >150, <SpO2:95>, <b>bold</b> <!-- none --> <br>",
        "snake_case_name _ # 1 #1 ~5 ^2 $3",
        "a\n===",
        "A&P &nosuch; ½ ™",
        "\\alpha C:\\temp",
        "-5 kg",
        "2024.5",
        "\u202eאבג\u202c e\u0301 👩‍⚕️ 𝔸",
    ],
)
def test_what_a_clinician_means_by_a_mark_stays(text: str) -> None:
    assert plain_text(text, "markdown") == text
    assert "".join(read(text).itertext()) == text


@pytest.mark.parametrize("mark", ["-", "*", "+", "5.", "12)", "-\n-"])
def test_a_mark_that_is_all_that_was_said_is_shown(mark: str) -> None:
    assert plain_text(mark, "markdown") == mark
    assert "".join(read(mark).itertext()).split() == mark.split()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "---",
        "***",
        "#",
        "&nbsp;",
        "[](https://x.test)",
        "![](http://x.test)",
        "```\n```",
        "||\n|-|",
        "- - -",
    ],
)
def test_what_shows_nothing_is_blank(text: str) -> None:
    assert is_blank(text, "markdown")
    assert inner(text) == ""


def test_the_same_marks_in_plain_text_are_words() -> None:
    assert not is_blank("---")
    assert plain_text("**a** [b](https://x.test)") == "**a** [b](https://x.test)"


@pytest.mark.parametrize(
    "text",
    [
        "> " * 200 + "deep",
        "- " * 200 + "deep",
        "1. " * 200 + "deep",
        "\n".join(f"{'  ' * level}- a{level}" for level in range(200)),
        "[" * 5_000 + "a" + "](b)" * 5_000,
        "![" * 5_000,
        "*a **b " * 5_000,
        "**" * 5_000 + "a" + "**" * 5_000,
        "`a ``b" * 3_000,
        "<a" * 10_000,
        "|" * 10_000 + "\n" + "|-" * 9_000,
        "a | b\n-|-\n" * 2_000,
        "\\" * 10_000,
    ],
    ids=str.strip,
)
def test_no_text_is_too_deep_or_too_tangled(text: str) -> None:
    root = read(text)

    def depth(element: ET.Element) -> int:
        return 1 + max(map(depth, element), default=0)

    assert depth(root) < 50
    assert without(plain_text(text, "markdown"), MARKS) == without(text, MARKS)


def test_a_text_too_long_for_a_section_shows_as_it_stands() -> None:
    line = "**word** and more\n"
    at_most = line * (LONGEST_MARKDOWN // len(line))
    million = line * (1_000_000 // len(line))

    assert "*" not in plain_text(at_most, "markdown")
    assert to_xhtml(million, "markdown") == to_xhtml(million)
    assert plain_text(million, "markdown") == million.rstrip()


def test_both_documents_of_a_note_show_its_markdown(note: ScribeNote) -> None:
    table = NoteSection(None, "Bilan", "| Hb | <10 |\n|--|--|\n| **CRP** | >50 |", format="markdown")
    listed = NoteSection("PLAN", "Suites", "3. *repos*\n4. eau", (table,), format="markdown")
    nothing = NoteSection(None, "Rien", "---\n[](https://x.test)", format="markdown")

    built = build_documents(replace(note, sections=(nothing, listed)), options())

    (plan,) = built.composition["section"]
    assert plan["text"]["div"] == to_xhtml(listed.text, "markdown")
    assert plan["section"][0]["text"]["div"] == to_xhtml(table.text, "markdown")
    check(built.composition)
    text = base64.b64decode(built.document_reference["content"][0]["attachment"]["data"]).decode()
    assert "\n\nSuites\n3. repos\n4. eau\n\nBilan\nHb | <10\nCRP | >50\n\n" in text
    assert "Rien" not in text


def test_a_note_whose_markdown_shows_nothing_is_empty(note: ScribeNote) -> None:
    nothing = NoteSection(None, "Rien", "---", format="markdown")

    with pytest.raises(MedscribeError) as caught:
        build_documents(replace(note, sections=(nothing,)), options())

    assert caught.value.code == "empty_note"


def test_the_parser_is_not_imported_before_there_is_markdown() -> None:
    told = "import sys, medscribe_pipeline.fhir as fhir; fhir.to_xhtml('a'); sys.exit('markdown_it' in sys.modules)"

    subprocess.run([sys.executable, "-c", told], check=True)
