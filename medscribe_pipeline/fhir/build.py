"""Notes of one visit day into FHIR documents: the stage behind the assets of the same name."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError, place_of
from medscribe_pipeline.fhir.documents import build_documents
from medscribe_pipeline.fhir.options import BuildOptions
from medscribe_pipeline.fhir.renderings import missing_forms
from medscribe_pipeline.fhir.shapes import check
from medscribe_pipeline.fhir.stored import kinds, lacking, leftovers, open_problems, standing, with_documents
from medscribe_pipeline.notes import NoteState, canonical_json
from medscribe_pipeline.processes import Batch, batches_of, differs, share
from medscribe_pipeline.warehouse.among import KEYS, among
from medscribe_pipeline.warehouse.notes import MappedNote, read_notes
from medscribe_pipeline.warehouse.quarantine import (
    concerns_us,
    quarantine_id,
    resolve_quarantine,
    write_quarantine,
)
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import fhir_documents, notes, quarantine
from medscribe_pipeline.warehouse.writing import insert, native_name
from medscribe_pipeline.watching import bound, telemetry, working

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import date, datetime

    from medscribe_pipeline.notes import ScribeNote
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["DocumentsReport", "build_batch", "build_day", "build_days", "count_due", "mapping_version"]

BATCH = 200
WORTH_SHARING = 1_500
"""So many due notes take longer than it takes to start a helper, which is most of a second of a core."""

STAGE = "fhir"
UNEXPECTED = "unexpected"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class DocumentsReport:
    """What a day's notes became.

    `built` notes were new or changed; the counts of documents are of all there are; `removed` are documents of kinds
    that are not built any more, a transcript after its setting was switched off; `without` says why a note has none;
    `left_out` counts forms of a note that could not be made, see `renderings`; `newly_quarantined` are notes that are
    in quarantine and were not before.
    """

    built: int = 0
    newly_quarantined: int = 0
    compositions: int = 0
    document_references: int = 0
    provenances: int = 0
    transcripts: int = 0
    removed: int = 0
    without: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)

    def add(self, part: DocumentsReport) -> None:
        """Sums up what became of a part of the day's notes."""
        self.built += part.built
        self.newly_quarantined += part.newly_quarantined
        self.removed += part.removed
        self.without.update(part.without)
        self.left_out.update(part.left_out)


def mapping_version(settings: Settings) -> str:
    """Version of the mapping, recorded with each document: code tables and the settings that shape a resource."""
    return BuildOptions.of(settings.fhir).version


def build_day(
    warehouse: Warehouse,
    settings: Settings,
    day: date,
    *,
    clock: Callable[[], datetime],
    run_id: str | None = None,
) -> DocumentsReport:
    """As `build_days`, for one day; returns its report."""
    reports: dict[date, DocumentsReport] = {}
    with bound(day=day):
        build_days(warehouse, settings, [day], clock=clock, run_id=run_id, done=reports.__setitem__)
    return reports[day]


def build_days(
    warehouse: Warehouse,
    settings: Settings,
    days: Iterable[date],
    *,
    clock: Callable[[], datetime],
    run_id: str | None = None,
    done: Callable[[date, DocumentsReport], object],
) -> None:
    """Builds, checks and stores the documents of every note of those days that has none of its version yet.

    All documents of a note are written in one transaction, and those of kinds it has no more are removed in it. A
    note whose documents break a rule of FHIR goes to quarantine with rule keys and paths; the others go on. A note
    that changes or is forgotten while it is being built is left as it is.

    Args:
        warehouse: The warehouse.
        settings: The settings; as many processes as they allow share the work.
        days: The visit days; the next is taken when there is nothing left to give out of the last.
        clock: Gives the current time, aware UTC.
        run_id: The run this is part of.
        done: Called with each day, in order, once nothing of it is left to do.
    """
    version = mapping_version(settings)
    reports: dict[date, DocumentsReport] = {}

    def batches() -> Iterator[Batch]:
        for day in days:
            yield from batches_of(day, _due(warehouse, day, version), BATCH, version=version, run_id=run_id)

    def built(batch: Batch, part: DocumentsReport) -> None:
        day = batch.day
        report = reports.setdefault(day, DocumentsReport())
        report.add(part)
        if not batch.last:
            return
        _totals(warehouse, day, report)
        fresh = report.newly_quarantined
        log.info("Documents built: day=%s built=%d quarantined=%d", day, report.built, fresh)
        telemetry.add("medscribe.documents", report.built)
        done(day, reports.pop(day))

    with working("medscribe.build.documents", run=run_id):
        share(warehouse, settings, build_batch, batches(), clock=clock, worth=WORTH_SHARING, done=built)


