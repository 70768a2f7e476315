from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import JobOptions, NablaOptions, PushOptions, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from tests.medscribe_pipeline.sandbox.receiving import Receiver

OLD, NEW = "/v1/copilot-api/server", "/v1/core/server"
SECRET = NablaOptions().webhook_secrets[0]
AUDIO = "https://audio.example.invalid"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """One of its own for every test: what waits to be sent is everybody's."""
    with Sandbox(jobs=JobOptions(steps=1, late_ticks=2)) as running:
        yield running


@pytest.fixture
def nabla(sandbox: Sandbox, clients: Callable[[Sandbox, str], httpx.Client]) -> httpx.Client:
    return clients(sandbox, "nabla")


def _listen(nabla: httpx.Client, receiver: Receiver, name: str, **body: Any) -> str:
    wanted = {
        "output_objects": ["transcript_item", "note"],
        "language": "en-US",
        "note_template": "SOAP",
        "file_url": f"{AUDIO}/{name}",
        "callback_url": receiver.url,
        "client_request_id": f"mine-{name}",
        **body,
    }
    answer = nabla.post(f"{OLD}/listen_async", json=wanted)
    assert answer.json().keys() == {"request_id", "client_request_id"}
    return str(answer.json()["request_id"])


def _is_signed(headers: dict[str, str], body: bytes, secret: str = SECRET) -> bool:
    timestamp = headers["x-nabla-webhook-timestamp"].encode()
    expected = hmac.new(secret.encode(), timestamp + body, hashlib.sha256).hexdigest()
    return expected in headers["x-nabla-webhook-signature"].split(",")


def test_what_was_listened_to_arrives_at_its_callback_url(
    sandbox: Sandbox, nabla: httpx.Client, receiver: Receiver
) -> None:
    key = _listen(nabla, receiver, "visit-1.wav", split_by_problem=True, section_style="paragraphs")
    only_text = _listen(nabla, receiver, "visit-2.wav", output_objects=["transcript_item"])

    counts = sandbox.pushes.tick(3)

    first, second = receiver.bodies
    assert (counts["finished"], counts["delivered"]) == (2, 2)
    assert (first["request_id"], first["client_request_id"]) == (key, "mine-visit-1.wav")
    assert first["note"]["sections"][0]["key"] == "SOAP_SUBJECTIVE"
    assert first["note"]["sections"][0]["text"].startswith("1. Problem 1")
    assert {item["speaker"] for item in first["transcript"]} == {"doctor", "patient", "unspecified"}
    assert second.keys() == {"request_id", "client_request_id", "transcript"}
    assert second["request_id"] == only_text
    assert all(_is_signed(*seen) for seen in receiver.seen)


def test_a_failure_is_called_back_with_its_code(sandbox: Sandbox, nabla: httpx.Client, receiver: Receiver) -> None:
    key = _listen(nabla, receiver, "visit-1-failed.wav")

    sandbox.pushes.tick()

    assert receiver.bodies[0].keys() == {"request_id", "client_request_id", "code", "message"}
    assert (receiver.bodies[0]["request_id"], receiver.bodies[0]["code"]) == (key, 422)


@pytest.mark.parametrize(
    ("words", "arrivals"),
    [
        ("twice", [2, 0, 0, 0]),
        ("late", [0, 0, 1, 0]),
        ("late-twice", [0, 0, 2, 0]),
        ("silent", [0, 0, 0, 0]),
        ("never", [0, 0, 0, 0]),
        ("gone", [0, 0, 0, 0]),
        ("callbackonly", [1, 0, 0, 0]),
    ],
)
def test_when_callbacks_arrive(
    sandbox: Sandbox, nabla: httpx.Client, receiver: Receiver, words: str, arrivals: list[int]
) -> None:
    _listen(nabla, receiver, f"visit-1-{words}.wav")

    counts = []
    for _ in arrivals:
        before = len(receiver.seen)
        sandbox.pushes.tick()
        counts.append(len(receiver.seen) - before)

    assert counts == arrivals
    assert len({body for _, body in receiver.seen}) <= 1, "sent again it is the same"


