from __future__ import annotations

import io
import tracemalloc
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from medscribe_pipeline.sandbox import Fault, Faults, IntronOptions, JobOptions, Sandbox
from medscribe_pipeline.sandbox.intron_content import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAV = b"RIFF....WAVEfmt "


class _Clock:
    now = 1_774_170_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    options = IntronOptions(status_calls_per_minute=10_000, max_file_bytes=100_000)
    with Sandbox(intron=options, jobs=JobOptions(steps=2)) as running:
        yield running


@pytest.fixture
def intron(sandbox: Sandbox, clients: Callable[[Sandbox, str], httpx.Client]) -> httpx.Client:
    return clients(sandbox, "intron")


def _upload(
    intron: httpx.Client, name: str = "visit-1.wav", content: bytes = WAV, end: str = "", **fields: str
) -> httpx.Response:
    return intron.post(
        f"/file/v1/upload{end}",
        data={"audio_file_name": name, **fields},
        files={"audio_file_blob": (name, content, "audio/wav")},
    )


def _end(intron: httpx.Client, key: str, times: int = 2, **params: str) -> Any:
    answers = [intron.get(f"/file/v1/status/{key}", params=params) for _ in range(times)]
    assert {answer.status_code for answer in answers} == {200}
    return answers[-1].json()["data"]


def test_an_upload_is_queued_and_done_in_the_end(sandbox: Sandbox, intron: httpx.Client) -> None:
    queued = _upload(intron, "plain-1.wav")
    key = queued.json()["data"]["file_id"]
    states = [intron.get(f"/file/v1/status/{key}").json() for _ in range(2)]

    assert queued.json() == {"status": "Ok", "message": "file queued for processing", "data": {"file_id": key}}
    with pytest.raises(ValueError, match="base 16"):
        uuid.UUID(key)
    assert states[0]["data"] == {"processing_status": "FILE_PENDING", "audio_file_name": "plain-1.wav"}
    assert states[1]["data"].keys() == {
        "processing_status",
        "audio_file_name",
        "audio_transcript",
        "processed_audio_duration_in_seconds",
    }
    assert "qxcanary[plain-1.wav]" in states[1]["data"]["audio_transcript"]
    assert sandbox.stats.jobs["intron upload plain-1.wav"] == 1


def test_diarized_transcripts_have_a_line_a_turn(intron: httpx.Client) -> None:
    keys = [_upload(intron, use_diarization=wish).json()["data"]["file_id"] for wish in ("TRUE", "FALSE")]

    diarized, plain = (_end(intron, key)["audio_transcript"] for key in keys)

    assert diarized.startswith("\nSPEAKER_01: ")
    assert diarized.endswith("\n")
    assert {line.split(": ")[0] for line in diarized.strip().splitlines()} == {"SPEAKER_01", "SPEAKER_02"}
    assert "SPEAKER" not in plain


@pytest.mark.parametrize("category", CATEGORIES)
def test_each_flag_of_each_category_has_its_document(intron: httpx.Client, category: str) -> None:
    flags = dict.fromkeys(CATEGORIES[category], "TRUE")
    key = _upload(intron, "visit-1.wav", WAV, "", use_category=category, **flags).json()["data"]["file_id"]

    data = _end(intron, key)

    documents = {name: text for name, text in data.items() if name.startswith("transcript_")}
    assert documents.keys() == {flag.replace("get_", "transcript_") for flag in flags}
    assert all("qxcanary" in text for text in documents.values())


def test_only_what_was_asked_for_is_made_and_structure_on_request(intron: httpx.Client) -> None:
    key = _upload(intron, get_soap_note="TRUE", get_summary="FALSE").json()["data"]["file_id"]

    markdown = _end(intron, key)["transcript_soap_note"]
    structured = _end(intron, key, 1, get_structured_post_processing="t")

    positions = [markdown.index(title) for title in ("Subjective", "Objective", "Assessment", "Plan")]
    assert positions == sorted(positions)
    assert structured["transcript_soap_note"] == {"text": markdown}
    assert "transcript_summary" not in structured


def test_headings_come_in_more_than_one_form(intron: httpx.Client) -> None:
    keys = [_upload(intron, f"visit-{n}.wav", get_soap_note="TRUE").json()["data"]["file_id"] for n in range(12)]

    starts = {_end(intron, key)["transcript_soap_note"].split("ubjective")[0] for key in keys}

    assert starts == {"## S", "**S"}


