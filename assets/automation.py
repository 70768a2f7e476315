"""Jobs, the schedule and the sensor: sync by the clock, build the days that changed."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.days import COMPOSITIONS, DELIVERIES, DOCUMENT_REFERENCES, NOTES
from assets.partitions import range_tags
from assets.sources import source_keys
from medscribe_pipeline.pipeline import due_days
from medscribe_pipeline.settings import Settings
from resources import WarehouseResource, failures_told

SYNC_JOB = "sync"
BUILD_JOB = "build_days"

DAYS_PER_TICK = 62
"""Most days one tick asks for; the rest follows with the next one."""

ASK_AGAIN_AFTER = timedelta(minutes=30)
"""A day whose run failed is asked for again after this time, without anybody resetting a cursor."""


def jobs(settings: Settings) -> list[UnresolvedAssetJobDefinition]:
    """`sync` pulls all streams (where there are any); `build_days` maps, builds and delivers visit days."""
    stages = [NOTES, COMPOSITIONS, DOCUMENT_REFERENCES, *([DELIVERIES] if settings.ehr.enabled else [])]
    build = dg.define_asset_job(
        BUILD_JOB,
        selection=dg.AssetSelection.assets(*stages),
        description="Notes, FHIR documents and deliveries of one visit day or a range of them.",
    )
    keys = source_keys(settings)
    if not keys:
        return [build]
    pull = dg.define_asset_job(
        SYNC_JOB,
        selection=dg.AssetSelection.assets(*keys),
        description="Pulls what changed from every configured provider.",
    )
    return [pull, build]


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """The sync schedule, stopped until somebody starts it."""
    if not settings.providers:
        return []
    return [
        dg.ScheduleDefinition(
            name="sync_schedule",
            job_name=SYNC_JOB,
            cron_schedule=settings.schedule,
            execution_timezone=settings.timezone,
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Pulls from all providers; `changed_days` does the rest.",
        )
    ]


@dg.sensor(
    job_name=BUILD_JOB,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Asks for the visit days that landed changes touched: one indexed query, no provider is called.",
)
def changed_days(warehouse: WarehouseResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Requests the outdated days, oldest first."""
    with failures_told():
        days = due_days(warehouse.warehouse, warehouse.settings, limit=DAYS_PER_TICK)
    if not days:
        yield dg.SkipReason("No visit day is out of date.")
        return
    yield from run_requests(days, datetime.now(UTC), one_run=warehouse.settings.backfill == "single_run")


def run_requests(days: Sequence[tuple[date, int]], now: datetime, *, one_run: bool) -> Iterator[dg.RunRequest]:
    """Run requests for outdated days.

    The run key holds the days' newest changes, so the same work is asked for once; and the time in steps of
    `ASK_AGAIN_AFTER`, so that a run that failed is asked for again. There is no cursor to lose.
    """
    attempt = int(now.timestamp() // ASK_AGAIN_AFTER.total_seconds())
    for part in consecutive(days) if one_run else [[day] for day in days]:
        newest = max(seq for _, seq in part)
        first, last = part[0][0].isoformat(), part[-1][0].isoformat()
        key = hashlib.sha256(repr((part, attempt)).encode()).hexdigest()[:16]
        if one_run:
            yield dg.RunRequest(run_key=f"{first}/{last}/{newest}/{key}", tags=range_tags(part[0][0], part[-1][0]))
        else:
            yield dg.RunRequest(run_key=f"{first}/{newest}/{key}", partition_key=first)


def consecutive(days: Sequence[tuple[date, int]]) -> list[list[tuple[date, int]]]:
    """Sorted days, cut where one or more days are missing between two of them."""
    parts = [[days[0]]] if days else []
    for before, after in pairwise(days):
        if after[0] - before[0] == timedelta(days=1):
            parts[-1].append(after)
        else:
            parts.append([after])
    return parts


__all__ = ["BUILD_JOB", "SYNC_JOB", "changed_days", "consecutive", "jobs", "run_requests", "schedules"]
