"""The links file: a CSV that says by hand who and where is who and where on a target.

One row a reference: what we know (kind, identifier system, identifier) and the target's own id. How such a file is
read, and what is told of its problems, is in `manifests.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from medscribe_pipeline.ehr.references import ENCOUNTER, PATIENT, PRACTITIONER, ReferenceKey
from medscribe_pipeline.manifests import ABSOLUTE_URI, URI_PROBLEM, Layout, WrongValue, open_manifest

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from medscribe_pipeline.ehr.references import ReferenceKind

__all__ = ["COLUMNS", "KINDS", "LinkRow", "read_links"]

KINDS: Final[dict[str, ReferenceKind]] = {each.lower(): each for each in (PATIENT, PRACTITIONER, ENCOUNTER)}
"""What may be linked: the word in the file, and the FHIR resource type."""

# A reference with its type may be that much longer than the id alone.
_LONGEST = max(len(kind) for kind in KINDS) + 1 + 64
_REQUIRED = ("kind", "system", "value", "server_id")
LAYOUT: Final = Layout(
    "links", {"kind": 64, "system": 255, "value": 255, "server_id": _LONGEST, "target": 64}, _REQUIRED
)

COLUMNS: Final = LAYOUT.columns
"""Columns a file may have."""

_REFERENCE = re.compile(r"(?:(?P<kind>[A-Za-z]+)/)?(?P<id>[A-Za-z0-9\-.]{1,64})")


@dataclass(frozen=True, slots=True)
class LinkRow:
    """One row of the file, checked: what we know, on which target, and its logical id there."""

    target: str
    key: ReferenceKey
    server_id: str


def read_links(path: Path, *, targets: Collection[str], target: str | None = None) -> list[LinkRow]:
    """Reads and checks a links file.

    Args:
        path: The CSV file.
        targets: Names of the targets there are.
        target: Target of the rows that name none. Not needed where there is one target only.

    Raises:
        ConfigError: `links_file`: the file cannot be read, is no links file, or has rows that are wrong. The message
            lists up to 20 problems as `line N, column NAME: problem`; `context` counts them all.
    """
    only = next(iter(targets)) if len(targets) == 1 else None
    rows: list[LinkRow] = []
    lines: dict[tuple[str, ReferenceKey], int] = {}
    with open_manifest(path, LAYOUT) as manifest:
        for line, values in manifest.rows(lambda column, cell: _value(column, cell, targets)):
            kind, (named, server_id) = values["kind"], values["server_id"]
            if named is not None and named != kind.lower():
                manifest.problem(line, "server_id", "is of another kind than the row")
            on = values.get("target") or target or only
            if on is None:
                manifest.problem(line, "target", "is empty, and there are several targets; name one, or give --target")
                continue
            row = LinkRow(on, ReferenceKey(kind, values["system"], values["value"]), server_id)
            first = lines.setdefault((row.target, row.key), line)
            if first != line:
                manifest.problem(line, "value", f"is linked on line {first} already")
            rows.append(row)
        manifest.close(len(rows))
    return rows


def _value(column: str, value: str, targets: Collection[str]) -> str | tuple[str | None, str]:
    """A cell checked and converted; of a server id, the kind it names (lower case) and the id."""
    if column == "kind":
        if value.lower() not in KINDS:
            raise WrongValue(f"is none of {', '.join(KINDS)}")
        return KINDS[value.lower()]
    if column == "system" and not ABSOLUTE_URI.fullmatch(value):
        raise WrongValue(URI_PROBLEM)
    if column == "target" and value not in targets:
        raise WrongValue("is no target there is")
    if column != "server_id":
        return value
    reference = _REFERENCE.fullmatch(value)
    if reference is None:
        raise WrongValue("is not the server's id, such as 123 or Patient/123")
    return reference["kind"] and reference["kind"].lower(), reference["id"]
