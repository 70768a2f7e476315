"""The assets that deliver: one for each FHIR server, each on its own, so that a server that is down stops no other."""

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import dagster as dg

from assets.columns import columns_of
from assets.days import COMPOSITIONS, DOCUMENT_REFERENCES, OWNERS
from assets.figures import bars, codes
from assets.freshness import stale_after
from assets.partitions import backfill_policy, days_of, visit_days
from medscribe_pipeline.ehr.delivery import Allowance, DeliveryReport, deliver_day
from medscribe_pipeline.pipeline import finish_day, newest_change
from medscribe_pipeline.settings import EhrSettings, Settings
from medscribe_pipeline.warehouse import tables
from resources import WarehouseResource, failures_told, open_fhir_client

progress = logging.getLogger("medscribe_pipeline.progress")

DELIVERIES = "ehr_deliveries"
STORED_AS_SENT = "stored_as_sent"

SHOWN = 20
Metadata = dict[str, str | int | float]
Name = TypeVar("Name", str, float)


def delivery_names(settings: Settings) -> dict[str, str]:
    """Names of the delivery assets by target: `ehr_deliveries` for the EHR, `ehr_deliveries_store` for `store`."""
    return {
        name: DELIVERIES if target is settings.ehr else f"{DELIVERIES}_{re.sub('[^A-Za-z0-9_]', '_', name)}"
        for name, target in settings.targets.items()
    }


def delivery_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """One asset for each target; none where no target is configured."""
    names = delivery_names(settings)
    return [_deliveries_asset(settings, target, names[name]) for name, target in settings.targets.items()]


def _deliveries_asset(settings: Settings, target: EhrSettings, name: str) -> dg.AssetsDefinition:
    # Of these definitions: Dagster loads them anew for each run it launches, `medscribe sync` once for all its runs.
    allowance = Allowance.of(target)

    @dg.asset(
        name=name,
        deps=[COMPOSITIONS, DOCUMENT_REFERENCES],
        partitions_def=visit_days(settings),
        backfill_policy=backfill_policy(settings),
        group_name="ehr",
        kinds={"python", "fhir"},
        owners=OWNERS,
        tags={"phi": "true"},
        pool=f"ehr.{target.target}",
        freshness_policy=stale_after(settings.watch.stale_deliveries_after_s),
        metadata=columns_of(tables.deliveries),
        check_specs=[
            dg.AssetCheckSpec(
                STORED_AS_SENT,
                asset=name,
                description="Of the delivered notes that were read back, the server dropped and changed nothing.",
            )
        ],
        description=f"Documents of a visit day, filed in {_whereto(settings, target)} at most once; "
        "what may not go out is held.",
    )
    def deliveries(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        own = warehouse.settings.targets[target.target]
        reports = []
        with (
            failures_told(),
            warehouse.warehouse.worker() as worker,
            open_fhir_client(warehouse.settings, own, warehouse.warehouse) as client,
        ):
            for day in days_of(context):
                progress.info("deliveries of %s to %s", day, own.target)
                seen = newest_change(warehouse.warehouse, day)
                report = deliver_day(
                    warehouse.warehouse,
                    client,
                    own,
                    day,
                    run_id=context.run.run_id,
                    clock=warehouse.now,
                    worker=worker,
                    allowance=allowance,
                )
                finish_day(warehouse.warehouse, warehouse.settings, day, target=own.target, seen=seen)
                context.add_asset_metadata(_metadata(report), partition_key=day.isoformat())
                reports.append(report)
        yield dg.MaterializeResult(
            metadata={"run": dg.MetadataValue.md(summary(reports))}, check_results=[_stored_as_sent(reports)]
        )

    return deliveries


def _whereto(settings: Settings, target: EhrSettings) -> str:
    return "the EHR" if target is settings.ehr else f"the FHIR server {target.target}"


def _metadata(report: DeliveryReport) -> Metadata:
    metadata: Metadata = {
        "dagster/row_count": report.delivered,
        "target": report.target,
        **report.counts(),
        "held_why": codes(report.held),
        "rejected_why": codes(report.rejected),
        "unknown_why": codes(report.unknown),
        "left_for_next_run": report.left_for_next_run,
        "requests": report.requests,
        "read_back": report.read_back,
        "changed": codes(report.changed),
    }
    if report.latency_median_s is not None and report.latency_p95_s is not None:
        metadata["latency_median_s"] = round(report.latency_median_s, 3)
        metadata["latency_p95_s"] = round(report.latency_p95_s, 3)
    return metadata


def _stored_as_sent(reports: Sequence[DeliveryReport]) -> dg.AssetCheckResult:
    """What the capabilities leave out was not sent, so whatever is missing is news."""
    changed = _added(report.changed for report in reports)
    return dg.AssetCheckResult(
        check_name=STORED_AS_SENT,
        passed=not changed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "read_back": sum(report.read_back for report in reports),
            "changed": codes(dict(changed.most_common(SHOWN))),
        },
    )


def summary(reports: Sequence[DeliveryReport]) -> str:
    """A run as Markdown: how the notes of its days stand, and how long the server took to answer."""
    states = _added(report.counts() for report in reports)
    rows = [(state.replace("_", " "), states[state]) for state in (reports[0].counts() if reports else {})]
    parts = [f"**Notes of {len(reports)} visit days, by state**", bars(rows)]
    answered = _added(report.latency_histogram for report in reports)
    if answered:
        half, most = _quantile(answered, 0.5), _quantile(answered, 0.95)
        parts.append(f"**Answered deliveries, by seconds**; half within {half}, 95 % within {most}")
        parts.append(bars([(_bound(bound), answered[bound]) for bound in sorted(answered)]))
    return "\n\n".join(parts)


def _added(counts: Iterator[Mapping[Name, int]]) -> Counter[Name]:
    total: Counter[Name] = Counter()
    for each in counts:
        total.update(each)
    return total


def _quantile(histogram: Mapping[float, int], share: float) -> str:
    """The upper bound that so many do not exceed: days cannot be added up any finer than this."""
    wanted, reached = share * sum(histogram.values()), 0
    for bound in sorted(histogram):
        reached += histogram[bound]
        if reached >= wanted:
            return f"{bound:g} s" if math.isfinite(bound) else "longer"
    return "-"


def _bound(bound: float) -> str:
    return f"up to {bound:g}" if math.isfinite(bound) else "longer"
