"""Delivering a visit day into the EHR: at most once, whatever dies when.

    view -> recover -> [ reconcile -> plan -> claim, send, settle ] up to three times -> reconcile -> report

Every step commits before the next begins and finds its work in the ledger, so a day that was cut off anywhere is
simply delivered again. A day where nothing changed writes nothing and asks nobody.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medscribe_pipeline.ehr.dispatch import Dispatcher, Tally
from medscribe_pipeline.ehr.ledger import Key, State
from medscribe_pipeline.ehr.plan import load_day, plan
from medscribe_pipeline.ehr.reconcile import reconcile, recover
from medscribe_pipeline.errors import MedscribeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date, datetime

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.ehr.plan import DayView
    from medscribe_pipeline.settings import EhrSettings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["DeliveryReport", "deliver_day"]

ROUNDS = 3
"""So often is a note sent, and asked after when the answer is missing, before it is left to the next run."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """How a day stands on one target after a call; each note with documents is counted once, in one of the states.

    Attributes:
        target: Name of the target.
        day: The visit day.
        delivered: Delivered by this call.
        already_delivered: Delivered before it.
        planned: Still to be sent.
        in_flight: At this moment in the hands of another run.
        held: Not to be sent, by reason.
        rejected: Refused by the server, by reason.
        unknown: Possibly there, by reason.
        requests: HTTP requests of this call.
        latency_median_s: Of the answered deliveries; `None` without any.
        latency_p95_s: The same, for the slowest twentieth.
    """

    target: str
    day: date
    delivered: int
    already_delivered: int
    planned: int
    in_flight: int
    held: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0
    latency_median_s: float | None = None
    latency_p95_s: float | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing of the day is left for another run to do."""
        return not (self.planned or self.in_flight or self.unknown)


def deliver_day(
    warehouse: Warehouse,
    client: FhirClient,
    settings: EhrSettings,
    day: date,
    *,
    run_id: str | None,
    clock: Callable[[], datetime],
    worker: str,
    sleep: Callable[[float], None] = time.sleep,
    checkpoint: Callable[[str], None] = lambda _name: None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DeliveryReport:
    """Brings the notes of a visit day into the EHR, as far as they may go.

    Args:
        warehouse: Notes, documents and ledger.
        client: The EHR.
        settings: Target name, connections, and how long to wait before looking.
        day: The visit day.
        run_id: The run this is part of, for the log.
        clock: The current time, aware UTC.
        worker: Our name, alive while this runs; see `Warehouse.worker`.
        sleep: Waits that many seconds.
        checkpoint: Called at `claimed`, `marked_sent`, `answered` and `settled`, after the commit where there is one.
        on_progress: Called with notes settled and notes planned, as it goes.

    Raises:
        ConfigError: Credentials or base URL are wrong; what was not sent stays planned.
        Deferred: The EHR asked us to come back later.
        Retriable: It failed several times in a row or cannot be reached. All of these carry the counts of the day
            in their context, and whatever was settled before stays settled.
    """
    call = _Call(warehouse, client, settings, day, clock, sleep, Tally())
    requests_before = client.requests
    view = call.look()
    delivered_before = _delivered(view)
    if recover(warehouse, view, now=clock()):
        view = call.look()
    for _ in range(ROUNDS):
        view = call.plan(call.find_out(view))
        keys = view.planned()
        if not keys or not call.is_open():
            break
        dispatcher = Dispatcher(
            warehouse,
            client,
            target=settings.target,
            connections=settings.connections,
            worker=worker,
            clock=clock,
            tally=call.tally,
            checkpoint=checkpoint,
            on_settled=_Progress(on_progress, len(keys)),
        )
        lost_before = call.tally.lost
        dispatcher.run(keys)
        view = call.look()
        if call.tally.lost == lost_before:
            break
    view = call.find_out(view)
    report = _report(view, day, delivered_before, client.requests - requests_before, call.tally)
    log.info(
        "Day delivered: run=%s target=%s day=%s delivered=%d planned=%d unknown=%d",
        run_id,
        report.target,
        report.day,
        report.delivered,
        report.planned,
        sum(report.unknown.values()),
    )
    if call.tally.error is not None:
        call.tally.error.context |= _counts(report)
        raise call.tally.error
    return report


@dataclass(slots=True)
class _Call:
    """What the steps of one call share. `asked_at` is how many had been lost when the server was asked last."""

    warehouse: Warehouse
    client: FhirClient
    settings: EhrSettings
    day: date
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    tally: Tally
    asked_at: int = -1

    def look(self) -> DayView:
        """The day as it stands now."""
        return load_day(self.warehouse, self.settings.target, self.day)

    def find_out(self, view: DayView) -> DayView:
        """Asks after what is in doubt, unless nothing was lost since, or there is no use in asking now."""
        lost = self.tally.lost
        if lost == self.asked_at or (self.tally.error is not None and self.tally.error.code != "circuit_open"):
            return view
        self.asked_at = lost
        try:
            counts = reconcile(self.warehouse, self.client, view, self.settings, clock=self.clock, sleep=self.sleep)
        except MedscribeError as error:
            self.tally.error = error
            return self.look()
        return self.look() if counts else view

    def plan(self, view: DayView) -> DayView:
        """Decides what may go out."""
        return self.look() if plan(self.warehouse, view) else view

    def is_open(self) -> bool:
        """Whether there is a server of the right kind to send to."""
        if self.tally.error is None:
            try:
                self.client.check_version()
            except MedscribeError as error:
                self.tally.error = error
        return self.tally.error is None


class _Progress:
    """Adds up what was settled, for whoever watches."""

    def __init__(self, watcher: Callable[[int, int], None] | None, total: int) -> None:
        self._watcher = watcher
        self._total = total
        self._done = 0

    def __call__(self, settled: int) -> None:
        """That many more were settled."""
        self._done += settled
        if self._watcher is not None:
            self._watcher(self._done, self._total)


def _delivered(view: DayView) -> set[tuple[Key, int]]:
    """What is delivered, with the attempt that did it: the same version may have to go out again later."""
    return {(entry.key, entry.attempts) for entry in view.current() if entry.state is State.DELIVERED}


def _report(
    view: DayView, day: date, delivered_before: set[tuple[Key, int]], requests: int, tally: Tally
) -> DeliveryReport:
    current = view.current()
    states = Counter(entry.state for entry in current)
    reasons = {
        state: dict(Counter(entry.reason or "" for entry in current if entry.state is state))
        for state in (State.HELD, State.REJECTED, State.UNKNOWN)
    }
    delivered = len(_delivered(view) - delivered_before)
    seconds = sorted(tally.seconds)
    return DeliveryReport(
        target=view.target,
        day=day,
        delivered=delivered,
        already_delivered=states[State.DELIVERED] - delivered,
        planned=states[State.PLANNED],
        in_flight=states[State.CLAIMED] + states[State.SENT],
        held=reasons[State.HELD],
        rejected=reasons[State.REJECTED],
        unknown=reasons[State.UNKNOWN],
        requests=requests,
        latency_median_s=statistics.median(seconds) if seconds else None,
        latency_p95_s=seconds[math.ceil(0.95 * len(seconds)) - 1] if seconds else None,
    )


def _counts(report: DeliveryReport) -> dict[str, int]:
    return {
        "delivered": report.delivered,
        "already_delivered": report.already_delivered,
        "planned": report.planned,
        "in_flight": report.in_flight,
        "held": sum(report.held.values()),
        "rejected": sum(report.rejected.values()),
        "unknown": sum(report.unknown.values()),
    }
