"""The quarantine: records that could not go on, and why. The same trouble twice is one row."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.notes import NAMESPACE, uuid5_text
from medscribe_pipeline.warehouse.among import KEYS, among, among_keys
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import quarantine
from medscribe_pipeline.warehouse.writing import native_name
from medscribe_pipeline.watching import telemetry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["DISCARDED", "Written", "concerns_us", "quarantine_id", "resolve_quarantine", "write_quarantine"]

DISCARDED = "discarded"
"""Outcome code of a landed record that a person put aside."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of rows for the quarantine.

    Attributes:
        fresh: How many were not open before, or are open for another reason or another payload now.
        put_aside: Ids of rows that a person has closed, for this reason and with this payload: those stay closed.
    """

    fresh: int
    put_aside: frozenset[str]


def quarantine_id(account: str, stage: str, provider: str, stream: str, source_id: str) -> str:
    """Id of the quarantine row of one record at one stage: the same trouble twice is one row."""
    # Every record that goes well is looked up, too.
    name = f"quarantine\x1f{account}\x1f{stage}\x1f{provider}\x1f{stream}\x1f{source_id}"
    return uuid5_text(_NAMESPACE, name)


_NAMESPACE = NAMESPACE.bytes


def concerns_us() -> sa.ColumnElement[bool]:
    """The condition that what a row says still holds: it waits, or a person has looked at it and put it aside."""
    return sa.or_(quarantine.c.resolved_at.is_(None), quarantine.c.closed_by.is_not(None))


def write_quarantine(warehouse: Warehouse, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> Written:
    """Upserts quarantine rows; a row that was open before keeps its first sighting and counts one attempt more.

    What a person has put aside stays so until it fails for another reason, or with another payload. Payloads are
    sealed on the way in.
    """
    before = _before(connection, [row["id"] for row in rows])
    fresh = 0
    put_aside: set[str] = set()
    written: list[dict[str, Any]] = []
    for row in rows:
        old = before.get(row["id"])
        same = old is not None and (old.error_code, old.payload_hash) == (row["error_code"], row["payload_hash"])
        if old is not None and old.closed_by is not None and same:
            put_aside.add(row["id"])
            continue
        seen = {}
        if not (same and old is not None and old.resolved_at is None):
            told = {"provider": row["provider"], "stage": row["stage"], "code": row["error_code"]}
            telemetry.add("medscribe.quarantined", 1, **told)
        if old is not None and old.resolved_at is None:
            fresh += not same
            seen = {"first_seen_at": old.first_seen_at, "attempts": old.attempts + 1}
        else:
            fresh += 1
        payload, sealed_with = warehouse.sealing.seal(row["id"], row["payload"])
        written.append(
            {**row, **seen, "payload": payload, "sealed_with": sealed_with, "closed_by": None, "closed_for": None}
        )
    warehouse.upsert(connection, quarantine, written)
    return Written(fresh, frozenset(put_aside))


def _before(connection: sa.Connection, ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    columns: tuple[sa.Column[Any], ...] = (
        quarantine.c.id,
        quarantine.c.first_seen_at,
        quarantine.c.attempts,
        quarantine.c.resolved_at,
        quarantine.c.closed_by,
        quarantine.c.error_code,
        quarantine.c.payload_hash,
    )
    found: dict[str, sa.Row[Any]] = {}
    for chunk in in_chunks(ids):
        found.update(
            {
                row.id: row
                for row in connection.execute(sa.select(*columns).where(among(connection, quarantine.c.id, chunk)))
            }
        )
    return found


def resolve_quarantine(connection: sa.Connection, ids: Sequence[str], now: datetime) -> None:
    """Closes those of these rows that are open, and forgets that somebody put them aside."""
    statement = _resolution(native_name(connection))
    for chunk in in_chunks(ids):
        connection.execute(statement, {KEYS: list(chunk), "resolved_at": now, "closed_by": None, "closed_for": None})


@functools.cache
def _resolution(native: str | None) -> sa.Update:
    return sa.update(quarantine).where(among_keys(native, quarantine.c.id), concerns_us())
