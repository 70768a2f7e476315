"""Nabla for the job ledger: what is planned and sent in each generation of the API, over real HTTP."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from medscribe_pipeline.errors import ConfigError, MedscribeError
from medscribe_pipeline.providers.nabla import open_client, server_url
from medscribe_pipeline.providers.records import ManifestVisit
from medscribe_pipeline.providers.work import Phase, Progress
from medscribe_pipeline.settings import NablaSettings
from tests.medscribe_pipeline.providers.nabla_desk import (
    AUDIO,
    CALLBACK,
    JOB_ID,
    NO_WAREHOUSE,
    RESULT,
    VISIT,
    NablaMaker,
    job_of,
    only,
    reply,
)
from tests.medscribe_pipeline.providers.scripted_server import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings
    from tests.medscribe_pipeline.providers.scripted_server import ScriptedServer


@pytest.fixture
def make_nabla(make_settings: Callable[..., Settings], server: ScriptedServer) -> NablaMaker:
    return NablaMaker(make_settings, server)


# Where and how


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({"api_version": "archived", "callback_url": CALLBACK}, "https://api.nabla.com/v1/copilot-api/server"),
        ({"api_version": "2024-04-22"}, "https://us.api.nabla.com/v1/copilot-api/server"),
        ({"api_version": "2024-10-01", "region": "eu"}, "https://eu.api.nabla.com/v1/core/server"),
        ({"api_version": "2026-06-12"}, "https://us.api.nabla.com/v1/core/server"),
        ({"base_url": "https://proxy.example/nabla", "path_prefix": "/v9/"}, "https://proxy.example/nabla/v9"),
        ({"base_url": "https://proxy.example", "path_prefix": "/"}, "https://proxy.example"),
    ],
)
def test_the_server_follows_from_version_and_region(changes: dict[str, Any], url: str) -> None:
    assert server_url(NablaSettings(token="k", **changes)) == url


def test_the_version_goes_into_a_header_where_it_is_wanted_and_known(make_nabla: NablaMaker) -> None:
    for changes, sent in (
        ({"api_version": "2026-02-20"}, "2026-02-20"),
        ({"api_version": "2026-02-20", "send_version_header": False}, None),
        ({"api_version": "archived"}, None),
    ):
        desk = make_nabla.desk(**changes)
        desk.submit(only(desk.nabla.wanted("v-1", VISIT)), reply(id=JOB_ID))
        assert desk.last[3].get("x-nabla-api-version") == sent
        assert desk.last[3]["authorization"] == "Bearer server-key"


def test_without_credentials_no_client_is_opened(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigError), open_client(make_settings(), NO_WAREHOUSE):
        pytest.fail("opened")


# Planning


def test_a_visit_without_recording_is_no_work(make_nabla: NablaMaker) -> None:
    assert make_nabla().wanted("v-1", ManifestVisit(patient_id="P1")) == []


def test_planning_is_the_same_every_time(make_nabla: NablaMaker) -> None:
    assert make_nabla().wanted("v-1", VISIT) == make_nabla().wanted("v-1", VISIT)


@pytest.mark.parametrize(
    ("visit", "code"),
    [
        (ManifestVisit(audio_path="/srv/visit-1.wav"), "audio_path"),
        (ManifestVisit(audio_url="http://media.hospital.example/1.wav"), "audio_url_scheme"),
        (ManifestVisit(audio_url="https://10.0.0.7/1.wav"), "audio_url_private"),
        (ManifestVisit(audio_url="https://u:p@media.hospital.example/1.wav"), "audio_url_credentials"),
        (ManifestVisit(audio_url=AUDIO, language="tlh"), "language"),
        (ManifestVisit(audio_url=AUDIO, section_style="sonnet"), "section_style"),
    ],
)
def test_what_cannot_be_done_is_refused_when_planned(make_nabla: NablaMaker, visit: ManifestVisit, code: str) -> None:
    with pytest.raises(MedscribeError) as caught:
        make_nabla().wanted("v-1", visit)

    assert caught.value.code == code
    assert "hospital" not in str(caught.value)


def test_the_archived_api_knows_five_languages(make_nabla: NablaMaker) -> None:
    nabla = make_nabla(api_version="archived")
    asked = {
        tag: only(nabla.wanted("v", dataclasses.replace(VISIT, language=tag))).request["body"]
        for tag in ("en", "fr", "en-US", "en-GB", "fr-FR", "es-ES", "es-MX")
    }

    assert [body["language"] for body in asked.values()] == [
        "en-US",
        "fr-FR",
        "en-US",
        "en-GB",
        "fr-FR",
        "es-ES",
        "es-MX",
    ]
    # Notes in Spanish are not supported: the transcript alone is asked for.
    assert [tag for tag, body in asked.items() if body["output_objects"] == ["transcript_item"]] == ["es-ES", "es-MX"]
    with pytest.raises(MedscribeError):
        nabla.wanted("v", dataclasses.replace(VISIT, language="de-DE"))


# listen_async


def test_listen_asks_for_everything_documented(make_nabla: NablaMaker) -> None:
    desk = make_nabla.desk(
        api_version="archived", section_style="paragraphs", split_by_sentence=True, template="GENERIC_SOAP"
    )
    spec = only(desk.nabla.wanted("v-1", dataclasses.replace(VISIT, split_by_problem=True)))

    progress = desk.submit(spec, reply(request_id=JOB_ID, client_request_id="ours-listen"))

    assert (spec.step, progress) == ("listen", Progress(Phase.RUNNING, JOB_ID))
    assert desk.last[:3] == (
        "POST",
        "/v1/copilot-api/server/listen_async",
        {
            "output_objects": ["transcript_item", "note"],
            "language": "en-US",
            "split_by_sentence": True,
            "section_style": "paragraphs",
            "split_by_problem": True,
            "note_template": "SOAP",
            "file_url": AUDIO,
            "callback_url": CALLBACK,
            "client_request_id": "ours-listen",
        },
    )


def test_only_english_is_split_by_problem(make_nabla: NablaMaker) -> None:
    nabla = make_nabla(api_version="archived", split_by_problem=True)
    split = {
        tag: only(nabla.wanted("v", dataclasses.replace(VISIT, language=tag))).request["body"]["split_by_problem"]
        for tag in ("en-US", "en-GB", "fr-FR")
    }

    assert split == {"en-US": True, "en-GB": True, "fr-FR": False}


def test_another_callback_url_is_no_other_job(make_nabla: NablaMaker) -> None:
    other = "https://new.hospital.example/callbacks/nabla"

    moved = make_nabla(api_version="archived", callback_url=other).wanted("v-1", VISIT)

    assert moved == make_nabla(api_version="archived").wanted("v-1", VISIT)
    assert "callback_url" not in only(moved).request["body"]


def test_listen_is_never_asked_after(make_nabla: NablaMaker) -> None:
    desk = make_nabla.desk(api_version="archived")
    spec = only(desk.nabla.wanted("v-1", VISIT))

    assert desk.poll(spec, Reply(500)) == Progress(Phase.RUNNING, JOB_ID)
    assert desk.server.seen == []


def test_listen_runs_even_when_its_answer_is_empty(make_nabla: NablaMaker) -> None:
    desk = make_nabla.desk(api_version="archived")
    spec = only(desk.nabla.wanted("v-1", VISIT))

    assert desk.submit(spec, Reply(204, body=b"")) == Progress(Phase.RUNNING)
    assert desk.submit(spec, reply(message="accepted")) == Progress(Phase.RUNNING)


def test_a_result_at_once_is_a_result(make_nabla: NablaMaker) -> None:
    desk = make_nabla.desk(api_version="archived")
    body = {"request_id": JOB_ID, "note": {"title": "Cold", "sections": []}}

    progress = desk.submit(only(desk.nabla.wanted("v-1", VISIT)), Reply(299, body=orjson.dumps(body)))

    assert progress == Progress(Phase.DONE, JOB_ID, result=body)


# transcribe-async and generate-note-async

VERSIONS: dict[str, dict[str, Any]] = {
    "2024-04-22": {
        "prefix": "/v1/copilot-api/server",
        "speaker": "speaker",
        "names": ["doctor", "unspecified", "unspecified", "patient"],
        "note": {"note_locale": "en-GB", "note_template": "SOAP"},
    },
    "2024-10-01": {
        "prefix": "/v1/core/server",
        "speaker": "speaker_type",
        "names": ["DOCTOR", "UNSPECIFIED", "UNSPECIFIED", "PATIENT"],
        "note": {"note_locale": "ENGLISH_UK", "note_template": "GENERIC_SOAP"},
    },
    "2026-02-20": {
        "prefix": "/v1/core/server",
        "speaker": "speaker_type",
        "names": ["DOCTOR", "UNSPECIFIED", "UNSPECIFIED", "PATIENT"],
        "note": {
            "note_locale": "ENGLISH_UK",
            "note_template_key": "GENERIC_SOAP",
            "note_sections_customization": [
                {"section_key": "SUBJECTIVE", "style": "BULLET_POINTS", "split_by_problem": True},
                {"section_key": "OBJECTIVE", "style": "BULLET_POINTS"},
                {"section_key": "ASSESSMENT", "style": "BULLET_POINTS"},
                {"section_key": "PLAN", "style": "BULLET_POINTS"},
            ],
        },
    },
}
VERSIONS["2025-05-07"] = VERSIONS["2024-10-01"]
VERSIONS["2026-06-12"] = VERSIONS["2026-02-20"]
STYLED = dataclasses.replace(
    VISIT, language="en-GB", template="soap", section_style="bullet_points", split_by_problem=True
)


@pytest.mark.parametrize("version", sorted(VERSIONS))
def test_a_recording_becomes_a_transcript_and_a_note_in_every_generation(make_nabla: NablaMaker, version: str) -> None:
    expected = VERSIONS[version]
    desk = make_nabla.desk(api_version=version)
    transcribe = only(desk.nabla.wanted("v-1", STYLED))

    progress = desk.submit(transcribe, reply(id=JOB_ID, status="ongoing"))

    assert (transcribe.step, progress) == ("transcribe", Progress(Phase.RUNNING, JOB_ID))
    assert desk.last[:3] == (
        "POST",
        f"{expected['prefix']}/transcribe-async",
        {
            "speech_locale": "ENGLISH_UK",
            "file_url": AUDIO,
            "split_by_sentence": False,
            "client_request_id": "ours-transcribe",
        },
    )
    done = desk.poll(transcribe, Reply(body=orjson.dumps(RESULT)))
    assert done == Progress(Phase.DONE, JOB_ID, result=RESULT)
    assert desk.last[:2] == ("GET", f"{expected['prefix']}/transcribe-async/{JOB_ID}")

    note = only(desk.nabla.follow_up(job_of(transcribe), done.result or {}))
    desk.submit(note, reply(id=JOB_ID, status="ONGOING"))

    assert (note.correlation_key, note.step) == ("v-1", "note")
    words = ["What is wrong?", "Fever.", "Since when?", "And I cough."]
    items = [{"text": text, expected["speaker"]: name} for text, name in zip(words, expected["names"], strict=True)]
    body = {**expected["note"], "transcript_items": items, "client_request_id": "ours-note"}
    assert desk.last[:3] == ("POST", f"{expected['prefix']}/generate-note-async", body)
    assert desk.poll(note, reply(id=JOB_ID, status="Ongoing")).phase is Phase.RUNNING
    assert desk.last[:2] == ("GET", f"{expected['prefix']}/generate-note-async/{JOB_ID}")


def test_a_job_is_planned_with_what_its_visit_and_the_settings_say(
    make_nabla: NablaMaker,
) -> None:
    nabla = make_nabla(language="fr", template="cardiology", split_by_sentence=True)

    by_settings, by_visit = only(nabla.wanted("v", VISIT)), only(nabla.wanted("v", STYLED))

    assert by_settings.request["body"]["speech_locale"] == "FRENCH_FR"
    assert by_settings.request["body"]["split_by_sentence"] is True
    assert by_settings.request["note"] == {
        "note_locale": "FRENCH_FR",
        "note_template": "CARDIOLOGY_MULTIPLE_SECTIONS",
    }
    assert by_visit.request["note"] == {"note_locale": "ENGLISH_UK", "note_template": "GENERIC_SOAP"}


def test_a_note_is_asked_for_only_in_languages_it_is_offered_in(
    make_nabla: NablaMaker,
) -> None:
    german = dataclasses.replace(VISIT, language="de")
    early, late = make_nabla(api_version="2024-10-01"), make_nabla(api_version="2025-05-07")

    assert only(early.wanted("v", german)).request["note"] is None
    assert only(late.wanted("v", german)).request["note"]["note_locale"] == "GERMAN_DE"


def test_no_note_follows_where_none_is_wanted_or_possible(make_nabla: NablaMaker) -> None:
    nabla = make_nabla()
    transcribe = job_of(only(nabla.wanted("v", VISIT)))
    silent = make_nabla(make_notes=False)

    assert nabla.follow_up(transcribe, {"status": "succeeded", "payload": {}}) == ()
    assert nabla.follow_up(transcribe, {"transcript": [{"text": "  "}]}) == ()
    assert nabla.follow_up(transcribe, {"transcript": "not a list"}) == ()
    assert nabla.follow_up(job_of(only(silent.wanted("v", VISIT))), RESULT) == ()
    note = only(nabla.follow_up(transcribe, RESULT))
    assert nabla.follow_up(job_of(note), RESULT) == ()


def test_turns_without_offset_stay_where_they_were_said(make_nabla: NablaMaker) -> None:
    nabla = make_nabla()
    turns = [("c", 30), ("d", None), ("a", 10), ("b", None), ("e", 40)]
    result = {"transcript": [{"text": text, "start_offset_ms": start} for text, start in turns]}

    note = only(nabla.follow_up(job_of(only(nabla.wanted("v", VISIT))), result))

    assert [turn["text"] for turn in note.request["transcript"]] == ["a", "b", "c", "d", "e"]


def test_the_submit_path_can_be_spelled_otherwise(make_nabla: NablaMaker) -> None:
    desk = make_nabla.desk(submit_path="/transcribe_async")
    spec = only(desk.nabla.wanted("v-1", VISIT))

    desk.submit(spec, reply(id=JOB_ID, status="ONGOING"))
    assert desk.last[1] == "/v1/core/server/transcribe_async"
    desk.poll(spec, reply(id=JOB_ID, status="ONGOING"))
    assert desk.last[1] == f"/v1/core/server/transcribe-async/{JOB_ID}"
