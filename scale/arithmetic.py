"""The arithmetic of `docs/scaling.md`: what so many notes a day need, from what one note was measured to cost.

`python -m scale.arithmetic` reads the measured figures off the page and writes the computed table into it again; with
`--check` it only says whether the page is as it should be. Nothing here measures anything.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from docs.markdown import table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["PAGE", "PLACES", "Assumed", "Measured", "computed", "main", "measured", "with_computed"]

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
BEGIN, END = "<!-- computed: begin -->", "<!-- computed: end -->"

PLACES = {"practice": 200, "hospital": 3_000, "group": 20_000, "region": 150_000, "country": 1_000_000}
"""Notes a day."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured: the first column of the table on the page.

    Attributes:
        build_ms: CPU of a note from the provider's list to its stored documents.
        deliver_ms: CPU of a note on its way to the EHR, one note a request.
        deliver_batched_ms: The same, 50 notes a request.
        database_ms: CPU of PostgreSQL for a note, all stages.
        run_s: What a run of one day takes beside its notes.
        warehouse_kb: A note in the warehouse, indexes included.
        run_kb: A run in Dagster's database.
    """

    build_ms: float
    deliver_ms: float
    deliver_batched_ms: float
    database_ms: float
    run_s: float
    warehouse_kb: float
    run_kb: float


@dataclass(frozen=True, slots=True)
class Assumed:
    """What is assumed of the world outside; nobody measured it.

    Attributes:
        busiest_hour: Share of a day's notes that come in its busiest hour.
        load: How busy a core may be on average, so that a run does not wait for it.
        ehr_s: How long an EHR takes for a note.
        ehr_batch_s: How long for 50.
        batch: Notes a request, batched.
        asks: Requests to the provider for a note, where it is asked for each record.
        syncs: Pulls a day: `MEDSCRIBE_SCHEDULE` as it comes, every quarter of an hour.
        days_touched: Visit days that changed between two of them.
        weekend_h: Hours in which a backfill of a year is to be done.
    """

    busiest_hour: float = 0.15
    load: float = 0.6
    ehr_s: float = 0.2
    ehr_batch_s: float = 1.0
    batch: int = 50
    asks: int = 2
    syncs: int = 96
    days_touched: int = 3
    weekend_h: int = 48


def measured(page: str) -> Measured:
    """Reads the measured figures off the page.

    Raises:
        ValueError: One is not there, or is no number.
    """
    found = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", page, re.MULTILINE))
    missing = [each.name for each in fields(Measured) if each.name not in found]
    if missing:
        raise ValueError(f"The table of measured figures has no row for: {', '.join(missing)}")
    return Measured(**{each.name: float(found[each.name]) for each in fields(Measured)})


def computed(cost: Measured, world: Assumed | None = None) -> str:
    """The computed table: a column for each of `PLACES`."""
    to = world or Assumed()
    note_s = (cost.build_ms + cost.deliver_ms) / 1000
    batched_s = (cost.build_ms + cost.deliver_batched_ms) / 1000

    def peak(notes: int) -> float:
        return notes * to.busiest_hour / 3600

    def runs(_notes: int) -> int:
        return to.syncs * (1 + to.days_touched)

    def year_h(notes: int) -> float:
        return 365 * (notes * note_s + cost.run_s) / 3600

    rows: dict[str, Callable[[int], float]] = {
        "notes a second in the busiest hour: notes x 0.15 / 3600": peak,
        "cores for runs: that x (`build_ms` + `deliver_ms`) / 0.6": lambda n: peak(n) * note_s / to.load,
        "the same, 50 notes a request": lambda n: peak(n) * batched_s / to.load,
        "cores for PostgreSQL: that x `database_ms` / 0.6": lambda n: peak(n) * cost.database_ms / 1000 / to.load,
        "connections to the EHR: that x 0.2 s": lambda n: peak(n) * to.ehr_s,
        "the same, 50 notes a request: that / 50 x 1 s": lambda n: peak(n) / to.batch * to.ehr_batch_s,
        "requests a minute to the provider: that x 2 x 60": lambda n: peak(n) * to.asks * 60,
        "warehouse, GB a year: notes x 365 x `warehouse_kb`": lambda n: n * 365 * cost.warehouse_kb / 1e6,
        "runs a day of an account: 96 x (1 + 3)": runs,
        "Dagster's database, GB a year: that x 365 x `run_kb`": lambda n: runs(n) * 365 * cost.run_kb / 1e6,
        "a year again, core hours: 365 x (notes x cost of a note + `run_s`) / 3600": year_h,
        "connections to the EHR for that in 48 h": lambda n: n * 365 * to.ehr_s / (to.weekend_h * 3600),
    }
    head = ("", *(f"{name}: {notes:,}".replace(",", " ") for name, notes in PLACES.items()))
    return table(head, [(name, *(_short(figure(notes)) for notes in PLACES.values())) for name, figure in rows.items()])


def with_computed(page: str) -> str:
    """The page with its computed table as it should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{computed(measured(page))}\n\n{END}{after}"


def _short(value: float) -> str:
    """Two figures that count, and no more than that is known."""
    if value >= 10:  # noqa: PLR2004  # two figures
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.2g}" if value >= 0.01 else "< 0.01"  # noqa: PLR2004  # nobody plans for less


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the page, or checks it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scale.arithmetic", description="Compute the table of the page.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    check = parser.parse_args(arguments).check
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_computed(page)
    if check:
        return int(page != wanted)
    PAGE.write_text(wanted, encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} written.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
