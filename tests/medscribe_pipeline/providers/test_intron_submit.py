"""What Intron is asked for, and uploads: exactly one, whatever comes back."""

from __future__ import annotations

import hashlib
import threading
import traceback
import tracemalloc
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.errors import ConfigError, Deferred, MedscribeError, Retriable
from medscribe_pipeline.providers.http import CredentialsError, Refused, Unsettled
from medscribe_pipeline.providers.intron import Intron, open_client
from medscribe_pipeline.providers.intron_wire import CATEGORIES
from medscribe_pipeline.providers.records import ManifestVisit
from medscribe_pipeline.providers.work import Phase, Progress, WorkProvider
from medscribe_pipeline.settings import IntronSettings, Settings
from tests.medscribe_pipeline.providers.intron_cases import (
    CANARY,
    FILE_ID,
    REQUEST_ID,
    TOKEN,
    WAV,
    client_for,
    envelope,
    parts_of,
    settings_for,
    wanted_job,
    write,
)
from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply, unused_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.medscribe_pipeline.providers.scripted_server import FakeClock, ScriptedServer

QUEUED = envelope({"file_id": FILE_ID})
FILE_NAME = f"{CANARY}.wav"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, FILE_NAME, WAV)
    return tmp_path


def submit(
    server: ScriptedServer,
    clock: FakeClock,
    folder: Path,
    *,
    visit: ManifestVisit | None = None,
    **own: Any,
) -> Progress:
    settings = settings_for(folder, base_url=server.url, **own)
    provider = Intron(settings)
    job = wanted_job(provider, visit or ManifestVisit(audio_path=FILE_NAME))
    with client_for(settings, clock) as client:
        return provider.submit(client, job)


def fields_for(visit: ManifestVisit, **own: Any) -> dict[str, str]:
    (spec,) = Intron(settings_for(**own)).wanted("visit-1", visit)
    fields: dict[str, str] = spec.request["fields"]
    return fields


def by_url(**row: Any) -> ManifestVisit:
    return ManifestVisit(audio_url="https://files.example.org/a.wav", **row)


def test_it_is_a_provider_for_the_ledger_that_never_repeats_an_upload() -> None:
    provider: WorkProvider = Intron(settings_for(uploads_per_minute=7, status_calls_per_minute=9))

    assert (provider.name, provider.repeatable_submit) == ("intron", False)
    assert provider.budgets == {"poll": 9, "submit": 7}
    assert provider.wanted("visit-1", ManifestVisit(patient_id="p-1")) == []
    assert provider.read_callback({"data": {"file_id": FILE_ID}}) is None


# --- wanted ------------------------------------------------------------------------------------------------------


def test_a_request_names_the_file_by_content_and_holds_no_byte_of_it(folder: Path) -> None:
    (spec,) = Intron(settings_for(folder)).wanted("visit-1", ManifestVisit(audio_path=str(folder / FILE_NAME)))

    assert (spec.correlation_key, spec.step) == ("visit-1", "upload")
    fields = spec.request.pop("fields")
    assert spec.request == {"audio_path": FILE_NAME, "bytes": len(WAV), "sha256": hashlib.sha256(WAV).hexdigest()}
    assert set(map(type, fields.values())) == {str}


