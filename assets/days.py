"""The assets of a visit day: notes, FHIR documents, deliveries. Partitioned by day, idempotent, rebuildable."""

import logging
from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg

from assets.partitions import backfill_policy, days_of, visit_days
from assets.sources import source_keys
from medscribe_pipeline.ehr.delivery import DeliveryReport, deliver_day
from medscribe_pipeline.fhir.build import DocumentsReport, build_day, mapping_version
from medscribe_pipeline.pipeline import finish_day
from medscribe_pipeline.providers.build import NotesReport, build_notes, mapping_fingerprint
from medscribe_pipeline.settings import Settings
from resources import WarehouseResource, failures_told, open_fhir_client

progress = logging.getLogger("medscribe_pipeline.progress")

NOTES = "scribe_notes"
COMPOSITIONS = "fhir_compositions"
DOCUMENT_REFERENCES = "fhir_document_references"
DELIVERIES = "ehr_deliveries"

OWNERS = ["team:data-engineering"]
TABLE_ROWS = 100
"""Most days a report shows one by one; metadata is stored for ever and must not grow with the range."""

Metadata = dict[str, dg.MetadataValue | str | int | float]


def day_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The partitioned assets; `ehr_deliveries` only where an EHR is configured."""
    assets = [_notes_asset(settings), _documents_asset(settings)]
    if settings.ehr.enabled:
        assets.append(_deliveries_asset(settings))
    return assets


def _notes_asset(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        name=NOTES,
        deps=source_keys(settings),
        partitions_def=visit_days(settings),
        backfill_policy=backfill_policy(settings),
        group_name="notes",
        kinds={"python", "sql"},
        owners=OWNERS,
        tags={"phi": "true"},
        code_version=mapping_fingerprint(settings),
        description="Landed records of a visit day as normalised notes with sections, patient, clinician and state.",
    )
    def scribe_notes(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
        rows: list[tuple[date, NotesReport]] = []
        with failures_told():
            for day in days_of(context):
                progress.info("notes of %s", day)
                rows.append(
                    (
                        day,
                        build_notes(
                            warehouse.warehouse, warehouse.settings, day, clock=warehouse.now, run_id=context.run_id
                        ),
                    )
                )
        reports = [report for _, report in rows]
        metadata: Metadata = {
            "dagster/row_count": sum(report.notes for report in reports),
            "landed": sum(report.landed for report in reports),
            "looked_at": sum(report.looked_at for report in reports),
            "drafts": sum(report.states["draft"] for report in reports),
            "validated": sum(report.states["validated"] for report in reports),
            "retracted": sum(report.states["retracted"] for report in reports),
            "failed": sum(report.states["failed"] for report in reports),
            "held": sum(report.held.total() for report in reports),
            "quarantined": sum(report.quarantined.total() for report in reports),
            "unknown_headings": sum(report.unknown_headings for report in reports),
            "days": _table(
                ("day", "landed", "notes", "held", "quarantined"),
                [(day, r.landed, r.notes, r.held.total(), r.quarantined.total()) for day, r in rows if r.landed],
            ),
        }
        return dg.MaterializeResult(metadata=metadata)

    return scribe_notes


def _documents_asset(settings: Settings) -> dg.AssetsDefinition:
    def spec(name: str, kind: str) -> dg.AssetSpec:
        return dg.AssetSpec(
            name,
            deps=[NOTES],
            group_name="fhir",
            kinds={"python", "fhir", "sql"},
            owners=OWNERS,
            tags={"phi": "true"},
            code_version=mapping_version(settings),
            description=f"FHIR R4 {kind} of each note of a visit day, checked by fhir.resources and our own rules.",
        )

    @dg.multi_asset(
        specs=[spec(COMPOSITIONS, "Composition"), spec(DOCUMENT_REFERENCES, "DocumentReference")],
        name="fhir_documents",
        partitions_def=visit_days(settings),
        backfill_policy=backfill_policy(settings),
    )
    def fhir_documents(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        rows: list[tuple[date, DocumentsReport]] = []
        with failures_told():
            for day in days_of(context):
                progress.info("FHIR documents of %s", day)
                report = build_day(
                    warehouse.warehouse, warehouse.settings, day, clock=warehouse.now, run_id=context.run_id
                )
                rows.append((day, report))
                if not warehouse.settings.ehr.enabled:
                    finish_day(warehouse.warehouse, warehouse.settings, day)
        shared: Metadata = {
            "built": sum(report.built for _, report in rows),
            "without_text": sum(report.without.total() for _, report in rows),
            "quarantined": sum(report.quarantined.total() for _, report in rows),
            "mapping_version": mapping_version(warehouse.settings),
        }
        for key, field in ((COMPOSITIONS, "compositions"), (DOCUMENT_REFERENCES, "document_references")):
            counts = [(day, getattr(report, field)) for day, report in rows]
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={
                    "dagster/row_count": sum(count for _, count in counts),
                    **shared,
                    "days": _table(("day", "documents"), [row for row in counts if row[1]]),
                },
            )

    return fhir_documents


def _deliveries_asset(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        name=DELIVERIES,
        deps=[COMPOSITIONS, DOCUMENT_REFERENCES],
        partitions_def=visit_days(settings),
        backfill_policy=backfill_policy(settings),
        group_name="ehr",
        kinds={"python", "fhir"},
        owners=OWNERS,
        tags={"phi": "true"},
        pool=f"ehr.{settings.ehr.target}",
        description="Documents of a visit day, filed in the EHR at most once; what may not go out is held, with the reason.",
    )
    def ehr_deliveries(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
        rows: list[DeliveryReport] = []
        with (
            failures_told(),
            warehouse.warehouse.worker() as worker,
            open_fhir_client(warehouse.settings) as client,
        ):
            for day in days_of(context):
                progress.info("deliveries of %s", day)
                rows.append(
                    deliver_day(
                        warehouse.warehouse,
                        client,
                        warehouse.settings.ehr,
                        day,
                        run_id=context.run_id,
                        clock=warehouse.now,
                        worker=worker,
                    )
                )
                finish_day(warehouse.warehouse, warehouse.settings, day)
        slowest = [report.latency_p95_s for report in rows if report.latency_p95_s is not None]
        metadata: Metadata = {
            "dagster/row_count": sum(report.delivered for report in rows),
            "delivered": sum(report.delivered for report in rows),
            "already_delivered": sum(report.already_delivered for report in rows),
            "held": sum(sum(report.held.values()) for report in rows),
            "rejected": sum(sum(report.rejected.values()) for report in rows),
            "unknown": sum(sum(report.unknown.values()) for report in rows),
            "planned": sum(report.planned for report in rows),
            "requests": sum(report.requests for report in rows),
            "latency_p95_s": round(max(slowest), 3) if slowest else 0.0,
            "days": _table(
                ("day", "delivered", "before", "held", "rejected", "unknown"),
                [
                    (
                        report.day,
                        report.delivered,
                        report.already_delivered,
                        sum(report.held.values()),
                        sum(report.rejected.values()),
                        sum(report.unknown.values()),
                    )
                    for report in rows
                    if report.delivered or report.already_delivered or report.held or report.rejected or report.unknown
                ],
            ),
        }
        return dg.MaterializeResult(metadata=metadata)

    return ehr_deliveries


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> dg.MetadataValue:
    """A Markdown table of the newest `TABLE_ROWS` rows."""
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows[-TABLE_ROWS:]]
    return dg.MetadataValue.md("\n".join(lines))
