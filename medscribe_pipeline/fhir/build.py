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
from medscribe_pipeline.notes import NoteState
from medscribe_pipeline.warehouse.notes import MappedNote, read_notes
from medscribe_pipeline.warehouse.quarantine import (
    concerns_us,
    quarantine_id,
    resolve_quarantine,
    write_quarantine,
)
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import fhir_documents, notes, quarantine
from medscribe_pipeline.watching import telemetry, working

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date, datetime

    from medscribe_pipeline.notes import ScribeNote
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["DocumentsReport", "build_day", "count_due", "mapping_version"]

BATCH = 200
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
    """Builds, checks and stores the documents of every note of the day that has none of its version yet.

    All documents of a note are written in one transaction, and those of kinds it has no more are removed in it. A
    note whose documents break a rule of FHIR goes to quarantine with rule keys and paths; the others go on.
    """
    options = BuildOptions.of(settings.fhir)
    report = DocumentsReport()
    with working("medscribe.build.documents", run=run_id, day=day):
        for chunk in in_chunks(_due(warehouse, day, options.version), BATCH):
            _build_batch(warehouse, options, chunk, clock(), run_id, report)
        _totals(warehouse, day, report)
        fresh = report.newly_quarantined
        log.info("Documents built: day=%s built=%d quarantined=%d", day, report.built, fresh)
        telemetry.add("medscribe.documents", report.built)
    return report


def count_due(connection: sa.Connection, account: str, day: date, version: str) -> int:
    """How many notes of the day still lack documents they should have; quarantined ones wait for a person.

    Or a person has put them aside.
    """
    waiting = (
        sa.select(quarantine.c.id)
        .where(
            quarantine.c.account == account,
            quarantine.c.stage == STAGE,
            quarantine.c.provider == notes.c.provider,
            quarantine.c.stream == notes.c.stream,
            quarantine.c.source_id == notes.c.source_id,
            quarantine.c.payload_hash == notes.c.version,
            concerns_us(),
        )
        .exists()
    )
    buildable = sa.or_(notes.c.state == "retracted", sa.and_(notes.c.state != "failed", notes.c.has_text))
    due = _due_query(account, day, version).where(~waiting, buildable).subquery()
    return connection.scalar(sa.select(sa.func.count()).select_from(due)) or 0


def _due(warehouse: Warehouse, day: date, version: str) -> list[str]:
    with warehouse.read() as connection:
        return list(connection.scalars(_due_query(warehouse.account, day, version)))


def _due_query(account: str, day: date, version: str) -> sa.Select[tuple[str]]:
    current = (
        sa.select(fhir_documents.c.note_id)
        .where(
            fhir_documents.c.note_id == notes.c.note_id,
            fhir_documents.c.version == notes.c.version,
            fhir_documents.c.mapping_version == version,
            fhir_documents.c.visit_day == notes.c.visit_day,
        )
        .exists()
    )
    return (
        sa.select(notes.c.note_id)
        .where(notes.c.account == account, notes.c.visit_day == day, notes.c.forgotten_at.is_(None), ~current)
        .order_by(notes.c.note_id)
    )


def _build_batch(
    warehouse: Warehouse,
    options: BuildOptions,
    note_ids: Sequence[str],
    now: datetime,
    run_id: str | None,
    report: DocumentsReport,
) -> None:
    # Built outside the transaction: checking takes longer than writing, and others may want to write meanwhile.
    with warehouse.read() as connection:
        mapped = read_notes(connection, note_ids, with_transcripts=options.transcripts)
    rows: list[dict[str, Any]] = []
    problems: list[dict[str, Any]] = []
    healthy: list[str] = []
    built = 0
    for item in mapped:
        if reason := _nothing_to_build(item):
            report.without[reason] += 1
            continue
        try:
            resources = build_documents(item.note, options).resources()
            for resource in resources.values():
                check(resource, options.release, options.check)
        except MedscribeError as error:
            problems.append(_problem(warehouse, item, error.code, error.field_paths, now, run_id))
            continue
        except Exception as error:  # noqa: BLE001  # one note that trips us must not stop the others
            problems.append(_problem(warehouse, item, UNEXPECTED, [place_of(error)], now, run_id))
            continue
        report.left_out.update(missing_forms(resources["DocumentReference"], options))
        healthy.append(_quarantine_id(warehouse, item.note))
        rows.extend(
            {
                "note_id": str(item.note.note_id),
                "kind": kind,
                "account": warehouse.account,
                "visit_day": item.visit_day,
                "resource": resource,
                "version": item.note.version,
                "mapping_version": options.version,
                "source_seq": item.source_seq,
                "built_at": now,
            }
            for kind, resource in resources.items()
        )
        built += 1
    with warehouse.begin() as connection:
        warehouse.upsert(connection, fhir_documents, rows, not_older_by="source_seq")
        report.removed += _remove_leftovers(connection, [row["note_id"] for row in rows])
        report.newly_quarantined += write_quarantine(warehouse, connection, problems).fresh
        resolve_quarantine(connection, healthy, now)
    report.built += built


