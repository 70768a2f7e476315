"""`medscribe fhir coverage`: section keys that were seen, and what the mapping makes of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.cli.options import Day, Json, day_of

if TYPE_CHECKING:
    from rich.table import Table

    from medscribe_pipeline.fhir.coverage import Coverage

__all__ = ["coverage"]

_MEANING = {
    "loinc": "LOINC and own code",
    "own_code": "own code, LOINC has none",
    "unknown": "unknown: own code only",
    "no_key": "no key, no code",
}
"""What a `Treatment` is to people."""


def coverage(day: Day = None, as_json: Json = False) -> None:  # typer's way to write a flag
    """Show the section keys that were seen, and what the mapping makes of each."""
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.fhir import BuildOptions
    from medscribe_pipeline.fhir.coverage import read_coverage
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    wanted = day_of(day)
    settings = Settings.load()
    mapping = BuildOptions.of(settings.fhir).mapping
    with Warehouse.open(settings) as warehouse:
        found = read_coverage(warehouse, mapping, wanted)
    if as_json:
        print_json({"mapping_version": mapping.version, **_json(found)})
        return
    console.print(_table(found))
    console.print(
        f"{found.keys_seen} keys seen, {found.keys_mapped} in the mapping, {found.keys_unknown} not.", highlight=False
    )


def _json(found: Coverage) -> dict[str, Any]:
    return {
        "keys_seen": found.keys_seen,
        "keys_mapped": found.keys_mapped,
        "keys_unknown": found.keys_unknown,
        "rows": [
            {
                "provider": row.provider,
                "key": row.key,
                "treatment": row.codes.treatment.value,
                "loinc": row.codes.loinc,
                "fit": row.codes.fit,
                "notes": row.notes,
                "sections": row.sections,
            }
            for row in found.shown()
        ],
    }


def _table(found: Coverage) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Section keys", title_justify="left")
    for column in ("provider", "key", "LOINC", "fit", "what it becomes"):
        table.add_column(column)
    for column in ("notes", "sections"):
        table.add_column(column, justify="right")
    for row in found.shown():
        table.add_row(
            row.provider,
            Text(row.key or "-"),
            row.codes.loinc or "-",
            row.codes.fit or "-",
            _MEANING[row.codes.treatment.value],
            str(row.notes),
            str(row.sections),
            style="bold" if row.codes.treatment.value == "unknown" else "",
        )
    return table
