"""Checks of the Dagster instance: settings that are known to hurt, and automation that is off."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from medscribe_pipeline.operation.doctor import Check, Level

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dagster as dg

    from medscribe_pipeline.settings import Settings

__all__ = ["check_dagster", "check_instance"]

_EXAMPLE = "deploy/dagster.yaml has it"


def check_dagster(settings: Settings) -> Iterator[Check]:
    """Opens the instance of `DAGSTER_HOME`, or that of `medscribe sync`, if there is one, and looks at it."""
    given = os.environ.get("DAGSTER_HOME")
    home = Path(given).expanduser() if given else settings.home / "dagster"
    if not (home / "dagster.yaml").is_file():
        to_do = (
            "Copy deploy/dagster.yaml there" if given else "`medscribe sync` makes one; for production set DAGSTER_HOME"
        )
        yield Check("dagster", Level.WARN, "There is no Dagster instance yet", to_do)
        return
    warnings.filterwarnings("ignore", module="dagster")
    import dagster as dg

    try:
        instance = dg.DagsterInstance.from_config(str(home))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the file or the database, its words may hold a URL
        says = f"The Dagster instance cannot be opened: {type(error).__name__}"
        yield Check("dagster", Level.FAIL, says, "Check dagster.yaml, and that its database is running")
        return
    try:
        yield from check_instance(instance, settings)
    finally:
        instance.dispose()


def check_instance(instance: dg.DagsterInstance, settings: Settings) -> Iterator[Check]:
    """Everything there is to say of an open instance."""
    yield from _queue(instance)
    yield from _recovery(instance)
    yield from _storage(instance)
    yield from _automation(instance, settings)


def _queue(instance: dg.DagsterInstance) -> Iterator[Check]:
    from dagster._core.run_coordinator import QueuedRunCoordinator

    name = "dagster queue"
    if not isinstance(instance.run_coordinator, QueuedRunCoordinator):
        says = "Runs are not queued, so pools bound nothing: two runs may ask a provider at once"
        yield Check(name, Level.FAIL, says, "Remove run_coordinator from dagster.yaml, or set QueuedRunCoordinator")
        return
    pools = instance.get_concurrency_config().pool_config
    if pools.default_pool_limit != 1:
        says = "Pools have no limit of 1: two runs may ask a provider at once, at twice its rate"
        yield Check(name, Level.WARN, says, f"Set concurrency.pools.default_limit to 1; {_EXAMPLE}")
        return
    yield Check(name, Level.OK, "Runs are queued, and pools let one at a time ask a provider")


def _recovery(instance: dg.DagsterInstance) -> Iterator[Check]:
    monitoring = instance.get_settings("run_monitoring")
    freed = isinstance(monitoring, dict) and monitoring.get("free_slots_after_run_end_seconds")
    if not instance.run_monitoring_enabled or not freed:
        says = "A cancelled or crashed run may keep its place in a pool for ever, and everything queues behind it"
        to_do = f"Set run_monitoring.enabled and free_slots_after_run_end_seconds; {_EXAMPLE}"
        yield Check("dagster monitoring", Level.WARN, says, to_do)
    else:
        yield Check("dagster monitoring", Level.OK, "Crashed runs end, and give their place in pools back")
    retries = instance.get_settings("run_retries")
    on_failure = not isinstance(retries, dict) or retries.get("retry_on_asset_or_op_failure", True)
    if instance.run_retries_enabled and on_failure:
        says = "Runs are repeated when an asset fails: what failed for a reason is asked for again at once"
        to_do = f"Set run_retries.retry_on_asset_or_op_failure to false; {_EXAMPLE}"
        yield Check("dagster retries", Level.WARN, says, to_do)
    else:
        yield Check("dagster retries", Level.OK, "Only crashed runs are repeated, if any")


def _storage(instance: dg.DagsterInstance) -> Iterator[Check]:
    if "Sqlite" in type(instance.event_log_storage).__name__:
        says = "Its database is SQLite: enough for one machine and few runs, not for a daemon beside a webserver"
        yield Check("dagster storage", Level.WARN, says, f"Use PostgreSQL in production; {_EXAMPLE}")
    else:
        yield Check("dagster storage", Level.OK, "Its database is a server")
    retention = instance.get_settings("retention")
    if not retention:
        says = "Ticks of schedules and sensors are kept for ever"
        yield Check("dagster retention", Level.WARN, says, f"Set retention; {_EXAMPLE}")
    else:
        yield Check("dagster retention", Level.OK, "Old ticks are removed")
    if instance.telemetry_enabled:
        to_do = f"Set telemetry.enabled to false; {_EXAMPLE}"
        yield Check("dagster telemetry", Level.WARN, "Dagster reports its use to its maker", to_do)
    else:
        yield Check("dagster telemetry", Level.OK, "Off")


def _automation(instance: dg.DagsterInstance, settings: Settings) -> Iterator[Check]:
    from dagster._core.scheduler.instigation import InstigatorStatus

    from assets.automation import schedules, sensors

    running = {
        state.instigator_name for state in instance.all_instigator_state() if state.status is InstigatorStatus.RUNNING
    }
    wanted = [*(each.name for each in schedules(settings)), *(each.name for each in sensors(settings))]
    stopped = [name for name in wanted if name not in running]
    if stopped:
        says = f"Stopped: {', '.join(stopped)}"
        to_do = "Start them in the UI under Automation, unless `medscribe sync` runs by another clock"
        yield Check("dagster automation", Level.WARN, says, to_do)
    else:
        yield Check("dagster automation", Level.OK, "All schedules and sensors run")
