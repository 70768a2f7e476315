"""What the job ledger and a provider that works on order say to each other.

The ledger (`jobs`) knows states, times and budgets and nothing of any API; a provider (`nabla.py`, `intron.py`) knows
its API and nothing of the database.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.providers.records import ManifestVisit

__all__ = ["Job", "JobSpec", "Phase", "Progress", "WorkProvider"]


class Phase(StrEnum):
    """What a provider says of a job. `UNRECOGNISED`: a word we do not know; taken as running, for a bounded time."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNRECOGNISED = "unrecognised"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job that is wanted. `request` is JSON and complete: submitting needs nothing else.

    Attributes:
        correlation_key: The visit it works for.
        step: What is asked for; with the correlation key it names the job (`<correlation_key>/<step>`).
        request: What to submit, as JSON values.
    """

    correlation_key: str
    step: str
    request: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the ledger holds it. `client_request_id` is derived from its key and request: the same for ever."""

    correlation_key: str
    step: str
    request: dict[str, Any]
    client_request_id: str
    vendor_job_id: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """An answer about a job.

    Attributes:
        phase: How far it is.
        vendor_job_id: The provider's id, where this answer names it.
        result: The provider's JSON when done, as received; it lands in `source_records`.
        code: The provider's code when it failed.
    """

    phase: Phase
    vendor_job_id: str | None = None
    result: dict[str, Any] | None = field(default=None, repr=False)
    code: str | None = None


class WorkProvider(Protocol):
    """A provider that works on order.

    Its methods raise the errors of `http.py`; none of them repeats a creating POST. `submit` raises `Rejected` for a
    job that is impossible, and `ConfigError` only for what stops all jobs.
    """

    name: str
    repeatable_submit: bool
    """Whether sending the same `client_request_id` again is documented to be harmless, so that a lost answer can be
    followed by the same submission. Otherwise the job becomes `unknown` and is shown."""
    budgets: dict[str, int]
    """Calls a minute shared by all runs, by kind of call (`submit`, `poll`); a kind that is absent has no budget."""

    def wanted(self, correlation_key: str, visit: ManifestVisit) -> list[JobSpec]:
        """The first jobs of a visit; empty when it names no recording.

        Raises:
            MedscribeError: What the manifest asks for cannot be done (`audio_url` refused, file missing, ...); the
                visit is shown with the code, and looked at again in every run: a setting or a late file may cure it.
        """
        ...

    def submit(self, client: HttpClient, job: Job) -> Progress:
        """Sends a job, exactly once. A provider that answers with the result at once says so."""
        ...

    def poll(self, client: HttpClient, job: Job) -> Progress:
        """Asks after a job."""
        ...

    def follow_up(self, job: Job, result: dict[str, Any]) -> Sequence[JobSpec]:
        """Jobs that a result makes possible (a note from a transcript)."""
        ...

    def read_callback(self, payload: Any) -> tuple[str | None, str | None, Progress] | None:
        """A callback as (vendor job id, client request id, progress); `None` when it is about no job."""
        ...
