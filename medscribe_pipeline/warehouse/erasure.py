"""Erasure: what a person said, was told and is called by is removed; that there was something stays.

Removed are texts, payloads, titles, identifiers, times. Kept are our own ids, the provider's ids of records, visit
days, hashes, codes and the delivery ledger: what is in an EHR must stay traceable. Rows of records and visits are
marked, so that neither a sync nor an import brings back what was in them.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from medscribe_pipeline.warehouse.audit import note_access
from medscribe_pipeline.warehouse.days import mark_changed
from medscribe_pipeline.warehouse.retention import NO_PAYLOAD
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import (
    change_counter,
    ehr_references,
    fhir_documents,
    inbox,
    note_sections,
    notes,
    notes_history,
    quarantine,
    scribe_jobs,
    source_records,
    sweep_sightings,
    transcripts,
    visits,
)
from medscribe_pipeline.warehouse.tombstones import PAYLOAD_REMOVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date, datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["FORGOTTEN", "RecordKey", "Scope", "allow_again", "forget", "overwrite_free_space"]

FORGOTTEN = "forgotten"
"""Code of what was forgotten: a record, an event, a job."""

_NOTE_FACTS = (
    *("title", "language", "template", "patient_system", "patient_id", "practitioner", "encounter_system"),
    *("encounter_id", "specialty", "started_at", "ended_at", "created_at", "updated_at", "validated_at"),
)
_KEPT_OF_VISITS = frozenset({"account", "provider", "correlation_key", "imported_at", "forgotten_at"})
_ENDED_JOBS = ("fetched", "failed", "expired", "cancelled")


class RecordKey(NamedTuple):
    """A record, within the account."""

    provider: str
    stream: str
    source_id: str


@dataclass(slots=True)
class Scope:
    """What is to be forgotten, by the keys of each table.

    Attributes:
        notes: Note ids.
        records: Landed records, and those that only wait in quarantine.
        visits: Provider and correlation key.
        jobs: Provider and job key.
        events: Provider and event id.
        problems: Quarantine ids.
        references: Target, kind, system and value.
        unreadable: Rows of the quarantine whose payload is sealed with a key that is not there: nobody can tell.
    """

    notes: set[str] = field(default_factory=set, repr=False)
    records: set[RecordKey] = field(default_factory=set, repr=False)
    visits: set[tuple[str, str]] = field(default_factory=set, repr=False)
    jobs: set[tuple[str, str]] = field(default_factory=set, repr=False)
    events: set[tuple[str, str]] = field(default_factory=set, repr=False)
    problems: set[str] = field(default_factory=set, repr=False)
    references: set[tuple[str, str, str, str]] = field(default_factory=set, repr=False)
    unreadable: int = 0


class _UndoneError(Exception):
    """Takes a dry run back."""


def forget(warehouse: Warehouse, scope: Scope, *, now: datetime, who: str, dry_run: bool = False) -> dict[str, int]:
    """Forgets everything in `scope`, in one transaction, and writes down who did it.

    Args:
        warehouse: The warehouse.
        scope: What; see `providers.person`.
        now: The current time.
        who: See `audit.current_user`.
        dry_run: Do it all, count, and take it back.

    Returns:
        How many rows of each table lost something, by table name.
    """
    counts: dict[str, int] = {}
    with suppress(_UndoneError), warehouse.begin() as connection:
        if connection.dialect.name == "sqlite":
            # What is deleted or replaced is overwritten, and not only marked as free.
            connection.exec_driver_sql("PRAGMA secure_delete=ON")
        erasure = _Erasure(warehouse, connection, now)
        counts = erasure.run(scope)
        for subject in sorted(scope.notes) or ["records"]:
            note_access(connection, warehouse.account, "forget", subject, now, who)
        if dry_run:
            raise _UndoneError
    return counts


def allow_again(warehouse: Warehouse, note_id: str, *, now: datetime, who: str) -> int:
    """Lets the records of a forgotten note come back with the next sync that lists them.

    Returns:
        How many records may come back; 0 where nothing of that note was forgotten.
    """
    with warehouse.begin() as connection:
        note = connection.execute(
            sa.select(notes).where(notes.c.account == warehouse.account, notes.c.note_id == note_id)
        ).one_or_none()
        if note is None or note.forgotten_at is None:
            return 0
        own = (source_records.c.account == warehouse.account, source_records.c.provider == note.provider)
        record = (source_records.c.stream == note.stream, source_records.c.source_id == note.source_id)
        parent = connection.scalar(sa.select(source_records.c.parent_id).where(*own, *record))
        whole = sa.or_(sa.and_(*record), source_records.c.source_id == parent) if parent else sa.and_(*record)
        back = connection.execute(
            sa.update(source_records)
            .where(*own, whole, source_records.c.forgotten_at.is_not(None))
            .values(forgotten_at=None, content_hash="", list_hash="", outcome_code=PAYLOAD_REMOVED)
        ).rowcount
        keys = [key for key in (note.source_id, parent) if key]
        connection.execute(
            sa.update(visits)
            .where(
                visits.c.account == warehouse.account,
                visits.c.provider == note.provider,
                visits.c.correlation_key.in_(keys),
            )
            .values(forgotten_at=None)
        )
        connection.execute(sa.update(notes).where(notes.c.note_id == note_id).values(forgotten_at=None))
        note_access(connection, warehouse.account, "forget_undone", note_id, now, who)
    return back


def overwrite_free_space(warehouse: Warehouse, *, wait_s: float = 10.0) -> bool | None:
    """Makes a SQLite file hold nothing but what is in its tables.

    Earlier versions of rows live on in pages that are free, and in the file beside it, until these are written anew.

    Args:
        warehouse: The warehouse.
        wait_s: How long to wait for others that read or write.

    Returns:
        Whether it was done; `False` while somebody else reads or writes, `None` on another database.
    """
    if warehouse.engine.dialect.name != "sqlite":
        return None
    with closing(warehouse.engine.raw_connection()) as raw:
        (usual_ms,) = raw.execute("PRAGMA busy_timeout").fetchone()
        raw.execute(f"PRAGMA busy_timeout={int(wait_s * 1000)}")
        try:
            raw.execute("VACUUM")
            busy, _, _ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError:
            return False
        finally:
            raw.execute(f"PRAGMA busy_timeout={usual_ms}")
    return not busy


class _Erasure:
    """One erasure, inside a transaction."""

    def __init__(self, warehouse: Warehouse, connection: sa.Connection, now: datetime) -> None:
        self._warehouse = warehouse
        self._connection = connection
        self._now = now

    def run(self, scope: Scope) -> dict[str, int]:
        """Erases; returns rows by table."""
        sequence = (self._connection.scalar(sa.select(change_counter.c.value).with_for_update()) or 0) + 1
        days = self._days(scope.notes)
        self._mark_unlanded(scope)
        note_ids = sorted(scope.notes)
        counts = {
            "source_records": self._records(scope.records),
            "notes": self._notes(note_ids),
            **{
                table.name: sum(
                    self._connection.execute(sa.delete(table).where(table.c.note_id.in_(chunk))).rowcount
                    for chunk in in_chunks(note_ids)
                )
                for table in (note_sections, transcripts, fhir_documents, notes_history)
            },
            "quarantine": self._problems(sorted(scope.problems)),
            "inbox": self._events(scope.events),
            "scribe_jobs": self._jobs(scope.jobs),
            "visits": self._visits(scope.visits),
            "ehr_references": self._references(scope.references),
        }
        if days:
            # What was planned for delivery has no documents any more: the next run of the day sees that.
            self._connection.execute(sa.update(change_counter).values(value=sequence))
            mark_changed(self._warehouse, self._connection, dict.fromkeys(days, sequence))
        return counts

    def _days(self, note_ids: Iterable[str]) -> set[date]:
        return {
            day
            for chunk in in_chunks(sorted(note_ids))
            for day in self._connection.scalars(sa.select(notes.c.visit_day).where(notes.c.note_id.in_(chunk)))
        }

    def _mark_unlanded(self, scope: Scope) -> None:
        """Records that wait in quarantine and never landed get a row all the same: it is what keeps them away."""
        rows = []
        for chunk in in_chunks(sorted(scope.problems)):
            for problem in self._connection.execute(sa.select(quarantine).where(quarantine.c.id.in_(chunk))):
                rows.append(
                    {
                        "account": self._warehouse.account,
                        "provider": problem.provider,
                        "stream": problem.stream,
                        "source_id": problem.source_id,
                        "payload": NO_PAYLOAD,
                        "content_hash": problem.payload_hash,
                        "list_hash": problem.payload_hash,
                        "fetched_at": problem.last_seen_at,
                        "visit_day": problem.visit_day or problem.first_seen_at.date(),
                        "change_seq": 0,
                    }
                )
                scope.records.add(RecordKey(problem.provider, problem.stream, problem.source_id))
        for row in {tuple(row[name] for name in ("provider", "stream", "source_id")): row for row in rows}.values():
            own = [source_records.c[name] == row[name] for name in ("account", "provider", "stream", "source_id")]
            if self._connection.execute(sa.select(source_records.c.source_id).where(*own)).first() is None:
                self._connection.execute(sa.insert(source_records).values(**row))

    def _records(self, records: Iterable[RecordKey]) -> int:
        removed = {
            "payload": NO_PAYLOAD,
            "payload_removed_at": self._now,
            "forgotten_at": self._now,
            "outcome": "held",
            "outcome_code": FORGOTTEN,
            "mapped_seq": source_records.c.change_seq,
        }
        count = 0
        for provider, stream, chunk in _grouped(records):
            own = (source_records.c.account == self._warehouse.account, source_records.c.provider == provider)
            listed = source_records.c.source_id.in_(chunk)
            statement = sa.update(source_records).where(*own, source_records.c.stream == stream, listed)
            count += self._connection.execute(statement.values(**removed)).rowcount
            self._connection.execute(
                sa.delete(sweep_sightings).where(
                    sweep_sightings.c.account == self._warehouse.account,
                    sweep_sightings.c.provider == provider,
                    sweep_sightings.c.stream == stream,
                    sweep_sightings.c.source_id.in_(chunk),
                )
            )
        return count

    def _notes(self, note_ids: Sequence[str]) -> int:
        removed = {**dict.fromkeys(_NOTE_FACTS), "has_text": False, "forgotten_at": self._now}
        return sum(
            self._connection.execute(
                sa.update(notes)
                .where(notes.c.account == self._warehouse.account, notes.c.note_id.in_(chunk))
                .values(**removed)
            ).rowcount
            for chunk in in_chunks(note_ids)
        )

    def _problems(self, ids: Sequence[str]) -> int:
        removed = {
            "payload": None,
            "sealed_with": None,
            "closed_by": None,
            "closed_for": None,
            "resolved_at": sa.func.coalesce(
                quarantine.c.resolved_at, sa.literal(self._now, quarantine.c.resolved_at.type)
            ),
        }
        return sum(
            self._connection.execute(
                sa.update(quarantine)
                .where(quarantine.c.account == self._warehouse.account, quarantine.c.id.in_(chunk))
                .values(**removed)
            ).rowcount
            for chunk in in_chunks(ids)
        )

    def _events(self, events: Iterable[tuple[str, str]]) -> int:
        done = sa.func.coalesce(inbox.c.processed_at, sa.literal(self._now, inbox.c.processed_at.type))
        return sum(
            self._connection.execute(
                sa.update(inbox)
                .where(
                    inbox.c.account == self._warehouse.account,
                    inbox.c.provider == provider,
                    inbox.c.event_id == event_id,
                )
                .values(payload=NO_PAYLOAD, code=FORGOTTEN, processed_at=done)
            ).rowcount
            for provider, event_id in sorted(events)
        )

    def _jobs(self, jobs: Iterable[tuple[str, str]]) -> int:
        """A job that is under way is over for us: what it brings is not taken in."""
        ended = scribe_jobs.c.state.in_(_ENDED_JOBS)
        removed: dict[str, Any] = {
            "request": NO_PAYLOAD,
            "state": sa.case((ended, scribe_jobs.c.state), else_="cancelled"),
            "settled_at": sa.func.coalesce(
                scribe_jobs.c.settled_at, sa.literal(self._now, scribe_jobs.c.settled_at.type)
            ),
            "code": FORGOTTEN,
            "next_poll_at": None,
            "claimed_by": None,
        }
        return sum(
            self._connection.execute(
                sa.update(scribe_jobs)
                .where(
                    scribe_jobs.c.account == self._warehouse.account,
                    scribe_jobs.c.provider == provider,
                    scribe_jobs.c.job_key == job_key,
                )
                .values(**removed)
            ).rowcount
            for provider, job_key in sorted(jobs)
        )

    def _visits(self, keys: Iterable[tuple[str, str]]) -> int:
        removed: dict[str, Any] = {column.name: None for column in visits.columns if column.name not in _KEPT_OF_VISITS}
        return sum(
            self._connection.execute(
                sa.update(visits)
                .where(
                    visits.c.account == self._warehouse.account,
                    visits.c.provider == provider,
                    visits.c.correlation_key == key,
                )
                .values(**removed, forgotten_at=self._now)
            ).rowcount
            for provider, key in sorted(keys)
        )

    def _references(self, references: Iterable[tuple[str, str, str, str]]) -> int:
        return sum(
            self._connection.execute(
                sa.delete(ehr_references).where(
                    ehr_references.c.account == self._warehouse.account,
                    *(
                        ehr_references.c[name] == value
                        for name, value in zip(("target", "kind", "system", "value"), key, strict=True)
                    ),
                )
            ).rowcount
            for key in sorted(references)
        )


def _grouped(records: Iterable[RecordKey]) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Source ids by provider and stream, a chunk at a time."""
    by_stream: dict[tuple[str, str], list[str]] = {}
    for record in sorted(records):
        by_stream.setdefault((record.provider, record.stream), []).append(record.source_id)
    for (provider, stream), ids in by_stream.items():
        for chunk in in_chunks(ids):
            yield provider, stream, chunk
