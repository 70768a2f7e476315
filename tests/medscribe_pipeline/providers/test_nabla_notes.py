"""Landed results of Nabla into notes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medscribe_pipeline.fhir.sections import default_mapping
from medscribe_pipeline.notes import NoteSection, NoteState, ScribeNote, TranscriptTurn, stable_id
from medscribe_pipeline.providers.nabla import to_notes
from medscribe_pipeline.providers.records import Held, LandedRecord, ManifestVisit
from medscribe_pipeline.settings import NablaSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings

FIRST_KEYS = [
    "ALLERGIES",
    "APPOINTMENTS",
    "ASSESSMENT",
    "ASSESSMENT_AND_PLAN",
    "CARDIOVASCULAR_RISKS",
    "CHIEF_COMPLAINT",
    "CURRENT_MEDICATIONS",
    "DIET_APPOINTMENTS",
    "DIET_CHIEF_COMPLAINT",
    "DIET_HABITS",
    "DIET_LIFESTYLE",
    "DIET_MEDICAL_HISTORY",
    "DIET_OBJECTIVES",
    "DIET_VITALS",
    "FAMILY_HISTORY",
    "HISTORY_OF_PRESENT_ILLNESS",
    "IMAGING_RESULTS",
    "IMMUNIZATIONS",
    "LAB_RESULTS",
    "MENTAL_HEALTH_EXAM",
    "MENTAL_HEALTH_HISTORY",
    "PAST_MEDICAL_HISTORY",
    "PAST_OBSTETRIC_HISTORY",
    "PAST_SURGICAL_HISTORY",
    "PHYSICAL_EXAM",
    "PLAN",
    "PRESCRIPTION",
    "PSYCHOLOGY_HISTORY_OF_COMPLAINT",
    "SOAP_ASSESSMENT",
    "SOAP_OBJECTIVE",
    "SOAP_PLAN",
    "SOAP_SUBJECTIVE",
    "SOCIAL_HISTORY",
    "VITALS",
    "WELL_CHILD_CARE",
]
LATER_KEYS = [
    "CARDIOVASCULAR_RISK_FACTORS",
    "FOOD_HABITS",
    "LIFESTYLE",
    "OBJECTIVES_AND_ADVICE",
    "HISTORY_OF_PRESENT_COMPLAINT",
    "OBJECTIVE",
    "SUBJECTIVE",
    "REVIEW_OF_SYSTEMS",
    "DIAGNOSTIC_TESTS_ORDERED",
]
STARTED = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LISTEN = {
    "body": {"output_objects": ["transcript_item", "note"], "language": "en-GB", "note_template": "GENERAL_MEDICINE"}
}
TURNS = [{"text": "Hello.", "speaker_type": "DOCTOR", "start_offset_ms": 65100, "end_offset_ms": 69300}]
NOTE = {"title": "Cold", "sections": [{"key": "plan", "title": "Plan", "text": " Rest.\n"}]}


def landed(result: Any, step: str = "listen", request: Any = None, visit: ManifestVisit | None = None) -> LandedRecord:
    payload = {
        "job_key": f"v-1/{step}",
        "correlation_key": "v-1",
        "step": step,
        "client_request_id": "ours",
        "request": LISTEN if request is None else request,
        "result": result,
    }
    return LandedRecord(stream="results", source_id=f"v-1/{step}", payload=payload, visit=visit)


def mapped(record: LandedRecord, settings: Settings) -> ScribeNote:
    notes = to_notes(record, settings)
    assert isinstance(notes, tuple)
    (note,) = notes
    return note


def test_a_result_becomes_a_note_with_its_transcript(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    visit = ManifestVisit(patient_id="P1", encounter_id="E1", started_at=STARTED, template="SOAP", language="fr-FR")

    note = mapped(landed({"request_id": "j", "transcript": TURNS, "note": NOTE}, visit=visit), settings)

    assert note.note_id == stable_id("nabla", "default", "v-1", "note")
    assert (note.provider, note.stream, note.source_id, note.kind) == ("nabla", "results", "v-1/listen", "note")
    assert (note.title, note.state) == ("Cold", NoteState.DRAFT)
    assert note.sections == (NoteSection("PLAN", "Plan", " Rest.\n"),)
    assert note.transcript == (TranscriptTurn("Hello.", "doctor", 65100, 69300),)
    # What was asked for, not what the manifest has come to say since.
    assert (note.language, note.template) == ("en-GB", "GENERAL_MEDICINE")
    assert note.visit.patient is not None
    assert note.visit.patient.value == "P1"
    assert note.created_at == STARTED


def test_a_note_made_of_a_transcript_brings_it_along(make_settings: Callable[..., Settings]) -> None:
    request = {
        "body": {"note_locale": "FRENCH_FR", "note_template_key": "GENERIC_SOAP"},
        "transcript": [{"text": "Bonjour.", "speaker": "DOCTOR", "start_offset_ms": 5, "end_offset_ms": None}],
    }

    note = mapped(
        landed({"id": "j", "status": "SUCCEEDED", "payload": {"note": NOTE}}, "note", request), make_settings()
    )

    assert note.transcript == (TranscriptTurn("Bonjour.", "doctor", 5, None),)
    assert (note.language, note.template) == ("fr-FR", "GENERIC_SOAP")
    assert note.note_id == stable_id("nabla", "default", "v-1", "note")


def test_only_the_one_who_runs_it_can_say_that_notes_are_reviewed(make_settings: Callable[..., Settings]) -> None:
    record = landed({"note": NOTE})
    draft = mapped(record, make_settings())
    reviewed = mapped(record, make_settings(nabla=NablaSettings(reviewed=True)))

    assert (draft.state, reviewed.state) == (NoteState.DRAFT, NoteState.VALIDATED)
    assert draft.version != reviewed.version


def test_the_version_follows_the_content(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    one = mapped(landed({"note": NOTE, "transcript": TURNS}), settings)

    assert one.version == mapped(landed({"payload": {"note": NOTE, "transcript": TURNS}}), settings).version
    assert one.version != mapped(landed({"note": {**NOTE, "title": "Flu"}, "transcript": TURNS}), settings).version


def test_all_documented_keys_have_a_code() -> None:
    assert len(FIRST_KEYS) == 35
    assert set(FIRST_KEYS) | set(LATER_KEYS) <= default_mapping().known_keys()


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
sections = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from([*FIRST_KEYS, *LATER_KEYS]) | st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True),
            "title": text,
            "text": text,
        }
    ),
    min_size=1,
    max_size=8,
)


def test_sections_arrive_unharmed_and_in_order(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()

    @given(sections, st.booleans(), st.booleans())
    @hypothesis_settings(max_examples=80, deadline=None)
    def check(wire: list[dict[str, str]], small: bool, nested: bool) -> None:
        sent = [{**section, "key": section["key"].lower() if small else section["key"]} for section in wire]
        result = {"note": {"sections": sent}} if nested else {"payload": {"sections": sent}}

        note = mapped(landed(result), settings)

        assert [(found.key, found.title, found.text) for found in note.sections] == [
            (section["key"], section["title"], section["text"]) for section in wire
        ]

    check()
    everything = [{"key": key, "title": key.title(), "text": "x"} for key in [*FIRST_KEYS, *LATER_KEYS, "BESPOKE"]]
    note = mapped(landed({"note": {"sections": everything}}), settings)
    assert [section.key for section in note.sections] == [*FIRST_KEYS, *LATER_KEYS, "BESPOKE"]


def test_a_section_without_key_title_or_text_is_kept(make_settings: Callable[..., Settings]) -> None:
    wire = [{"key": None, "title": None, "text": None}, {"text": "Words."}, {"key": " ", "text": "More."}]

    note = mapped(landed({"note": {"sections": wire}}), make_settings())

    assert note.sections == (
        NoteSection(None, None, ""),
        NoteSection(None, None, "Words."),
        NoteSection(None, None, "More."),
    )


@pytest.mark.parametrize(
    ("request_body", "nested"),
    [
        ({"split_by_problem": True}, 2),
        ({"split_by_problem": False}, 0),
        ({"note_sections_customization": [{"section_key": "SUBJECTIVE", "split_by_problem": True}]}, 2),
        ({"note_sections_customization": [{"section_key": "PLAN", "style": "PARAGRAPH"}]}, 0),
        ({}, 0),
    ],
)
def test_problems_become_sections_where_that_was_asked_for(
    make_settings: Callable[..., Settings], request_body: dict[str, Any], nested: int
) -> None:
    wire = [{"key": "SUBJECTIVE", "title": "S", "text": "## Cough\nDry.\n## Fever\nSince Monday."}]

    note = mapped(landed({"note": {"sections": wire}}, request={"body": request_body}), make_settings())

    assert len(note.sections[0].sections) == nested


@pytest.mark.parametrize(
    ("step", "request_data", "result", "held"),
    [
        ("transcribe", {"body": {}, "note": {"note_locale": "en-US"}}, {"transcript": TURNS}, "text_in_note"),
        ("transcribe", {"body": {}}, {"transcript": TURNS}, "text_in_note"),
        ("transcribe", {"body": {}, "note": {"note_locale": "en-US"}}, {"payload": {}}, "empty_transcript"),
        ("transcribe", {"body": {}, "note": None}, {"transcript": TURNS}, "note_language"),
        ("listen", {"body": {"output_objects": ["transcript_item"]}}, {"transcript": TURNS}, "note_language"),
        ("listen", LISTEN, {"transcript": TURNS}, "no_note"),
        ("note", {"body": {}, "transcript": []}, {"status": "succeeded"}, "no_note"),
    ],
)
def test_a_result_without_note_says_why(
    make_settings: Callable[..., Settings], step: str, request_data: dict[str, Any], result: dict[str, Any], held: str
) -> None:
    assert to_notes(landed(result, step, request_data), make_settings()) == Held(held, part=held == "text_in_note")


@pytest.mark.parametrize(
    ("step", "request_data"),
    [("transcribe", {"body": {}, "note": None}), ("listen", {"body": {"output_objects": ["transcript_item"]}})],
)
def test_a_transcript_that_was_all_that_was_wanted_is_held(
    make_settings: Callable[..., Settings], step: str, request_data: dict[str, Any]
) -> None:
    settings = make_settings(nabla=NablaSettings(make_notes=False))

    assert to_notes(landed({"transcript": TURNS}, step, request_data), settings) == Held("transcript_only")


def test_what_cannot_be_read_is_an_error_without_its_content(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(ValidationError) as caught:
        to_notes(landed({"note": {"title": "Zoe Testpatient", "sections": "Zoe Testpatient"}}), make_settings())

    assert "Testpatient" not in str(caught.value)
