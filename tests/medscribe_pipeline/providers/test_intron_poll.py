"""What Intron says about a file, and what we make of it."""

from __future__ import annotations

import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.errors import MedscribeError, ProviderContractError, Retriable
from medscribe_pipeline.providers.http import CredentialsError, Refused
from medscribe_pipeline.providers.intron import Intron
from medscribe_pipeline.providers.work import Job, Phase, Progress
from tests.medscribe_pipeline.providers.intron_cases import (
    CANARY,
    FILE_ID,
    REQUEST_ID,
    TOKEN,
    client_for,
    envelope,
    settings_for,
)
from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply

if TYPE_CHECKING:
    from tests.medscribe_pipeline.providers.scripted_server import FakeClock, ScriptedServer

JOB = Job("visit-1", "upload", {"fields": {}}, REQUEST_ID, FILE_ID)


def poll(server: ScriptedServer, clock: FakeClock, job: Job = JOB) -> Progress:
    settings = settings_for(base_url=server.url, max_attempts=2)
    with client_for(settings, clock) as client:
        return Intron(settings).poll(client, job)


def status(word: Any, **data: Any) -> Reply:
    return envelope({"processing_status": word, "audio_file_name": REQUEST_ID, **data})


def test_a_file_is_asked_after_by_its_id_for_markdown(server: ScriptedServer, clock: FakeClock) -> None:
    server.reply(status("FILE_QUEUED"))

    poll(server, clock)

    (seen,) = server.seen
    assert (seen.method, seen.path) == ("GET", f"/file/v1/status/{FILE_ID}?get_structured_post_processing=f")
    assert seen.headers["authorization"] == f"Bearer {TOKEN}"


def test_an_id_stays_one_part_of_the_path(server: ScriptedServer, clock: FakeClock) -> None:
    server.reply(status("FILE_QUEUED"))

    poll(server, clock, replace(JOB, vendor_job_id="a/../b?c#d é%2F"))

    path = server.seen[0].path.partition("?")[0]
    assert path == "/file/v1/status/a%2F..%2Fb%3Fc%23d%20%C3%A9%252F"


@pytest.mark.parametrize("word", ["FILE_QUEUED", "FILE_PENDING", "FILE_PROCESSING", "file_processing", " File_Queued "])
def test_states_in_progress(server: ScriptedServer, clock: FakeClock, word: str) -> None:
    server.reply(status(word))

    assert poll(server, clock) == Progress(Phase.RUNNING, vendor_job_id=FILE_ID)


@pytest.mark.parametrize("word", ["FILE_TRANSCRIBED", "file_transcribed"])
def test_a_result_is_what_came_as_it_came(server: ScriptedServer, clock: FakeClock, word: str) -> None:
    server.reply(status(word, audio_transcript="hello", transcript_icd_codes="R51"))

    progress = poll(server, clock)

    assert (progress.phase, progress.code) == (Phase.DONE, None)
    assert progress.result == {
        "status": "Ok",
        "message": CANARY,
        "data": {
            "processing_status": word,
            "audio_file_name": REQUEST_ID,
            "audio_transcript": "hello",
            "transcript_icd_codes": "R51",
        },
    }
    assert "hello" not in repr(progress)


@pytest.mark.parametrize(
    "word",
    [
        "FILE_PROCESSING_FAILED",
        "FILE_INVALID",
        "FILE_INVALID_SIZE",
        "FILE_INVALID_DURATION",
        "FILE_PROCESSING_TIMEOUT",
        "FILE_PROCESSING_CANCELLED",
    ],
)
def test_a_failure_keeps_the_provider_s_code(server: ScriptedServer, clock: FakeClock, word: str) -> None:
    server.reply(status(word.lower()))

    assert poll(server, clock) == Progress(Phase.FAILED, vendor_job_id=FILE_ID, code=word)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (status("FILE_ARCHIVED"), "FILE_ARCHIVED"),
        (status(f"about {CANARY}"), None),
        (status("X" * 65), None),
        (status(""), None),
        (status(None), None),
        (status(7), None),
        (envelope(status="Error"), "error"),
        (envelope(status=" ERROR "), "error"),
        (envelope([1]), None),
        (Reply(200, b"[]"), None),
        (Reply(200, b""), None),
    ],
)
def test_what_we_do_not_know_is_not_taken_for_an_end(
    server: ScriptedServer, clock: FakeClock, reply: Reply, code: str | None
) -> None:
    server.reply(reply)

    assert poll(server, clock) == Progress(Phase.UNRECOGNISED, vendor_job_id=FILE_ID, code=code)


def test_a_known_state_counts_though_the_envelope_says_error(server: ScriptedServer, clock: FakeClock) -> None:
    server.reply(envelope({"processing_status": "FILE_PROCESSING_FAILED"}, status="Error"))

    assert poll(server, clock).code == "FILE_PROCESSING_FAILED"


@pytest.mark.parametrize("http_status", [404, 410])
def test_a_file_nobody_knows_is_gone(server: ScriptedServer, clock: FakeClock, http_status: int) -> None:
    server.reply(envelope(status="Error", http_status=http_status))

    assert poll(server, clock) == Progress(Phase.GONE, vendor_job_id=FILE_ID)


def test_a_job_without_an_id_cannot_be_asked_after(server: ScriptedServer, clock: FakeClock) -> None:
    assert poll(server, clock, replace(JOB, vendor_job_id=None)) == Progress(Phase.GONE)
    assert server.seen == []


@pytest.mark.parametrize(
    ("reply", "error", "sent"),
    [
        (envelope(status="Error", http_status=400), Refused, 1),
        (envelope(status="Error", http_status=401), CredentialsError, 1),
        (envelope(status="Error", http_status=403), CredentialsError, 1),
        (envelope(status="Error", http_status=429), Retriable, 2),
        (envelope(status="Error", http_status=500), Retriable, 2),
        (Reply(200, CANARY.encode()), ProviderContractError, 2),
        (Hangup(), Retriable, 2),
    ],
)
def test_trouble_is_tried_again_where_that_may_help_and_says_nothing_of_the_file(
    server: ScriptedServer, clock: FakeClock, reply: Reply | Hangup, error: type[MedscribeError], sent: int
) -> None:
    server.reply(reply)

    with pytest.raises(error) as caught:
        poll(server, clock)

    assert len(server.seen) == sent
    printed = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)
    assert all(secret not in printed for secret in (CANARY, TOKEN, FILE_ID, server.url))


def test_one_upload_asks_for_everything() -> None:
    assert tuple(Intron(settings_for()).follow_up(JOB, {"data": {}})) == ()
