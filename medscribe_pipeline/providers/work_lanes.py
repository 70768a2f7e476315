"""The two kinds of call a run makes about jobs: submitting them, and asking after them.

A lane knows which job is next, claims it within the budget, and what an answer or a failure means for it. A question
that got no answer is asked again, at twice the last interval each time up to the longest one, until the job's time is
up. For a submission that failed, `work_failures` decides.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError, Rejected, Retriable
from medscribe_pipeline.providers.http import Refused
from medscribe_pipeline.providers.jobs import ASKED_AFTER, State, failure_code
from medscribe_pipeline.providers.work import Phase
from medscribe_pipeline.providers.work_failures import (
    MAX_SUBMISSIONS,
    WRONG_DOOR,
    code_of,
    doubt,
    had_no_effect,
    stops,
)
from medscribe_pipeline.warehouse.tables import scribe_jobs
from medscribe_pipeline.watching import telemetry

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.providers.jobs import Answers, Entry, Ledger
    from medscribe_pipeline.providers.work import Progress, WorkProvider
    from medscribe_pipeline.settings import JobSettings
    from medscribe_pipeline.warehouse.budgets import RateBudget
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Done", "PollLane", "SubmitLane", "poll_interval"]

# Jobs due for a question that are looked up at once.
_AHEAD = 100


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a call: the state the job went to because of it (`None`: none), and why, where there is a code."""

    state: State | None
    code: str | None = None


def poll_interval(settings: JobSettings, polls: int) -> timedelta:
    """How long to wait after the `polls`-th question (0: after the submission) before the next.

    Each wait is twice the last, up to `poll_longest_s`. With a first wait of nothing, the second is a second.
    """
    if polls == 0:
        return timedelta(seconds=min(settings.poll_first_s, settings.poll_longest_s))
    doubled = max(settings.poll_first_s, 0.5) * 2.0 ** min(polls, 32)
    return timedelta(seconds=min(doubled, settings.poll_longest_s))


