"""`medscribe links`: who and where on the target, entered by hand, listed, and forgotten.

Identifiers of patients and encounters, and their ids on the server, are shown on request only, like the text of notes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medscribe_pipeline.cli.audit import noted
from medscribe_pipeline.cli.ehr import target_of
from medscribe_pipeline.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medscribe_pipeline.ehr.link_table import KnownReference

__all__ = ["links_app"]

links_app = typer.Typer(
    help="Patients, clinicians and encounters by the ids a target gives them.", no_args_is_help=True
)

Target = Annotated[str | None, typer.Option(help="Name of the target. Default: the first.")]
Kind = Annotated[
    Literal["patient", "practitioner", "encounter"] | None, typer.Option(help="Only this kind of reference.")
]
StateName = Annotated[
    Literal["found", "missing", "ambiguous", "refused"] | None, typer.Option(help="Only what is in this state.")
]


@links_app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV file with a header; see docs/delivery.md.")],
    target: Annotated[
        str | None, typer.Option(help="Target of rows that name none; not needed where there is one only.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Import links, all of the file or nothing. Held notes they may release go out with the next sync."""
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.ehr.link_table import import_links
    from medscribe_pipeline.ehr.links import read_links
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    first = target_of(settings, target)
    rows = read_links(file, targets=list(settings.targets), target=first.target if target else None)
    with Warehouse.open(settings) as warehouse:
        done = import_links(warehouse, rows, now=datetime.now(UTC))
    if as_json:
        print_json({"new": done.new, "changed": done.changed, "unchanged": done.unchanged, "notes": done.notes})
        return
    console.print(
        f"{done.new} links new, {done.changed} changed, {done.unchanged} as before; "
        f"{done.notes} held notes will be looked at again by the next sync.",
        highlight=False,
    )


@links_app.command("list")
def list_known(
    target: Target = None,
    kind: Kind = None,
    state: StateName = None,
    values: Annotated[
        bool, typer.Option("--values", help="Also show identifiers and ids. They are patient data: mind who reads.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="CSV file to write, to fill in and import. Holds identifiers of patients.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: Json = False,
) -> None:
    """Show what is found, missing, ambiguous or refused on a target, and how many notes are held for it."""
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.ehr.link_table import known_references
    from medscribe_pipeline.ehr.links import KINDS
    from medscribe_pipeline.ehr.references import ReferenceState
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    name = target_of(settings, target).target
    with Warehouse.open(settings) as warehouse:
        known = known_references(
            warehouse, name, kind=KINDS[kind] if kind else None, state=ReferenceState(state) if state else None
        )
        if values or out:
            noted(warehouse, "links_values", name)
    written = _write(out, known, replace=force) if out else None
    rows = _one_by_one(known) if values else _counted(known)
    if as_json:
        print_json({"target": name, "references": rows, **({"out": str(out), "written": written} if out else {})})
        return
    _print(name, rows)
    if out:
        console.print(f"{out} written: {written} rows.", markup=False, highlight=False, soft_wrap=True)


@links_app.command()
def forget(
    target: Target = None,
    kind: Kind = None,
    state: StateName = None,
    origin: Annotated[
        Literal["search", "link"], typer.Option(help="What the server said, or what was entered by hand.")
    ] = "search",
    everything: Annotated[
        bool, typer.Option("--all", help="Needed where neither --kind nor --state is given.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Forget what is known, so that the next sync asks the server again."""
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.ehr.link_table import forget_references
    from medscribe_pipeline.ehr.links import KINDS
    from medscribe_pipeline.ehr.references import ReferenceState
    from medscribe_pipeline.errors import ConfigError
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    if not (kind or state or everything):
        raise ConfigError("Say what to forget: --kind, --state, or --all", code="forget")
    settings = Settings.load()
    name = target_of(settings, target).target
    with Warehouse.open(settings) as warehouse:
        done = forget_references(
            warehouse,
            name,
            kind=KINDS[kind] if kind else None,
            state=ReferenceState(state) if state else None,
            origin=origin,
        )
    if as_json:
        print_json({"forgotten": done.references, "notes": done.notes})
        return
    console.print(
        f"{done.references} references forgotten; {done.notes} held notes will be looked at again by the next sync.",
        highlight=False,
    )


def _counted(known: Sequence[KnownReference]) -> list[dict[str, Any]]:
    """How many there are of each kind, system, state and origin, without an identifier."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for each in known:
        facts = {"kind": each.key.kind, "system": each.key.system, "state": each.state.value, "origin": each.origin}
        row = rows.setdefault(
            tuple(facts.values()), {**facts, "references": 0, "held_notes": 0, "looked_at": each.looked_at}
        )
        row["references"] += 1
        row["held_notes"] += each.notes
        row["looked_at"] = max(row["looked_at"], each.looked_at)
    return list(rows.values())


def _one_by_one(known: Sequence[KnownReference]) -> list[dict[str, Any]]:
    return [
        {
            "kind": each.key.kind,
            "system": each.key.system,
            "value": each.key.value,
            "state": each.state.value,
            "server_id": each.server_id,
            "origin": each.origin,
            "held_notes": each.notes,
            "looked_at": each.looked_at,
        }
        for each in known
    ]


def _print(target: str, rows: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from medscribe_pipeline.cli.output import console
    from medscribe_pipeline.cli.show import CONTROL

    if not rows:
        console.print(f"Nothing of that is known on {target}.", highlight=False)
        return
    table = Table(title=f"Who and where on {target}", title_justify="left")
    for column in rows[0]:
        table.add_column(column.replace("_", " "))
    for row in rows:
        cells = {**row, "looked_at": row["looked_at"].isoformat(timespec="seconds")}
        # What others wrote, as it is: neither markup nor a terminal's control characters mean anything in it.
        table.add_row(
            *(
                Text(CONTROL.sub("\N{REPLACEMENT CHARACTER}", "-" if cell is None else str(cell)))
                for cell in cells.values()
            )
        )
    console.print(table)


def _write(out: Path, known: Sequence[KnownReference], *, replace: bool) -> int:
    """Writes a links file; encounters known by their time only have no identifier to link."""
    import csv
    import io

    from medscribe_pipeline.cli.preview import write_private
    from medscribe_pipeline.ehr.links import COLUMNS
    from medscribe_pipeline.ehr.references import BY_TIME

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    rows = [
        {
            "kind": each.key.kind.lower(),
            "system": each.key.system,
            "value": each.key.value,
            "server_id": each.server_id or "",
            "target": each.target,
        }
        for each in known
        if each.key.system != BY_TIME
    ]
    writer.writerows(rows)
    write_private(out, text.getvalue(), replace=replace)
    return len(rows)
