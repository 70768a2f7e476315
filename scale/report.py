"""What the demo prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    rows = [
        (
            name, each.recorded, each.notes, each.documents, each.delivered, each.open, each.held, each.twice,
            each.missing, "exact" if each.exact else "NOT EXACT",
        )
        for name, each in zip(("that backfill", "all backfills"), findings.counted, strict=True)
    ]  # fmt: skip
    head = (
        "after", "notes at the provider", "in the warehouse", "documents", "delivered", "not delivered",
        "documents on the EHR", "too many", "missing", "",
    )  # fmt: skip
    return _table(head, rows)


def _speed(findings: Findings, plan: Plan) -> str:
    slowest = next((each for each in findings.backfills[1:] if each.workers == min(plan.workers)), None)
    rows = []
    for each in findings.backfills:
        notes = each.days * plan.notes
        name = f"{each.workers}, one killed" if each.killed else str(each.workers)
        ratio = f"{notes / each.seconds / _speed_of(slowest, plan):.2f}" if slowest else "-"
        rows.append(
            (name, each.days, notes, f"{each.seconds:.1f}", f"{notes / each.seconds:.1f}", ratio, _of_a_run(each))
        )
    return _table(("workers", "days", "notes", "seconds", "notes a second", "ratio", "seconds of a run"), rows)


def _costs(findings: Findings, plan: Plan) -> str:
    waits = plan.notes / plan.connections * plan.ehr_delay_ms / 1000
    rows = [
        ("pull of all notes in one run, from asking to its end", f"{findings.pull_s:.1f} s"),
        ("waiting for the EHR in each run: notes / connections x delay", f"{waits:.1f} s"),
        ("a note in the warehouse, indexes included", f"{findings.warehouse_kb:.1f} KB"),
        ("a run in Dagster's database", f"{findings.dagster_kb:.0f} KB"),
    ]
    return _table(("what", "cost"), rows)


def _speed_of(taken: Taken, plan: Plan) -> float:
    return taken.days * plan.notes / taken.seconds


def _of_a_run(taken: Taken) -> str:
    """Mean of the runs that came to their end."""
    took = [run.end - run.start for run in taken.runs if run.status == "SUCCESS" and run.end and run.start]
    return f"{sum(took) / len(took):.1f}" if took else "-"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def lines() -> Iterator[str]:
        yield f"| {' | '.join(head)} |"
        yield f"|{' --- |' * len(head)}"
        for row in rows:
            yield f"| {' | '.join(map(str, row))} |"

    return "\n".join(lines())
