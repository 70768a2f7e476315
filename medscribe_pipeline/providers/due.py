"""Landed records that are due for mapping, with what hangs around each: parent, children, row of the manifest.

They are mapped outside of any transaction. `still_due` tells, inside the one that writes, which of them are as they
were read. It locks the records first and looks at the rest after that: landing, tombstones and imports of the manifest
change a record whenever they change what its mapping depends on, so whatever comes later makes it due again.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from medscribe_pipeline.providers.records import LandedRecord, ManifestVisit
from medscribe_pipeline.warehouse.among import KEYS, among_keys
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import source_records, visits
from medscribe_pipeline.warehouse.writing import native_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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
        row: What its row says of it, see `COLUMNS`.
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


_OF = source_records.c
_STANDING = (_OF.source_id, _OF.change_seq, _OF.visit_day, _OF.payload_removed_at, _OF.parent_id)

_READ = (*_STANDING, _OF.gone_at, _OF.fetched_at, _OF.payload)

COLUMNS = (*_READ, _OF.account, _OF.provider, _OF.stream, _OF.content_hash)
"""What is read of a record."""


def is_due(fingerprint: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    """The condition that a landed record is to be mapped: it is new, has changed, or another mapping mapped it."""
    return sa.and_(
        _OF.forgotten_at.is_(None),
        sa.or_(
            _OF.mapped_seq.is_(None),
            _OF.mapped_seq != _OF.change_seq,
            # What is gone or has no payload any more stays as it was mapped; another mapping has nothing to read.
            sa.and_(_OF.mapped_with != fingerprint, _OF.gone_at.is_(None), _OF.payload_removed_at.is_(None)),
        ),
    )


def read_due(warehouse: Warehouse, connection: sa.Connection, keys: Sequence[Key], fingerprint: str) -> list[DueRecord]:
    """Those of these records that are due, in the order of their keys."""
    found: list[DueRecord] = []
    for (provider, stream), ids in _by_stream(keys).items():
        asked = _Asked(warehouse.account, provider, stream, fingerprint)
        rows = sorted(asked.each(connection, _due, ids), key=itemgetter(0))
        parents = dict(asked.each(connection, _payloads, _parent_ids(rows)))
        for row, stand in zip(rows, _stands(asked, connection, rows), strict=True):
            source_id, _, _, _, parent_id, gone_at, fetched_at, payload, *_ = row
            record = LandedRecord(
                stream=stream,
                source_id=source_id,
                payload=payload,
                fetched_at=fetched_at,
                parent=parents.get(parent_id),
                gone=gone_at is not None or (stand.parent is not None and stand.parent.gone_at is not None),
                children=stand.children,
                visit=stand.visit,
            )
            found.append(DueRecord((provider, stream, source_id), row, record, stand))
    return found


def still_due(
    warehouse: Warehouse, connection: sa.Connection, read: Sequence[DueRecord], fingerprint: str
) -> list[DueRecord]:
    """Those of these records that are due still and as they were read; they stay so until the transaction ends."""
    standing: dict[Key, _Stand] = {}
    for (provider, stream), ids in _by_stream([each.key for each in read]).items():
        asked = _Asked(warehouse.account, provider, stream, fingerprint)
        rows = list(asked.each(connection, _due_and_locked, ids))
        for row, stand in zip(rows, _stands(asked, connection, rows), strict=True):
            standing[provider, stream, row[0]] = stand
    return [each for each in read if standing.get(each.key) == each.stand]


def _by_stream(keys: Sequence[Key]) -> dict[tuple[str, str], list[str]]:
    by_stream: dict[tuple[str, str], list[str]] = {}
    for provider, stream, source_id in sorted(keys):
        by_stream.setdefault((provider, stream), []).append(source_id)
    return by_stream


def _parent_ids(rows: Sequence[Sequence[Any]]) -> list[str]:
    """The parents of records whose rows begin with `_STANDING`."""
    return sorted({row[4] for row in rows if row[4]})


def _stands(asked: _Asked, connection: sa.Connection, rows: Sequence[Sequence[Any]]) -> Iterator[_Stand]:
    """What is known of each of these records, and of what hangs around it. Rows begin with `_STANDING`."""
    ids, parent_ids = [row[0] for row in rows], _parent_ids(rows)
    parents = {source_id: _Parent(*facts) for source_id, *facts in asked.each(connection, _parents, parent_ids)}
    children: dict[str, int] = dict(asked.each(connection, _children, ids))
    manifest = {key: ManifestVisit(*said) for key, *said in asked.each(connection, _manifest, [*ids, *parent_ids])}
    for source_id, change_seq, visit_day, payload_removed_at, parent_id, *_ in rows:
        visit = manifest.get(source_id) or manifest.get(parent_id)
        yield _Stand(
            change_seq, visit_day, payload_removed_at, parents.get(parent_id), children.get(source_id, 0), visit
        )


class _Asked:
    """Questions about records of one stream, in statements made once: to make one costs as much as many rows."""

    def __init__(self, account: str, provider: str, stream: str, fingerprint: str) -> None:
        self._given = {
            "of_account": account,
            "of_provider": provider,
            "of_stream": stream,
            "of_mapping": fingerprint,
        }

    def each(
        self, connection: sa.Connection, made: Callable[[str | None], sa.Select[Any]], keys: Sequence[str]
    ) -> Iterator[Any]:
        """Rows of what a statement finds for these keys, in no order."""
        statement = made(native_name(connection))
        for chunk in in_chunks(keys):
            yield from connection.execute(statement, {**self._given, KEYS: list(chunk)}).all()


_FAMILY = (_OF.account == sa.bindparam("of_account"), _OF.provider == sa.bindparam("of_provider"))
_DUE = (*_FAMILY, _OF.stream == sa.bindparam("of_stream"), is_due(sa.bindparam("of_mapping", type_=sa.String)))


@functools.cache
def _due(native: str | None) -> sa.Select[Any]:
    return sa.select(*COLUMNS).where(*_DUE, among_keys(native, _OF.source_id))


@functools.cache
def _due_and_locked(native: str | None) -> sa.Select[Any]:
    # Two runs that lock the same records lock them in the same order.
    query = sa.select(*_STANDING).where(*_DUE, among_keys(native, _OF.source_id)).order_by(_OF.source_id)
    return query.with_for_update()


@functools.cache
def _payloads(native: str | None) -> sa.Select[Any]:
    return _of_parents(native, _OF.payload)


@functools.cache
def _parents(native: str | None) -> sa.Select[Any]:
    return _of_parents(native, *(_OF[name] for name in _Parent._fields))


def _of_parents(native: str | None, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return sa.select(_OF.source_id, *columns).where(
        *_FAMILY, among_keys(native, _OF.source_id), _OF.parent_id.is_(None)
    )


@functools.cache
def _children(native: str | None) -> sa.Select[Any]:
    query = sa.select(_OF.parent_id, sa.func.count()).where(*_FAMILY, among_keys(native, _OF.parent_id))
    return query.group_by(_OF.parent_id)


@functools.cache
def _manifest(native: str | None) -> sa.Select[Any]:
    of = visits.c
    return sa.select(of.correlation_key, *(of[name] for name in ManifestVisit.__dataclass_fields__)).where(
        of.account == sa.bindparam("of_account"),
        of.provider == sa.bindparam("of_provider"),
        among_keys(native, of.correlation_key),
    )
