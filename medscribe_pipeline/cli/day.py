"""`medscribe day` and `medscribe status`: what a day came to, whether it is complete, and what to do if it is not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medscribe_pipeline.cli.options import Day, Json, local_day

if TYPE_CHECKING:
    from datetime import date

    from medscribe_pipeline.operation.day import DayReport
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["day", "status"]


def day(
    day: Annotated[str, typer.Argument(help="Visit day, as YYYY-MM-DD; or `today`, `yesterday`.")],
    out: Annotated[Path | None, typer.Option(help="HTML file to write, for a browser or a printer.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    ask_providers: Annotated[
        bool, typer.Option("--ask-providers", help="Also ask the providers what they count: one request a stream.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Explain one visit day: how far everything came, what is missing and why, what to do. No patient is named.

    Exit code 0 when the day is complete, 1 when it is not.
    """
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.cli.preview import write_private
    from medscribe_pipeline.operation.day_json import day_json
    from medscribe_pipeline.operation.day_page import day_html
    from medscribe_pipeline.operation.verdict import judge
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    now = datetime.now(UTC)
    wanted = local_day(day, settings, now)
    with Warehouse.open(settings) as warehouse:
        report = _read(warehouse, settings, wanted, now)
        if ask_providers:
            from medscribe_pipeline.providers.own_counts import ask_own_counts

            report.asked = list(ask_own_counts(warehouse, settings, report.starts_at, report.ends_at))
    verdict = judge(report)
    if out is not None:
        write_private(out, day_html(report), replace=force)
    if as_json:
        print_json({**day_json(report), **({"out": str(out)} if out else {})})
    else:
        _print_verdict(report)
        if out is None:
            _print_gaps(report)
        else:
            console.print(f"{out} written.", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if verdict.complete else 1)


def status(day: Day = None, as_json: Json = False) -> None:
    """Say whether a day is complete, what is missing and why, and what to do; without a day, how everything stands.

    `--day yesterday` answers for yesterday.
    """
    from medscribe_pipeline.cli.output import console, print_json, status_json, status_tables
    from medscribe_pipeline.operation.day_json import day_json
    from medscribe_pipeline.pipeline import fingerprint
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.reports import read_status
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    now = datetime.now(UTC)
    wanted = local_day(day, settings, now) if day is not None else None
    # While no target is configured, what was delivered to the first before.
    targets = tuple(settings.targets) or (settings.ehr.target,)
    with Warehouse.open(settings) as warehouse:
        found = read_status(warehouse, targets=targets, fingerprint=fingerprint(settings), day=wanted)
        about = wanted or local_day("yesterday", settings, now)
        report = _read(warehouse, settings, about, now)
    if as_json:
        explained = day_json(report)
        told = {name: explained[name] for name in ("day", "verdict", "missing")}
        print_json({**status_json(found), "explained": told})
        return
    for table in status_tables(found):
        console.print(table)
    for cursor in found.cursors:
        mark = cursor.watermark.isoformat(timespec="seconds") if cursor.watermark else "-"
        console.print(f"{cursor.provider} {cursor.stream}: read up to {mark}", highlight=False)
    if found.open_events:
        console.print(f"Events that wait in the inbox: {found.open_events}. Run `medscribe sync`.", highlight=False)
    if found.days_due:
        console.print(
            f"{found.days_due} of {found.days} visit days are out of date: run `medscribe sync`.", highlight=False
        )
    if wanted is not None:
        _print_gaps(report)
    _print_verdict(report)


def _read(warehouse: Warehouse, settings: Settings, day: date, now: datetime) -> DayReport:
    from medscribe_pipeline.operation.day import read_day
    from medscribe_pipeline.pipeline import fingerprint

    return read_day(warehouse, settings, day, fingerprint=fingerprint(settings), now=now)


def _print_verdict(report: DayReport) -> None:
    from rich.text import Text

    from medscribe_pipeline.cli.output import console
    from medscribe_pipeline.operation.verdict import judge

    verdict = judge(report)
    style = "bold green" if verdict.complete else "bold red" if verdict.needs_person else "bold yellow"
    console.print(Text(verdict.sentence, style=style))


def _print_gaps(report: DayReport) -> None:
    """A few lines for each: they fit any terminal, and stay readable in a mail or a ticket."""
    from rich.padding import Padding
    from rich.text import Text

    from medscribe_pipeline.cli.output import console
    from medscribe_pipeline.operation.reasons import Act
    from medscribe_pipeline.operation.verdict import commands_for, thing, together

    for each in together(report.open_gaps(), report.targets):
        gap, told = each.gap, each.gap.explained
        who = "you:" if gap.act is Act.PERSON else "waits:"
        console.print(Text(f"{gap.count} {thing(gap)} ({', '.join(each.where)}): {told.says}"))
        console.print(Padding(Text(f"{who} {told.to_do}"), (0, 0, 0, 4), expand=False))
        for command in commands_for(gap, report.day):
            console.print(Text(f"    {command}", style="dim"), soft_wrap=True)
