"""Visit days as partitions: from the first day to today, by the local calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from assets.partitions import backfill_policy, days_of, range_tags, visit_days

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings


@pytest.mark.parametrize(
    ("zone", "now", "last"),
    [
        ("UTC", datetime(2026, 3, 29, 23, 30, tzinfo=UTC), "2026-03-29"),
        ("Europe/Paris", datetime(2026, 3, 29, 22, 30, tzinfo=UTC), "2026-03-30"),  # summer time began that morning
        ("Europe/Paris", datetime(2026, 3, 29, 21, 30, tzinfo=UTC), "2026-03-29"),
        ("America/Los_Angeles", datetime(2026, 3, 30, 6, 30, tzinfo=UTC), "2026-03-29"),
    ],
)
def test_today_is_a_partition_and_tomorrow_is_none(
    make_settings: Callable[..., Settings], zone: str, now: datetime, last: str
) -> None:
    days = visit_days(make_settings(timezone=zone, first_day=date(2026, 3, 20)))

    keys = days.get_partition_keys(current_time=now)

    assert keys[0] == "2026-03-20"
    assert keys[-1] == last
    assert len(keys) == (date.fromisoformat(last) - date(2026, 3, 20)).days + 1


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "America/Sao_Paulo", "Pacific/Apia"])
def test_days_are_those_dagster_counts_at_any_time(make_settings: Callable[..., Settings], zone: str) -> None:
    days = visit_days(make_settings(timezone=zone, first_day=date(2011, 1, 1)))
    dagsters = dg.DailyPartitionsDefinition("2011-01-01", timezone=zone, end_offset=1)
    assert days == dagsters

    # Before the first, around a day that was left out in Apia and a midnight that was in Brazil, and now, twice each.
    moments = [datetime(2010, 5, 1, tzinfo=UTC), datetime(2011, 12, 30, 9, 59, tzinfo=UTC)]
    moments += [datetime(2011, 12, 30, 10, 1, tzinfo=UTC), datetime(2018, 11, 4, 2, 59, tzinfo=UTC)]
    for now in [*moments, datetime(2018, 11, 4, 3, 1, tzinfo=UTC), None] * 2:
        assert days.get_partition_keys(now) == dagsters.get_partition_keys(now)


def test_days_are_counted_once_a_day(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings(first_day=date(2026, 2, 1), timezone="Europe/Paris")
    noon = datetime(2026, 3, 30, 12, tzinfo=UTC)
    first = visit_days(settings).get_partition_keys(noon)
    monkeypatch.setattr(dg.DailyPartitionsDefinition, "get_partition_keys", lambda _: ["counted anew"])

    assert visit_days(settings).get_partition_keys(noon + timedelta(hours=9, minutes=59)) == first
    assert visit_days(settings).get_partition_keys(noon + timedelta(hours=10, minutes=1)) == ["counted anew"]


def test_a_range_is_one_run_or_one_run_a_day(make_settings: Callable[..., Settings]) -> None:
    assert backfill_policy(make_settings(backfill="single_run")) == dg.BackfillPolicy.single_run()
    assert backfill_policy(make_settings(backfill="multi_run")) == dg.BackfillPolicy.multi_run(1)


def test_the_days_of_a_range_come_in_order(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(first_day=date(2026, 1, 1), timezone="Europe/Paris")
    seen: list[date] = []

    # A function made here rather than decorated: Dagster reads annotations, which are text in this file.
    def look(context) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        seen.extend(days_of(context))

    looked = dg.asset(name="looked", partitions_def=visit_days(settings), backfill_policy=backfill_policy(settings))(
        look
    )
    dg.materialize([looked], tags=range_tags(date(2026, 3, 28), date(2026, 3, 31)))

    assert seen == [date(2026, 3, 28), date(2026, 3, 29), date(2026, 3, 30), date(2026, 3, 31)]
