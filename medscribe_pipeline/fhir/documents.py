"""`ScribeNote` to FHIR resources, as plain dicts of FHIR JSON.

Pure and deterministic: no clock, no random id, no server. The same note and options give the same bytes, so a
document can be compared, built again and sent again. The dict that is built is the dict that is sent; `rules.check`
looks at it, nothing rewrites it.

Facts: FHIR R4 Composition and DocumentReference (https://hl7.org/fhir/R4/), US Core 9 DocumentReference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir.composition import composition
from medscribe_pipeline.fhir.document_reference import document_reference
from medscribe_pipeline.fhir.elements import status
from medscribe_pipeline.fhir.facts import facts_of
from medscribe_pipeline.fhir.provenance import provenance
from medscribe_pipeline.fhir.release5 import to_r5
from medscribe_pipeline.fhir.text import shown_sections
from medscribe_pipeline.fhir.transcript import transcript
from medscribe_pipeline.notes import NoteState

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.notes import ScribeNote

__all__ = ["FhirDocuments", "build_documents"]


@dataclass(frozen=True, slots=True)
class FhirDocuments:
    """The documents of one version of one note, as FHIR JSON; `transcript` is `None` where there is none."""

    composition: dict[str, Any]
    document_reference: dict[str, Any]
    provenance: dict[str, Any]
    transcript: dict[str, Any] | None = None

    def resources(self) -> dict[str, dict[str, Any]]:
        """What there is, by `fhir_documents.kind`: `Composition`, `DocumentReference`, `Provenance`, `Transcript`."""
        listed = {
            "Composition": self.composition,
            "DocumentReference": self.document_reference,
            "Provenance": self.provenance,
            "Transcript": self.transcript,
        }
        return {kind: resource for kind, resource in listed.items() if resource is not None}


def build_documents(note: ScribeNote, options: BuildOptions) -> FhirDocuments:
    """Builds the documents of a note.

    A retracted note is built even when its source has nothing left of it: the EHR has to hear about it.

    Args:
        note: The note, in any state but failed.
        options: How, see `BuildOptions`.

    Raises:
        MedscribeError: Code `not_buildable`: the note failed at its provider. Code `empty_note`: no section has
            text. Code `no_date`: neither the note nor its visit has a time, and a Composition must have one.
        ConfigError: There is no such profile.
    """
    status(note)
    sections = shown_sections(note.sections, note.language, options.mapping)
    if note.state is not NoteState.RETRACTED and not sections:
        raise MedscribeError("The note has no text in any section.", code="empty_note")
    facts = facts_of(note, options, sections)
    built = FhirDocuments(
        composition=composition(note, options, facts),
        document_reference=document_reference(note, options, facts),
        provenance=provenance(note, options, facts),
        transcript=transcript(note, options),
    )
    return built if options.release == "R4" else _in_r5(built)


def _in_r5(built: FhirDocuments) -> FhirDocuments:
    return FhirDocuments(
        composition=to_r5(built.composition),
        document_reference=to_r5(built.document_reference),
        provenance=to_r5(built.provenance),
        transcript=to_r5(built.transcript) if built.transcript else None,
    )
