"""Payloads of both providers, and settings to map them with. All people here are invented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.notes import ScribeNote
from medscribe_pipeline.providers import askara, audioscribe
from medscribe_pipeline.providers.records import Held, LandedRecord, ManifestVisit

if TYPE_CHECKING:
    from medscribe_pipeline.settings import Settings

USER = {"uuid": "u-1", "firstName": "Ada", "lastName": "Testperson", "rpps": "10101748050", "am": "751234567"}


def audio(**changes: Any) -> dict[str, Any]:
    return {
        "uuid": "a-1",
        "createdAt": "2026-03-02T08:00:00Z",
        "updatedAt": "2026-03-02T08:30:00Z",
        "archivedAt": None,
        "patient": {"uuid": "p-1", "firstName": "Zoe", "lastName": "Synthetic"},
        "user": USER,
        "languageSpoken": "fr",
        "audioWorkflowStepV3": "validated",
        **changes,
    }


def note(**changes: Any) -> dict[str, Any]:
    return {
        "uuid": "n-1",
        "type": "consultation_summary",
        "content": "Motif : toux\n\n## Conduite à tenir\nRepos",
        "createdAt": "2026-03-02T08:10:00Z",
        "updatedAt": "2026-03-02T08:20:00Z",
        "patient": {"uuid": "p-1"},
        "audio": "/audios/a-1",
        "user": {"uuid": "u-1"},
        **changes,
    }


def session(**changes: Any) -> dict[str, Any]:
    return {
        "id": 17,
        "title": "Visit of a test person",
        "note": "Chief complaint: cough\n\nPlan:\nRest",
        "originalTranscript": "So, the cough.",
        "createdAt": "2026-03-02T08:00:00Z",
        **changes,
    }


def map_note(
    settings: Settings,
    payload: dict[str, Any] | None = None,
    parent: dict[str, Any] | None = None,
    visit: ManifestVisit | None = None,
) -> ScribeNote:
    """The Askara note that `payload` becomes, hanging on `parent`."""
    record = LandedRecord("notes", "n-1", payload if payload is not None else note(), parent, visit=visit)
    found = askara.to_note(record, settings)
    assert isinstance(found, ScribeNote)
    return found


def map_session(
    settings: Settings, payload: dict[str, Any] | None = None, visit: ManifestVisit | None = None
) -> ScribeNote:
    """The AudioScribe note that `payload` becomes."""
    record = LandedRecord("sessions", "17", payload if payload is not None else session(), visit=visit)
    found = audioscribe.to_note(record, settings)
    assert isinstance(found, ScribeNote)
    return found


def hold_audio(settings: Settings, payload: dict[str, Any], children: int = 0) -> Held:
    """What an Askara audio on its own becomes."""
    found = askara.to_note(LandedRecord("audios", "a-1", payload, children=children), settings)
    assert isinstance(found, Held)
    return found
