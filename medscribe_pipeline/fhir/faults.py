"""What must be wrong with no document before it is delivered, looked up in the documents themselves.

The stages before keep these promises. Here nobody is believed: of each stored document the few elements that decide
are read out of its JSON, by the database, and compared with the note as it stands.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.fhir.elements import VERSION_SYSTEM, version_identifier
from medscribe_pipeline.notes import NoteState
from medscribe_pipeline.warehouse.tables import Json, fhir_documents, notes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["FAULTS", "find_faults"]

SHARED, FOREIGN, UNREVIEWED = "identifier_shared", "identifier_foreign", "unreviewed_as_final"
FAULTS = {
    SHARED: "Two documents of a kind and day have an identifier in common.",
    FOREIGN: "A document has the identifier of another note or of another version.",
    UNREVIEWED: "A document calls text final, or names who attested it, that no clinician has validated.",
}
"""The faults, by code."""

# Their identifiers are made from the note and its version, so by these no two notes of any two days can meet.
_OF_THE_NOTE = ("Composition", "DocumentReference")
_FINAL = frozenset({"final", "amended", "corrected", "appended"})
_READ = ("identifier", "masterIdentifier", "status", "docStatus", "attester")
_STATUSES = ("status", "docStatus")
_AT_ONCE = 1_000


def find_faults(warehouse: Warehouse, days: Sequence[date] | None = None) -> Counter[str]:
    """Counts faulty documents by code, among those of their notes' newest versions; others are never sent.

    Args:
        warehouse: The warehouse.
        days: The visit days to look at; all of them by default. One after the other, so that memory stays small.
    """
    found: Counter[str] = Counter()
    for day in _days(warehouse) if days is None else days:
        found += _faults_of(warehouse, day)
    return found


def _days(warehouse: Warehouse) -> list[date]:
    query = sa.select(fhir_documents.c.visit_day).where(fhir_documents.c.account == warehouse.account).distinct()
    with warehouse.read() as connection:
        return sorted(connection.scalars(query))


def _faults_of(warehouse: Warehouse, day: date) -> Counter[str]:
    newest = sa.and_(notes.c.note_id == fhir_documents.c.note_id, notes.c.version == fhir_documents.c.version)
    source, read = _read(warehouse, fhir_documents.join(notes, newest))
    query = (
        sa.select(notes.c.note_id, notes.c.version, notes.c.state, fhir_documents.c.kind, *read)
        .select_from(source)
        .where(fhir_documents.c.account == warehouse.account, fhir_documents.c.visit_day == day)
    )
    found: Counter[str] = Counter()
    seen: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    own_versions: dict[str, str] = {}
    validated = NoteState.VALIDATED.value
    with warehouse.read() as connection:
        for rows in connection.execute(query).partitions(_AT_ONCE):
            for note_id, version, state, kind, *values in rows:
                listed, master, status, doc_status, attester = _decisive(values)
                of_the_note = kind in _OF_THE_NOTE
                if not (of_the_note or listed or master or status or doc_status or attester):
                    continue  # A Provenance, as we build it: no identifier and no status.
                own = _identifiers(listed, master)
                others = seen[kind]
                if not others.isdisjoint(own):
                    found[SHARED] += 1
                others |= own
                if of_the_note and not _is_of(own, note_id, version, own_versions):
                    found[FOREIGN] += 1
                if state != validated and (status in _FINAL or doc_status in _FINAL or attester):
                    found[UNREVIEWED] += 1
    return found


def _read(warehouse: Warehouse, source: sa.FromClause) -> tuple[sa.FromClause, list[sa.ColumnElement[Any]]]:
    """The elements of `_READ` as columns: the rest of a document, text and pictures, stays where it is.

    Each document is opened once for all of them: SQLite has them in one JSON array, PostgreSQL in a record. On a
    database whose JSON functions we do not know, the whole document.
    """
    column = fhir_documents.c.resource
    match warehouse.engine.dialect.name:
        case "sqlite":
            parts = sa.func.json_extract(column, *(f"$.{name}" for name in _READ))
            return source, [sa.type_coerce(parts, Json())]
        case "postgresql":
            named = [sa.column(name, sa.Text if name in _STATUSES else Json) for name in _READ]
            opened = sa.func.jsonb_to_record(column).table_valued(*named).render_derived(with_types=True)
            return source.join(opened, sa.true()), list(opened.c)
        case _:
            return source, [column]


def _decisive(values: list[Any]) -> list[Any]:
    """What `_read` found, in the order of `_READ`."""
    if len(values) == len(_READ):
        return values
    (found,) = values
    return found if isinstance(found, list) else [found.get(name) for name in _READ]


def _identifiers(listed: Any, master: Any) -> set[tuple[str, str]]:
    return {
        (str(each.get("system")), str(each.get("value")))
        for each in (master, *(listed if isinstance(listed, list) else (listed,)))
        if isinstance(each, dict)
    }


def _is_of(identifiers: set[tuple[str, str]], note_id: str, version: str, own_versions: dict[str, str]) -> bool:
    """Whether a document names its own note, and if a version then its own; `own_versions` are those worked out."""
    named = False
    for system, value in identifiers:
        if system != VERSION_SYSTEM:
            if value != note_id:
                return False
            named = True
        elif value != own_versions.get(note_id):
            own_versions[note_id] = version_identifier(uuid.UUID(note_id), version)
            if value != own_versions[note_id]:
                return False
    return named
