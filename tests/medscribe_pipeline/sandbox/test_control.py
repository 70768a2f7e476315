from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """One of its own for every test: each changes the world."""
    with Sandbox() as running:
        yield running


def test_a_day_passes_on_request(sandbox: Sandbox, control: httpx.Client) -> None:
    report = control.post("/advance").json()
    world = control.get("/world").json()

    assert report["generation"] == world["generation"] == sandbox.world.generation == 1
    assert world["counts"]["audios"] == 60 + report["new_audios"]


def test_edits_show_at_once(control: httpx.Client, askara: httpx.Client, audioscribe: httpx.Client) -> None:
    note = askara.get("/notes").json()[0]["uuid"]

    control.post(f"/notes/{note}/edit", json={"content": "qxcanary edited"})
    control.post("/sessions/4010/edit", json={"note": "qxcanary edited"})
    control.post("/sessions/4011/edit")

    assert askara.get(f"/notes/{note}").json()["content"] == "qxcanary edited"
    assert audioscribe.get("/api/v1/audioscribe/sessions/4010/").json()["note"] == "qxcanary edited"
    assert "Addendum" in audioscribe.get("/api/v1/audioscribe/sessions/4011/").json()["note"]


def test_what_can_be_done_to_an_audio(sandbox: Sandbox, control: httpx.Client, askara: httpx.Client) -> None:
    waiting = next(key for key, audio in sandbox.world.items.audios.items() if audio["step"] == "transcription")

    def after(action: str, **body: str) -> dict[str, Any]:
        assert control.post(f"/audios/{waiting}/{action}", json=body).status_code == 200
        audio: dict[str, Any] = askara.get(f"/audios/{waiting}").json()
        return audio

    assert after("transcribe")["audioWorkflowStepV3"] == "transcribed"
    assert after("step", step="validated")["audioWorkflowStepV3"] == "validated"
    archived, restored = after("archive"), after("restore")
    assert archived["archivedAt"] == archived["updatedAt"]
    assert restored["archivedAt"] is None
    assert after("touch")["updatedAt"] > restored["updatedAt"] > archived["updatedAt"]
    assert len(askara.get("/notes", params={"audio": waiting}).json()) == 1


def test_additions_and_deletions(control: httpx.Client, audioscribe: httpx.Client) -> None:
    key = control.post("/sessions", json={"title": "qxcanary added"}).json()["key"]

    added = audioscribe.get(f"/api/v1/audioscribe/sessions/{key}/").json()
    control.delete(f"/sessions/{key}")

    assert added["title"] == "qxcanary added"
    assert audioscribe.get(f"/api/v1/audioscribe/sessions/{key}/").status_code == 404


def test_faults_and_stats(control: httpx.Client, askara: httpx.Client) -> None:
    control.put("/faults", json={"kinds": ["error_500"], "probability": 1, "in_a_row": 1, "apps": ["askara"]})
    statuses = [askara.get("/me").status_code for _ in range(2)]
    control.delete("/faults")
    statuses += [askara.get("/me").status_code for _ in range(2)]

    stats = control.get("/stats").json()

    assert statuses == [500, 200, 200, 200]
    assert (stats["requests"], stats["faults"]) == ({"GET /askara/me": 4}, {"error_500": 1})
    assert not any(control.delete("/stats").json().values())


def test_visits_know_most_sessions_and_their_patients(sandbox: Sandbox, control: httpx.Client) -> None:
    visits = [visit for visit in control.get("/visits").json() if visit["provider"] == "audioscribe"]

    assert 25 < len(visits) < 40
    for visit in visits:
        assert visit["patient_id"] in sandbox.world.items.patients
        assert visit["practitioner_id"] in sandbox.world.items.users
        assert visit["started_at"] < visit["ended_at"]
        assert int(visit["correlation_key"]) >= 4001


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/notes/nobody/edit", b"", 404),
        ("POST", "/audios/nobody/archive", b"", 404),
        ("POST", "/audios/nobody/explode", b"", 404),
        ("DELETE", "/patients/nobody", b"", 404),
        ("PUT", "/faults", b'{"kinds":["nonsense"]}', 400),
        ("PUT", "/faults", b'{"nonsense":1}', 400),
        ("PUT", "/faults", b"[1]", 400),
        ("PUT", "/faults", b"{", 400),
    ],
)
def test_what_cannot_be_done_says_so(
    control: httpx.Client, method: str, path: str, content: bytes, status: int
) -> None:
    assert control.request(method, path, content=content).status_code == status


def test_nothing_else_is_served(sandbox: Sandbox, clients: Callable[[Sandbox, str], httpx.Client]) -> None:
    assert clients(sandbox, "_control").get(f"{sandbox.url}/nothing").status_code == 404
    assert clients(sandbox, "_control").get(f"{sandbox.url}/fhirx/metadata").status_code == 404
