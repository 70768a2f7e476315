"""Assets that look after what is held already: what a provider holds no more, and what has come of age."""

import dataclasses
import logging
from datetime import date

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from pydantic import Field

from assets.figures import codes
from assets.sources import source_key
from medscribe_pipeline.errors import ConfigError, MedscribeError
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.sweep import StreamSweep, sweep_provider
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.retention import prune
from resources import WarehouseResource, failures_told

progress = logging.getLogger("medscribe_pipeline.progress")

SWEEP = "sweep"
RETENTION = "retention"
SWEEP_JOB = "sweep"
PRUNE_JOB = "prune"

WEEKLY = "30 3 * * 0"
DAILY = "15 4 * * *"

Metadata = dict[str, str | int | float]


class SweepConfig(dg.Config):
    """Run configuration of a sweep; all optional."""

    since_day: str | None = Field(default=None, description="Only visits from this day on, as YYYY-MM-DD.")
    dry_run: bool = Field(default=False, description="Ask and count, and write nothing.")


def keeping_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """A sweep for each configured provider that can be listed, and retention."""
    return [*(_sweep_asset(settings, name) for name in _swept(settings)), _retention_asset()]


def keeping_jobs(settings: Settings) -> list[UnresolvedAssetJobDefinition]:
    """A job for all sweeps, and one for retention."""
    pruning = dg.define_asset_job(
        PRUNE_JOB,
        selection=dg.AssetSelection.assets(RETENTION),
        description="Removes replaced versions and payloads that are older than the settings keep them.",
    )
    if not _swept(settings):
        return [pruning]
    sweeping = dg.define_asset_job(
        SWEEP_JOB,
        selection=dg.AssetSelection.assets(*(source_key(name, SWEEP) for name in _swept(settings))),
        description="Finds records that their providers hold no more.",
    )
    return [pruning, sweeping]


def keeping_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Sweeps once a week, retention once a day; stopped until somebody starts them."""
    each = {PRUNE_JOB: ("prune_schedule", DAILY, "Prunes what has come of age, once a day.")}
    if _swept(settings):
        each[SWEEP_JOB] = ("sweep_schedule", WEEKLY, "Compares with what the providers still list, once a week.")
    return [
        dg.ScheduleDefinition(
            name=name,
            job_name=job,
            cron_schedule=cron,
            execution_timezone=settings.timezone,
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description=text,
        )
        for job, (name, cron, text) in each.items()
    ]


def _swept(settings: Settings) -> list[str]:
    return [name for name in settings.providers if PROVIDERS[name].streams]


def _sweep_asset(settings: Settings, provider: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=source_key(provider, SWEEP),
        deps=[source_key(provider, stream.name) for stream in PROVIDERS[provider].streams],
        group_name=provider,
        kinds={"python", "sql"},
        owners=["team:data-engineering"],
        tags={"phi": "true"},
        pool=f"{provider}.{settings.account}",
        description=f"Compares what has landed with what {provider.title()} still lists, asks again for what is "
        "missing, and counts or retracts what is gone.",
    )
    def swept(
        context: dg.AssetExecutionContext, config: SweepConfig, warehouse: WarehouseResource
    ) -> dg.MaterializeResult[None]:
        def tell(stream: str, listed: int) -> None:
            progress.info("%s %s: %d listed", provider, stream, listed)

        with failures_told():
            found = sweep_provider(
                warehouse.warehouse,
                warehouse.settings,
                provider,
                clock=warehouse.now,
                since_day=_day(config.since_day),
                dry_run=config.dry_run,
                run_id=context.run.run_id,
                on_progress=tell,
            )
            if doubts := {each.stream: each.doubt for each in found if each.is_suspicious}:
                raise MedscribeError(
                    "A list is too short to be believed, and nothing of it was; look at the provider, and if it is "
                    "true, raise MEDSCRIBE_SWEEP_MAX_SHARE for one run",
                    code="sweep_doubted",
                    context={stream: doubt or "" for stream, doubt in doubts.items()},
                )
        return dg.MaterializeResult(metadata=_sweep_metadata(warehouse.settings, found))

    return swept


def _day(value: str | None) -> date | None:
    try:
        return date.fromisoformat(value) if value is not None else None
    except ValueError:
        raise ConfigError("since_day is not a date such as 2026-11-19", code="day") from None


def _sweep_metadata(settings: Settings, found: list[StreamSweep]) -> Metadata:
    facts: Metadata = {"policy": settings.sweep_policy}
    for each in found:
        names = ("listed", "looked_at", "missing", "there", "waiting", "gone", "retracted")
        facts |= {f"{each.stream}_{name}": getattr(each, name) for name in names}
        facts[f"{each.stream}_unanswered"] = codes(each.unanswered)
        facts[f"{each.stream}_days_touched"] = len(each.days)
    return facts


def _retention_asset() -> dg.AssetsDefinition:
    @dg.asset(
        name=RETENTION,
        group_name="warehouse",
        kinds={"python", "sql"},
        owners=["team:data-engineering"],
        tags={"phi": "true"},
        description="Removes replaced versions of notes and the text of payloads, when they are older than the "
        "settings keep them.",
    )
    def retention(warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
        with failures_told():
            pruned = prune(warehouse.warehouse, warehouse.settings, clock=warehouse.now)
        facts: Metadata = {
            **dataclasses.asdict(pruned),
            "history_days": warehouse.settings.history_days,
            "payload_days": warehouse.settings.payload_days,
        }
        return dg.MaterializeResult(metadata=facts)

    return retention
