"""`ScribeNote` to Composition and DocumentReference, as plain dicts of FHIR R4 JSON.

Pure and deterministic: no clock, no random id, no server. The same note, base URI and profile give the same bytes,
so a document can be compared, built again and sent again. The dict that is built is the dict that is sent;
`rules.check` looks at it, nothing rewrites it.

Identity: `Composition.identifier` and `DocumentReference.identifier` name the note through all its versions,
`DocumentReference.masterIdentifier` names this version and is what a conditional create searches for. Patients,
clinicians and encounters are logical references: delivery replaces them where a server wants its own ids.

Facts: FHIR R4 Composition and DocumentReference (https://hl7.org/fhir/R4/), US Core 9 DocumentReference.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir.narrative import clean_text, is_blank, to_xhtml
from medscribe_pipeline.fhir.sections import document_title, document_type, one_line, section_coding, section_heading
from medscribe_pipeline.notes import NoteState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from medscribe_pipeline.notes import Identifier, NoteSection, Practitioner, ScribeNote, Visit

__all__ = ["VERSION_SYSTEM", "FhirDocuments", "build_documents", "note_identifier", "version_identifier"]

VERSION_SYSTEM = "urn:ietf:rfc:3986"
"""Identifier system of `version_identifier`: values that are URIs themselves."""

_STATUS = {NoteState.DRAFT: "preliminary", NoteState.VALIDATED: "final", NoteState.RETRACTED: "entered-in-error"}

_PRODUCTS = {
    "askara": "Askara",
    "audioscribe": "Dictanote AudioScribe",
    "intron": "Intron Health",
    "nabla": "Nabla",
}

# The last line of the text rendering. It stands in the text because servers may drop every label of the metadata.
_PROVENANCE_LINE = {
    "en": {
        NoteState.DRAFT: "Drafted by {product} (artificial intelligence). Not validated by a clinician.",
        NoteState.VALIDATED: "Drafted by {product} (artificial intelligence). Validated by a clinician.",
        NoteState.RETRACTED: "Drafted by {product} (artificial intelligence). Withdrawn at its source: do not use.",
    },
    "fr": {
        NoteState.DRAFT: "Rédigé par {product} (intelligence artificielle). Non validé par un professionnel de santé.",
        NoteState.VALIDATED: "Rédigé par {product} (intelligence artificielle). Validé par un professionnel de santé.",
        NoteState.RETRACTED: "Rédigé par {product} (intelligence artificielle). Retiré à la source : ne pas utiliser.",
    },
}

# BCP 47 as far as its letters go (RFC 5646); "en_US" and "French" are not, and validators refuse them.
_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True, slots=True)
class FhirDocuments:
    """The documents of one version of one note, as FHIR R4 JSON."""

    composition: dict[str, Any]
    document_reference: dict[str, Any]


def version_identifier(note_id: uuid.UUID, version: str) -> str:
    """Identifier of one version of a note, within `VERSION_SYSTEM`.

    `version` is the hash of the source content, never of the FHIR JSON: a better mapping is not a new version.

    >>> version_identifier(uuid.UUID("1ee29d60-7023-5d7f-9569-9f5401b52b10"), "a1")
    'urn:uuid:b9d1b2f8-7303-5b80-a887-65bb27f36b59'
    """
    return uuid.uuid5(note_id, version).urn


def note_identifier(base_uri: str, provider: str, account: str, note_id: uuid.UUID) -> dict[str, str]:
    """Identifier of a note through all its versions: `{system, value}`.

    >>> note_identifier("https://example.org/fhir", "nabla", "a", uuid.UUID(int=1))["system"]
    'https://example.org/fhir/sid/nabla/a/note'
    """
    system = f"{base_uri.rstrip('/')}/sid/{quote(provider, safe='')}/{quote(account, safe='')}/note"
    return {"system": system, "value": str(note_id)}


def build_documents(note: ScribeNote, *, base_uri: str, profile: str = "international") -> FhirDocuments:
    """Builds the documents of a note.

    A retracted note is built even when its source has nothing left of it: the EHR has to hear about it.

    Args:
        note: The note, in any state but failed.
        base_uri: Base of the identifier and code systems this project owns.
        profile: Country profile of the document type: `us`, `fr` or `international`.

    Raises:
        MedscribeError: Code `not_buildable`: the note failed at its provider. Code `empty_note`: no section has
            text. Code `no_date`: neither the note nor its visit has a time, and a Composition must have one.
        ConfigError: There is no such profile.
    """
    if note.state not in _STATUS:
        raise MedscribeError("A failed note has no FHIR documents.", code="not_buildable")
    if note.state is not NoteState.RETRACTED and not any(_has_text(section) for section in note.sections):
        raise MedscribeError("The note has no text in any section.", code="empty_note")
    return FhirDocuments(_composition(note, base_uri, profile), _document_reference(note, base_uri, profile))


def _composition(note: ScribeNote, base_uri: str, profile: str) -> dict[str, Any]:
    composition: dict[str, Any] = {
        "resourceType": "Composition",
        "meta": {"security": [_ai_label()]},
        "language": _language(note),
        "identifier": note_identifier(base_uri, note.provider, note.account, note.note_id),
        "status": _STATUS[note.state],
        "type": document_type(note.template, note.kind, note.provider, profile),
        "category": [_clinical_note()],
        "subject": _logical("Patient", note.visit.patient),
        "encounter": _logical("Encounter", note.visit.encounter),
        "date": _instant(_date(note)),
        "author": [_author(note, base_uri)],
        "title": _title(note),
        "attester": _attester(note),
        "section": _sections(note.sections, note.language, base_uri),
    }
    return _present(composition)


def _document_reference(note: ScribeNote, base_uri: str, profile: str) -> dict[str, Any]:
    retracted = note.state is NoteState.RETRACTED
    document: dict[str, Any] = {
        "resourceType": "DocumentReference",
        "meta": {"security": [_ai_label()]},
        "language": _language(note),
        "masterIdentifier": {"system": VERSION_SYSTEM, "value": version_identifier(note.note_id, note.version)},
        "identifier": [note_identifier(base_uri, note.provider, note.account, note.note_id)],
        "status": "entered-in-error" if retracted else "current",
        "docStatus": _STATUS[note.state],
        "type": document_type(note.template, note.kind, note.provider, profile),
        "category": [_clinical_note()],
        "subject": _logical("Patient", note.visit.patient),
        "date": _instant(_date(note)),
        "author": [_author(note, base_uri)],
        "content": [{"attachment": _attachment(note)}],
        "context": _context(note.visit),
    }
    return _present(document)


def _attachment(note: ScribeNote) -> dict[str, Any]:
    text = _text_rendering(note).encode()
    return _present(
        {
            "contentType": "text/plain; charset=utf-8",
            "language": _language(note),
            "data": base64.b64encode(text).decode(),
            "size": len(text),
            # FHIR R4 defines Attachment.hash as SHA-1; it finds damage, it protects nothing.
            "hash": base64.b64encode(hashlib.sha1(text, usedforsecurity=False).digest()).decode(),
            "title": _title(note),
            "creation": _instant(note.created_at or _date(note)),
        }
    )


def _text_rendering(note: ScribeNote) -> str:
    product = _PRODUCTS.get(note.provider, note.provider)
    language = "fr" if (note.language or "").lower().partition("-")[0] == "fr" else "en"
    blocks = [_title(note), *_text_blocks(note.sections, note.language)]
    blocks.append(_PROVENANCE_LINE[language][note.state].format(product=product))
    return "\n\n".join(blocks) + "\n"


def _text_blocks(sections: Sequence[NoteSection], language: str | None) -> Iterator[str]:
    """Heading and text of each section with text, depth first."""
    for section in filter(_has_text, sections):
        text = clean_text(section.text).strip("\n").rstrip()
        heading = section_heading(section.key, section.title, language)
        yield "\n".join(part for part in (heading, text) if part)
        yield from _text_blocks(section.sections, language)


def _sections(sections: Sequence[NoteSection], language: str | None, base_uri: str) -> list[dict[str, Any]]:
    return [
        _present(
            {
                "title": section_heading(section.key, section.title, language),
                "code": section_coding(section.key, section.title, language, base_uri),
                # `additional`: the words are in no structured entry, so they are not `generated` from one.
                "text": None if is_blank(section.text) else {"status": "additional", "div": to_xhtml(section.text)},
                "section": _sections(section.sections, language, base_uri),
            }
        )
        for section in filter(_has_text, sections)
    ]


def _has_text(section: NoteSection) -> bool:
    return not is_blank(section.text) or any(_has_text(child) for child in section.sections)


def _title(note: ScribeNote) -> str:
    return one_line(note.title) or document_title(note.template, note.kind, note.provider, note.language)


def _language(note: ScribeNote) -> str | None:
    return note.language if note.language and _LANGUAGE_TAG.fullmatch(note.language) else None


def _clinical_note() -> dict[str, Any]:
    system = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category"
    return {"coding": [{"system": system, "code": "clinical-note"}]}


def _ai_label() -> dict[str, Any]:
    """Says that artificial intelligence wrote it, not whether a clinician reviewed it: so it stays after review."""
    return {
        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
        "code": "AIAST",
        "display": "Artificial Intelligence asserted",
    }


def _author(note: ScribeNote, base_uri: str) -> dict[str, Any]:
    """The clinician whose note it is; the scribe itself only where nobody is known."""
    device = {
        "type": "Device",
        "identifier": {"system": f"{base_uri.rstrip('/')}/sid/device", "value": note.provider},
        "display": _PRODUCTS.get(note.provider, note.provider),
    }
    return _practitioner(note.visit.practitioner) or device


def _attester(note: ScribeNote) -> list[dict[str, Any]]:
    party = _practitioner(note.visit.practitioner)
    if note.state is not NoteState.VALIDATED or party is None:
        return []
    return [_present({"mode": "professional", "time": _instant(note.validated_at), "party": party})]


def _practitioner(practitioner: Practitioner | None) -> dict[str, Any] | None:
    if practitioner is None:
        return None
    # Only person-level identifiers: the others belong to a place of practice and may be shared.
    identifier = next((known for each in practitioner.identifiers if (known := _identifier(each))), None)
    display = one_line(practitioner.display)
    if identifier is None and display is None:
        return None
    return _present({"type": "Practitioner", "identifier": identifier, "display": display})


def _logical(kind: str, identifier: Identifier | None) -> dict[str, Any] | None:
    known = _identifier(identifier)
    return {"type": kind, "identifier": known} if known else None


def _identifier(identifier: Identifier | None) -> dict[str, str] | None:
    """The identifier as it is known, or `None` for a blank one. Never repaired: that could match somebody else."""
    if identifier is None or is_blank(identifier.value) or is_blank(identifier.system):
        return None
    return {"system": identifier.system, "value": identifier.value}


def _context(visit: Visit) -> dict[str, Any] | None:
    encounter = _logical("Encounter", visit.encounter)
    start, end = visit.started_at, visit.ended_at
    if start and end and end < start:
        end = None  # FHIR refuses a period that ends before it starts (per-1); the start is the more certain half.
    period = _present({"start": _instant(start), "end": _instant(end)})
    return _present({"encounter": [encounter] if encounter else None, "period": period})


def _date(note: ScribeNote) -> datetime:
    known = (note.updated_at, note.created_at, note.validated_at, note.visit.ended_at, note.visit.started_at)
    date = next((at for at in known if at is not None), None)
    if date is None:
        raise MedscribeError("Neither the note nor its visit has a time.", code="no_date")
    return date


def _instant(at: datetime | None) -> str | None:
    """A time as FHIR writes it: UTC, whole seconds, `Z`."""
    if at is None:
        return None
    if at.tzinfo is None:
        raise ValueError("naive datetime in a note")
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _present(element: dict[str, Any]) -> dict[str, Any]:
    """The element without what is unknown: FHIR has no null, no empty list and no empty object (ele-1)."""
    return {name: value for name, value in element.items() if value not in (None, "", [], {})}
