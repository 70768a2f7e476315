"""Rows of the warehouse laid out by hand; what is not said is ordinary."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.operation.day import DayReport, read_day
from medscribe_pipeline.warehouse.tables import (
    deliveries,
    fhir_documents,
    notes,
    source_records,
    sync_cursors,
)
from tests.databases import NOW, TODAY

if TYPE_CHECKING:
    from datetime import date

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["CANARY", "DAY", "LATER", "MAPPING", "Rows", "day_of"]

CANARY = "qxcanary"
DAY = TODAY
LATER = NOW + timedelta(days=2)
"""When somebody looks: the day is over."""
MAPPING = "mapping-1"
TARGET = "ehr"

_ORDINARY: dict[str, dict[str, Any]] = {
    "source_records": {
        "provider": "askara",
        "stream": "notes",
        "payload": {"text": CANARY},
        "content_hash": "c",
        "list_hash": "l",
        "fetched_at": NOW,
        "change_seq": 5,
        "mapped_seq": 5,
        "outcome": "note",
    },
    "notes": {
        "provider": "askara",
        "stream": "notes",
        "kind": "note",
        "state": "validated",
        "has_text": True,
        "title": CANARY,
        "patient_id": CANARY,
        "version": "v2",
        "source_seq": 5,
        "mapped_at": NOW + timedelta(minutes=3),
    },
    "fhir_documents": {"resource": {}, "version": "v2", "mapping_version": "m", "source_seq": 5, "built_at": NOW},
    "deliveries": {"target": TARGET, "version": "v2", "source_seq": 5, "state": "delivered", "attempts": 1},
    "quarantine": {
        "stage": "map",
        "provider": "askara",
        "stream": "notes",
        "error_code": "wire_model",
        "field_paths": ["createdAt"],
        "payload": {"text": CANARY},
        "payload_hash": "h",
        "attempts": 1,
        "first_seen_at": NOW,
        "last_seen_at": NOW,
    },
    "scribe_jobs": {
        "provider": "nabla",
        "step": "transcribe",
        "request": {"text": CANARY},
        "request_hash": "h",
        "submissions": 1,
        "polls": 0,
        "wanted_at": NOW,
    },
    "inbox": {
        "provider": "nabla",
        "seq": 1,
        "kind": "callback",
        "payload": {"text": CANARY},
        "verified": True,
        "received_at": NOW,
        "deliveries": 1,
        "attempts": 0,
    },
    "sync_cursors": {"moved_at": NOW},
    "visit_days": {"changed_seq": 5, "built_seq": 5, "built_with": MAPPING},
    "visits": {"provider": "askara", "started_at": NOW, "patient_id": CANARY},
}


class Rows:
    """Lays rows out in a warehouse."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self._number = 0

    def put(self, table: sa.Table, **values: Any) -> None:
        scope = {"account": self.warehouse.account, "visit_day": DAY, "id": str(uuid.uuid4())}
        row = {name: value for name, value in scope.items() if name in table.c} | _ORDINARY[table.name] | values
        with self.warehouse.begin() as connection:
            connection.execute(sa.insert(table).values(row))

    def note(self, *, documents: bool = True, **values: Any) -> str:
        """A landed record, the note it became, and its documents."""
        self._number += 1
        source_id, note_id = values.pop("source_id", f"n{self._number}"), str(uuid.uuid4())
        provider = values.get("provider", "askara")
        self.put(source_records, source_id=source_id, provider=provider)
        self.put(notes, note_id=note_id, source_id=source_id, **values)
        if documents:
            for kind in ("Composition", "DocumentReference"):
                self.put(fhir_documents, note_id=note_id, kind=kind)
        return note_id

    def delivery(self, note_id: str, **values: Any) -> None:
        """The rows of a note's newest version in the ledger: one for each kind of document."""
        for kind in ("Composition", "DocumentReference"):
            self.put(deliveries, note_id=note_id, kind=kind, **values)

    def delivered(self, **values: Any) -> str:
        """A note that went all the way."""
        note_id = self.note(**values)
        self.delivery(note_id, settled_at=NOW + timedelta(minutes=10))
        return note_id

    def read_to_the_end(self, until: Any = LATER) -> None:
        """Every stream of Askara was."""
        for stream in ("audios", "notes"):
            self.put(sync_cursors, provider="askara", stream=f"{stream}.complete", watermark=until)


def day_of(warehouse: Warehouse, settings: Settings, *, day: date = DAY, now: Any = LATER) -> DayReport:
    """The report of a day, with Askara and one EHR."""
    return read_day(warehouse, with_askara(settings), day, fingerprint=MAPPING, now=now)


def with_askara(settings: Settings) -> Settings:
    """The same settings, with a provider and a target."""
    return settings.model_copy(
        update={
            "askara": settings.askara.model_copy(update={"token": "not-shown"}),
            "ehr": settings.ehr.model_copy(update={"base_url": "http://127.0.0.1:9/fhir"}),
        }
    )
