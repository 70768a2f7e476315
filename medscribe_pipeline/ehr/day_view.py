"""What is known of the notes of a visit day: the facts that decide about each, and where the ledger has it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.ledger import DOCUMENT_REFERENCE, KINDS, State
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import fhir_documents, notes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from medscribe_pipeline.ehr.ledger import Entry, Key
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["DayView", "NoteFacts", "load_day", "load_facts", "look_again"]

BATCH = 500

_ALWAYS_BUILT = frozenset(KINDS)


@dataclass(frozen=True, slots=True)
class NoteFacts:
    """What the decision about a note needs to know.

    Attributes:
        note_id: The note.
        state: A `NoteState`, as text.
        version: Its newest version.
        source_seq: Orders the versions.
        visit_day: The day it belongs to now.
        patient: Who it is about, as one text; `None` when unknown.
        built_at: When the documents of this very version were built; `None` while there are none.
        kinds: Kinds of the documents of this very version.
    """

    note_id: str
    state: str
    version: str
    source_seq: int
    visit_day: date
    patient: str | None
    built_at: datetime | None
    kinds: frozenset[str] = frozenset(KINDS)


@dataclass(frozen=True, slots=True)
class DayView:
    """The notes of a visit day and all their ledger entries, read in one transaction."""

    target: str
    facts: Mapping[str, NoteFacts]
    entries: Mapping[str, list[Entry]]

    def current(self) -> list[Entry]:
        """The entries of the notes' newest versions: what the day is counted by."""
        return [
            entry
            for note_id, listed in self.entries.items()
            for entry in listed
            if entry.key.version == self.facts[note_id].version
        ]

    def planned(self) -> list[Key]:
        """What waits to be sent, oldest change first."""
        waiting = [entry for entry in self.current() if entry.state is State.PLANNED]
        return [entry.key for entry in sorted(waiting, key=lambda entry: (entry.source_seq, entry.key))]

    def standing(self, *states: State) -> list[Entry]:
        """Entries of any version in one of `states`."""
        return [entry for listed in self.entries.values() for entry in listed if entry.state in states]


def load_day(warehouse: Warehouse, target: str, day: date) -> DayView:
    """Reads a day as it stands."""
    of_day = (notes.c.account == warehouse.account, notes.c.visit_day == day)
    with warehouse.read() as connection:
        facts = load_facts(connection, *of_day)
        entries = ledger.entries(connection, target, sa.select(notes.c.note_id).where(*of_day))
    return DayView(target, facts, entries)


def look_again(warehouse: Warehouse, view: DayView) -> DayView:
    """The same notes, as the ledger stands now."""
    entries: dict[str, list[Entry]] = {}
    with warehouse.read() as connection:
        for chunk in in_chunks(list(view.facts), BATCH):
            entries |= ledger.entries(connection, view.target, chunk)
    return replace(view, entries=entries)


def load_facts(connection: sa.Connection, *which: sa.ColumnElement[bool], lock: bool = False) -> dict[str, NoteFacts]:
    """Reads notes by id. With `lock`, nobody else who locks the same notes goes on before this transaction ends.

    Args:
        connection: An open transaction.
        which: Conditions on `notes`.
        lock: Lock the rows; on SQLite a write transaction is exclusive anyway.
    """
    query = _FACTS.where(*which)
    if lock:
        query = query.with_for_update(of=notes)
    found: dict[str, list[Sequence[Any]]] = {}
    for row in connection.execute(query).all():
        found.setdefault(row[0], []).append(row)
    return {note_id: _facts(of_note) for note_id, of_note in found.items()}


# In the order in which `_facts` takes a row apart: a row for each document of a note, one row if it has none. Those of
# another version are none: the day's documents are not built yet.
_FACTS = (
    sa.select(
        *(notes.c[name] for name in ("note_id", "state", "version", "source_seq", "visit_day")),
        *(notes.c[name] for name in ("patient_system", "patient_id")),
        fhir_documents.c.kind,
        fhir_documents.c.source_seq,
        sa.case((fhir_documents.c.kind == DOCUMENT_REFERENCE, fhir_documents.c.built_at)),
    )
    .outerjoin(
        fhir_documents,
        sa.and_(fhir_documents.c.note_id == notes.c.note_id, fhir_documents.c.version == notes.c.version),
    )
    .order_by(notes.c.note_id)
)


def _facts(rows: Sequence[Sequence[Any]]) -> NoteFacts:
    """The facts of one note."""
    note_id, state, version, seq, visit_day, system, value, *_ = rows[0]
    built = {kind: (built_seq, built_at) for *_, kind, built_seq, built_at in rows if kind is not None}
    # One of the two that are always built together is none.
    whole = built.keys() >= _ALWAYS_BUILT
    built_seq, built_at = built[DOCUMENT_REFERENCE] if whole else (seq, None)
    kinds = frozenset(built) if whole else frozenset()
    return NoteFacts(note_id, state, version, built_seq, visit_day, _patient(system, value), built_at, kinds)


def _patient(system: str | None, value: str | None) -> str | None:
    known = system and system.strip() and value and value.strip()
    return f"{system}|{value}" if known else None
