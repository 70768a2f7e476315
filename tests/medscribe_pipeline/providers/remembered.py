"""A warehouse that holds two invented people in every table there is, to forget one of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa

from medscribe_pipeline.fhir.build import build_day
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.providers.build import build_notes
from medscribe_pipeline.providers.inbox_store import Event, store_events
from medscribe_pipeline.visits import VisitRow
from medscribe_pipeline.warehouse.arrivals import Landed, Problem, SourceRecord
from medscribe_pipeline.warehouse.manifest import Imported, import_visits
from medscribe_pipeline.warehouse.tables import deliveries, ehr_references, notes, scribe_jobs, visit_days
from tests.databases import DAYS, NOW, TODAY, dump, landing_for
from tests.medscribe_pipeline.providers.mapped import audio, note, session

if TYPE_CHECKING:
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

SYSTEM = "https://hospital.example.org/synthetic-mrn"
VICTIM, OTHER = "p-synthetic-victim", "p-synthetic-other"
CANARY = "qxvictim"
"""Is in every text and identifier of the victim, and nowhere else."""

SECRETS = (CANARY, VICTIM)
LATER = NOW + timedelta(hours=1)


def words(patient: str, what: str) -> str:
    return f"{what} {CANARY if patient == VICTIM else 'qxother'}"


def record(source_id: str, payload: dict[str, Any], **changes: Any) -> SourceRecord:
    facts: dict[str, Any] = {"updated_at": None, "fetched_at": NOW, "visited_at": NOW, **changes}
    return SourceRecord(source_id=source_id, payload=payload, list_hash=content_hash(payload), **facts)


def note_payload(patient: str, number: int, text: str = "Plan:\nRest.") -> dict[str, Any]:
    return note(
        uuid=f"n-{number}",
        audio=f"/audios/a-{number}",
        patient={"uuid": patient},
        content=f"{text} {words(patient, 'note')}",
    )


def land(warehouse: Warehouse, stream: str, *records: SourceRecord, provider: str = "askara", at: Any = NOW) -> Landed:
    return landing_for(warehouse, provider, stream).land(list(records), [], None, now=at)


def fill(warehouse: Warehouse, settings: Settings) -> None:
    """Both people, each with an Askara note that was edited, an AudioScribe session, a job, events and problems."""
    for number, patient in enumerate((VICTIM, OTHER), start=1):
        named = {"uuid": patient, "firstName": words(patient, "First"), "lastName": "Synthetic"}
        land(warehouse, "audios", record(f"a-{number}", audio(uuid=f"a-{number}", patient=named)))
        land(warehouse, "notes", record(f"n-{number}", note_payload(patient, number), parent_id=f"a-{number}"))
        # An audio nobody wrote a note from: its patient stands in its payload alone.
        land(warehouse, "audios", record(f"lonely-{number}", audio(uuid=f"lonely-{number}", patient=named)))
        told = session(
            id=number,
            title=words(patient, "Visit"),
            note=f"Plan:\n{words(patient, 'Rest')}",
            originalTranscript=words(patient, "So"),
        )
        land(warehouse, "sessions", record(str(number), told), provider="audioscribe")
        _quarantine(warehouse, patient, number)
        _job(warehouse, patient, number)
        _references(warehouse, patient)
    visit_rows(warehouse)
    store_events(
        warehouse, [each for number, who in enumerate((VICTIM, OTHER), 1) for each in _events(number, who)], now=NOW
    )
    build(warehouse, settings)
    for number, patient in enumerate((VICTIM, OTHER), start=1):
        edited = note_payload(patient, number, "Plan:\nWalk.")
        land(warehouse, "notes", record(f"n-{number}", edited, parent_id=f"a-{number}", fetched_at=LATER), at=LATER)
    build(warehouse, settings)
    _deliver(warehouse)


def visit_rows(warehouse: Warehouse) -> Imported:
    """The manifest: AudioScribe's sessions and Nabla's recordings, by the hospital's own identifiers."""
    rows = [
        VisitRow(
            provider=provider,
            correlation_key=key,
            patient_id=patient,
            patient_system=SYSTEM,
            encounter_id=f"enc {words(patient, 'e')}",
            started_at=NOW,
            audio_url=f"https://files.example.org/{words(patient, 'f')}.wav" if provider == "nabla" else None,
        )
        for number, patient in enumerate((VICTIM, OTHER), start=1)
        for provider, key in (("audioscribe", str(number)), ("nabla", f"visit-{number}"), ("askara", f"a-{number}"))
    ]
    return import_visits(warehouse, rows, days=DAYS, now=NOW)


