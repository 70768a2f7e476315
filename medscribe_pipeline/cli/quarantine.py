"""`medscribe quarantine`: what could not go on, why, and what to do about it.

Nothing here shows a text or an identifier of a patient unless it is asked for with `--payload`, and then it is written
down who looked. Ids of records at their provider, some of which a hospital has chosen, are shown with `--ids`.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medscribe_pipeline.cli.options import Day, Json, day_of
from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medscribe_pipeline.warehouse.quarantine_list import Which

__all__ = ["quarantine_app"]

quarantine_app = typer.Typer(
    help="Records that could not go on: why, and what a person can do about it.", no_args_is_help=True
)

Stage = Annotated[str | None, typer.Option(help="Only this stage: extract, map or fhir.")]
Code = Annotated[str | None, typer.Option(help="Only this code.")]
Provider = Annotated[str | None, typer.Option(help="Only this provider.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of rows, as `list` shows them.")]
Row = Annotated[str, typer.Argument(help="Id of a row, as `list` shows it.")]


@quarantine_app.command("list")
def list_rows(
    stage: Stage = None,
    code: Code = None,
    provider: Provider = None,
    day: Day = None,
    only_open: Annotated[
        bool, typer.Option("--open/--all", help="Only what waits, or also what went on or was put aside.")
    ] = True,
    limit: Annotated[int, typer.Option(min=0, help="Most rows to list; 0 for all.")] = 100,
    counts: Annotated[bool, typer.Option("--counts", help="Only how many there are of each kind.")] = False,
    as_json: Json = False,
) -> None:
    """List what is in quarantine; how many there are of each kind of trouble comes first."""
    from itertools import islice

    from medscribe_pipeline.cli import quarantine_print as show
    from medscribe_pipeline.cli.output import print_json
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.quarantine_list import counted, listed
    from medscribe_pipeline.warehouse.store import Warehouse

    which = _which((), stage, code, provider, day, closed=not only_open)
    with Warehouse.open(Settings.load()) as warehouse:
        found = counted(warehouse, which)
        if as_json and counts:
            print_json({"counts": show.counts_json(found)})
        elif as_json:
            rows = listed(warehouse, which)
            shown = (show.trouble_json(each) for each in islice(rows, limit or None))
            show.stream(show.counts_json(found), shown, lambda: any(True for _ in rows))
        elif not found:
            show.say("Nothing of that is in quarantine.")
        else:
            show.print_counts(found)
            if not counts:
                show.write_lines(listed(warehouse, which), limit=limit)


@quarantine_app.command("show")
def show_row(
    row_id: Row,
    ids: Annotated[bool, typer.Option("--ids", help="Also show the provider's id of the record.")] = False,
    payload: Annotated[
        bool,
        typer.Option(
            "--payload",
            help="Also print what was received: patient data. Mind who reads along; it is noted who looked.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one row: what is wrong, where, since when, what it means and what to do."""
    from medscribe_pipeline.cli.quarantine_print import print_trouble
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.audit import current_user, note_access
    from medscribe_pipeline.warehouse.quarantine_list import read_payload, read_trouble
    from medscribe_pipeline.warehouse.store import Warehouse

    received: dict[str, Any] | None = None
    with Warehouse.open(Settings.load()) as warehouse:
        found = read_trouble(warehouse, row_id)
        if payload:
            received = {"payload": read_payload(warehouse, found)}
            with warehouse.begin() as connection:
                note_access(
                    connection, warehouse.account, "quarantine_payload", found.id, datetime.now(UTC), current_user()
                )
        openable = found.sealed_with is None or found.sealed_with in warehouse.sealing.key_ids
    print_trouble(found, received, ids=ids, openable=openable, as_json=as_json)


@quarantine_app.command("replay")
def replay_rows(
    rows: Ids = None,
    stage: Stage = None,
    code: Code = None,
    provider: Provider = None,
    day: Day = None,
    everything: Annotated[bool, typer.Option("--all", help="All that waits.")] = False,
    as_json: Json = False,
) -> None:
    """Try records again, after a mapping, a setting or the program was mended; their days are built here and now.

    What there is to deliver then goes out with the next `medscribe sync`. Rows that are named are tried again even if
    somebody put them aside.
    """
    from medscribe_pipeline.cli import quarantine_print as show
    from medscribe_pipeline.cli.output import progress_shown
    from medscribe_pipeline.operation.replay import replay
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.quarantine_list import selected_ids
    from medscribe_pipeline.warehouse.store import Warehouse

    which = _chosen(rows or (), stage, code, provider, day, everything=everything)
    settings = Settings.load()
    with Warehouse.open(settings) as warehouse, progress_shown("medscribe quarantine replay"):
        ids = selected_ids(warehouse, which)
        done = replay(warehouse, settings, ids, clock=lambda: datetime.now(UTC), on_day=_tell_day)
    show.print_replay(done, delivers=bool(settings.targets), as_json=as_json)
    raise typer.Exit(1 if done.still or done.left else 0)


