"""`medscribe show`: one note with its documents and deliveries, without the patient unless asked for."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from rich.table import Table
from rich.text import Text

from medscribe_pipeline.cli.output import console
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.operation.reasons import SAYS
from medscribe_pipeline.warehouse.tables import deliveries, fhir_documents, note_sections, notes

if TYPE_CHECKING:
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["describe", "find_note", "plain", "render"]

IMPERSONAL = (
    *("resourceType", "id", "meta", "language", "identifier", "masterIdentifier", "status", "docStatus"),
    *("type", "category", "date", "relatesTo"),
)
"""Elements of a FHIR document that neither name nor describe a person; without `--text` only these are shown."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def describe(warehouse: Warehouse, name: str, *, with_text: bool) -> dict[str, Any]:
    """Everything about a note as plain JSON values; texts, titles and who it is about only with `with_text`.

    Args:
        warehouse: The open warehouse.
        name: Note id, or `provider:source_id`.
        with_text: Whether the patient's text may be shown.

    Raises:
        ConfigError: There is no such note.
    """
    with warehouse.read() as connection:
        note = find_note(connection, warehouse.account, name)
        sections = connection.execute(
            sa.select(note_sections).where(note_sections.c.note_id == note.note_id).order_by(note_sections.c.ordinal)
        ).all()
        documents = connection.execute(
            sa.select(fhir_documents).where(fhir_documents.c.note_id == note.note_id).order_by(fhir_documents.c.kind)
        ).all()
        sent = connection.execute(
            sa.select(deliveries)
            .where(deliveries.c.note_id == note.note_id)
            .order_by(deliveries.c.target, deliveries.c.source_seq, deliveries.c.kind)
        ).all()
    return {
        "note": {
            "note_id": note.note_id,
            "provider": note.provider,
            "stream": note.stream,
            "source_id": note.source_id,
            "state": note.state,
            "visit_day": note.visit_day,
            "language": note.language,
            "template": note.template,
            "created_at": note.created_at,
            "updated_at": note.updated_at,
            "version": note.version,
            "patient": "known" if note.patient_id else "unknown",
            "encounter": "known" if note.encounter_id else "unknown",
            **(
                {"title": note.title, "patient_system": note.patient_system, "patient_id": note.patient_id}
                if with_text
                else {}
            ),
        },
        "sections": [
            {
                "ordinal": row.ordinal,
                "key": row.key,
                "characters": len(row.text),
                **({"title": row.title, "text": row.text} if with_text else {}),
            }
            for row in sections
        ],
        "documents": [
            {
                "kind": row.kind,
                "version": row.version,
                "mapping_version": row.mapping_version,
                "built_at": row.built_at,
                "resource": {key: value for key, value in row.resource.items() if with_text or key in IMPERSONAL},
            }
            for row in documents
        ],
        "deliveries": [
            {
                name: getattr(row, name)
                for name in (
                    "target",
                    "kind",
                    "version",
                    "state",
                    "reason",
                    "server_id",
                    "etag",
                    "attempts",
                    "settled_at",
                )
            }
            for row in sent
        ],
    }


def find_note(connection: sa.Connection, account: str, name: str) -> sa.Row[Any]:
    """The row of a note.

    Args:
        connection: An open transaction.
        account: The account it must belong to.
        name: Note id, or `provider:source_id`.

    Raises:
        ConfigError: There is no such note, or one record became several.
    """
    found = connection.execute(sa.select(notes).where(notes.c.account == account, _named(name)).limit(2)).all()
    if len(found) > 1:
        raise ConfigError(
            "One record became several notes; take the id of one of them from the table `notes`", code="several_notes"
        )
    if not found:
        raise ConfigError(
            "There is no such note in this account; note ids are in the table `notes`", code="no_such_note"
        )
    return found[0]


def _named(name: str) -> sa.ColumnElement[bool]:
    try:
        return notes.c.note_id == str(uuid.UUID(name))
    except ValueError:
        provider, _, source_id = name.partition(":")
        return sa.and_(notes.c.provider == provider, notes.c.source_id == source_id)


def plain(value: object) -> Text:
    """What others wrote, as it is: in it neither markup nor a terminal's control characters mean anything."""
    return Text(CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value)))


def render(found: dict[str, Any]) -> None:
    """Prints what `describe` found."""
    facts = Table(title="Note", title_justify="left", show_header=False)
    for key, value in found["note"].items():
        facts.add_row(key, plain("-" if value is None else value))
    console.print(facts)

    sections = Table(title="Sections", title_justify="left")
    for column in ("#", "key", "title", "characters"):
        sections.add_column(column)
    for row in found["sections"]:
        title = row.get("title") or "-"
        sections.add_row(str(row["ordinal"]), plain(row["key"] or "-"), plain(title), str(row["characters"]))
    console.print(sections)
    for row in found["sections"]:
        if "text" in row:
            console.rule(plain(row["title"] or row["key"] or ""))
            console.print(plain(row["text"]))

    documents = Table(title="FHIR documents", title_justify="left")
    for column in ("resource", "status", "docStatus", "type", "version", "mapping"):
        documents.add_column(column)
    for row in found["documents"]:
        resource = row["resource"]
        codes = [coding["code"] for coding in resource.get("type", {}).get("coding", []) if "code" in coding]
        documents.add_row(
            row["kind"],
            resource.get("status", "-"),  # a Provenance has none
            resource.get("docStatus", "-"),
            ", ".join(codes),
            row["version"][:12],
            row["mapping_version"],
        )
    console.print(documents)

    sent = Table(title="Deliveries", title_justify="left")
    for column in ("target", "resource", "version", "state", "why", "server id", "ETag", "attempts", "settled"):
        sent.add_column(column)
    for row in found["deliveries"]:
        reason = SAYS.get(row["reason"], row["reason"]) if row["reason"] else "-"
        settled = row["settled_at"].isoformat(timespec="seconds") if row["settled_at"] else "-"
        sent.add_row(
            row["target"],
            row["kind"],
            row["version"][:12],
            row["state"],
            reason,
            plain(row["server_id"] or "-"),
            plain(row["etag"] or "-"),
            str(row["attempts"]),
            settled,
        )
    console.print(sent)
