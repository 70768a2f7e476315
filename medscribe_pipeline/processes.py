"""More than one process for what keeps a processor busy: batches of keys, shared with helpers.

A helper is a Python interpreter of its own that opens the warehouse itself. It is told keys, a function and the time,
and gives back counts: no record and no text passes between processes, and nothing stands on its command line. Neither
`fork` nor `multiprocessing` start it: the first copies locks of threads that are not copied with them, the second runs
the main program of this process again, and that is Dagster, or a script that was not written for it.

A helper writes no line anywhere. What it would count for `watching.telemetry` comes back with the result. It ends when
the socket to this process closes, however that comes about, after the batch it is at; it leaves Ctrl-C to this process.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from medscribe_pipeline.errors import MedscribeError, place_of
from medscribe_pipeline.warehouse.store import Warehouse, in_chunks
from medscribe_pipeline.watching import telemetry
from medscribe_pipeline.watching.threads import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from datetime import date, datetime

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.watching.fields import Value
    from medscribe_pipeline.watching.telemetry import Metric, Span

    Measured = tuple[str, float, Mapping[str, str]]

__all__ = ["Batch", "allowed", "batches_of", "help_out", "share"]

R = TypeVar("R")

MOST_BY_DEFAULT = 4
"""Each helper holds some 90 MB, and a database has other things to do than to wait for us."""

LANES = 3
"""Threads of a process that works alone: while one or two wait for the database, another maps."""

AHEAD = 2
"""Batches a helper has at once: the one it is at, and the next. This process gives out none while it is at one."""

UNTOLD = 64
"""Batches done after one that is not: so many results are kept until theirs is the turn."""

GRACE_S = 3.0
"""How long a helper may go on with its batch when all is over. What it has not committed then is undone."""

GARBAGE_AFTER = 50_000  # As in the command: what is imported stays, and need not be looked through again and again.
START = "from medscribe_pipeline.processes import help_out; help_out()"


@dataclass(frozen=True, slots=True)
class Batch:
    """Keys of some due rows of one visit day.

    Attributes:
        day: The visit day.
        keys: Whatever the work finds its rows by; not one for a day with nothing due.
        last: Whether no more comes of that day.
        version: The mapping this is to be done with. A helper begins later, and its files may be newer.
        run_id: The run this is part of.
    """

    day: date
    keys: tuple[Any, ...]
    last: bool
    version: str
    run_id: str | None = None


def batches_of(day: date, due: Sequence[Any], size: int, *, version: str, run_id: str | None) -> Iterator[Batch]:
    """The batches of a day, at least one: the last of them tells that the day is done."""
    # Of one size, as far as can be: whoever has a small one would wait for whoever has a large one.
    number_of = -(-len(due) // size)
    chunks = list(in_chunks(due, -(-len(due) // number_of))) if due else [()]
    for number, chunk in enumerate(chunks, 1):
        yield Batch(day, tuple(chunk), number == len(chunks), version, run_id)


def allowed(settings: Settings) -> int:
    """How many processes may work at once, this one included: what is set, else one for each core we may use."""
    if settings.processes:
        return settings.processes
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_BY_DEFAULT)


def differs() -> MedscribeError:
    """The error for work that is to be done with another mapping than there is here."""
    return MedscribeError(
        "The program or its mapping file was changed while it ran; run again, nothing half-written remains",
        code="mapping_differs",
    )


def share(
    warehouse: Warehouse,
    settings: Settings,
    work: Callable[[Warehouse, Settings, Batch, datetime], R],
    batches: Iterable[Batch],
    *,
    clock: Callable[[], datetime],
    worth: int,
    done: Callable[[Batch, R], None],
) -> None:
    """Has all batches worked on, by this process and its helpers.

    Helpers are started when there is enough to do, and end with this call. Batches are taken one after the other, when
    it is their turn; any two may be worked on at the same time.

    Args:
        warehouse: The warehouse.
        settings: The settings; helpers open the warehouse they name.
        work: A function of a module. It does one batch, in transactions of its own, and returns what can be pickled.
        batches: What is to be done.
        clock: Gives the current time, aware UTC; read when a batch is given out.
        worth: How many keys make it worth starting helpers.
        done: Called with each batch and what came of it, here and in the order of `batches`.

    Raises:
        MedscribeError: What `work` raised; `worker_died`: a helper was ended from outside.
    """
    waiting = iter(batches)
    first = list(_enough(waiting, worth)) if allowed(settings) > 1 and _can_be_opened(warehouse, settings) else []
    waiting = chain(first, waiting)
    if not first or sum(len(batch.keys) for batch in first) < worth:
        _alone(warehouse, settings, work, waiting, clock, done)
        return
    team: _Team[R] = _Team(settings, allowed(settings) - 1)
    try:
        team.work(warehouse, work, waiting, clock, done)
    finally:
        team.end()


def _alone(
    warehouse: Warehouse,
    settings: Settings,
    work: Callable[[Warehouse, Settings, Batch, datetime], R],
    waiting: Iterator[Batch],
    clock: Callable[[], datetime],
    done: Callable[[Batch, R], None],
) -> None:
    """See `share`; by this process.

    A server works while we wait for it: it stores one batch while another thread maps the next. SQLite works in
    the thread that asks it, and gives up the interpreter's lock for every row: with another thread at work, each row
    would wait for it.
    """
    if not _is_server(warehouse):
        for batch in waiting:
            done(batch, work(warehouse, settings, batch, clock()))
        return
    given: deque[tuple[Batch, Future[R]]] = deque()

    def settle() -> None:
        batch, future = given.popleft()
        done(batch, future.result())

    with Pool(LANES) as pool:
        try:
            for batch in waiting:
                given.append((batch, pool.submit(work, warehouse, settings, batch, clock())))
                if len(given) > LANES:
                    settle()
            while given:
                settle()
        finally:
            # What has not begun yet never does when something went wrong.
            pool.shutdown(cancel_futures=True)


def _is_server(warehouse: Warehouse) -> bool:
    return warehouse.engine.dialect.name == "postgresql"


def _enough(waiting: Iterator[Batch], worth: int) -> Iterator[Batch]:
    """The first batches: as many as are worth a helper, or all."""
    keys = 0
    for batch in waiting:
        yield batch
        keys += len(batch.keys)
        if keys >= worth:
            return


def _can_be_opened(warehouse: Warehouse, settings: Settings) -> bool:
    """Whether another process that reads these settings has the same warehouse before it."""
    url = warehouse.engine.url
    kept = url.get_backend_name() != "sqlite" or url.database not in (None, "", ":memory:")
    return os.name == "posix" and kept and warehouse.account == settings.account


@dataclass(slots=True)
class _Turn(Generic[R]):
    """A batch that was taken, and what came of it."""

    batch: Batch
    results: list[R]


class _Team(Generic[R]):
    """This process and its helpers, at work on one sequence of batches."""

    def __init__(self, settings: Settings, helpers: int) -> None:
        self._settings = settings
        self._helpers: list[_Helper[R]] = []
        try:
            for _ in range(helpers):
                self._helpers.append(_Helper(settings))
        except OSError:
            self.end()
            raise _died(None) from None

    def work(
        self,
        warehouse: Warehouse,
        work: Callable[[Warehouse, Settings, Batch, datetime], R],
        waiting: Iterator[Batch],
        clock: Callable[[], datetime],
        done: Callable[[Batch, R], None],
    ) -> None:
        """See `share`."""
        taken: deque[_Turn[R]] = deque()

        def take() -> _Turn[R] | None:
            batch = next(waiting, None) if len(taken) < UNTOLD else None
            if batch is not None:
                taken.append(_Turn(batch, []))
            return taken[-1] if batch is not None else None

        while True:
            for helper in self._helpers:
                while len(helper.given) < AHEAD and (turn := take()) is not None:
                    helper.give(turn, work, clock())
            own = take()
            if own is not None:
                own.results.append(work(warehouse, self._settings, own.batch, clock()))
            elif not taken:
                return
            self._hear(0 if own is not None else None)
            while taken and taken[0].results:
                turn = taken.popleft()
                done(turn.batch, turn.results[0])

    def _hear(self, timeout_s: float | None) -> None:
        """Takes all that helpers have to say; waits for one that has."""
        busy = {helper.socket: helper for helper in self._helpers if helper.given}
        for ready in wait(list(busy), timeout_s):
            helper = busy[ready]  # type: ignore[index]  # it gives back what it was given
            helper.take()
            while helper.given and helper.socket.poll():
                helper.take()

    def end(self) -> None:
        """Lets helpers end, after the batch they are at if that does not take too long."""
        for helper in self._helpers:
            helper.socket.close()
        deadline = time.monotonic() + GRACE_S
        for helper in self._helpers:
            helper.end(max(0.0, deadline - time.monotonic()))


class _Helper(Generic[R]):
    """This side of a helper.

    Attributes:
        given: The batches it has, oldest first.
    """

    def __init__(self, settings: Settings) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
        with ours, theirs:
            self._process = subprocess.Popen(  # noqa: S603  # this very Python, told nothing that came from outside
                [sys.executable, "-P", "-c", START],
                # Both ways: a socket can be read and written.
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
                # Ctrl-C on a terminal goes to all processes of its session.
                start_new_session=True,
            )
            self.socket = Connection(ours.detach())
        self.given: deque[_Turn[R]] = deque()
        codes = telemetry.codes() if telemetry.is_on() else None
        # Classes of further targets are made when settings are read: a helper that has not done that cannot know them.
        self._send((settings.model_copy(update={"more_targets": ()}), codes))

    def give(self, turn: _Turn[R], work: Callable[..., R], now: datetime) -> None:
        """Has a batch done."""
        self._send((work, turn.batch, now))
        self.given.append(turn)

    def take(self) -> None:
        """Takes the next result; raises what the work raised."""
        try:
            result, error, measured = self.socket.recv()
        except (EOFError, OSError):
            raise _died(self._process) from None
        for name, value, labels in measured:
            telemetry.add(name, value, **labels)
        if error is not None:
            raise error from None
        self.given.popleft().results.append(result)

    def end(self, timeout_s: float) -> None:
        """Waits for its end, then brings it about."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, message: Any) -> None:
        try:
            self.socket.send(message)
        except OSError:
            raise _died(self._process) from None