@quarantine_app.command("discard")
def discard_rows(
    reason: Annotated[str, typer.Option(help="Why: duplicate, mended_at_provider, no_visit, not_needed or test_data.")],
    rows: Ids = None,
    stage: Stage = None,
    code: Code = None,
    provider: Provider = None,
    day: Day = None,
    everything: Annotated[bool, typer.Option("--all", help="All that waits.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Needed for more than one row.")] = False,
    as_json: Json = False,
) -> None:
    """Decide that nothing more is to be done about records. They come back when they change, or fail in another way."""
    from medscribe_pipeline.cli import quarantine_print as show
    from medscribe_pipeline.cli.output import print_json
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.audit import current_user
    from medscribe_pipeline.warehouse.quarantine_acts import REASONS_TO_DISCARD, discard
    from medscribe_pipeline.warehouse.quarantine_list import selected_ids
    from medscribe_pipeline.warehouse.store import Warehouse

    if reason not in REASONS_TO_DISCARD:
        raise ConfigError(f"--reason takes one of: {', '.join(REASONS_TO_DISCARD)}", code="discard_reason")
    which = _chosen(rows or (), stage, code, provider, day, everything=everything)
    with Warehouse.open(Settings.load()) as warehouse:
        ids = selected_ids(warehouse, which)
        if len(ids) > 1 and not yes:
            raise ConfigError(
                f"Nothing was done. Add --yes if all {len(ids)} rows are to be put aside", code="needs_yes"
            )
        done = discard(warehouse, ids, reason=reason, who=current_user(), now=datetime.now(UTC))
    if as_json:
        print_json({"rows": done})
    else:
        show.say(f"{done} rows put aside. `medscribe quarantine replay ID` takes one up again.")


@quarantine_app.command("reseal")
def reseal_rows(as_json: Json = False) -> None:
    """Seal all payloads with MEDSCRIBE_ENCRYPTION_KEY, whatever they are sealed with, or if they are not."""
    from medscribe_pipeline.cli import quarantine_print as show
    from medscribe_pipeline.cli.output import print_json
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.quarantine_acts import reseal
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    if settings.encryption_key is None:
        raise ConfigError(
            "MEDSCRIBE_ENCRYPTION_KEY is not set; `openssl rand -base64 32` makes one", code="no_encryption_key"
        )
    with Warehouse.open(settings) as warehouse:
        done = reseal(warehouse)
    if as_json:
        print_json({"sealed": done.sealed, "as_before": done.as_before, "unreadable": done.unreadable})
    else:
        show.say(f"{done.sealed} payloads sealed; {done.as_before} needed nothing.")
        if done.unreadable:
            show.say(
                f"{done.unreadable} cannot be opened: their key is neither MEDSCRIBE_ENCRYPTION_KEY nor "
                "MEDSCRIBE_ENCRYPTION_OLD_KEY. They stay as they are."
            )
    raise typer.Exit(1 if done.unreadable else 0)


def _tell_day(day: date) -> None:
    import logging

    logging.getLogger("medscribe_pipeline.progress").info("building %s", day)


def _chosen(
    ids: Sequence[str], stage: str | None, code: str | None, provider: str | None, day: str | None, *, everything: bool
) -> Which:
    """The rows an act is for: something must say which."""
    which = _which(ids, stage, code, provider, day)
    if not which.narrows and not everything:
        raise ConfigError(
            "Say which: ids of rows, or --stage, --code, --provider or --day, or --all; "
            "`medscribe quarantine list` shows what there is",
            code="which_rows",
        )
    if ids and (everything or stage or code or provider or day):
        raise ConfigError("Give ids of rows, or say what they have in common: not both", code="which_rows")
    return which


def _which(
    ids: Sequence[str],
    stage: str | None,
    code: str | None,
    provider: str | None,
    day: str | None,
    *,
    closed: bool = False,
) -> Which:
    from medscribe_pipeline.warehouse.quarantine_list import STAGES, Which

    if stage is not None and stage not in STAGES:
        raise ConfigError(f"--stage takes one of: {', '.join(STAGES)}", code="stage")
    return Which(ids=tuple(ids), stage=stage, code=code, provider=provider, day=day_of(day), closed=closed)
