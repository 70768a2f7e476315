"""Jobs, the schedule and the sensor: sync by the clock, build the days that changed."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.days import COMPOSITIONS, DOCUMENT_REFERENCES, NOTES
from assets.deliveries import delivery_names
from assets.partitions import range_tags
from assets.sources import source_key, source_keys
from assets.work import INBOX, JOBS, work_keys, working
from medscribe_pipeline.pipeline import due_days, wake_held_notes
from medscribe_pipeline.providers.inbox_store import open_events
from medscribe_pipeline.providers.jobs import jobs_due
from medscribe_pipeline.settings import Settings
from resources import WarehouseResource, failures_told

SYNC_JOB = "sync"
INBOX_JOB = "process_inbox"
BUILD_JOB = "build_days"

DAYS_PER_TICK = 62
"""Most days one tick asks for; the rest follows with the next one."""

ASK_AGAIN_AFTER = timedelta(minutes=30)
"""A day whose run failed, or left something to the next, is asked for again after this time, without anybody resetting
a cursor. What waits for a person makes no day due: see `finish_day`."""


def work_job(provider: str) -> str:
    """Name of the job that brings the jobs of one provider forward."""
    return f"work_{provider}"


def jobs(settings: Settings) -> list[UnresolvedAssetJobDefinition]:
    """`sync` asks all providers, others a part of them; `build_days` maps, builds and delivers visit days."""
    stages = [NOTES, COMPOSITIONS, DOCUMENT_REFERENCES, *delivery_names(settings).values()]
    build = dg.define_asset_job(
        BUILD_JOB,
        selection=dg.AssetSelection.assets(*stages),
        description="Notes, FHIR documents and deliveries of one visit day or a range of them.",
    )
    if not settings.providers:
        return [build]
    pull = dg.define_asset_job(
        SYNC_JOB,
        selection=dg.AssetSelection.assets(*source_keys(settings), *work_keys(settings)),
        description="Pulls what changed from every configured provider, brings jobs forward, heeds the inbox.",
    )
    inbox = dg.define_asset_job(
        INBOX_JOB,
        selection=dg.AssetSelection.assets(INBOX),
        description="Processes callbacks and webhooks as soon as they have come.",
    )
    work = [
        dg.define_asset_job(
            work_job(name),
            selection=dg.AssetSelection.assets(source_key(name, JOBS)),
            description=f"Submits and asks after jobs at {name.title()}.",
        )
        for name in working(settings)
    ]
    return [pull, build, inbox, *work]


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
    description="Asks for the visit days that landed changes touched, and for those of held notes it is time to try "
    "again: a few small queries, no provider and no EHR is called.",
)
def changed_days(warehouse: WarehouseResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Requests the outdated days, oldest first."""
    now = datetime.now(UTC)
    with failures_told():
        wake_held_notes(warehouse.warehouse, warehouse.settings, now=now)
        days = due_days(warehouse.warehouse, warehouse.settings, limit=DAYS_PER_TICK)
    if not days:
        yield dg.SkipReason("No visit day is out of date.")
        return
    yield from run_requests(days, now, one_run=warehouse.settings.backfill == "single_run")


@dg.sensor(
    job_name=INBOX_JOB,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Wakes `inbox_events` when the receiver has stored something: one indexed query.",
)
def inbox_sensor(warehouse: WarehouseResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Requests a run for what is open; what could not be processed is asked for again after a while."""
    with failures_told():
        count, newest = open_events(warehouse.warehouse)
    if not count:
        yield dg.SkipReason("The inbox is empty.")
        return
    yield dg.RunRequest(run_key=f"{newest}/{_attempt(datetime.now(UTC))}")


def due_jobs_sensor(settings: Settings, provider: str) -> dg.SensorDefinition:
    """The sensor that asks for a run when jobs of a provider are due."""

    @dg.sensor(
        name=f"{provider}_due_jobs",
        job_name=work_job(provider),
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Wakes `{provider}_{JOBS}` when a job waits to be submitted or asked after: one indexed query.",
    )
    def due_jobs(warehouse: WarehouseResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
        now = datetime.now(UTC)
        with failures_told():
            count = jobs_due(warehouse.warehouse, provider, now)
        if not count:
            yield dg.SkipReason("No job is due.")
            return
        # A minute is the finest step in which jobs are asked after.
        yield dg.RunRequest(run_key=f"{provider}/{settings.account}/{int(now.timestamp() // 60)}")

    return due_jobs


def sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """All sensors: changed days, the inbox, and due jobs of each provider that works on order."""
    inbox = [inbox_sensor] if settings.providers else []
    return [changed_days, *inbox, *(due_jobs_sensor(settings, name) for name in working(settings))]


def _attempt(now: datetime) -> int:
    return int(now.timestamp() // ASK_AGAIN_AFTER.total_seconds())


def run_requests(days: Sequence[tuple[date, int]], now: datetime, *, one_run: bool) -> Iterator[dg.RunRequest]:
    """Run requests for outdated days.

    The run key holds the days' newest changes, so the same work is asked for once; and the time in steps of
    `ASK_AGAIN_AFTER`, so that a run that failed is asked for again. There is no cursor to lose.
    """
    attempt = _attempt(now)
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
