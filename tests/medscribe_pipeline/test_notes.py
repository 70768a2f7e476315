"""Identifiers and versions: the same for the same, another for anything else."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.notes import (
    NAMESPACE,
    NoteSection,
    NoteState,
    ScribeNote,
    canonical_json,
    content_hash,
    stable_id,
)

PARTS = st.text("ab1|:-", max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


def shuffled(value: Any) -> Any:
    """The same JSON with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


def test_the_namespace_is_for_ever() -> None:
    assert uuid.UUID("5f9b0c36-5f0e-5c8b-9b0e-6d5a2f1c7e44") == NAMESPACE
    assert str(stable_id("askara", "default", "n-1", "note")) == "1ee29d60-7023-5d7f-9569-9f5401b52b10"


@settings(max_examples=200, deadline=None)
@given(st.tuples(PARTS, PARTS, PARTS, PARTS), st.tuples(PARTS, PARTS, PARTS, PARTS))
def test_ids_are_equal_only_for_equal_sources(one: tuple[str, ...], two: tuple[str, ...]) -> None:
    assert (stable_id(*one) == stable_id(*two)) == (one == two)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_the_order_of_keys_is_no_content(value: Any) -> None:
    assert canonical_json(shuffled(value)) == canonical_json(value)
    assert content_hash(shuffled(value)) == content_hash(value)
    assert json.loads(canonical_json(value)) == value


@settings(max_examples=100, deadline=None)
@given(VALUES, VALUES)
def test_other_content_has_another_hash(one: Any, two: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)

    assert (content_hash(one) == content_hash(two)) == same


@pytest.mark.parametrize("value", [10**30, [[10**30]], {"b": -(10**25), "a": "é"}, {"text": "\ud800 alone"}])
def test_odd_values_are_hashed_like_any_other(value: Any) -> None:
    written = canonical_json(value)

    assert len(content_hash(value)) == 64
    assert content_hash(value) == content_hash(shuffled(value))
    written.decode("utf-8")


@pytest.mark.parametrize(
    ("sections", "has_text"),
    [
        ((), False),
        ((NoteSection("PLAN", "Plan", " \n"),), False),
        ((NoteSection("PLAN", "Plan", "x"),), True),
        ((NoteSection("PLAN", "Plan", "", (NoteSection(None, None, "deep"),)),), True),
        ((NoteSection("PLAN", "Plan", "", (NoteSection(None, "title", ""),)),), False),
    ],
)
def test_a_note_has_text_when_any_section_has(sections: tuple[NoteSection, ...], has_text: bool) -> None:
    note = ScribeNote(uuid.UUID(int=1), "askara", "default", "notes", "n", NoteState.DRAFT, "v", sections=sections)

    assert note.has_text is has_text
