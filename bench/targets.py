"""What is to be reached, and how far it is: ratios between contestants of one run, and a few plain figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.cases import (
    AGAIN,
    BATCHES,
    CONNECTIONS,
    DAGSTER,
    DELAY_MS,
    DELIVERED,
    DELIVERY,
    INSTALL,
    LOAD,
    MEDSCRIBE,
    PEER,
    PLAIN,
    RANGE,
    START,
    STRICT,
    TWO,
    WHOLE,
)
from bench.sessions import PAGE

if TYPE_CHECKING:
    from bench.results import Figure, Key, Results

__all__ = ["ALLOWED_A_SECOND", "TARGETS", "Target"]

Measured = Callable[["Results"], "float | None"]
"""Takes a figure from the results of a run; `None` if it was not measured."""

ALLOWED_A_SECOND = CONNECTIONS * 1000 / DELAY_MS
"""Notes a second that so many connections can bring to a server that takes so long for each."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something to reach.

    Attributes:
        what: In words.
        wanted: The figure to reach.
        most: Whether it is a ceiling; otherwise it is a floor.
        measured: Takes it from the results of a run, `None` if it was not measured.
        unit: Of the figures; empty for a ratio.
    """

    what: str
    wanted: float
    measured: Measured
    most: bool = False
    unit: str = ""

    def verdict(self, results: Results) -> tuple[str, str]:
        """The measured figure, and whether that is what was wanted: `yes`, `**missed**` or `not measured`."""
        found = self.measured(results)
        if found is None:
            return "", "not measured"
        met = found <= self.wanted if self.most else found >= self.wanted
        return f"{found:.2f}{self.unit}", "yes" if met else "**missed**"

    @property
    def bound(self) -> str:
        """The figure to reach, with its direction."""
        return f"{'at most' if self.most else 'at least'} {self.wanted:g}{self.unit}"


def _largest(results: Results, engine: str, case: str = WHOLE) -> int:
    """The size the targets are held against: the largest one at which a case was measured on that database."""
    return max((key[2] for key in results.keys if key[:2] == (case, engine)), default=0)


def _speed(case: str, engine: str, who: str, other: str, other_case: str) -> Measured:
    def measured(results: Results) -> float | None:
        size = _largest(results, engine, case)
        return results.speed_against((case, engine, size, who), (other_case, engine, size, other))

    return measured


def _share(figure: Figure) -> Measured:
    """Of dlt's figure, that of one process from the page to FHIR on PostgreSQL."""

    def measured(results: Results) -> float | None:
        size = _largest(results, "postgres")
        return results.ratio((WHOLE, "postgres", size, MEDSCRIBE), (LOAD, "postgres", size, PEER), figure)

    return measured


def _again(results: Results) -> float | None:
    size = max((key[2] for key in results.keys if key[0] == AGAIN), default=0)
    return results.speed_against((AGAIN, "postgres", size, MEDSCRIBE), (AGAIN, "postgres", size, PEER))


def _requests_a_page(results: Results) -> float | None:
    size = max((key[2] for key in results.keys if key[0] == AGAIN), default=0)
    rows = results.rows((AGAIN, "postgres", size, MEDSCRIBE))
    # The empty page after the last one, by which the list is known to end, is a page, too.
    return max(row.requests for row in rows) / (-(-size // PAGE) + 1) if rows else None


def _delivered_share(results: Results) -> float | None:
    rows = results.rows((DELIVERY, "sqlite", DELIVERED, MEDSCRIBE))
    stages = sorted(row.said["stages"]["deliver"] for row in rows)
    return DELIVERED / stages[len(stages) // 2] / ALLOWED_A_SECOND if stages else None


def _dagster_share_s(results: Results) -> float | None:
    """On the database where it is more."""
    engines = ("postgres", "sqlite")
    size = max(_largest(results, engine) for engine in engines)
    shares = []
    for engine in engines:
        keys: tuple[Key, Key] = (WHOLE, engine, size, MEDSCRIBE + DAGSTER), (WHOLE, engine, size, MEDSCRIBE)
        with_dagster, without = (results.median(key, "cpu_s") for key in keys)
        if with_dagster is not None and without is not None:
            shares.append(with_dagster - without)
    return max(shares, default=None)


def _growth(results: Results) -> float | None:
    sizes = sorted({key[2] for key in results.keys if key[:2] == (WHOLE, "postgres")})
    if len(sizes) < 2:  # noqa: PLR2004 - growth needs two
        return None
    small, large = (results.median((WHOLE, "postgres", size, MEDSCRIBE), "peak_mb") for size in sizes[-2:])
    return large / small if small and large else None


def _peak_mb(results: Results) -> float | None:
    return results.median((WHOLE, "postgres", _largest(results, "postgres"), MEDSCRIBE), "peak_mb")


def _seconds(case: str, name: str) -> Measured:
    return lambda results: results.median((case, "sqlite", 0, name), "wall_s")


def _whole(database: str, other: str, floors: dict[str, float]) -> list[Target]:
    engine = {"PostgreSQL": "postgres", "SQLite": "sqlite"}[database]
    found = []
    for way, floor in floors.items():
        against = f"{PLAIN}{way}" if other == PLAIN else other
        words = f"{database}, all to FHIR{way or ', 1 process'}: speed, in that of {against}"
        case = WHOLE if other == PLAIN else LOAD
        found.append(Target(words, floor, _speed(WHOLE, engine, f"{MEDSCRIBE}{way}", against, case)))
    return found


TARGETS = (
    *_whole("PostgreSQL", PEER, {"": 2.3, TWO: 4.0, STRICT + TWO: 1.1}),
    *_whole("PostgreSQL", PLAIN, {"": 0.75, TWO: 0.7, STRICT + TWO: 0.9}),
    Target("PostgreSQL, all to FHIR, 1 process: CPU a note, in that of dlt", 0.45, _share("cpu_s"), most=True),
    Target("PostgreSQL, all to FHIR, 1 process: peak memory, in that of dlt", 0.5, _share("peak_mb"), most=True),
    *_whole("SQLite", PEER, {"": 1.7, TWO: 2.8}),
    *_whole("SQLite", PLAIN, {"": 0.7, TWO: 0.65}),
    Target("Nothing changed, PostgreSQL: speed, in that of dlt's re-run", 8, _again),
    Target("Nothing changed: requests a page", 1, _requests_a_page, most=True),
    Target(f"Delivery, 1 note a request: share of {ALLOWED_A_SECOND:.0f} a second", 0.9, _delivered_share),
    Target(
        "All and delivery, 50 notes a request: speed, in that of the bare script",
        0.75,
        _speed(BATCHES, "postgres", MEDSCRIBE, PLAIN, BATCHES),
    ),
    Target("Dagster's share of a run, its checks included, CPU", 2.5, _dagster_share_s, most=True, unit=" s"),
    Target("100 days without data, one run", 12, _seconds(RANGE, MEDSCRIBE), most=True, unit=" s"),
    Target("medscribe --help", 0.2, _seconds(START, "medscribe --help"), most=True, unit=" s"),
    Target("dagster definitions validate", 1.6, _seconds(START, "dagster definitions validate"), most=True, unit=" s"),
    Target("Fresh install", 30, _seconds(INSTALL, "pip, by requirements.lock"), most=True, unit=" s"),
    Target("Peak memory at the largest size, in that at the next smaller", 1.1, _growth, most=True),
    Target("Peak memory at the largest size, 1 process", 400, _peak_mb, most=True, unit=" MB"),
)
