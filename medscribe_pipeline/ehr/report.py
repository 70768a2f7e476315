"""How a visit day stands on a target: counts and times, for the log, Dagster and the command."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medscribe_pipeline.ehr.ledger import Key, State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from medscribe_pipeline.ehr.day_view import DayView
    from medscribe_pipeline.ehr.tally import Tally

__all__ = ["LATENCY_BOUNDS_S", "DeliveryReport", "delivered_now", "report_of"]

LATENCY_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, math.inf)
"""Upper bounds of the latency histogram, in seconds."""


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
        discarded: Not to be sent, a person says.
        left_for_next_run: Of the planned, those that were left because this run had sent as much as it may.
        requests: HTTP requests of this call.
        read_back: Notes that were read back and compared.
        changed: Element paths the server dropped or changed, with how many of these notes.
        latency_median_s: Of the answered deliveries; `None` without any.
        latency_p95_s: The same, for the slowest twentieth.
        latency_histogram: How many were answered within so many seconds, by upper bound.
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
    discarded: int = 0
    left_for_next_run: int = 0
    requests: int = 0
    read_back: int = 0
    changed: Mapping[str, int] = field(default_factory=dict)
    latency_median_s: float | None = None
    latency_p95_s: float | None = None
    latency_histogram: Mapping[float, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing of the day is left for another run to do."""
        return not (self.planned or self.in_flight or self.unknown)

    def counts(self) -> dict[str, int]:
        """The states alone, for the context of an error."""
        return {
            "delivered": self.delivered,
            "already_delivered": self.already_delivered,
            "planned": self.planned,
            "in_flight": self.in_flight,
            "held": sum(self.held.values()),
            "rejected": sum(self.rejected.values()),
            "unknown": sum(self.unknown.values()),
            "discarded": self.discarded,
        }


def delivered_now(view: DayView) -> set[tuple[Key, int]]:
    """What is delivered, with the attempt that did it: the same version may have to go out again later."""
    return {(entry.key, entry.attempts) for entry in view.current() if entry.state is State.DELIVERED}


def report_of(
    view: DayView,
    day: date,
    delivered_before: set[tuple[Key, int]],
    tally: Tally,
    requests: int,
    *,
    exhausted: bool,
) -> DeliveryReport:
    """Counts a day.

    Args:
        view: The day as it stands now.
        day: The visit day.
        delivered_before: `delivered_now` of before.
        tally: What the requests came to.
        requests: How many there were.
        exhausted: Whether the run has sent as much as it may.
    """
    current = view.current()
    states = Counter(entry.state for entry in current)
    reasons = {
        state: dict(Counter(entry.reason or "" for entry in current if entry.state is state))
        for state in (State.HELD, State.REJECTED, State.UNKNOWN)
    }
    delivered = len(delivered_now(view) - delivered_before)
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
        discarded=states[State.DISCARDED],
        left_for_next_run=states[State.PLANNED] if exhausted else 0,
        requests=requests,
        read_back=tally.read_back,
        changed=dict(tally.changed),
        latency_median_s=statistics.median(seconds) if seconds else None,
        latency_p95_s=seconds[math.ceil(0.95 * len(seconds)) - 1] if seconds else None,
        latency_histogram=_histogram(seconds),
    )


def _histogram(seconds: Sequence[float]) -> dict[float, int]:
    bounds = Counter(next(bound for bound in LATENCY_BOUNDS_S if each <= bound) for each in seconds)
    return {bound: bounds[bound] for bound in LATENCY_BOUNDS_S if bounds[bound]}
