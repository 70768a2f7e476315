"""What goes wrong with which request: a schedule that follows from its seed alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fault", "Faults", "Mishap", "Schedule"]


class Fault(StrEnum):
    """One way of failing. `before` and `after` are about the commit."""

    ERROR_BEFORE = "error_before"
    ERROR_AFTER = "error_after"
    CUT_BEFORE = "cut_before"
    CUT_AFTER = "cut_after"
    CUT_MIDDLE = "cut_middle"  # after the commit, half of the answer arrives
    SLOW = "slow"  # commits and answers late, whether anybody still waits or not
    THROTTLED = "throttled"  # 429 for the whole
    ENTRIES_THROTTLED = "entries_throttled"  # 200, and some entries of a batch say 429
    ENTRIES_FAILED = "entries_failed"  # 200, and some entries of a batch say 500: some of these happened, some did not
    CONFLICT = "conflict"  # 409, nothing happened
    PRECONDITION = "precondition"  # 412, nothing happened
    REPLAYED = "replayed"  # something between us sends it twice, and the second answer is the one that arrives
    EXPIRED = "expired"  # 401, until another token is fetched
    HTML_BEFORE = "html_before"  # an error page of something before the server
    HTML_AFTER = "html_after"  # a success with a page instead of JSON
    EMPTY_AFTER = "empty_after"  # a success with nothing in it


READS: Mapping[Fault, Fault | None] = {
    Fault.ERROR_AFTER: Fault.ERROR_BEFORE,
    Fault.CUT_AFTER: Fault.CUT_BEFORE,
    Fault.ENTRIES_THROTTLED: Fault.THROTTLED,
    Fault.ENTRIES_FAILED: None,
    Fault.CONFLICT: None,
    Fault.PRECONDITION: None,
    Fault.REPLAYED: None,
}
"""What becomes of a fault when the request only reads; the others are the same."""


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong.

    Attributes:
        seed: Everything follows from it and from the number of the request.
        shares: Probability of each fault.
        most: So many faults, and then no more.
        slow_s: How late a slow request is carried out.
        script: Faults of the first requests that write, in order; an empty text for none. Counts before the shares.
    """

    seed: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)
    most: int = 1_000_000
    slow_s: float = 0.5
    script: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mishap:
    """A fault that happens now; `random` decides what is left to decide."""

    fault: Fault
    random: Random


class Schedule:
    """Faults request by request. The caller holds a lock."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.happened: dict[str, int] = {}
        self._requests = 0
        self._writes = 0

    def next(self, *, writes: bool) -> Mishap | None:
        """What goes wrong with the next request, if anything."""
        self._requests += 1
        random = Random(f"{self.faults.seed}/{self._requests}")  # noqa: S311 - not for secrets
        fault = self._scripted() if writes else None
        if fault is None and sum(self.happened.values()) < self.faults.most:
            fault = self._drawn(random.random())
        if fault is not None and not writes:
            fault = READS.get(fault, fault)
        if fault is None:
            return None
        self.happened[fault] = self.happened.get(fault, 0) + 1
        return Mishap(fault, random)

    def _scripted(self) -> Fault | None:
        self._writes += 1
        if self._writes > len(self.faults.script):
            return None
        name = self.faults.script[self._writes - 1]
        return Fault(name) if name else None

    def _drawn(self, roll: float) -> Fault | None:
        for name, share in self.faults.shares.items():
            roll -= share
            if roll < 0:
                return Fault(name)
        return None