def _died(helper: subprocess.Popen[bytes] | None) -> MedscribeError:
    ended = None
    if helper is not None:
        try:
            ended = helper.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            ended = helper.poll()
    return MedscribeError(
        "A process that helped could not start, or was ended from outside, as a rule for want of memory; give this "
        "machine more memory or set MEDSCRIBE_PROCESSES=1, then run again: nothing half-written remains",
        code="worker_died",
        context={} if ended is None else {"ended": ended},
    )


class _Counted:
    """Keeps what a helper would have counted, for whoever listens to the process it helps."""

    def __init__(self) -> None:
        self._measured: list[Measured] = []

    def taken(self) -> list[Measured]:
        """What was counted since the last time."""
        taken, self._measured = self._measured, []
        return taken

    def measure(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """See `telemetry.Listener`."""
        if metric.kind == "counter":
            self._measured.append((metric.name, value, labels))

    def span(self, _name: str, _told: Mapping[str, Value]) -> AbstractContextManager[Span]:
        """See `telemetry.Listener`: a span belongs to the work as a whole, which is not here."""
        return nullcontext(self)

    def note(self, **more: Value | date | None) -> None:
        """See `telemetry.Span`."""

    def flush(self) -> None:
        """See `telemetry.Listener`."""

    def close(self) -> None:
        """See `telemetry.Listener`."""


def help_out() -> None:
    """What a helper does, from its start to its end; its standard input is the socket to the process it helps."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(GARBAGE_AFTER)
    counted = _Counted()
    with Connection(sys.stdin.fileno()) as parent:
        try:
            settings, codes = parent.recv()
            if codes is not None:
                telemetry.listen(counted, codes=codes)
            with Warehouse.open(settings, migrate=False) as warehouse:
                while True:
                    work, batch, now = parent.recv()
                    parent.send((*_outcome(work, warehouse, settings, batch, now), counted.taken()))
        except MedscribeError as error:
            parent.send((None, error, []))
        except (EOFError, OSError):
            return  # Whom it helped is done, or gone.


def _outcome(
    work: Callable[[Warehouse, Settings, Batch, datetime], R],
    warehouse: Warehouse,
    settings: Settings,
    batch: Batch,
    now: datetime,
) -> tuple[R | None, MedscribeError | None]:
    try:
        return work(warehouse, settings, batch, now), None
    except MedscribeError as error:
        return None, error
    except Exception as error:  # noqa: BLE001  # its words may be a patient's; what is told is where it happened
        return None, MedscribeError(
            "Something unexpected happened in a process that helped. Please report it",
            code="unexpected",
            context={"place": place_of(error)},
        )
