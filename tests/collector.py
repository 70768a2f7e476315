"""An OpenTelemetry collector on loopback, and what the SDK keeps in memory: everything exported, to look at."""

from __future__ import annotations

import threading
import zlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # it brings no types
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from medscribe_pipeline.watching import telemetry
from medscribe_pipeline.watching.otel import Otel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan

KINDS: dict[str, Any] = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}


class Collector:
    """What a collector was sent: decoded, by the path it came to."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[tuple[str, dict[str, Any]]] = []

    def names(self) -> set[str]:
        """Names of all spans and metrics."""
        return {
            str(each["name"])
            for _, body in self.received
            for resource in [*body.get("resourceSpans", []), *body.get("resourceMetrics", [])]
            for scope in [*resource.get("scopeSpans", []), *resource.get("scopeMetrics", [])]
            for each in [*scope.get("spans", []), *scope.get("metrics", [])]
        }


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector, while the block runs."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = zlib.decompress(body, 31)
            message = KINDS[self.path]()
            message.ParseFromString(body)
            collector.received.append((self.path, MessageToDict(message)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class Heard:
    """Spans and metrics of this process, kept in memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        traces = TracerProvider(shutdown_on_exit=False)
        traces.add_span_processor(SimpleSpanProcessor(self._spans))
        self.listener = Otel(traces, MeterProvider([self._reader], shutdown_on_exit=False))

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Ended spans in order of their ends, all or those of a name."""
        return [span for span in self._spans.get_finished_spans() if name in ("", span.name)]

    def points(self) -> dict[str, dict[tuple[tuple[str, Any], ...], Any]]:
        """Of every metric its values by labels; of histograms how many were noted."""
        data = self._reader.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return {
            metric.name: {
                tuple(sorted((point.attributes or {}).items())): getattr(point, "value", getattr(point, "count", None))
                for point in metric.data.data_points
            }
            for metric in metrics
        }

    def texts(self) -> Iterator[str]:
        """All of it as text."""
        yield from (span.to_json() for span in self.spans())
        yield repr(self.points())


@contextmanager
def hearing(*, codes: Iterable[str] = ()) -> Iterator[Heard]:
    """Listens to this process while the block runs."""
    heard = Heard()
    telemetry.listen(heard.listener, codes=codes)
    try:
        yield heard
    finally:
        telemetry.stop()
