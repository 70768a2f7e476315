"""`medscribe cursors`: how far each stream was read, and putting a cursor elsewhere by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medscribe_pipeline.cli.options import Json

if TYPE_CHECKING:
    from medscribe_pipeline.operation.cursors import Moved

__all__ = ["cursors_app"]

cursors_app = typer.Typer(help="How far each stream of each provider was read.", no_args_is_help=True)

Provider = Annotated[str, typer.Argument(help="Name of the provider.")]
Cursor = Annotated[str, typer.Argument(help="Name of the cursor, as `cursors show` lists it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what it would mean.")]


@cursors_app.command()
def show(as_json: Json = False) -> None:
    """Show each cursor, and until when its stream was read to the end."""
    from rich import box
    from rich.table import Table

    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.operation.cursors import listed_cursors
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    with Warehouse.open(settings) as warehouse:
        rows = listed_cursors(warehouse, settings)
    if as_json:
        print_json({"cursors": [{name: getattr(row, name) for name in row.__dataclass_fields__} for row in rows]})
        return
    if not rows:
        console.print("No stream was ever read, and no provider that has streams is configured.", highlight=False)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("provider", "cursor", "stands at", "stream complete until"):
        table.add_column(column)
    for row in rows:
        stands = _time(row.watermark) if row.watermark else "a record" if row.has_signpost else "-"
        table.add_row(row.provider, row.stream, stands, _time(row.complete_until))
    console.print(table)


@cursors_app.command("set")
def set_cursor(
    provider: Provider,
    cursor: Cursor,
    to: Annotated[str, typer.Argument(help="ISO 8601 time; without an offset local to MEDSCRIBE_TIMEZONE.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Put a cursor to a time: the next sync reads again what changed since. Nothing that has landed is lost."""
    _put(provider, cursor, to, dry_run=dry_run, as_json=as_json)


@cursors_app.command()
def reset(provider: Provider, cursor: Cursor, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Put a cursor before everything: the next sync reads all of it again. Nothing that has landed is lost."""
    _put(provider, cursor, None, dry_run=dry_run, as_json=as_json)


def _put(provider: str, cursor: str, to: str | None, *, dry_run: bool, as_json: bool) -> None:
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.errors import ConfigError
    from medscribe_pipeline.operation.cursors import put_cursor
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.audit import current_user
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    moment = None
    if to is not None:
        try:
            moment = datetime.fromisoformat(to)
        except ValueError:
            raise ConfigError(
                "Not an ISO 8601 time such as 2026-11-19 or 2026-11-19T08:00+01:00", code="cursor_time"
            ) from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=settings.zone)
    with Warehouse.open(settings) as warehouse:
        who, now = current_user(), datetime.now(UTC)
        moved = put_cursor(warehouse, settings, provider, cursor, moment, who=who, now=now, dry_run=dry_run)
    if as_json:
        print_json({**_json(moved), "dry_run": dry_run})
        return
    verb = "would stand" if dry_run else "stands"
    after = f"at {_time(moved.after)}" if moved.after else "before everything"
    console.print(f"{provider} {cursor} stood at {_time(moved.before)} and {verb} {after}.", highlight=False)
    since = f"what changed since {_time(moved.reads_from)}" if moved.reads_from else "everything"
    console.print(
        f"The next sync reads {since} again: at least {moved.known} of {moved.of} records that have landed. "
        "What is unchanged costs a comparison.",
        highlight=False,
    )
    if moved.skips:
        console.print(
            "Mind: what changed before that and was never read stays unread until the cursor is put back.",
            style="bold yellow",
        )


def _json(moved: Moved) -> dict[str, Any]:
    return {**{name: getattr(moved, name) for name in moved.__dataclass_fields__}, "skips": moved.skips}


def _time(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if moment else "-"
