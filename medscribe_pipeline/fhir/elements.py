"""Small parts every resource is made of: identifiers, times, references, labels.

Identity: a note has one identifier through all its versions, and each version has one of its own, derived from the
content of its source. Patients, clinicians and encounters are logical references: delivery replaces them where a
server wants its own ids.
"""

from __future__ import annotations

import re
from datetime import UTC
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir.narrative import is_blank
from medscribe_pipeline.notes import NoteState, uuid5_text

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

    from medscribe_pipeline.notes import Identifier, ScribeNote

__all__ = [
    "PRODUCTS",
    "VERSION_SYSTEM",
    "ai_label",
    "identifier",
    "instant",
    "language_tag",
    "logical",
    "note_date",
    "note_identifier",
    "own_system",
    "present",
    "status",
    "subject",
    "version_id",
    "version_identifier",
]

DATA_ABSENT_REASON = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
"""Extension that stands for a value a profile demands and nobody knows."""

VERSION_SYSTEM = "urn:ietf:rfc:3986"
"""Identifier system of `version_identifier`: values that are URIs themselves."""

PRODUCTS = {
    "askara": "Askara",
    "audioscribe": "Dictanote AudioScribe",
    "intron": "Intron Health",
    "nabla": "Nabla",
}
"""The scribes, as people know them."""

_STATUS = {NoteState.DRAFT: "preliminary", NoteState.VALIDATED: "final", NoteState.RETRACTED: "entered-in-error"}

# BCP 47 as far as its letters go (RFC 5646); "en_US" and "French" are not, and validators refuse them. Languages have
# two letters or three: the RFC keeps longer ones for a register that has none.
_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")


def version_identifier(note_id: uuid.UUID, version: str) -> str:
    """Identifier of one version of a note, within `VERSION_SYSTEM`.

    `version` is the hash of the source content, never of the FHIR JSON: a better mapping is not a new version.

    >>> version_identifier(uuid.UUID("1ee29d60-7023-5d7f-9569-9f5401b52b10"), "a1")
    'urn:uuid:b9d1b2f8-7303-5b80-a887-65bb27f36b59'
    """
    return f"urn:uuid:{version_id(note_id, version)}"


def version_id(note_id: uuid.UUID, version: str) -> str:
    """The UUID in `version_identifier`."""
    return uuid5_text(note_id.bytes, version)


@lru_cache(maxsize=64)  # There are as many as accounts, and all documents name them.
def own_system(base_uri: str, *parts: str) -> str:
    """An identifier system of this project: its base and what the system is about, each part quoted."""
    return "/".join([f"{base_uri.rstrip('/')}/sid", *(quote(part, safe="") for part in parts)])


def note_identifier(base_uri: str, provider: str, account: str, note_id: uuid.UUID) -> dict[str, str]:
    """Identifier of a note through all its versions: `{system, value}`.

    >>> note_identifier("https://example.org/fhir", "nabla", "a", uuid.UUID(int=1))["system"]
    'https://example.org/fhir/sid/nabla/a/note'
    """
    return {"system": own_system(base_uri, provider, account, "note"), "value": str(note_id)}


def status(note: ScribeNote) -> str:
    """`Composition.status` and `docStatus` of a note: `preliminary`, `final`, `amended` or `entered-in-error`.

    Raises:
        MedscribeError: Code `not_buildable`: the note failed at its provider.
    """
    if note.state not in _STATUS:
        raise MedscribeError("A failed note has no FHIR documents.", code="not_buildable")
    if note.state is NoteState.VALIDATED and note.amends is not None:
        return "amended"
    return _STATUS[note.state]


def language_tag(note: ScribeNote) -> str | None:
    """The note's language, if it is a BCP 47 tag."""
    return note.language if note.language and _LANGUAGE_TAG.fullmatch(note.language) else None


def ai_label() -> dict[str, Any]:
    """Says that artificial intelligence wrote it, not whether a clinician reviewed it: so it stays after review."""
    return {
        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
        "code": "AIAST",
        "display": "Artificial Intelligence asserted",
    }


def logical(kind: str, known: Identifier | None) -> dict[str, Any] | None:
    """A reference by identifier: who or what, not where on a server."""
    element = identifier(known)
    return {"type": kind, "identifier": element} if element else None


def subject(note: ScribeNote, *, required: bool = False) -> dict[str, Any] | None:
    """The patient, as a reference by identifier.

    Args:
        note: The note.
        required: Whether a profile demands a subject: an unknown one is then said to be unknown. Such a document is
            valid and is held: nothing is delivered without a patient.
    """
    known = logical("Patient", note.visit.patient)
    if known is None and required:
        return {"extension": [{"url": DATA_ABSENT_REASON, "valueCode": "unknown"}]}
    return known


def identifier(known: Identifier | None) -> dict[str, str] | None:
    """The identifier as it is known, or `None` for a blank one. Never repaired: that could match somebody else."""
    if known is None or is_blank(known.value) or is_blank(known.system):
        return None
    return {"system": known.system, "value": known.value}


def note_date(note: ScribeNote) -> datetime:
    """The time a note is of: last changed, else created, validated, or the visit.

    Raises:
        MedscribeError: Code `no_date`: nobody knows any, and a Composition must have one.
    """
    visit = note.visit
    date = note.updated_at or note.created_at or note.validated_at or visit.ended_at or visit.started_at
    if date is None:
        raise MedscribeError("Neither the note nor its visit has a time.", code="no_date")
    return date


def instant(at: datetime | None) -> str | None:
    """A time as FHIR writes it: UTC, whole seconds, `Z`."""
    if at is None:
        return None
    if at.tzinfo is None:
        raise ValueError("naive datetime in a note")
    at = at if at.tzinfo is UTC else at.astimezone(UTC)
    # Day and time apart have no zone, which would be asked for its offset each time.
    return f"{at.date().isoformat()}T{at.time().isoformat('seconds')}Z"


def present(element: dict[str, Any]) -> dict[str, Any]:
    """The element without what is unknown: FHIR has no null, no empty list and no empty object (ele-1)."""
    # Nearly every value is true, and then nothing of what is left out.
    return {name: value for name, value in element.items() if value or value not in (None, "", [], {})}
