"""Values a provider structured, although it was asked for Markdown: every word of them is shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.fhir import plain_text
from medscribe_pipeline.notes import NoteSection
from medscribe_pipeline.providers.structured_sections import has_words, sections_of, text_of, titled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WORD = re.compile(r"[^\W_]+")


def words(sections: Sequence[NoteSection]) -> list[str]:
    return [
        word
        for section in sections
        for word in (*WORD.findall(section.title or ""), *WORD.findall(section.text), *words(section.sections))
    ]


def words_in(value: Any) -> Iterator[str]:
    """The words of names and values, in order."""
    if isinstance(value, dict):
        for name, content in value.items():
            yield from WORD.findall(name)
            yield from words_in(content)
    elif isinstance(value, list):
        for content in value:
            yield from words_in(content)
    elif value is not None:
        yield from WORD.findall(value if isinstance(value, str) else orjson.dumps(value).decode())


def test_the_parts_of_an_object_are_sections() -> None:
    value = {
        "Subjective": "cough\n- dry",
        "objective": {"vitals": {"T": 38.5, "BP": "120/80"}, "exam": None},
        "ASSESSMENT": ["cold", {"code": "J00", "sure": False}],
        "plan": None,
        "follow_up": "may",
        "odd-field": ["a", ["b", "c"]],
    }

    assert sections_of(value, soap=True) == (
        NoteSection("SOAP_SUBJECTIVE", "Subjective", "cough\n- dry"),
        NoteSection("SOAP_OBJECTIVE", "objective", "- vitals:\n  - T: 38.5\n  - BP: 120/80\n- exam:", (), "markdown"),
        NoteSection("SOAP_ASSESSMENT", "ASSESSMENT", "- cold\n- code: J00\n- sure: false", (), "markdown"),
        NoteSection("SOAP_PLAN", "plan", ""),
        NoteSection("APPOINTMENTS", "follow up", "may"),
        NoteSection(None, "odd-field", "- a\n-\n  - b\n  - c", (), "markdown"),
    )


@pytest.mark.parametrize("name", ["text", "markdown", "soap_note"])
def test_an_object_with_a_single_text_is_its_wrapping(name: str) -> None:
    assert sections_of({name: "## Plan\nrest"}) == (NoteSection("PLAN", "Plan", "rest", (), "markdown"),)


def test_an_object_with_a_single_known_part_is_that_part() -> None:
    assert sections_of({"plan": "rest"}, soap=True) == (NoteSection("SOAP_PLAN", "plan", "rest"),)


@pytest.mark.parametrize("soap", [True, False])
def test_letters_are_parts_of_a_soap_note_only(*, soap: bool) -> None:
    keys = [section.key for section in sections_of({"S": "a", "O": "b", "A": "c", "P": "d"}, soap=soap)]

    assert keys == (["SOAP_SUBJECTIVE", "SOAP_OBJECTIVE", "SOAP_ASSESSMENT", "SOAP_PLAN"] if soap else [None] * 4)


def test_a_list_is_a_list() -> None:
    assert sections_of(["rest", "fluids\nwater"]) == (
        NoteSection(None, None, "- rest\n- fluids\n  water", (), "markdown"),
    )


def test_texts_of_a_structured_value_are_no_markdown() -> None:
    value = {"plan": "**rest** 2*3", "allele": ["HLA-B*27 *a*", {"# Hb": "> 5 _x_ [a](http://b)"}, "1. rest"]}

    plan, allele = sections_of(value)

    assert (plan.text, plan.format) == ("**rest** 2*3", "text")
    shown = "- HLA-B*27 *a*\n- # Hb: > 5 _x_ [a](http://b)\n- 1. rest"
    assert plain_text(allele.text, allele.format) == shown
    assert text_of(value["allele"]) == shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, False),
        ("", False),
        (" \n", False),
        ([], False),
        ({}, False),
        ({"a": [None, {"b": " "}]}, False),
        ("a", True),
        (0, True),
        ({"a": [None, {"b": "c"}]}, True),
    ],
)
def test_what_says_anything_at_all(value: Any, *, expected: bool) -> None:
    assert has_words(value) is expected


def test_what_is_too_deep_for_a_list_is_shown_as_json() -> None:
    value: Any = "deep"
    for _ in range(300):
        value = {"in": value}

    assert text_of([value]).count("in") == 300
    assert text_of([value]).endswith('"deep"' + "}" * text_of([value]).count('{"in":'))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(alphabet="ab Plan:\n-*", max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="abS_ :", max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["plan", "vital_signs", "Left knee", "S"]), VALUES, min_size=2) | st.lists(VALUES)
)
def test_every_word_of_a_structured_value_is_shown_in_order(value: Any) -> None:
    assert words(sections_of(value)) == list(words_in(value))


def test_a_title_of_the_whole_is_parted_from_the_sections() -> None:
    plan = NoteSection("PLAN", "Plan", "rest")
    names = (NoteSection(None, "Clinic", ""), NoteSection(None, "SOAP note", ""))

    assert titled((*names, plan)) == ("Clinic - SOAP note", (plan,))
    assert titled((plan, *names)) == (None, (plan, *names))
    assert titled(names[:1]) == (None, names[:1])
    assert titled(()) == (None, ())