def count_due(connection: sa.Connection, account: str, day: date, version: str) -> int:
    """How many notes of the day still lack documents they should have; quarantined ones wait for a person.

    Or a person has put them aside.
    """
    buildable = sa.or_(notes.c.state == "retracted", sa.and_(notes.c.state != "failed", notes.c.has_text))
    named = (notes.c.provider, notes.c.stream, notes.c.source_id, notes.c.kind)
    query = lacking().where(buildable).with_only_columns(*named, notes.c.version)
    rows_due = connection.execute(query, {"account": account, "day": day, "version": version})
    # By their ids, which the database cannot make: by their names it would look through all there are for each note.
    due = [(_quarantine_id(account, *name), newest) for *name, newest in rows_due]
    waiting: set[tuple[str, str]] = set()
    for chunk in in_chunks([row_id for row_id, _ in due]):
        rows = sa.select(quarantine.c.id, quarantine.c.payload_hash).where(
            among(connection, quarantine.c.id, chunk), concerns_us()
        )
        waiting.update((row_id, hashed) for row_id, hashed in connection.execute(rows))
    return sum(each not in waiting for each in due)


def _due(warehouse: Warehouse, day: date, version: str) -> list[str]:
    with warehouse.read() as connection:
        of = {"account": warehouse.account, "day": day, "version": version}
        return list(connection.scalars(lacking(), of))


@dataclass(frozen=True, slots=True)
class _Built:
    """What one note became: documents as they are stored, by kind, or what is wrong with them."""

    item: MappedNote
    note_id: str
    resources: dict[str, bytes] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    code: str | None = None
    paths: Sequence[str] = ()


def build_batch(warehouse: Warehouse, settings: Settings, batch: Batch, now: datetime) -> DocumentsReport:
    """Builds, checks and stores the documents of one batch, in whatever process.

    Returns:
        What became of these notes, without the totals of the day.

    Raises:
        MedscribeError: `mapping_differs`: the batch is for another mapping than this.
    """
    report = DocumentsReport()
    if not batch.keys:
        return report
    options = BuildOptions.of(settings.fhir)
    if batch.version != options.version:
        raise differs()
    # Built outside the transaction: checking takes longer than writing, and others may want to write meanwhile.
    with warehouse.read() as connection:
        mapped = read_notes(connection, batch.keys, with_transcripts=options.transcripts)
    built: list[_Built] = []
    for item in mapped:
        if reason := _nothing_to_build(item):
            report.without[reason] += 1
        else:
            built.append(_build(item, options))
    if built:
        with warehouse.begin() as connection:
            _write(warehouse, connection, _unchanged(connection, built), batch, now, report)
    return report


def _build(item: MappedNote, options: BuildOptions) -> _Built:
    """The documents of one note, checked; whatever it holds, nothing is raised."""
    note_id = str(item.note.note_id)
    try:
        resources = build_documents(item.note, options).resources()
        for resource in resources.values():
            check(resource, options.release, options.check)
        left_out = missing_forms(resources["DocumentReference"], options)
        # Written at once: the values of a whole batch would be too many to stay close to the processor, and for the
        # garbage collector to look at.
        written = {kind: canonical_json(resource) for kind, resource in resources.items()}
    except MedscribeError as error:
        return _Built(item, note_id, code=error.code, paths=error.field_paths)
    except Exception as error:  # noqa: BLE001  # one note that trips us must not stop the others
        return _Built(item, note_id, code=UNEXPECTED, paths=[place_of(error)])
    return _Built(item, note_id, written, left_out)


def _unchanged(connection: sa.Connection, built: Sequence[_Built]) -> list[_Built]:
    """Those whose note is as it was read, and was not forgotten; it stays so until the transaction ends."""
    found: dict[str, tuple[Any, ...]] = {}
    for chunk in in_chunks([each.note_id for each in built]):
        rows = connection.execute(standing(native_name(connection)), {KEYS: list(chunk)})
        found.update((note_id, tuple(stand)) for note_id, *stand in rows)
    return [
        each
        for each in built
        if found.get(each.note_id) == (each.item.note.version, each.item.source_seq, each.item.visit_day)
    ]


