"""`medscribe forget`: removes what the warehouse holds of a person, or of one note, and keeps it away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from medscribe_pipeline.cli.options import Json
from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.erasure import Scope
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["forget"]


def forget(
    patient: Annotated[
        str | None, typer.Option(help="Identifier of the patient as SYSTEM|VALUE; `-` reads it from standard input.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="One note instead: its id (UUID), or PROVIDER:SOURCE_ID.")] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Let the records of a forgotten note come back with the next sync.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Needed: what is forgotten is gone from here.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a person's text and identifiers everywhere in the warehouse; hashes and the delivery ledger stay."""
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse import erasure
    from medscribe_pipeline.warehouse.audit import current_user
    from medscribe_pipeline.warehouse.store import Warehouse

    if (patient is None) == (note is None):
        raise ConfigError("Give one of the two: --patient SYSTEM|VALUE, or --note", code="forget")
    if undo and note is None:
        raise ConfigError("--undo needs --note: nobody knows any more whose notes they were", code="forget")
    if not (yes or dry_run):
        raise ConfigError("What is forgotten cannot be brought back from here; say --yes, or --dry-run", code="yes")
    settings = Settings.load()
    with Warehouse.open(settings) as warehouse:
        if undo:
            _undo(warehouse, note or "", as_json=as_json, dry_run=dry_run)
            return
        scope = _scope(settings, warehouse, patient, note)
        counts = erasure.forget(warehouse, scope, now=datetime.now(UTC), who=current_user(), dry_run=dry_run)
        # Also where nothing was left to forget: an earlier run may not have come to this.
        clean = None if dry_run else erasure.overwrite_free_space(warehouse)
    if as_json:
        print_json({"dry_run": dry_run, "rows": counts, "unreadable": scope.unreadable, "file_overwritten": clean})
    else:
        console.print("Would be forgotten:" if dry_run else "Forgotten:", highlight=False)
        for table, count in counts.items():
            console.print(f"  {table}: {count}", highlight=False)
        for line in _advice(warehouse, scope, clean, dry_run=dry_run, found=any(counts.values())):
            console.print(line, highlight=False)
    raise typer.Exit(1 if scope.unreadable or clean is False else 0)


def _scope(settings: Settings, warehouse: Warehouse, patient: str | None, note: str | None) -> Scope:
    from medscribe_pipeline.cli.show import find_note
    from medscribe_pipeline.providers.person import scope_of_note, scope_of_patient

    if note is not None:
        with warehouse.read() as connection:
            return scope_of_note(connection, warehouse, find_note(connection, warehouse.account, note).note_id)
    if patient == "-":
        patient = typer.get_text_stream("stdin").readline().strip()
    system, _, value = (patient or "").rpartition("|")
    if not (system and value):
        raise ConfigError("--patient is not SYSTEM|VALUE, as notes and visits have it", code="forget")
    with warehouse.read() as connection:
        return scope_of_patient(connection, warehouse, settings, system, value)


def _undo(warehouse: Warehouse, note: str, *, as_json: bool, dry_run: bool) -> None:
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.cli.show import find_note
    from medscribe_pipeline.warehouse.audit import current_user
    from medscribe_pipeline.warehouse.erasure import allow_again

    if dry_run:
        raise ConfigError("--undo removes nothing, so there is nothing to try out", code="forget")
    with warehouse.read() as connection:
        note_id: str = find_note(connection, warehouse.account, note).note_id
    back = allow_again(warehouse, note_id, now=datetime.now(UTC), who=current_user())
    if as_json:
        print_json({"records": back})
        return
    console.print(
        f"{back} records may come back: `medscribe sync --full-refresh` pulls them, if the provider still has them. "
        "Rows of the visits manifest have to be imported again.",
        highlight=False,
    )


def _advice(warehouse: Warehouse, scope: Scope, clean: bool | None, *, dry_run: bool, found: bool) -> list[str]:
    """What is left to do after it, by a person."""
    lines = []
    if scope.unreadable:
        lines.append(
            f"{scope.unreadable} payloads in quarantine are sealed with a key that is not set, so nobody looked into "
            "them: set MEDSCRIBE_ENCRYPTION_OLD_KEY and run it again."
        )
    if dry_run or not found:
        return lines
    if clean is False:
        lines.append(
            "The file of the warehouse could not be written anew, so its free space may still hold what was forgotten: "
            "stop what runs, see that the disk has room for a copy, and run the same command again."
        )
    elif warehouse.engine.dialect.name == "postgresql":
        lines.append("PostgreSQL keeps old rows until they are vacuumed: see docs/keeping.md.")
    lines.append(
        "Backups, the provider, the EHR and recordings in files still have theirs. "
        "What was forgotten stays away; `medscribe forget --note NOTE_ID --undo --yes` lets a note come back."
    )
    return lines
