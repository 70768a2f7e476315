"""Runs the jobs of the code location in process, and reads what they reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assets.partitions import range_tags
from medscribe_pipeline.cli.runner import QUIET
from medscribe_pipeline.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import dagster as dg

__all__ = ["SOURCES", "WORK", "build", "failures", "reported", "run", "sync", "work"]

SOURCES = ("askara_audios", "askara_notes", "audioscribe_sessions")
"""The assets that pull lists; those that take a window."""

WORK = ("inbox_events", "intron_jobs", "nabla_jobs")
"""The assets of what is worked on order, and the inbox."""


def run(instance: dg.DagsterInstance, job: str, **how: Any) -> dg.ExecuteInProcessResult:
    """Runs a job as the settings of the environment define it."""
    from medscribe_pipeline.definitions import build_definitions  # noqa: PLC0415 - loads those of the environment

    definition = build_definitions(Settings.load()).resolve_job_def(job)
    config = {"loggers": QUIET, **how.pop("run_config", {})}
    return definition.execute_in_process(instance=instance, raise_on_error=False, run_config=config, **how)


def sync(instance: dg.DagsterInstance, *only: str, **config: Any) -> dg.ExecuteInProcessResult:
    """Runs the assets of `sync` that pull lists, or some of them, all with the same configuration."""
    names = only or SOURCES
    ops = {name: {"config": config} for name in names} if config else {}
    return run(instance, "sync", run_config={"ops": ops}, asset_selection=[_key(name) for name in names])


def work(instance: dg.DagsterInstance, *only: str, wait_s: float = 0.0) -> dg.ExecuteInProcessResult:
    """Runs the assets of `sync` that work on order and the inbox, or some of them, waiting for jobs `wait_s`."""
    names = only or WORK
    ops = {name: {"config": {"wait_s": wait_s}} for name in names if name != "inbox_events"}
    return run(instance, "sync", run_config={"ops": ops}, asset_selection=[_key(name) for name in names])


def build(instance: dg.DagsterInstance, days: Sequence[date]) -> dg.ExecuteInProcessResult:
    """Runs `build_days` for the range from the first to the last of `days`."""
    return run(instance, "build_days", tags=range_tags(days[0], days[-1]))


def reported(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str | None], dict[str, Any]]:
    """Metadata of each materialization, by asset and visit day."""
    found: dict[tuple[str, str | None], dict[str, Any]] = {}
    for event in result.all_events:
        if event.is_step_materialization and event.asset_key is not None:
            key = (event.asset_key.to_user_string(), event.partition)
            assert key not in found
            metadata = event.step_materialization_data.materialization.metadata
            found[key] = {name: value.value for name, value in metadata.items()}
    return found


def failures(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Of each failed step the metadata and the description it told."""
    found = {}
    for event in result.all_events:
        if event.is_step_failure:
            told = event.step_failure_data.user_failure_data
            assert told is not None
            facts = {name: value.value for name, value in told.metadata.items()}
            found[event.step_key or ""] = {**facts, "description": told.description}
    return found


def _key(name: str) -> dg.AssetKey:
    import dagster as dg  # noqa: PLC0415

    return dg.AssetKey(name)
