"""`medscribe sweep` and `medscribe prune`: what a provider holds no more, and what we need not hold any more."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medscribe_pipeline.cli.audit import noted
from medscribe_pipeline.cli.options import Json
from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medscribe_pipeline.providers.sweep import StreamSweep
    from medscribe_pipeline.settings import Settings

__all__ = ["prune", "sweep"]


def sweep(
    provider: Annotated[list[str] | None, typer.Option(help="Only this provider; may be given several times.")] = None,
    since_day: Annotated[str | None, typer.Option(help="Only visits from this day on, as YYYY-MM-DD.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask and count, and write nothing.")] = False,
    ids: Annotated[
        bool, typer.Option("--ids", help="Also print the provider's ids of what is gone. Noted in the access log.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find records that a provider holds no more; MEDSCRIBE_SWEEP_POLICY says whether their notes are withdrawn."""
    from medscribe_pipeline.cli.output import print_json, progress_shown
    from medscribe_pipeline.providers.sweep import sweep_provider
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    names = _providers(settings, provider or ())
    since = _day(since_day)
    found: dict[str, list[StreamSweep]] = {}
    with Warehouse.open(settings) as warehouse:
        with progress_shown("medscribe sweep"):
            for name in names:
                found[name] = sweep_provider(
                    warehouse, settings, name, clock=_now, since_day=since, dry_run=dry_run, on_progress=_tell
                )
        if ids:
            noted(warehouse, "sweep_ids", *names)
    if as_json:
        print_json(
            {
                "policy": settings.sweep_policy,
                "dry_run": dry_run,
                "providers": {
                    name: [_facts(each, with_ids=ids) for each in streams] for name, streams in found.items()
                },
            }
        )
    else:
        _print(settings, found, with_ids=ids, dry_run=dry_run)
    raise typer.Exit(_exit_code(settings, found))


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove what is older than MEDSCRIBE_HISTORY_DAYS and MEDSCRIBE_PAYLOAD_DAYS."""
    import dataclasses

    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse import retention
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    with Warehouse.open(settings) as warehouse:
        pruned = dataclasses.asdict(retention.prune(warehouse, settings, clock=_now, dry_run=dry_run))
    if as_json:
        print_json({"dry_run": dry_run, "pruned": pruned})
        return
    payloads = pruned["source_records"] + pruned["quarantine"] + pruned["inbox"]
    would = "Would be removed" if dry_run else "Removed"
    console.print(
        f"{would}: {pruned['notes_history']} replaced versions of notes, {payloads} payloads.", highlight=False
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _providers(settings: Settings, wanted: Sequence[str]) -> list[str]:
    """The providers to sweep: those asked for, else all configured ones that can be listed."""
    from medscribe_pipeline.providers.catalogue import PROVIDERS

    for name in wanted:
        if name not in settings.providers:
            raise ConfigError("This provider is not configured", code="unknown_provider")
    names = list(dict.fromkeys(wanted)) or [name for name in settings.providers if PROVIDERS[name].streams]
    if not names:
        raise ConfigError("No configured provider has a list to compare with", code="no_provider")
    return names


def _day(value: str | None) -> date | None:
    try:
        return date.fromisoformat(value) if value is not None else None
    except ValueError:
        raise ConfigError("--since-day is not a date such as 2026-11-19", code="day") from None


def _tell(stream: str, listed: int) -> None:
    import logging

    logging.getLogger("medscribe_pipeline.progress").info("%s: %d listed", stream, listed)


def _facts(each: StreamSweep, *, with_ids: bool) -> dict[str, Any]:
    names = ("stream", "listed", "looked_at", "missing", "there", "waiting", "gone", "retracted", "doubt")
    facts = {name: getattr(each, name) for name in names} | {"unanswered": dict(each.unanswered)}
    return facts | ({"gone_ids": each.gone_ids} if with_ids else {})


def _exit_code(settings: Settings, found: Mapping[str, Sequence[StreamSweep]]) -> int:
    """1 where somebody has to look: a list nobody can believe, or records that are gone and whose notes stay."""
    streams = [each for of_provider in found.values() for each in of_provider]
    left = settings.sweep_policy == "report" and any(each.gone for each in streams)
    return 1 if left or any(each.is_suspicious for each in streams) else 0


def _print(settings: Settings, found: Mapping[str, Sequence[StreamSweep]], *, with_ids: bool, dry_run: bool) -> None:
    from rich.table import Table

    from medscribe_pipeline.cli.output import console
    from medscribe_pipeline.cli.show import plain

    table = Table(title="What providers hold no more", title_justify="left")
    for column in ("stream", "listed", "landed", "missing", "still there", "unanswered", "to be missed again", "gone"):
        table.add_column(column, justify="left" if column == "stream" else "right")
    table.add_column("retracted", justify="right")
    for name, streams in found.items():
        for each in streams:
            counts = (each.listed, each.looked_at, each.missing, each.there, each.unanswered.total())
            row = (*counts, each.waiting, each.gone, each.retracted)
            table.add_row(f"{name} {each.stream}", *(str(count or "·") for count in row))
    console.print(table)
    for name, streams in found.items():
        for each in streams:
            if each.doubt is not None:
                console.print(f"{name} {each.stream}: {DOUBTS[each.doubt]}", highlight=False)
            for source_id in each.gone_ids if with_ids else ():
                console.print(plain(f"{name}:{source_id}"))
    if any(each.gone > each.retracted for streams in found.values() for each in streams):
        console.print(
            "Nothing was written: --dry-run."
            if dry_run
            else "Their notes stay as they are: MEDSCRIBE_SWEEP_POLICY=report. "
            "With `retract` the next sweep withdraws them, and the next sync withdraws them from the EHR.",
            highlight=False,
        )
    elif settings.sweep_policy == "retract" and any(each.retracted for streams in found.values() for each in streams):
        console.print("Their notes are retracted by the next `medscribe sync`, also in the EHR.", highlight=False)


DOUBTS = {
    "empty_list": "the list is empty, and records have landed: nothing was believed. Look at the provider.",
    "too_many_missing": "more is missing than MEDSCRIBE_SWEEP_MAX_SHARE allows: nothing was believed. Look at the "
    "provider; if it is true, raise the share for one run.",
    "not_listed": "this account does not list it (MEDSCRIBE_ASKARA_NOTES_BY), so it was left out.",
}
"""Why a sweep believes nothing, and what to do."""
