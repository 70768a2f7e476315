"""What was said in a visit, as a document apart from the note: the evidence, not the record.

Built only when a setting asks for it. It is restricted, stays preliminary whatever becomes of the note, and is no
`clinical-note`: portals and clients that search for notes do not find it. The turns themselves, with their offsets,
stay in the warehouse.

Facts: `DICTAST` of v3-ObservationValue ("asserted by a dictation algorithm") and `R` of v3-Confidentiality, HL7
Terminology. LOINC has no code for a transcript of a visit, so the type is 34109-9, "Note", with a code of our own.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.document_reference import attachment, content, context
from medscribe_pipeline.fhir.elements import (
    PRODUCTS,
    VERSION_SYSTEM,
    instant,
    language_tag,
    note_date,
    note_identifier,
    own_system,
    present,
    subject,
    version_identifier,
)
from medscribe_pipeline.fhir.mapping_rows import in_language
from medscribe_pipeline.fhir.narrative import clean_text, is_blank
from medscribe_pipeline.fhir.people import custodian, scribe_device
from medscribe_pipeline.fhir.sections import LOINC, one_line
from medscribe_pipeline.fhir.text import WITHDRAWN
from medscribe_pipeline.notes import NoteState, content_hash

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.notes import ScribeNote, TranscriptTurn

__all__ = ["DOCUMENT_SYSTEM", "transcript", "transcript_identifier", "transcript_text"]

DOCUMENT_SYSTEM = "CodeSystem/scribe-document"
"""Below the base URI: the project's own kinds of document."""

_TITLE = {
    "en": "Transcript of the visit",
    "fr": "Transcription de la consultation",
    "de": "Transkript der Konsultation",
    "es": "Transcripción de la consulta",
    "it": "Trascrizione della visita",
    "pt": "Transcrição da consulta",
}
_TRANSCRIBED = {
    "en": "Transcribed by {product} (speech recognition).",
    "fr": "Transcrit par {product} (reconnaissance vocale).",
    "de": "Transkribiert von {product} (Spracherkennung).",
    "es": "Transcrito por {product} (reconocimiento de voz).",
    "it": "Trascritto da {product} (riconoscimento vocale).",
    "pt": "Transcrito por {product} (reconhecimento de voz).",
}
_CHECKED = {
    "current": {
        "en": "Not checked by a clinician.",
        "fr": "Non vérifié par un professionnel de santé.",
        "de": "Nicht von einer medizinischen Fachperson geprüft.",
        "es": "No revisado por un profesional sanitario.",
        "it": "Non verificato da un professionista sanitario.",
        "pt": "Não verificado por um profissional de saúde.",
    },
    "entered-in-error": WITHDRAWN,
}


def transcript(note: ScribeNote, options: BuildOptions) -> dict[str, Any] | None:
    """The DocumentReference of a note's transcript; `None` where none is asked for, or nothing was said.

    A retracted note retracts it too.

    Raises:
        MedscribeError: Code `no_date`: neither the note nor its visit has a time.
    """
    if not options.transcripts or not any(_says_something(turn) for turn in note.transcript):
        return None
    status, title = _status(note), in_language(_TITLE, note.language)
    form = attachment(note, title, "text/plain; charset=utf-8", transcript_text(note).encode())
    kind = {"system": f"{options.base_uri.rstrip('/')}/{DOCUMENT_SYSTEM}", "code": "transcript"}
    own = note_identifier(options.base_uri, note.provider, note.account, note.note_id)
    return present(
        {
            "resourceType": "DocumentReference",
            "meta": {"security": [_value("DICTAST"), _restricted()]},
            "language": language_tag(note),
            "masterIdentifier": _version(note),
            "identifier": [transcript_identifier(options.base_uri, note.provider, note.account, note.note_id)],
            "status": status,
            "docStatus": "preliminary" if status == "current" else status,
            "type": {"coding": [{"system": LOINC, "code": "34109-9"}, kind], "text": title},
            "category": [{"coding": [kind]}],
            "subject": subject(note),
            "date": instant(note_date(note)),
            # The machine alone: no clinician wrote this, and none has read it.
            "author": [scribe_device(note.provider, options.base_uri)],
            "custodian": custodian(options),
            "securityLabel": [{"coding": [_restricted()]}],
            "content": [content(form)],
            "context": context(note, options, {"type": "DocumentReference", "identifier": own}),
        }
    )


def transcript_identifier(base_uri: str, provider: str, account: str, note_id: uuid.UUID) -> dict[str, str]:
    """Identifier of the transcript of a note through all its versions: `{system, value}`.

    >>> transcript_identifier("https://example.org/fhir", "nabla", "a", uuid.UUID(int=1))["system"]
    'https://example.org/fhir/sid/nabla/a/transcript'
    """
    system = own_system(base_uri, provider, account, "transcript")
    return {"system": system, "value": str(_transcript_id(note_id))}


def transcript_text(note: ScribeNote) -> str:
    """The transcript as plain text: a line a turn, with when and who as far as that is known, and its origin."""
    lines = [_line(turn) for turn in note.transcript if _says_something(turn)]
    transcribed = in_language(_TRANSCRIBED, note.language).format(product=PRODUCTS.get(note.provider, note.provider))
    origin = f"{transcribed} {in_language(_CHECKED[_status(note)], note.language)}"
    return "\n\n".join([in_language(_TITLE, note.language), "\n".join(lines), origin]) + "\n"


def _line(turn: TranscriptTurn) -> str:
    """A turn, `[00:01:05 doctor] Hello.`; further lines of it are indented, so that none passes for another turn."""
    label = " ".join(part for part in (_clock(turn.start_offset_ms), one_line(turn.speaker)) if part)
    text = "\n    ".join(line.strip() for line in clean_text(turn.text).strip().split("\n"))
    return f"[{label}] {text}" if label else text


def _clock(offset_ms: int | None) -> str | None:
    """Hours, minutes and whole seconds since the recording began."""
    if offset_ms is None or offset_ms < 0:
        return None
    minutes, seconds = divmod(offset_ms // 1000, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"


def _says_something(turn: TranscriptTurn) -> bool:
    return not is_blank(turn.text)


def _transcript_id(note_id: uuid.UUID) -> uuid.UUID:
    return uuid.uuid5(note_id, "transcript")


def _version(note: ScribeNote) -> dict[str, str]:
    """Identifier of this version: an edit of the note is none of the transcript, its retraction is."""
    turns = [[turn.text, turn.speaker, turn.start_offset_ms, turn.end_offset_ms] for turn in note.transcript]
    version = content_hash([turns, _status(note)])
    return {"system": VERSION_SYSTEM, "value": version_identifier(_transcript_id(note.note_id), version)}


def _status(note: ScribeNote) -> str:
    return "entered-in-error" if note.state is NoteState.RETRACTED else "current"


def _value(code: str) -> dict[str, str]:
    return {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": code}


def _restricted() -> dict[str, str]:
    return {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
