"""What a call about a job that did not work means: for the job, and for the run.

A submission that failed:

| what happened | the job is |
|---|---|
| surely no effect: no connection, credentials, asked to wait | wanted again |
| perhaps an effect, or an answer nobody can read | wanted again up to five times if `repeatable_submit`, else unknown |
| refused | failed |
| 404, 405: our base URL more often than the job | wanted again up to five times, then failed |

What concerns all jobs alike ends the run: credentials, a server that wants quiet, five failures in a row, no
connection at all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from medscribe_pipeline.errors import ConfigError, Deferred, MedscribeError, ProviderContractError, Retriable
from medscribe_pipeline.providers.http import Refused, Unsettled
from medscribe_pipeline.providers.jobs import State, safe_code
from medscribe_pipeline.warehouse.tables import scribe_jobs

if TYPE_CHECKING:
    import sqlalchemy as sa

    from medscribe_pipeline.providers.jobs import Entry, Ledger
    from medscribe_pipeline.providers.work import WorkProvider
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = [
    "FAILURES_THAT_OPEN",
    "MAX_SUBMISSIONS",
    "WORKER_DIED",
    "WRONG_DOOR",
    "Failures",
    "code_of",
    "doubt",
    "had_no_effect",
    "recover",
    "stops",
]

MAX_SUBMISSIONS = 5
"""So often is the same request sent when its outcome is in doubt."""

FAILURES_THAT_OPEN = 5
"""So many failures of the provider in a row, and the run begins nothing more: the circuit is open."""

WORKER_DIED = "worker_died"

UNREACHABLE = "unreachable"
"""Code of the HTTP client for a request that found no connection."""

WRONG_DOOR = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})
"""Answers that say there is nothing at this address."""


@dataclass(slots=True)
class Failures:
    """Whether to go on: `error` ends the run, `bug` and `silence` are raised when everything else is done."""

    in_a_row: int = 0
    error: MedscribeError | None = None
    bug: MedscribeError | None = None
    reached: bool = False

    @property
    def silence(self) -> MedscribeError | None:
        """The error of a run that never got through to the provider, however little it had to say."""
        if self.reached or not self.in_a_row:
            return None
        return Retriable(
            "The provider cannot be reached; what is left to do waits for the next run",
            code=UNREACHABLE,
            context={"failures": self.in_a_row},
        )

    def reset(self) -> None:
        """The provider answered something about a job."""
        self.in_a_row = 0
        self.reached = True

    def add(self, error: BaseException) -> None:
        """Counts one call that did not work."""
        if not isinstance(error, MedscribeError):
            # Its text may quote a patient, so only its type is kept.
            self.bug = MedscribeError(
                "A job failed in a way nobody foresaw; please report it with the type of the error",
                code="internal",
                context={"type": type(error).__name__},
            )
        elif stops(error):
            self.error = self.error or error
        elif isinstance(error, Retriable) or error.status in WRONG_DOOR:
            self.in_a_row += 1
            self.reached = self.reached or error.code != UNREACHABLE
            if self.in_a_row >= FAILURES_THAT_OPEN and self.error is None:
                self.error = Retriable(
                    "The provider failed several times in a row; what is left to do waits for the next run",
                    code="circuit_open",
                    status=error.status,
                    context={"failures": self.in_a_row, "last": error.code},
                )
        else:
            self.reset()


def stops(error: MedscribeError) -> bool:
    """Whether an error is about the whole account, or the whole run, and not about one job."""
    return isinstance(error, (ConfigError, Deferred)) or error.code == "stopped"


def code_of(error: BaseException) -> str:
    """The code under which a failed call is shown; a refusal says its status."""
    if not isinstance(error, MedscribeError):
        return "internal"
    code = safe_code(error.code, "error")
    return f"{code[:59]}_{error.status}" if isinstance(error, Refused) else code


def had_no_effect(error: BaseException) -> bool:
    """Whether a submission that failed surely left nothing at the provider; see `http.Unsettled`."""
    if isinstance(error, (Unsettled, ProviderContractError)):
        return False
    return isinstance(error, (Retriable, ConfigError))


def recover(warehouse: Warehouse, ledger: Ledger, work: WorkProvider) -> Counter[State]:
    """Takes over the submissions of runs that died; returns how many went into which state."""
    counts: Counter[State] = Counter()
    with warehouse.read() as connection:
        orphans = ledger.read(connection, scribe_jobs.c.state == State.SUBMITTING)
    dead = {each for each in {entry.claimed_by for entry in orphans} if each and not warehouse.is_alive(each)}
    if not dead:
        return counts
    with warehouse.begin() as connection:
        for entry in orphans:
            if entry.claimed_by in dead:
                state = doubt(connection, ledger, work, entry, WORKER_DIED)
                counts.update([state] if state else [])
    return counts


def doubt(connection: sa.Connection, ledger: Ledger, work: WorkProvider, entry: Entry, code: str) -> State | None:
    """A submission that may have had an effect: once more where that does no harm, else nobody knows."""
    worker = entry.claimed_by or ""
    if work.repeatable_submit and entry.submissions < MAX_SUBMISSIONS:
        moved = ledger.give_back(connection, entry.ref, worker=worker, sent=True, code=code)
        return State.WANTED if moved else None
    return State.UNKNOWN if ledger.lose(connection, entry.ref, code, worker=worker) else None
