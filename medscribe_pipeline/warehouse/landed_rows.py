"""What landing asks of the warehouse for each page, in statements made once: to make one costs as much as many rows."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.warehouse.among import KEYS, among_keys
from medscribe_pipeline.warehouse.quarantine import concerns_us
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import quarantine, source_records, visits
from medscribe_pipeline.warehouse.tombstones import wanted_again
from medscribe_pipeline.warehouse.writing import native_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["LandedRows"]

_OF = source_records.c
_FAMILY = (_OF.account == sa.bindparam("of_account"), _OF.provider == sa.bindparam("of_provider"))
_RECORDS = (*_FAMILY, _OF.stream == sa.bindparam("of_stream"))


class LandedRows:
    """What is there of one stream, and of the streams its records hang together with.

    Args:
        account: The account.
        provider: Provider name.
        stream: Stream of the records; their parents and children live in other ones of the provider.
    """

    def __init__(self, account: str, provider: str, stream: str) -> None:
        self._names = {"of_account": account, "of_provider": provider, "of_stream": stream}

    def list_items(self, connection: sa.Connection, source_ids: Sequence[str]) -> Iterator[Any]:
        """`source_id`, `list_hash` and `forgotten_at` of records that need not land again as they are."""
        return self._asked(connection, _list_items, source_ids)

    def problems(self, connection: sa.Connection, quarantine_ids: Sequence[str]) -> Iterator[Any]:
        """`source_id` and `payload_hash` of quarantined records not to be tried again as they are, and `waits`."""
        return self._asked(connection, _problems, quarantine_ids)

    def records(self, connection: sa.Connection, source_ids: Sequence[str]) -> Iterator[Any]:
        """What decides whether a record that came is new, changed, or older than what is there."""
        return self._asked(connection, _records, source_ids)

    def started_at(self, connection: sa.Connection, source_ids: Sequence[str]) -> Iterator[Any]:
        """`correlation_key` and `started_at` of visits of which the manifest says when they began."""
        return self._asked(connection, _started_at, source_ids)

    def parents(self, connection: sa.Connection, source_ids: Sequence[str]) -> Iterator[Any]:
        """`source_id` and `visit_day` of those of these records, of any stream, that hang on no other."""
        return self._asked(connection, _parents, source_ids)

    def children(self, connection: sa.Connection, parent_ids: Sequence[str]) -> Iterator[Any]:
        """`stream`, `source_id`, `parent_id` and `visit_day` of the records that hang on these."""
        return self._asked(connection, _children, parent_ids)

    def _asked(
        self, connection: sa.Connection, made: Callable[[str | None], sa.Select[Any]], keys: Sequence[str]
    ) -> Iterator[Any]:
        statement = made(native_name(connection))
        for chunk in in_chunks(keys):
            yield from connection.execute(statement, {**self._names, KEYS: list(chunk)}).all()


@functools.cache
def _list_items(native: str | None) -> sa.Select[Any]:
    columns = (_OF.source_id, _OF.list_hash, _OF.forgotten_at)
    return sa.select(*columns).where(*_RECORDS, among_keys(native, _OF.source_id), ~wanted_again())


@functools.cache
def _problems(native: str | None) -> sa.Select[Any]:
    of = quarantine.c
    waits = of.closed_by.is_(None)
    # By their ids: the table has no other key that finds single records.
    return sa.select(of.source_id, of.payload_hash, waits.label("waits")).where(
        among_keys(native, of.id), concerns_us(), sa.or_(of.error_code.not_like("detail%"), ~waits)
    )


@functools.cache
def _records(native: str | None) -> sa.Select[Any]:
    return sa.select(
        _OF.source_id,
        _OF.content_hash,
        _OF.list_hash,
        _OF.source_updated_at,
        _OF.fetched_at,
        _OF.visit_day,
        _OF.parent_id,
        _OF.gone_at,
        _OF.forgotten_at,
        wanted_again().label("wanted_again"),
    ).where(*_RECORDS, among_keys(native, _OF.source_id))


@functools.cache
def _started_at(native: str | None) -> sa.Select[Any]:
    of = visits.c
    return sa.select(of.correlation_key, of.started_at).where(
        of.account == sa.bindparam("of_account"),
        of.provider == sa.bindparam("of_provider"),
        among_keys(native, of.correlation_key),
        of.started_at.is_not(None),
    )


@functools.cache
def _parents(native: str | None) -> sa.Select[Any]:
    return sa.select(_OF.source_id, _OF.visit_day).where(
        *_FAMILY, among_keys(native, _OF.source_id), _OF.parent_id.is_(None)
    )


@functools.cache
def _children(native: str | None) -> sa.Select[Any]:
    return sa.select(_OF.stream, _OF.source_id, _OF.parent_id, _OF.visit_day).where(
        *_FAMILY, among_keys(native, _OF.parent_id)
    )
