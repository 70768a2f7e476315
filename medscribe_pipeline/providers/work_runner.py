"""One run over the jobs of a provider: enrol, recover, submit, poll, collect.

The calling thread does all the writing; a few threads talk to the provider. Every step is committed before the next
begins and finds its work in the ledger, so a run that was cut off anywhere is simply followed by another:

* a claim is committed before its submission leaves, and an answer as soon as it is there;
* what a dead run left `submitting` may have arrived: it is sent again under the same request id where the provider
  documents that this does no harm, and is `unknown`, and shown, where it does not;
* a question moves the time of the next one before it leaves, so that a job is never asked after twice at once.

Submissions and questions take turns, so that neither a long queue nor slow uploads keep results waiting. Both keep to
the provider's calls a minute, which all runs share; a run that has to wait for them does so, for a bounded time.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from medscribe_pipeline.errors import MedscribeError, WarehouseError
from medscribe_pipeline.providers.jobs import Answers, Ledger, State, enrol
from medscribe_pipeline.providers.work_failures import WORKER_DIED, Failures, code_of, recover
from medscribe_pipeline.providers.work_lanes import PollLane, SubmitLane
from medscribe_pipeline.warehouse.budgets import RateBudget
from medscribe_pipeline.watching import Pool, telemetry, working

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.providers.jobs import Entry
    from medscribe_pipeline.providers.work import Progress, WorkProvider
    from medscribe_pipeline.providers.work_lanes import Done
    from medscribe_pipeline.settings import JobSettings
    from medscribe_pipeline.warehouse.days import DayRule
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["WorkReport", "run_work"]

# While all is in the hands of the provider: how often to see whether a budget is free again.
LOOK_UP_S = 1.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class WorkReport:
    """What a run did, and how the provider's jobs stand after it. Counts and codes only, never an id.

    Attributes:
        provider: Name of the provider.
        enrolled: Jobs entered for visits.
        recovered: Jobs taken over from runs that died.
        submitted: Submissions answered, with success or without.
        polled: Questions answered.
        fetched: Results that landed.
        failed: Jobs the provider gave up or refused, by code.
        expired: Jobs given up because their time was up.
        unknown: Submissions nobody knows the outcome of, by code.
        trouble: Calls that did not work and are repeated later, by code.
        states: All jobs of the provider, by state.
        codes: Those with a code, by state and code.
        refused: Visits that cannot be worked on, by code.
        oldest_open_s: Age of the oldest job that is neither settled nor unknown, in seconds.
        overdue: Jobs still asked after although their time is up.
    """

    provider: str
    enrolled: int = 0
    recovered: int = 0
    submitted: int = 0
    polled: int = 0
    fetched: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    expired: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    trouble: Counter[str] = field(default_factory=Counter)
    states: Mapping[str, int] = field(default_factory=dict)
    codes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    oldest_open_s: float | None = None
    overdue: int = 0


def run_work(
    warehouse: Warehouse,
    work: WorkProvider,
    client: HttpClient,
    settings: JobSettings,
    *,
    days: DayRule,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    worker: str,
    run_id: str | None,
    wait_s: float = 0.0,
    run_for_s: float = 900.0,
    checkpoint: Callable[[str], None] = lambda _name: None,
    on_progress: Callable[[WorkReport], None] = lambda _report: None,
) -> WorkReport:
    """Brings the jobs of a provider forward as far as they go now.

    Args:
        warehouse: Visits, ledger, budgets, and where results land.
        work: The provider.
        client: Its API. The ledger asks again by itself, so a client with few attempts is enough.
        settings: The provider's intervals, bounds and number of connections.
        days: How instants become visit days.
        clock: The current time, aware UTC.
        sleep: Waits that many seconds.
        worker: Our name, alive while this runs; see `Warehouse.worker`.
        run_id: The run this is part of.
        wait_s: How long to wait, all in all, for jobs this run submitted to be done.
        run_for_s: Nothing new is begun after this time: the next run goes on.
        checkpoint: Called at `enrolled`, `claimed`, `asked`, `answered` and `settled`, after what is committed there.
        on_progress: Called with the report as it fills.

    Raises:
        ConfigError: Credentials or base URL are wrong; what was not sent stays wanted.
        Deferred: The provider asked us to come back later.
        Retriable: It failed several times in a row (`circuit_open`), could not be reached (`unreachable`), or the
            client was `stopped`.
        MedscribeError: `internal`: something nobody foresaw; the job it happened to is marked, the others are done.
            All of these carry the counts of the run in their context, and whatever was settled before stays settled.
    """
    report = WorkReport(work.name)
    started_at = clock()
    # At most half the time for enrolling: local recordings are read for it.
    half_time = started_at + timedelta(seconds=run_for_s / 2)
    entered = enrol(warehouse, work, clock=clock, run_id=run_id, limit=settings.jobs_per_run, until=half_time)
    report.enrolled = entered["wanted"]
    checkpoint("enrolled")
    ledger = Ledger(warehouse, work.name)
    taken_over = recover(warehouse, ledger, work)
    report.recovered = taken_over.total()
    if taken_over[State.UNKNOWN]:
        report.unknown[WORKER_DIED] = taken_over[State.UNKNOWN]
    budgets = {kind: RateBudget(warehouse, work.name, kind, calls, clock=clock) for kind, calls in work.budgets.items()}
    answers = Answers(warehouse, work, days=days, run_id=run_id)
    shared = (warehouse, ledger, work, client, settings, answers)
    run = _Run(
        submit=SubmitLane(*shared, budgets.get("submit"), clock, worker=worker, run_id=run_id),
        poll=PollLane(*shared, budgets.get("poll"), clock),
        connections=settings.connections,
        report=report,
        clock=clock,
        sleep=sleep,
        checkpoint=checkpoint,
        on_progress=on_progress,
        until=started_at + timedelta(seconds=run_for_s),
        patience_s=wait_s,
    )
    with working("medscribe.jobs", run=run_id, provider=work.name):
        run.go()
    _look_at_all(warehouse, ledger, report, clock())
    error = run.failures.error or run.failures.bug or run.failures.silence
    log.info(
        "Work done: run=%s provider=%s submitted=%d polled=%d fetched=%d failed=%d code=%s",
        run_id,
        report.provider,
        report.submitted,
        report.polled,
        report.fetched,
        report.failed.total(),
        error.code if error else None,
    )
    for state, count in _counts(report).items():
        telemetry.add("medscribe.jobs", count, provider=work.name, state=state)
    if error is not None:
        error.context |= _counts(report)
        raise error
    return report


@dataclass(slots=True, kw_only=True)
class _Run:
    """The loop of one run; its fields are those of `run_work`."""

    submit: SubmitLane
    poll: PollLane
    connections: int
    report: WorkReport
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    checkpoint: Callable[[str], None]
    on_progress: Callable[[WorkReport], None]
    until: datetime
    patience_s: float
    failures: Failures = field(default_factory=Failures)
    _flying: dict[Future[Progress], tuple[SubmitLane | PollLane, Entry]] = field(default_factory=dict)
    _lanes: deque[SubmitLane | PollLane] = field(default_factory=deque)

    def go(self) -> None:
        """Returns when nothing is left that can be done now."""
        self._lanes.extend([self.submit, self.poll])
        with Pool(self.connections, thread_name_prefix="work") as pool:
            try:
                while True:
                    self._fill(pool)
                    if self._flying:
                        self._land(LOOK_UP_S)
                    elif not self._wait():
                        return
            finally:
                # However the run ends, what is on its way is waited for and written down.
                while self._flying:
                    self._land(None)

    def _fill(self, pool: Pool) -> None:
        """Gives every thread something to do; the lanes take turns."""
        while len(self._flying) < self.connections and self.failures.error is None and self.clock() < self.until:
            for _ in range(len(self._lanes)):
                lane = self._lanes[0]
                self._lanes.rotate()
                entry = lane.take()
                if entry is not None:
                    self.checkpoint("claimed" if lane is self.submit else "asked")
                    self._flying[pool.submit(lane.call, entry)] = (lane, entry)
                    break
            else:
                return

    def _land(self, timeout_s: float | None) -> None:
        done, _ = wait(self._flying, timeout_s, FIRST_COMPLETED)
        for future in done:
            lane, entry = self._flying.pop(future)
            self.checkpoint("answered")
            outcome = self._settle(lane, entry, future)
            self._count(lane, entry, outcome)
            self.checkpoint("settled")
            self.on_progress(self.report)

    def _settle(self, lane: SubmitLane | PollLane, entry: Entry, future: Future[Progress]) -> Done:
        error = future.exception()
        if error is None:
            self.failures.reset()
            try:
                return lane.answered(entry, future.result())
            except WarehouseError:
                raise
            except MedscribeError as unstorable:
                error = unstorable
        self.failures.add(error)
        outcome = lane.failed(entry, error)
        if outcome.state in (None, State.WANTED):
            self.report.trouble[code_of(error)] += 1
        return outcome

    def _count(self, lane: SubmitLane | PollLane, entry: Entry, outcome: Done) -> None:
        report = self.report
        report.submitted += lane is self.submit
        report.polled += lane is self.poll
        match outcome.state:
            case State.FETCHED:
                report.fetched += 1
                self.submit.expect_more()
            case State.FAILED:
                report.failed[outcome.code or ""] += 1
            case State.EXPIRED:
                report.expired += 1
            case State.UNKNOWN:
                report.unknown[outcome.code or ""] += 1
            case State.RUNNING | State.READY if lane is self.submit:
                self.poll.follow(entry)

    def _wait(self) -> bool:
        """Waits for the budget, or for a job of ours to come due; returns whether there is any use in going on."""
        now = self.clock()
        if self.failures.error is not None or now >= self.until:
            return False
        free_at = min((lane.free_at for lane in self._lanes if lane.free_at is not None), default=None)
        # Nothing is asked before the budget allows it, whatever is due.
        may_ask = self.patience_s > 0 and self.poll.free_at is None
        ours_at = self.poll.next_followed_at if may_ask else None
        if free_at is not None and (ours_at is None or free_at <= ours_at):
            if free_at >= self.until:
                return False
            self.sleep(max(0.0, (free_at - now).total_seconds()))
            return True
        if ours_at is None:
            return False
        pause_s = min(max(0.0, (ours_at - now).total_seconds()), self.patience_s)
        self.patience_s -= pause_s
        self.sleep(pause_s)
        return True


def _look_at_all(warehouse: Warehouse, ledger: Ledger, report: WorkReport, now: datetime) -> None:
    with warehouse.read() as connection:
        standing = ledger.standing(connection, now=now)
    report.states = standing.states
    report.codes = standing.codes
    report.refused = standing.codes.get(State.CANCELLED, {})
    report.overdue = standing.overdue
    if standing.oldest_open_at is not None:
        report.oldest_open_s = max(0.0, (now - standing.oldest_open_at).total_seconds())


def _counts(report: WorkReport) -> dict[str, int]:
    return {
        "enrolled": report.enrolled,
        "submitted": report.submitted,
        "polled": report.polled,
        "fetched": report.fetched,
        "failed": report.failed.total(),
        "expired": report.expired,
        "unknown": report.unknown.total(),
    }