@pytest.mark.parametrize(
    ("words", "states"),
    [
        ("slow", ["FILE_QUEUED"] * 4 + ["FILE_PENDING", "FILE_TRANSCRIBED"]),
        ("failed", ["FILE_PENDING"] + ["FILE_PROCESSING_FAILED"] * 5),
        ("invalid", ["FILE_PENDING"] + ["FILE_INVALID"] * 5),
        ("oversized", ["FILE_PENDING"] + ["FILE_INVALID_SIZE"] * 5),
        ("overlong", ["FILE_PENDING"] + ["FILE_INVALID_DURATION"] * 5),
        ("timeout", ["FILE_PENDING"] + ["FILE_PROCESSING_TIMEOUT"] * 5),
        ("cancelled", ["FILE_PENDING"] + ["FILE_PROCESSING_CANCELLED"] * 5),
        ("never", ["FILE_PENDING"] + ["FILE_PROCESSING"] * 5),
        ("unrecognised", ["FILE_HIBERNATING"] * 6),
    ],
)
def test_scripted_ends(intron: httpx.Client, words: str, states: list[str]) -> None:
    key = _upload(intron, f"visit-1-{words}.wav").json()["data"]["file_id"]

    seen = [_end(intron, key, 1)["processing_status"] for _ in range(6)]

    assert seen == states


@pytest.mark.parametrize(("word", "status"), [("busy", 503), ("waiting", 408)])
def test_an_error_with_a_file_id_is_queued_all_the_same(intron: httpx.Client, word: str, status: int) -> None:
    answers = [_upload(intron, f"visit-1-{word}.wav", end=end) for end in ("", "/sync")]

    for answer in answers:
        assert answer.status_code == status
        assert _end(intron, answer.json()["data"]["file_id"])["processing_status"] == "FILE_TRANSCRIBED"


def test_the_endpoint_that_waits(intron: httpx.Client) -> None:
    done = _upload(intron, end="/sync")
    slow = _upload(intron, "visit-1-slow.wav", end="/sync")

    assert done.json()["data"]["processing_status"] == "FILE_TRANSCRIBED"
    assert done.json()["data"]["file_id"]
    assert (slow.status_code, slow.json()["data"].keys()) == (503, {"file_id"})


def test_urls_are_taken_and_never_fetched(sandbox: Sandbox, intron: httpx.Client) -> None:
    url = "https://audio.example.invalid/far/visit-7-failed.wav"
    files = {"audio_file_name": (None, "mine"), "audio_file_url": (None, url)}
    key = intron.post("/file/v1/upload", files=files).json()["data"]["file_id"]

    data = _end(intron, key)

    assert data == {"processing_status": "FILE_PROCESSING_FAILED", "audio_file_name": "mine"}
    assert sandbox.stats.jobs["intron upload far/visit-7-failed.wav"] == 1


def test_the_sandbox_knows_its_own_recordings_under_any_name(
    tmp_path: Path, clients: Callable[[Sandbox, str], httpx.Client]
) -> None:
    with Sandbox(audio_folder=tmp_path) as sandbox:
        paths = [Path(visit["audio_path"]) for visit in sandbox.world.visits() if visit["provider"] == "intron"]
        path = next(path for path in paths if path.stem.endswith("-overlong"))
        intron = clients(sandbox, "intron")
        key = _upload(intron, "0b8f3d52.wav", path.read_bytes()).json()["data"]["file_id"]
        data, jobs = _end(intron, key), dict(sandbox.stats.jobs)

    assert data == {"processing_status": "FILE_INVALID_DURATION", "audio_file_name": "0b8f3d52.wav"}
    assert jobs == {f"intron upload {path.name}": 1}


@pytest.mark.parametrize(
    ("name", "content", "fields", "status"),
    [
        ("visit.wav", b"x" * 100_000, {}, 200),
        ("visit.wav", b"x" * 100_001, {}, 413),
        ("visit.wav", b"x" * 3_000_000, {}, 413),
        ("visit.wav", b"", {}, 400),
        ("visit.exe", WAV, {}, 400),
        ("visit", WAV, {}, 400),
        ("visit.FLAC", WAV, {}, 200),
        ("visit.wav", WAV, {"use_category": "file_category_poetry"}, 400),
        ("visit.wav", WAV, {"use_category": "file_category_general", "get_soap_note": "TRUE"}, 400),
        ("visit.wav", WAV, {"use_category": "file_category_general", "get_soap_note": "FALSE"}, 200),
        ("visit.wav", WAV, {"get_summary": "true"}, 400),
        ("visit.wav", WAV, {"get_sumary": "TRUE"}, 400),
        ("visit.wav", WAV, {"audio_file_url": "https://audio.example.invalid/a.wav"}, 400),
    ],
)
def test_what_is_checked_of_an_upload(
    intron: httpx.Client, name: str, content: bytes, fields: dict[str, str], status: int
) -> None:
    answer = _upload(intron, name, content, **fields)

    assert answer.status_code == status, answer.text
    assert answer.json()["status"] == ("Ok" if status == 200 else "Error")


