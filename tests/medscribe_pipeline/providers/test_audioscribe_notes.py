"""AudioScribe's sessions in our words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from medscribe_pipeline.notes import Identifier, NoteState, TranscriptTurn, Visit, stable_id
from medscribe_pipeline.providers.records import ManifestVisit
from medscribe_pipeline.settings import AudioScribeSettings
from tests.medscribe_pipeline.providers.mapped import map_session, session

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings

EIGHT = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


@pytest.fixture
def ours(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


def test_a_session_is_a_draft_about_nobody(ours: Settings) -> None:
    found = map_session(ours)

    assert found.note_id == stable_id("audioscribe", "default", "17", "note")
    assert (found.stream, found.source_id, found.state) == ("sessions", "17", NoteState.DRAFT)
    assert (found.title, found.language, found.template) == ("Visit of a test person", None, None)
    assert [(s.key, s.text) for s in found.sections] == [("CHIEF_COMPLAINT", "cough"), ("PLAN", "Rest")]
    assert found.visit == Visit(started_at=EIGHT)
    assert (found.created_at, found.updated_at) == (EIGHT, None)


def test_the_transcript_is_never_the_note(ours: Settings) -> None:
    found = map_session(ours, session(note=None))

    assert found.transcript == (TranscriptTurn("So, the cough."),)
    assert found.sections == ()
    assert not found.has_text
    assert map_session(ours, session(originalTranscript=" ")).transcript == ()


def test_an_account_that_signs_everything_off_says_so_itself(make_settings: Callable[..., Settings]) -> None:
    reviewed = make_settings(audioscribe=AudioScribeSettings(reviewed=True))

    assert map_session(reviewed).state is NoteState.VALIDATED


def test_the_manifest_says_who_it_is_about(ours: Settings) -> None:
    visit = ManifestVisit(
        patient_id="p-1", encounter_id="e-1", encounter_system="urn:x:enc", language="en", template="soap"
    )

    found = map_session(ours, visit=visit)

    assert found.visit.patient == Identifier(
        "https://medscribe-pipeline.github.io/fhir/sid/audioscribe/default/patient", "p-1"
    )
    assert found.visit.encounter == Identifier("urn:x:enc", "e-1")
    assert (found.language, found.template, found.visit.started_at) == ("en", "soap", EIGHT)


def test_systems_may_be_those_of_the_hospital(make_settings: Callable[..., Settings]) -> None:
    mine = make_settings(audioscribe=AudioScribeSettings(patient_system="urn:oid:1.2.3"))

    found = map_session(mine, visit=ManifestVisit(patient_id="p-1"))

    assert found.visit.patient == Identifier("urn:oid:1.2.3", "p-1")


def test_the_version_follows_what_the_note_says_and_nothing_else(ours: Settings) -> None:
    before = map_session(ours)
    same = [
        map_session(ours, session(originalTranscript="Other words.")),
        map_session(ours, session(someday=1)),
        map_session(ours, session(id="17")),
        map_session(ours, session(title=" Visit of a test person ")),
    ]
    other = [
        map_session(ours, session(note="Plan: rest")),
        map_session(ours, session(title=None)),
        map_session(ours, session(createdAt="2026-03-02T09:00:00Z")),
        map_session(ours, visit=ManifestVisit(patient_id="p-1")),
        map_session(ours, visit=ManifestVisit(language="en")),
    ]

    assert {found.version for found in same} == {before.version}
    assert len({found.version for found in (before, *other)}) == len(other) + 1
    assert {found.note_id for found in (*same, *other)} == {before.note_id}


@pytest.mark.parametrize(
    ("created", "instant"),
    [
        ("2026-07-01T10:00:00", datetime(2026, 7, 1, 8, 0, tzinfo=UTC)),
        ("2026-10-25T02:30:00", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("2026-03-29T02:30:00", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        ("2026-07-01T10:00:00Z", datetime(2026, 7, 1, 10, 0, tzinfo=UTC)),
    ],
)
def test_times_without_offset_are_local(
    make_settings: Callable[..., Settings], created: str, instant: datetime
) -> None:
    assert map_session(make_settings(timezone="Europe/Paris"), session(createdAt=created)).created_at == instant


@pytest.mark.parametrize("changes", [{"id": None}, {"createdAt": ""}, {"note": {"a": 1}}, {"title": 7}])
def test_what_does_not_fit_is_refused(ours: Settings, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        map_session(ours, session(**changes))
