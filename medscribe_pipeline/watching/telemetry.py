"""Spans and metrics: what there is of them, and nothing behind it until somebody listens.

Calls cost next to nothing while nobody does, and no library is loaded for them. Who listens is given to `listen`;
`otel.py` sends to a collector. Facts of spans are those of `fields.py`. Labels of metrics are listed here, each has few
values, and whatever would be one too many counts as `other`: a metric can neither name anybody nor grow without bound.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Literal, NamedTuple, ParamSpec, Protocol, TypeVar

from medscribe_pipeline.watching.fields import Value, facts, known, safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from datetime import date

__all__ = [
    "METRICS",
    "OTHER",
    "Listener",
    "Metric",
    "Span",
    "add",
    "codes",
    "flush",
    "is_on",
    "level",
    "listen",
    "observe",
    "route",
    "span",
    "stop",
    "traced",
]

P = ParamSpec("P")
T = TypeVar("T")

OTHER = "other"
MOST_VALUES = 100
"""Of one label: more providers, streams, targets or states than that nobody has."""


class Metric(NamedTuple):
    """One metric: what it counts, how, in which unit, and by which labels."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    unit: str
    labels: tuple[str, ...]
    text: str


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "medscribe.records", "counter", "{record}", ("provider", "stream", "outcome"), "Records, by what was news."
        ),
        Metric("medscribe.notes", "counter", "{note}", (), "Landed records that were mapped."),
        Metric("medscribe.documents", "counter", "{note}", (), "Notes of which FHIR documents were built."),
        Metric("medscribe.deliveries", "counter", "{note}", ("target", "state"), "Notes settled, by how."),
        Metric("medscribe.jobs", "counter", "{job}", ("provider", "state"), "Jobs, by what was done."),
        Metric("medscribe.events", "counter", "{event}", ("provider", "outcome"), "Callbacks and webhooks received."),
        Metric(
            "medscribe.quarantined",
            "counter",
            "{record}",
            ("provider", "stage", "code"),
            "What went to quarantine and was not there before.",
        ),
        Metric(
            "medscribe.request.duration",
            "histogram",
            "s",
            ("client", "method", "status"),
            "Requests to providers and FHIR servers, each try for itself.",
        ),
        Metric("medscribe.retries", "counter", "{try}", ("client", "code"), "Requests tried again, and why."),
        Metric("medscribe.backlog", "gauge", "{item}", ("what", "provider", "target"), "What waits, by what it is."),
    )
}
"""Every metric there is, by name."""


class Span(Protocol):
    """A piece of work under way."""

    def note(self, **more: Value | date | None) -> None:
        """Adds facts that are known only now."""
        ...


class Listener(Protocol):
    """Whoever takes spans and metrics; names, facts and labels are made safe before it is called."""

    def span(self, name: str, told: Mapping[str, Value]) -> AbstractContextManager[Span]:
        """Begins a span that ends with the block, within that of the block around it."""
        ...

    def measure(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Adds to a counter, notes a value of a histogram, or sets a gauge."""
        ...

    def flush(self) -> None:
        """Sends what there is, in bounded time; what cannot be sent is dropped."""
        ...

    def close(self) -> None:
        """Flushes, and sends no more."""
        ...


class _Nobody:
    """The span nobody listens to."""

    def note(self, **more: Value | date | None) -> None:
        """Nothing."""


class _Bounds:
    """Which values labels may have: known codes, and of every other label the first `MOST_VALUES` seen."""

    def __init__(self, codes: Iterable[str]) -> None:
        self.codes = frozenset(codes)
        self._seen: dict[str, set[str]] = {}

    def label(self, name: str, value: object) -> str:
        """The value, or `other`."""
        text = str(safe(value))
        if name == "code":
            return text if text in self.codes else OTHER
        seen = self._seen.setdefault(name, set())
        if text not in seen and len(seen) >= MOST_VALUES:
            return OTHER
        seen.add(text)
        return text


_nothing = nullcontext(_Nobody())
_listener: Listener | None = None
_bounds = _Bounds(())


def listen(listener: Listener, *, codes: Iterable[str] = ()) -> None:
    """Lets somebody listen from now on, instead of whoever did before.

    Args:
        listener: Who.
        codes: The error codes that metrics tell apart; every other one is `other`.
    """
    global _listener, _bounds  # noqa: PLW0603  # one process, one listener: as with the handlers of logging
    stop()
    _bounds = _Bounds(codes)
    _listener = listener


def stop() -> None:
    """Lets nobody listen any more; what was told is sent first."""
    global _listener  # as above
    listener, _listener = _listener, None
    if listener is not None:
        listener.close()


def flush() -> None:
    """Sends what there is, in bounded time."""
    if _listener is not None:
        _listener.flush()


def is_on() -> bool:
    """Whether anybody listens: for what would have to be asked the database for first."""
    return _listener is not None


def codes() -> frozenset[str]:
    """The error codes that metrics tell apart: for a process that counts on behalf of this one."""
    return _bounds.codes


def span(name: str, **more: Value | date | None) -> AbstractContextManager[Span]:
    """A span for the block. An exception that leaves it is told by its code or type, and by no more."""
    if _listener is None:
        return _nothing
    return _listener.span(name, {**facts(), **known(more)})


def traced(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A span of that name around every call of a function."""

    def around(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def within(*args: P.args, **kwargs: P.kwargs) -> T:
            with span(name):
                return function(*args, **kwargs)

        return within

    return around


def add(name: str, value: float, **labels: str | None) -> None:
    """Adds to a counter; nothing where there is nothing to add."""
    if value:
        _measure(name, value, labels)


def observe(name: str, value: float, **labels: str | None) -> None:
    """Notes a value of a histogram."""
    _measure(name, value, labels)


def level(name: str, value: float, **labels: str | None) -> None:
    """Sets a gauge."""
    _measure(name, value, labels)


def _measure(name: str, value: float, labels: Mapping[str, str | None]) -> None:
    if _listener is None:
        return
    metric = METRICS[name]
    told = {label: _bounds.label(label, labels[label]) for label in metric.labels if labels.get(label) is not None}
    _listener.measure(metric, value, told)


_APIS = frozenset(
    ("api", "async", "audios", "audioscribe", "file", "metadata", "notes", "sessions", "status", "upload")
)
_ACTIONS = frozenset(("_history", "generate-note-async", "listen_async", "transcribe-async", "v1"))
_RESOURCES = frozenset(
    ("Binary", "Composition", "DocumentReference", "Encounter", "Patient", "Practitioner", "Provenance")
)
_WORDS = _APIS | _ACTIONS | _RESOURCES
"""What paths of the APIs we ask are made of, beside ids."""


@lru_cache(maxsize=1024)
def route(path: str) -> str:
    """A path with nothing but words of the APIs in it; whatever else stands there, an id, becomes `{}`.

    >>> route("/audios/6c4f8a0e-testa"), route("Composition/4711/_history"), route("")
    ('/audios/{}', '/Composition/{}/_history', '/')
    """
    parts = path.partition("?")[0].split("/")
    return "/" + "/".join(part if part in _WORDS else "{}" for part in parts if part)
