"""Notes are read back as they were written."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.notes import (
    Identifier,
    NoteSection,
    NoteState,
    Practitioner,
    ScribeNote,
    TranscriptTurn,
    Visit,
)
from medscribe_pipeline.warehouse.notes import MappedNote, read_notes, write_notes
from medscribe_pipeline.warehouse.tables import note_sections, notes, transcripts
from tests.databases import NOW, TODAY, dump, empty, rows_of, writes_of

if TYPE_CHECKING:
    from medscribe_pipeline.warehouse.store import Warehouse

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
NAMES = st.text("abcdefghij-é", min_size=1, max_size=8)
TIMES = st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
IDENTIFIERS = st.builds(Identifier, NAMES.map("urn:x:{}".format), NAMES)
PRACTITIONERS = st.builds(
    Practitioner,
    st.lists(IDENTIFIERS, max_size=2).map(tuple),
    st.lists(IDENTIFIERS, max_size=1).map(tuple),
    st.none() | NAMES,
)
VISITS = st.builds(Visit, st.none() | IDENTIFIERS, st.none() | PRACTITIONERS, st.none() | IDENTIFIERS, TIMES, TIMES)
FORMATS = st.sampled_from(["text", "markdown"])
LEAVES = st.builds(NoteSection, st.none() | NAMES, st.none() | WORDS, WORDS, format=FORMATS)
SECTIONS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        NoteSection, st.none() | NAMES, st.none() | WORDS, WORDS, st.lists(inner, max_size=3).map(tuple), FORMATS
    ),
    max_leaves=6,
)
OFFSETS = st.none() | st.integers(0, 10**7)
TURNS = st.builds(TranscriptTurn, WORDS, st.none() | NAMES, OFFSETS, OFFSETS)


def note_of(number: int) -> st.SearchStrategy[ScribeNote]:
    return st.builds(
        ScribeNote,
        note_id=st.just(uuid.UUID(int=number)),
        provider=st.just("askara"),
        account=st.just("default"),
        stream=st.just("notes"),
        source_id=st.just(f"n-{number}"),
        state=st.sampled_from(NoteState),
        version=st.text("0123456789abcdef", min_size=64, max_size=64),
        kind=st.just("note"),
        title=st.none() | WORDS,
        language=st.none() | NAMES,
        template=st.none() | NAMES,
        sections=st.lists(SECTIONS, max_size=3).map(tuple),
        transcript=st.lists(TURNS, max_size=3).map(tuple),
        visit=VISITS,
        created_at=TIMES,
        updated_at=TIMES,
        validated_at=TIMES,
        attested=st.booleans(),
    )


NOTES = st.tuples(*(note_of(number) for number in range(3)))


def write(warehouse: Warehouse, *mapped: MappedNote, at: datetime = NOW) -> None:
    with warehouse.begin() as connection:
        write_notes(warehouse, connection, mapped, at)


def read(warehouse: Warehouse, *note_ids: str, with_transcripts: bool = True) -> list[MappedNote]:
    with warehouse.read() as connection:
        return read_notes(connection, note_ids, with_transcripts=with_transcripts)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=NOTES, second=note_of(1))
def test_notes_come_back_as_they_were_written(
    warehouse: Warehouse, first: tuple[ScribeNote, ...], second: ScribeNote
) -> None:
    empty(warehouse)
    mapped = [MappedNote(note, TODAY + timedelta(days=n), n + 1) for n, note in enumerate(first)]
    newer = MappedNote(second, TODAY, 9)

    write(warehouse, *mapped)
    found = read(warehouse, *(str(item.note.note_id) for item in reversed(mapped)), str(uuid.UUID(int=99)))
    write(warehouse, newer)
    rewritten = read(warehouse, str(second.note_id))

    assert found == mapped
    # What it amends is no part of what was written: see test_amendments.py.
    assert [replace(item, note=replace(item.note, amends=None)) for item in rewritten] == [newer]


@pytest.fixture
def note() -> ScribeNote:
    return ScribeNote(
        note_id=uuid.UUID(int=1),
        provider="askara",
        account="default",
        stream="notes",
        source_id="n-1",
        state=NoteState.DRAFT,
        version="0" * 64,
        sections=(NoteSection("PLAN", "Plan", "", (NoteSection(None, "Knee", "Rest"),)), NoteSection(None, None, "x")),
        transcript=(TranscriptTurn("Hello", "doctor", 0, 900),),
    )


def test_sections_keep_their_order_and_place(warehouse: Warehouse, note: ScribeNote) -> None:
    write(warehouse, MappedNote(note, TODAY, 1))

    found = [(row["ordinal"], row["parent_ordinal"], row["text"]) for row in rows_of(warehouse, note_sections)]

    assert found == [(0, None, ""), (1, 0, "Rest"), (2, None, "x")]
    assert rows_of(warehouse, notes)[0]["has_text"] is True


def test_a_shorter_version_leaves_nothing_of_the_longer_one(warehouse: Warehouse, note: ScribeNote) -> None:
    write(warehouse, MappedNote(note, TODAY, 1))

    write(warehouse, MappedNote(replace(note, sections=(), transcript=()), TODAY, 2))

    assert rows_of(warehouse, note_sections) == []
    assert rows_of(warehouse, transcripts) == []
    assert rows_of(warehouse, notes)[0]["has_text"] is False


def test_what_is_there_already_is_not_written_again(warehouse: Warehouse, note: ScribeNote) -> None:
    practitioner = Practitioner((Identifier("s", "p-1"),), (), "Dr Testa Zz")
    visit = Visit(practitioner=practitioner, started_at=NOW)
    mapped = [
        MappedNote(replace(note, note_id=uuid.UUID(int=n), source_id=f"n-{n}", visit=visit), TODAY, n)
        for n in range(1, 4)
    ]
    write(warehouse, *mapped)
    before = dump(warehouse)

    with writes_of(warehouse) as written:
        write(warehouse, *mapped, at=NOW + timedelta(days=1))

    assert written == []
    assert dump(warehouse) == before


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        ({"title": "Another"}, {"notes"}),
        ({"sections": (NoteSection("PLAN", "Plan", "y"), NoteSection(None, None, "x"))}, {"note_sections"}),
        ({"sections": ()}, {"notes", "note_sections"}),
        ({"transcript": (TranscriptTurn("Hello", "nurse", 0, 900),)}, {"transcripts"}),
        ({"transcript": ()}, {"transcripts"}),
    ],
    ids=["title", "words", "no words", "speaker", "no transcript"],
)
def test_of_a_changed_note_only_what_changed_is_written(
    warehouse: Warehouse, note: ScribeNote, change: dict[str, Any], tables: set[str]
) -> None:
    other = replace(note, note_id=uuid.UUID(int=2), source_id="n-2")
    write(warehouse, MappedNote(note, TODAY, 1), MappedNote(other, TODAY, 1))
    changed = MappedNote(replace(note, **change), TODAY, 1)

    with writes_of(warehouse) as written:
        write(warehouse, changed, MappedNote(other, TODAY, 1))

    assert set(written) == tables
    assert read(warehouse, str(note.note_id), str(other.note_id)) == [changed, MappedNote(other, TODAY, 1)]


def test_transcripts_are_read_only_on_request(warehouse: Warehouse, note: ScribeNote) -> None:
    write(warehouse, MappedNote(note, TODAY, 1))

    (found,) = read(warehouse, str(note.note_id), with_transcripts=False)

    assert found.note == replace(note, transcript=())


def test_writing_nothing_writes_nothing(warehouse: Warehouse) -> None:
    before = dump(warehouse)

    write(warehouse)

    assert dump(warehouse) == before


def test_more_notes_than_fit_one_query_are_read(warehouse: Warehouse, note: ScribeNote) -> None:
    many = [MappedNote(replace(note, note_id=uuid.UUID(int=n), source_id=f"n-{n}"), TODAY, n) for n in range(1, 1203)]

    write(warehouse, *many)

    assert read(warehouse, *(str(item.note.note_id) for item in many)) == many
