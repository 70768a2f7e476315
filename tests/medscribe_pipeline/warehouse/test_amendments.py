"""A note whose words changed after its validation amends the validated version; nothing else does."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.notes import NoteSection, NoteState, ScribeNote, content_hash
from medscribe_pipeline.providers.headings import split_sections
from medscribe_pipeline.warehouse.amendments import words_hash
from medscribe_pipeline.warehouse.notes import MappedNote, read_notes, write_notes
from medscribe_pipeline.warehouse.tables import notes
from tests.databases import NOW, TODAY, rows_of

if TYPE_CHECKING:
    from medscribe_pipeline.warehouse.store import Warehouse

DRAFT, VALIDATED, RETRACTED = NoteState.DRAFT, NoteState.VALIDATED, NoteState.RETRACTED


def a_note(text: str, state: NoteState = VALIDATED, *, patient: str = "p-1", number: int = 1) -> ScribeNote:
    return ScribeNote(
        note_id=uuid.UUID(int=number),
        provider="askara",
        account="default",
        stream="notes",
        source_id=f"n-{number}",
        state=state,
        version=version(text, state, patient=patient),
        sections=(NoteSection("PLAN", "Plan", text),) if text else (),
    )


def version(text: str, state: NoteState = VALIDATED, *, patient: str = "p-1") -> str:
    return content_hash([text, state, patient])


class Desk:
    """One note through its life: each step is landed, mapped and read back."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._seq = 0

    def write(self, note: ScribeNote, *, again: bool = False) -> str | None:
        """Writes the note, as a new landing or mapped again from the last one; returns what it amends."""
        self._seq += 0 if again else 1
        with self._warehouse.begin() as connection:
            write_notes(self._warehouse, connection, [MappedNote(note, TODAY, self._seq)], NOW)
            (found,) = read_notes(connection, [str(note.note_id)])
        return found.note.amends


@pytest.fixture
def desk(warehouse: Warehouse) -> Desk:
    return Desk(warehouse)


def test_other_words_after_validation_amend_the_validated_version(desk: Desk) -> None:
    first = desk.write(a_note("Rest."))

    assert first is None
    assert desk.write(a_note("Rest and tea.")) == version("Rest.")
    assert desk.write(a_note("Rest and coffee.")) == version("Rest and tea.")


@pytest.mark.parametrize("between", [DRAFT, RETRACTED, NoteState.FAILED])
def test_a_note_may_be_something_else_between_its_validations(desk: Desk, between: NoteState) -> None:
    desk.write(a_note("Rest."))
    meanwhile = [desk.write(a_note("Rest and.", between)), desk.write(a_note("Rest and te.", between))]

    assert meanwhile == [None, None]
    assert desk.write(a_note("Rest and tea.")) == version("Rest.")


@pytest.mark.parametrize("between", [DRAFT, RETRACTED])
def test_the_same_words_validated_again_say_nothing_new(desk: Desk, between: NoteState) -> None:
    desk.write(a_note("Rest."))
    desk.write(a_note("Rest.", between))
    desk.write(a_note("Tea.", between))
    unchanged = desk.write(a_note("Rest.", patient="p-2"))
    amended = desk.write(a_note("Tea."))
    desk.write(a_note("Tea.", between))

    assert unchanged is None
    assert amended == version("Rest.", patient="p-2")
    assert desk.write(a_note("Tea.")) == amended
    assert desk.write(a_note("Tea.", patient="p-3")) == amended


def test_edits_of_a_draft_amend_nothing(desk: Desk) -> None:
    steps = [a_note("One.", DRAFT), a_note("Two.", DRAFT), a_note("Three.")]

    assert [desk.write(step) for step in steps] == [None, None, None]


def test_going_back_to_earlier_words_amends_too(desk: Desk) -> None:
    desk.write(a_note("Rest."))
    desk.write(a_note("Tea."))

    assert desk.write(a_note("Rest.")) == version("Tea.")
    assert desk.write(a_note("Tea.")) == version("Rest.")


def test_a_note_without_words_is_no_version_to_amend(desk: Desk) -> None:
    desk.write(a_note(""))

    assert desk.write(a_note("Rest.")) is None
    desk.write(a_note(""))
    assert desk.write(a_note("Tea.")) == version("Rest.")


