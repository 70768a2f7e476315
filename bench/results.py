"""What was measured: rows of JSON lines, their medians, and ratios between contestants that took turns.

A ratio is the median over rounds of the quotients within a round, so that a machine that was busy for a while disturbs
both sides of it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import orjson

from bench.cases import PEER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Figure", "Key", "Results", "Row", "line_of"]

Figure = Literal["wall_s", "cpu_s", "peak_mb"]


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant in one round.

    Attributes:
        case: Name of the case.
        engine: Which database.
        notes: How many there were; 0 where it does not matter.
        contestant: Its name.
        peer: Case in which dlt does what it is compared with.
        bare: Name of the bare script it is compared with.
        round: From 0.
        wall_s: From start to end of the process.
        cpu_s: User and system CPU of it and all it started.
        server_cpu_s: CPU of PostgreSQL meanwhile; `None` on other databases.
        peak_mb: Most memory of all its processes together (PSS).
        largest_mb: Most memory of one of them (RSS).
        requests: Asked of the provider.
        rows_written: In PostgreSQL, deleted ones included; `None` on other databases.
        said: What it printed.
    """

    case: str
    engine: str
    notes: int
    contestant: str
    peer: str | None
    bare: str | None
    round: int
    wall_s: float
    cpu_s: float
    server_cpu_s: float | None
    peak_mb: float
    largest_mb: float
    requests: int
    rows_written: int | None
    said: dict[str, Any]


Key = tuple[str, str, int, str]
"""Case, engine, notes, contestant."""


class Results:
    """All rows of a run.

    Args:
        machine: What it ran on, for people.
        rows: What was measured.
    """

    def __init__(self, machine: dict[str, Any], rows: Iterable[Row] = ()) -> None:
        self.machine = machine
        self._rows: dict[Key, list[Row]] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Takes another row."""
        self._rows.setdefault((row.case, row.engine, row.notes, row.contestant), []).append(row)

    @property
    def keys(self) -> list[Key]:
        """What there are figures of: cases in the order they were measured, sizes from small to large."""
        order = {key[:2]: number for number, key in reversed(list(enumerate(self._rows)))}
        return sorted(self._rows, key=lambda key: (key[2], order[key[:2]]))

    @property
    def sizes(self) -> list[int]:
        """Numbers of notes, from small to large."""
        return sorted({key[2] for key in self._rows})

    def rows(self, key: Key) -> list[Row]:
        """The rows of one contestant; none if it was not measured."""
        return self._rows.get(key, [])

    def median(self, key: Key, figure: Figure) -> float | None:
        """The median of a figure, or `None` if it was not measured."""
        found = [getattr(row, figure) for row in self.rows(key)]
        return median(found) if found else None

    def ratio(self, key: Key, other: Key, figure: Figure) -> float | None:
        """How many times the figure of `key` is that of `other`, by the median of the rounds both took part in."""
        theirs = {row.round: getattr(row, figure) for row in self.rows(other)}
        quotients = [getattr(row, figure) / theirs[row.round] for row in self.rows(key) if theirs.get(row.round, 0) > 0]
        return median(quotients) if quotients else None

    def speed_against(self, key: Key, other: Key) -> float | None:
        """How many times as fast: above 1, `key` is the faster one."""
        return self.ratio(other, key, "wall_s")

    def peer_of(self, key: Key) -> Key | None:
        """The dlt it is compared with."""
        peer = self.rows(key)[0].peer
        return (peer, *key[1:3], PEER) if peer else None

    def bare_of(self, key: Key) -> Key | None:
        """The bare script it is compared with."""
        bare = self.rows(key)[0].bare
        return (*key[:3], bare) if bare else None

    @classmethod
    def read(cls, file: Path) -> Results:
        """What was written to a file."""
        head, *lines = file.read_bytes().splitlines()
        names = {field.name for field in fields(Row)}
        rows = (Row(**{name: value for name, value in orjson.loads(line).items() if name in names}) for line in lines)
        return cls(orjson.loads(head), rows)


def line_of(row: Row | dict[str, Any]) -> bytes:
    """A line of the file."""
    return orjson.dumps(asdict(row) if isinstance(row, Row) else row) + b"\n"
