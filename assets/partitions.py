"""Visit days as Dagster partitions."""

from datetime import date

import dagster as dg

from medscribe_pipeline.settings import Settings


def visit_days(settings: Settings) -> dg.DailyPartitionsDefinition:
    """One partition for each local day from `MEDSCRIBE_FIRST_DAY` to today, today included."""
    return dg.DailyPartitionsDefinition(
        start_date=settings.first_day.isoformat(), timezone=settings.timezone, end_offset=1
    )


def backfill_policy(settings: Settings) -> dg.BackfillPolicy:
    """A range of days as one run, or as one run a day for launchers that spread runs over machines."""
    if settings.backfill == "single_run":
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=1)


def days_of(context: dg.AssetExecutionContext) -> list[date]:
    """The visit days this run builds, in order."""
    return [date.fromisoformat(key) for key in sorted(context.partition_keys)]


def range_tags(first: date, last: date) -> dict[str, str]:
    """The run tags by which Dagster runs a whole range of partitions in one run."""
    return {
        "dagster/asset_partition_range_start": first.isoformat(),
        "dagster/asset_partition_range_end": last.isoformat(),
    }
