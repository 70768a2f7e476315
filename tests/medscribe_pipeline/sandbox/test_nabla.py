from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import MARKERS, JobOptions, NablaOptions, Sandbox
from medscribe_pipeline.sandbox.nabla_content import NEW_KEYS, NEW_TEMPLATES, TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

OLD, NEW = "/v1/copilot-api/server", "/v1/core/server"
AUDIO = "https://audio.example.invalid"
G1, G2, G4 = ({"x-nabla-api-version": version} for version in ("2024-04-22", "2024-10-01", "2026-06-12"))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(jobs=JobOptions(steps=2)) as running:
        yield running


@pytest.fixture
def nabla(sandbox: Sandbox, clients: Callable[[Sandbox, str], httpx.Client]) -> httpx.Client:
    return clients(sandbox, "nabla")


def _transcribe(nabla: httpx.Client, name: str, **body: Any) -> httpx.Response:
    return nabla.post(
        f"{NEW}/transcribe-async", json={"speech_locale": "ENGLISH_US", "file_url": f"{AUDIO}/{name}", **body}
    )


def _note(nabla: httpx.Client, template: str = "GENERIC_SOAP", headers: dict[str, str] = G2, **body: Any) -> Any:
    """The note of a job, once it has one."""
    wanted = {
        "note_locale": "ENGLISH_US",
        "note_template": template,
        "transcript_items": [{"text": "qxcanary[visit.wav]", "speaker_type": "PATIENT"}],
        **body,
    }
    asked = nabla.post(f"{NEW}/generate-note-async", json=wanted, headers=headers)
    assert asked.status_code == 200, asked.text
    return _ask(nabla, "generate-note-async", asked.json()["id"], 2, headers=headers)[-1]


def _ask(nabla: httpx.Client, path: str, key: str, times: int, **kwargs: Any) -> list[Any]:
    return [nabla.get(f"{NEW}/{path}/{key}", **kwargs).json() for _ in range(times)]


@pytest.mark.parametrize(
    ("prefix", "headers", "statuses", "speaker"),
    [
        (OLD, G1, ("ongoing", "succeeded"), ("speaker", "doctor")),
        (NEW, G2, ("ONGOING", "SUCCEEDED"), ("speaker_type", "DOCTOR")),
        (NEW, {}, ("ONGOING", "SUCCEEDED"), ("speaker_type", "DOCTOR")),
        # As with the vendor, a header spelled like the query parameter is ignored.
        (NEW, {"nabla-api-version": "2024-04-22"}, ("ONGOING", "SUCCEEDED"), ("speaker_type", "DOCTOR")),
    ],
)
def test_a_transcription_in_the_spelling_of_each_generation(
    nabla: httpx.Client, prefix: str, headers: dict[str, str], statuses: tuple[str, str], speaker: tuple[str, str]
) -> None:
    body = {"speech_locale": "ENGLISH_US", "file_url": f"{AUDIO}/visit-1.wav"}

    first = nabla.post(f"{prefix}/transcribe-async", json=body, headers=headers).json()
    answers = [nabla.get(f"{prefix}/transcribe-async/{first['id']}").json() for _ in range(2)]

    item = answers[1]["payload"]["transcript"][0]
    assert first == {"id": first["id"], "status": statuses[0]}
    assert [answer["status"] for answer in answers] == list(statuses)
    assert "payload" not in answers[0]
    assert item[speaker[0]] == speaker[1]
    assert item["end_offset_ms"] > item["start_offset_ms"] >= 0
    assert any(marker in item["text"] for marker in MARKERS)


def test_the_version_may_be_a_query_parameter_and_the_path_have_an_underscore(nabla: httpx.Client) -> None:
    body = {"speech_locale": "FRENCH_FR", "file_url": f"{AUDIO}/visit-1.wav"}

    answer = nabla.post(f"{NEW}/transcribe_async", params={"nabla-api-version": "2024-04-22"}, json=body)

    assert answer.json()["status"] == "ongoing"


def test_sentences_can_be_items(nabla: httpx.Client) -> None:
    whole = _transcribe(nabla, "visit-1.wav").json()["id"]
    split = _transcribe(nabla, "visit-1.wav", split_by_sentence=True).json()["id"]

    counts = [len(_ask(nabla, "transcribe-async", key, 2)[1]["payload"]["transcript"]) for key in (whole, split)]

    assert counts[1] > counts[0]


def test_a_failure_is_data_under_200(nabla: httpx.Client) -> None:
    key = _transcribe(nabla, "visit-1-failed.wav", client_request_id="failed-1").json()["id"]

    answer = nabla.get(f"{NEW}/transcribe-async/{key}")
    answer = nabla.get(f"{NEW}/transcribe-async/{key}")

    payload = answer.json()["payload"]
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["client_request_id"]) == ("FAILED", "failed-1")
    assert payload["code"] == 422
    assert "too short" in payload["message"]


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("visit-1-slow.wav", ["ONGOING"] * 5 + ["SUCCEEDED"]),
        ("visit-1-never.wav", ["ONGOING"] * 6),
        ("visit-1-callbackonly.wav", ["ONGOING"] * 6),
        ("visit-1-unrecognised.wav", ["PAUSED"] * 6),
    ],
)
def test_scripted_ends(nabla: httpx.Client, name: str, statuses: list[str]) -> None:
    key = _transcribe(nabla, name).json()["id"]

    assert [answer["status"] for answer in _ask(nabla, "transcribe-async", key, 6)] == statuses


