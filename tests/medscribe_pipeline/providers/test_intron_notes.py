"""Landed results of Intron to documents."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from medscribe_pipeline.notes import (
    Identifier,
    NoteSection,
    NoteState,
    Practitioner,
    ScribeNote,
    TranscriptTurn,
    Visit,
    stable_id,
)
from medscribe_pipeline.providers.intron import to_notes, turns
from medscribe_pipeline.providers.records import Held, LandedRecord, ManifestVisit
from tests.medscribe_pipeline.providers.intron_cases import REQUEST_ID, settings_for

if TYPE_CHECKING:
    from medscribe_pipeline.settings import Settings

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SOAP = "## Subjective\ncough\n## Objective\nT 38\n## Assessment\ncold\n## Plan\nrest"
SETTINGS = settings_for()
VISIT = ManifestVisit(
    patient_id="p-1",
    practitioner_id="dr-1",
    encounter_id="e-1",
    started_at=NOON - timedelta(hours=1),
    ended_at=NOON - timedelta(minutes=30),
    language="sw-KE",
)


def record(visit: ManifestVisit | None = None, **data: Any) -> LandedRecord:
    return LandedRecord(
        stream="results",
        source_id="visit-1/upload",
        payload={
            "job_key": "visit-1/upload",
            "correlation_key": "visit-1",
            "step": "upload",
            "client_request_id": REQUEST_ID,
            "request": {"audio_url": "https://files.example.org/a.wav", "fields": {"use_language_asr_input": "en"}},
            "result": {
                "status": "Ok",
                "message": "file status found",
                "data": {"processing_status": "FILE_TRANSCRIBED", "audio_file_name": REQUEST_ID, **data},
            },
        },
        visit=visit,
        fetched_at=NOON,
    )


def mapped(landed: LandedRecord, settings: Settings = SETTINGS) -> dict[str, ScribeNote]:
    notes = to_notes(landed, settings)
    assert not isinstance(notes, Held)
    return {note.kind: note for note in notes}


def test_a_soap_note_with_all_that_is_known_about_it() -> None:
    (note,) = mapped(record(VISIT, transcript_soap_note=SOAP, audio_transcript="Hello.")).values()

    assert note == ScribeNote(
        note_id=stable_id("intron", "clinic", "visit-1", "note"),
        provider="intron",
        account="clinic",
        stream="results",
        source_id="visit-1/upload",
        state=NoteState.DRAFT,
        version=note.version,
        kind="note",
        language="sw-KE",
        template="SOAP",
        sections=(
            NoteSection("SOAP_SUBJECTIVE", "Subjective", "cough", (), "markdown"),
            NoteSection("SOAP_OBJECTIVE", "Objective", "T 38", (), "markdown"),
            NoteSection("SOAP_ASSESSMENT", "Assessment", "cold", (), "markdown"),
            NoteSection("SOAP_PLAN", "Plan", "rest", (), "markdown"),
        ),
        transcript=(TranscriptTurn("Hello."),),
        visit=Visit(
            patient=Identifier(SETTINGS.identifier_system("intron", "patient"), "p-1"),
            practitioner=Practitioner((Identifier(SETTINGS.identifier_system("intron", "practitioner"), "dr-1"),)),
            encounter=Identifier(SETTINGS.identifier_system("intron", "encounter"), "e-1"),
            started_at=VISIT.started_at,
            ended_at=VISIT.ended_at,
        ),
        created_at=VISIT.ended_at,
        updated_at=VISIT.ended_at,
    )


def test_each_document_is_one_of_its_kind_and_the_rest_is_data() -> None:
    notes = mapped(
        record(
            transcript_treatment_plan="- **Medications:** paracetamol",
            transcript_op_note="# Findings\nnone",
            transcript_summary="Seen for cough.",
            transcript_clerking="## Presenting complaint\ncough\n## Past medical history\nasthma",
            transcript_soap_note=SOAP,
            transcript_entity_list="- cough",
            transcript_icd_codes="R05",
            transcript_suggestions="Ask about smoking.",
            transcript_differential_diagnosis="- cold",
            transcript_call_center_agent_score="9",
            transcript_answer="42",
            audio_transcript="Hello.",
        )
    )

    assert {
        kind: (note.template, [(section.key, section.text) for section in note.sections])
        for kind, note in notes.items()
    } == {
        "note": (
            "SOAP",
            [
                ("SOAP_SUBJECTIVE", "cough"),
                ("SOAP_OBJECTIVE", "T 38"),
                ("SOAP_ASSESSMENT", "cold"),
                ("SOAP_PLAN", "rest"),
            ],
        ),
        "summary": (None, [(None, "Seen for cough.")]),
        "clerking": (None, [("CHIEF_COMPLAINT", "cough"), ("PAST_MEDICAL_HISTORY", "asthma")]),
        # What a plan calls medications is to be taken, not what is taken so far.
        "treatment_plan": (None, [(None, "paracetamol")]),
        "operation_note": (None, [(None, "none")]),
    }
    assert len({note.note_id for note in notes.values()}) == 5
    assert [kind for kind, note in notes.items() if note.transcript] == ["note"]


def test_without_a_soap_note_the_transcript_goes_with_the_first_document() -> None:
    notes = mapped(record(transcript_op_note="done", transcript_clerking="seen", audio_transcript="Hello."))

    assert {kind: len(note.transcript) for kind, note in notes.items()} == {"clerking": 1, "operation_note": 0}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"audio_transcript": "\nSPEAKER_01: Hello.\n"}, "transcript_only"),
        ({"audio_transcript": "Hello.", "transcript_summary": " \n", "transcript_icd_codes": "R05"}, "transcript_only"),
        ({"audio_transcript": "", "transcript_soap_note": None}, "no_text"),
        ({"transcript_entity_list": "- cough"}, "no_text"),
    ],
)
def test_a_result_without_a_document_is_held(data: dict[str, Any], code: str) -> None:
    assert to_notes(record(**data), SETTINGS) == Held(code)


def test_a_title_of_the_whole_is_the_title_of_the_document() -> None:
    (note,) = mapped(record(transcript_soap_note=f"# Outpatient note\n{SOAP}")).values()

    assert note.title == "Outpatient note"
    assert note.sections[0].key == "SOAP_SUBJECTIVE"


def test_structured_documents_are_documents_too() -> None:
    notes = mapped(
        record(transcript_soap_note={"subjective": "cough", "plan": ["rest"]}, transcript_summary=["a", {"b": "c"}])
    )

    assert [(s.key, s.text) for s in notes["note"].sections] == [("SOAP_SUBJECTIVE", "cough"), ("SOAP_PLAN", "- rest")]
    assert [(s.key, s.text) for s in notes["summary"].sections] == [(None, "- a\n- b: c")]


def test_without_a_manifest_row_there_is_the_landing_time_and_the_language_asked_for() -> None:
    (note,) = mapped(record(transcript_summary="Seen.")).values()

    assert (note.visit, note.created_at, note.updated_at, note.language) == (Visit(), NOON, NOON, "en")


def test_nothing_counts_as_reviewed_unless_a_setting_says_so() -> None:
    notes = mapped(record(transcript_summary="Seen.", transcript_soap_note=SOAP), settings_for(reviewed=True))

    assert {note.state for note in notes.values()} == {NoteState.VALIDATED}


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [
        (record(VISIT, transcript_soap_note=SOAP, transcript_summary="Seen twice.", audio_transcript="a"), {"summary"}),
        (record(VISIT, transcript_soap_note=SOAP, transcript_summary="Seen.", audio_transcript="b"), {"note"}),
        (
            record(
                replace(VISIT, patient_id="p-2"),
                transcript_soap_note=SOAP,
                transcript_summary="Seen.",
                audio_transcript="a",
            ),
            {"note", "summary"},
        ),
        (
            replace(
                record(VISIT, transcript_soap_note=SOAP, transcript_summary="Seen.", audio_transcript="a"),
                fetched_at=NOON + timedelta(days=1),
            ),
            set(),
        ),
    ],
)
def test_a_version_changes_with_what_a_document_says_and_with_nothing_else(
    changed: LandedRecord, kinds: set[str]
) -> None:
    before = mapped(record(VISIT, transcript_soap_note=SOAP, transcript_summary="Seen.", audio_transcript="a"))
    after = mapped(changed)

    assert {kind for kind in before if before[kind].version != after[kind].version} == kinds
    assert [note.note_id for note in after.values()] == [note.note_id for note in before.values()]


@pytest.mark.parametrize("result", [None, [], {"data": None}, {"data": "text"}])
def test_a_payload_of_another_shape_is_for_a_person_to_look_at(result: Any) -> None:
    landed = record(transcript_summary="Seen.")
    landed.payload["result"] = result

    with pytest.raises(ValidationError) as caught:
        to_notes(landed, SETTINGS)

    assert "text" not in str(caught.value).replace("https", "")


@pytest.mark.parametrize(
    ("transcript", "expected"),
    [
        ("", ()),
        ("  \n", ()),
        ("Hello.\nTake two: one now.", ((None, "Hello.\nTake two: one now."),)),
        (
            "\nSPEAKER_01: Hello world.\nSPEAKER_02: Welcome.\n",
            (("SPEAKER_01", "Hello world."), ("SPEAKER_02", "Welcome.")),
        ),
        (
            "noise\r\nspeaker_00: One:\r\n two: three\r\n\r\nfour\r\nSPEAKER_10:\r\nSPEAKER_00:five",
            ((None, "noise"), ("SPEAKER_00", "One:\ntwo: three\n\nfour"), ("SPEAKER_00", "five")),
        ),
        ("SPEAKER: a\nSPEAKER_x: b\nThe SPEAKER_01: c", ((None, "SPEAKER: a\nSPEAKER_x: b\nThe SPEAKER_01: c"),)),
    ],
)
def test_a_transcript_in_turns(transcript: str, expected: tuple[tuple[str | None, str], ...]) -> None:
    assert turns(transcript) == tuple(TranscriptTurn(text, speaker=speaker) for speaker, text in expected)
