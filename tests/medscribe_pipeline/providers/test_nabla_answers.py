"""What Nabla answers to the job ledger, and what it calls back with, and what may go wrong."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.errors import MedscribeError, ProviderContractError
from medscribe_pipeline.providers.http import Refused, Unsettled
from medscribe_pipeline.providers.work import Phase, Progress
from tests.medscribe_pipeline.providers.nabla_desk import JOB_ID, TRANSCRIPT, VISIT, NablaMaker, only, reply
from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings
    from tests.medscribe_pipeline.providers.scripted_server import ScriptedServer


@pytest.fixture
def make_nabla(make_settings: Callable[..., Settings], server: ScriptedServer) -> NablaMaker:
    return NablaMaker(make_settings, server)


# What goes wrong


@pytest.mark.parametrize("code", [422, 83005])
def test_failure_is_a_verdict_and_comes_once(make_nabla: NablaMaker, code: int) -> None:
    desk = make_nabla.desk()
    spec = only(desk.nabla.wanted("v-1", VISIT))
    failed = reply(id=JOB_ID, status="failed", payload={"code": code, "message": "Zoe Testpatient was too quiet"})

    progress = desk.poll(spec, failed)

    assert progress == Progress(Phase.FAILED, JOB_ID, code=str(code))
    assert "Testpatient" not in repr(progress)
    assert len(desk.server.seen) == 1
    assert desk.submit(spec, failed) == progress


@pytest.mark.parametrize(
    ("script", "error_class"),
    [
        ([Reply(422, body=b'{"code": 83005, "message": "Zoe Testpatient"}')], Refused),
        ([Hangup()], Unsettled),
        ([Reply(500)], Unsettled),
        ([Reply(200, body=b"<html>")], Unsettled),
        ([Reply(200, body=b"[]")], Unsettled),
        ([Reply(200, body=b"{}")], Unsettled),
        ([reply(id=JOB_ID, client_request_id="of another", status="ongoing")], Unsettled),
    ],
)
def test_a_submission_is_sent_once_whatever_comes_of_it(
    make_nabla: NablaMaker, script: list[Reply | Hangup], error_class: type[MedscribeError]
) -> None:
    desk = make_nabla.desk()
    spec = only(desk.nabla.wanted("v-1", VISIT))

    with pytest.raises(error_class) as caught:
        desk.submit(spec, *script)

    assert len(desk.server.seen) == 1
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(secret in shown for secret in ("Testpatient", "hospital.example", "server-key"))


def test_a_throttled_submission_waits_its_turn(make_nabla: NablaMaker) -> None:
    desk = make_nabla.desk()
    spec = only(desk.nabla.wanted("v-1", VISIT))

    progress = desk.submit(spec, Reply(429, headers={"Retry-After": "0"}), reply(id=JOB_ID, status="ONGOING"))

    assert progress.vendor_job_id == JOB_ID
    assert {seen.json["client_request_id"] for seen in desk.server.seen} == {"ours-transcribe"}


@pytest.mark.parametrize(
    "answer",
    [
        reply(id="11111111-0000-4000-8000-000000000000", status="succeeded", payload={"transcript": TRANSCRIPT}),
        reply(id=JOB_ID, client_request_id="of another", status="succeeded", payload={"transcript": TRANSCRIPT}),
        Reply(body=b"[]"),
    ],
)
def test_an_answer_about_another_job_is_never_taken_for_this_one(make_nabla: NablaMaker, answer: Reply) -> None:
    desk = make_nabla.desk()

    with pytest.raises(ProviderContractError) as caught:
        desk.poll(only(desk.nabla.wanted("v-1", VISIT)), answer)

    assert caught.value.code in ("wrong_job", "answer")
    assert "cough" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("answer", "progress"),
    [
        (reply(id=JOB_ID.lower(), status="ONGOING"), Progress(Phase.RUNNING, JOB_ID.lower())),
        (reply(id=JOB_ID, status="dreaming"), Progress(Phase.UNRECOGNISED, JOB_ID)),
        (reply(), Progress(Phase.UNRECOGNISED, JOB_ID)),
        (Reply(404), Progress(Phase.GONE, JOB_ID, code="404")),
        (Reply(410), Progress(Phase.GONE, JOB_ID, code="410")),
    ],
)
def test_other_answers_to_a_poll(make_nabla: NablaMaker, answer: Reply, progress: Progress) -> None:
    desk = make_nabla.desk()

    assert desk.poll(only(desk.nabla.wanted("v-1", VISIT)), answer) == progress


def test_a_poll_is_repeated_and_its_other_refusals_are_raised(make_nabla: NablaMaker) -> None:
    desk = make_nabla.desk()
    spec = only(desk.nabla.wanted("v-1", VISIT))

    assert desk.poll(spec, Reply(503), Hangup(), reply(id=JOB_ID, status="ONGOING")).phase is Phase.RUNNING
    with pytest.raises(Refused):
        desk.poll(spec, Reply(400))


def test_an_id_cannot_lead_a_poll_elsewhere(make_nabla: NablaMaker) -> None:
    desk = make_nabla.desk()

    desk.poll(only(desk.nabla.wanted("v-1", VISIT)), reply(status="ONGOING"), vendor_job_id="../users?x=1")

    assert desk.last[1] == "/v1/core/server/transcribe-async/..%2Fusers%3Fx%3D1"


# Callbacks


def test_callbacks_name_their_job_and_say_how_it_ended(make_nabla: NablaMaker) -> None:
    nabla = make_nabla()
    success = {"request_id": JOB_ID, "client_request_id": "ours", "transcript": TRANSCRIPT}
    error = {"id": JOB_ID, "client_request_id": "ours", "code": 422, "message": "too short"}

    assert nabla.read_callback(success) == (JOB_ID, "ours", Progress(Phase.DONE, JOB_ID, result=success))
    assert nabla.read_callback(error) == (JOB_ID, "ours", Progress(Phase.FAILED, JOB_ID, code="422"))
    event = {"id": "evt-1", "type": "transcription.failed", "created_at": "2026-03-02T09:30:00Z", "data": error}
    assert nabla.read_callback(event) == nabla.read_callback(error)
    assert nabla.read_callback({"client_request_id": "ours", "note": {"sections": []}}) == (
        None,
        "ours",
        Progress(Phase.DONE, result={"client_request_id": "ours", "note": {"sections": []}}),
    )


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        "text",
        {},
        {"request_id": JOB_ID, "client_request_id": "ours"},
        {"transcript": TRANSCRIPT},
        {"id": "evt-1", "type": "message.created", "created_at": "2026-03-02T09:30:00Z", "data": {"id": "m-1"}},
    ],
)
def test_what_is_about_no_job_is_none(make_nabla: NablaMaker, payload: object) -> None:
    assert make_nabla().read_callback(payload) is None


def test_a_lost_answer_may_be_followed_by_the_same_submission(
    make_nabla: NablaMaker,
) -> None:
    nabla = make_nabla()

    assert (nabla.name, nabla.repeatable_submit, nabla.budgets) == ("nabla", True, {})
