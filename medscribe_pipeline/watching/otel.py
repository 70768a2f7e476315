"""OpenTelemetry: spans and metrics over OTLP, in the background. Imported only when an endpoint is configured.

No global provider is set, so that no instrumentation of a library sends what it sees by the same way: a span of an
HTTP library holds URLs, one of a database statements.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode

from medscribe_pipeline import __version__
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.watching.fields import known, safe
from medscribe_pipeline.watching.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date

    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Span as OtelSpan

    from medscribe_pipeline.watching.fields import Value
    from medscribe_pipeline.watching.telemetry import Metric, Span

__all__ = ["Otel", "sender"]

SERVICE = "medscribe-pipeline"
TIMEOUT_S = 2.0
"""The longest a run waits, at its end, for a collector that does not answer."""

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class _Span:
    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def note(self, **more: Value | date | None) -> None:
        """See `telemetry.Span`."""
        self._span.set_attributes({f"medscribe.{name}": value for name, value in known(more).items()})


class Otel:
    """A `telemetry.Listener` that hands on to OpenTelemetry's own.

    Args:
        traces: Where spans go.
        meters: Where metrics go.
    """

    def __init__(self, traces: TracerProvider, meters: MeterProvider) -> None:
        self._traces = traces
        self._meters = meters
        self._tracer = traces.get_tracer(SERVICE, __version__)
        meter = meters.get_meter(SERVICE, __version__)
        self._instruments = {name: _instrument(meter, metric) for name, metric in METRICS.items()}

    @contextmanager
    def span(self, name: str, told: Mapping[str, Value]) -> Iterator[Span]:
        """See `telemetry.Listener`."""
        attributes = {f"medscribe.{key}": value for key, value in told.items()}
        # By default it would keep the words and the traceback of an exception.
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield _Span(span)
            except BaseException as error:
                code = error.code if isinstance(error, MedscribeError) else type(error).__name__
                span.set_status(Status(StatusCode.ERROR, str(safe(code))))
                raise

    def measure(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """See `telemetry.Listener`."""
        self._instruments[metric.name](value, {f"medscribe.{name}": text for name, text in labels.items()})

    def flush(self) -> None:
        """See `telemetry.Listener`."""
        self._traces.force_flush(int(TIMEOUT_S * 1000))
        self._meters.force_flush(int(TIMEOUT_S * 1000))

    def close(self) -> None:
        """See `telemetry.Listener`."""
        self._traces.shutdown()
        self._meters.shutdown(int(TIMEOUT_S * 1000))


def sender(endpoint: str | None) -> Otel:
    """Sends over OTLP/HTTP, every minute and at the end of the process.

    Args:
        endpoint: Base URL of a collector; without it the variables of OpenTelemetry say where.
    """
    traces, metrics = (f"{endpoint}/v1/{kind}" if endpoint else None for kind in ("traces", "metrics"))
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": SERVICE}
    resource = Resource.create({**named, "service.version": __version__})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(traces, timeout=TIMEOUT_S)))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(metrics, timeout=TIMEOUT_S))
    return Otel(tracers, MeterProvider([reader], resource))


def _instrument(meter: Meter, metric: Metric) -> Callable[[float, Mapping[str, str]], None]:
    match metric.kind:
        case "counter":
            return meter.create_counter(metric.name, metric.unit, metric.text).add
        case "gauge":
            return meter.create_gauge(metric.name, metric.unit, metric.text).set
        case "histogram":
            return meter.create_histogram(
                metric.name, metric.unit, metric.text, explicit_bucket_boundaries_advisory=BUCKETS_S
            ).record
