"""Visit days as Dagster partitions."""

from collections.abc import Sequence
from datetime import date, datetime
from functools import lru_cache

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.instance import DynamicPartitionsStore

from medscribe_pipeline.settings import Settings


class VisitDays(dg.DailyPartitionsDefinition):
    """Daily partitions that are counted once a day.

    Every check of a run asks for all of them, and it takes Dagster a twentieth of a second to count ten years again.
    """

    def get_partition_keys(
        self, current_time: datetime | None = None, dynamic_partitions_store: DynamicPartitionsStore | None = None
    ) -> Sequence[str]:
        """The days from the first to the last there is at that time, now by default."""
        with partition_loading_context(current_time, dynamic_partitions_store):
            return list(_counted(self, self.get_last_partition_key()))


@lru_cache(maxsize=8)  # There is one definition in a location, and an older day only until nobody asks for it.
def _counted(days: VisitDays, last: str | None) -> Sequence[str]:  # noqa: ARG001  # a new last day: count again
    return dg.DailyPartitionsDefinition.get_partition_keys(days)


def visit_days(settings: Settings) -> VisitDays:
    """One partition for each local day from `MEDSCRIBE_FIRST_DAY` to today, today included."""
    return VisitDays(start_date=settings.first_day.isoformat(), timezone=settings.timezone, end_offset=1)


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
