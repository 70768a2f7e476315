"""Tables of results, and their place in `bench/README.md`.

`python -m bench.report FILE ...` puts there what runs on one machine have left in these files: one may have measured
the small sizes, another the large ones.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.cases import AGAIN, PEER
from bench.plot import plot
from bench.results import Results
from bench.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.results import Key

__all__ = ["publish", "show"]

README = Path(__file__).with_name("README.md")
PLOT = Path(__file__).with_name("results.svg")
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
COSTS = ("notes/s", "CPU ms/note", "peak MB")
DATABASES = {"postgres": "PostgreSQL", "sqlite": "SQLite"}


def show(results: Results, file: Path) -> str:
    """All tables, and where the rows and the plot are. Writes the plot."""
    picture = file.with_suffix(".svg")
    picture.write_text(plot(results), encoding="utf-8")
    return f"{_tables(results)}\nRows: {file}\nPlot: {picture}\n"


def publish(results: Results) -> None:
    """Puts the tables and the plot into the README, in the place of those of the last run."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    told = f"{BEGIN}\n\n{_tables(results)}\n![Notes a second from the page to FHIR]({PLOT.name})\n\n{END}"
    README.write_text(before + told + after, encoding="utf-8")
    PLOT.write_text(plot(results), encoding="utf-8")


def _tables(results: Results) -> str:
    machine = results.machine
    on = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    measured = (
        f"Measured on {machine['date']}: {machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}; {on}. {machine['sessions'].capitalize()} sessions. "
        "Medians of as many rounds as the tables say."
    )
    parts = [
        measured,
        _table(
            ("case", "notes", "rounds", "contestant", *COSTS, "speed / dlt", "speed / bare script"),
            [_sized(results, key) for key in results.keys if key[2]],
        ),
        _table(
            ("nothing changed", "notes", "contestant", "requests", "rows written"),
            [_unchanged(results, key) for key in results.keys if key[0] == AGAIN],
        ),
        _table(
            ("before any note", "", "rounds", "seconds", "CPU s", "peak MB"),
            [_start(results, key) for key in results.keys if not key[2]],
        ),
        _table(("target", "wanted", "measured", "reached"), _targets(results)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines]) if lines else ""


def _sized(results: Results, key: Key) -> list[str]:
    case, engine, notes, contestant = key
    wall_s, cpu_s, peak_mb = (results.median(key, figure) or 0.0 for figure in ("wall_s", "cpu_s", "peak_mb"))
    servers = [row.server_cpu_s for row in results.rows(key) if row.server_cpu_s is not None]
    per_note = f"{cpu_s * 1000 / notes:.3f}" + (f" + {median(servers) * 1000 / notes:.3f}" if servers else "")
    return [
        f"{case}, {_database(engine, contestant)}",
        f"{notes:,}".replace(",", " "),
        str(len(results.rows(key))),
        contestant,
        f"{notes / wall_s:.0f}",
        per_note,
        f"{peak_mb:.0f}",
        _speed(results, key, results.peer_of(key)),
        _speed(results, key, results.bare_of(key)),
    ]


def _database(engine: str, contestant: str) -> str:
    return "DuckDB" if (engine, contestant) == ("sqlite", PEER) else DATABASES[engine]


def _speed(results: Results, key: Key, other: Key | None) -> str:
    found = results.speed_against(key, other) if other else None
    return "" if found is None else f"{found:.2f}"


def _unchanged(results: Results, key: Key) -> list[str]:
    case, engine, notes, contestant = key
    rows = results.rows(key)
    written = [row.rows_written for row in rows if row.rows_written is not None]
    told = f"{median(written):.0f}" if written else "not counted"
    requests = f"{median(row.requests for row in rows):.0f}"
    return [f"{case}, {_database(engine, contestant)}", str(notes), contestant, requests, told]


def _start(results: Results, key: Key) -> list[str]:
    figures = [results.median(key, figure) or 0.0 for figure in ("wall_s", "cpu_s", "peak_mb")]
    return [key[0], key[3], str(len(results.rows(key))), f"{figures[0]:.2f}", f"{figures[1]:.2f}", f"{figures[2]:.0f}"]


def _targets(results: Results) -> list[list[str]]:
    return [[target.what, target.bound, *target.verdict(results)] for target in TARGETS]


def main(files: Sequence[str]) -> None:
    """Publishes the rows of several files as one."""
    first, *others = [Results.read(Path(file)) for file in files]
    for other in others:
        for key in other.keys:
            for row in other.rows(key):
                first.add(row)
    publish(first)


if __name__ == "__main__":
    main(sys.argv[1:])
