"""`medscribe audit`: who had patients' texts or identifiers shown or removed, and who decided something by hand."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from medscribe_pipeline.cli.options import Json
from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["audit_app", "noted"]

audit_app = typer.Typer(
    help="Who had patients' texts or identifiers shown or removed, and who did what by hand.", no_args_is_help=True
)


@audit_app.callback()
def root() -> None:
    """Who had patients' texts or identifiers shown or removed, and who decided what by hand."""


@audit_app.command("list")
def list_accesses(
    since: Annotated[str | None, typer.Option(help="Only from this ISO 8601 time on.")] = None,
    who: Annotated[str | None, typer.Option(help="Only this user of the operating system.")] = None,
    what: Annotated[str | None, typer.Option(help="Only this code, such as show_text.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only this note id, or what else was looked at.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most rows, newest first; 0 for all.")] = 100,
    as_json: Json = False,
) -> None:
    """List who looked and who did what, newest first."""
    from medscribe_pipeline.cli.output import console, plain_table, print_json
    from medscribe_pipeline.cli.show import plain
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.audit import read_accesses
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    moment = _moment(since, settings.zone)
    with Warehouse.open(settings) as warehouse, warehouse.read() as connection:
        found = list(
            read_accesses(
                connection, settings.account, since=moment, who=who, what=what, subject=subject, limit=limit or None
            )
        )
    if as_json:
        print_json({"accesses": [dataclasses.asdict(each) for each in found]})
        return
    if not found:
        console.print("Nothing of that is written down.", highlight=False)
        return
    table = plain_table("Who looked, and who decided")
    for column in ("when", "who", "what", "of what"):
        table.add_column(column)
    for each in found:
        table.add_row(
            each.at.isoformat(timespec="seconds"), *(plain(text) for text in (each.who, each.what, each.subject))
        )
    console.print(table)


def noted(warehouse: Warehouse, what: str, *subjects: str) -> None:
    """Notes that the user of this command is about to see something of patients. Call it before anything is shown.

    Args:
        warehouse: The open warehouse.
        what: What is shown, as a code.
        subjects: Of what; see `audit.note_access`.
    """
    from medscribe_pipeline.warehouse.audit import current_user, note_access

    with warehouse.begin() as connection:
        for subject in subjects:
            note_access(connection, warehouse.account, what, subject, datetime.now(UTC), current_user())


def _moment(value: str | None, zone: ZoneInfo) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ConfigError("--since is not an ISO 8601 time such as 2026-11-19", code="window") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
