"""The jobs a provider works on: how far each is, moved on by being asked after and by ticks, never by a clock."""

from __future__ import annotations

from enum import StrEnum
from threading import RLock
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.sandbox.fates import FAILURES, Fate, JobOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from medscribe_pipeline.sandbox.corpus import Record
    from medscribe_pipeline.sandbox.state import State

__all__ = ["JobBook", "Phase", "fates_in"]


class Phase(StrEnum):
    """How far a job is."""

    RUNNING = "running"
    UNRECOGNISED = "unrecognised"
    GONE = "gone"
    FAILED = "failed"
    DONE = "done"


class JobBook:
    """All jobs of one provider. Methods may be called from any thread.

    A job is a JSON object with at least `id`, `client_request_id` (the client's own name for it, or `None`), `fates`
    (words) and `left` (steps until its end).

    Args:
        app: The provider.
        options: How long jobs take.
        state: Where to remember them.
        on_finished: Called once for each job that ends, with the job, before the step that ended it is answered.
    """

    def __init__(
        self, app: str, options: JobOptions, state: State, on_finished: Callable[[Record], None] = lambda _: None
    ) -> None:
        self.options = options
        self._collection = f"{app}_jobs"
        self._state = state
        self._on_finished = on_finished
        self._lock = RLock()
        self._jobs: dict[str, Record] = dict(state.load(self._collection))
        # In the order they were begun, which is the order in which those of equal length end.
        self._unfinished = {key: None for key, job in self._jobs.items() if job["left"] > 0}
        self._by_request = {job["client_request_id"]: key for key, job in self._jobs.items()}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, key: str, client_request_id: str | None, fates: AbstractSet[Fate], **fields: Any) -> Record:
        """Begins a job, which may end at once."""
        job = {
            "id": key,
            "client_request_id": client_request_id,
            "fates": sorted(fates),
            "left": self.options.steps_for(fates),
            **fields,
        }
        with self._lock:
            self._unfinished[key] = None
            self._by_request[client_request_id] = key
            self._keep(job)
            return job

    def get(self, key: str) -> Record | None:
        """A job as it is, without a step."""
        return self._jobs.get(key)

    def requested(self, client_request_id: str) -> Record | None:
        """The job a client has a name for."""
        return self._jobs.get(self._by_request.get(client_request_id, ""))

    def ask(self, key: str) -> Record | None:
        """A job after one more step; `None` for one that there is not (any more)."""
        with self._lock:
            job = self._jobs.get(key)
            return None if job is None or Fate.GONE in fates_in(job) else self._step(job)

    def tick(self) -> int:
        """Takes a step in every unfinished job; returns how many ended."""
        with self._lock:
            before = len(self._unfinished)
            for key in list(self._unfinished):
                self._step(self._jobs[key])
            return before - len(self._unfinished)

    def jobs(self) -> list[Record]:
        """All jobs, in the order they were begun."""
        with self._lock:
            return list(self._jobs.values())

    def phase(self, job: Record, *, asked: bool) -> Phase:
        """How far a job is.

        Args:
            job: One of this book.
            asked: As told to somebody who asks; else as it is, which is what a callback says.
        """
        fates = fates_in(job)
        if Fate.GONE in fates:
            return Phase.GONE
        if Fate.UNRECOGNISED in fates:
            return Phase.UNRECOGNISED
        if job["left"] > 0 or Fate.NEVER in fates or (asked and Fate.CALLBACK_ONLY in fates):
            return Phase.RUNNING
        return Phase.FAILED if fates & FAILURES else Phase.DONE

    def _step(self, job: Record) -> Record:
        return self._keep({**job, "left": job["left"] - 1}) if job["left"] > 0 else job

    def _keep(self, job: Record) -> Record:
        key = job["id"]
        self._jobs[key] = job
        self._state.save([(self._collection, key, job)])
        if job["left"] == 0 and key in self._unfinished:
            del self._unfinished[key]
            self._on_finished(job)
        return job


def fates_in(job: Record) -> frozenset[Fate]:
    """The fates of a job."""
    return frozenset(Fate(word) for word in job["fates"])
