"""The pipeline itself, by the functions its assets call, without Dagster: `python -m bench.ours STAGE ...`.

Stages, in this order: `sync` pulls and lands, `notes` maps to notes, `fhir` builds, checks and stores the documents,
`deliver` files them; `days` only asks which days are due. `migrate` and `visits` prepare a warehouse, `map` maps in
memory what the provider's pages hold, without any database. All else is settings, from the environment as ever. Prints
a JSON object: counts, and the seconds of each stage.

As with the command itself, a stage loads what it needs and no more.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from bench.sessions import PAGE
from medscribe_pipeline.cli import GARBAGE_AFTER
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import Warehouse, in_chunks

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from medscribe_pipeline.fhir import BuildOptions
    from medscribe_pipeline.fhir.build import DocumentsReport
    from medscribe_pipeline.notes import ScribeNote
    from medscribe_pipeline.providers.build import NotesReport

PROVIDER = "audioscribe"
STREAM = "sessions"
NOTES_TO_A_PATIENT = 2
PATIENTS = "https://example.org/sid/patient"


def _now() -> datetime:
    return datetime.now(UTC)


class _Run:
    """One process's work: stages by name, and what they counted."""

    def __init__(self, warehouse: Warehouse, settings: Settings, notes: int) -> None:
        self._warehouse = warehouse
        self._settings = settings
        self._notes = notes
        self.counted: Counter[str] = Counter()

    def sync(self) -> None:
        """Extract and land."""
        from medscribe_pipeline.providers.pull import Window
        from medscribe_pipeline.providers.sync import sync_stream

        report = sync_stream(self._warehouse, self._settings, PROVIDER, STREAM, Window(), clock=_now)
        landed = report.pulled.landed
        self.counted.update(written=landed.new + landed.changed, requests=report.requests)

    def notes(self) -> None:
        """Map to notes."""
        from medscribe_pipeline.providers.build import build_notes_of

        def done(_day: date, report: NotesReport) -> None:
            self.counted["notes"] += report.notes

        build_notes_of(self._warehouse, self._settings, self._due(), clock=_now, done=done)

    def fhir(self) -> None:
        """Build the documents."""
        from medscribe_pipeline.fhir import BuildOptions
        from medscribe_pipeline.fhir.build import build_days
        from medscribe_pipeline.fhir.coverage import read_coverage
        from medscribe_pipeline.pipeline import finish_day

        options = BuildOptions.of(self._settings.fhir)

        def done(day: date, report: DocumentsReport) -> None:
            self.counted["built"] += report.built
            if not self._settings.targets:
                finish_day(self._warehouse, self._settings, day)
            read_coverage(self._warehouse, options.mapping, day)

        build_days(self._warehouse, self._settings, self._due(), clock=_now, done=done)

    def deliver(self) -> None:
        """File the documents."""
        from medscribe_pipeline.ehr.auth import open_http
        from medscribe_pipeline.ehr.client import FhirClient
        from medscribe_pipeline.ehr.delivery import deliver_day
        from medscribe_pipeline.pipeline import finish_day, newest_change

        target = self._settings.ehr
        with self._warehouse.worker() as worker, open_http(target, None) as http:
            client = FhirClient(http)
            for day in self._due():
                seen = newest_change(self._warehouse, day)
                report = deliver_day(self._warehouse, client, target, day, run_id=None, clock=_now, worker=worker)
                finish_day(self._warehouse, self._settings, day, target=target.target, seen=seen)
                self.counted.update(delivered=report.delivered, requests=report.requests)

    def days(self) -> None:
        """Ask what there is to do, as each sync does."""
        self.counted["due_days"] += len(self._due())

    def migrate(self) -> None:
        """Nothing but open the warehouse, which brings its tables up to date."""

    def visits(self) -> None:
        """Say who each session is about, without which nothing is delivered."""
        from medscribe_pipeline.visits import VisitRow
        from medscribe_pipeline.warehouse import manifest
        from medscribe_pipeline.warehouse.days import DayRule

        rows = [
            VisitRow(PROVIDER, f"s-{number:07d}", f"synthetic-{number // NOTES_TO_A_PATIENT}", PATIENTS)
            for number in range(self._notes)
        ]
        for chunk in in_chunks(rows, 10_000):
            manifest.import_visits(self._warehouse, chunk, days=DayRule.of(self._settings), now=_now())

    def map(self) -> None:
        """Map and check every session in memory."""
        import httpx

        from medscribe_pipeline.fhir import BuildOptions
        from medscribe_pipeline.providers.catalogue import PROVIDERS
        from medscribe_pipeline.providers.records import Held, LandedRecord

        options = BuildOptions.of(self._settings.fhir)
        to_notes = PROVIDERS[PROVIDER].to_notes
        url = f"{self._settings.audioscribe.base_url}/api/v1/audioscribe/sessions/"
        with httpx.Client() as client:
            for page in range(-(-self._notes // PAGE)):
                for session in orjson.loads(client.get(url, params={"page": page}).content):
                    made = to_notes(LandedRecord(STREAM, session["id"], session, fetched_at=_now()), self._settings)
                    for note in () if isinstance(made, Held) else made:
                        self._check(note, options)

    def _check(self, note: ScribeNote, options: BuildOptions) -> None:
        from medscribe_pipeline.fhir import build_documents
        from medscribe_pipeline.fhir.shapes import check

        for resource in build_documents(note, options).resources().values():
            check(resource, options.release, options.check)
        self.counted["built"] += 1

    def _due(self) -> list[date]:
        from medscribe_pipeline.pipeline import due_days

        return [day for day, _ in due_days(self._warehouse, self._settings)]


STAGES: dict[str, Callable[[_Run], None]] = {
    "migrate": _Run.migrate,
    "visits": _Run.visits,
    "sync": _Run.sync,
    "notes": _Run.notes,
    "fhir": _Run.fhir,
    "deliver": _Run.deliver,
    "days": _Run.days,
    "map": _Run.map,
}


def run(stages: list[str], notes: int) -> dict[str, Any]:
    """Runs the stages one after the other; returns counts, and seconds by stage."""
    settings = Settings.load()
    seconds: dict[str, float] = {}
    with Warehouse.open(settings) as warehouse:
        work = _Run(warehouse, settings, notes)
        for stage in stages:
            started = time.perf_counter()
            STAGES[stage](work)
            seconds[stage] = round(time.perf_counter() - started, 3)
    return {**work.counted, "stages": seconds}


def main() -> None:
    """Runs what is asked for, and prints what became of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.ours")
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--notes", type=int, default=0, help="how many there are, for `visits` and `map`")
    asked = parser.parse_args()
    # As the command itself does it.
    gc.set_threshold(GARBAGE_AFTER)
    sys.stdout.write(orjson.dumps(run(asked.stages, asked.notes)).decode() + "\n")


if __name__ == "__main__":
    main()
