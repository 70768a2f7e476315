"""How long things took, as figures that hold no single visit: quantiles and counts in fixed steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["STEPS", "Delay", "delay_of"]

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

STEPS: tuple[tuple[str, float], ...] = (
    ("1 min", MINUTE),
    ("5 min", 5 * MINUTE),
    ("15 min", 15 * MINUTE),
    ("1 h", HOUR),
    ("4 h", 4 * HOUR),
    ("12 h", 12 * HOUR),
    ("1 day", DAY),
    ("3 days", 3 * DAY),
    ("longer", math.inf),
)
"""Upper bounds, in words and in seconds. The same for every day, so that days can be compared."""


@dataclass(frozen=True, slots=True)
class Delay:
    """One distribution. All durations in seconds.

    Attributes:
        name: From where to where, as a code.
        count: How many there are.
        backwards: How many of them were shorter than nothing, for clocks differ; they count as nothing.
        median: Half took no longer.
        p90: Nine of ten took no longer.
        longest: The longest.
        histogram: How many are within each of `STEPS` and not within the one before.
    """

    name: str
    count: int
    backwards: int
    median: float
    p90: float
    longest: float
    histogram: tuple[int, ...]


def delay_of(name: str, seconds: Iterable[float]) -> Delay | None:
    """The distribution of these durations; `None` without any.

    >>> delay = delay_of("visit_landed", [30, 40, 600])
    >>> delay.median, delay.longest, delay.histogram[:3]
    (40.0, 600.0, (2, 0, 1))
    """
    given = list(seconds)
    if not given:
        return None
    ordered = sorted(max(0.0, float(each)) for each in given)
    counts = [0] * len(STEPS)
    for each in ordered:
        counts[next(place for place, (_, bound) in enumerate(STEPS) if each <= bound)] += 1
    return Delay(
        name=name,
        count=len(ordered),
        backwards=sum(each < 0 for each in given),
        median=_quantile(ordered, 0.5),
        p90=_quantile(ordered, 0.9),
        longest=ordered[-1],
        histogram=tuple(counts),
    )


def _quantile(ordered: list[float], share: float) -> float:
    """Nearest rank: a duration that was really seen."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
