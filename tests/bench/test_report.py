"""Figures of rounds become medians, ratios, tables, a plot; nothing is reached that was not measured."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from bench import report
from bench.cases import LOAD, MEDSCRIBE, PEER, PLAIN, WHOLE
from bench.plot import plot
from bench.results import Results, Row, line_of
from bench.targets import TARGETS

if TYPE_CHECKING:
    from pathlib import Path

MACHINE: dict[str, Any] = {
    "date": "2025-03-04",
    "cores": 2,
    "cpu": "Synthetic",
    "memory_gb": 1,
    "system": "Linux",
    "python": "3.11",
    "sessions": "small",
    "versions": {"dlt": "1"},
}


def _row(case: str, contestant: str, number: int, wall_s: float, **changes: Any) -> Row:
    facts: dict[str, Any] = {
        "engine": "postgres",
        "notes": 1000,
        "peer": LOAD if contestant != PEER else None,
        "bare": PLAIN if contestant == MEDSCRIBE else None,
        "cpu_s": wall_s,
        "server_cpu_s": 0.1,
        "peak_mb": 100.0,
        "largest_mb": 90.0,
        "requests": 11,
        "rows_written": 0,
        "said": {},
        **changes,
    }
    return Row(case=case, contestant=contestant, round=number, wall_s=wall_s, **facts)


@pytest.fixture
def results() -> Results:
    # A machine that was busy in the second round, for everybody.
    walls = {(WHOLE, MEDSCRIBE): (1.0, 10.0, 1.1), (LOAD, PEER): (2.0, 20.0, 3.3), (WHOLE, PLAIN): (0.5, 5.0, 0.5)}
    rows = [_row(*key, number, wall) for key, each in walls.items() for number, wall in enumerate(each)]
    return Results(MACHINE, rows)


def test_a_ratio_is_of_one_round(results: Results) -> None:
    ours, dlt = (WHOLE, "postgres", 1000, MEDSCRIBE), (LOAD, "postgres", 1000, PEER)

    assert results.median(ours, "wall_s") == 1.1
    assert results.speed_against(ours, dlt) == 2.0
    assert results.speed_against(ours, (LOAD, "sqlite", 1000, PEER)) is None


def test_rows_are_read_as_they_were_written(results: Results, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [row for key in results.keys for row in results.rows(key)]

    file.write_bytes(b"".join([line_of(MACHINE), *map(line_of, rows)]))

    read = Results.read(file)
    assert read.machine == MACHINE
    assert [row for key in read.keys for row in read.rows(key)] == rows


def test_a_target_is_missed_met_or_not_measured(results: Results) -> None:
    verdicts = {target.what: target.verdict(results) for target in TARGETS}

    assert verdicts["PostgreSQL, all to FHIR, 1 process: speed, in that of dlt"] == ("2.00", "**missed**")
    assert verdicts["PostgreSQL, all to FHIR, 1 process: peak memory, in that of dlt"] == ("1.00", "**missed**")
    assert verdicts["Peak memory at the largest size, 1 process"] == ("100.00 MB", "yes")
    assert verdicts["SQLite, all to FHIR, 1 process: speed, in that of dlt"] == ("", "not measured")


def test_the_tables_say_who_was_how_fast(results: Results, tmp_path: Path) -> None:
    told = report.show(results, tmp_path / "rows.jsonl")

    assert "| all to FHIR, PostgreSQL | 1 000 | 3 | medscribe | 909 | 1.100 + 0.100 | 100 | 2.00 | 0.50 |" in told
    assert (tmp_path / "rows.svg").exists()


def test_the_plot_has_a_bar_for_each(results: Results) -> None:
    picture = ET.fromstring(plot(results))  # noqa: S314 - our own

    bars = [each for each in picture if each.tag.endswith("rect")][1:]
    lengths = [int(each.attrib["width"]) for each in bars]
    assert len(bars) == 3
    assert lengths.index(max(lengths)) == 1  # the bare script stands between dlt, first, and medscribe


def test_publishing_replaces_the_last_results_only(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    monkeypatch.setattr(report, "README", readme)
    monkeypatch.setattr(report, "PLOT", tmp_path / "results.svg")

    for _ in range(2):
        report.publish(results)

    text = readme.read_text()
    assert (text[:7], text[-7:]) == ("before\n", "\nafter\n")
    assert "old" not in text
    assert text.count("all to FHIR, PostgreSQL") == 2
    assert (tmp_path / "results.svg").exists()


def test_what_several_runs_left_is_published_as_one(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text(f"{report.BEGIN}{report.END}")
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    monkeypatch.setattr(report, "PLOT", tmp_path / "results.svg")
    large = replace(results.rows((WHOLE, "postgres", 1000, MEDSCRIBE))[0], notes=100_000)
    rows = [row for key in results.keys for row in results.rows(key)]
    for name, each in (("small", rows), ("large", [large])):
        (tmp_path / name).write_bytes(b"".join([line_of(MACHINE), *map(line_of, each)]))

    report.main([str(tmp_path / "small"), str(tmp_path / "large")])

    told = (tmp_path / "README.md").read_text()
    assert "| all to FHIR, PostgreSQL | 1 000 | 3 | medscribe |" in told
    assert "| all to FHIR, PostgreSQL | 100 000 | 1 | medscribe |" in told


def test_the_readme_has_a_place_for_results() -> None:
    assert re.search(f"{report.BEGIN}.*{report.END}", report.README.read_text(encoding="utf-8"), re.DOTALL)


def test_all_of_it_runs(tmp_path: Path) -> None:
    few = ["--rounds", "1", "--sizes", "10", "--only", "^start-up", "--folder", str(tmp_path)]

    ran = subprocess.run(
        [sys.executable, "-m", "bench.compare", *few], capture_output=True, text=True, timeout=110, check=False
    )

    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^\| start-up \| medscribe --help \| 1 \| \d+\.\d\d \|", ran.stdout, re.MULTILINE)
    assert [file.suffix for file in sorted(tmp_path.iterdir())] == [".jsonl", ".svg"]
