"""The documents of note versions, as they were built: what is fitted to a target, sent, and looked for there."""

from __future__ import annotations

import uuid
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.fhir import VERSION_SYSTEM, version_identifier
from medscribe_pipeline.warehouse.among import KEYS, among, among_keys
from medscribe_pipeline.warehouse.tables import fhir_documents
from medscribe_pipeline.warehouse.writing import native_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medscribe_pipeline.ehr.ledger import Key

    Resource = dict[str, Any]

__all__ = ["as_version", "larger_than", "load_documents"]


@cache
def _of_notes(native: str | None) -> sa.Select[Any]:
    columns = (fhir_documents.c[name] for name in ("note_id", "version", "kind", "resource"))
    kinds = fhir_documents.c.kind.in_(sa.bindparam("of_kinds", expanding=True))
    return sa.select(*columns).where(among_keys(native, fhir_documents.c.note_id), kinds)


def load_documents(
    connection: sa.Connection, note_ids: Sequence[str], kinds: Sequence[str]
) -> dict[str, tuple[str, dict[str, Resource]]]:
    """The newest documents of notes: of which version they are, and the FHIR JSON by kind. Notes without are left out.

    Args:
        connection: An open transaction.
        note_ids: The notes, no more than a query takes.
        kinds: Kinds of document to read.
    """
    found: dict[str, tuple[str, dict[str, Resource]]] = {}
    rows = connection.execute(_of_notes(native_name(connection)), {KEYS: list(note_ids), "of_kinds": kinds})
    for note_id, version, kind, resource in rows.all():
        known, documents = found.setdefault(note_id, (version, {}))
        if version == known:
            documents[kind] = resource
        else:
            # They are written together; if ever they were not, there is no whole version to speak of.
            found[note_id] = ("", {})
    return found


def larger_than(connection: sa.Connection, note_ids: Sequence[str], kinds: Sequence[str], most_bytes: int) -> list[str]:
    """Those of the notes whose documents together may have more bytes than that, without reading any of them.

    Args:
        connection: An open transaction.
        note_ids: The notes, no more than a query takes.
        kinds: Kinds of document that count.
        most_bytes: How many bytes.
    """
    characters = sa.func.length(sa.cast(fhir_documents.c.resource, sa.Text))
    query = (
        sa.select(fhir_documents.c.note_id)
        .where(among(connection, fhir_documents.c.note_id, note_ids), fhir_documents.c.kind.in_(kinds))
        .group_by(fhir_documents.c.note_id)
        # No character takes more than four bytes.
        .having(sa.func.sum(characters) > most_bytes // 4)
    )
    return list(connection.scalars(query))


def as_version(documents: Mapping[str, Resource], key: Key) -> dict[str, Resource]:
    """The same documents under the identifier of another version of their note.

    Documents of an earlier version are not kept. Who asks a server after one needs no more of it than this.
    """
    wanted = version_identifier(uuid.UUID(key.note_id), key.version)
    return {kind: _renamed(resource, wanted) for kind, resource in documents.items()}


def _renamed(resource: Resource, wanted: str) -> Resource:
    renamed = dict(resource)
    for name in ("masterIdentifier", "identifier"):
        value = resource.get(name)
        if isinstance(value, list):
            renamed[name] = [_identifier(each, wanted) for each in value]
        elif isinstance(value, dict):
            renamed[name] = _identifier(value, wanted)
    return renamed


def _identifier(identifier: Resource, wanted: str) -> Resource:
    return {**identifier, "value": wanted} if identifier.get("system") == VERSION_SYSTEM else identifier