def test_the_same_file_in_another_folder_is_the_same_request(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("moved")
    write(elsewhere, FILE_NAME, WAV)
    visit = ManifestVisit(audio_path=FILE_NAME)

    assert Intron(settings_for(folder)).wanted("v", visit) == Intron(settings_for(elsewhere)).wanted("v", visit)


def test_a_local_file_wins_over_a_url(folder: Path) -> None:
    visit = ManifestVisit(audio_path=FILE_NAME, audio_url="https://files.example.org/a.wav")

    (spec,) = Intron(settings_for(folder)).wanted("v", visit)

    assert "audio_url" not in spec.request


@pytest.mark.parametrize(
    ("visit", "code"),
    [
        (ManifestVisit(audio_path="../a.wav"), "audio_missing"),
        (ManifestVisit(audio_url="http://files.example.org/a.wav"), "audio_url_scheme"),
        (ManifestVisit(audio_url="https://127.0.0.1/a.wav"), "audio_url_private"),
        (by_url(category="astrology"), "category"),
        (by_url(language="klingon"), "language"),
    ],
)
def test_what_cannot_be_done_says_why_and_names_nobody(tmp_path: Path, visit: ManifestVisit, code: str) -> None:
    with pytest.raises(MedscribeError) as caught:
        Intron(settings_for(tmp_path)).wanted(CANARY, visit)

    assert caught.value.code == code
    assert CANARY not in str(caught.value)
    assert "example.org" not in str(caught.value)


def test_a_file_larger_than_allowed_is_not_wanted(folder: Path) -> None:
    with pytest.raises(MedscribeError) as caught:
        Intron(settings_for(folder, max_file_bytes=100)).wanted("v", ManifestVisit(audio_path=FILE_NAME))

    assert caught.value.code == "audio_too_large"


@pytest.mark.parametrize(
    ("category", "flags"),
    [
        ("general", {"get_summary"}),
        ("telehealth", {"get_summary", "get_entity_list", "get_treatment_plan", "get_soap_note", "get_clerking"}),
        (
            "procedure",
            {
                "get_summary",
                "get_entity_list",
                "get_treatment_plan",
                "get_op_note",
                "get_icd_codes",
                "get_suggestions",
            },
        ),
        (
            "call_center",
            {
                "get_summary",
                "get_call_center_results",
                "get_call_center_agent_score",
                "get_call_center_product_insights",
            },
        ),
        ("legal", {"get_legal_court_hearing"}),
        (
            "meeting_notes",
            {
                "get_summary",
                "get_meeting_notes_participants",
                "get_meeting_notes_decisions",
                "get_meeting_notes_action_items",
                "get_meeting_notes_key_topics",
                "get_meeting_notes_next_steps",
            },
        ),
    ],
)
def test_a_category_asks_for_all_its_page_documents(category: str, flags: set[str]) -> None:
    fields = fields_for(by_url(category=category))

    assert fields["use_category"] == f"file_category_{category}"
    assert {name for name, value in fields.items() if name.startswith("get_") and value == "TRUE"} == flags
    assert "FALSE" not in {value for name, value in fields.items() if name.startswith("get_")}


def test_every_category_has_a_case_above() -> None:
    assert len(CATEGORIES) == 6


def test_post_processing_says_false_for_what_is_not_asked_and_sends_later_flags_only_when_asked() -> None:
    fields = fields_for(by_url(), post_processing=("soap_note", "followup_instructions", "op_note"))

    assert {name: value for name, value in fields.items() if name.startswith("get_")} == {
        "get_summary": "FALSE",
        "get_entity_list": "FALSE",
        "get_treatment_plan": "FALSE",
        "get_soap_note": "TRUE",
        "get_clerking": "FALSE",
        "get_followup_instructions": "TRUE",
    }


def test_a_slip_in_post_processing_is_a_setting_to_change() -> None:
    with pytest.raises(ConfigError) as caught:
        Intron(settings_for(post_processing=("get_summary",)))

    assert caught.value.context == {"setting": "MEDSCRIBE_INTRON_POST_PROCESSING"}


@pytest.mark.parametrize(
    ("row", "own", "expected"),
    [
        ({}, {}, ("telehealth", "TRUE", "en")),
        ({}, {"category": "procedure", "diarization": False, "language": "sw"}, ("procedure", "FALSE", "sw")),
        (
            {"category": " File_Category_GENERAL ", "language": "fr-FR"},
            {},
            ("general", "TRUE", "fr"),
        ),
        ({"diarization": True, "language": "PCM"}, {"diarization": False}, ("telehealth", "TRUE", "pcm")),
    ],
)
def test_the_manifest_wins_over_the_settings(
    row: dict[str, Any], own: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    fields = fields_for(by_url(**row), **own)

    category = fields["use_category"].removeprefix("file_category_")
    assert (category, fields["use_diarization"], fields["use_language_asr_input"]) == expected


# --- submit ------------------------------------------------------------------------------------------------------


def test_a_file_goes_as_multipart_under_a_name_of_ours(server: ScriptedServer, clock: FakeClock, folder: Path) -> None:
    server.reply(QUEUED)

    progress = submit(server, clock, folder)

    assert progress == Progress(Phase.RUNNING, vendor_job_id=FILE_ID)
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.headers["authorization"]) == ("POST", "/file/v1/upload", f"Bearer {TOKEN}")
    *texts, file = parts_of(seen)
    fields = {part.name: part.content.decode() for part in texts}
    assert fields["audio_file_name"] == REQUEST_ID
    assert fields["get_soap_note"] == "TRUE"
    assert (fields["use_category"], fields["use_diarization"]) == ("file_category_telehealth", "TRUE")
    assert (file.name, file.disposition["filename"], file.media_type) == (
        "audio_file_blob",
        f"{REQUEST_ID}.wav",
        "audio/wav",
    )
    assert file.content == WAV
    assert CANARY.encode() not in seen.body


def test_a_url_goes_as_a_field_and_is_not_fetched(server: ScriptedServer, clock: FakeClock, folder: Path) -> None:
    server.reply(QUEUED)
    url = f"{server.url}/sound/a.wav"

    progress = submit(
        server,
        clock,
        folder,
        visit=ManifestVisit(audio_url=url),
        allow_plain_http_audio=True,
        allow_private_audio=True,
    )

    assert progress.vendor_job_id == FILE_ID
    (seen,) = server.seen
    fields = {part.name: part.content.decode() for part in parts_of(seen)}
    assert fields["audio_file_url"] == url
    assert "audio_file_blob" not in fields


def test_a_large_file_is_streamed_from_disk(tmp_path: Path, clock: FakeClock) -> None:
    size = 60_000_000
    with (tmp_path / "long.wav").open("wb") as file:
        file.write(WAV)
        file.truncate(size)
    received = 0

    class Handler(BaseHTTPRequestHandler):
        """Throws away what it is sent, so that only the client's memory is measured."""

        def do_POST(self) -> None:
            nonlocal received
            left = int(self.headers["content-length"])
            while left and (chunk := self.rfile.read(min(left, 65_536))):
                left -= len(chunk)
                received += len(chunk)
            self.send_response_only(200)
            self.send_header("Content-Length", str(len(QUEUED.body)))
            self.end_headers()
            self.wfile.write(QUEUED.body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        settings = settings_for(tmp_path, base_url=f"http://127.0.0.1:{server.server_address[1]}", timeout_s=30)
        provider = Intron(settings)
        with client_for(settings, clock) as client:
            tracemalloc.start()
            try:
                progress = provider.submit(client, wanted_job(provider, ManifestVisit(audio_path="long.wav")))
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        thread.join(30)

    assert progress.vendor_job_id == FILE_ID
    assert received > size
    assert peak < 4_000_000


@pytest.mark.parametrize("now", [None, WAV + b"x", WAV[:-1] + b"x"])
def test_a_file_that_is_not_what_it_was_fails_and_nothing_is_sent(
    server: ScriptedServer, clock: FakeClock, folder: Path, now: bytes | None
) -> None:
    settings = settings_for(folder, base_url=server.url)
    provider = Intron(settings)
    job = wanted_job(provider, ManifestVisit(audio_path=FILE_NAME))
    if now is None:
        (folder / FILE_NAME).unlink()
    else:
        write(folder, FILE_NAME, now)

    with client_for(settings, clock) as client:
        progress = provider.submit(client, job)

    assert progress == Progress(Phase.FAILED, code="audio_missing" if now is None else "audio_changed")
    assert server.seen == []


@pytest.mark.parametrize("status", [408, 503, 500, 429, 200, 202])
@pytest.mark.parametrize("word", ["Ok", "Error"])
def test_an_answer_that_names_a_file_id_means_queued_whatever_its_status(
    server: ScriptedServer, clock: FakeClock, folder: Path, status: int, word: str
) -> None:
    reply = envelope({"file_id": FILE_ID}, status=word, http_status=status)
    reply.headers["Retry-After"] = "1"
    server.reply(reply)

    assert submit(server, clock, folder) == Progress(Phase.RUNNING, vendor_job_id=FILE_ID)
    assert len(server.seen) == 1


def test_a_result_at_once_is_a_result(server: ScriptedServer, clock: FakeClock, folder: Path) -> None:
    done = envelope({"file_id": FILE_ID, "processing_status": "FILE_TRANSCRIBED", "audio_transcript": "hello"})
    server.reply(done)

    progress = submit(server, clock, folder)

    assert (progress.phase, progress.vendor_job_id) == (Phase.DONE, FILE_ID)
    assert progress.result is not None
    assert progress.result["data"]["audio_transcript"] == "hello"


def test_a_failure_at_once_is_the_provider_s_verdict(server: ScriptedServer, clock: FakeClock, folder: Path) -> None:
    server.reply(envelope({"file_id": FILE_ID, "processing_status": "FILE_INVALID_SIZE"}))

    assert submit(server, clock, folder).code == "FILE_INVALID_SIZE"


def test_an_envelope_that_says_error_is_a_refusal(server: ScriptedServer, clock: FakeClock, folder: Path) -> None:
    server.reply(envelope(status="Error"))

    assert submit(server, clock, folder) == Progress(Phase.FAILED, code="error")


@pytest.mark.parametrize(
    ("reply", "error", "code"),
    [
        (envelope(status="Error", http_status=400), Refused, "rejected"),
        (envelope(status="Error", http_status=401), CredentialsError, "credentials"),
        (envelope(status="Error", http_status=403), CredentialsError, "credentials"),
        (envelope(status="Error", http_status=404), Refused, "not_found"),
        (envelope(status="Error", http_status=413), Refused, "rejected"),
        (envelope(status="Error", http_status=408), Unsettled, "timeout"),
        (envelope(status="Error", http_status=500), Unsettled, "server_error"),
        (envelope(status="Error", http_status=502), Unsettled, "server_error"),
        (envelope(status="Error", http_status=503), Unsettled, "server_error"),
        (Reply(503, CANARY.encode(), {"Retry-After": "1"}), Unsettled, "throttled"),
        (Reply(200, CANARY.encode()), Unsettled, "not_json"),
        (Reply(200, b""), Unsettled, "no_file_id"),
        (Reply(200, b"[1]"), Unsettled, "no_file_id"),
        (envelope({"file_id": None}), Unsettled, "no_file_id"),
        (envelope({"file_id": ""}), Unsettled, "no_file_id"),
        (envelope({"file_id": ".."}), Unsettled, "no_file_id"),
        (envelope({"file_id": 7}), Unsettled, "no_file_id"),
        (envelope({"file_id": "x" * 256}), Unsettled, "no_file_id"),
        (Reply(200, QUEUED.body, cut_after=20), Unsettled, "disconnected"),
        (Hangup(), Unsettled, "disconnected"),
    ],
)
def test_whatever_goes_wrong_there_is_one_post_and_the_error_says_no_more_than_it_must(
    server: ScriptedServer,
    clock: FakeClock,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    reply: Reply | Hangup,
    error: type[MedscribeError],
    code: str,
) -> None:
    caplog.set_level("DEBUG")
    server.reply(reply)

    with pytest.raises(error) as caught:
        submit(server, clock, folder)

    assert type(caught.value) is error
    assert caught.value.code == code
    assert len(server.seen) == 1
    assert caught.value.__context__ is None
    printed = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(caught.value.__dict__)
    assert all(secret not in printed for secret in (CANARY, TOKEN, FILE_ID, REQUEST_ID, server.url))


def test_too_many_uploads_surely_took_no_effect_and_hold_the_next_ones_back(
    server: ScriptedServer, clock: FakeClock, folder: Path
) -> None:
    server.reply(Reply(429, headers={"Retry-After": "20"}), QUEUED)
    settings = settings_for(folder, base_url=server.url)
    provider = Intron(settings)
    job = wanted_job(provider, ManifestVisit(audio_path=FILE_NAME))

    with client_for(settings, clock) as client:
        with pytest.raises(Retriable) as caught:
            provider.submit(client, job)
        later = provider.submit(client, job)

    assert (type(caught.value), caught.value.code, caught.value.status) == (Retriable, "throttled", 429)
    assert later.phase is Phase.RUNNING
    assert clock.waits == [20]


def test_too_long_a_wait_is_deferred(server: ScriptedServer, clock: FakeClock, folder: Path) -> None:
    server.reply(Reply(429, headers={"Retry-After": "3000"}))
    settings = settings_for(folder, base_url=server.url)
    provider = Intron(settings)
    job = wanted_job(provider, ManifestVisit(audio_path=FILE_NAME))

    with client_for(settings, clock) as client:
        with pytest.raises(Retriable):
            provider.submit(client, job)
        with pytest.raises(Deferred):
            provider.submit(client, job)

    assert len(server.seen) == 1


def test_nobody_listening_is_no_unknown_outcome(clock: FakeClock, folder: Path) -> None:
    with unused_port() as port:
        settings = settings_for(folder, base_url=f"http://127.0.0.1:{port}")
        provider = Intron(settings)
        with client_for(settings, clock) as client, pytest.raises(Retriable) as caught:
            provider.submit(client, wanted_job(provider, ManifestVisit(audio_path=FILE_NAME)))

    assert type(caught.value) is Retriable


def test_a_client_needs_a_token() -> None:
    no_warehouse: Any = None

    with pytest.raises(ConfigError) as caught, open_client(Settings(intron=IntronSettings()), no_warehouse):
        pass

    assert caught.value.code == "credentials"
