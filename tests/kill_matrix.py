"""What is left of a delivery when its process dies: at every named point, for every way of delivering.

    python -m tests.kill_matrix [--write]

For each cell of the table a process delivers a day of notes and ends itself at the point by `os._exit`: no handler, no
`finally`, no commit, as by a power cut. Then others deliver the day again until there is nothing left to do. The FHIR
server is a process of its own that heeds no conditions, whatever it says: nothing but the ledger stands between a death
and a second copy. What it accepted is judged by the server's own ledger.

`make kill-matrix` prints the table; with `--write` it goes into `docs/kill_matrix.md`, which the tests compare.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import Warehouse
from tests.delivering import WAYS, deliver, ehr_settings, settle, the_note, write
from tests.dying import DIED, bomb, fork, join
from tests.fhir_server import FhirServer, Wanted, judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.delivering import Way
    from tests.fhir_server import Endpoint, Written

__all__ = ["AGAIN", "POINTS", "Cell", "Matrix", "main", "render"]

NOTES = 10
AGAIN = "a later version"
FIRST = "a first version"

POINTS: Mapping[str, tuple[int, ...]] = {
    "claimed": (1, 2),
    "marked_sent": (1, 3),
    "request": (1, 2, 7),
    "response": (1, 2, 7),
    "answered": (1, 3),
    "settled": (1, 3),
}
"""Where a process may die, in the order they come, and the how manieth time."""

COMPLETE = "all there, once"
WAITS = "nothing twice, the rest waits"
NOT_REACHED = "not reached"
HELD = "–"
PAGE = Path(__file__).parents[1] / "docs" / "kill_matrix.md"


@dataclass(frozen=True)
class Cell:
    """One death: where, the how manieth time that point is reached, and while what was delivered."""

    point: str
    occurrence: int
    what: str = FIRST


@dataclass(frozen=True)
class _Scene:
    """A day just before it is delivered: the warehouse's file, and what the server holds already."""

    warehouse: Path
    written: Sequence[Written]


CELLS = (
    *(Cell(point, nth) for point, times in POINTS.items() for nth in times),
    *(Cell(point, nth, AGAIN) for point, times in POINTS.items() for nth in times[:2] if nth < 3),
)


class Matrix:
    """One way of delivering, dying in every cell. Forks, so it belongs into a process without threads.

    Args:
        way: The way of delivering.
        server: The FHIR server.
        folder: An empty folder.
    """

    def __init__(self, way: Way, server: FhirServer, folder: Path) -> None:
        # It says that it heeds conditions (the capabilities do), and does not.
        self._way = replace(way, abilities=replace(way.abilities, conditional_create=False, says_so=False))
        self._server = server
        self._folder = folder
        self._cells = 0
        self._scenes: dict[str, _Scene] = {}

    def run(self, cell: Cell) -> str:
        """What came of it: one of the texts above, or what is wrong."""
        if cell.what == AGAIN and self._way.capabilities.get("amendment") == "hold":
            return HELD
        scene = self._scene(cell.what)
        endpoint = self._endpoint(scene.written)
        settings = self._settings(scene.warehouse)
        ehr = ehr_settings(self._folder, endpoint.base_url, self._way, connections=1)

        died = join(fork(lambda: deliver(settings, ehr, bomb(cell.point, cell.occurrence))))
        endpoint.wait_until_done()
        in_doubt = _notes(settings, "sent")
        settled = join(fork(lambda: settle(settings, ehr)))

        if died == 0:
            return NOT_REACHED
        if (died, settled) != (DIED, 0):
            return f"FAILED: ended with {died} and {settled}"
        return self._verdict(cell, endpoint, settings, in_doubt)

    def _verdict(self, cell: Cell, endpoint: Endpoint, settings: Settings, in_doubt: set[str]) -> str:
        waiting = _notes(settings, "unknown")
        if self._way.can_tell and waiting:
            return f"FAILED: {len(waiting)} are still unknown"
        # One connection: one note at a time is on its way to a server that nobody can ask.
        if not self._way.can_tell and not (waiting <= in_doubt and len(in_doubt) <= 1):
            return f"FAILED: {len(in_doubt)} were on their way, {len(waiting)} are unknown"
        version = 2 if cell.what == AGAIN else 1
        wanted = [Wanted(number, version) for number in range(NOTES) if str(the_note(number).note_id) not in waiting]
        judgement = judge(endpoint.written(), wanted)
        if not judgement.fine or judgement.again:
            return f"FAILED: {judgement}"
        return WAITS if waiting else COMPLETE

    def _scene(self, what: str) -> _Scene:
        if what not in self._scenes:
            self._scenes[what] = self._set_up(again=what == AGAIN)
        return self._scenes[what]

    def _set_up(self, *, again: bool) -> _Scene:
        settings = self._settings(None)
        endpoint = self._endpoint(())
        ehr = ehr_settings(self._folder, endpoint.base_url, self._way)

        # In this very process, so that everything is imported before it forks.
        with Warehouse.open(settings) as warehouse:
            write(warehouse, settings, map(the_note, range(NOTES)))
            if again:
                deliver(settings, ehr)
                write(warehouse, settings, [the_note(number, 2) for number in range(NOTES)], seq=2)
        return _Scene(_file(settings), endpoint.written())

    def _settings(self, warehouse: Path | None) -> Settings:
        self._cells += 1
        home = self._folder / f"home-{self._cells}"
        home.mkdir()
        settings = Settings(home=home, warehouse_url=f"sqlite:///{home / 'warehouse.sqlite'}")
        if warehouse is not None:
            shutil.copy(warehouse, _file(settings))
        return settings

    def _endpoint(self, written: Sequence[Written]) -> Endpoint:
        return self._server.endpoint(self._way.abilities, seed=[each.resource for each in written])


