"""Notes into their tables and back."""

from __future__ import annotations

import functools
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa

from medscribe_pipeline.notes import (
    Identifier,
    NoteSection,
    NoteState,
    Practitioner,
    ScribeNote,
    TranscriptTurn,
    Visit,
    canonical_json,
)
from medscribe_pipeline.warehouse.amendments import amendment
from medscribe_pipeline.warehouse.among import KEYS, among, among_keys
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import note_sections, notes, transcripts
from medscribe_pipeline.warehouse.writing import insert, native_name

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import date, datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["MappedNote", "read_notes", "too_long", "write_notes"]

DEEPEST = 50
"""Levels that sections may be nested; beyond it is no text that somebody wrote."""


@dataclass(frozen=True, slots=True)
class MappedNote:
    """A note with what the warehouse knows of its record: visit day, and change_seq to order versions by."""

    note: ScribeNote
    visit_day: date
    source_seq: int


def too_long(note: ScribeNote) -> list[str]:
    """Paths in a note that hold more than the tables take; empty if it can be stored. PostgreSQL would refuse it."""
    patient, encounter = note.visit.patient, note.visit.encounter
    texts = {
        "language": note.language,
        "template": note.template,
        "specialty": note.specialty,
        "visit.patient.system": patient and patient.system,
        "visit.patient.value": patient and patient.value,
        "visit.encounter.system": encounter and encounter.system,
        "visit.encounter.value": encounter and encounter.value,
    }
    found = [path for path, text in texts.items() if text and len(text) > _LONGEST[path]]
    level, depth = note.sections, 0
    while level and depth <= DEEPEST:
        if any(section.key and len(section.key) > _LONGEST_KEY for section in level):
            found.append("sections.key")
        level = tuple(nested for section in level if section.sections for nested in section.sections)
        depth += 1
    return [*found, "sections.sections"] if level else found


def _length(column: sa.Column[Any]) -> int:
    length: int = getattr(column.type, "length", None) or 0
    return length


_LONGEST = {
    path: _length(notes.c[column])
    for path, column in {
        "language": "language",
        "template": "template",
        "specialty": "specialty",
        "visit.patient.system": "patient_system",
        "visit.patient.value": "patient_id",
        "visit.encounter.system": "encounter_system",
        "visit.encounter.value": "encounter_id",
    }.items()
}
_LONGEST_KEY = _length(note_sections.c.key)


def write_notes(warehouse: Warehouse, connection: sa.Connection, mapped: Sequence[MappedNote], now: datetime) -> None:
    """Writes notes with their sections and transcripts; what is there already as it is to be, is not written again.

    Part of the transaction that read (and on PostgreSQL locked) the records they were mapped from: that is what keeps
    an older version from replacing a newer one, and what a note amends from being decided on a row about to change.
    """
    before = _read_stored(connection, [str(item.note.note_id) for item in mapped])
    fresh: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    sections: dict[str, list[dict[str, Any]]] = {}
    turns: dict[str, list[dict[str, Any]]] = {}
    # In the order of the keys: neighbours go into the same pages of an index.
    for item in sorted(mapped, key=lambda each: each.note.note_id.bytes):
        row = _note_row(item, now)
        note_id = row["note_id"]
        old = before.get(note_id)
        row.update(amendment(item.note, item.source_seq, old))
        if old is None:
            fresh.append(row)
        elif not _is_stored(row, old):
            changed.append(row)
        sections[note_id] = _section_rows(note_id, item.note.sections)
        spoken = item.note.transcript
        turns[note_id] = [{"note_id": note_id, "turns": list(spoken)}] if spoken else []
    insert(connection, notes, fresh)
    warehouse.upsert(connection, notes, changed)
    _replace(connection, note_sections, sections, _of_other_words(connection, list(before), sections), before)
    _replace(connection, transcripts, turns, _of_other_turns(connection, list(before), turns), before)


