"""The steps of the demo: pull, a backfill with a death, the same work with fewer and more workers, counting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from celery import Celery

from scale.asking import Dagster, Run
from scale.counting import Arrived, arrived
from scale.processes import Deadline, Overdue, started, wait_until
from scale.services import EHR_POOL, Site, World, open_site, running_daemon, running_workers
from scale.world import LAST_DAY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

__all__ = ["CREW", "Findings", "Plan", "Taken", "run_demo", "settled", "spans"]

CREW = 4
"""Workers of the backfill in which one dies."""

ASK_S = 2.0
"""How often Dagster is asked how things stand: what is measured are its own times, and asking costs it something."""

KILL_AFTER_S, KILL_BEFORE_S = 1.0, 2.5
"""How long the run of the worker that is killed has been under way."""

UNFINISHED = frozenset({"REQUESTED"})
"""What Dagster calls a backfill that goes on."""

Tell = "Callable[[str], None]"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for.

    Attributes:
        days: Visit days of the backfill in which a worker dies.
        measured_days: Visit days of each backfill after it.
        notes: Notes a day.
        workers: How many workers those backfills have.
        delay_ms: How long the provider takes for an answer.
        ehr_delay_ms: The same of the EHR.
        connections: Connections of one run to the EHR.
        time_limit_s: When all has to be over.
    """

    days: int
    measured_days: int
    notes: int
    workers: tuple[int, ...]
    delay_ms: int
    ehr_delay_ms: int
    connections: int
    time_limit_s: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What one backfill took.

    Attributes:
        workers: How many there were at its beginning.
        days: Visit days.
        seconds: From the beginning of the first run to the end of the last.
        runs: Its runs, retries among them.
        killed: The worker that was killed in it; empty for none.
        status: What Dagster calls the backfill; asked only where a worker was killed.
    """

    workers: int
    days: int
    seconds: float
    runs: list[Run]
    killed: str = ""
    status: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of it all.

    Attributes:
        pull_s: The pull of all notes, from asking for the run to its end.
        backfills: The one with a death, then one for each number of workers.
        counted: What had arrived after the first of them, and after all.
        warehouse_kb: What a note takes in the warehouse, in KB, indexes included.
        dagster_kb: What a run takes in Dagster's database, in KB.
    """

    pull_s: float
    backfills: list[Taken]
    counted: list[Arrived]
    warehouse_kb: float
    dagster_kb: float

    @property
    def exact(self) -> bool:
        """Whether every note arrived once, and every day was done."""
        return all(each.exact for each in self.counted) and all(
            settled(each.runs, each.days) for each in self.backfills
        )


def spans(plan: Plan) -> list[list[date]]:
    """The days of each backfill, none in two of them: the one with a death first."""
    measured = [plan.measured_days * number for number in range(len(plan.workers) + 1)]
    first = LAST_DAY - timedelta(days=plan.days + measured[-1] - 1)
    every = [first + timedelta(days=number) for number in range(plan.days + measured[-1])]
    return [every[: plan.days], *(every[plan.days + at :][: plan.measured_days] for at in measured[:-1])]


def settled(runs: Sequence[Run], days: int) -> bool:
    """Whether every day has a run that succeeded, and nothing is under way."""
    return len({run.day for run in runs if run.status == "SUCCESS"}) == days and all(run.ended for run in runs)


def run_demo(plan: Plan, folder: Path, tell: Callable[[str], None]) -> Findings:
    """Does all of it.

    Args:
        plan: What is asked for.
        folder: An empty folder with a short name.
        tell: Told what begins.

    Raises:
        Overdue: Something did not happen in time, or a process ended that should not.
    """
    deadline = Deadline(plan.time_limit_s)
    parts = spans(plan)
    days = sum(map(len, parts))
    world = World(days, plan.notes, plan.delay_ms, plan.ehr_delay_ms)
    tell("Starting PostgreSQL, broker, provider, EHR, and Dagster's code location and web server ...")
    with open_site(folder, world, plan.connections, deadline) as site:
        # Makes the warehouse.
        _finish(site, "status", [str(Path(sys.executable).with_name("medscribe")), "status"], deadline)
        # As many runs as there are workers may deliver to the EHR at once. Without it, one does.
        command = ["-m", "dagster", "instance", "concurrency", "set", EHR_POOL, str(max(CREW, *plan.workers))]
        _finish(site, "pool", [sys.executable, *command], deadline)
        empty = _sizes(site)
        dagster = Dagster(site.webserver_url)
        try:
            with running_workers(site, CREW) as crew:
                _wait_for_workers(site, crew, deadline)
                tell(f"One worker pulls {days * plan.notes} notes ...")
                with running_daemon(site, CREW):
                    pull_s = _pull(dagster, deadline)
                tell(f"A backfill of {plan.days} days over {CREW} workers, one of which will be killed ...")
                backfills = [_backfill(site, dagster, parts[0], crew, deadline, kill=True)]
            tell(f"Killed worker {backfills[0].killed} in the middle of a run; the backfill came to its end.")
            counted = [_count(site, plan, parts[:1])]
            for count, part in zip(plan.workers, parts[1:], strict=True):
                tell(f"A backfill of {len(part)} other days over {count} worker{'s' if count > 1 else ''} ...")
                with running_workers(site, count) as crew:
                    _wait_for_workers(site, crew, deadline)
                    backfills.append(_backfill(site, dagster, part, crew, deadline))
            counted.append(_count(site, plan, parts))
        finally:
            dagster.close()
        full = _sizes(site)
    runs = 1 + sum(len(each.runs) for each in backfills)
    kb = [(after - before) / 1000 for before, after in zip(empty, full, strict=True)]
    return Findings(pull_s, backfills, counted, kb[0] / (days * plan.notes), kb[1] / runs)