def _file(settings: Settings) -> Path:
    return settings.home / "warehouse.sqlite"


def _notes(settings: Settings, state: str) -> set[str]:
    """Notes with a delivery in that state; asked without the package, so that no connection is open at a fork."""
    with closing(sqlite3.connect(_file(settings))) as connection:
        return {row[0] for row in connection.execute("SELECT note_id FROM deliveries WHERE state = ?", (state,))}


def column(name: str) -> list[str]:
    """All cells of one way of delivering."""
    with tempfile.TemporaryDirectory(prefix="medscribe-kill-") as folder:
        root = Path(folder)
        with FhirServer(root / "ledger.sqlite") as server:
            matrix = Matrix(WAYS[name], server, root)
            gc.freeze()  # What is imported stays; a fork that looked through it would only copy its memory.
            return [matrix.run(cell) for cell in CELLS]


def render(columns: Mapping[str, Sequence[str]]) -> str:
    """The table in Markdown."""
    lines = [
        f"| dies while delivering | at | the time | {' | '.join(columns)} |",
        f"| --- | --- | --- |{' --- |' * len(columns)}",
    ]
    for index, cell in enumerate(CELLS):
        found = " | ".join(cells[index] for cells in columns.values())
        lines.append(f"| {cell.what} | `{cell.point}` | {_ordinal(cell.occurrence)} | {found} |")
    return "\n".join(lines)


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def page(table: str) -> str:
    """The page of the documentation."""
    head = PAGE.read_text(encoding="utf-8").partition("| dies while")[0]
    return f"{head}{table}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 1 if a cell failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_matrix", description="Print the table.")
    parser.add_argument("--write", action="store_true", help="write it into the documentation, too")
    parser.add_argument("--way", choices=list(WAYS), help="one column only, a cell a line")
    asked = parser.parse_args(arguments)
    for name in [name for name in os.environ if name.startswith("MEDSCRIBE_")]:
        del os.environ[name]
    columns = {name: column(name) for name in ([asked.way] if asked.way else WAYS)}
    table = render(columns)
    sys.stdout.write("".join(f"{each}\n" for each in columns[asked.way]) if asked.way else f"{table}\n")
    if asked.write and not asked.way:
        PAGE.write_text(page(table), encoding="utf-8")
    return int(any(each.startswith("FAILED") for cells in columns.values() for each in cells))


if __name__ == "__main__":
    sys.exit(main())
