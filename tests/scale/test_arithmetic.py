"""The page says what its formulas say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scale.arithmetic import PAGE, Measured, computed, measured, with_computed

COST = Measured(
    build_ms=2, deliver_ms=4, deliver_batched_ms=1, database_ms=1, run_s=0, warehouse_kb=10, run_kb=100
)  # fmt: skip


def row(text: str, begins: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {begins}")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page == with_computed(page), "run `python -m scale.arithmetic`"


def test_a_country_is_what_the_formulas_say() -> None:
    text = computed(COST)

    # 1 000 000 x 0.15 / 3600 = 41.7 a second; at 6 ms and cores busy to 60 %: 0.42.
    assert row(text, "notes a second")[-1] == "42"
    assert row(text, "cores for runs")[-1] == "0.42"
    assert row(text, "connections to the EHR: that")[-1] == "8.3"
    assert row(text, "warehouse, GB a year")[-1] == "3 650"
    # 365 000 000 notes x 6 ms / 3600.
    assert row(text, "a year again")[-1] == "608"


def test_what_costs_more_needs_more() -> None:
    text = computed(replace(COST, run_kb=200))

    assert row(text, "Dagster's database")[0] == "28"
    assert row(computed(COST), "Dagster's database")[0] == "14"


def test_a_missing_figure_is_named() -> None:
    page = PAGE.read_text(encoding="utf-8").replace("| `run_s` |", "| run_s |")

    with pytest.raises(ValueError, match="no row for: run_s"):
        measured(page)
