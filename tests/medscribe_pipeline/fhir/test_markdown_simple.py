"""Markdown read without the parser reads as the parser would have read it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.fhir.markdown import render
from medscribe_pipeline.fhir.markdown_parser import parse
from medscribe_pipeline.fhir.markdown_simple import Rendered, render_simple

LINES = (
    *("Rest for 2 days", "(see below)", "T <38 & falling", "38.5 °C", "2 g", "• dot", "Été : 3 \u00a0g", ""),
    *("- water", "- 12.5 mg - daily", "- (none)", "1. rest", "2. tea", "3. sleep", "**Plan:** rest", "- **Dose**: 1 g"),
)
ODD = (
    *"ab1 *_-+:()<>&;#=|~!][\\`\"'.,?\t\r\x0b\x85\u2028\u00a0\u2003\u0301²٣é😀/$%^{}",
    *("**", "***", "- ", "1. ", "01. ", "2) ", "---", "--|--", "&amp;", "&lt", "<a>", "http://x", "  "),
)
MARKDOWN = st.lists(
    st.one_of(
        st.sampled_from(LINES),
        st.sampled_from(LINES),
        st.lists(st.sampled_from(ODD), max_size=5).map("".join),
        st.tuples(st.sampled_from(LINES), st.sampled_from(ODD)).map("".join),
        st.tuples(st.sampled_from(ODD), st.sampled_from(LINES)).map("".join),
    ),
    max_size=8,
).map("\n".join)


def by_parser(text: str, monkeypatch: pytest.MonkeyPatch) -> Rendered:
    with monkeypatch.context() as patched:
        patched.setattr("medscribe_pipeline.fhir.markdown.render_simple", lambda _: None)
        return render.__wrapped__(text)


@settings(max_examples=400, deadline=None)
@given(text=MARKDOWN)
@example("- water\nlazy")
@example("- water\n\nRest\n- tea")
@example("- water\n1. rest")
@example("1. rest\n\n2. tea\n- water")
@example("Rest\n2. tea")
@example("Rest\n1. tea\n3. sleep")
@example("**a:**. b")
@example("a **b** c **d**, (**e**)")
@example("- 1. rest")
@example("- --|--\n--|--")
def test_what_is_read_here_is_what_the_parser_reads(text: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = render_simple(text)
        assert found is None or found == by_parser(text, monkeypatch)


@pytest.mark.parametrize(
    "text",
    [
        "Rest for 2 days.\nCome back if Hb <10 & worse.",
        "Rest:\n- water\n- **Paracetamol:** 1 g, 3 times a day",
        "1. Cough\n2. **Fever**, since Monday\n\n- rest\n\n- tea",
        "",
    ],
)
def test_what_most_sections_are_needs_no_parser(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medscribe_pipeline.fhir.markdown_parser.parse", lambda _: pytest.fail("the parser was asked"))
    assert render.__wrapped__(text) == render_simple(text)


@pytest.mark.parametrize(
    "text",
    [
        *("# Plan", "> 38.5", "+ Murphy", "* rest", "*rest*", "**rest", "a**b**c", "_rest_", "`x`", "[a](b)", "a\\*b"),
        *("---", "a\n===", "| a | b |\n|--|--|", "~~~\nx", "<https://example.org>", "&lt;", "- a\n  - b", " a", "a "),
        *("- ", "-", "1.", "1) a", "2. b", "1. a\n1. b", "- a\nb", "- a\n1. b", "- - a", "- 1. a", "- # a", "a\tb"),
    ],
)
def test_what_may_be_anything_else_is_left_to_the_parser(text: str) -> None:
    assert render_simple(text) is None
    assert list(parse(text))