class _Lane:
    """What both lanes share: reserving the next job within the budget."""

    def __init__(
        self,
        warehouse: Warehouse,
        ledger: Ledger,
        work: WorkProvider,
        client: HttpClient,
        settings: JobSettings,
        answers: Answers,
        budget: RateBudget | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._warehouse = warehouse
        self._ledger = ledger
        self._work = work
        self._client = client
        self._settings = settings
        self._answers = answers
        self._budget = budget
        self._clock = clock
        self._queue: deque[str] = deque()
        self._free_at: datetime | None = None

    @property
    def free_at(self) -> datetime | None:
        """When the budget allows the next call; `None` when there is nothing to call for, or nothing to wait for."""
        return self._free_at if self._queue else None

    def take(self) -> Entry | None:
        """Claims the next job, committed; `None` when there is none now, or the budget is used up."""
        if self._free_at is not None and self._clock() < self._free_at:
            return None
        while self._queue or self._look():
            entry, self._free_at = self._reserve(self._queue[0])
            if self._free_at is not None:
                break
            self._queue.popleft()
            if entry is not None:
                return entry
        return None

    def _reserve(self, key: str) -> tuple[Entry | None, datetime | None]:
        """Claims a job and takes a call for it, both or neither; with a time, not before then."""
        with self._warehouse.begin() as connection:
            savepoint = connection.begin_nested()
            entry = self._claim(connection, key)
            # After the claim, so that a job that another run took costs no call.
            if entry is not None and self._budget is not None:
                free_at = self._budget.take(1, connection).wait_until
                if free_at is not None:
                    savepoint.rollback()
                    return None, free_at
            savepoint.commit()
        return entry, None

    def _look(self) -> bool:
        """Fills the queue; returns whether there is anything in it."""
        raise NotImplementedError

    def _claim(self, connection: sa.Connection, key: str) -> Entry | None:
        raise NotImplementedError


class SubmitLane(_Lane):
    """Sends what is wanted, oldest first. A job is sent at most once a run, whatever comes of it."""

    def __init__(
        self,
        warehouse: Warehouse,
        ledger: Ledger,
        work: WorkProvider,
        client: HttpClient,
        settings: JobSettings,
        answers: Answers,
        budget: RateBudget | None,
        clock: Callable[[], datetime],
        *,
        worker: str,
        run_id: str | None,
    ) -> None:
        super().__init__(warehouse, ledger, work, client, settings, answers, budget, clock)
        self._worker = worker
        self._run_id = run_id
        self._seen: set[str] = set()
        self._look_again = True

    def call(self, entry: Entry) -> Progress:
        """Sends a claimed job; in a thread of its own."""
        with telemetry.span("medscribe.job.submit", kind=entry.job.step):
            return self._work.submit(self._client, entry.job)

    def expect_more(self) -> None:
        """A result may have made further jobs possible."""
        self._look_again = True

    def answered(self, entry: Entry, progress: Progress) -> Done:
        """Takes in the answer to a submission."""
        now = self._clock()
        next_poll_at = now + poll_interval(self._settings, 0)
        state = self._answers.settle(entry, progress, now=now, next_poll_at=next_poll_at, worker=self._worker)
        return Done(state, failure_code(progress) if state is State.FAILED else None)

    def failed(self, entry: Entry, error: BaseException) -> Done:
        """Takes in that a submission did not work."""
        code = code_of(error)
        with self._warehouse.begin() as connection:
            if isinstance(error, Refused) and error.status in WRONG_DOOR and entry.submissions < MAX_SUBMISSIONS:
                self._ledger.give_back(connection, entry.ref, worker=self._worker, sent=True, code=code)
                return Done(None, code)
            if isinstance(error, Rejected):
                moved = self._ledger.fail(connection, entry.ref, code, now=self._clock(), worker=self._worker)
                return Done(State.FAILED if moved else None, code)
            if had_no_effect(error):
                self._ledger.give_back(connection, entry.ref, worker=self._worker, sent=False, code=code)
                return Done(None, code)
            return Done(doubt(connection, self._ledger, self._work, entry, code), code)

    def _look(self) -> bool:
        if not self._look_again:
            return False
        self._look_again = False
        most = self._settings.jobs_per_run
        wanted = (
            sa.select(scribe_jobs.c.job_key)
            .where(*self._ledger.mine(), scribe_jobs.c.state == State.WANTED)
            .order_by(scribe_jobs.c.wanted_at, scribe_jobs.c.job_key)
            .limit(most + len(self._seen))
        )
        with self._warehouse.read() as connection:
            fresh = [key for key in connection.scalars(wanted) if key not in self._seen]
        self._queue.extend(fresh[: most - len(self._seen)])
        self._seen.update(self._queue)
        return bool(self._queue)

    def _claim(self, connection: sa.Connection, key: str) -> Entry | None:
        now = self._clock()
        expires_at = now + timedelta(seconds=self._settings.job_expires_after_s)
        return self._ledger.claim(
            connection, key, worker=self._worker, now=now, expires_at=expires_at, run_id=self._run_id
        )


class PollLane(_Lane):
    """Asks after what is running, longest waiting first. Jobs it is told to follow are reported as they come due."""

    def __init__(
        self,
        warehouse: Warehouse,
        ledger: Ledger,
        work: WorkProvider,
        client: HttpClient,
        settings: JobSettings,
        answers: Answers,
        budget: RateBudget | None,
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(warehouse, ledger, work, client, settings, answers, budget, clock)
        self._asked = 0
        self._retries_counted = client.stats.retries
        self._followed: dict[str, datetime] = {}

    @property
    def next_followed_at(self) -> datetime | None:
        """When the next job this run submitted is due; `None` when none is left, or no more may be asked."""
        if self._asked >= self._settings.jobs_per_run:
            return None
        return min(self._followed.values(), default=None)

    def follow(self, entry: Entry) -> None:
        """A job of this run is to be waited for."""
        self._followed[entry.ref.job_key] = self._clock() + poll_interval(self._settings, 0)

    def call(self, entry: Entry) -> Progress:
        """Asks after a job; in a thread of its own."""
        with telemetry.span("medscribe.job.poll", kind=entry.job.step):
            return self._work.poll(self._client, entry.job)

    def take(self) -> Entry | None:
        """See `_Lane.take`."""
        if self._asked >= self._settings.jobs_per_run:
            return None
        self._charge_retries()
        entry = super().take()
        if entry is not None:
            self._asked += 1
            if entry.ref.job_key in self._followed and entry.next_poll_at is not None:
                self._followed[entry.ref.job_key] = entry.next_poll_at
        return entry

    def answered(self, entry: Entry, progress: Progress) -> Done:
        """Takes in the answer to a question."""
        now = self._clock()
        next_poll_at = entry.next_poll_at or now
        trouble = "unrecognised" if progress.phase is Phase.UNRECOGNISED else None
        if trouble != entry.code:
            with self._warehouse.begin() as connection:
                self._ledger.note_trouble(connection, entry.ref, trouble)
        is_still_running = progress.phase in (Phase.RUNNING, Phase.UNRECOGNISED)
        is_news = not is_still_running or progress.vendor_job_id not in (None, entry.job.vendor_job_id)
        state = None
        if is_news or (entry.expires_at is not None and entry.expires_at <= now):
            state = self._answers.settle(entry, progress, now=now, next_poll_at=next_poll_at)
        if not (is_still_running or state is State.READY) or state is State.EXPIRED:
            self._followed.pop(entry.ref.job_key, None)
        return Done(state, failure_code(progress) if state is State.FAILED else trouble)

    def failed(self, entry: Entry, error: BaseException) -> Done:
        """Takes in that a question got no answer: it is asked again later, as long as there is time."""
        code = code_of(error)
        state = None
        if not isinstance(error, MedscribeError) or not stops(error):
            with self._warehouse.begin() as connection:
                self._ledger.note_trouble(connection, entry.ref, code)
                # A provider that cannot be reached at all says nothing about the job, and a run that fails says so.
                unheard = isinstance(error, Retriable) and error.status is None
                if not unheard and self._ledger.expire(connection, entry.ref, now=self._clock()):
                    state = State.EXPIRED
        if state is State.EXPIRED:
            self._followed.pop(entry.ref.job_key, None)
        return Done(state, code)

    def _charge_retries(self) -> None:
        """Counts what the client repeated of its own accord: nearly all of it are questions."""
        retries = self._client.stats.retries
        if self._budget is not None and retries > self._retries_counted:
            self._budget.charge(retries - self._retries_counted)
        self._retries_counted = retries

    def _look(self) -> bool:
        now = self._clock()
        due = (
            sa.select(scribe_jobs.c.job_key)
            .where(
                *self._ledger.mine(),
                scribe_jobs.c.state.in_(ASKED_AFTER),
                scribe_jobs.c.next_poll_at <= now,
            )
            .order_by(scribe_jobs.c.next_poll_at, scribe_jobs.c.job_key)
            .limit(_AHEAD)
        )
        with self._warehouse.read() as connection:
            self._queue.extend(connection.scalars(due))
        if not self._queue:
            # What should be due and is not, a callback or another run has settled.
            self._followed = {key: at for key, at in self._followed.items() if at > now}
        return bool(self._queue)

    def _claim(self, connection: sa.Connection, key: str) -> Entry | None:
        now = self._clock()
        entry = self._ledger.get(connection, key)
        if entry is None:
            return None
        next_poll_at = now + poll_interval(self._settings, entry.polls + 1)
        if entry.expires_at is not None and now < entry.expires_at < next_poll_at:
            # So that a job is asked after once more when its time is up, and not given up unasked.
            next_poll_at = entry.expires_at
        return self._ledger.ask(connection, entry, now=now, next_poll_at=next_poll_at)
