"""`ScribeNote` to Composition: sections with codes and narrative, in the order of the note."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.elements import (
    ai_label,
    instant,
    language_tag,
    logical,
    note_date,
    note_identifier,
    present,
    status,
    subject,
)
from medscribe_pipeline.fhir.narrative import is_blank, to_xhtml
from medscribe_pipeline.fhir.people import attester, author, custodian
from medscribe_pipeline.fhir.text import document_title, has_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.notes import NoteSection, ScribeNote

__all__ = ["clinical_note", "composition"]


def composition(note: ScribeNote, options: BuildOptions) -> dict[str, Any]:
    """The Composition of a note."""
    return present(
        {
            "resourceType": "Composition",
            "meta": {"security": [ai_label()]},
            "language": language_tag(note),
            "identifier": note_identifier(options.base_uri, note.provider, note.account, note.note_id),
            "status": status(note),
            "type": options.mapping.document_type(
                note.template, note.kind, note.provider, options.profile, note.specialty
            ),
            "category": [clinical_note()],
            "subject": subject(note),
            "encounter": logical("Encounter", note.visit.encounter),
            "date": instant(note_date(note)),
            "author": [author(note, options.base_uri)],
            "title": document_title(note, options.mapping),
            "attester": attester(note),
            "custodian": custodian(options),
            "section": _sections(note.sections, note.language, options),
        }
    )


def clinical_note() -> dict[str, Any]:
    """The category readers of clinical notes search for."""
    system = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category"
    return {"coding": [{"system": system, "code": "clinical-note"}]}


def _sections(sections: Sequence[NoteSection], language: str | None, options: BuildOptions) -> list[dict[str, Any]]:
    return [_section(section, language, options) for section in sections if has_text(section)]


def _section(section: NoteSection, language: str | None, options: BuildOptions) -> dict[str, Any]:
    concept = options.mapping.section_coding(section.key, section.title, language, options.base_uri)
    return present(
        {
            # The heading a reader sees.
            "title": concept.get("text"),
            "code": concept,
            "text": _narrative(section),
            "section": _sections(section.sections, language, options),
        }
    )


def _narrative(section: NoteSection) -> dict[str, str] | None:
    if is_blank(section.text, section.format):
        return None
    # `additional`: the words are in no structured entry, so they are not `generated` from one.
    return {"status": "additional", "div": to_xhtml(section.text, section.format)}