@pytest.mark.parametrize(
    "files",
    [
        {"audio_file_blob": ("visit.wav", WAV)},
        {"audio_file_name": (None, "mine")},
        {"audio_file_name": (None, "mine"), "audio_file_url": (None, "visit.wav")},
    ],
)
def test_what_an_upload_must_have(intron: httpx.Client, files: dict[str, Any]) -> None:
    assert intron.post("/file/v1/upload", files=files).status_code == 400


def test_bodies_that_are_no_form_keys_ids_paths_and_methods(intron: httpx.Client) -> None:
    cut = {"content-type": "multipart/form-data; boundary=b"}

    answers = [
        intron.post("/file/v1/upload", json={"audio_file_name": "mine"}),
        intron.post("/file/v1/upload", content=b'--b\r\nContent-Disposition: form-data; name="x"', headers=cut),
        intron.get("/file/v1/status/nobody"),
        intron.get("/file/v1/status/nobody", params={"get_structured_post_processing": "yes"}),
        intron.get("/file/v1/status/nobody", headers={"authorization": "Bearer other"}),
        intron.get("/file/v1/other"),
        intron.get("/file/v1/upload"),
    ]

    assert [answer.status_code for answer in answers] == [400, 400, 404, 400, 401, 404, 405]
    assert all(answer.json().keys() == {"status", "message", "data"} for answer in answers)


def test_a_large_upload_streams_through(tmp_path: Path, clients: Callable[[Sandbox, str], httpx.Client]) -> None:
    size = 30_000_000
    path = tmp_path / "visit-large.wav"
    with path.open("wb") as file:
        file.truncate(size)
    with Sandbox() as sandbox, path.open("rb") as file:
        intron = clients(sandbox, "intron")
        tracemalloc.start()
        answer = intron.post("/file/v1/upload", data={"audio_file_name": "a"}, files={"audio_file_blob": file})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert answer.status_code == 200
    assert peak < size / 3, "client and server together"


def test_status_calls_are_limited_by_the_minute(clients: Callable[[Sandbox, str], httpx.Client]) -> None:
    clock = _Clock()
    with Sandbox(clock=clock, intron=IntronOptions(status_calls_per_minute=3, uploads_per_minute=1)) as sandbox:
        intron = clients(sandbox, "intron")
        uploads = [_upload(intron) for _ in range(2)]
        first = [intron.get("/file/v1/status/x") for _ in range(3)]
        clock.now += 20
        limited = intron.get("/file/v1/status/x")
        clock.now += int(limited.headers["retry-after"])
        after = intron.get("/file/v1/status/x")

    assert [answer.status_code for answer in uploads] == [200, 429]
    assert {answer.status_code for answer in first} == {404}
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "41")
    assert limited.json()["status"] == "Error"
    assert after.status_code == 404


def test_a_repeated_upload_is_the_same_request_to_the_faults(clients: Callable[[Sandbox, str], httpx.Client]) -> None:
    faults = Faults.only(Fault.ERROR_500, in_a_row=2, apps=frozenset({"intron"}))
    with Sandbox(faults=faults) as sandbox:
        # httpx draws a boundary for each.
        statuses = [_upload(clients(sandbox, "intron")).status_code for _ in range(3)]
        jobs = dict(sandbox.stats.jobs)

    assert statuses == [500, 500, 200]
    assert jobs == {"intron upload visit-1.wav": 1}


def test_an_answer_that_is_cut_leaves_a_job_behind(clients: Callable[[Sandbox, str], httpx.Client]) -> None:
    with Sandbox(faults=Faults.only(Fault.CUT_AFTER, apps=frozenset({"intron"}))) as sandbox:
        intron = clients(sandbox, "intron")
        with pytest.raises(httpx.RemoteProtocolError):
            intron.post("/file/v1/upload", data={"audio_file_name": "a"}, files={"audio_file_blob": io.BytesIO(WAV)})
        with pytest.raises(httpx.RemoteProtocolError):
            _upload(intron, "visit-cut.wav")
        jobs = dict(sandbox.stats.jobs)

    assert jobs == {"intron upload visit-cut.wav": 1}, "the first is no file by its name"
