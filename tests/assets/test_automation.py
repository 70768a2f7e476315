"""The sensor and the schedule: which runs they ask for, and that asking twice starts nothing twice."""

from __future__ import annotations

import traceback
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.automation import DAYS_PER_TICK, consecutive, run_requests
from medscribe_pipeline.pipeline import due_days
from tests.assets.jobs import run, sync
from tests.synced import CLOSED_PORT, DAYS, tables_of

if TYPE_CHECKING:
    from tests.synced import Clinic

NOON = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)
TICK = timedelta(minutes=1)
HALF_AN_HOUR = timedelta(minutes=30)
SOME = [(date(2026, 3, 28), 4), (date(2026, 3, 29), 9), (date(2026, 3, 31), 7)]

START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def tick(clinic: Clinic, instance: dg.DagsterInstance) -> dg.SensorExecutionData:
    """One evaluation of the sensor, as the daemon makes it."""
    from medscribe_pipeline.definitions import build_definitions  # noqa: PLC0415 - loads those of the environment

    definitions = build_definitions(clinic.settings)
    resources = dict(definitions.resources or {})
    with dg.build_sensor_context(instance=instance, definitions=definitions, resources=resources) as context:
        return definitions.resolve_sensor_def("changed_days").evaluate_tick(context)


def due(clinic: Clinic) -> list[tuple[date, int]]:
    with clinic.open() as warehouse:
        return due_days(warehouse, clinic.settings)


def edit(clinic: Clinic, *days: date) -> None:
    """Changes one Askara note of each day."""
    for day in days:
        query = "SELECT min(source_id) FROM notes WHERE provider = 'askara' AND visit_day = ?"
        clinic.sandbox.world.edit_note(clinic.value(query, day.isoformat()))


@given(st.sets(st.dates(date(2026, 1, 1), date(2026, 3, 1)), max_size=40))
@settings(max_examples=60, deadline=None)
def test_parts_are_whole_runs_of_days_and_nothing_is_lost(days: set[date]) -> None:
    given_days = [(day, day.toordinal()) for day in sorted(days)]

    parts = consecutive(given_days)

    assert [day for part in parts for day in part] == given_days
    for part in parts:
        assert [day for day, _ in part] == [part[0][0] + timedelta(days=n) for n in range(len(part))]
    assert all(after[0][0] - before[-1][0] > timedelta(days=1) for before, after in pairwise(parts))


def test_single_run_asks_for_ranges() -> None:
    requests = list(run_requests(SOME, NOON, one_run=True))

    assert [(request.tags[START], request.tags[END]) for request in requests] == [
        ("2026-03-28", "2026-03-29"),
        ("2026-03-31", "2026-03-31"),
    ]
    assert [request.partition_key for request in requests] == [None, None]


def test_multi_run_asks_for_each_day() -> None:
    requests = list(run_requests(SOME, NOON, one_run=False))

    assert [request.partition_key for request in requests] == ["2026-03-28", "2026-03-29", "2026-03-31"]
    assert len({request.run_key for request in requests}) == 3


@pytest.mark.parametrize("one_run", [True, False])
def test_the_same_work_has_the_same_key_until_it_is_time_to_ask_again(*, one_run: bool) -> None:
    def keys(now: datetime, days: list[tuple[date, int]] = SOME) -> set[str | None]:
        return {request.run_key for request in run_requests(days, now, one_run=one_run)}

    first = keys(NOON)

    assert keys(NOON + TICK) == first
    assert keys(NOON + HALF_AN_HOUR).isdisjoint(first)
    assert keys(NOON, [(day, seq + 100) for day, seq in SOME]).isdisjoint(first)


def test_news_of_any_day_of_a_range_is_new_work() -> None:
    """The range's newest change stays the same; the day that changed is not the one that has it."""
    (before,) = run_requests([(DAYS[0], 4), (DAYS[1], 9)], NOON, one_run=True)
    (after,) = run_requests([(DAYS[0], 8), (DAYS[1], 9)], NOON, one_run=True)

    assert before.run_key != after.run_key


