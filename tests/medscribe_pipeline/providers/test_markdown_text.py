"""What counts as Markdown, and plain text that stays what it is in it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from medscribe_pipeline.fhir import plain_text
from medscribe_pipeline.providers.markdown_text import escaped, format_of


@pytest.mark.parametrize(
    "text",
    [
        "# Plan\n**rest**",
        "Seen today.\n\n### **Plan**\n- **rest**",
        "# Plan\n\n| a | b |\n|---|:-:|\n| c | d |",
        "**Plan:** rest\n**Objective:** fine, __not__ bad",
        "a | b\n-- | --\n**c** | d",
    ],
)
def test_two_signs_are_markdown(text: str) -> None:
    assert format_of(text) == "markdown"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2 * 3 * 4, 2**3**4",
        "_",
        "#1\n# 2\n# 3 **",
        "1. rest\n2. fluids\n- a\n* b",
        "Hb <5",
        "# Plan\n- rest\n\n## Objective\nfine",
        "Plan: **urgent**",
        "Vitals\n------\nT | 38",
        "snake__case__name # Plan ** b **",
    ],
)
def test_one_sign_is_not_enough(text: str) -> None:
    assert format_of(text) == "text"


# Anything, and much of what Markdown takes for marks.
LINES = st.lists(
    st.sampled_from([*"ab1 #-+*_`~|:=>.)![]()<&\\;/\"'", "  ", "](", "http://a", "&amp;", "1. ", "---", "**"])
    | st.text(st.characters(exclude_categories=("C", "Z")), max_size=3),
    max_size=12,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(LINES)
@example("&#42; \\* \\")
@example("- - 1. # a")
@example("![a](http://b) <http://c>")
def test_an_escaped_line_is_read_as_it_was(line: str) -> None:
    assert plain_text(escaped(line), "markdown") == line.strip()
    assert plain_text(f"- a: {escaped(line, begins=False)}", "markdown") == f"- a: {line}".rstrip()


@settings(max_examples=300, deadline=None)
@given(LINES)
@example("> a")
@example("===")
@example("<b>")
def test_so_does_every_other_reader_of_commonmark(line: str) -> None:
    line = line.strip()

    tokens = MarkdownIt("commonmark").enable("table").parse(f"a\n{escaped(line)}")

    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    shown = ["\n" if child.type == "softbreak" else child.content for child in tokens[1].children or ()]
    assert "".join(shown) == f"a\n{line}".rstrip("\n")