def _finish(site: Site, name: str, command: Sequence[str], deadline: Deadline) -> None:
    with started(command, site.folder, name, site.environment) as process:
        try:
            code = process.wait(deadline.left_s)
        except subprocess.TimeoutExpired:
            raise Overdue(f"This took too long: {name}") from None
    if code:
        raise Overdue(f"A command ended with code {code}; see {name}.log")


def _sizes(site: Site) -> list[int]:
    """Bytes of the warehouse and of Dagster's database."""
    sizes = []
    for url in (site.warehouse_url, site.dagster_url):
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            sizes.append(int(connection.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0))
        engine.dispose()
    return sizes


def _count(site: Site, plan: Plan, parts: Sequence[Sequence[date]]) -> Arrived:
    days = [day for part in parts for day in part]
    return arrived(site.warehouse_url, site.world_url, days, len(days) * plan.notes)


def _control(site: Site) -> Any:
    url = site.environment["CELERY_BROKER_URL"]
    return Celery(broker=url, backend=url).control


def _wait_for_workers(site: Site, crew: Sequence[subprocess.Popen[str]], deadline: Deadline) -> None:
    control = _control(site)
    wait_until(
        lambda: len(control.ping(timeout=0.5, limit=len(crew))) == len(crew), "the workers", deadline, alive=crew
    )


def _pull(dagster: Dagster, deadline: Deadline) -> float:
    began = time.monotonic()
    run = dagster.launch("sync")
    wait_until(lambda: dagster.run(run).ended, "the pull", deadline, poll_s=ASK_S)
    if dagster.run(run).status != "SUCCESS":
        raise Overdue("The pull failed; see the logs of the workers")
    return time.monotonic() - began


def _backfill(
    site: Site,
    dagster: Dagster,
    days: Sequence[date],
    crew: Sequence[subprocess.Popen[str]],
    deadline: Deadline,
    *,
    kill: bool = False,
) -> Taken:
    """Runs a backfill to its end. The daemon starts after it is asked for, because it looks twice a minute only."""
    backfill = dagster.backfill([day.isoformat() for day in days])
    killed = status = ""
    with running_daemon(site, len(crew)):
        if kill:
            some = len(days) // 3
            wait_until(
                lambda: sum(run.ended for run in dagster.runs_of(backfill)) >= some, "some days", deadline, poll_s=ASK_S
            )
            killed = _kill_one(site, crew, deadline)
        wait_until(lambda: settled(dagster.runs_of(backfill), len(days)), "the backfill", deadline, poll_s=ASK_S)
        if kill:
            wait_until(
                lambda: dagster.backfill_status(backfill) not in UNFINISHED,
                "Dagster's word on the backfill",
                deadline,
                poll_s=ASK_S,
            )
            status = dagster.backfill_status(backfill)
        runs = dagster.runs_of(backfill)
    began = min(run.start for run in runs if run.start is not None)
    ended = max(run.end for run in runs if run.end is not None)
    return Taken(len(crew), len(days), ended - began, runs, killed, status)


def _kill_one(site: Site, crew: Sequence[subprocess.Popen[str]], deadline: Deadline) -> str:
    """Kills a worker with all it started, in the middle of a run, as if its machine lost power; returns its name."""
    control = _control(site)
    names = [f"w{number}@here" for number in range(1, len(crew) + 1)]
    at_work: list[str] = []

    def found() -> bool:
        told = control.inspect(names, timeout=1, limit=len(names)).active() or {}
        at_work[:] = [name for name, tasks in told.items() if any(map(_is_under_way, tasks))]
        return bool(at_work)

    wait_until(found, "a run to kill", deadline, alive=crew, poll_s=0.2)
    victim = crew[names.index(at_work[0])]
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait(10)
    return at_work[0]


def _is_under_way(task: dict[str, Any]) -> bool:
    """Whether a task has run long enough for Dagster to know of it, and not so long that it is about to end."""
    age_s = time.time() - float(task["time_start"] or 0)
    return KILL_AFTER_S < age_s < KILL_BEFORE_S
