"""Landed records that are due for mapping, with what hangs around each: parent, children, row of the manifest.

They are mapped outside of any transaction. `still_due` tells, inside the one that writes, which of them are as they
were read. It locks the records first and looks at the rest after that: landing, tombstones and imports of the manifest
change a record whenever they change what its mapping depends on, so whatever comes later makes it due again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from medscribe_pipeline.providers.records import LandedRecord, ManifestVisit
from medscribe_pipeline.warehouse.tables import source_records, visits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["DueRecord", "Key", "is_due", "read_due", "still_due"]

Key = tuple[str, str, str]
"""Provider, stream and source id."""


@dataclass(frozen=True, slots=True)
class DueRecord:
    """A record that is due.

    Attributes:
        key: Which.
        row: Its row, as it was read.
        record: What mapping is given.
        stand: What `still_due` compares.
    """

    key: Key
    row: sa.Row[Any]
    record: LandedRecord
    stand: _Stand


class _Parent(NamedTuple):
    change_seq: int
    gone_at: datetime | None
    payload_removed_at: datetime | None


class _Stand(NamedTuple):
    """All that decides what a record is mapped to; a payload never changes without its change_seq."""

    change_seq: int
    visit_day: date
    payload_removed_at: datetime | None
    parent: _Parent | None
    children: int
    visit: ManifestVisit | None


_OF_A_RECORD = [column for column in source_records.c if column.name != "payload"]


def is_due(fingerprint: str) -> sa.ColumnElement[bool]:
    """The condition that a landed record is to be mapped: it is new, has changed, or another mapping mapped it."""
    return sa.and_(
        source_records.c.forgotten_at.is_(None),
        sa.or_(
            source_records.c.mapped_seq.is_(None),
            source_records.c.mapped_seq != source_records.c.change_seq,
            # What is gone or has no payload any more stays as it was mapped; another mapping has nothing to read.
            sa.and_(
                source_records.c.mapped_with != fingerprint,
                source_records.c.gone_at.is_(None),
                source_records.c.payload_removed_at.is_(None),
            ),
        ),
    )


def read_due(warehouse: Warehouse, connection: sa.Connection, keys: Sequence[Key], fingerprint: str) -> list[DueRecord]:
    """Those of these records that are due, in the order of their keys."""
    found: list[DueRecord] = []
    for (provider, stream), ids in _by_stream(keys).items():
        own = _of_provider(warehouse, provider)
        query = sa.select(source_records).where(*own, *_those(stream, ids), is_due(fingerprint))
        rows = connection.execute(query.order_by(source_records.c.source_id)).all()
        parent_ids = {row.parent_id for row in rows if row.parent_id}
        parents: dict[str, Any] = {}
        if parent_ids:
            payloads = sa.select(source_records.c.source_id, source_records.c.payload).where(
                *own, *_parents(parent_ids)
            )
            parents = dict(connection.execute(payloads).all())
        for row, stand in zip(rows, _stands(warehouse, connection, provider, rows), strict=True):
            record = LandedRecord(
                stream=stream,
                source_id=row.source_id,
                payload=row.payload,
                fetched_at=row.fetched_at,
                parent=parents.get(row.parent_id),
                gone=row.gone_at is not None or (stand.parent is not None and stand.parent.gone_at is not None),
                children=stand.children,
                visit=stand.visit,
            )
            found.append(DueRecord((provider, stream, row.source_id), row, record, stand))
    return found


def still_due(
    warehouse: Warehouse, connection: sa.Connection, read: Sequence[DueRecord], fingerprint: str
) -> list[DueRecord]:
    """Those of these records that are due still and as they were read; they stay so until the transaction ends."""
    standing: dict[Key, _Stand] = {}
    for (provider, stream), ids in _by_stream([each.key for each in read]).items():
        query = (
            sa.select(*_OF_A_RECORD)
            .where(*_of_provider(warehouse, provider), *_those(stream, ids), is_due(fingerprint))
            # Two runs that lock the same records lock them in the same order.
            .order_by(source_records.c.source_id)
            .with_for_update()
        )
        rows = connection.execute(query).all()
        for row, stand in zip(rows, _stands(warehouse, connection, provider, rows), strict=True):
            standing[provider, stream, row.source_id] = stand
    return [each for each in read if standing.get(each.key) == each.stand]


def _by_stream(keys: Sequence[Key]) -> dict[tuple[str, str], list[str]]:
    by_stream: dict[tuple[str, str], list[str]] = {}
    for provider, stream, source_id in sorted(keys):
        by_stream.setdefault((provider, stream), []).append(source_id)
    return by_stream


def _stands(
    warehouse: Warehouse, connection: sa.Connection, provider: str, rows: Sequence[sa.Row[Any]]
) -> list[_Stand]:
    """What is known of each of these records, and of what hangs around it."""
    own = _of_provider(warehouse, provider)
    ids = [row.source_id for row in rows]
    parent_ids = {row.parent_id for row in rows if row.parent_id}
    parents: dict[str, _Parent] = {}
    if parent_ids:
        columns = [source_records.c[name] for name in ("source_id", *_Parent._fields)]
        for source_id, *facts in connection.execute(sa.select(*columns).where(*own, *_parents(parent_ids))):
            parents[source_id] = _Parent(*facts)
    hanging = sa.select(source_records.c.parent_id, sa.func.count()).where(*own, source_records.c.parent_id.in_(ids))
    children: dict[str, int] = dict(connection.execute(hanging.group_by(source_records.c.parent_id)).all())
    named = visits.c.correlation_key.in_([*ids, *sorted(parent_ids)])
    manifest = {
        row.correlation_key: ManifestVisit(**{name: getattr(row, name) for name in ManifestVisit.__dataclass_fields__})
        for row in connection.execute(
            sa.select(visits).where(visits.c.account == warehouse.account, visits.c.provider == provider, named)
        )
    }
    return [
        _Stand(
            row.change_seq,
            row.visit_day,
            row.payload_removed_at,
            parents.get(row.parent_id),
            children.get(row.source_id, 0),
            manifest.get(row.source_id) or manifest.get(row.parent_id),
        )
        for row in rows
    ]


def _of_provider(warehouse: Warehouse, provider: str) -> tuple[sa.ColumnElement[bool], ...]:
    return source_records.c.account == warehouse.account, source_records.c.provider == provider


def _those(stream: str, ids: Sequence[str]) -> tuple[sa.ColumnElement[bool], ...]:
    return source_records.c.stream == stream, source_records.c.source_id.in_(ids)


def _parents(ids: set[str]) -> tuple[sa.ColumnElement[bool], ...]:
    return source_records.c.source_id.in_(sorted(ids)), source_records.c.parent_id.is_(None)
