"""Payloads out of the quarantine, read again by the code that reads what is pulled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.pull import NO_ID_PATHS, Misfit, read_facts
from medscribe_pipeline.providers.wire import source_id_of
from medscribe_pipeline.warehouse.arrivals import Problem, SourceRecord
from medscribe_pipeline.warehouse.days import DayRule
from medscribe_pipeline.warehouse.joined import Joined
from medscribe_pipeline.warehouse.landing import Landing
from medscribe_pipeline.warehouse.quarantine import resolve_quarantine
from medscribe_pipeline.warehouse.tables import quarantine, source_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from medscribe_pipeline.providers.catalogue import Reader
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["ASKED_BY_SYNC", "NO_PAYLOAD", "NO_READER", "Reread", "reread"]

ASKED_BY_SYNC = "asked_by_sync"
"""Why a row was left alone: only the provider has the record, and every sync asks for it."""

NO_ID = "no_id"
NO_PAYLOAD = "no_payload"
"""Why a row was left alone: what was received is not kept any more."""

NO_READER = "no_reader"
"""Why a row was left alone: this version has no such provider or stream, or it cannot be read without the provider."""


@dataclass(slots=True)
class Reread:
    """What became of rows of stage `extract`.

    Attributes:
        landed: Records that could be read and were news.
        misfits: Rows that still fit nothing, by code.
        left: Rows that were not read, by the reason.
        records: What has landed: provider, stream and source id.
        days: Visit days that were touched.
    """

    landed: int = 0
    misfits: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    records: set[tuple[str, str, str]] = field(default_factory=set)
    days: set[date] = field(default_factory=set)


def reread(
    warehouse: Warehouse, connection: sa.Connection, settings: Settings, rows: Sequence[sa.Row[Any]], *, now: datetime
) -> Reread:
    """Reads rows of stage `extract` again, and lands what can be read; all in the transaction that is open.

    Args:
        warehouse: The warehouse.
        connection: A write transaction that holds the lock of the change counter and of these rows.
        settings: The settings.
        rows: Whole rows of the quarantine.
        now: The current time, aware UTC.
    """
    done = Reread()
    joined = Joined(warehouse, connection)
    for provider, stream in sorted({(row.provider, row.stream) for row in rows}):
        mine = [row for row in rows if (row.provider, row.stream) == (provider, stream)]
        reader = _reader(provider, stream)
        if reader is None:
            done.left[NO_READER] += len(mine)
            continue
        _Stream(joined, connection, settings, provider, stream, reader, done).read(mine, now)
    return done


def _reader(provider: str, stream: str) -> Reader | None:
    known = PROVIDERS.get(provider)
    streams = known.streams if known is not None else ()
    return next((each.reader for each in streams if each.name == stream), None)


class _Stream:
    def __init__(
        self,
        warehouse: Joined,
        connection: sa.Connection,
        settings: Settings,
        provider: str,
        stream: str,
        reader: Reader,
        done: Reread,
    ) -> None:
        self._warehouse = warehouse
        self._connection = connection
        self._settings = settings
        self._name = (provider, stream)
        self._reader = reader
        self._done = done
        self._landing = Landing(warehouse, provider, stream, days=DayRule.of(settings))

    def read(self, rows: Sequence[sa.Row[Any]], now: datetime) -> None:
        parents = self._parents([row.source_id for row in rows])
        readable: list[SourceRecord] = []
        problems: list[Problem] = []
        settled: list[str] = []
        # The oldest first: of several with one id the last counts.
        for row in sorted(rows, key=lambda each: each.last_seen_at):
            found = self._read(row, parents.get(row.source_id))
            if isinstance(found, SourceRecord):
                readable.append(found)
                # Also what something newer has overtaken: whatever it said, it is known better now.
                settled.append(row.id)
            elif isinstance(found, Problem):
                problems.append(found)
                if found.source_id == row.source_id:
                    self._done.misfits[found.code] += 1
                else:
                    self._done.left[ASKED_BY_SYNC] += 1
                    settled.append(row.id)
            else:
                self._done.left[found] += 1
        self._open_again([row.id for row in rows])
        landed = self._landing.land(readable, problems, None, now=now)
        resolve_quarantine(self._connection, settled, now)
        self._done.landed += landed.new + landed.changed
        self._done.days |= landed.days
        self._done.records |= {(*self._name, record.source_id) for record in readable}

    def _read(self, row: sa.Row[Any], parent_id: str | None) -> SourceRecord | Problem | str:
        """The record of a row, or what is still wrong with it, or why it was not looked at."""
        payload, why_not = self._kept(row)
        if why_not is not None:
            return why_not
        source_id = row.source_id
        if row.error_code == NO_ID:
            identified = source_id_of(payload, self._reader.id_field)
            if identified is None:
                return _problem(row, payload, Misfit(NO_ID, NO_ID_PATHS))
            if self._reader.detailed:
                # Only its announcement is here. The next sync asks for the rest, as for any that was not answered for.
                return _problem(row, payload, Misfit("detail_failed", ()), identified)
            source_id = identified
        found = read_facts(partial(self._reader.facts, payload, self._settings, parent_id))
        if isinstance(found, Misfit):
            return _problem(row, payload, found)
        return SourceRecord(
            source_id=source_id,
            payload=payload,
            list_hash=row.payload_hash,
            updated_at=found.updated_at,
            # When it was written down is when it had been asked for, but for the time an answer takes.
            fetched_at=row.last_seen_at,
            visited_at=found.visited_at,
            parent_id=found.parent_id,
        )

    def _kept(self, row: sa.Row[Any]) -> tuple[Any, str | None]:
        """What of the record is kept in its row, or why there is nothing to read."""
        if row.error_code.startswith("detail"):
            return None, ASKED_BY_SYNC
        try:
            payload = self._warehouse.sealing.open(row.id, row.payload, row.sealed_with)
        except MedscribeError as error:
            return None, error.code
        # What has no id may be a `null` as it came.
        return payload, NO_PAYLOAD if payload is None and row.error_code != NO_ID else None

    def _open_again(self, ids: Sequence[str]) -> None:
        """What a person put aside waits again, if it still cannot be read."""
        self._connection.execute(
            sa.update(quarantine)
            .where(quarantine.c.id.in_(ids), quarantine.c.closed_by.is_not(None))
            .values(resolved_at=None, closed_by=None, closed_for=None)
        )

    def _parents(self, source_ids: Sequence[str]) -> dict[str, str]:
        """What the records hung on when they landed last, for those that do not say."""
        records = source_records.c
        provider, stream = self._name
        query = sa.select(records.source_id, records.parent_id).where(
            records.account == self._warehouse.account,
            records.provider == provider,
            records.stream == stream,
            records.source_id.in_(source_ids),
            records.parent_id.is_not(None),
        )
        return dict(self._connection.execute(query).all())


def _problem(row: sa.Row[Any], payload: Any, misfit: Misfit, source_id: str | None = None) -> Problem:
    return Problem(
        source_id=source_id or row.source_id,
        code=misfit.code,
        field_paths=misfit.paths,
        payload=payload,
        payload_hash=row.payload_hash,
    )