def test_what_is_gone_or_another_kind_of_job_is_not_found(nabla: httpx.Client) -> None:
    gone = _transcribe(nabla, "visit-1-gone.wav").json()
    other = _transcribe(nabla, "visit-1.wav").json()

    answers = [
        nabla.get(f"{NEW}/transcribe-async/{gone['id']}"),
        nabla.get(f"{NEW}/generate-note-async/{other['id']}"),
        nabla.get(f"{NEW}/transcribe-async/nobody"),
    ]

    assert gone["status"] == "ONGOING"
    assert [(answer.status_code, answer.json()["name"]) for answer in answers] == [(404, "NOT_FOUND")] * 3


def test_the_same_request_id_is_the_same_job(sandbox: Sandbox, nabla: httpx.Client) -> None:
    first = _transcribe(nabla, "visit-idem.wav", client_request_id="idem-1")
    again = _transcribe(nabla, "visit-idem.wav", client_request_id="idem-1")
    other = _transcribe(nabla, "visit-else.wav", client_request_id="idem-1")

    assert again.json() == first.json()
    assert other.status_code == 409
    assert sandbox.stats.jobs["nabla transcribe visit-idem.wav"] == 1
    assert sandbox.stats.repeats["nabla transcribe visit-idem.wav"] == 1
    assert "nabla transcribe visit-else.wav" not in sandbox.stats.jobs


def test_the_old_keys_are_the_documented_thirty_five() -> None:
    old, new = ({key for keys in table.values() for key in keys} for table in (TEMPLATES, NEW_TEMPLATES))

    assert len(TEMPLATES) == 11
    assert len(old) == 35
    assert {NEW_KEYS.get(key, key) for key in old} | {"REVIEW_OF_SYSTEMS", "DIAGNOSTIC_TESTS_ORDERED"} == new


@pytest.mark.parametrize("template", NEW_TEMPLATES)
def test_a_note_has_the_sections_of_its_template_in_order(nabla: httpx.Client, template: str) -> None:
    note = _note(nabla, template)["payload"]["note"]

    assert tuple(section["key"] for section in note["sections"]) == NEW_TEMPLATES[template]
    assert "qxcanary[visit.wav]" in note["title"]
    assert all("qxcanary" in section["text"] and section["title"] for section in note["sections"])


def test_notes_lie_and_are_spelled_as_each_generation_has_it(nabla: httpx.Client) -> None:
    oldest = _note(
        nabla,
        "CARDIOLOGY",
        G1,
        note_locale="fr-FR",
        transcript_items=[{"text": "qxcanary", "speaker": "unspecified"}],
    )
    newest = _note(nabla, "GENERIC_APSO_AP_MERGED", G4)

    flat, nested = oldest["payload"], newest["payload"]["note"]
    assert "CARDIOVASCULAR_RISKS" in {section["key"] for section in flat["sections"]}
    assert "Motif de consultation" in {section["title"] for section in flat["sections"]}
    assert [section["key"] for section in nested["sections"]] == ["assessment_and_plan", "subjective", "objective"]


def test_a_note_is_about_the_recording_its_transcript_came_from(nabla: httpx.Client) -> None:
    key = _transcribe(nabla, "2026/visit-9-note-failed.wav").json()["id"]
    items = _ask(nabla, "transcribe-async", key, 2)[1]["payload"]["transcript"]

    answer = _note(nabla, transcript_items=[{"text": item["text"]} for item in items])

    assert (answer["status"], answer["payload"]["code"]) == ("FAILED", 422)


def test_style_and_problems(nabla: httpx.Client) -> None:
    wishes = {"section_key": "SUBJECTIVE", "style": "PARAGRAPH", "split_by_problem": True}

    plain = _note(nabla)["payload"]["note"]["sections"]
    wished = _note(nabla, note_sections_customization=[wishes])["payload"]["note"]["sections"]

    assert plain[0]["text"].startswith("- ")
    assert wished[0]["text"].startswith("1. Problem 1 (qxcanary)\n- ")
    assert "\n" not in wished[3]["text"]


LISTEN = {
    "output_objects": ["transcript_item", "note"],
    "language": "en-US",
    "file_url": f"{AUDIO}/visit-1.wav",
    "callback_url": "http://127.0.0.1:9/callbacks/nabla",
}
TRANSCRIBE = {"speech_locale": "ENGLISH_US", "file_url": f"{AUDIO}/visit-1.wav"}
WRITE = {"note_locale": "ENGLISH_US", "transcript_items": [{"text": "qxcanary", "speaker_type": "DOCTOR"}]}


