"""The assets of a visit day: notes, FHIR documents, deliveries. Partitioned by day, idempotent, rebuildable."""

import logging
from collections.abc import Iterator, Mapping

import dagster as dg

from assets.partitions import backfill_policy, days_of, visit_days
from assets.sources import source_keys
from assets.work import work_keys
from medscribe_pipeline.ehr.delivery import DeliveryReport, deliver_day
from medscribe_pipeline.fhir import BuildOptions
from medscribe_pipeline.fhir.build import DocumentsReport, build_day, mapping_version
from medscribe_pipeline.fhir.coverage import Coverage, read_coverage
from medscribe_pipeline.fhir.synthetic import synthetic_markdown
from medscribe_pipeline.notes import NoteState
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
Metadata = dict[str, str | int | float | dg.TableMetadataValue]

COVERAGE_COLUMNS = dg.TableSchema(
    [
        dg.TableColumn("provider"),
        dg.TableColumn("key", description="`other`: what does not look like a key, or is rare; `-`: none."),
        dg.TableColumn("treatment", description="loinc, own_code, unknown, or no_key."),
        dg.TableColumn("loinc", description="LOINC code of the section."),
        dg.TableColumn("fit", description="How well LOINC says what the key says; see docs/mapping.md."),
        dg.TableColumn("notes", "int"),
        dg.TableColumn("sections", "int"),
    ]
)


def day_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The partitioned assets; `ehr_deliveries` only where an EHR is configured."""
    assets = [_notes_asset(settings), _documents_asset(settings)]
    if settings.ehr.enabled:
        assets.append(_deliveries_asset(settings))
    return assets


def _notes_asset(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        name=NOTES,
        deps=[*source_keys(settings), *work_keys(settings)],
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
        with failures_told():
            for day in days_of(context):
                progress.info("notes of %s", day)
                report = build_notes(
                    warehouse.warehouse, warehouse.settings, day, clock=warehouse.now, run_id=context.run.run_id
                )
                context.add_asset_metadata(_notes_metadata(report), partition_key=day.isoformat())
        return dg.MaterializeResult()

    return scribe_notes


def _documents_asset(settings: Settings) -> dg.AssetsDefinition:
    options = BuildOptions.of(settings.fhir)

    def spec(name: str, kind: str, **metadata: dg.MetadataValue) -> dg.AssetSpec:
        return dg.AssetSpec(
            name,
            deps=[NOTES],
            group_name="fhir",
            kinds={"python", "fhir", "sql"},
            owners=OWNERS,
            tags={"phi": "true"},
            code_version=mapping_version(settings),
            description=f"FHIR R4 {kind} of each note of a visit day, checked by fhir.resources and our own rules.",
            metadata=metadata,
        )

    preview = dg.MetadataValue.md(synthetic_markdown(options))

    @dg.multi_asset(
        specs=[spec(COMPOSITIONS, "Composition", preview=preview), spec(DOCUMENT_REFERENCES, "DocumentReference")],
        name="fhir_documents",
        partitions_def=visit_days(settings),
        backfill_policy=backfill_policy(settings),
    )
    def fhir_documents(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        with failures_told():
            for day in days_of(context):
                progress.info("FHIR documents of %s", day)
                report = build_day(
                    warehouse.warehouse, warehouse.settings, day, clock=warehouse.now, run_id=context.run.run_id
                )
                if not warehouse.settings.ehr.enabled:
                    finish_day(warehouse.warehouse, warehouse.settings, day)
                for key, count in (
                    (COMPOSITIONS, report.compositions),
                    (DOCUMENT_REFERENCES, report.document_references),
                ):
                    context.add_asset_metadata(
                        _documents_metadata(report, count), asset_key=key, partition_key=day.isoformat()
                    )
                covered = read_coverage(warehouse.warehouse, options.mapping, day)
                context.add_asset_metadata(
                    _coverage_metadata(covered), asset_key=COMPOSITIONS, partition_key=day.isoformat()
                )
        yield dg.MaterializeResult(asset_key=COMPOSITIONS)
        yield dg.MaterializeResult(asset_key=DOCUMENT_REFERENCES)

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
        description="Documents of a visit day, filed in the EHR at most once; what may not go out is held.",
    )
    def ehr_deliveries(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
        with (
            failures_told(),
            warehouse.warehouse.worker() as worker,
            open_fhir_client(warehouse.settings) as client,
        ):
            for day in days_of(context):
                progress.info("deliveries of %s", day)
                report = deliver_day(
                    warehouse.warehouse,
                    client,
                    warehouse.settings.ehr,
                    day,
                    run_id=context.run.run_id,
                    clock=warehouse.now,
                    worker=worker,
                )
                finish_day(warehouse.warehouse, warehouse.settings, day)
                context.add_asset_metadata(_delivery_metadata(report), partition_key=day.isoformat())
        return dg.MaterializeResult()

    return ehr_deliveries


def _notes_metadata(report: NotesReport) -> Metadata:
    return {
        "dagster/row_count": report.notes,
        "landed": report.landed,
        "looked_at": report.looked_at,
        **{state.value: report.states[state.value] for state in NoteState},
        "held": report.held.total(),
        "held_why": _codes(report.held),
        "quarantined": report.quarantined.total(),
        "quarantined_why": _codes(report.quarantined),
        "unknown_headings": report.unknown_headings,
    }


def _documents_metadata(report: DocumentsReport, count: int) -> Metadata:
    return {
        "dagster/row_count": count,
        "built": report.built,
        "without_document": report.without.total(),
        "without_why": _codes(report.without),
        "forms_left_out": _codes(report.left_out),
        "quarantined": report.quarantined.total(),
        "quarantined_why": _codes(report.quarantined),
    }


def _coverage_metadata(covered: Coverage) -> Metadata:
    records = [
        dg.TableRecord(
            {
                "provider": row.provider,
                "key": row.key or "-",
                "treatment": row.codes.treatment.value,
                "loinc": row.codes.loinc or "-",
                "fit": row.codes.fit or "-",
                "notes": row.notes,
                "sections": row.sections,
            }
        )
        for row in covered.shown()
    ]
    return {
        "keys_seen": covered.keys_seen,
        "keys_mapped": covered.keys_mapped,
        "keys_unknown": covered.keys_unknown,
        "coverage": dg.MetadataValue.table(records, COVERAGE_COLUMNS),
    }


def _delivery_metadata(report: DeliveryReport) -> Metadata:
    metadata: Metadata = {
        "dagster/row_count": report.delivered,
        "delivered": report.delivered,
        "already_delivered": report.already_delivered,
        "planned": report.planned,
        "in_flight": report.in_flight,
        "held": sum(report.held.values()),
        "held_why": _codes(report.held),
        "rejected": sum(report.rejected.values()),
        "rejected_why": _codes(report.rejected),
        "unknown": sum(report.unknown.values()),
        "requests": report.requests,
    }
    if report.latency_median_s is not None and report.latency_p95_s is not None:
        metadata["latency_median_s"] = round(report.latency_median_s, 3)
        metadata["latency_p95_s"] = round(report.latency_p95_s, 3)
    return metadata


def _codes(counts: Mapping[str, int]) -> str:
    """`not_validated 3, patient_unknown 1`, most frequent first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{code} {count}" for code, count in ranked) or "-"
