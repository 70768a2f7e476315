"""A desk that submits and polls through the account's own client, against the scripted server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson

from medscribe_pipeline.providers.nabla import Nabla, open_client
from medscribe_pipeline.providers.records import ManifestVisit
from medscribe_pipeline.providers.work import Job, JobSpec, Progress
from medscribe_pipeline.settings import NablaSettings
from tests.medscribe_pipeline.providers.scripted_server import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse
    from tests.medscribe_pipeline.providers.scripted_server import Hangup, ScriptedServer

AUDIO = "https://media.hospital.example/visit-1.wav?signature=abc"
CALLBACK = "https://receiver.hospital.example/callbacks/nabla"
JOB_ID = "98FCE1EF-DBCA-41EF-8BC7-4D1621AC07C6"
VISIT = ManifestVisit(audio_url=AUDIO)
NO_WAREHOUSE = cast("Warehouse", None)
"""A server key and a signed assertion need nothing that outlives the process."""

Order = tuple[str, str, dict[str, Any], dict[str, str]]


TRANSCRIPT = [
    {"text": "And I cough.", "speaker_type": "PATIENT", "start_offset_ms": 5000, "end_offset_ms": 6000},
    {"text": " ", "speaker_type": "DOCTOR", "start_offset_ms": 0, "end_offset_ms": 1},
    {"text": "What is wrong?", "speaker": "doctor", "start_offset_ms": 100, "end_offset_ms": 900},
    {"text": "Fever.", "speaker_type": "NURSE", "start_offset_ms": 1000, "end_offset_ms": 1500},
    {"text": "Since when?", "start_offset_ms": 1600, "end_offset_ms": 1900},
]
RESULT = {"id": JOB_ID, "status": "SUCCEEDED", "payload": {"transcript": TRANSCRIPT}}


def job_of(spec: JobSpec, vendor_job_id: str | None = None) -> Job:
    return Job(spec.correlation_key, spec.step, spec.request, f"ours-{spec.step}", vendor_job_id)


def only(specs: Any) -> JobSpec:
    (spec,) = specs
    assert isinstance(spec, JobSpec)
    return spec


def reply(**body: Any) -> Reply:
    return Reply(body=orjson.dumps(body))


class Desk:
    """Submits and polls through the client of the account, and shows what the server saw."""

    def __init__(self, nabla: Nabla, settings: Settings, server: ScriptedServer) -> None:
        self.nabla, self.settings, self.server = nabla, settings, server

    def submit(self, spec: JobSpec, *script: Reply | Hangup) -> Progress:
        self.server.reply(*script)
        with open_client(self.settings, NO_WAREHOUSE) as client:
            return self.nabla.submit(client, job_of(spec))

    def poll(self, spec: JobSpec, *script: Reply | Hangup, vendor_job_id: str | None = JOB_ID) -> Progress:
        self.server.reply(*script)
        with open_client(self.settings, NO_WAREHOUSE) as client:
            return self.nabla.poll(client, job_of(spec, vendor_job_id))

    @property
    def last(self) -> Order:
        seen = self.server.seen[-1]
        return seen.method, seen.path, seen.json if seen.body else {}, seen.headers


class NablaMaker:
    """Builds the provider and its settings, pointed at the scripted server."""

    def __init__(self, make_settings: Callable[..., Settings], server: ScriptedServer) -> None:
        self._make_settings, self._server = make_settings, server

    def __call__(self, **changes: Any) -> Nabla:
        return self.desk(**changes).nabla

    def desk(self, **changes: Any) -> Desk:
        own = {"base_url": self._server.url, "token": "server-key", "timeout_s": 5, "max_attempts": 3, "backoff_s": 0}
        if changes.get("api_version") == "archived":
            own["callback_url"] = CALLBACK
        settings = self._make_settings(nabla=NablaSettings(**{**own, **changes}))
        return Desk(Nabla(settings), settings, self._server)
