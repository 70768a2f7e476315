"""Delivering a visit day into the EHR: at most once, whatever dies when.

    view -> recover -> [ reconcile -> plan -> claim, send, settle ] up to three times -> reconcile -> report

Every step commits before the next begins and finds its work in the ledger, so a day that was cut off anywhere is
simply delivered again. A day where nothing changed writes nothing and asks nobody.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.ehr.day_view import load_day, look_again
from medscribe_pipeline.ehr.dispatch import Dispatcher, Server
from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.ehr.obstacles import Places, find_obstacles
from medscribe_pipeline.ehr.plan import HOLD_REASONS, Rules, plan, would_leave
from medscribe_pipeline.ehr.reconcile import reconcile, recover
from medscribe_pipeline.ehr.report import DeliveryReport, delivered_now, report_of
from medscribe_pipeline.ehr.strategies import open_strategy
from medscribe_pipeline.ehr.tally import Allowance, Tally
from medscribe_pipeline.ehr.targets import load
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.warehouse.tables import deliveries, notes
from medscribe_pipeline.watching import working

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date, datetime

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.ehr.day_view import DayView
    from medscribe_pipeline.settings import EhrSettings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = [
    "Allowance",
    "DeliveryReport",
    "deliver_day",
    "known_obstacles",
    "leaving",
    "open_server",
    "reconcile_target",
]

ROUNDS = 3
"""So often is a note sent, and asked after when the answer is missing, before it is left to the next run."""

log = logging.getLogger(__name__)


def deliver_day(
    warehouse: Warehouse,
    client: FhirClient,
    settings: EhrSettings,
    day: date,
    *,
    run_id: str | None,
    clock: Callable[[], datetime],
    worker: str,
    allowance: Allowance | None = None,
    sleep: Callable[[float], None] = time.sleep,
    checkpoint: Callable[[str], None] = lambda _name: None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DeliveryReport:
    """Brings the notes of a visit day to a target, as far as they may go.

    Args:
        warehouse: Notes, documents and ledger.
        client: The target.
        settings: Its settings.
        day: The visit day.
        run_id: The run this is part of, for the log.
        clock: The current time, aware UTC.
        worker: Our name, alive while this runs; see `Warehouse.worker`.
        allowance: What may still be sent in this run; by default what the settings allow a run.
        sleep: Waits that many seconds.
        checkpoint: Called at `claimed`, `marked_sent`, `request`, `response`, `answered` and `settled`, after the
            commit where there is one; `request` and `response` in the threads that send.
        on_progress: Called with notes settled and notes planned, as it goes.

    Raises:
        ConfigError: Credentials or base URL are wrong; what was not sent stays planned.
        Deferred: The EHR asked us to come back later.
        Retriable: It failed several times in a row or cannot be reached. All of these carry the counts of the day
            in their context, and whatever was settled before stays settled.
    """
    with working("medscribe.deliver", run=run_id, target=settings.target, day=day):
        allowed = allowance or Allowance.of(settings)
        call = _Call(warehouse, client, settings, day, clock, sleep, Tally(), checkpoint)
        requests_before = client.requests
        view = call.look()
        delivered_before = delivered_now(view)
        if recover(warehouse, view, now=clock()):
            view = call.look()
        for _ in range(ROUNDS):
            view = call.plan(call.find_out(view))
            keys = view.planned()
            server = call.server() if keys and not allowed.exhausted else None
            if server is None:
                break
            dispatcher = Dispatcher(
                warehouse,
                server,
                call.places,
                worker=worker,
                clock=clock,
                tally=call.tally,
                allowance=allowed,
                checkpoint=checkpoint,
                on_settled=_Progress(on_progress, len(keys)),
            )
            lost_before = call.tally.lost
            dispatcher.run(keys)
            if call.tally.lost == lost_before:
                view = look_again(warehouse, view)
                break
            view = call.look()
        view = call.find_out(view)
        report = report_of(
            view, day, delivered_before, call.tally, client.requests - requests_before, exhausted=allowed.exhausted
        )
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
            call.tally.error.context |= report.counts()
            raise call.tally.error
        return report


def open_server(client: FhirClient, settings: EhrSettings, checkpoint: Callable[[str], None]) -> Server:
    """What is known of a target, and how notes are sent to it. Asks it once for its CapabilityStatement.

    Raises:
        ConfigError: It is no FHIR server, of another release, or its capabilities contradict each other.
        Retriable: It cannot be reached.
    """
    capabilities = load(settings, client.capabilities(), release=client.release)
    return Server(
        client,
        settings,
        capabilities,
        Rules.of(capabilities, settings),
        open_strategy(capabilities, client, checkpoint),
    )


def reconcile_target(
    warehouse: Warehouse,
    client: FhirClient,
    settings: EhrSettings,
    *,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[State, int]:
    """Asks a target after everything whose outcome is unknown, of whatever day. Nothing is sent.

    Args:
        warehouse: Notes, documents and ledger.
        client: The target.
        settings: Its settings.
        clock: The current time, aware UTC.
        sleep: Waits that many seconds.

    Returns:
        How many notes went into each state. What workers that are gone have left behind is asked after, too.

    Raises:
        ConfigError, Retriable: The target cannot be asked.
    """
    query = (
        sa.select(notes.c.visit_day)
        .join(deliveries, deliveries.c.note_id == notes.c.note_id)
        .where(
            deliveries.c.account == warehouse.account,
            deliveries.c.target == settings.target,
            deliveries.c.state.in_((State.CLAIMED, State.SENT, State.UNKNOWN)),
        )
        .distinct()
        .order_by(notes.c.visit_day)
    )
    with warehouse.read() as connection:
        days = list(connection.scalars(query))
    server = open_server(client, settings, lambda _name: None) if days else None
    counts: dict[State, int] = {}
    for day in days:
        view = load_day(warehouse, settings.target, day)
        if recover(warehouse, view, now=clock()):
            view = load_day(warehouse, settings.target, day)
        if server is not None:
            for state, count in reconcile(warehouse, server, view, clock=clock, sleep=sleep).items():
                counts[state] = counts.get(state, 0) + count
    return counts


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
    checkpoint: Callable[[str], None]
    asked_at: int = -1
    places: Places = field(default_factory=Places)
    opened: Server | None = None

    def look(self) -> DayView:
        """The day as it stands now."""
        return load_day(self.warehouse, self.settings.target, self.day)

    def server(self) -> Server | None:
        """The target, asked what it is when it is needed first; `None` when there is no use in sending anything."""
        if self.tally.error is None and self.opened is None:
            try:
                self.opened = open_server(self.client, self.settings, self.checkpoint)
            except MedscribeError as error:
                self.tally.error = error
        return self.opened if self.tally.error is None else None

    def find_out(self, view: DayView) -> DayView:
        """Asks after what is in doubt, unless nothing was lost since, or there is no use in asking now."""
        lost = self.tally.lost
        hopeless = self.tally.error is not None and self.tally.error.code != "circuit_open"
        if lost == self.asked_at or hopeless or not view.standing(State.UNKNOWN):
            return view
        self.asked_at = lost
        server = self.server() or self.opened
        if server is None:
            return view
        try:
            counts = reconcile(self.warehouse, server, view, clock=self.clock, sleep=self.sleep)
        except MedscribeError as error:
            self.tally.error = error
            return self.look()
        return self.look() if counts else view

    def plan(self, view: DayView) -> DayView:
        """Decides what may go out. The target is asked only if something might."""
        rules = Rules.of(load(self.settings, None, release=self.client.release), self.settings)
        obstacles = known_obstacles(view)
        going = leaving(view, rules)
        server = self.server() if going else None
        if server is not None:
            if server.rules != rules:
                rules = server.rules
                going = leaving(view, rules)
            with suppress(_GaveUpError):
                obstacles = self._obstacles(server, going)
        return plan(self.warehouse, view, rules, obstacles) or self.look()

    def _obstacles(self, server: Server, leaving: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
        try:
            found, self.places = find_obstacles(
                self.warehouse, self.client, self.settings, server.capabilities, leaving, clock=self.clock
            )
        except MedscribeError as error:
            # Who and where is not known, so nothing is sent; what was held stays held for what it was.
            self.tally.error = error
            raise _GaveUpError from None
        return found


class _GaveUpError(Exception):
    """Internal: the target would not say who and where."""


def leaving(view: DayView, rules: Rules) -> dict[str, tuple[str, ...]]:
    """The notes that go out if nothing stands in their way, with the kinds of document there are."""
    return {
        note.note_id: tuple(kind for kind in rules.kinds if kind in note.kinds)
        for note in view.facts.values()
        if would_leave(view.target, note, view.entries.get(note.note_id, ()), rules)
    }


def known_obstacles(view: DayView) -> dict[str, str]:
    """What notes were held for when the target was asked last."""
    return {
        entry.key.note_id: entry.reason
        for entry in view.current()
        if entry.state is State.HELD and entry.reason is not None and entry.reason not in HOLD_REASONS
    }


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
