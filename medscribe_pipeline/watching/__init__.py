"""Watching the pipeline: log lines, spans and metrics, and what may be in them.

`begin` is called once a process, by whoever starts it: the command, or Dagster when it loads the definitions.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.watching import logs, telemetry
from medscribe_pipeline.watching.fields import bound
from medscribe_pipeline.watching.threads import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from medscribe_pipeline.settings import WatchSettings
    from medscribe_pipeline.watching.fields import Value
    from medscribe_pipeline.watching.telemetry import Span

__all__ = ["Pool", "begin", "bound", "end", "is_begun", "working"]

ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)


def begin(settings: WatchSettings, *, level: str, codes: Iterable[str] = ()) -> None:
    """Writes log lines, and sends spans and metrics if that is configured.

    Args:
        settings: What a person wants.
        level: Level of the lines where they do not say.
        codes: The error codes that metrics tell apart.

    Raises:
        ConfigError: `otel_not_installed`: there is an endpoint, and not the extra `otel`.
    """
    logs.start(settings.log_format, settings.log_level or level)
    endpoint = settings.otel_endpoint
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not (endpoint or any(os.environ.get(name) for name in ENDPOINTS)):
        return
    try:
        from medscribe_pipeline.watching.otel import sender  # noqa: PLC0415  # an extra, and slow to load
    except ModuleNotFoundError:
        raise ConfigError(
            "OpenTelemetry is not installed: pip install 'medscribe-pipeline[otel]', or unset MEDSCRIBE_OTEL_ENDPOINT",
            code="otel_not_installed",
        ) from None
    telemetry.listen(sender(endpoint), codes=codes)


@contextmanager
def working(name: str, **facts: Value | date | None) -> Iterator[Span]:
    """A piece of work: a span of that name, and its facts beside every line and every span of the block."""
    with bound(**facts), telemetry.span(name) as span:
        yield span


def is_begun() -> bool:
    """Whether lines are written by us."""
    return logs.is_started()


def end() -> None:
    """Sends what is left, and leaves logging as Python has it."""
    telemetry.stop()
    logs.stop()
