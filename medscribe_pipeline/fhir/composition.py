"""`ScribeNote` to Composition: sections with codes and narrative, in the order of the note."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.elements import (
    ai_label,
    logical,
    present,
    subject,
)
from medscribe_pipeline.fhir.people import custodian

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medscribe_pipeline.fhir.facts import Facts
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.fhir.text import Shown
    from medscribe_pipeline.notes import ScribeNote

__all__ = ["clinical_note", "composition"]


def composition(note: ScribeNote, options: BuildOptions, facts: Facts) -> dict[str, Any]:
    """The Composition of a note of which these are the facts."""
    return present(
        {
            "resourceType": "Composition",
            "meta": {"security": [ai_label()]},
            "language": facts.language,
            "identifier": dict(facts.identifier),
            "status": facts.status,
            "type": options.mapping.document_type(
                note.template, note.kind, note.provider, options.profile, note.specialty
            ),
            "category": [clinical_note()],
            "subject": subject(note),
            "encounter": logical("Encounter", note.visit.encounter),
            "date": facts.date,
            "author": [dict(facts.author)],
            "title": facts.title,
            "attester": [{**each, "party": dict(each["party"])} for each in facts.attester],
            "custodian": custodian(options),
            "section": _sections(facts.sections, options),
        }
    )


def clinical_note() -> dict[str, Any]:
    """The category readers of clinical notes search for."""
    system = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category"
    return {"coding": [{"system": system, "code": "clinical-note"}]}


def _sections(sections: Sequence[Shown], options: BuildOptions) -> list[dict[str, Any]]:
    return [_section(section, options) for section in sections]


def _section(section: Shown, options: BuildOptions) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if section.heading:
        # The heading a reader sees.
        made["title"] = section.heading
    if concept := options.mapping.section_concept(section.key, section.heading, options.base_uri):
        made["code"] = concept
    if section.div:
        # `additional`: the words are in no structured entry, so they are not `generated` from one.
        made["text"] = {"status": "additional", "div": section.div}
    if section.sections:
        made["section"] = _sections(section.sections, options)
    return made
