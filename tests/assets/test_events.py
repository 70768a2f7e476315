"""What a run tells Dagster depends on its assets and days, never on how many notes it is about."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import TYPE_CHECKING

from tests.assets.jobs import build, reported, sync
from tests.synced import DAYS

if TYPE_CHECKING:
    import dagster as dg

    from tests.synced import Clinic

EMPTY = [date(2026, 1, day) for day in range(1, len(DAYS) + 1)]


def events_of(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> Counter[str]:
    """How many events of each type are stored of a run, those of the program's own log included."""
    stored = instance.all_logs(result.run_id)
    return Counter(str(entry.dagster_event_type) for entry in stored)


def test_a_second_pull_tells_as_many_events_as_one_that_takes_everything(
    empty_clinic: Clinic, instance: dg.DagsterInstance
) -> None:
    assert empty_clinic
    first, second = sync(instance), sync(instance)

    assert reported(first)["audioscribe_sessions", None]["new"] > 0
    assert reported(second)["audioscribe_sessions", None]["new"] == 0
    assert events_of(instance, first) == events_of(instance, second)


def test_days_full_of_notes_tell_as_many_events_as_empty_ones(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    assert clinic
    full, empty = build(instance, DAYS), build(instance, EMPTY)

    assert reported(full)["scribe_notes", DAYS[0].isoformat()]["landed"] > 0
    assert reported(empty)["scribe_notes", EMPTY[0].isoformat()]["landed"] == 0
    assert events_of(instance, full) == events_of(instance, empty)
