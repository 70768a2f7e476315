"""The provider and the EHR of the demo, slow as real ones are.

`python -m scale.world DAYS NOTES DELAY_MS EHR_DELAY_MS` is a process of its own: it prints one line of JSON when it
listens, and serves on loopback until it is ended. Both are the sandbox's, a provider that can be listed and an EHR that
checks what it is sent, each answer held back for a while. What the EHR holds can be asked for at `/ledger`, and nothing
of that comes from the pipeline.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import uuid
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import orjson
import uvicorn
from starlette.responses import Response

from medscribe_pipeline.sandbox.askara import AskaraOptions, askara_app
from medscribe_pipeline.sandbox.askara_webhooks import AskaraWebhooks
from medscribe_pipeline.sandbox.consultations import consultations, write
from medscribe_pipeline.sandbox.corpus import CorpusOptions, dice, utc_text
from medscribe_pipeline.sandbox.fhir_server import FhirOptions, fhir_app
from medscribe_pipeline.sandbox.fhir_store import FhirStore
from medscribe_pipeline.sandbox.state import State
from medscribe_pipeline.sandbox.world import World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from medscribe_pipeline.sandbox.corpus import Record

__all__ = ["DOCUMENTS", "LAST_DAY", "make_world", "serve"]

LAST_DAY = date(2026, 3, 31)
"""The newest visit day. They are counted backwards from it."""

DOCUMENTS = ("Composition", "DocumentReference")
WORKING_DAY = timedelta(hours=10)
NAMESPACE = uuid.UUID("5f1d54a4-3a0f-5b58-9e25-9b1f0d6a5c1e")
UNLIMITED = 1_000_000_000

CAPABILITIES = "metadata"
"""What is asked once a run, and answered at once: the wait for it is no part of what is shown."""


class _Slow:
    """Holds every answer back for so many seconds."""

    def __init__(self, app: ASGIApp, delay_s: float) -> None:
        self._app = app
        self._delay_s = delay_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].endswith(CAPABILITIES):
            await asyncio.sleep(self._delay_s)
        await self._app(scope, receive, send)


def make_world(days: int, notes_a_day: int) -> World:
    """A world in which a clinician signed off `notes_a_day` notes on each of `days` days, and nothing else happened."""
    options = CorpusOptions(days=days, audios_per_day=0, sessions_per_day=0, malformed=0, recordings=0, end=LAST_DAY)
    world = World(options)
    patients, users = (list(world.records(name).values()) for name in ("patients", "users"))
    with world.batch():
        for number in range(days * notes_a_day):
            opening = options.opening_of(number // notes_a_day)
            recorded_at = opening + number % notes_a_day * (WORKING_DAY / notes_a_day)
            _record(world, number, patients[number % len(patients)], users[number % len(users)], recorded_at)
    return world


def _record(world: World, number: int, patient: Record, user: Record, recorded_at: datetime) -> None:
    """An audio that was validated a little later, and its note."""
    consultation = consultations()[number % len(consultations())]
    name = f"{patient['firstName']} {patient['lastName']}"
    changed_at = utc_text(recorded_at + timedelta(minutes=20))
    common = {"patient": patient["uuid"], "user": user["uuid"], "updatedAt": changed_at}
    audio = {
        **common,
        "uuid": str(uuid.uuid5(NAMESPACE, f"audio/{number}")),
        "createdAt": utc_text(recorded_at),
        "archivedAt": None,
        "step": "validated",
        "documents": [],
        "meeting": None,
        "languageSpoken": consultation.language,
        "mediaRecorderType": "web",
        "_number": number,
    }
    note = {
        **common,
        "uuid": str(uuid.uuid5(NAMESPACE, f"note/{number}")),
        "type": consultation.type,
        "content": write(consultation, name, f"{number:06d}", dice("scale", number)).note,
        "createdAt": changed_at,
        "audio": audio["uuid"],
    }
    world.put("audios", str(audio["uuid"]), audio)
    world.put("notes", str(note["uuid"]), note)


def _app(world: World, store: FhirStore, delay_s: float, ehr_delay_s: float) -> ASGIApp:
    async def ledger(scope: Scope, receive: Receive, send: Send) -> None:
        held = [
            [each["resourceType"], each["id"], each["meta"]["versionId"]]
            for kind in DOCUMENTS
            for each in store.resources(kind)
        ]
        await _json(held)(scope, receive, send)

    state = State()
    apps: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {
        "askara": _Slow(askara_app(world, state, AskaraWebhooks(state), AskaraOptions(rate_limit=UNLIMITED)), delay_s),
        "fhir": _Slow(fhir_app(store, FhirOptions()), ehr_delay_s),
        "ledger": ledger,
    }

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        # By hand and not mounted: FHIR transactions are posted to the bare prefix, without a slash.
        name, _, rest = scope["path"].removeprefix("/").partition("/")
        if name not in apps:
            await Response(status_code=404)(scope, receive, send)
            return
        await apps[name]({**scope, "root_path": f"/{name}", "path": f"/{name}/{rest}"}, receive, send)

    return dispatch


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def serve(days: int, notes_a_day: int, delay_s: float, ehr_delay_s: float) -> None:
    """Serves until the process is ended; prints the base URL when it listens."""
    world = make_world(days, notes_a_day)
    app = _app(world, FhirStore(), delay_s, ehr_delay_s)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", proxy_headers=False)
    sys.stdout.write(f'{{"url":"http://127.0.0.1:{listener.getsockname()[1]}"}}\n')
    sys.stdout.flush()
    asyncio.run(uvicorn.Server(config).serve([listener]))


if __name__ == "__main__":
    _days, _notes, _delay_ms, _ehr_delay_ms = map(int, sys.argv[1:5])
    serve(_days, _notes, _delay_ms / 1000, _ehr_delay_ms / 1000)