def test_mapping_again_decides_nothing_again(desk: Desk, warehouse: Warehouse) -> None:
    desk.write(a_note("Rest."))
    desk.write(a_note("Tea."))
    before = rows_of(warehouse, notes)

    assert desk.write(a_note("Tea."), again=True) == version("Rest.")
    assert rows_of(warehouse, notes) == before


def test_another_mapping_of_the_same_record_is_no_amendment(desk: Desk) -> None:
    """A new table of headings, a prefix cut off, another identifier system: version and words may all differ."""
    desk.write(a_note("1. Plan: rest"))

    assert desk.write(a_note("rest", patient="urn:other|p-1"), again=True) is None
    assert desk.write(a_note("tea", patient="urn:other|p-1")) == version("rest", patient="urn:other|p-1")


def test_a_draft_that_a_setting_makes_validated_is_compared_with_what_was(desk: Desk) -> None:
    desk.write(a_note("Rest."))
    desk.write(a_note("Tea.", DRAFT))

    assert desk.write(a_note("Tea."), again=True) == version("Rest.")


@pytest.mark.parametrize("old", [VALIDATED, DRAFT])
def test_rows_from_before_this_was_recorded_are_not_amended(desk: Desk, warehouse: Warehouse, old: NoteState) -> None:
    desk.write(a_note("Rest."))
    if old is DRAFT:
        desk.write(a_note("Rest.", DRAFT))
    with warehouse.begin() as connection:
        connection.execute(sa.update(notes).values(validated_version=None, text_hash=None, attested=None))

    assert desk.write(a_note("Tea.")) is None
    assert desk.write(a_note("Milk.")) == version("Tea.")


def test_notes_of_one_batch_have_a_past_each(warehouse: Warehouse) -> None:
    first = [MappedNote(a_note("Rest.", number=n), TODAY, n) for n in range(1, 1203)]
    second = [
        MappedNote(a_note("Tea." if n % 2 else "Rest.", number=n, patient="p-2"), TODAY, n + 5000)
        for n in range(1, 1203)
    ]
    with warehouse.begin() as connection:
        write_notes(warehouse, connection, first, NOW)
        write_notes(warehouse, connection, second, NOW)
        found = read_notes(connection, [str(item.note.note_id) for item in second])

    assert [item.note.amends for item in found] == [version("Rest.") if n % 2 else None for n in range(1, 1203)]


WORDS = st.text("ab1<>&-.é", min_size=1, max_size=4).filter(lambda word: set(word) != {"-"})


@settings(max_examples=200, deadline=None)
@given(text=st.text("ab=-#*_: \n\t\u00a0é.", min_size=1, max_size=20))
def test_words_are_what_is_left_between_white_space_marks_and_underlines(text: str) -> None:
    words = re.sub(r"(?<!\S)(?:={3,}|-{3,})(?!\S)|[#*_:]", " ", text).split()

    assert words_hash(a_note(text)) == content_hash(" ".join(["Plan", *words]))


@settings(max_examples=60, deadline=None)
@given(heading=st.sampled_from(["Plan", "Examen", "Something else"]), words=st.lists(WORDS, min_size=1, max_size=5))
@pytest.mark.parametrize("shape", ["## {}\n{}", "**{}:** {}", "{} :\n\n{}", "{}\n=====\n{}", "__{}__\n\n{}"])
def test_how_a_text_is_split_does_not_change_its_words(shape: str, heading: str, words: list[str]) -> None:
    text = shape.format(heading, "  \r\n".join(words))
    note = a_note("x")

    split = replace(note, sections=split_sections(text))
    whole = replace(note, sections=(NoteSection(None, None, text, format="markdown"),))

    assert words_hash(split) == words_hash(whole)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Hb < 10", "Hb > 10"),
        ("5.5 mg", "55 mg"),
        ("-2.25", "2.25"),
        ("no pain", "pain"),
        ("a b", "ab"),
        ("rest", "Rest"),
    ],
)
def test_what_a_clinician_reads_otherwise_is_other_words(before: str, after: str) -> None:
    assert words_hash(a_note(before)) != words_hash(a_note(after))


def test_a_title_counts_and_a_key_does_not() -> None:
    note = a_note("Rest.")
    rekeyed = replace(note, sections=(replace(note.sections[0], key="SOAP_PLAN"),))

    assert words_hash(rekeyed) == words_hash(note)
    assert words_hash(replace(note, title="Visit")) != words_hash(note)
