"""Replaced versions of notes: what a note said before it was changed, for as long as the settings keep it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.warehouse.among import KEYS, among_keys
from medscribe_pipeline.warehouse.notes import read_notes
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import notes, notes_history
from medscribe_pipeline.warehouse.writing import native_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from medscribe_pipeline.warehouse.notes import MappedNote
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["keep_replaced"]


def keep_replaced(warehouse: Warehouse, connection: sa.Connection, mapped: Sequence[MappedNote], now: datetime) -> int:
    """Copies notes into the history whose version is about to be replaced; part of the transaction that replaces it.

    A note that a better mapping reads otherwise keeps its version, so it is no new one and nothing is copied.

    Args:
        warehouse: The warehouse.
        connection: The transaction.
        mapped: The notes that are going to be written.
        now: The current time.

    Returns:
        How many versions were copied.
    """
    following = {str(item.note.note_id): item.note.version for item in mapped}
    replaced: dict[str, datetime] = {}
    query = _stored(native_name(connection))
    for chunk in in_chunks(list(following)):
        replaced.update(
            (note_id, mapped_at)
            for note_id, version, mapped_at in connection.execute(query, {KEYS: list(chunk)}).all()
            if version != following[note_id]
        )
    # Most runs replace nothing, and read no text for it.
    if not replaced:
        return 0
    rows = [
        {
            "account": warehouse.account,
            "note_id": (note_id := str(item.note.note_id)),
            "provider": item.note.provider,
            "visit_day": item.visit_day,
            "version": item.note.version,
            "replaced_by": following[note_id],
            "state": item.note.state.value,
            "attested": item.note.attested,
            "title": item.note.title,
            "language": item.note.language,
            "template": item.note.template,
            "sections": list(item.note.sections),
            "transcript": list(item.note.transcript) or None,
            "source_seq": item.source_seq,
            "created_at": item.note.created_at,
            "updated_at": item.note.updated_at,
            "validated_at": item.note.validated_at,
            "mapped_at": replaced[note_id],
            "replaced_at": now,
        }
        for item in read_notes(connection, list(replaced), with_transcripts=True)
    ]
    if rows:
        connection.execute(sa.insert(notes_history), rows)
    return len(rows)


@functools.cache
def _stored(native: str | None) -> sa.Select[Any]:
    return sa.select(notes.c.note_id, notes.c.version, notes.c.mapped_at).where(
        among_keys(native, notes.c.note_id), notes.c.forgotten_at.is_(None)
    )
