"""The daily report: what a visit day came to, as metadata and as a page. Reads, and changes nothing."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.days import COMPOSITIONS, DOCUMENT_REFERENCES, OWNERS
from assets.deliveries import delivery_names
from assets.partitions import backfill_policy, days_of, visit_days
from medscribe_pipeline.operation.day import DayReport, read_day
from medscribe_pipeline.operation.day_json import flow_markdown
from medscribe_pipeline.operation.day_page import day_html
from medscribe_pipeline.operation.reasons import Act
from medscribe_pipeline.operation.report_file import write_report
from medscribe_pipeline.operation.verdict import judge
from medscribe_pipeline.pipeline import fingerprint
from medscribe_pipeline.settings import Settings
from resources import WarehouseResource, failures_told

REPORT = "daily_report"
REPORT_JOB = "report_days"

EARLY = "30 6 * * *"
"""Before people begin to work, and after the night's last sync."""

Metadata = dict[str, dg.MetadataValue | str | int | bool]


def report_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The one asset."""
    return [_report_asset(settings)]


def report_jobs() -> list[UnresolvedAssetJobDefinition]:
    """A job of its own: a report is wanted when a day is over, not whenever a day is built."""
    return [
        dg.define_asset_job(
            REPORT_JOB, selection=dg.AssetSelection.assets(REPORT), description="Reports on visit days, one page each."
        )
    ]


def report_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Yesterday's report every morning, stopped until somebody starts it."""

    @dg.schedule(
        name="report_schedule",
        job_name=REPORT_JOB,
        cron_schedule=EARLY,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Reports on the day before, every morning.",
    )
    def yesterday(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        day = context.scheduled_execution_time.astimezone(settings.zone).date() - timedelta(days=1)
        yield dg.RunRequest(partition_key=day.isoformat())

    return [yesterday]


def _report_asset(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        name=REPORT,
        deps=[*(delivery_names(settings).values() or (COMPOSITIONS, DOCUMENT_REFERENCES))],
        partitions_def=visit_days(settings),
        backfill_policy=backfill_policy(settings),
        group_name="warehouse",
        kinds={"python", "sql"},
        owners=OWNERS,
        tags={"phi": "true"},
        description="Whether a visit day is complete, what is missing and why, and what to do: counts and codes only, "
        "as a page under `MEDSCRIBE_HOME`.",
    )
    def daily_report(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
        with failures_told():
            own, found = warehouse.settings, fingerprint(warehouse.settings)
            for day in days_of(context):
                report = read_day(warehouse.warehouse, own, day, fingerprint=found, now=warehouse.now())
                page = write_report(own, day, day_html(report))
                metadata = _metadata(report) | {"page": dg.MetadataValue.path(page)}
                context.add_asset_metadata(metadata, partition_key=day.isoformat())
        return dg.MaterializeResult()

    return daily_report


def _metadata(report: DayReport) -> Metadata:
    verdict, gaps = judge(report), report.open_gaps()
    return {
        "verdict": verdict.sentence,
        "complete": verdict.complete,
        "to_run": ", ".join(verdict.commands) or "-",
        "landed": report.landed,
        "notes": report.notes,
        **{f"delivered_{target}": report.delivered(target) for target in report.targets},
        "need_a_person": sum(gap.count for gap in gaps if gap.act is Act.PERSON),
        "go_on_by_themselves": sum(gap.count for gap in gaps if gap.act is Act.WAITS),
        "flow": dg.MetadataValue.md(flow_markdown(report)),
    }
