"""Runs the Dagster jobs in process, on the instance the web UI shows."""

from __future__ import annotations

import gc
import logging
import os
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.pipeline import due_days, wake_held_notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import dagster as dg

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["SyncResult", "dagster_home", "open_instance", "sync"]

INSTANCE = """\
# Written by medscribe. deploy/dagster.yaml of the project has the settings for production.
telemetry:
  enabled: false
nux:
  enabled: false
"""

# Making it takes a second, opening it much less.
INSTANCE_TIMEOUT_S = 60.0

# The worst of several failures decides the exit code: a person must act first on settings, then on connections.
SEVERITY = (2, 3, 1)


@dataclass(slots=True)
class StepFailure:
    """A step that failed: which, our error code, the message, the exit code it asks for."""

    step: str
    code: str
    message: str
    exit_code: int


@dataclass(slots=True)
class SyncResult:
    """What a sync did: figures of each source asset, days built, failures, seconds it took."""

    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    days: int = 0
    failures: list[StepFailure] = field(default_factory=list)
    duration_s: float = 0.0

    @property
    def exit_code(self) -> int:
        """The exit code the failures ask for; 0 without any."""
        asked = {failure.exit_code for failure in self.failures}
        return next((code for code in SEVERITY if code in asked), 0)


def dagster_home(settings: Settings) -> Path:
    """Folder of the Dagster instance under `MEDSCRIBE_HOME`, made with telemetry off if it is not there."""
    home = settings.home / "dagster"
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.mkdir(exist_ok=True)
        config = home / "dagster.yaml"
        if not config.exists():
            # Whole or not at all: an empty one, left by a run that was killed, would turn telemetry on.
            draft = config.with_suffix(f".{os.getpid()}.tmp")
            draft.write_text(INSTANCE, encoding="utf-8")
            draft.replace(config)
    except OSError:
        raise ConfigError(
            "Cannot write the Dagster instance under MEDSCRIBE_HOME; make the folder writable", code="home_unwritable"
        ) from None
    return home


def open_instance(settings: Settings, warehouse: Warehouse) -> dg.DagsterInstance:
    """The Dagster instance, made on first use; its files stay open until it is closed.

    Dagster creates its databases without a lock: two first runs at the same moment would trip over each other.
    """
    import dagster as dg
    from dagster._core.instance.ref import InstanceRef

    from resources.instance import held_open

    home = settings.home / "dagster"
    with warehouse.locks.hold(f"dagster:{home}", INSTANCE_TIMEOUT_S):
        return dg.DagsterInstance.from_ref(held_open(InstanceRef.from_dir(str(dagster_home(settings)))))


def sync(
    settings: Settings,
    warehouse: Warehouse,
    *,
    providers: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    full_refresh: bool = False,
    wait_s: float = 0.0,
) -> SyncResult:
    """Pulls from the providers, then builds and delivers every outdated visit day.

    Args:
        settings: The settings.
        warehouse: The open warehouse.
        providers: Only these; all configured ones by default.
        since: ISO 8601 lower bound, instead of the watermark.
        until: ISO 8601 upper bound.
        full_refresh: Read everything again.
        wait_s: How long to wait for jobs this run submits; without, the next run asks after them.

    Raises:
        ConfigError: A provider is not configured, or no provider is.
        KeyboardInterrupt: Somebody stopped it, as ever; Dagster has the run in progress as failed.
    """
    started = time.monotonic()
    wanted = _wanted(settings, providers)
    warnings.filterwarnings("ignore", module="dagster")
    with _loading():
        import dagster as dg

        from assets.automation import BUILD_JOB, INBOX_JOB, SYNC_JOB, consecutive
        from assets.location import build_definitions
        from assets.partitions import range_tags
        from assets.sources import SyncConfig, source_key
        from assets.work import INBOX, JOBS, WorkConfig
        from medscribe_pipeline.providers.catalogue import PROVIDERS
        from medscribe_pipeline.providers.inbox_store import open_events

        config = SyncConfig(since=since, until=until, full_refresh=full_refresh)
        config.window(settings)  # A wrong time is told before anything starts.
        logging.getLogger("dagster").setLevel(logging.CRITICAL)
        definitions = build_definitions(settings)
    result = SyncResult()
    with open_instance(settings, warehouse) as instance:
        listed = [source_key(name, stream.name) for name in wanted for stream in PROVIDERS[name].streams]
        ordered = [source_key(name, JOBS) for name in wanted if PROVIDERS[name].work is not None]
        ops = {key.to_python_identifier(): {"config": config.model_dump()} for key in listed}
        ops |= {key.to_python_identifier(): {"config": WorkConfig(wait_s=wait_s).model_dump()} for key in ordered}
        run = definitions.resolve_job_def(SYNC_JOB).execute_in_process(
            instance=instance,
            asset_selection=[*listed, *ordered, dg.AssetKey(INBOX)],
            run_config={"ops": ops, "loggers": QUIET},
            raise_on_error=False,
            tags={"medscribe/trigger": "medscribe sync"},
        )
        _collect(run, result)
        if INBOX not in result.sources and open_events(warehouse)[0]:
            # Skipped, because a provider's jobs failed: what others pushed must not wait for that.
            run = definitions.resolve_job_def(INBOX_JOB).execute_in_process(
                instance=instance,
                run_config={"loggers": QUIET},
                raise_on_error=False,
                tags={"medscribe/trigger": "medscribe sync"},
            )
            _collect(run, result)
        wake_held_notes(warehouse, settings, now=datetime.now(UTC))
        build = definitions.resolve_job_def(BUILD_JOB)
        for part in consecutive(due_days(warehouse, settings)):
            run = build.execute_in_process(
                instance=instance,
                run_config={"loggers": QUIET},
                raise_on_error=False,
                tags={"medscribe/trigger": "medscribe sync", **range_tags(part[0][0], part[-1][0])},
            )
            result.days += len(part)
            _collect(run, result)
    result.duration_s = time.monotonic() - started
    return result


