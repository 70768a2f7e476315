"""An inbox to be processed, the providers its events are about, and a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from medscribe_pipeline.providers.inbox import InboxReport, process_inbox, store_event
from medscribe_pipeline.providers.jobs import Entry, Ledger
from medscribe_pipeline.providers.work import JobSpec
from medscribe_pipeline.settings import AskaraSettings, AudioScribeSettings, NablaSettings
from medscribe_pipeline.warehouse.tables import inbox, source_records
from tests.databases import NOW, rows_of
from tests.medscribe_pipeline.providers.scripted_server import Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

SESSION = {
    "id": 7,
    "title": "Test",
    "note": "Plan: rest.",
    "originalTranscript": "",
    "createdAt": "2026-03-01T09:00:00Z",
}
NOTE = {
    "uuid": "n-1",
    "type": "consultation_summary",
    "content": "Plan: rest.",
    "createdAt": "2026-03-01T10:00:00Z",
    "updatedAt": "2026-03-01T10:00:00Z",
    "audio": "/audios/a-1",
}
AUDIO = {"uuid": "a-1", "createdAt": "2026-02-27T09:00:00Z", "updatedAt": "2026-03-01T10:00:00Z", "patient": "p-1"}

SESSION_PATH = "/api/v1/audioscribe/sessions/7/"
NOTE_PATH = "/notes/n-1"
AUDIO_PATH = "/audios/a-1"
EVERYTHING = {SESSION_PATH: SESSION, NOTE_PATH: NOTE, AUDIO_PATH: AUDIO}

VENDOR_ID = "98FCE1EF-DBCA-41EF-8BC7-4D1621AC07C6"
TRANSCRIPT = [{"text": "I cough.", "speaker_type": "PATIENT", "start_offset_ms": 0, "end_offset_ms": 900}]


@dataclass
class Provided:
    """What the providers answer by path; anything else is a 404. A number is a status."""

    records: dict[str, Any] = field(default_factory=lambda: dict(EVERYTHING))

    def __call__(self, seen: Seen) -> Reply:
        found = self.records.get(seen.path.split("?")[0], 404)
        return Reply(found) if isinstance(found, int) else Reply(body=orjson.dumps(found))


def settings_for(make_settings: Callable[..., Settings], url: str, **changes: Any) -> Settings:
    """All providers with credentials, all at one address."""
    common: dict[str, Any] = {"base_url": url, "token": "t", "max_attempts": 1, "timeout_s": 5}
    providers: dict[str, Any] = {
        "askara": AskaraSettings(**common),
        "audioscribe": AudioScribeSettings(**common),
        "nabla": NablaSettings(**common),
    }
    return make_settings(**{**providers, **changes})


@dataclass
class Pushed:
    """The inbox of one account."""

    warehouse: Warehouse
    settings: Settings
    provided: Provided
    now: datetime = NOW

    def store(
        self, provider: str, kind: str, payload: Any, event_id: str | None = None, *, verified: bool = False
    ) -> bool:
        return store_event(self.warehouse, provider, kind, event_id, payload, verified, self.now)

    def session(self, **changes: Any) -> None:
        payload = {**SESSION, **changes}
        self.store("audioscribe", "session", payload, str(payload["id"]))

    def new_note(self, note_id: str = "n-1") -> None:
        metadata = {"note": {"uuid": note_id, "content": "what nobody believes"}}
        event = {"id": note_id, "resource_type": "note", "action": "new_note", "metadata": metadata}
        self.store("askara", "new_note", event, f"new_note:{note_id}")

    def callback(self, *, verified: bool = True, vendor_id: str = VENDOR_ID, **changes: Any) -> None:
        body = {"id": vendor_id, "status": "SUCCEEDED", "payload": {"transcript": TRANSCRIPT}, **changes}
        self.store("nabla", "callback", body, verified=verified)

    def job(
        self, correlation_key: str = "visit-1", vendor_id: str | None = VENDOR_ID, step: str = "transcribe"
    ) -> None:
        """A job that Nabla works at."""
        ledger = Ledger(self.warehouse, "nabla")
        spec = JobSpec(correlation_key, step, {"body": {}, "note": None})
        later = self.now + timedelta(hours=1)
        with self.warehouse.begin() as connection:
            ledger.want(connection, [spec], "wish", now=self.now, run_id=None)
            entry = ledger.claim(
                connection, f"{correlation_key}/{step}", worker="w", now=self.now, expires_at=later, run_id=None
            )
            assert entry is not None
            ledger.accept(connection, entry.ref, vendor_id, next_poll_at=later)

    def job_of(self, correlation_key: str = "visit-1", step: str = "transcribe") -> Entry:
        with self.warehouse.read() as connection:
            entry = Ledger(self.warehouse, "nabla").get(connection, f"{correlation_key}/{step}")
        assert entry is not None
        return entry

    def process(self, **changes: Any) -> InboxReport:
        facts: dict[str, Any] = {"clock": lambda: self.now, "run_id": "run-1", **changes}
        return process_inbox(self.warehouse, self.settings, **facts)

    def events(self) -> list[dict[str, Any]]:
        return sorted(rows_of(self.warehouse, inbox), key=lambda row: row["seq"])

    def states(self) -> list[tuple[str | None, bool, int]]:
        """Code, whether it is done, and tries of each event."""
        return [(row["code"], row["processed_at"] is not None, row["attempts"]) for row in self.events()]

    def landed(self) -> dict[str, dict[str, Any]]:
        return {f"{row['stream']}/{row['source_id']}": row for row in rows_of(self.warehouse, source_records)}
