"""Where the CPU time of a note goes, stage by stage: `python -m bench.stages [--notes 4000] [--warehouse-url URL]`.

One process pulls, maps and builds as the assets do, from a provider in a process of its own into an empty warehouse
(SQLite in a temporary folder unless told). A few functions carry a stopwatch meanwhile; what is left of a stage is
named "the rest": transactions, counting, asking what is due. The second time over nothing has changed.
"""

from __future__ import annotations

import argparse
import functools
import gc
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

import medscribe_pipeline.fhir.build as documents
import medscribe_pipeline.providers.build as notes
from bench.processes import server
from medscribe_pipeline.cli import GARBAGE_AFTER
from medscribe_pipeline.pipeline import due_days
from medscribe_pipeline.providers.pull import Window
from medscribe_pipeline.providers.sync import sync_stream
from medscribe_pipeline.settings import AudioScribeSettings, Settings
from medscribe_pipeline.warehouse.landing import Landing
from medscribe_pipeline.warehouse.store import Warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["WATCHED", "measure"]

WATCHED: tuple[tuple[str, str, Any, str], ...] = (
    ("pull and land", "look up what is known", Landing, "known"),
    ("pull and land", "land", Landing, "land"),
    ("notes", "read what landed", notes, "read_due"),
    ("notes", "map", notes, "_map"),
    ("notes", "see that it stands", notes, "still_due"),
    ("notes", "write notes", notes, "write_notes"),
    ("documents", "read notes", documents, "read_notes"),
    ("documents", "build", documents, "build_documents"),
    ("documents", "check", documents, "check"),
    ("documents", "see that they stand", documents, "_unchanged"),
    ("documents", "write documents", documents, "_write"),
)
"""Stage, step, and the function that does the step: where it is looked up, and its name there."""

AGAIN = "nothing changed"


def measure(count: int, warehouse_url: str | None = None) -> dict[tuple[str, str], float]:
    """CPU seconds by stage and step; the step of a whole stage is "".

    Args:
        count: How many notes.
        warehouse_url: An empty warehouse; by default a SQLite file that is removed afterwards.
    """
    spent: dict[tuple[str, str], float] = defaultdict(float)
    originals = [(place, name, getattr(place, name)) for _, _, place, name in WATCHED]
    with tempfile.TemporaryDirectory(prefix="medscribe-bench-") as folder, server("bench.provider", str(count)) as url:
        settings = Settings(
            home=Path(folder),
            warehouse_url=warehouse_url,
            processes=1,
            audioscribe=AudioScribeSettings(base_url=url, token=SecretStr("bench")),
        )
        with Warehouse.open(settings) as warehouse:
            try:
                for stage, step, place, name in WATCHED:
                    setattr(place, name, _watched(getattr(place, name), spent, (stage, step)))
                for stage, work in _stages(warehouse, settings):
                    spent[stage, ""] = _seconds(work)
            finally:
                for place, name, original in originals:
                    setattr(place, name, original)
            spent[AGAIN, ""] = _seconds(lambda: _pull(warehouse, settings))
    return dict(spent)


def _stages(warehouse: Warehouse, settings: Settings) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "pull and land", lambda: _pull(warehouse, settings)
    days = [day for day, _ in due_days(warehouse, settings)]
    yield "notes", lambda: [notes.build_notes(warehouse, settings, day, clock=_now) for day in days]
    yield "documents", lambda: [documents.build_day(warehouse, settings, day, clock=_now) for day in days]


def _pull(warehouse: Warehouse, settings: Settings) -> object:
    return sync_stream(warehouse, settings, "audioscribe", "sessions", Window(), clock=_now)


def _now() -> datetime:
    return datetime.now(UTC)


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _watched(
    function: Callable[..., Any], spent: dict[tuple[str, str], float], step: tuple[str, str]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        started = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[step] += time.thread_time() - started

    return run


def _lines(spent: dict[tuple[str, str], float], count: int) -> Iterator[str]:
    yield "| stage | step | CPU, ms a note |"
    yield "|---|---|---|"
    for stage, whole in ((stage, seconds) for (stage, step), seconds in spent.items() if not step):
        yield f"| {stage} | | {whole * 1000 / count:.3f} |"
        if stage == AGAIN:
            continue
        steps = {step: seconds for (of, step), seconds in spent.items() if of == stage and step}
        steps["the rest"] = whole - sum(steps.values())
        yield from (f"| | {step} | {seconds * 1000 / count:.3f} |" for step, seconds in steps.items())


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.stages")
    parser.add_argument("--notes", type=int, default=4000)
    parser.add_argument("--warehouse-url", help="an empty PostgreSQL database; by default a SQLite file")
    asked = parser.parse_args()
    # As the command itself does it.
    gc.set_threshold(GARBAGE_AFTER)
    # Imports, and statements made once in the life of a process, are not what a note costs.
    measure(100)
    count = max(asked.notes, 1)
    sys.stdout.write("\n".join(_lines(measure(count, asked.warehouse_url), count)) + "\n")


if __name__ == "__main__":
    main()
