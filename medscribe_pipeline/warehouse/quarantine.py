"""The quarantine: records that could not go on, and why. The same trouble twice is one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid5

import sqlalchemy as sa

from medscribe_pipeline.notes import NAMESPACE
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import quarantine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["quarantine_id", "resolve_quarantine", "write_quarantine"]


def quarantine_id(account: str, stage: str, provider: str, stream: str, source_id: str) -> str:
    """Id of the quarantine row of one record at one stage: the same trouble twice is one row."""
    return str(uuid5(NAMESPACE, f"quarantine\x1f{account}\x1f{stage}\x1f{provider}\x1f{stream}\x1f{source_id}"))


def write_quarantine(warehouse: Warehouse, connection: sa.Connection, rows: list[dict[str, Any]]) -> int:
    """Upserts quarantine rows; a row that was open before keeps its first sighting and counts one attempt more.

    Returns:
        How many were not open before, or are open for another reason or another payload now.
    """
    fresh = 0
    for row in rows:
        query = sa.select(
            quarantine.c.first_seen_at,
            quarantine.c.attempts,
            quarantine.c.resolved_at,
            quarantine.c.error_code,
            quarantine.c.payload_hash,
        ).where(quarantine.c.id == row["id"])
        old = connection.execute(query).one_or_none()
        if old is None or old.resolved_at is not None:
            fresh += 1
        else:
            fresh += (old.error_code, old.payload_hash) != (row["error_code"], row["payload_hash"])
            row["first_seen_at"] = old.first_seen_at
            row["attempts"] = old.attempts + 1
    warehouse.upsert(connection, quarantine, rows)
    return fresh


def resolve_quarantine(connection: sa.Connection, ids: Sequence[str], now: datetime) -> None:
    """Closes those of these rows that are open."""
    for chunk in in_chunks(ids):
        connection.execute(
            sa.update(quarantine)
            .where(quarantine.c.id.in_(chunk), quarantine.c.resolved_at.is_(None))
            .values(resolved_at=now)
        )
