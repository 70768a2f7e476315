"""`ScribeNote` to DocumentReference: the note as a file, in one form or several.

Facts: US Core DocumentReference (http://hl7.org/fhir/us/core/StructureDefinition/us-core-documentreference, the same
elements from 6.1 to 9.0) and the format codes of IHE (https://profiles.ihe.net/fhir/ihe.formatcode.fhir/).
"""

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
    present,
    subject,
    version_identifier,
)
from medscribe_pipeline.fhir.facts import facts_of
from medscribe_pipeline.fhir.people import custodian
from medscribe_pipeline.fhir.renderings import renderings
from medscribe_pipeline.notes import NoteState

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.facts import Facts
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.notes import ScribeNote

__all__ = ["US_CORE", "attachment", "content", "context", "document_reference"]

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-documentreference"
"""The profile that documents of the country profile `us` claim, and keep."""

# No template governs what is inside: the media type says all there is to know.
_FORMAT = {
    "system": "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode",
    "code": "urn:ihe:iti:xds:2017:mimeTypeSufficient",
}


def document_reference(note: ScribeNote, options: BuildOptions, facts: Facts | None = None) -> dict[str, Any]:
    """The DocumentReference of a note.

    Args:
        note: The note.
        options: How it is built.
        facts: Its facts, where they are known already.
    """
    if facts is None:
        facts = facts_of(note, options)
    retracted = note.state is NoteState.RETRACTED
    us_core = options.profile == "us"
    return present(
        {
            "resourceType": "DocumentReference",
            "meta": present({"profile": [US_CORE] if us_core else None, "security": [ai_label()]}),
            "language": facts.language,
            "masterIdentifier": {"system": VERSION_SYSTEM, "value": f"urn:uuid:{facts.version}"},
            "identifier": [dict(facts.identifier)],
            "status": "entered-in-error" if retracted else "current",
            "docStatus": facts.status,
            "type": options.mapping.document_type(
                note.template, note.kind, note.provider, options.profile, note.specialty
            ),
            "category": [clinical_note()],
            "subject": subject(note, required=us_core),
            "date": facts.date,
            "author": [dict(facts.author)],
            "custodian": custodian(options),
            "relatesTo": _relates_to(note, facts.status),
            "content": [
                content(attachment(note, facts.title, *form)) for form in renderings(note, options, facts.sections)
            ],
            "context": context(note, options),
        }
    )


def _relates_to(note: ScribeNote, status: str) -> list[dict[str, Any]]:
    """The version an amended text took the place of."""
    if note.amends is None or status != "amended":
        return []
    replaced = {"system": VERSION_SYSTEM, "value": version_identifier(note.note_id, note.amends)}
    return [{"code": "replaces", "target": {"type": "DocumentReference", "identifier": replaced}}]


def content(attached: dict[str, Any]) -> dict[str, Any]:
    """One form of a document, and how to read it."""
    return {"attachment": attached, "format": dict(_FORMAT)}


def attachment(note: ScribeNote, title: str, content_type: str, data: bytes) -> dict[str, Any]:
    """One form of a document of the note, inline."""
    return present(
        {
            "contentType": content_type,
            "language": language_tag(note),
            "data": base64.b64encode(data).decode(),
            "size": len(data),
            # FHIR R4 defines Attachment.hash as SHA-1; it finds damage, it protects nothing.
            "hash": base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode(),
            "title": title,
            "creation": instant(note.created_at or note_date(note)),
        }
    )


def context(note: ScribeNote, options: BuildOptions, *related: dict[str, Any]) -> dict[str, Any]:
    """The visit a document belongs to, with references to what else is about it."""
    encounter = logical("Encounter", note.visit.encounter)
    start, end = note.visit.started_at, note.visit.ended_at
    if start and end and end < start:
        end = None  # FHIR refuses a period that ends before it starts (per-1); the start is the more certain half.
    period = present({"start": instant(start), "end": instant(end)})
    return present(
        {
            "encounter": [encounter] if encounter else None,
            "period": period,
            "practiceSetting": options.mapping.practice_setting(note.template, note.specialty, note.language),
            "related": list(related),
        }
    )
