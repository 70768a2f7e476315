"""The specialty of a visit: from the manifest into every provider's notes, and into versions only where said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.records import Held, LandedRecord, ManifestVisit, if_known

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.notes import ScribeNote
    from medscribe_pipeline.settings import Settings

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ASKARA: dict[str, Any] = {
    "uuid": "00000000-0000-4000-8000-000000000001",
    "content": "Plan: repos",
    "createdAt": "2026-03-02T09:00:00Z",
    "updatedAt": "2026-03-02T09:00:00Z",
}
AUDIOSCRIBE: dict[str, Any] = {"id": 17, "title": "Visit", "note": "Plan: rest", "createdAt": "2026-03-02T09:00:00Z"}
JOB: dict[str, Any] = {"correlation_key": "v-1", "client_request_id": "r-1"}
NABLA: dict[str, Any] = {
    **JOB,
    "job_key": "v-1/listen",
    "step": "listen",
    "request": {"body": {"language": "en-US", "note_template": "SOAP"}},
    "result": {"note": {"title": "Cold", "sections": [{"key": "PLAN", "title": "Plan", "text": "Rest."}]}},
}
INTRON: dict[str, Any] = {
    **JOB,
    "job_key": "v-1/upload",
    "step": "upload",
    "request": {"fields": {}},
    "result": {
        "status": "Ok",
        "message": "file status found",
        "data": {"processing_status": "FILE_TRANSCRIBED", "transcript_soap_note": "## Plan\nrest"},
    },
}

# Versions these notes had before visits could have a specialty: with one more fact in the hash, every note there is
# would count as a new version and be delivered once more.
RECORDS = [
    ("askara", "notes", ASKARA, "b334aed17a4c0ba45ad1ddf60a3e37230b77278f8566c01917ac705fc5c4fa63"),
    ("audioscribe", "sessions", AUDIOSCRIBE, "70b4438519cd95492b0faa7a16a1c41f8d32bbd92f3b45f0696e0d1f9ecdc174"),
    ("nabla", "results", NABLA, "311df57d9f0f7476b899c6356ca735ef594ae2fc1022e991841720d02f4ba496"),
    ("intron", "results", INTRON, "adf675440456fa43d0f193a54b3265f0eef4bb6a2300f7e45995967f0f781b14"),
]


def mapped(provider: str, record: LandedRecord, settings: Settings) -> ScribeNote:
    notes = PROVIDERS[provider].to_notes(record, settings)
    assert not isinstance(notes, Held)
    return notes[0]


@pytest.mark.parametrize(("provider", "stream", "payload", "version"), RECORDS)
def test_specialty_of_the_visit(
    provider: str, stream: str, payload: dict[str, Any], version: str, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings()
    record = LandedRecord(stream, "s-1", payload, fetched_at=NOON)

    without = mapped(provider, record, settings)
    silent = mapped(provider, replace(record, visit=ManifestVisit()), settings)
    heart = mapped(provider, replace(record, visit=ManifestVisit(specialty="CARDIOLOGY")), settings)
    mind = mapped(provider, replace(record, visit=ManifestVisit(specialty="PSYCHIATRY")), settings)

    assert (without.specialty, silent.specialty, heart.specialty) == (None, None, "CARDIOLOGY")
    assert without.version == silent.version == version
    assert len({without.version, heart.version, mind.version}) == 3


def test_only_known_facts_count() -> None:
    assert if_known("CARDIOLOGY", None, "") == ("CARDIOLOGY",)
