"""Landing: what a page brought, its cursor and its quarantine go in together, or not at all."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.warehouse.among import among
from medscribe_pipeline.warehouse.arrivals import Content, Cursor, Known, Landed
from medscribe_pipeline.warehouse.days import mark_changed
from medscribe_pipeline.warehouse.landed_rows import LandedRows
from medscribe_pipeline.warehouse.quarantine import (
    quarantine_id,
    resolve_quarantine,
    write_quarantine,
)
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import (
    change_counter,
    quarantine,
    source_records,
    sync_cursor_history,
    sync_cursors,
)
from medscribe_pipeline.warehouse.writing import insert

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from medscribe_pipeline.warehouse.arrivals import Problem, SourceRecord
    from medscribe_pipeline.warehouse.days import DayRule
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Landing"]


_COUNTER = sa.select(change_counter.c.value).with_for_update()
_COUNT = sa.update(change_counter)


class Landing:
    """Writes one stream of one provider.

    Args:
        warehouse: Where to.
        provider: Provider name.
        stream: Stream the rows belong to.
        days: How instants become visit days.
        run_id: The Dagster run, for the record.
        cursor_stream: Name of the cursor, where a stream has more than one. Default: the stream.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        provider: str,
        stream: str,
        *,
        days: DayRule,
        run_id: str | None = None,
        cursor_stream: str | None = None,
    ) -> None:
        self.warehouse = warehouse
        self.provider = provider
        self.stream = stream
        self._days = days
        self._run_id = run_id
        self._cursor_stream = cursor_stream or stream
        self._there = LandedRows(warehouse.account, provider, stream)
        self._has_problems: bool | None = None

    def cursor(self) -> Cursor:
        """Where the last sync stood; an empty cursor before the first."""
        query = sa.select(sync_cursors.c.watermark, sync_cursors.c.signpost).where(*self._cursor_key())
        with self.warehouse.read() as connection:
            row = connection.execute(query).one_or_none()
        return Cursor(*row) if row else Cursor()

    def count(self) -> int:
        """How many records of the stream have landed."""
        with self.warehouse.read() as connection:
            return connection.scalar(sa.select(sa.func.count()).where(*self._record_key())) or 0

    def known(self, source_ids: Sequence[str]) -> dict[str, Known]:
        """For each id already here, what its list item was when it was last seen: landed or waiting in quarantine.

        Records quarantined because the provider did not answer (`detail_*`) are not known: they are tried again. Nor
        are those that were gone, or whose payload is missed: if they are listed, they land. What a person has put
        aside is known, and counts as unchanged.
        """
        known: dict[str, Known] = {}
        forgotten: dict[str, Known] = {}
        with self.warehouse.read() as connection:
            for key, seen, forgotten_at in self._there.list_items(connection, source_ids):
                into = known if forgotten_at is None else forgotten
                into[key] = Known(seen, forgotten=forgotten_at is not None)
            if self._may_have_problems(connection):
                keys = [self._quarantine_id(source_id) for source_id in source_ids]
                problems = self._there.problems(connection, keys)
                known.update((key, Known(seen, quarantined=bool(waits))) for key, seen, waits in problems)
        return known | forgotten

    def _may_have_problems(self, connection: sa.Connection) -> bool:
        """Whether anything of this stream ever went to quarantine, as far as was known when we looked first.

        As a rule nothing has, and then nothing need be looked up for every page. What somebody else puts there while
        this stream is read is tried once more and written to the row it has: that does no harm.
        """
        if self._has_problems is None:
            found = sa.select(quarantine.c.id).where(*self._quarantine_key()).limit(1)
            self._has_problems = connection.execute(found).first() is not None
        return self._has_problems

    def waiting_for_detail(self, limit: int) -> list[tuple[str, Any]]:
        """Quarantined records the provider did not answer for, longest waiting first: id and list item.

        Those whose key is gone are left out: nobody can tell what was listed. They are asked for when they are listed
        again.
        """
        sealing = self.warehouse.sealing
        table = quarantine.c
        query = (
            sa.select(table.id, table.source_id, table.payload, table.sealed_with)
            .where(
                *self._quarantine_key(),
                table.resolved_at.is_(None),
                table.error_code.like("detail%"),
                sa.or_(table.sealed_with.is_(None), table.sealed_with.in_(sealing.key_ids)),
            )
            .order_by(table.last_seen_at)
            .limit(limit)
        )
        waiting: list[tuple[str, Any]] = []
        with self.warehouse.read() as connection:
            for row_id, source_id, stored, sealed_with in connection.execute(query):
                with suppress(MedscribeError):
                    waiting.append((source_id, sealing.open(row_id, stored, sealed_with)))
        return waiting

    def land(
        self, records: Sequence[SourceRecord], problems: Sequence[Problem], cursor: Cursor | None, *, now: datetime
    ) -> Landed:
        """Writes one page in one transaction: rows, quarantine, touched days and cursor.

        Args:
            records: New or changed records; of several with one id the last counts.
            problems: Records that did not fit.
            cursor: Where the stream stands after this page, or `None` to leave it.
            now: The current time.
        """
        if not records and not problems and cursor is None:
            return Landed()
        landed = Landed()
        with self.warehouse.begin() as connection:
            if records:
                self._land_records(connection, {record.source_id: record for record in records}, landed, now)
            if problems:
                landed.quarantined = self._quarantine(connection, problems, now)
            if cursor is not None:
                row = {**self._names(self._cursor_stream), "moved_at": now, "run_id": self._run_id}
                row |= {"watermark": cursor.watermark, "signpost": cursor.signpost}
                self.warehouse.upsert(connection, sync_cursors, [row], not_older_by="watermark")
        return landed

    def record_history(self, before: Cursor, *, now: datetime) -> Cursor:
        """Writes the cursor's place into the history if this sync moved it; returns where it stands."""
        after = self.cursor()
        if after != before:
            with self.warehouse.begin() as connection:
                row = {**self._names(self._cursor_stream), "moved_at": now, "run_id": self._run_id}
                connection.execute(
                    sa.insert(sync_cursor_history).values(**row, watermark=after.watermark, signpost=after.signpost)
                )
        return after

    def _land_records(
        self, connection: sa.Connection, records: dict[str, SourceRecord], landed: Landed, now: datetime
    ) -> None:
        # Locking the counter first makes landing transactions follow each other, so that what is read below is
        # still true when it is written, and change_seq rises in commit order.
        sequence = connection.scalar(_COUNTER) or 0
        existing = self._existing(connection, list(records))
        manifest, parents = self._visit_facts(connection, records)
        rows: list[dict[str, Any]] = []
        settled: list[str] = []
        adopted: dict[str, int] = {}
        touched: dict[date, int] = {}
        for source_id, record in records.items():
            content = record.content or Content.of(record.payload)
            old = existing.get(source_id)
            if old is not None and old.forgotten_at is not None:
                continue
            if old is not None and _is_older(record, old):
                landed.stale += 1
                continue
            settled.append(source_id)
            same = old is not None and old.content_hash == content.hash and not old.wanted_again
            if same and old is not None and old.list_hash == record.list_hash:
                landed.unchanged += 1
                continue
            if same:
                # Announced by another item than last time (a webhook, not the list), and the same: nothing to build.
                connection.execute(
                    sa.update(source_records)
                    .where(*self._record_key(), source_records.c.source_id == source_id)
                    .values(list_hash=record.list_hash)
                )
                landed.unchanged += 1
                continue
            sequence += 1
            started_at = manifest.get(record.parent_id or source_id) or manifest.get(source_id)
            day = (
                self._days.day(started_at, now=now)
                if started_at
                else parents.get(record.parent_id or "")
                or self._days.day(record.visited_at or record.updated_at or record.fetched_at, now=now)
            )
            if old is None:
                landed.new += 1
            else:
                landed.changed += 1
                touched[old.visit_day] = sequence
            touched[day] = sequence
            if record.parent_id is not None and (old is None or old.parent_id != record.parent_id):
                adopted[record.parent_id] = sequence
            rows.append(
                {
                    **self._names(self.stream),
                    "source_id": source_id,
                    "payload": content.written,
                    "content_hash": content.hash,
                    "list_hash": record.list_hash,
                    "source_updated_at": record.updated_at,
                    "fetched_at": record.fetched_at,
                    "visit_day": day,
                    "parent_id": record.parent_id,
                    "change_seq": sequence,
                    "run_id": self._run_id,
                    "gone_at": None,
                    "payload_removed_at": None,
                }
            )
        # Nobody else enters records: whoever does holds the counter.
        insert(connection, source_records, [row for row in rows if row["source_id"] not in existing])
        self.warehouse.upsert(connection, source_records, [row for row in rows if row["source_id"] in existing])
        for day, seq in (
            *self._touch_children(connection, {row["source_id"]: row for row in rows}),
            *self._touch_parents(connection, adopted),
        ):
            touched[day] = max(seq, touched.get(day, 0))
        if rows:
            connection.execute(_COUNT, {"value": sequence})
        mark_changed(self.warehouse, connection, touched)
        landed.days |= set(touched)
        resolve_quarantine(connection, [self._quarantine_id(source_id) for source_id in settled], now)

    def _existing(self, connection: sa.Connection, source_ids: list[str]) -> dict[str, sa.Row[Any]]:
        return {row.source_id: row for row in self._there.records(connection, source_ids)}

    def _visit_facts(
        self, connection: sa.Connection, records: dict[str, SourceRecord]
    ) -> tuple[dict[str, datetime], dict[str, date]]:
        """When the manifest says the visits were, and the visit days of the records these hang on."""
        parent_ids = sorted({record.parent_id for record in records.values() if record.parent_id})
        manifest: dict[str, datetime] = dict(self._there.started_at(connection, [*records, *parent_ids]))
        return manifest, dict(self._there.parents(connection, parent_ids))

    def _touch_children(self, connection: sa.Connection, rows: dict[str, dict[str, Any]]) -> list[tuple[date, int]]:
        """A changed parent (an audio that was validated, archived, moved) makes the notes that hang on it due."""
        touched: list[tuple[date, int]] = []
        for stream, source_id, parent_id, day in self._there.children(connection, list(rows)):
            parent = rows[parent_id]
            seq = parent["change_seq"]
            touched += [(day, seq), (parent["visit_day"], seq)]
            connection.execute(
                sa.update(source_records)
                .where(*self._family(), source_records.c.stream == stream, source_records.c.source_id == source_id)
                .values(visit_day=parent["visit_day"], change_seq=seq)
            )
        return touched

    def _touch_parents(self, connection: sa.Connection, adopted: dict[str, int]) -> list[tuple[date, int]]:
        """A record that found its first children (an audio whose note arrived) is mapped again: its text is there now.

        It has not changed itself, so its change_seq stays.
        """
        touched: list[tuple[date, int]] = []
        for chunk in in_chunks(list(adopted)):
            parents = (
                *self._family(),
                among(connection, source_records.c.source_id, chunk),
                source_records.c.parent_id.is_(None),
            )
            query = sa.select(source_records.c.source_id, source_records.c.visit_day).where(*parents)
            touched += [(day, adopted[parent]) for parent, day in connection.execute(query)]
            connection.execute(sa.update(source_records).where(*parents).values(mapped_seq=None))
        return touched

    def _family(self) -> tuple[sa.ColumnElement[bool], ...]:
        """Records of this provider in any stream: parents and children live in different ones."""
        return (source_records.c.account == self.warehouse.account, source_records.c.provider == self.provider)

    def _quarantine(self, connection: sa.Connection, problems: Sequence[Problem], now: datetime) -> int:
        """Opens or renews quarantine rows; returns how many are new or different from before."""
        rows = {}
        self._has_problems = True
        existing = self._existing(connection, [problem.source_id for problem in problems])
        for problem in problems:
            if problem.source_id in existing and existing[problem.source_id].forgotten_at is not None:
                continue
            key = self._quarantine_id(problem.source_id)
            rows[key] = {
                "id": key,
                **self._names(self.stream),
                "stage": "extract",
                "source_id": problem.source_id,
                "error_code": problem.code,
                "field_paths": list(problem.field_paths),
                "payload": problem.payload,
                "payload_hash": problem.payload_hash,
                "attempts": 1,
                "first_seen_at": now,
                "last_seen_at": now,
                "resolved_at": None,
                "run_id": self._run_id,
            }
        return write_quarantine(self.warehouse, connection, list(rows.values())).fresh

    def _quarantine_id(self, source_id: str) -> str:
        return quarantine_id(self.warehouse.account, "extract", self.provider, self.stream, source_id)

    def _names(self, stream: str) -> dict[str, Any]:
        return {"account": self.warehouse.account, "provider": self.provider, "stream": stream}

    def _record_key(self) -> tuple[sa.ColumnElement[bool], ...]:
        return tuple(source_records.c[name] == value for name, value in self._names(self.stream).items())

    def _cursor_key(self) -> tuple[sa.ColumnElement[bool], ...]:
        return tuple(sync_cursors.c[name] == value for name, value in self._names(self._cursor_stream).items())

    def _quarantine_key(self) -> tuple[sa.ColumnElement[bool], ...]:
        names = self._names(self.stream)
        return (
            *(quarantine.c[name] == value for name, value in names.items()),
            quarantine.c.stage == "extract",
        )


def _is_older(record: SourceRecord, old: sa.Row[Any]) -> bool:
    """Whether what came is older than what is there: by the provider's clock, or else by when we asked.

    What was asked for before the record was found to be gone is older than that, whatever it says.
    """
    if old.gone_at is not None and record.fetched_at <= old.gone_at:
        return True
    if (
        record.updated_at is not None
        and old.source_updated_at is not None
        and record.updated_at != old.source_updated_at
    ):
        return bool(record.updated_at < old.source_updated_at)
    return bool(record.fetched_at < old.fetched_at)
