"""Assets of providers that work on order, and of the inbox: submit, ask after, collect; heed what was pushed."""

import logging
import time

import dagster as dg
from pydantic import Field

from assets.columns import columns_of
from assets.figures import codes
from assets.freshness import stale_after
from assets.sources import source_key
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.catalogue import PROVIDERS, Provider
from medscribe_pipeline.providers.inbox import InboxReport, process_inbox
from medscribe_pipeline.providers.jobs import OPEN
from medscribe_pipeline.providers.work_runner import WorkReport, run_work
from medscribe_pipeline.settings import JobSettings, Settings
from medscribe_pipeline.settings.services import SHORTEST_WINDOW_S
from medscribe_pipeline.warehouse import tables
from medscribe_pipeline.warehouse.days import DayRule
from resources import WarehouseResource, failures_told

progress = logging.getLogger("medscribe_pipeline.progress")

JOBS = "jobs"
INBOX = "inbox_events"

Metadata = dict[str, str | int | float]


class WorkConfig(dg.Config):
    """Run configuration of a job asset; all optional."""

    wait_s: float = Field(
        default=0.0, ge=0, description="Wait so long for jobs of this run; without, the next run asks after them."
    )


def working(settings: Settings) -> list[str]:
    """Names of the configured providers that work on order."""
    return [name for name in settings.providers if PROVIDERS[name].work is not None]


def work_keys(settings: Settings) -> list[dg.AssetKey]:
    """Keys of the job assets of the configured providers, and of the inbox; none without any provider."""
    inbox = [dg.AssetKey(INBOX)] if settings.providers else []
    return [*(source_key(name, JOBS) for name in working(settings)), *inbox]


def work_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """One asset for each provider that works on order, and the inbox of all providers."""
    inbox = [_inbox_asset(settings)] if settings.providers else []
    return [*(_jobs_asset(settings, PROVIDERS[name]) for name in working(settings)), *inbox]


def _jobs_asset(settings: Settings, provider: Provider) -> dg.AssetsDefinition:
    @dg.asset(
        key=source_key(provider.name, JOBS),
        group_name=provider.name,
        kinds={"python", "sql"},
        owners=["team:data-engineering"],
        tags={"phi": "true"},
        pool=f"{provider.name}.{settings.account}",
        freshness_policy=_freshness(settings, provider.name),
        metadata=columns_of(tables.scribe_jobs),
        description=f"Recordings of the visits manifest as jobs at {provider.name.title()}: submitted exactly once, "
        "asked after within its budget, results landed in `source_records`.",
    )
    def jobs(
        context: dg.AssetExecutionContext, config: WorkConfig, warehouse: WarehouseResource
    ) -> dg.MaterializeResult[None]:
        def tell(report: WorkReport) -> None:
            progress.info("%s jobs: %d submitted, %d fetched", provider.name, report.submitted, report.fetched)

        own = getattr(warehouse.settings, provider.name)
        with (
            failures_told(),
            warehouse.warehouse.worker() as worker,
            provider.open_client(warehouse.settings, warehouse.warehouse) as client,
        ):
            if provider.work is None or not isinstance(own, JobSettings):
                raise ConfigError("This provider does not work on order", code="no_work")
            report = run_work(
                warehouse.warehouse,
                provider.work(warehouse.settings),
                client,
                own,
                days=DayRule.of(warehouse.settings),
                clock=warehouse.now,
                sleep=time.sleep,
                worker=worker,
                run_id=context.run.run_id,
                wait_s=config.wait_s,
                on_progress=tell,
            )
        return dg.MaterializeResult(metadata=_work_metadata(report))

    return jobs


def _freshness(settings: Settings, provider: str) -> dg.FreshnessPolicy | None:
    """Stale when nobody has asked after the jobs for as long as one may live: by then some have expired unseen."""
    own: JobSettings = getattr(settings, provider)
    return stale_after(max(own.job_expires_after_s, SHORTEST_WINDOW_S))


def _inbox_asset(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        name=INBOX,
        # A callback may be about a job of the same run.
        deps=[key for key in work_keys(settings) if key != dg.AssetKey(INBOX)],
        group_name="inbox",
        kinds={"python", "sql"},
        owners=["team:data-engineering"],
        tags={"phi": "true"},
        pool=f"inbox.{settings.account}",
        metadata=columns_of(tables.inbox),
        description="Callbacks and webhooks the receiver stored: signed results land, other news is asked for by id.",
    )
    def inbox_events(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
        with failures_told():
            progress.info("inbox")
            report = process_inbox(
                warehouse.warehouse, warehouse.settings, clock=warehouse.now, run_id=context.run.run_id
            )
        return dg.MaterializeResult(metadata=_inbox_metadata(report))

    return inbox_events


def _work_metadata(report: WorkReport) -> Metadata:
    return {
        "dagster/row_count": report.fetched,
        "enrolled": report.enrolled,
        "recovered": report.recovered,
        "submitted": report.submitted,
        "polled": report.polled,
        "fetched": report.fetched,
        "failed": report.failed.total(),
        "failed_why": codes(report.failed),
        "expired": report.expired,
        "unknown": report.unknown.total(),
        "trouble": codes(report.trouble),
        "refused_visits": codes(report.refused),
        "open": sum(report.states.get(state, 0) for state in OPEN),
        "overdue": report.overdue,
        "oldest_open_s": round(report.oldest_open_s or 0.0, 1),
        "states": codes(report.states),
    }


def _inbox_metadata(report: InboxReport) -> Metadata:
    return {
        "dagster/row_count": report.processed.total(),
        "looked_at": report.looked_at,
        "processed": codes(report.processed),
        "refused": codes(report.refused),
        "waiting": codes(report.waiting),
        "still_open": report.still_open,
        "days_touched": len(report.days),
    }
