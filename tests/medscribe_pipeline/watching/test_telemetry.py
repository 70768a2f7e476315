"""Spans and metrics: nothing while nobody listens; facts that may be told and bounded labels when somebody does."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from opentelemetry.trace import StatusCode

from medscribe_pipeline.errors import Retriable
from medscribe_pipeline.operation.reasons import SAYS
from medscribe_pipeline.sandbox import MARKERS
from medscribe_pipeline.settings import WatchSettings
from medscribe_pipeline.watching import begin, end, telemetry, working
from medscribe_pipeline.watching.telemetry import METRICS, MOST_VALUES
from tests.collector import collecting, hearing

if TYPE_CHECKING:
    from pathlib import Path

CANARY = MARKERS[0]
REQUEST = {"client": "askara", "method": "GET", "status": "2xx"}


def test_while_nobody_listens_nothing_is_made() -> None:
    assert telemetry.span("a", provider="askara") is telemetry.span("b")
    with telemetry.span("a") as span:
        span.note(status=200)
    telemetry.add("medscribe.notes", 1)
    telemetry.flush()
    assert not telemetry.is_on()


def test_nor_is_any_library_of_it_loaded() -> None:
    code = (
        "import sys; import medscribe_pipeline.cli.app, medscribe_pipeline.pipeline, medscribe_pipeline.receiver;"
        "from medscribe_pipeline.settings import watch_settings; from medscribe_pipeline.watching import begin;"
        "begin(watch_settings(), level='info'); print([n for n in sys.modules if n.startswith('opentelemetry')])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={}, timeout=60)

    assert ended.stdout.strip() == "[]"


def test_spans_lie_in_each_other_and_have_the_facts_around_them() -> None:
    route = telemetry.route(f"/audios/{CANARY}")

    with (
        hearing() as heard,
        working("medscribe.pull", run="r1", provider="askara"),
        telemetry.span("medscribe.request", route=route, attempt=2) as span,
    ):
        span.note(status=503, code="server_error", url=CANARY, cause=f"{CANARY} is ill")

    inner, outer = heard.spans()
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert dict(outer.attributes or {}) == {"medscribe.run": "r1", "medscribe.provider": "askara"}
    assert dict(inner.attributes or {}) == {
        "medscribe.run": "r1",
        "medscribe.provider": "askara",
        "medscribe.route": "/audios/{}",
        "medscribe.attempt": 2,
        "medscribe.status": 503,
        "medscribe.code": "server_error",
        "medscribe.cause": "?",
    }


@pytest.mark.parametrize(
    ("error", "told"), [(KeyError(CANARY), "KeyError"), (Retriable(CANARY, code="timeout"), "timeout")]
)
def test_of_an_exception_a_span_has_the_code_or_the_type(error: Exception, told: str) -> None:
    with hearing() as heard, pytest.raises(type(error)), telemetry.span("medscribe.pull"):
        raise error

    (span,) = heard.spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, told)
    assert list(span.events) == []
    assert CANARY not in "".join(heard.texts())


def test_metrics_count_by_their_labels() -> None:
    with hearing() as heard:
        for _ in range(2):
            telemetry.add("medscribe.records", 3, provider="askara", stream="audios", outcome="new")
        telemetry.add("medscribe.records", 0, provider="askara", stream="audios", outcome="changed")
        telemetry.observe("medscribe.request.duration", 0.25, **REQUEST)
        telemetry.level("medscribe.backlog", 7, what="events")
        telemetry.level("medscribe.backlog", 5, what="events")
        points = heard.points()

    labels = (("medscribe.outcome", "new"), ("medscribe.provider", "askara"), ("medscribe.stream", "audios"))
    assert points["medscribe.records"] == {labels: 6}
    assert list(points["medscribe.request.duration"].values()) == [1]
    assert points["medscribe.backlog"] == {(("medscribe.what", "events"),): 5}


def test_unknown_codes_and_too_many_values_are_other() -> None:
    with hearing(codes=SAYS) as heard:
        for code in ("wire_model", CANARY, "no such code"):
            telemetry.add("medscribe.quarantined", 1, provider="askara", stage="extract", code=code)
        for number in range(3 * MOST_VALUES):
            telemetry.add("medscribe.deliveries", 1, target=f"t{number}", state="delivered")
        points = heard.points()

    codes = {dict(labels)["medscribe.code"]: count for labels, count in points["medscribe.quarantined"].items()}
    assert codes == {"wire_model": 1, "other": 2}
    assert len(points["medscribe.deliveries"]) == MOST_VALUES + 1


def test_labels_are_few_and_named_as_facts_are() -> None:
    assert all(len(metric.labels) <= 3 for metric in METRICS.values())
    assert {label for metric in METRICS.values() for label in metric.labels} <= {
        *(
            "client",
            "code",
            "kind",
            "method",
            "outcome",
            "provider",
            "stage",
            "state",
            "status",
            "stream",
            "target",
            "what",
        )
    }


def test_a_collector_is_sent_everything_at_the_end(clean_environment: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert clean_environment
    with collecting() as collector:
        begin(WatchSettings(otel_endpoint=collector.url), level="info")
        with working("medscribe.pull", provider="askara"):
            telemetry.add("medscribe.notes", 2)
        end()

    assert collector.names() == {"medscribe.pull", "medscribe.notes"}
    assert {path for path, _ in collector.received} == {"/v1/traces", "/v1/metrics"}
    assert "medscribe-pipeline" in str(collector.received)
    assert capfd.readouterr().err == ""


def test_the_variables_of_opentelemetry_are_heeded(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clean_environment
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "clinic-a")
        begin(WatchSettings(), level="info")
        telemetry.add("medscribe.notes", 2)
        end()
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        begin(WatchSettings(), level="info")

    assert "clinic-a" in str(collector.received)
    assert not telemetry.is_on()


def test_a_collector_that_is_away_stops_nothing(clean_environment: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert clean_environment
    with collecting() as collector:
        pass
    begin(WatchSettings(otel_endpoint=f"{collector.url}/{CANARY}"), level="info")

    with working("medscribe.pull"):
        telemetry.add("medscribe.notes", 2)
    end()

    assert CANARY not in "".join(capfd.readouterr())
