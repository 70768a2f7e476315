"""A day as plain JSON values, and as Markdown for the UI: the same counts and codes as its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.operation.delays import STEPS
from medscribe_pipeline.operation.flow import flow_of
from medscribe_pipeline.operation.reasons import look, shown_code
from medscribe_pipeline.operation.verdict import judge, thing

if TYPE_CHECKING:
    from medscribe_pipeline.operation.day import DayReport, Gap

__all__ = ["day_json", "flow_markdown"]


def day_json(report: DayReport) -> dict[str, Any]:
    """All of a day's report; times are ISO 8601 in UTC, durations seconds."""
    verdict = judge(report)
    return {
        "account": report.account,
        "day": report.day.isoformat(),
        "timezone": report.timezone,
        "starts_at": report.starts_at,
        "ends_at": report.ends_at,
        "read_at": report.read_at,
        "verdict": {
            "complete": verdict.complete,
            "over": report.is_over,
            "needs_person": verdict.needs_person,
            "sentence": verdict.sentence,
            "commands": list(verdict.commands),
        },
        "missing": [_gap(gap, report) for gap in report.open_gaps()],
        "accounted_for": [_gap(gap, report) for gap in report.gaps if gap.act == "nothing"],
        "providers": {
            name: {
                "landed": each.landed,
                "records": dict(each.records),
                "notes": dict(each.notes),
                "documents": dict(each.documents),
                "deliveries": {target: dict(states) for target, states in each.deliveries.items()},
                "jobs": dict(each.jobs),
            }
            for name, each in sorted(report.providers.items())
        },
        "streams": [
            {
                "provider": each.provider,
                "stream": each.stream,
                "past_the_day": each.is_past,
                "complete_until": each.complete_until,
                "watermark": each.watermark,
            }
            for each in report.streams
        ],
        "own_counts": [{name: getattr(each, name) for name in each.__dataclass_fields__} for each in report.asked],
        "delays": [
            {
                "name": each.name,
                "count": each.count,
                "backwards": each.backwards,
                "median_s": each.median,
                "p90_s": each.p90,
                "longest_s": each.longest,
                "histogram": dict(zip((name for name, _ in STEPS), each.histogram, strict=True)),
            }
            for each in report.delays
        ],
        "coverage": [
            {
                "provider": row.provider,
                "key": row.key,
                "treatment": row.codes.treatment.value,
                "notes": row.notes,
                "sections": row.sections,
            }
            for row in report.coverage.shown()
        ],
    }


def flow_markdown(report: DayReport) -> str:
    """The flow towards each target as a table in Markdown."""
    rows = ["| target | provider | from | to | count |", "|---|---|---|---|--:|"]
    for target in report.targets or (None,):
        rows += [
            f"| {target or '-'} | {band.provider} | {band.source.label} | {band.target.label} | {band.count} |"
            for band in flow_of(report, target).bands
        ]
    return "\n".join(rows)


def _gap(gap: Gap, report: DayReport) -> dict[str, Any]:
    told = gap.explained
    return {
        "what": gap.kind.value,
        "code": shown_code(gap.code) if gap.code else None,
        "provider": gap.provider or None,
        "target": gap.target,
        "count": gap.count,
        "act": told.act.value,
        "thing": thing(gap),
        "says": told.says,
        "to_do": told.to_do,
        "which": look(gap.kind, gap.code, report.day) or None,
        "command": told.command or None,
    }
