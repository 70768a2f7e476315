from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import Sandbox, advance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from tests.medscribe_pipeline.sandbox.receiving import Receiver

TRANSCRIBE = {"speech_locale": "ENGLISH_US", "file_url": "https://audio.example.invalid/visit-1.wav"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """One of its own for every test: each changes the world."""
    with Sandbox() as running:
        yield running


def _register(askara: httpx.Client, receiver: Receiver, *events: str, **fields: Any) -> httpx.Response:
    return askara.post("/webhooks", json={"url": receiver.url, "events": list(events), "active": True, **fields})


def test_new_sessions_are_posted_once_and_never_again(
    sandbox: Sandbox, audioscribe: httpx.Client, receiver: Receiver
) -> None:
    sandbox.outbox.targets["audioscribe"] = receiver.url
    sandbox.pushes.tick()
    key = sandbox.world.add_session(title="qxcanary added")
    receiver.status = 500

    sandbox.pushes.tick(3)

    assert receiver.bodies == [audioscribe.get(f"/api/v1/audioscribe/sessions/{key}/").json()]
    assert sandbox.stats.pushes == {"audioscribe none given_up": 1}
    assert "x-nabla-webhook-signature" not in receiver.seen[0][0]


def test_a_day_s_sessions_are_news(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.outbox.targets["audioscribe"] = receiver.url

    report = advance(sandbox.world)
    sandbox.pushes.tick()

    assert len(receiver.bodies) == report["new_sessions"] > 0


def test_what_nobody_wants_to_hear_is_forgotten(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.world.add_session()
    sandbox.pushes.tick()
    sandbox.outbox.targets["audioscribe"] = receiver.url

    sandbox.pushes.tick()

    assert receiver.seen == []


def test_a_registered_webhook_hears_of_new_notes(sandbox: Sandbox, askara: httpx.Client, receiver: Receiver) -> None:
    registered = _register(askara, receiver, "new_note").json()
    waiting = next(key for key, audio in sandbox.world.items.audios.items() if audio["step"] == "transcription")
    key = sandbox.world.transcribe(waiting)
    receiver.status = 503
    sandbox.pushes.tick()
    receiver.status = 200

    sandbox.pushes.tick(2)

    first, again = receiver.bodies
    event = first["events"][0]
    listed = next(note for note in _all_notes(askara) if note["uuid"] == key)
    assert again == first, "refused once, sent again"
    assert first["meta"] == {"webhook_id": registered["uuid"]}
    assert (event["resource_type"], event["action"]) == ("note", "new_note")
    assert event["metadata"]["note"] == listed
    assert event["resource_metadata"].keys() == {"user_id", "organization_id"}


def _all_notes(askara: httpx.Client) -> list[Any]:
    notes: list[Any] = askara.get("/notes", params={"itemsPerPage": 100}).json()
    return notes


def test_a_validated_audio_has_a_document_that_is_news(
    sandbox: Sandbox, askara: httpx.Client, receiver: Receiver
) -> None:
    _register(askara, receiver, "new_document")
    audio = next(key for key, audio in sandbox.world.items.audios.items() if audio["step"] == "edition")

    sandbox.world.set_step(audio, "validated")
    sandbox.pushes.tick(2)

    events = [event for body in receiver.bodies for event in body["events"]]
    documents = askara.get(f"/audios/{audio}").json()["documents"]
    assert [(event["resource_type"], event["metadata"]["document"]) for event in events] == [("document", documents[0])]


def test_registrations_that_are_not_as_documented(sandbox: Sandbox, askara: httpx.Client, receiver: Receiver) -> None:
    answers = [
        _register(askara, receiver, "new_note", url="nonsense"),
        _register(askara, receiver, "new_patient"),
        _register(askara, receiver),
        _register(askara, receiver, "new_note", active="yes"),
        askara.post("/webhooks", content=b"{"),
        askara.post("/webhooks", json=[1]),
    ]
    unauthorized = askara.post("/webhooks", headers={"authorization": "Bearer other"})
    inactive = _register(askara, receiver, "new_note", active=False)
    note = next(iter(sandbox.world.items.notes))

    pushed = sandbox.pushes.push("askara", [note])

    assert {answer.status_code for answer in answers} == {422}
    assert (unauthorized.status_code, inactive.status_code) == (401, 201)
    assert (pushed["queued"], receiver.seen) == (0, [])


def test_pushing_on_request(sandbox: Sandbox, askara: httpx.Client, control: httpx.Client, receiver: Receiver) -> None:
    _register(askara, receiver, "document_synchronize", "new_note")
    control.put("/targets", json={"audioscribe": receiver.url})
    document = next(audio["documents"][0] for audio in sandbox.world.items.audios.values() if audio["documents"])

    lie = {"app": "audioscribe", "keys": ["4010"], "times": 2, "changes": {"note": "qxcanary lie"}}
    pushed = control.post("/push", json=lie).json()
    control.post("/push", json={"app": "askara", "event": "document_synchronize", "keys": [document]})

    session, _, event = receiver.bodies
    assert (pushed["queued"], pushed["delivered"]) == (2, 2)
    assert (session["id"], session["note"]) == (4010, "qxcanary lie")
    assert event["events"][0]["action"] == "document_synchronize"
    assert sandbox.world.items.sessions["4010"]["note"] != "qxcanary lie"


def test_jobs_and_time_by_the_control_endpoints(
    sandbox: Sandbox,
    control: httpx.Client,
    receiver: Receiver,
    clients: Callable[[Sandbox, str], httpx.Client],
) -> None:
    control.put("/targets", json={"nabla": receiver.url})
    body = {**TRANSCRIBE, "client_request_id": "mine"}
    key = clients(sandbox, "nabla").post("/v1/core/server/transcribe-async", json=body).json()["id"]
    too_soon = control.post("/push", json={"app": "nabla", "keys": [key]}).json()

    ticked = control.post("/tick", json={"times": 3}).json()
    pushed = control.post("/push", json={"app": "nabla", "keys": [key], "signature": "wrong"}).json()
    jobs = control.get("/jobs").json()

    assert too_soon["queued"] == 0
    assert (ticked["finished"], ticked["delivered"]) == (1, 1)
    assert (pushed["queued"], pushed["delivered"]) == (1, 1)
    assert receiver.bodies[0] != receiver.bodies[1]
    assert jobs == {
        "nabla": [{"id": key, "client_request_id": "mine", "phase": "done", "fates": []}],
        "intron": [],
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/tick", {"times": 0}, 400),
        ("POST", "/tick", {"times": "many"}, 400),
        ("POST", "/tick", {"time": 1}, 400),
        ("POST", "/push", {"app": "nabla", "keys": ["nobody"]}, 404),
        ("POST", "/push", {"app": "audioscribe", "keys": ["nobody"]}, 404),
        ("POST", "/push", {"app": "askara", "keys": ["nobody"]}, 404),
        ("POST", "/push", {"app": "askara", "event": "new_document", "keys": ["nobody"]}, 404),
        ("POST", "/push", {"app": "askara", "event": "new_patient", "keys": ["x"]}, 400),
        ("POST", "/push", {"app": "intron", "keys": ["x"]}, 400),
        ("POST", "/push", {"app": "nabla"}, 400),
        ("POST", "/push", {"app": "nabla", "keys": [], "changes": 1}, 400),
        ("PUT", "/targets", {"askara": "http://127.0.0.1"}, 400),
        ("PUT", "/targets", {"nabla": 1}, 400),
        ("PUT", "/targets", [], 400),
    ],
)
def test_what_cannot_be_done_says_so(control: httpx.Client, method: str, path: str, body: Any, status: int) -> None:
    assert control.request(method, path, json=body).status_code == status
