"""Notes into their tables and back."""

from __future__ import annotations

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
from medscribe_pipeline.warehouse.among import among
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import note_sections, notes, transcripts
from medscribe_pipeline.warehouse.writing import insert

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
    found: list[MappedNote] = []
    for chunk in in_chunks(sorted(note_ids)):
        sections = _read_sections(connection, chunk)
        turns: dict[str, list[dict[str, Any]]] = {}
        if with_transcripts:
            query = sa.select(transcripts.c.note_id, transcripts.c.turns).where(transcripts.c.note_id.in_(chunk))
            turns = dict(connection.execute(query).all())
        rows = connection.execute(sa.select(notes).where(notes.c.note_id.in_(chunk)).order_by(notes.c.note_id)).all()
        found.extend(
            MappedNote(
                _note(row, sections.get(row.note_id, {}), turns.get(row.note_id, [])), row.visit_day, row.source_seq
            )
            for row in rows
        )
    return found


_COLUMNS = tuple(notes.c.keys())
"""What a row of `notes` holds, in order."""

_Below = dict[int | None, list[sa.Row[Any, Any, Any, Any, Any, Any, Any]]]
"""Rows of the sections of one note, in order, by the ordinal of the section they are in; `None`: they are in none."""


def _read_sections(connection: sa.Connection, note_ids: Sequence[str]) -> dict[str, _Below]:
    of = note_sections.c
    query = (
        sa.select(of.note_id, of.parent_ordinal, of.ordinal, of.key, of.title, of.text, of.format)
        .where(of.note_id.in_(note_ids))
        .order_by(of.note_id, of.ordinal)
    )
    found: dict[str, _Below] = {}
    for row in connection.execute(query).all():
        found.setdefault(row[0], {}).setdefault(row[1], []).append(row)
    return found


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


def _note(row: sa.Row[Any], sections: _Below, turns: list[dict[str, Any]]) -> ScribeNote:
    # To ask a row for one value after the other takes twice as long.
    known = dict(zip(_COLUMNS, row, strict=True))
    state = NoteState(known["state"])
    visit = Visit(
        patient=_identifier(known["patient_system"], known["patient_id"]),
        practitioner=_practitioner(known["practitioner"]),
        encounter=_identifier(known["encounter_system"], known["encounter_id"]),
        started_at=known["started_at"],
        ended_at=known["ended_at"],
    )
    return ScribeNote(
        note_id=uuid.UUID(known["note_id"]),
        provider=known["provider"],
        account=known["account"],
        stream=known["stream"],
        source_id=known["source_id"],
        state=state,
        version=known["version"],
        kind=known["kind"],
        title=known["title"],
        language=known["language"],
        template=known["template"],
        specialty=known["specialty"],
        sections=_nested(sections, None),
        transcript=tuple(TranscriptTurn(**turn) for turn in turns),
        visit=visit,
        created_at=known["created_at"],
        updated_at=known["updated_at"],
        validated_at=known["validated_at"],
        attested=bool(known["attested"]),
        # In any other state the row keeps for later what the last validated text amended.
        amends=known["amends"] if state is NoteState.VALIDATED else None,
    )


def _nested(sections: _Below, parent: int | None) -> tuple[NoteSection, ...]:
    return tuple(
        NoteSection(key, title, text, _nested(sections, ordinal) if ordinal in sections else (), text_format)
        for _, _, ordinal, key, title, text, text_format in sections.get(parent, ())
    )


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
