"""The assets of a visit day up to delivery: notes, FHIR documents. Partitioned by day, idempotent, rebuildable."""

import logging
from collections.abc import Iterator
from datetime import date

import dagster as dg

from assets.columns import columns_of
from assets.figures import codes
from assets.freshness import stale_after
from assets.partitions import backfill_policy, days_of, visit_days
from assets.sources import source_keys
from assets.work import work_keys
from medscribe_pipeline.fhir import BuildOptions
from medscribe_pipeline.fhir.build import DocumentsReport, build_days, mapping_version
from medscribe_pipeline.fhir.coverage import Coverage, read_coverage
from medscribe_pipeline.fhir.synthetic import synthetic_markdown
from medscribe_pipeline.notes import NoteState
from medscribe_pipeline.pipeline import finish_day
from medscribe_pipeline.providers.build import NotesReport, build_notes_of, mapping_fingerprint
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse import tables
from medscribe_pipeline.warehouse.quarantine_budget import QuarantineBudget
from resources import WarehouseResource, failures_told

progress = logging.getLogger("medscribe_pipeline.progress")

NOTES = "scribe_notes"
COMPOSITIONS = "fhir_compositions"
DOCUMENT_REFERENCES = "fhir_document_references"

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
    """The assets of notes and documents."""
    return [_notes_asset(settings), _documents_asset(settings)]


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
        freshness_policy=stale_after(settings.watch.stale_notes_after_s),
        metadata=columns_of(tables.notes),
        description="Landed records of a visit day as normalised notes with sections, patient, clinician and state.",
    )
    def scribe_notes(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
        with failures_told():
            budget = QuarantineBudget.of(warehouse.settings)

            def done(day: date, report: NotesReport) -> None:
                budget.spend(records=report.looked_at, quarantined=report.newly_quarantined)
                context.add_asset_metadata(_notes_metadata(report), partition_key=day.isoformat())

            build_notes_of(
                warehouse.warehouse,
                warehouse.settings,
                _shown("notes of %s", days_of(context)),
                clock=warehouse.now,
                run_id=context.run.run_id,
                done=done,
            )
            budget.check()
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
            freshness_policy=stale_after(settings.watch.stale_notes_after_s),
            description=f"FHIR R4 {kind} of each note of a visit day, checked by fhir.resources and our own rules.",
            metadata={**columns_of(tables.fhir_documents), **metadata},
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
            budget = QuarantineBudget.of(warehouse.settings)

            def done(day: date, report: DocumentsReport) -> None:
                fresh = report.newly_quarantined
                budget.spend(records=report.built + fresh, quarantined=fresh)
                if not warehouse.settings.targets:
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

            build_days(
                warehouse.warehouse,
                warehouse.settings,
                _shown("FHIR documents of %s", days_of(context)),
                clock=warehouse.now,
                run_id=context.run.run_id,
                done=done,
            )
            budget.check()
        yield dg.MaterializeResult(asset_key=COMPOSITIONS)
        yield dg.MaterializeResult(asset_key=DOCUMENT_REFERENCES)

    return fhir_documents


def _shown(words: str, days: list[date]) -> Iterator[date]:
    """The days, each shown to whoever watches when it is taken."""
    for day in days:
        progress.info(words, day)
        yield day


def _notes_metadata(report: NotesReport) -> Metadata:
    return {
        "dagster/row_count": report.notes,
        "landed": report.landed,
        "looked_at": report.looked_at,
        **{state.value: report.states[state.value] for state in NoteState},
        "held": report.held.total(),
        "held_why": codes(report.held),
        "quarantined": report.quarantined.total(),
        "quarantined_why": codes(report.quarantined),
        "unknown_headings": report.unknown_headings,
    }


def _documents_metadata(report: DocumentsReport, count: int) -> Metadata:
    return {
        "dagster/row_count": count,
        "built": report.built,
        "without_document": report.without.total(),
        "without_why": codes(report.without),
        "forms_left_out": codes(report.left_out),
        "quarantined": report.quarantined.total(),
        "quarantined_why": codes(report.quarantined),
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
