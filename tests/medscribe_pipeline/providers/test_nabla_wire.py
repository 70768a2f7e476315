"""What answers and callbacks say, in every documented shape."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medscribe_pipeline.notes import NoteSection
from medscribe_pipeline.providers.nabla_wire import SectionWire, hear, read_result, to_section
from medscribe_pipeline.providers.work import Phase

JOB = "98FCE1EF-DBCA-41EF-8BC7-4D1621AC07C6"
TURN = {"text": "I take aspirin.", "speaker": "patient", "start_offset_ms": 10, "end_offset_ms": 900}
SECTIONS = [{"key": "PLAN", "title": "Plan", "text": "Rest."}]
NOTE = {"title": "Cold", "sections": SECTIONS}


def phase_of(message: dict[str, Any], *, pushed: bool = False) -> Phase | None:
    heard = hear(message, pushed=pushed)
    return heard.progress.phase if heard.progress else None


def code_of(message: dict[str, Any]) -> str | None:
    heard = hear({"id": JOB, **message}, pushed=True)
    assert heard.progress is not None
    assert heard.progress.phase is Phase.FAILED
    assert heard.progress.result is None
    return heard.progress.code


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        ("ongoing", Phase.RUNNING),
        ("ONGOING", Phase.RUNNING),
        ("failed", Phase.FAILED),
        ("FAILED", Phase.FAILED),
        ("succeeded", Phase.DONE),
        (" Succeeded ", Phase.DONE),
        ("queued", Phase.UNRECOGNISED),
    ],
)
def test_a_status_counts_in_either_case(word: str, phase: Phase) -> None:
    assert phase_of({"id": JOB, "status": word}) is phase


@pytest.mark.parametrize(
    "message",
    [
        {"transcript": [TURN], "note": NOTE},
        {"payload": {"transcript": [TURN], "note": NOTE}},
        {"status": "succeeded", "payload": {"transcript": [TURN], "note": NOTE}},
        {"status": "SUCCEEDED", "payload": {"transcript": [TURN], "title": "Cold", "sections": SECTIONS}},
        {"transcript": [TURN], "title": "Cold", "sections": SECTIONS},
        {"data": {"transcript": [TURN], "note": NOTE}},
        {"data": {"payload": {"transcript_items": [TURN], "note": NOTE}}},
    ],
)
def test_a_result_is_found_wherever_it_is(message: dict[str, Any]) -> None:
    message = {"request_id": JOB, "client_request_id": "ours", **message}

    heard = hear(message)

    assert (heard.vendor_job_id, heard.client_request_id) == (JOB, "ours")
    assert heard.progress is not None
    assert (heard.progress.phase, heard.progress.result) == (Phase.DONE, message)
    result = read_result(message)
    assert result.transcript is not None
    assert result.transcript[0].to_turn().end_offset_ms == 900
    assert result.note is not None
    assert (result.note.title, result.note.sections[0].text) == ("Cold", "Rest.")


def test_a_webhook_names_the_job_and_not_the_event() -> None:
    job = {"id": JOB, "client_request_id": "ours", "status": "SUCCEEDED", "payload": {"transcript": [TURN]}}
    event = {"id": "evt-1", "type": "transcription.succeeded", "created_at": "2026-03-02T09:30:00Z", "data": job}

    heard = hear(event)

    assert (heard.vendor_job_id, heard.client_request_id) == (JOB, "ours")
    assert heard.progress is not None
    assert heard.progress.result == job
    assert read_result(event) == read_result(job)


@pytest.mark.parametrize("code", [422, "422", 83005])
@pytest.mark.parametrize("name", ["code", "status", "status_code"])
@pytest.mark.parametrize("text", ["message", "error_message"])
def test_an_error_has_its_code_wherever_it_is(code: int | str, name: str, text: str) -> None:
    error = {name: code, text: "The recording of Zoe Testpatient is too short."}

    assert {
        code_of(error),
        code_of({"error": error}),
        code_of({"payload": error}),
        code_of({"payload": {"error": error}}),
        code_of({"transcript": [], **error}),
        code_of({"transcript": None, "note": None, **error}),
    } == {str(code)}
    if name != "status":
        assert code_of({"status": "failed", **error}) == str(code)
    assert code_of({"status": "FAILED", "payload": error}) == str(code)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"status": "failed"}, "failed"),
        ({"status": "failed", "payload": {"code": "Zoe Testpatient was too quiet"}}, "failed"),
        ({"status": "failed", "payload": {"code": None, "name": "NOTE_TOO_SHORT"}}, "NOTE_TOO_SHORT"),
        ({"status": "failed", "payload": {"code": 12}}, "12"),
        ({"status": "failed", "code": 500, "payload": {"code": 422}}, "422"),
        ({"error": "too short"}, "failed"),
        ({"error_message": "too short"}, "failed"),
        ({"message": "too short"}, "failed"),
    ],
)
def test_a_failure_without_a_plain_code_is_a_failure_all_the_same(message: dict[str, Any], code: str) -> None:
    assert code_of(message) == code


@pytest.mark.parametrize(
    ("message", "phase"),
    [
        ({}, None),
        ({"message": "accepted"}, None),
        ({"transcript": None, "note": None, "error": None, "code": None}, None),
        ({"code": 200, "transcript": [TURN]}, Phase.DONE),
        ({"code": 0, "message": "ok", "transcript": []}, Phase.DONE),
        ({"code": 422, "transcript": [TURN]}, Phase.FAILED),
        ({"code": 422, "note": NOTE}, Phase.DONE),
    ],
)
def test_without_a_status_the_content_decides(message: dict[str, Any], phase: Phase | None) -> None:
    assert phase_of({"request_id": JOB, **message}) is phase


def test_a_transcript_item_is_read_in_both_spellings() -> None:
    items = [
        {"text": "Hello.", "speaker": "Doctor", "start_offset_ms": 0, "end_offset_ms": 900},
        {"text": "Hello.", "speaker_type": "PATIENT", "start_offset_ms": 65100.0, "end_offset_ms": "69300"},
        {"text": "Hm.", "speaker": "UNSPECIFIED", "start_time_ms": 1, "end_time_ms": 2},
        {"text": None},
    ]

    turns = [turn.to_turn() for turn in read_result({"transcript": items}).transcript or []]

    assert [(turn.speaker, turn.start_offset_ms, turn.end_offset_ms) for turn in turns] == [
        ("doctor", 0, 900),
        ("patient", 65100, 69300),
        ("unspecified", 1, 2),
        (None, None, None),
    ]


@pytest.mark.parametrize(
    ("result", "field"),
    [
        ({"transcript": "Zoe Testpatient said"}, "transcript"),
        ({"transcript": [{"speaker": "doctor"}]}, "transcript.0.text"),
        ({"note": {"title": "Zoe Testpatient"}}, "note.sections"),
        ({"note": {"sections": [{"key": "PLAN", "text": {"Zoe": "Testpatient"}}]}}, "note.sections.0.text"),
    ],
)
def test_what_is_not_documented_is_refused_by_field_and_without_its_content(result: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read_result(result)

    assert ".".join(map(str, caught.value.errors(include_input=False)[0]["loc"])) == field
    assert "Testpatient" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "request_id",
                    "type",
                    "status",
                    "code",
                    "error",
                    "payload",
                    "data",
                    "note",
                    "transcript",
                    "sections",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["id", "type", "status", "error", "payload", "data", "note"]), json_values))
@settings(max_examples=150, deadline=None)
def test_no_message_whatever_makes_reading_fail(message: dict[str, Any]) -> None:
    heard = hear(message, pushed=True)

    assert heard.progress is None or (heard.progress.phase is Phase.DONE) == (heard.progress.result is not None)


# Subsections by problem

BY_PROBLEM = "# Headache\nSince Monday.\n\n- worse at night\n\n# Low back pain\nAfter lifting."


@pytest.mark.parametrize("key", ["HISTORY_OF_PRESENT_ILLNESS", "soap_subjective", "SUBJECTIVE"])
def test_headings_of_one_level_become_sections_where_they_were_asked_for(key: str) -> None:
    section = to_section(SectionWire(key=key, title="History", text=BY_PROBLEM), split=True)

    assert section == NoteSection(
        key.upper(),
        "History",
        "",
        (
            NoteSection(None, "Headache", "Since Monday.\n\n- worse at night"),
            NoteSection(None, "Low back pain", "After lifting."),
        ),
    )


def test_text_before_the_first_heading_stays_with_its_section() -> None:
    section = to_section(SectionWire(key="SUBJECTIVE", text=f"Two problems.\r\n{BY_PROBLEM}"), split=True)

    assert (section.text, len(section.sections)) == ("Two problems.", 2)


@pytest.mark.parametrize(
    ("key", "text", "split"),
    [
        ("SUBJECTIVE", BY_PROBLEM, False),
        ("PLAN", BY_PROBLEM, True),
        (None, BY_PROBLEM, True),
        ("SUBJECTIVE", "# Headache\nSince Monday.", True),
        ("SUBJECTIVE", "# Headache\n\n# Back pain\nAfter lifting.", True),
        ("SUBJECTIVE", "# Headache\nMonday.\n## Back pain\nAfter lifting.", True),
        ("SUBJECTIVE", "#\nMonday.\n#\nAfter lifting.", True),
        ("SUBJECTIVE", "Headache\n---\nMonday.\n\nBack pain\n---\nLifting.", True),
        ("SUBJECTIVE", "> # Headache\n> Monday.\n>\n> # Back pain\n> Lifting.", True),
        ("SUBJECTIVE", "**Headache**\nMonday.\n\n**Back pain**\nLifting.", True),
        ("SUBJECTIVE", "#1 Headache\nMonday.\n#2 Back pain\nLifting.", True),
        ("SUBJECTIVE", "    # not a heading\n    # but code", True),
    ],
)
def test_everything_else_stays_one_text(key: str | None, text: str, split: bool) -> None:
    assert to_section(SectionWire(key=key, text=text), split=split) == NoteSection(key, None, text)


@given(st.lists(st.sampled_from(["# A", "## B", "text", "", "- # x", "```", "#"]) | st.text(max_size=12), max_size=10))
@settings(max_examples=150, deadline=None)
def test_no_word_is_lost_by_splitting(lines: list[str]) -> None:
    text = "\n".join(lines)

    section = to_section(SectionWire(key="SUBJECTIVE", text=text), split=True)

    kept = section.text + "".join(f"{inner.title}{inner.text}" for inner in section.sections)
    for mark in "#\r\n \t":
        kept, text = kept.replace(mark, ""), text.replace(mark, "")
    assert kept == text