def _read_stored(connection: sa.Connection, note_ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    found: dict[str, sa.Row[Any]] = {}
    for chunk in in_chunks(note_ids):
        query = sa.select(notes).where(among(connection, notes.c.note_id, chunk))
        found.update((row.note_id, row) for row in connection.execute(query))
    return found


def _is_stored(row: dict[str, Any], old: sa.Row[Any]) -> bool:
    """Whether a row is there as it is to be; when it was written is not what it says."""
    return all(
        (there := getattr(old, name)) == value or (name == "practitioner" and there == _read_back(value))
        for name, value in row.items()
        if name != "mapped_at"
    )


def _replace(
    connection: sa.Connection,
    table: sa.Table,
    rows: dict[str, list[dict[str, Any]]],
    others: Sequence[str],
    before: Collection[str],
) -> None:
    """Writes the rows of new notes and of `others`, which have had different ones before."""
    for chunk in in_chunks(others):
        connection.execute(sa.delete(table).where(among(connection, table.c.note_id, chunk)))
    written = {*rows.keys() - before, *others}
    insert(connection, table, [row for note_id, each in rows.items() if note_id in written for row in each])


def _of_other_words(
    connection: sa.Connection, note_ids: Sequence[str], sections: dict[str, list[dict[str, Any]]]
) -> list[str]:
    """Those of these notes whose stored sections are not these."""
    stored: dict[str, list[tuple[Any, ...]]] = {note_id: [] for note_id in note_ids}
    of = note_sections.c
    for chunk in in_chunks(note_ids):
        query = (
            sa.select(of.note_id, of.ordinal, of.parent_ordinal, of.key, of.title, of.text, of.format)
            .where(among(connection, of.note_id, chunk))
            .order_by(of.note_id, of.ordinal)
        )
        for row in connection.execute(query):
            stored[row[0]].append(tuple(row))
    # Rows of `_section_rows` hold the same columns in the same order.
    return [key for key in note_ids if stored[key] != [tuple(row.values()) for row in sections[key]]]


def _of_other_turns(
    connection: sa.Connection, note_ids: Sequence[str], turns: dict[str, list[dict[str, Any]]]
) -> list[str]:
    """Those of these notes whose stored transcripts are not these."""
    stored: dict[str, list[Any]] = {note_id: [] for note_id in note_ids}
    for chunk in in_chunks(note_ids):
        query = sa.select(transcripts.c.note_id, transcripts.c.turns).where(
            among(connection, transcripts.c.note_id, chunk)
        )
        for note_id, spoken in connection.execute(query):
            stored[note_id].append(spoken)
    return [key for key in note_ids if stored[key] != _read_back([row["turns"] for row in turns[key]])]


def _read_back(value: Any) -> Any:
    """What is read of a value that was written as JSON."""
    return orjson.loads(canonical_json(value))


def read_notes(
    connection: sa.Connection, note_ids: Sequence[str], *, with_transcripts: bool = False
) -> list[MappedNote]:
    """Reads notes back as they were mapped, ordered by id; ids that do not exist are left out."""
    native = native_name(connection)
    found: list[MappedNote] = []
    for chunk in in_chunks(sorted(note_ids)):
        given = {KEYS: list(chunk)}
        sections = _nested(connection.execute(_sections(native), given).all())
        turns: dict[str, list[dict[str, Any]]] = {}
        if with_transcripts:
            turns = dict(connection.execute(_turns(native), given).all())
        found.extend(
            _mapped(row, sections.get(row[0], ()), turns.get(row[0], ()))
            for row in connection.execute(_notes(native), given).all()
        )
    return found


_OF = notes.c
_READ = (
    _OF.note_id,
    _OF.visit_day,
    _OF.source_seq,
    _OF.provider,
    _OF.account,
    _OF.stream,
    _OF.source_id,
    _OF.state,
    _OF.version,
    _OF.kind,
    _OF.title,
    _OF.language,
    _OF.template,
    _OF.specialty,
    _OF.patient_system,
    _OF.patient_id,
    _OF.practitioner,
    _OF.encounter_system,
    _OF.encounter_id,
    _OF.started_at,
    _OF.ended_at,
    _OF.created_at,
    _OF.updated_at,
    _OF.validated_at,
    _OF.attested,
    _OF.amends,
)
"""What is read of a note: `_mapped` takes it in this order."""


@functools.cache
def _notes(native: str | None) -> sa.Select[Any]:
    return sa.select(*_READ).where(among_keys(native, _OF.note_id)).order_by(_OF.note_id)


@functools.cache
def _sections(native: str | None) -> sa.Select[Any]:
    of = note_sections.c
    columns = (of.note_id, of.parent_ordinal, of.ordinal, of.key, of.title, of.text, of.format)
    return sa.select(*columns).where(among_keys(native, of.note_id)).order_by(of.note_id, of.ordinal)


@functools.cache
def _turns(native: str | None) -> sa.Select[Any]:
    return sa.select(transcripts.c.note_id, transcripts.c.turns).where(among_keys(native, transcripts.c.note_id))


def _note_row(item: MappedNote, now: datetime) -> dict[str, Any]:
    note, visit = item.note, item.note.visit
    return {
        "note_id": str(note.note_id),
        "account": note.account,
        "provider": note.provider,
        "stream": note.stream,
        "source_id": note.source_id,
        "kind": note.kind,
        "visit_day": item.visit_day,
        "state": note.state.value,
        "title": note.title,
        "language": note.language,
        "template": note.template,
        "patient_system": visit.patient.system if visit.patient else None,
        "patient_id": visit.patient.value if visit.patient else None,
        "practitioner": visit.practitioner,
        "encounter_system": visit.encounter.system if visit.encounter else None,
        "encounter_id": visit.encounter.value if visit.encounter else None,
        "specialty": note.specialty,
        "started_at": visit.started_at,
        "ended_at": visit.ended_at,
        "created_at": note.created_at,
        "updated_at": note.updated_at,
        "validated_at": note.validated_at,
        "attested": note.attested,
        "has_text": note.has_text,
        "version": note.version,
        "source_seq": item.source_seq,
        "mapped_at": now,
    }


def _section_rows(note_id: str, sections: Sequence[NoteSection]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    _add_sections(rows, note_id, sections, None)
    return rows


def _add_sections(
    rows: list[dict[str, Any]], note_id: str, sections: Sequence[NoteSection], parent: int | None
) -> None:
    for section in sections:
        ordinal = len(rows)
        rows.append(
            {
                "note_id": note_id,
                "ordinal": ordinal,
                "parent_ordinal": parent,
                "key": section.key,
                "title": section.title,
                "text": section.text,
                "format": section.format,
            }
        )
        if section.sections:
            _add_sections(rows, note_id, section.sections, ordinal)


def _mapped(row: Sequence[Any], sections: tuple[NoteSection, ...], turns: Sequence[dict[str, Any]]) -> MappedNote:
    # All at once: to ask a row for one value after the other takes twice as long.
    (
        note_id,
        visit_day,
        source_seq,
        provider,
        account,
        stream,
        source_id,
        stored_state,
        version,
        kind,
        title,
        language,
        template,
        specialty,
        patient_system,
        patient_id,
        practitioner,
        encounter_system,
        encounter_id,
        started_at,
        ended_at,
        created_at,
        updated_at,
        validated_at,
        attested,
        amends,
    ) = row
    state = NoteState(stored_state)
    note = ScribeNote(
        note_id=uuid.UUID(note_id),
        provider=provider,
        account=account,
        stream=stream,
        source_id=source_id,
        state=state,
        version=version,
        kind=kind,
        title=title,
        language=language,
        template=template,
        specialty=specialty,
        sections=sections,
        transcript=tuple(TranscriptTurn(**turn) for turn in turns) if turns else (),
        visit=Visit(
            patient=_identifier(patient_system, patient_id),
            practitioner=_practitioner(practitioner),
            encounter=_identifier(encounter_system, encounter_id),
            started_at=started_at,
            ended_at=ended_at,
        ),
        created_at=created_at,
        updated_at=updated_at,
        validated_at=validated_at,
        attested=bool(attested),
        # In any other state the row keeps for later what the last validated text amended.
        amends=amends if state is NoteState.VALIDATED else None,
    )
    return MappedNote(note, visit_day, source_seq)


def _nested(rows: Sequence[Sequence[Any]]) -> dict[str, tuple[NoteSection, ...]]:
    """The sections of each note, from their rows in order: a section comes before those nested in it."""
    tops: dict[str, list[NoteSection]] = {}
    below: dict[tuple[str, int], list[NoteSection]] = {}
    # The last first, so that what is nested in a section is there when it is made.
    for note_id, parent, ordinal, key, title, text, text_format in reversed(rows):
        inner = below.pop((note_id, ordinal), ()) if below else ()
        section = NoteSection(key, title, text, tuple(reversed(inner)), text_format)
        if parent is None:
            tops.setdefault(note_id, []).append(section)
        else:
            below.setdefault((note_id, parent), []).append(section)
    return {note_id: tuple(reversed(sections)) for note_id, sections in tops.items()}


def _identifier(system: str | None, value: str | None) -> Identifier | None:
    return Identifier(system, value) if system and value else None


def _practitioner(stored: dict[str, Any] | None) -> Practitioner | None:
    if stored is None:
        return None
    return Practitioner(
        identifiers=tuple(Identifier(**item) for item in stored["identifiers"]),
        role_identifiers=tuple(Identifier(**item) for item in stored["role_identifiers"]),
        display=stored["display"],
    )
