"""`ScribeNote` to DocumentReference: the note as a file, in one form or several."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.composition import clinical_note
from medscribe_pipeline.fhir.elements import (
    VERSION_SYSTEM,
    ai_label,
    instant,
    language_tag,
    logical,
    note_date,
    note_identifier,
    present,
    status,
    version_identifier,
)
from medscribe_pipeline.fhir.people import author
from medscribe_pipeline.fhir.renderings import renderings
from medscribe_pipeline.fhir.text import document_title
from medscribe_pipeline.notes import NoteState

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.notes import ScribeNote, Visit

__all__ = ["attachment", "document_reference"]


def document_reference(note: ScribeNote, options: BuildOptions) -> dict[str, Any]:
    """The DocumentReference of a note."""
    retracted = note.state is NoteState.RETRACTED
    return present(
        {
            "resourceType": "DocumentReference",
            "meta": {"security": [ai_label()]},
            "language": language_tag(note),
            "masterIdentifier": {"system": VERSION_SYSTEM, "value": version_identifier(note.note_id, note.version)},
            "identifier": [note_identifier(options.base_uri, note.provider, note.account, note.note_id)],
            "status": "entered-in-error" if retracted else "current",
            "docStatus": status(note),
            "type": options.mapping.document_type(
                note.template, note.kind, note.provider, options.profile, note.specialty
            ),
            "category": [clinical_note()],
            "subject": logical("Patient", note.visit.patient),
            "date": instant(note_date(note)),
            "author": [author(note, options.base_uri)],
            "content": [{"attachment": attachment(note, options, *form)} for form in renderings(note, options)],
            "context": _context(note.visit),
        }
    )


def attachment(note: ScribeNote, options: BuildOptions, content_type: str, data: bytes) -> dict[str, Any]:
    """One form of the document, inline."""
    return present(
        {
            "contentType": content_type,
            "language": language_tag(note),
            "data": base64.b64encode(data).decode(),
            "size": len(data),
            # FHIR R4 defines Attachment.hash as SHA-1; it finds damage, it protects nothing.
            "hash": base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode(),
            "title": document_title(note, options.mapping),
            "creation": instant(note.created_at or note_date(note)),
        }
    )


def _context(visit: Visit) -> dict[str, Any] | None:
    encounter = logical("Encounter", visit.encounter)
    start, end = visit.started_at, visit.ended_at
    if start and end and end < start:
        end = None  # FHIR refuses a period that ends before it starts (per-1); the start is the more certain half.
    period = present({"start": instant(start), "end": instant(end)})
    return present({"encounter": [encounter] if encounter else None, "period": period})