def build(warehouse: Warehouse, settings: Settings) -> None:
    with warehouse.read() as connection:
        days = list(connection.scalars(sa.select(visit_days.c.visit_day)))
    for day in days:
        build_notes(warehouse, settings, day, clock=lambda: LATER)
        build_day(warehouse, settings, day, clock=lambda: LATER)


def told(warehouse: Warehouse) -> str:
    """Everything in every table, as one text."""
    return orjson.dumps(dump(warehouse), option=orjson.OPT_NON_STR_KEYS).decode()


def note_id_of(warehouse: Warehouse, source_id: str) -> str:
    with warehouse.read() as connection:
        found: str = connection.execute(sa.select(notes.c.note_id).where(notes.c.source_id == source_id)).scalar_one()
    return found


def _quarantine(warehouse: Warehouse, patient: str, number: int) -> None:
    payload = {"uuid": f"bad-{number}", "patient": {"uuid": patient}, "content": words(patient, "bad")}
    problem = Problem(
        source_id=f"bad-{number}",
        code="wire_model",
        field_paths=("createdAt:missing",),
        payload=payload,
        payload_hash=f"{number}" * 64,
    )
    landing_for(warehouse, "askara", "notes").land([], [problem], None, now=NOW)


def _events(number: int, patient: str) -> list[Event]:
    pushed = {"id": f"e-{number}", "action": "new_note", "metadata": {"note": {"uuid": f"n-{number}"}}}
    hook = session(id=number, title=words(patient, "hook"))
    callback = {"id": f"job-{number}", "data": {"note": words(patient, "callback")}}
    return [
        Event("askara", "new_note", f"e-{number}", {**pushed, "text": words(patient, "event")}, verified=False),
        Event("audioscribe", "session", None, hook, verified=False),
        Event("nabla", "callback", None, callback, verified=True),
    ]


def _job(warehouse: Warehouse, patient: str, number: int) -> None:
    row = {
        "account": "default",
        "provider": "nabla",
        "job_key": f"visit-{number}/transcribe",
        "correlation_key": f"visit-{number}",
        "step": "transcribe",
        "client_request_id": f"ours-{number}",
        "request": {"body": {"audio_url": words(patient, "u")}},
        "request_hash": "0" * 64,
        "state": "running",
        "vendor_job_id": f"job-{number}",
        "submissions": 1,
        "polls": 0,
        "next_poll_at": NOW,
        "wanted_at": NOW,
    }
    with warehouse.begin() as connection:
        connection.execute(sa.insert(scribe_jobs).values(**row))


def _references(warehouse: Warehouse, patient: str) -> None:
    common = {"account": "default", "target": "ehr", "state": "found", "origin": "search", "looked_at": NOW}
    server_id = words(patient, "s").replace(" ", "-")
    rows = [
        {**common, "kind": "Patient", "system": SYSTEM, "value": patient, "server_id": server_id, "subject_id": None},
        {
            **common,
            "kind": "Encounter",
            "system": "by-time",
            "value": words(patient, "hash"),
            "server_id": "enc-1",
            "subject_id": server_id,
        },
    ]
    with warehouse.begin() as connection:
        connection.execute(sa.insert(ehr_references), rows)


def _deliver(warehouse: Warehouse) -> None:
    """A row of the ledger for every note."""
    with warehouse.begin() as connection:
        for each in connection.execute(sa.select(notes)).all():
            row = {"target": "ehr", "note_id": each.note_id, "kind": "Composition", "version": each.version}
            row |= {"account": "default", "visit_day": TODAY, "source_seq": each.source_seq, "state": "delivered"}
            row |= {"server_id": "17", "etag": 'W/"1"', "attempts": 1, "settled_at": NOW}
            connection.execute(sa.insert(deliveries).values(**row))