@pytest.mark.parametrize(
    ("path", "base", "change"),
    [
        ("listen_async", LISTEN, {"output_objects": []}),
        ("listen_async", LISTEN, {"output_objects": ["summary"]}),
        ("listen_async", LISTEN, {"language": "ENGLISH_US"}),
        ("listen_async", LISTEN, {"language": "es-ES"}),
        ("listen_async", LISTEN, {"note_template": "GENERIC_SOAP"}),
        ("listen_async", LISTEN, {"language": "fr-FR", "note_template": "GENERAL_MEDICINE_AP_MERGED"}),
        ("listen_async", LISTEN, {"callback_url": None}),
        ("listen_async", LISTEN, {"section_style": "BULLET_POINTS"}),
        ("listen_async", LISTEN, {"split_by_problem": "true"}),
        ("transcribe-async", TRANSCRIBE, {"speech_locale": "en-US"}),
        ("transcribe-async", TRANSCRIBE, {"file_url": "visit-1.wav"}),
        ("transcribe-async", TRANSCRIBE, {"client_request_id": "x" * 129}),
        ("transcribe-async", TRANSCRIBE, {"callback_url": "https://a.example"}),
        ("generate-note-async", WRITE, {"note_locale": "en-US"}),
        ("generate-note-async", WRITE, {"note_template": "SOAP"}),
        ("generate-note-async", WRITE, {"note_template_key": "GENERIC_SOAP"}),
        ("generate-note-async", WRITE, {"note_locale": "FRENCH_FR", "note_template": "GENERIC_SOAP_AP_MERGED"}),
        ("generate-note-async", WRITE, {"transcript_items": []}),
        ("generate-note-async", WRITE, {"transcript_items": [{"text": "x", "speaker_type": "doctor"}]}),
        ("generate-note-async", WRITE, {"note_sections_customization": [{"style": "PARAGRAPH"}]}),
    ],
)
def test_what_is_not_documented_is_refused(
    nabla: httpx.Client, path: str, base: dict[str, Any], change: dict[str, Any]
) -> None:
    good = nabla.post(f"{OLD}/{path}", json=base)
    bad = nabla.post(f"{OLD}/{path}", json={**base, **change})

    assert good.status_code == 200, good.text
    assert (bad.status_code, bad.json()["name"]) == (400, "BAD_REQUEST")
    assert not any(marker in bad.text for marker in MARKERS)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"'])
def test_a_body_that_is_no_object_is_refused(nabla: httpx.Client, content: bytes) -> None:
    assert nabla.post(f"{NEW}/transcribe-async", content=content).status_code == 400


def test_unknown_versions_keys_paths_and_methods(sandbox: Sandbox, nabla: httpx.Client) -> None:
    headers = {"x-nabla-api-version": "2023-01-01"}

    assert nabla.post(f"{NEW}/transcribe-async", json=TRANSCRIBE, headers=headers).status_code == 400
    assert nabla.get(f"{NEW}/transcribe-async/x", headers={"authorization": "Bearer other"}).status_code == 401
    assert nabla.get(f"{NEW}/transcribe-async/x", headers={"authorization": "nothing"}).status_code == 401
    assert nabla.get("/v1/other").json()["name"] == "NOT_FOUND"
    assert nabla.get(f"{NEW}/transcribe-async").json()["name"] == "METHOD_NOT_ALLOWED"
    assert sandbox.stats.requests["GET /nabla/v1/other"] == 1


def test_open_questions_are_options(clients: Callable[[Sandbox, str], httpx.Client]) -> None:
    options = NablaOptions(
        pin="2024-04-22", strict_fields=False, nests_payload=False, failure_fields=("status_code", "error_message")
    )
    with Sandbox(nabla=options, jobs=JobOptions(steps=0)) as sandbox:
        nabla = clients(sandbox, "nabla")
        done = _transcribe(nabla, "visit-1.wav", surprise=1).json()
        failed = _transcribe(nabla, "visit-1-failed.wav").json()

    assert done["status"] == "succeeded"
    assert done["transcript"][0]["speaker"] == "doctor"
    assert failed["payload"].keys() == {"status_code", "error_message"}


def test_jobs_outlive_a_restart(tmp_path: Path, clients: Callable[[Sandbox, str], httpx.Client]) -> None:
    state = tmp_path / "state.sqlite"
    with Sandbox(state=state) as first:
        key = _transcribe(clients(first, "nabla"), "visit-1.wav", client_request_id="mine").json()["id"]
        clients(first, "nabla").get(f"{NEW}/transcribe-async/{key}")

    with Sandbox(state=state) as second:
        nabla = clients(second, "nabla")
        again = _transcribe(nabla, "visit-1.wav", client_request_id="mine").json()["id"]
        answer = nabla.get(f"{NEW}/transcribe-async/{key}").json()
        jobs = dict(second.stats.jobs)

    assert again == key
    assert answer["status"] == "SUCCEEDED"
    assert jobs == {}