def _write(
    warehouse: Warehouse,
    connection: sa.Connection,
    built: Sequence[_Built],
    batch: Batch,
    now: datetime,
    report: DocumentsReport,
) -> None:
    problems = [_problem(warehouse, each, each.code, now, batch.run_id) for each in built if each.code is not None]
    healthy = [each for each in built if each.code is None]
    rows: list[dict[str, Any]] = [
        {
            "note_id": each.note_id,
            "kind": kind,
            "account": warehouse.account,
            "visit_day": each.item.visit_day,
            "resource": resource,
            "version": each.item.note.version,
            "mapping_version": batch.version,
            "source_seq": each.item.source_seq,
            "built_at": now,
        }
        for each in healthy
        for kind, resource in each.resources.items()
    ]
    built_before = _built_before(connection, [each.note_id for each in healthy])
    insert(connection, fhir_documents, [row for row in rows if row["note_id"] not in built_before])
    again = [row for row in rows if row["note_id"] in built_before]
    warehouse.upsert(connection, fhir_documents, again, not_older_by="source_seq")
    report.removed += _remove_leftovers(connection, sorted(built_before))
    report.newly_quarantined += write_quarantine(warehouse, connection, problems).fresh
    resolve_quarantine(connection, [_id_of(warehouse, each.item.note) for each in healthy], now)
    report.built += len(healthy)
    for each in healthy:
        report.left_out.update(each.left_out)


def _built_before(connection: sa.Connection, note_ids: Sequence[str]) -> set[str]:
    """Those of these notes that may have documents. Nobody writes any for the others while this transaction lasts.

    The notes are locked by now, if the database has locks; with those we know it has.
    """
    if native_name(connection) is None:
        return set(note_ids)
    found: set[str] = set()
    for chunk in in_chunks(note_ids):
        found.update(connection.scalars(with_documents(native_name(connection)), {KEYS: list(chunk)}))
    return found


def _remove_leftovers(connection: sa.Connection, note_ids: Sequence[str]) -> int:
    """Removes what an earlier build made and the latest did not: whatever is not of one build with the Composition.

    Told by the Composition and not by what this run built: a run that was overtaken must not remove what is newer.
    """
    statement = leftovers(native_name(connection))
    return sum(connection.execute(statement, {KEYS: list(chunk)}).rowcount for chunk in in_chunks(note_ids))


def _nothing_to_build(item: MappedNote) -> str | None:
    if item.note.state is NoteState.FAILED:
        return "failed_at_provider"
    if item.note.state is not NoteState.RETRACTED and not item.note.has_text:
        return "empty_note"
    return None


def _id_of(warehouse: Warehouse, note: ScribeNote) -> str:
    return _quarantine_id(warehouse.account, note.provider, note.stream, note.source_id, note.kind)


def _quarantine_id(account: str, provider: str, stream: str, source_id: str, kind: str) -> str:
    """One record may have become several notes: each has a row of its own."""
    source = source_id if kind == "note" else f"{source_id}\x1f{kind}"
    return quarantine_id(account, STAGE, provider, stream, source)


def _problem(warehouse: Warehouse, built: _Built, code: str, now: datetime, run_id: str | None) -> dict[str, Any]:
    note = built.item.note
    return {
        "id": _id_of(warehouse, note),
        "account": warehouse.account,
        "stage": STAGE,
        "provider": note.provider,
        "stream": note.stream,
        "source_id": note.source_id,
        "visit_day": built.item.visit_day,
        "error_code": code,
        "field_paths": list(built.paths),
        "payload": None,
        "payload_hash": note.version,
        "attempts": 1,
        "first_seen_at": now,
        "last_seen_at": now,
        "resolved_at": None,
        "run_id": run_id,
    }


def _totals(warehouse: Warehouse, day: date, report: DocumentsReport) -> None:
    of = {"account": warehouse.account, "day": day}
    with warehouse.read() as connection:
        counts: dict[str, int] = dict(connection.execute(kinds(), of).all())
        codes = connection.execute(open_problems(), {**of, "stage": STAGE})
        report.quarantined.update(dict(codes.all()))
    report.compositions = counts.get("Composition", 0)
    report.document_references = counts.get("DocumentReference", 0)
    report.provenances = counts.get("Provenance", 0)
    report.transcripts = counts.get("Transcript", 0)
