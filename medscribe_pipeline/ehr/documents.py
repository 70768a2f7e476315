"""The documents of note versions, as they were built: what is fitted to a target, sent, and looked for there."""

from __future__ import annotations

import sys
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from medscribe_pipeline.fhir import VERSION_SYSTEM, version_identifier
from medscribe_pipeline.warehouse.among import KEYS, among, among_keys
from medscribe_pipeline.warehouse.tables import fhir_documents
from medscribe_pipeline.warehouse.writing import native_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medscribe_pipeline.ehr.ledger import Key

    Resource = dict[str, Any]

_LARGER_AS_TEXT = 255 * 2
"""PostgreSQL: as text, JSON has at most so many times the bytes it takes on disk. LZ4 (and the older method, even more
so) never packs more than 255 into one, and what has to be escaped in a text of ours takes two."""

__all__ = ["NOTHING", "Built", "as_version", "larger_than", "load_documents"]


class Built(NamedTuple):
    """The documents of a note: of which version they are, and the FHIR JSON by kind.

    `most_bytes`: as JSON they have no more bytes together than that.
    """

    version: str
    documents: dict[str, Resource]
    most_bytes: int


@cache
def _of_notes(native: str | None) -> sa.Select[Any]:
    of = fhir_documents.c
    sizes: dict[str | None, sa.ColumnElement[Any]] = {
        "postgresql": sa.cast(sa.func.pg_column_size(of.resource), sa.BigInteger) * _LARGER_AS_TEXT,
        "sqlite": sa.func.length(sa.cast(of.resource, sa.LargeBinary)),
    }
    size = sizes.get(native, sa.literal_column(str(sys.maxsize)))
    kinds = of.kind.in_(sa.bindparam("of_kinds", expanding=True))
    return sa.select(of.note_id, of.version, of.kind, of.resource, size).where(among_keys(native, of.note_id), kinds)


def load_documents(connection: sa.Connection, note_ids: Sequence[str], kinds: Sequence[str]) -> dict[str, Built]:
    """The newest documents of notes. Notes without are left out.

    Args:
        connection: An open transaction.
        note_ids: The notes, no more than a query takes.
        kinds: Kinds of document to read.
    """
    found: dict[str, Built] = {}
    rows = connection.execute(_of_notes(native_name(connection)), {KEYS: list(note_ids), "of_kinds": kinds})
    for note_id, version, kind, resource, size in rows.all():
        known = found.get(note_id)
        if known is None:
            found[note_id] = Built(version, {kind: resource}, size)
        elif version == known.version:
            found[note_id] = Built(version, {**known.documents, kind: resource}, known.most_bytes + size)
        else:
            # They are written together; if ever they were not, there is no whole version to speak of.
            found[note_id] = NOTHING
    return found


NOTHING = Built("", {}, 0)


def larger_than(connection: sa.Connection, note_ids: Sequence[str], kinds: Sequence[str], most_bytes: int) -> list[str]:
    """Those of the notes whose documents together may have more bytes than that, without reading any of them.

    Args:
        connection: An open transaction.
        note_ids: The notes, no more than a query takes.
        kinds: Kinds of document that count.
        most_bytes: How many bytes.
    """

    def having(size: sa.ColumnElement[Any], most: int) -> list[str]:
        query = (
            sa.select(fhir_documents.c.note_id)
            .where(among(connection, fhir_documents.c.note_id, suspects), fhir_documents.c.kind.in_(kinds))
            .group_by(fhir_documents.c.note_id)
            .having(sa.func.sum(size) > most)
        )
        return list(connection.scalars(query))

    suspects = note_ids
    if native_name(connection) == "postgresql":
        # To make text of them, the server has to unpack them all; how large they are on disk it knows without.
        suspects = having(sa.func.pg_column_size(fhir_documents.c.resource), most_bytes // _LARGER_AS_TEXT)
    # No character takes more than four bytes.
    return having(sa.func.length(sa.cast(fhir_documents.c.resource, sa.Text)), most_bytes // 4) if suspects else []


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