@pytest.mark.parametrize(("word", "is_rightly_signed"), [("forged", False), ("stale", True)])
def test_a_false_callback_comes_first_and_lies(
    sandbox: Sandbox, nabla: httpx.Client, receiver: Receiver, word: str, is_rightly_signed: bool
) -> None:
    _listen(nabla, receiver, f"visit-1-{word}.wav")

    sandbox.pushes.tick()

    false, true = receiver.bodies
    assert [_is_signed(*seen) for seen in receiver.seen] == [is_rightly_signed, True]
    assert false["request_id"] == true["request_id"]
    assert false["note"] != true["note"]
    assert false["transcript"] != true["transcript"]
    at = [headers["x-nabla-webhook-timestamp"] for headers, _ in receiver.seen]
    assert (at[0][:10] < at[1][:10]) == (word == "stale")


def test_an_early_callback_comes_before_the_answer(sandbox: Sandbox, nabla: httpx.Client, receiver: Receiver) -> None:
    answered: list[str] = []
    counts: list[int] = []
    receiver.on_request = lambda: counts.append(len(answered))
    _listen(nabla, receiver, "visit-0-late.wav")

    answered.append(_listen(nabla, receiver, "visit-1-early.wav"))

    assert counts == [0]
    assert receiver.bodies[0]["request_id"] == answered[0]
    assert len(sandbox.nabla.book) == 2


def test_a_receiver_may_ask_while_it_is_called(sandbox: Sandbox, nabla: httpx.Client, receiver: Receiver) -> None:
    sandbox.outbox.targets["nabla"] = receiver.url
    key = nabla.post(f"{NEW}/transcribe-async", json=_audio("visit-1.wav")).json()["id"]
    statuses: list[str] = []
    receiver.on_request = lambda: statuses.append(nabla.get(f"{NEW}/transcribe-async/{key}").json()["status"])

    sandbox.pushes.tick()

    assert statuses == ["SUCCEEDED"]


def test_jobs_of_newer_generations_call_the_webhook(sandbox: Sandbox, nabla: httpx.Client, receiver: Receiver) -> None:
    key = nabla.post(f"{NEW}/transcribe-async", json=_audio("visit-1.wav")).json()["id"]
    unheard = sandbox.pushes.tick()
    sandbox.outbox.targets["nabla"] = receiver.url
    heard = nabla.post(f"{NEW}/transcribe-async", json=_audio("visit-2.wav")).json()["id"]
    answer = nabla.get(f"{NEW}/transcribe-async/{heard}").json()

    sandbox.pushes.tick()

    assert unheard["delivered"] == 0
    assert key != heard
    assert receiver.bodies == [answer], "the same as is told to those who ask"
    assert answer["status"] == "SUCCEEDED"


def test_an_envelope_and_two_secrets_are_options(
    clients: Callable[[Sandbox, str], httpx.Client], receiver: Receiver
) -> None:
    options = NablaOptions(webhook_envelope=True, webhook_secrets=("new", "old"))
    with Sandbox(
        nabla=options, push=PushOptions(nabla_url=receiver.url), jobs=JobOptions(steps=0), clock=lambda: 1.77e9
    ) as sandbox:
        job = clients(sandbox, "nabla").post(f"{NEW}/transcribe-async", json=_audio("visit-1-twice.wav")).json()
        sandbox.pushes.tick()

    assert [body.keys() for body in receiver.bodies] == [{"id", "type", "created_at", "data"}] * 2
    assert receiver.bodies[0] == receiver.bodies[1]
    assert receiver.bodies[0]["data"] == job
    assert receiver.bodies[0]["id"] != job["id"]
    assert all(_is_signed(*seen, secret=secret) for seen in receiver.seen for secret in ("new", "old"))


def test_finished_jobs_overtake_each_other(clients: Callable[[Sandbox, str], httpx.Client], receiver: Receiver) -> None:
    with Sandbox(push=PushOptions(newest_first=True), jobs=JobOptions(steps=1)) as sandbox:
        nabla = clients(sandbox, "nabla")
        keys = [_listen(nabla, receiver, f"visit-{n}.wav") for n in range(3)]
        sandbox.pushes.tick()

    assert [body["request_id"] for body in receiver.bodies] == keys[::-1]


def test_time_can_pass_by_itself(clients: Callable[[Sandbox, str], httpx.Client], receiver: Receiver) -> None:
    with Sandbox(tick_every_s=0.01, jobs=JobOptions(steps=1)) as sandbox:
        _listen(clients(sandbox, "nabla"), receiver, "visit-1.wav")
        waited = 0
        while not receiver.seen and waited < 1000:
            clients(sandbox, "nabla").get(f"{NEW}/nothing")
            waited += 1

    assert len(receiver.seen) == 1


def _audio(name: str) -> dict[str, str]:
    return {"speech_locale": "ENGLISH_US", "file_url": f"{AUDIO}/{name}"}
