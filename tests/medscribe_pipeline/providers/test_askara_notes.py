"""Askara's notes in our words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.notes import Identifier, NoteState, Practitioner, ScribeNote, stable_id
from medscribe_pipeline.providers import askara
from medscribe_pipeline.providers.records import LandedRecord, ManifestVisit
from medscribe_pipeline.providers.wire import is_rpps, reference_id
from medscribe_pipeline.settings import AskaraSettings
from tests.medscribe_pipeline.providers.mapped import USER, audio, hold_audio, map_note, note

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings

SYSTEM = "https://medscribe-pipeline.github.io/fhir/sid/askara/default"


@pytest.fixture
def ours(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


def test_a_note_says_who_when_and_what(ours: Settings) -> None:
    found = map_note(ours, parent=audio())

    assert found.note_id == stable_id("askara", "default", "n-1", "note")
    assert (found.provider, found.account, found.stream, found.source_id) == ("askara", "default", "notes", "n-1")
    assert (found.state, found.language, found.template) == (NoteState.VALIDATED, "fr", "consultation_summary")
    assert found.attested
    assert [(s.key, s.text) for s in found.sections] == [("CHIEF_COMPLAINT", "toux"), ("PLAN", "Repos")]
    assert found.visit.patient == Identifier(f"{SYSTEM}/patient", "p-1")
    assert found.visit.started_at == datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
    assert found.created_at == datetime(2026, 3, 2, 8, 10, tzinfo=UTC)
    assert found.updated_at == datetime(2026, 3, 2, 8, 20, tzinfo=UTC)
    assert found.transcript == ()


@pytest.mark.parametrize(
    ("step", "state"),
    [
        ("audio_recording", NoteState.DRAFT),
        ("transcription", NoteState.DRAFT),
        ("transcribed", NoteState.DRAFT),
        ("edition", NoteState.DRAFT),
        ("validated", NoteState.VALIDATED),
        ("failed", NoteState.FAILED),
        ("validated_by_machine", NoteState.DRAFT),
        ("", NoteState.DRAFT),
        (None, NoteState.DRAFT),
    ],
)
def test_only_the_step_validated_counts_as_signed_off(ours: Settings, step: str | None, state: NoteState) -> None:
    assert map_note(ours, parent=audio(audioWorkflowStepV3=step)).state is state


@pytest.mark.parametrize(
    ("step", "state", "attested"),
    [
        ("transcribed", NoteState.DRAFT, False),
        ("edition", NoteState.VALIDATED, False),
        ("validated", NoteState.VALIDATED, True),
        ("failed", NoteState.FAILED, False),
        ("edition_by_machine", NoteState.DRAFT, False),
        (None, NoteState.DRAFT, False),
    ],
)
def test_a_setting_may_count_more_steps_as_reviewed_and_attests_none(
    make_settings: Callable[..., Settings], step: str | None, state: NoteState, *, attested: bool
) -> None:
    widened = make_settings(askara=AskaraSettings(reviewed_steps=("edition", "validated")))

    found = map_note(widened, parent=audio(audioWorkflowStepV3=step))

    assert (found.state, found.attested) == (state, attested)


def test_a_note_that_is_signed_off_after_it_was_counted_as_reviewed_is_another_version(
    ours: Settings, make_settings: Callable[..., Settings]
) -> None:
    widened = make_settings(askara=AskaraSettings(reviewed_steps=("edition", "validated")))
    counted, signed = (
        map_note(widened, parent=audio(audioWorkflowStepV3=step)).version for step in ("edition", "validated")
    )

    assert counted != signed
    assert signed == map_note(ours, parent=audio()).version


def test_a_note_whose_audio_is_not_here_is_a_draft(ours: Settings) -> None:
    found = map_note(ours)

    assert found.state is NoteState.DRAFT
    assert found.visit.started_at == datetime(2026, 3, 2, 8, 10, tzinfo=UTC)
    assert found.language is None


@pytest.mark.parametrize("step", ["validated", "failed", "edition"])
@pytest.mark.parametrize("where", ["note", "audio"])
def test_archived_anywhere_is_retracted(ours: Settings, where: str, step: str) -> None:
    at = {"archivedAt": "2026-03-03T00:00:00Z"}
    payload = note(**(at if where == "note" else {}))
    parent = audio(audioWorkflowStepV3=step, **(at if where == "audio" else {}))

    found = map_note(ours, payload, parent)

    assert found.state is NoteState.RETRACTED
    assert not found.attested


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("p-1", "p-1"),
        ("/patients/p-1", "p-1"),
        ("https://api.example/patients/p-1/", "p-1"),
        ({"uuid": "p-1"}, "p-1"),
        ({"@id": "/patients/p-1"}, "p-1"),
        ({"uuid": None, "@id": "/patients/p-1"}, "p-1"),
        ({}, None),
        ({"uuid": 7}, None),
        ("", None),
        (" ", None),
        ("/", None),
        (None, None),
    ],
)
def test_a_reference_is_understood_in_each_form(ours: Settings, written: Any, expected: str | None) -> None:
    assert reference_id(written) == expected

    by_note = map_note(ours, note(patient=written), audio(patient=None)).visit.patient
    by_audio = map_note(ours, note(patient=None), audio(patient=written)).visit.patient

    assert by_note == by_audio == (Identifier(f"{SYSTEM}/patient", expected) if expected else None)


def test_two_patients_are_one_too_many(ours: Settings) -> None:
    with pytest.raises(MedscribeError) as raised:
        map_note(ours, note(patient="p-1"), audio(patient="p-2"))

    assert raised.value.code == "patient_conflict"
    assert "p-1" not in str(raised.value)


def test_the_manifest_speaks_where_the_provider_is_silent(ours: Settings) -> None:
    visit = ManifestVisit(
        patient_id="m-1",
        patient_system="urn:oid:1.2.3",
        practitioner_id="d-1",
        encounter_id="e-1",
        started_at=datetime(2026, 3, 1, 7, 0, tzinfo=UTC),
        ended_at=datetime(2026, 3, 1, 7, 20, tzinfo=UTC),
        language="fr-FR",
        template="letter",
    )

    silent = map_note(ours, note(patient=None, user=None, type=None), audio(patient=None, user=None), visit)
    outspoken = map_note(ours, parent=audio(), visit=visit)

    assert silent.visit.patient == Identifier("urn:oid:1.2.3", "m-1")
    assert silent.visit.practitioner == Practitioner((Identifier(f"{SYSTEM}/practitioner", "d-1"),))
    assert (silent.language, silent.template) == ("fr-FR", "letter")
    assert outspoken.visit.patient == Identifier(f"{SYSTEM}/patient", "p-1")
    assert outspoken.template == "consultation_summary"
    for found in (silent, outspoken):
        assert found.visit.encounter == Identifier(f"{SYSTEM}/encounter", "e-1")
        assert (found.visit.started_at, found.visit.ended_at) == (visit.started_at, visit.ended_at)


def test_the_clinician_is_known_by_person_not_by_place(ours: Settings) -> None:
    found = map_note(ours, note(user=USER), audio(user=None)).visit.practitioner

    assert found == Practitioner(
        identifiers=(
            Identifier(f"{SYSTEM}/practitioner", "u-1"),
            Identifier("https://rpps.esante.gouv.fr", "10101748050"),
        ),
        role_identifiers=(Identifier("https://medscribe-pipeline.github.io/fhir/sid/fr-numero-am", "751234567"),),
        display="Ada Testperson",
    )


@pytest.mark.parametrize(
    ("user", "values"),
    [
        ({"uuid": "u", "rpps": "10101748051"}, ["u"]),
        ({"uuid": "u", "rpps": 10101748050}, ["u"]),
        ({"rpps": "10101748050"}, ["10101748050"]),
        ({"uuid": None, "firstName": " Ada ", "lastName": None}, []),
    ],
)
def test_what_is_no_number_of_a_person_is_left_out(ours: Settings, user: Any, values: list[str]) -> None:
    found = map_note(ours, note(user=user), audio(user=None)).visit.practitioner

    assert found is not None
    assert [identifier.value for identifier in found.identifiers] == values


@pytest.mark.parametrize("user", [None, {}, {"email": "x"}, "/users/u-1", {"uuid": ""}])
def test_a_user_who_says_nothing_is_nobody(ours: Settings, user: Any) -> None:
    assert map_note(ours, note(user=user), audio(user=None)).visit.practitioner is None


@given(st.text("0123456789", min_size=10, max_size=10))
def test_each_rpps_has_exactly_one_key(digits: str) -> None:
    assert sum(is_rpps(f"{digits}{key}") for key in range(10)) == 1


@given(st.text("0123456789", min_size=11, max_size=11), st.integers(0, 10), st.integers(1, 9))
def test_one_wrong_digit_is_noticed(digits: str, place: int, by: int) -> None:
    wrong = f"{digits[:place]}{(int(digits[place]) + by) % 10}{digits[place + 1 :]}"

    assert not (is_rpps(digits) and is_rpps(wrong))


@pytest.mark.parametrize("text", ["", "1010174805", "101017480500", "1010174805O", "١٠١٠١٧٤٨٠٥٠", " 10101748050"])
def test_what_is_no_rpps(text: str) -> None:
    assert not is_rpps(text)


def test_the_version_follows_what_the_note_says_and_nothing_else(ours: Settings) -> None:
    before = map_note(ours, parent=audio())

    assert map_note(ours, parent=audio()).version == before.version
    same = [
        map_note(ours, note(updatedAt="2026-03-09T00:00:00Z"), audio()),
        map_note(ours, parent=audio(updatedAt="2026-03-09T00:00:00Z")),
        map_note(ours, note(someday="new field"), audio(mediaRecorderType="x")),
        map_note(ours, dict(reversed(note().items())), audio(patient="/patients/p-1")),
    ]
    other = [
        map_note(ours, note(content="Motif : fièvre"), audio()),
        map_note(ours, parent=audio(audioWorkflowStepV3="edition")),
        map_note(ours, parent=audio(archivedAt="2026-03-09T00:00:00Z")),
        map_note(ours, note(patient=None), audio(patient=None)),
        map_note(ours, note(type="letter"), audio()),
        map_note(ours, parent=audio(languageSpoken="en")),
        map_note(ours, parent=audio(createdAt="2026-03-02T07:00:00Z")),
        map_note(ours, note(user=None), audio(user=None)),
    ]

    assert {found.version for found in same} == {before.version}
    assert len({found.version for found in (before, *other)}) == len(other) + 1
    assert {found.note_id for found in (*same, *other)} == {before.note_id}


def test_ids_differ_by_account(make_settings: Callable[..., Settings]) -> None:
    assert map_note(make_settings()).note_id != map_note(make_settings(account="other")).note_id


def test_times_without_offset_are_local(make_settings: Callable[..., Settings]) -> None:
    paris = make_settings(timezone="Europe/Paris")

    found = map_note(
        paris,
        note(createdAt="2026-07-01T10:00:00", updatedAt="2026-10-25T02:30:00"),
        audio(createdAt="2026-01-01T10:00:00"),
    )

    assert found.created_at == datetime(2026, 7, 1, 8, 0, tzinfo=UTC)
    assert found.updated_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert found.visit.started_at == datetime(2026, 1, 1, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "changes",
    [{"createdAt": None}, {"updatedAt": "soon"}, {"content": ["text"]}, {"uuid": ""}, {"patient": 7}, {"audio": ["a"]}],
)
def test_what_does_not_fit_is_refused(ours: Settings, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        map_note(ours, note(**changes))


def test_a_note_without_text_says_so(ours: Settings) -> None:
    assert not map_note(ours, note(content=None)).has_text
    assert not map_note(ours, note(content="  \n ")).has_text
    assert map_note(ours, note(content="x")).has_text


@pytest.mark.parametrize(
    "last", ["**Off work for 3 days**", "# Off work for 3 days", "Follow-up (off work for 3 days)"]
)
def test_a_stressed_sentence_is_text_and_no_empty_heading(ours: Settings, last: str) -> None:
    sections = map_note(ours, note(content=f"## Plan\nRest\n\n{last}")).sections
    leaves = [leaf for section in sections for leaf in (section.sections or (section,))]

    assert "ff work for 3 days" in leaves[-1].text


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.text(), step=st.text(max_size=20), kind=st.none() | st.text(max_size=20))
def test_any_text_and_any_new_value_of_an_enum_is_mapped(
    ours: Settings, content: str, step: str, kind: str | None
) -> None:
    found = askara.to_note(
        LandedRecord("notes", "n-1", note(content=content, type=kind), audio(audioWorkflowStepV3=step)), ours
    )

    assert isinstance(found, ScribeNote)
    assert bool(found.sections) == bool(content.strip())
    assert found.template == (kind or None)


@pytest.mark.parametrize(
    ("changes", "children", "code", "part"),
    [
        ({}, 1, "text_in_note", True),
        ({"archivedAt": "2026-03-03T00:00:00Z"}, 1, "text_in_note", True),
        ({"archivedAt": "2026-03-03T00:00:00Z"}, 0, "archived_without_note", False),
        ({"audioWorkflowStepV3": "failed"}, 0, "failed_at_provider", False),
        ({"audioWorkflowStepV3": "transcription"}, 0, "not_transcribed_yet", False),
        ({"audioWorkflowStepV3": "audio_recording"}, 0, "not_transcribed_yet", False),
        ({"audioWorkflowStepV3": "validated"}, 0, "no_note_yet", False),
        ({"audioWorkflowStepV3": "a_new_step"}, 0, "no_note_yet", False),
    ],
)
def test_an_audio_is_no_note_and_says_why(
    ours: Settings, changes: dict[str, Any], children: int, code: str, part: bool
) -> None:
    found = hold_audio(ours, audio(**changes), children)

    assert (found.code, found.part) == (code, part)