@contextmanager
def _loading() -> Iterator[None]:
    """Without collection of garbage meanwhile, and ever after for what was loaded: it stays."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}
"""Dagster's own console log: it repeats on the terminal what the instance keeps anyway."""


def _wanted(settings: Settings, providers: Sequence[str]) -> list[str]:
    if not settings.providers:
        raise ConfigError(
            "No provider is configured; set for example MEDSCRIBE_AUDIOSCRIBE_TOKEN or MEDSCRIBE_ASKARA_TOKEN, "
            "or try `medscribe demo`",
            code="no_provider",
        )
    missing = [name for name in providers if name not in settings.providers]
    if missing:
        raise ConfigError(
            f"Not a configured provider: {', '.join(missing)}. Configured: {', '.join(settings.providers)}",
            code="unknown_provider",
        )
    return list(providers) or list(settings.providers)


def _collect(run: dg.ExecuteInProcessResult, result: SyncResult) -> None:
    """Takes figures and failures out of a run's events."""
    import dagster as dg
    from dagster._core.errors import DagsterAssetCheckFailedError

    failures: list[StepFailure] = []
    for event in run.all_events:
        if event.is_step_materialization:
            name = event.asset_key.to_user_string() if event.asset_key else ""
            figures = {
                key: value.value
                for key, value in event.step_materialization_data.materialization.metadata.items()
                if isinstance(value.value, (int, float, str)) and not isinstance(value, dg.MarkdownMetadataValue)
            }
            target = result.stages if event.partition else result.sources
            _add(target.setdefault(name, {}), figures)
        elif _interrupted(event):
            # Dagster makes a failed run of Ctrl-C and returns. It was meant for the command: no further run begins.
            raise KeyboardInterrupt
        elif event.is_step_failure:
            data = event.step_failure_data
            if data.error is not None and data.error.cls_name == DagsterAssetCheckFailedError.__name__:
                continue  # A check that blocks: its evaluation has told already.
            told = data.user_failure_data
            facts = told.metadata if told else {}
            failures.append(
                StepFailure(
                    step=event.step_key or "",
                    code=str(facts["code"].value) if "code" in facts else "unexpected",
                    message=(told.description or "failed") if told else "failed; see the run in the Dagster UI",
                    exit_code=int(str(facts["exit_code"].value)) if "exit_code" in facts else 1,
                )
            )
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            # A warning is for the Dagster UI: the run did what it should.
            if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR:
                message = "the asset check failed; see its figures in the Dagster UI"
                failures.append(StepFailure(check.check_name, "check_failed", message, 1))
    if not run.success and not failures:
        # A resource that does not open fails the run before any step: that must not look like nothing to do.
        failures.append(
            StepFailure(run.job_def.name, "run_failed", "the run did not start; see it in the Dagster UI", 1)
        )
    result.failures += failures


def _interrupted(event: dg.DagsterEvent) -> bool:
    import dagster as dg

    error = None
    if event.is_step_failure:
        error = event.step_failure_data.error
    elif event.is_run_failure:
        error = event.job_failure_data.error
    return error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__


def _add(total: dict[str, Any], figures: dict[str, Any]) -> None:
    """Adds up counts and seconds over days; of latencies and distinct keys the largest stays, of texts the last."""
    for key, value in figures.items():
        if isinstance(value, str) or key == "watermark":
            total[key] = value
        elif key.startswith(("latency_", "keys_")):
            total[key] = max(total.get(key, value), value)
        else:
            total[key] = total.get(key, 0) + value
