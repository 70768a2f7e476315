"""Dagster's storage held open: its own files, whoever writes them and whoever reads them."""

from __future__ import annotations

import queue
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage

from resources.instance import LocalEvents, LocalStorage, held_open

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def plain(home: Path) -> dg.DagsterInstance:
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home)))


def ours(home: Path) -> dg.DagsterInstance:
    return dg.DagsterInstance.from_ref(held_open(InstanceRef.from_dir(str(home))))


def events_of(instance: dg.DagsterInstance) -> LocalEvents:
    events = instance.event_log_storage
    assert isinstance(events, LocalEvents)
    return events


def structure(file: Path) -> list[tuple[Any, ...]]:
    """Tables, indexes, version and kind of log of a database."""
    with closing(sqlite3.connect(file)) as connection:
        made = connection.execute("select type, name, sql from sqlite_master").fetchall()
        version = connection.execute("select version_num from alembic_version").fetchall()
        return [*sorted(made), *version, *connection.execute("pragma journal_mode")]


@pytest.mark.parametrize(("writer", "reader"), [(ours, plain), (plain, ours)])
def test_what_one_writes_the_other_reads_while_both_are_open(
    tmp_path: Path, writer: Callable[[Path], dg.DagsterInstance], reader: Callable[[Path], dg.DagsterInstance]
) -> None:
    run = dg.DagsterRun(job_name="synthetic")
    with writer(tmp_path) as one, reader(tmp_path) as other:
        one.add_run(run)
        one.report_engine_event("a first step", run)
        one.report_runless_asset_event(dg.AssetMaterialization("days", partition="2026-11-19", metadata={"built": 3}))
        other.report_engine_event("a second step", run)

        found = [each.get_run_by_id(run.run_id) for each in (one, other)]
        steps = [[entry.message for entry in each.all_logs(run.run_id)] for each in (one, other)]
        days = [each.get_latest_materialization_event(dg.AssetKey("days")) for each in (one, other)]

    assert [each.job_name for each in found if each] == ["synthetic", "synthetic"]
    assert steps == [["a first step", "a second step"]] * 2
    made = [each.asset_materialization for each in days if each]
    assert [each.metadata["built"].value for each in made if each] == [3, 3]


def test_who_follows_a_run_hears_of_each_event_at_once(tmp_path: Path) -> None:
    run = dg.DagsterRun(job_name="synthetic")
    heard: queue.Queue[str] = queue.Queue()
    with ours(tmp_path) as one, plain(tmp_path) as other:
        one.report_engine_event("a first step", run)
        other.event_log_storage.watch(run.run_id, None, lambda entry, _cursor: heard.put(entry.message))

        one.report_engine_event("a second step", run)

        assert [heard.get(timeout=20), heard.get(timeout=20)] == ["a first step", "a second step"]


def test_a_whole_run_is_told_as_dagster_tells_it(tmp_path: Path) -> None:
    days = dg.StaticPartitionsDefinition(["one", "two"])

    @dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def parts() -> None: ...

    @dg.asset_check(asset=parts)
    def whole() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    def told(name: str, opened: Callable[[Path], dg.DagsterInstance]) -> tuple[list[str], list[str], list[str]]:
        """Types of events, partitions there are, and how the checks ended."""
        (tmp_path / name).mkdir()
        tags = {"dagster/asset_partition_range_start": "one", "dagster/asset_partition_range_end": "two"}
        with opened(tmp_path / name) as instance:
            run = dg.materialize([parts, whole], tags=tags, instance=instance)
            events = [str(entry.dagster_event_type) for entry in instance.all_logs(run.run_id)]
            keys = sorted(instance.get_materialized_partitions(dg.AssetKey("parts")))
            checks = instance.event_log_storage.get_latest_asset_check_execution_by_key([*whole.check_keys])
            return events, keys, [each.status.value for each in checks.values()]

    found = told("ours", ours)

    assert found == told("plain", plain)
    assert found[1:] == (["one", "two"], ["SUCCEEDED"])


def test_databases_are_made_as_dagster_makes_them(tmp_path: Path) -> None:
    run = dg.DagsterRun(job_name="synthetic")
    for name, opened in (("ours", ours), ("plain", plain)):
        (tmp_path / name).mkdir()
        with opened(tmp_path / name) as instance:
            instance.report_engine_event("a step", run)

    for file in ("history/runs.db", "history/runs/index.db", f"history/runs/{run.run_id}.db", "schedules/schedules.db"):
        assert structure(tmp_path / "ours" / file) == structure(tmp_path / "plain" / file), file


def test_a_database_somebody_else_has_begun_to_make_is_made_to_the_end(tmp_path: Path) -> None:
    run = dg.DagsterRun(job_name="synthetic")
    with ours(tmp_path) as instance:
        instance.report_engine_event("a step", dg.DagsterRun(job_name="another"))
        with closing(sqlite3.connect(tmp_path / "history/runs/index.db")) as index:
            first = index.execute("select sql from sqlite_master where tbl_name = 'event_logs' and sql is not null")
            statements = [sql for (sql,) in first]
        with closing(sqlite3.connect(tmp_path / "history/runs" / f"{run.run_id}.db")) as connection:
            connection.executescript(";".join(statements))

        instance.report_engine_event("a step", run)

        assert [entry.message for entry in instance.all_logs(run.run_id)] == ["a step"]
    assert structure(tmp_path / "history/runs" / f"{run.run_id}.db") == structure(tmp_path / "history/runs/index.db")


def test_files_are_held_open_and_closed_in_the_end(tmp_path: Path) -> None:
    runs = [dg.DagsterRun(job_name="synthetic") for _ in range(3)]
    with ours(tmp_path) as instance:
        for run in runs:
            instance.add_run(run)
            instance.report_engine_event("a step", run)
        logs = {file.name for file in tmp_path.rglob("*.db-wal")}
        held = events_of(instance)._engines

        # Those of the runs before the last are closed.
        assert logs == {"runs.db-wal", "index.db-wal", f"{runs[-1].run_id}.db-wal"} | {
            file.name for file in tmp_path.rglob("schedules.db-wal")
        }
        assert set(held) == {"index", runs[-1].run_id}
    assert not list(tmp_path.rglob("history/**/*.db-wal"))


def test_after_all_is_wiped_new_events_are_stored(tmp_path: Path) -> None:
    run = dg.DagsterRun(job_name="synthetic")
    with ours(tmp_path) as instance:
        instance.report_engine_event("before", run)

        instance.event_log_storage.wipe()
        instance.report_engine_event("after", run)

        assert [entry.message for entry in instance.all_logs(run.run_id)] == ["after"]


def test_only_the_storage_dagster_takes_by_itself_is_held_open(tmp_path: Path) -> None:
    def stored_by(settings: str) -> str:
        (tmp_path / "dagster.yaml").write_text(settings, encoding="utf-8")
        ref = held_open(InstanceRef.from_dir(str(tmp_path)))
        assert ref.storage_data
        return ref.storage_data.class_name

    events = f"event_log_storage:\n  module: {SqliteEventLogStorage.__module__}\n  class: SqliteEventLogStorage\n"

    assert stored_by("telemetry:\n  enabled: false\n") == LocalStorage.__name__
    assert stored_by(f"storage:\n  sqlite:\n    base_dir: {tmp_path}\n") == LocalStorage.__name__
    assert stored_by(f"{events}  config:\n    base_dir: {tmp_path}\n") == "CompositeStorage"
