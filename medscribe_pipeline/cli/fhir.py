"""`medscribe fhir`: the mapping as terminology resources, and a note as a document Bundle, in files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medscribe_pipeline.cli.coverage import coverage
from medscribe_pipeline.cli.options import Json
from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["fhir_app"]

fhir_app = typer.Typer(help="FHIR in files: the codes of the mapping, and notes as documents.", no_args_is_help=True)
fhir_app.command()(coverage)

STDOUT = "-"
"""`--out -`: standard output."""


@fhir_app.command("export-terminology")
def export_terminology(
    out: Annotated[Path, typer.Option(help="Folder to write to; it is made if it is not there.")],
    as_json: Json = False,  # typer's way to write a flag
) -> None:
    """Write the section keys of the mapping as CodeSystem, ValueSet and ConceptMap to LOINC."""
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.fhir import BuildOptions
    from medscribe_pipeline.fhir.terminology import terminology
    from medscribe_pipeline.settings import Settings

    options = BuildOptions.of(Settings.load().fhir)
    files = _write_resources(out, terminology(options.mapping, options.base_uri))
    if as_json:
        print_json({"mapping_version": options.mapping.version, "files": files})
        return
    for file in files:
        written = "written" if file["changed"] else "as before"
        console.print(f"{file['file']}: {written}", markup=False, highlight=False, soft_wrap=True)


@fhir_app.command()
def bundle(
    note_id: Annotated[str, typer.Argument(help="Note id (UUID), or PROVIDER:SOURCE_ID.")],
    out: Annotated[str, typer.Option(help="JSON file to write, for your eyes only; - prints it instead.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write one note as a FHIR document Bundle. It holds the patient's text: mind where it lies."""
    import orjson

    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.cli.preview import write_private
    from medscribe_pipeline.cli.show import find_note
    from medscribe_pipeline.fhir import BuildOptions, check
    from medscribe_pipeline.fhir.bundle import document_bundle
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.notes import read_notes
    from medscribe_pipeline.warehouse.store import Warehouse

    if as_json and out == STDOUT:
        raise typer.BadParameter("--out - prints the Bundle, --json prints what was written; take one of them")
    settings = Settings.load()
    options = BuildOptions.of(settings.fhir)
    with Warehouse.open(settings) as warehouse, warehouse.read() as connection:
        found = find_note(connection, warehouse.account, note_id)
        (mapped,) = read_notes(connection, [found.note_id], with_transcripts=options.transcripts)
    resource = document_bundle(mapped.note, options)
    check(resource, options.release)
    text = orjson.dumps(resource, option=orjson.OPT_INDENT_2).decode() + "\n"
    if out == STDOUT:
        sys.stdout.write(text)
        return
    write_private(Path(out), text, replace=force)
    if as_json:
        print_json({"out": out, "note_id": found.note_id, "entries": len(resource["entry"])})
    else:
        console.print(f"{out} written.", markup=False, highlight=False, soft_wrap=True)


def _write_resources(folder: Path, resources: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Writes each resource to `<type>-<id>.json`; files of the same name that hold something else are left alone.

    Raises:
        ConfigError: Code `terminology_out`: the folder cannot be written. Code `terminology_exists`: a file of that
            name is none of ours; nothing was written.
    """
    import orjson

    paths = {folder / f"{each['resourceType']}-{each['id']}.json": each for each in resources}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = {path: path.read_bytes() if os.path.lexists(path) else None for path in paths}
        for path, resource in paths.items():
            if not _is_ours(before[path], resource):
                raise ConfigError(
                    "There is a file of this name that is not ours; name another folder",
                    code="terminology_exists",
                    context={"file": path.name},
                )
        written: list[dict[str, Any]] = []
        for path, resource in paths.items():
            data = orjson.dumps(resource, option=orjson.OPT_INDENT_2) + b"\n"
            if data != before[path]:
                draft = path.with_suffix(f".{os.getpid()}.tmp")
                draft.write_bytes(data)
                draft.replace(path)
            written.append({"file": str(path), "url": resource["url"], "changed": data != before[path]})
    except OSError:
        raise ConfigError("The folder at --out cannot be written; choose another one", code="terminology_out") from None
    return written


def _is_ours(data: bytes | None, resource: dict[str, Any]) -> bool:
    """Whether a file is not there, or holds an earlier state of the resource (perhaps under another base URI)."""
    import orjson

    if data is None:
        return True
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and all(found.get(name) == resource[name] for name in ("resourceType", "id", "name"))