def test_nothing_due_is_said_so(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    found = tick(clinic, instance)

    assert found.run_requests == []
    assert found.skip_message == "No visit day is out of date."


def test_an_empty_warehouse_has_nothing_due(empty_clinic: Clinic, instance: dg.DagsterInstance) -> None:
    assert tick(empty_clinic, instance).run_requests == []


def test_the_sensor_asks_for_the_days_that_changed_and_no_others(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    edit(clinic, DAYS[0], DAYS[1], DAYS[3])
    sync(instance)

    asked = tick(clinic, instance).run_requests or []

    assert [(request.tags[START], request.tags[END]) for request in asked] == [
        (str(DAYS[0]), str(DAYS[1])),
        (str(DAYS[3]), str(DAYS[3])),
    ]


def test_under_multi_run_the_sensor_asks_for_each_day(
    clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_BACKFILL", "multi_run")
    edit(clinic, DAYS[0], DAYS[1])
    sync(instance)

    asked = tick(clinic, instance).run_requests or []

    assert [request.partition_key for request in asked] == [str(DAYS[0]), str(DAYS[1])]


@pytest.mark.parametrize("policy", ["single_run", "multi_run"])
def test_running_what_was_asked_for_leaves_nothing_due(
    clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setenv("MEDSCRIBE_BACKFILL", policy)
    edit(clinic, DAYS[1], DAYS[2])
    sync(instance)

    for request in tick(clinic, instance).run_requests or []:
        assert run(instance, "build_days", partition_key=request.partition_key, tags=request.tags).success

    assert due(clinic) == []
    assert tick(clinic, instance).run_requests == []


def test_the_sensor_calls_nobody_and_writes_nothing(
    clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(clinic, DAYS[0])
    sync(instance)
    before = tables_of(clinic.database)
    for name in ("ASKARA", "AUDIOSCRIBE", "EHR"):
        monkeypatch.setenv(f"MEDSCRIBE_{name}_BASE_URL", CLOSED_PORT)
    clinic.sandbox.stats.reset()

    assert len(tick(clinic, instance).run_requests or []) == 1
    assert clinic.sandbox.stats.requests.total() == 0
    assert tables_of(clinic.database) == before


def test_the_keys_of_a_tick_are_those_of_its_days(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    edit(clinic, DAYS[0], DAYS[2])
    sync(instance)
    started = datetime.now(UTC)

    asked = {request.run_key for request in tick(clinic, instance).run_requests or []}

    at_either_end = [
        {request.run_key for request in run_requests(due(clinic), moment, one_run=True)}
        for moment in (started, datetime.now(UTC))
    ]
    assert asked in at_either_end


def test_a_long_list_is_asked_for_in_portions(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    for n in range(DAYS_PER_TICK + 8):
        clinic.change(
            "INSERT INTO visit_days (account, visit_day, changed_seq, built_seq) VALUES ('default', ?, 1, 0)",
            str(date(2026, 1, 1) + timedelta(days=n)),
        )

    (asked,) = tick(clinic, instance).run_requests or []

    assert (asked.tags[START], asked.tags[END]) == ("2026-01-01", str(date(2026, 1, 1) + timedelta(DAYS_PER_TICK - 1)))


def test_a_tick_that_fails_tells_no_more_than_our_message(
    clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise KeyError(f"{'qx'}canary")  # Not in one piece: tracebacks show this line.

    monkeypatch.setattr("assets.automation.due_days", stumble)

    with pytest.raises(dg.Failure, match="Unexpected KeyError in stumble") as caught:
        tick(clinic, instance)

    assert "qxcanary" not in "".join(traceback.format_exception(caught.value))


def test_the_schedule_asks_for_the_sync_job(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    from medscribe_pipeline.definitions import build_definitions  # noqa: PLC0415 - loads those of the environment

    schedule = build_definitions(clinic.settings).resolve_schedule_def("sync_schedule")
    context = dg.build_schedule_context(instance=instance, scheduled_execution_time=NOON)

    (asked,) = schedule.evaluate_tick(context).run_requests or []

    assert schedule.job_name == "sync"
    assert asked.run_config == {}
