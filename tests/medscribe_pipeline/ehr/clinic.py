"""A warehouse with notes in it, and one call to deliver them: what the tests of this room begin with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.delivery import DeliveryReport, deliver_day
from medscribe_pipeline.fhir.build import build_day
from medscribe_pipeline.notes import Identifier, NoteSection, NoteState, ScribeNote, Visit, content_hash, stable_id
from medscribe_pipeline.providers.http import BearerToken, HttpClient
from medscribe_pipeline.settings import EhrSettings
from medscribe_pipeline.warehouse.notes import MappedNote, write_notes
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import deliveries

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings
__all__ = ["DAY", "NOW", "Clinic", "note"]

DAY = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 18, 0, tzinfo=UTC)


def note(
    number: int,
    text: str = "Cough for three days.",
    *,
    state: NoteState = NoteState.VALIDATED,
    patient: str | None = "p",
) -> ScribeNote:
    """A synthetic note; its version follows from what is given."""
    source_id = f"n-{number}"
    return ScribeNote(
        note_id=stable_id("askara", "default", source_id, "note"),
        provider="askara",
        account="default",
        stream="notes",
        source_id=source_id,
        state=state,
        version=content_hash([number, text, state, patient]),
        sections=(NoteSection("HISTORY_OF_PRESENT_ILLNESS", "History", text),),
        visit=Visit(patient=Identifier("urn:example:patients", patient) if patient else None),
        created_at=NOW - timedelta(hours=8),
        updated_at=NOW - timedelta(hours=7),
    )


class Clinic:
    """One account: its warehouse, its EHR settings and a clock that stands still unless moved."""

    def __init__(self, settings: Settings, base_url: str, *, connections: int = 2, max_attempts: int = 1) -> None:
        self.settings = settings
        self.ehr = EhrSettings(
            base_url=base_url,
            connections=connections,
            max_attempts=max_attempts,
            backoff_s=0,
            timeout_s=5,
            max_wait_s=1,
            reconcile_after_s=2,
        )
        self.warehouse = Warehouse.open(self.settings)
        self.now = NOW
        self.slept: list[float] = []
        self._seq = 0

    def close(self) -> None:
        self.warehouse.close()

    def write(self, *notes: ScribeNote, day: date = DAY, seq: int | None = None) -> None:
        """Lands notes and builds their documents, as the stages before delivery do."""
        mapped = []
        for each in notes:
            self._seq += 1
            mapped.append(MappedNote(each, day, seq or self._seq))
        self.now += timedelta(minutes=1)
        with self.warehouse.begin() as connection:
            write_notes(self.warehouse, connection, mapped, self.now)
        build_day(self.warehouse, self.settings, day, clock=lambda: self.now)

    def http(self, token: str | None = None) -> HttpClient:
        """A client of the EHR that never really waits."""
        auth = BearerToken(token) if token else None
        return HttpClient("ehr", self.ehr.base_url or "", self.ehr, auth, sleep=self.slept.append)

    def deliver(
        self,
        *,
        token: str | None = None,
        checkpoint: Callable[[str], None] = lambda _name: None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> DeliveryReport:
        with self.warehouse.worker() as worker, self.http(token) as http:
            return deliver_day(
                self.warehouse,
                FhirClient(http, self.settings.fhir.release),
                self.ehr,
                DAY,
                run_id="run-1",
                clock=lambda: self.now,
                worker=worker,
                sleep=self.sleep,
                checkpoint=checkpoint,
                on_progress=on_progress,
            )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)

    def with_ehr(self, **changes: object) -> None:
        """Changes EHR settings."""
        self.ehr = self.ehr.model_copy(update=changes)

    def ledger(self, state: str | None = None) -> int:
        """How many ledger rows there are, or are in a state."""
        query = sa.select(sa.func.count()).select_from(deliveries)
        if state:
            query = query.where(deliveries.c.state == state)
        with self.warehouse.read() as connection:
            return connection.scalar(query) or 0


def edited(base: ScribeNote, text: str) -> ScribeNote:
    """The same note with other words."""
    return replace(
        base,
        version=content_hash([base.version, text]),
        sections=(NoteSection("HISTORY_OF_PRESENT_ILLNESS", "History", text),),
    )
