"""Of any note, every word of every section and heading is in each form of it: in order, once, and nothing beside them.

Each word of these notes is another one, so that a word that is lost, doubled or in the wrong place cannot hide.
"""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.fhir import build_documents
from medscribe_pipeline.fhir.text import origin_line
from medscribe_pipeline.notes import NoteSection, ScribeNote
from tests.fhir_corpus import a_note
from tests.fhir_options import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hypothesis.strategies import DrawFn

    from medscribe_pipeline.notes import TextFormat

WORD = re.compile(r"w[0-9]+[xé字ש]")

# `@` stands for a word.
IN_LINE = ("@", "@ @", "<@", "@ & @", "@\t@", "(@)", "@, @.", "\u202e@\u202c", "😀 @", "@\x00", "]]>@")
PLAIN = (
    *IN_LINE,
    "- @",
    "• @\n  @",
    "@\r\n@",
    "@\u2028@",
    "\n\n@",
    "  @",
    "- @\n- @\n\n@",
    "* @",
    "1. @",
    "# @",
    "| @ |",
)
MARKDOWN = (
    *("**@**", "*@ @*", "~~@~~", "`@`", "[@](https://example.org/1)", "<@>@</9>", "@ \\* @", "@  \n@", "\\<@", "&lt;@"),
    *("# @\n", "## @ **@**\n", "> @\n> @\n", "---\n\n@", "```\n@ @\n```\n", "    @\n"),
    *("- @\n  - @\n    - *@*\n- @\n", "1. @\n2. @\n   - @\n", "7) @\n", "- [ ] @\n"),
    *("| @ | @ |\n|---|:-:|\n| **@** | @ \\| @ |\n| | @ |\n", "@\n===\n", "@\n\n@\n"),
)


@dataclass(frozen=True, slots=True)
class Told:
    """A note, and its words and those of its headings as they were put in."""

    note: ScribeNote
    words: list[str]


@st.composite
def told(draw: DrawFn) -> Told:
    """A note of sections in sections, plain and Markdown."""
    numbers = count(1)
    words: list[str] = []

    def filled(pattern: str) -> str:
        def word(_: re.Match[str]) -> str:
            words.append(f"w{next(numbers)}{draw(st.sampled_from('xé字ש'))}")
            return words[-1]

        return re.sub("@", word, pattern)

    def section(depth: int) -> NoteSection:
        form: TextFormat = draw(st.sampled_from(["text", "markdown"]))
        # Without a title the heading would be one of the mapping's, and no word of the note.
        title = filled(draw(st.sampled_from(["@", " @\n@", "@ <@"])))
        patterns = draw(st.lists(st.sampled_from((*IN_LINE, *MARKDOWN) if form == "markdown" else PLAIN), max_size=4))
        text = ("\n\n" if form == "markdown" else "\n").join(filled(pattern) for pattern in patterns)
        inner = tuple(section(depth - 1) for _ in range(draw(st.integers(0, 2)) if depth else 0))
        if not patterns and not inner:
            text = filled("@")
        key = draw(st.sampled_from([None, "PLAN", "SOAP_PLAN", "VENDOR_NEWS"]))
        return NoteSection(key, title, text, inner, form)

    sections = tuple(section(2) for _ in range(draw(st.integers(1, 3))))
    return Told(a_note("words", draw(st.sampled_from(["draft", "validated", "retracted"])), sections=sections), words)


def of_composition(sections: Sequence[dict[str, Any]]) -> Iterator[str]:
    for section in sections:
        yield section["title"]
        if "text" in section:
            yield visible(section["text"]["div"])
        yield from of_composition(section.get("section", []))


def visible(xhtml: str) -> str:
    return "".join(ET.fromstring(xhtml).itertext())  # noqa: S314  written by our own code a moment ago


def only_words(text: str) -> list[str]:
    """The words of a text, which has no letter beside them."""
    assert not re.search(r"[^\W\d_]", WORD.sub("", text)), text
    return WORD.findall(text)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(told())
def test_every_word_is_in_every_form_once_in_order_and_nothing_beside(told: Told) -> None:
    documents = build_documents(told.note, options(renderings=("text", "xhtml")))

    text, page = (
        base64.b64decode(each["attachment"]["data"]).decode() for each in documents.document_reference["content"]
    )
    title, origin = documents.composition["title"], origin_line(told.note)
    assert text.startswith(f"{title}\n\n")
    assert text.endswith(f"\n\n{origin}\n")
    assert only_words(text[len(title) : -len(origin) - 1]) == told.words
    assert only_words("\n".join(of_composition(documents.composition["section"]))) == told.words
    shown = visible(page).strip()
    # Once as the title of the page, once above the note.
    assert shown.startswith(title)
    assert shown.endswith(origin)
    assert only_words(shown.replace(title, "", 2)[: -len(origin)]) == told.words
