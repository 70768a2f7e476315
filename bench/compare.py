"""Measures everything, in rounds in which all take turns: `python -m bench.compare`, which is what `make bench` runs.

    python -m bench.compare [--rounds 5] [--large-rounds 1] [--sizes 10000] [--sessions small] [--only REGEX]
                            [--install] [--publish]

Every contestant is a process of its own, begins at a copy of the same prepared place, and asks servers that are
processes of their own. Writes `bench/results/<time>.jsonl` as it goes, then the table and the plot of what it found.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import httpx

from bench.cases import DELAY_MS, DELIVERED, Case, Contestant, World, fixed_cases, sized_cases, start_cases
from bench.places import Engine, Places
from bench.postgres import SETTINGS, postgres
from bench.processes import Failed, adopt_orphans, measure, server
from bench.report import publish, show
from bench.results import Results, Row, line_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LARGE = 10_000
"""Sizes beyond it have rounds of their own number: one of 100 000 notes takes longer than all five of 10 000."""

FOLDER = Path(__file__).parent / "results"
VERSIONS = ("medscribe-pipeline", "dlt", "dagster", "sqlalchemy", "psycopg", "duckdb", "fhir.resources", "pydantic")


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that ask the same servers."""

    world: World
    cases: Sequence[Case]


def take_turns(groups: Sequence[Group], places: Places, rounds: int, large_rounds: int) -> Iterator[Row]:
    """Measures every contestant once in each round; who begins a case is another one each time."""
    for number in range(max(rounds, large_rounds)):
        for group in groups:
            if number >= (large_rounds if group.world.notes > LARGE else rounds):
                continue
            for case in group.cases:
                first = number % len(case.contestants)
                for contestant in (*case.contestants[first:], *case.contestants[:first]):
                    sys.stderr.write(
                        f"round {number + 1}: {group.world.notes} {case.name} ({case.engine}) {contestant.name}\n"
                    )
                    yield _turn(places, group.world, case, contestant, number)


def _turn(places: Places, world: World, case: Case, contestant: Contestant, number: int) -> Row:
    content = repr((world.notes, contestant.begins_with, sorted(contestant.settings.items())))
    with places.copy(content, case.engine, lambda place: contestant.prepare(world, place)) as place:
        _requests(world)
        rows, cpu_s = places.rows_written(place), places.server_cpu_s()
        cost = measure(contestant.arguments(contestant.command, world, place), contestant.environment(world, place))
        for name, times in contestant.expects.items():
            if cost.said.get(name, 0) != times * world.notes:
                raise Failed(
                    f"{case.name}, {contestant.name}: {name} is not {times} for each note, it says {cost.said}"
                )
        written = places.rows_written(place)
        return Row(
            case=case.name,
            engine=case.engine,
            notes=world.notes,
            contestant=contestant.name,
            peer=contestant.peer,
            bare=contestant.bare,
            round=number,
            wall_s=cost.wall_s,
            cpu_s=cost.cpu_s,
            server_cpu_s=places.server_cpu_s() - cpu_s if case.engine == "postgres" else None,
            peak_mb=cost.peak_mb,
            largest_mb=cost.largest_mb,
            requests=_requests(world),
            rows_written=written - rows if written is not None and rows is not None else None,
            said=cost.said,
        )


def _requests(world: World) -> int:
    """Pages asked for since this was asked last."""
    return int(httpx.get(f"{world.provider}/requests").text) if world.provider else 0


@contextmanager
def open_groups(sizes: Sequence[int], sessions: str, only: str, *, install: bool) -> Iterator[list[Group]]:
    """All cases, with the servers they ask."""
    with ExitStack() as stack:
        fhir = stack.enter_context(server("bench.answering", str(DELAY_MS / 1000)))
        wanted: list[tuple[int, list[Case]]] = [(0, start_cases(install=install)), (DELIVERED, fixed_cases())]
        wanted += [(size, [case for engine in get_args(Engine) for case in sized_cases(engine)]) for size in sizes]
        groups = []
        for notes, cases in wanted:
            chosen = [case for case in cases if re.search(only, f"{case.name} ({case.engine})")]
            provider = stack.enter_context(server("bench.provider", str(notes), sessions)) if chosen and notes else ""
            groups.append(Group(World(notes, provider, fhir), chosen))
        yield groups


def machine(sessions: str) -> dict[str, Any]:
    """What all of this ran on, and when."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu[1] if cpu else platform.machine(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sessions": sessions,
        "postgres": SETTINGS,
        "versions": versions,
    }


def main() -> None:
    """Measures, writes, prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median is taken")
    parser.add_argument("--large-rounds", type=int, default=1, help=f"the same for sizes beyond {LARGE}")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000], help="numbers of notes")
    parser.add_argument("--sessions", choices=("small", "full"), default="small", help="2.9 KB or 25 KB each")
    parser.add_argument("--only", default="", help="only cases whose name matches this regular expression")
    parser.add_argument("--install", action="store_true", help="also a fresh install, which needs the network")
    parser.add_argument("--publish", action="store_true", help="put table and plot into bench/README.md")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where results go")
    asked = parser.parse_args()
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that servers and folders go, whoever ends this.
    asked.folder.mkdir(parents=True, exist_ok=True)
    file = asked.folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl"
    results = Results(machine(asked.sessions))
    with (
        tempfile.TemporaryDirectory(prefix="medscribe-bench-") as folder,
        postgres() as database,
        open_groups(asked.sizes, asked.sessions, asked.only, install=asked.install) as groups,
        file.open("wb", buffering=0) as out,
    ):
        results.machine["versions"]["PostgreSQL"] = database.version()
        out.write(line_of(results.machine))
        for row in take_turns(groups, Places(Path(folder), database), max(asked.rounds, 1), max(asked.large_rounds, 1)):
            results.add(row)
            out.write(line_of(row))
    sys.stdout.write(show(results, file))
    if asked.publish:
        publish(results)


if __name__ == "__main__":
    main()
