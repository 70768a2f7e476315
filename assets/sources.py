"""Source assets: one for each listed stream. Unpartitioned and incremental."""

import logging
from datetime import datetime

import dagster as dg
from pydantic import Field

from assets.columns import columns_of
from assets.freshness import stale_after
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.catalogue import PROVIDERS, Provider, Stream
from medscribe_pipeline.providers.pull import PullReport, Window
from medscribe_pipeline.providers.sync import SyncReport, sync_stream
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse import tables
from medscribe_pipeline.warehouse.quarantine_budget import QuarantineBudget
from resources import WarehouseResource, failures_told

progress = logging.getLogger("medscribe_pipeline.progress")


class SyncConfig(dg.Config):
    """Run configuration of a source asset; all optional."""

    since: str | None = Field(
        default=None, description="ISO 8601 time: read changes from here on, instead of from the watermark."
    )
    until: str | None = Field(default=None, description="ISO 8601 time: read changes up to here.")
    full_refresh: bool = Field(
        default=False, description="Read everything again; unchanged records are still not rewritten."
    )

    def window(self, settings: Settings) -> Window:
        """The window as aware times; a time without offset is local to `MEDSCRIBE_TIMEZONE`."""
        return Window(
            since=_moment("since", self.since, settings),
            until=_moment("until", self.until, settings),
            full=self.full_refresh,
        )


def _moment(name: str, value: str | None, settings: Settings) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ConfigError(
            f"{name} is not an ISO 8601 time such as 2026-11-19 or 2026-11-19T08:00", code="window"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=settings.zone)


def source_key(provider: str, stream: str) -> dg.AssetKey:
    """Key of a source asset: `askara_audios`."""
    return dg.AssetKey(f"{provider}_{stream}")


def source_keys(settings: Settings) -> list[dg.AssetKey]:
    """Keys of all source assets of the configured providers."""
    return [source_key(name, stream.name) for name in settings.providers for stream in PROVIDERS[name].streams]


def source_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The source assets of all configured providers; a provider without credentials has none."""
    return [
        _source_asset(settings, PROVIDERS[name], stream)
        for name in settings.providers
        for stream in PROVIDERS[name].streams
    ]


def _source_asset(settings: Settings, provider: Provider, stream: Stream) -> dg.AssetsDefinition:
    @dg.asset(
        key=source_key(provider.name, stream.name),
        deps=[source_key(provider.name, name) for name in stream.after],
        group_name=provider.name,
        kinds={"python", "sql"},
        owners=["team:data-engineering"],
        tags={"phi": "true"},
        pool=f"{provider.name}.{settings.account}",
        freshness_policy=stale_after(settings.watch.stale_sources_after_s),
        metadata=columns_of(tables.source_records),
        description=f"{stream.description} Pulls what changed since the watermark into `source_records`.",
    )
    def source(
        context: dg.AssetExecutionContext, config: SyncConfig, warehouse: WarehouseResource
    ) -> dg.MaterializeResult[None]:
        name = f"{provider.name} {stream.name}"

        def tell(report: PullReport) -> None:
            progress.info("%s: %d pages, %d records", name, report.pages, report.items)

        with failures_told():
            window = config.window(warehouse.settings)
            report = sync_stream(
                warehouse.warehouse,
                warehouse.settings,
                provider.name,
                stream.name,
                window,
                clock=warehouse.now,
                run_id=context.run.run_id,
                on_progress=tell,
            )
            budget = QuarantineBudget.of(warehouse.settings)
            budget.spend(records=report.pulled.taken_on, quarantined=report.pulled.landed.quarantined)
            budget.check()
        return dg.MaterializeResult(metadata=_metadata(report, window))

    return source


def _metadata(report: SyncReport, window: Window) -> dict[str, dg.MetadataValue | str | int | float]:
    pulled, landed = report.pulled, report.pulled.landed
    facts: dict[str, dg.MetadataValue | str | int | float] = {
        "dagster/row_count": landed.new + landed.changed,
        "pages": pulled.pages,
        "records_seen": pulled.items,
        "new": landed.new,
        "changed": landed.changed,
        "unchanged": landed.unchanged,
        "stale": landed.stale,
        "quarantined": landed.quarantined,
        "still_quarantined": pulled.still_quarantined,
        "days_touched": len(landed.days),
        "requests": report.requests,
        "retries": report.retries,
        "throttled": report.throttled,
        "waited_s": round(report.waited_s, 3),
        "received_bytes": report.received_bytes,
        "duration_s": round((report.ended_at - report.started_at).total_seconds(), 3),
        "window_since": window.since.isoformat() if window.since else "watermark",
        "window_until": window.until.isoformat() if window.until else "now",
        "full_refresh": str(window.full).lower(),
    }
    if pulled.watermark is not None:
        facts["watermark"] = dg.MetadataValue.timestamp(pulled.watermark)
    return facts
