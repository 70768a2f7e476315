"""What the demo prints."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING

from docs.markdown import table

if TYPE_CHECKING:
    from scale.demo import Findings, Plan, Taken

__all__ = ["report"]


def report(findings: Findings, plan: Plan) -> str:
    """The findings as Markdown: what became of the killed worker's run, what arrived, what more workers brought."""
    return "\n\n".join(
        (_death(findings.backfills[0]), _arrived(findings), _speed(findings, plan), _costs(findings, plan))
    )


def _death(taken: Taken) -> str:
    lost = [run for run in taken.runs if run.status == "FAILURE"]
    again = sum(run.parent is not None for run in taken.runs)
    return (
        f"Of {taken.days} visit days over {taken.workers} workers, {taken.killed} killed on the way: {len(taken.runs)} "
        f"runs, of which {len(lost)} ended with their worker and {again} took their place. Dagster's word for the "
        f"backfill: {taken.status}."
    )


def _arrived(findings: Findings) -> str:
    head = (
        "after", "notes at the provider", "in the warehouse", "documents", "delivered", "not delivered",
        "documents on the EHR", "too many", "missing", "",
    )  # fmt: skip
    rows = []
    for name, each in zip(("that backfill", "all backfills"), findings.counted, strict=True):
        figures = (each.recorded, each.notes, each.documents, each.delivered, each.open, each.held, each.twice)
        rows.append((name, *map(str, figures), str(each.missing), "exact" if each.exact else "NOT EXACT"))
    return table(head, rows)


def _speed(findings: Findings, plan: Plan) -> str:
    fewest = min(findings.backfills[1:], key=lambda each: each.workers)
    rows = []
    for each in findings.backfills:
        speed = _speed_of(each, plan)
        name = f"{each.workers}, one killed" if each.killed else str(each.workers)
        figures = (f"{each.seconds:.1f}", f"{speed:.1f}", f"{speed / _speed_of(fewest, plan):.2f}", _of_a_run(each))
        rows.append((name, str(each.days), str(each.days * plan.notes), *figures))
    return table(("workers", "days", "notes", "seconds", "notes a second", "ratio", "seconds of a run"), rows)


def _costs(findings: Findings, plan: Plan) -> str:
    waits = plan.notes / plan.connections * plan.ehr_delay_ms / 1000
    rows = [
        ("pull of all notes in one run, from asking to its end", f"{findings.pull_s:.1f} s"),
        ("waiting for the EHR in each run: notes / connections x delay", f"{waits:.1f} s"),
        ("a note in the warehouse, indexes included", f"{findings.warehouse_kb:.1f} KB"),
        ("a run in Dagster's database", f"{findings.dagster_kb:.0f} KB"),
    ]
    return table(("what", "cost"), rows)


def _speed_of(taken: Taken, plan: Plan) -> float:
    return taken.days * plan.notes / taken.seconds


def _of_a_run(taken: Taken) -> str:
    """Mean of the runs that came to their end."""
    ended = [run for run in taken.runs if run.status == "SUCCESS"]
    return f"{mean((run.end or 0) - (run.start or 0) for run in ended):.1f}" if ended else "-"