def _remove_leftovers(connection: sa.Connection, note_ids: Sequence[str]) -> int:
    """Removes what an earlier build made and the latest did not: whatever is not of one build with the Composition.

    Told by the Composition and not by what this run built: a run that was overtaken must not remove what is newer.
    """
    latest = fhir_documents.alias("latest")
    of_one_build = (
        sa.select(latest.c.note_id)
        .where(
            latest.c.note_id == fhir_documents.c.note_id,
            latest.c.kind == "Composition",
            *(
                latest.c[name] == fhir_documents.c[name]
                for name in ("version", "mapping_version", "source_seq", "visit_day")
            ),
        )
        .exists()
    )
    removed = 0
    for chunk in in_chunks(sorted(set(note_ids))):
        found = connection.execute(sa.delete(fhir_documents).where(fhir_documents.c.note_id.in_(chunk), ~of_one_build))
        removed += found.rowcount
    return removed


def _nothing_to_build(item: MappedNote) -> str | None:
    if item.note.state is NoteState.FAILED:
        return "failed_at_provider"
    if item.note.state is not NoteState.RETRACTED and not item.note.has_text:
        return "empty_note"
    return None


def _quarantine_id(warehouse: Warehouse, note: ScribeNote) -> str:
    """One record may have become several notes: each has a row of its own."""
    source = note.source_id if note.kind == "note" else f"{note.source_id}\x1f{note.kind}"
    return quarantine_id(warehouse.account, STAGE, note.provider, note.stream, source)


def _problem(
    warehouse: Warehouse, item: MappedNote, code: str, paths: Sequence[str], now: datetime, run_id: str | None
) -> dict[str, Any]:
    note = item.note
    return {
        "id": _quarantine_id(warehouse, note),
        "account": warehouse.account,
        "stage": STAGE,
        "provider": note.provider,
        "stream": note.stream,
        "source_id": note.source_id,
        "visit_day": item.visit_day,
        "error_code": code,
        "field_paths": list(paths),
        "payload": None,
        "payload_hash": note.version,
        "attempts": 1,
        "first_seen_at": now,
        "last_seen_at": now,
        "resolved_at": None,
        "run_id": run_id,
    }


def _totals(warehouse: Warehouse, day: date, report: DocumentsReport) -> None:
    with warehouse.read() as connection:
        kinds = connection.execute(
            sa.select(fhir_documents.c.kind, sa.func.count())
            .where(fhir_documents.c.account == warehouse.account, fhir_documents.c.visit_day == day)
            .group_by(fhir_documents.c.kind)
        )
        counts: dict[str, int] = dict(kinds.all())
        codes = connection.execute(
            sa.select(quarantine.c.error_code, sa.func.count())
            .where(
                quarantine.c.account == warehouse.account,
                quarantine.c.stage == STAGE,
                quarantine.c.visit_day == day,
                quarantine.c.resolved_at.is_(None),
            )
            .group_by(quarantine.c.error_code)
        )
        report.quarantined.update(dict(codes.all()))
    report.compositions = counts.get("Composition", 0)
    report.document_references = counts.get("DocumentReference", 0)
    report.provenances = counts.get("Provenance", 0)
    report.transcripts = counts.get("Transcript", 0)
