"""What the servers saw, for tests that must know how often a client really asked."""

from __future__ import annotations

import re
from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Stats", "StatsMiddleware", "template"]

_UUID = re.compile(r"/[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?=/|$)")
_FHIR_ID = re.compile(r"(/fhir/[A-Z][A-Za-z]+)/[A-Za-z0-9.-]{1,64}(?=/|$)")
_FILE_ID = re.compile(r"(/file/v1/status)/[^/]+")
_NUMBER = re.compile(r"/\d+(?=/|$)")


def template(path: str) -> str:
    """A path with what varies taken out, so that requests can be counted by kind.

    >>> template("/fhir/Composition/17/_history/2"), template("/audioscribe/api/v1/audioscribe/sessions/4001/")
    ('/fhir/Composition/{id}/_history/{id}', '/audioscribe/api/v1/audioscribe/sessions/{id}/')
    """
    path = _FILE_ID.sub(r"\1/{id}", path)
    return _NUMBER.sub("/{id}", _FHIR_ID.sub(r"\1/{id}", _UUID.sub("/{uuid}", path)))


class Stats:
    """Counters; safe to read from any thread.

    Attributes:
        requests: What arrived, by method and path template (`GET /askara/audios`).
        faults: Faults inflicted, by kind.
        jobs: Jobs begun, by provider, step and recording (`nabla transcribe visit-1.wav`): 1 each, if nothing was
            submitted twice.
        repeats: Submissions that were known already and began nothing, likewise.
        pushes: Callbacks and webhooks, by sender, signature and outcome (`nabla good delivered`).
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.jobs: Counter[str] = Counter()
        self.repeats: Counter[str] = Counter()
        self.pushes: Counter[str] = Counter()

    def count_request(self, method: str, path: str) -> None:
        """Counts one request that arrived, whatever becomes of it."""
        with self._lock:
            self.requests[f"{method} {template(path)}"] += 1

    def count_fault(self, kind: str) -> None:
        """Counts one fault."""
        with self._lock:
            self.faults[str(kind)] += 1

    def count_job(self, app: str, step: str, recording: str, *, repeated: bool = False) -> None:
        """Counts one accepted submission."""
        with self._lock:
            (self.repeats if repeated else self.jobs)[f"{app} {step} {recording}"] += 1

    def count_push(self, kind: str) -> None:
        """Counts one attempt to push something."""
        with self._lock:
            self.pushes[kind] += 1

    def reset(self) -> None:
        """Starts again from zero."""
        with self._lock:
            for counter in self._counters().values():
                counter.clear()

    def snapshot(self) -> dict[str, dict[str, int]]:
        """The counters as plain JSON."""
        with self._lock:
            return {name: dict(counter) for name, counter in self._counters().items()}

    def _counters(self) -> dict[str, Counter[str]]:
        return {
            "requests": self.requests,
            "faults": self.faults,
            "jobs": self.jobs,
            "repeats": self.repeats,
            "pushes": self.pushes,
        }


class StatsMiddleware:
    """Counts what arrives, before anything else can interfere; the control endpoints do not count."""

    def __init__(self, app: ASGIApp, stats: Stats) -> None:
        self._app = app
        self._stats = stats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request (ASGI)."""
        if scope["type"] == "http" and not scope["path"].startswith("/_control"):
            self._stats.count_request(scope["method"], scope["path"])
        await self._app(scope, receive, send)
