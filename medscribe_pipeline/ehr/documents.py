"""The documents of note versions, as they were built: what is fitted to a target, sent, and looked for there."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.fhir import VERSION_SYSTEM, version_identifier
from medscribe_pipeline.warehouse.tables import fhir_documents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medscribe_pipeline.ehr.ledger import Key

    Resource = dict[str, Any]

__all__ = ["as_version", "load_documents"]

_OF_NOTES = sa.select(
    *(fhir_documents.c[name] for name in ("note_id", "version", "kind", "resource")),
).where(
    fhir_documents.c.note_id.in_(sa.bindparam("of_notes", expanding=True)),
    fhir_documents.c.kind.in_(sa.bindparam("of_kinds", expanding=True)),
)


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
    for note_id, version, kind, resource in connection.execute(_OF_NOTES, {"of_notes": note_ids, "of_kinds": kinds}):
        known, documents = found.setdefault(note_id, (version, {}))
        if version == known:
            documents[kind] = resource
        else:
            # They are written together; if ever they were not, there is no whole version to speak of.
            found[note_id] = ("", {})
    return found


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
