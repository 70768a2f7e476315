"""The queries behind a day's report: each one statement, indexed by account and day."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.operation.delays import delay_of
from medscribe_pipeline.warehouse.days import outdated
from medscribe_pipeline.warehouse.reports import MARKERS
from medscribe_pipeline.warehouse.tables import (
    deliveries,
    fhir_documents,
    inbox,
    notes,
    quarantine,
    scribe_jobs,
    source_records,
    visit_days,
    visits,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from medscribe_pipeline.operation.delays import Delay

__all__ = ["DayCounts"]


class DayCounts:
    """Counts one visit day of an account, within one view of the warehouse.

    Args:
        connection: From `Warehouse.read`.
        account: The account.
        day: The visit day.
        starts_at: Its first moment.
        ends_at: The first moment after it.
    """

    def __init__(
        self, connection: sa.Connection, account: str, day: date, starts_at: datetime, ends_at: datetime
    ) -> None:
        self._connection = connection
        self._account = account
        self._day = day
        self._starts_at = starts_at
        self._ends_at = ends_at

    def records(self) -> list[Any]:
        """Landed records by (provider, outcome, code, count); `waiting` is the outcome of what is not mapped yet."""
        row = source_records.c
        current = row.mapped_seq == row.change_seq
        outcome = sa.case((current, row.outcome), else_="waiting")
        return self._grouped(
            row.provider, outcome, sa.case((current, row.outcome_code)), where=self._of(source_records)
        )

    def expected(self, providers: Sequence[str]) -> list[Any]:
        """Visits the manifest names for the day, of providers that are listed, of which nothing landed; by provider."""
        shown = (
            sa.select(source_records.c.source_id)
            .where(
                source_records.c.account == visits.c.account,
                source_records.c.provider == visits.c.provider,
                sa.or_(
                    source_records.c.source_id == visits.c.correlation_key,
                    source_records.c.parent_id == visits.c.correlation_key,
                ),
            )
            .exists()
        )
        where = [visits.c.account == self._account, visits.c.provider.in_(providers), ~shown]
        return self._grouped(visits.c.provider, where=[*where, *self._within(visits.c.started_at)])

    def notes(self) -> list[Any]:
        """Notes by (provider, state, what became of their documents, count)."""
        return self._grouped(notes.c.provider, notes.c.state, self._stage(), where=self._of(notes))

    def deliveries(self, target: str) -> list[Any]:
        """Notes with documents by (provider, state, reason, count) on a target; `planned` is what it has not seen."""
        # A unit has a row for each kind of document, all in one state and for one reason.
        unit = (
            sa.select(deliveries.c.note_id, deliveries.c.version, deliveries.c.state, deliveries.c.reason)
            .where(deliveries.c.account == self._account, deliveries.c.target == target)
            .distinct()
            .subquery()
        )
        state = sa.func.coalesce(unit.c.state, "planned")
        source = notes.outerjoin(unit, sa.and_(unit.c.note_id == notes.c.note_id, unit.c.version == notes.c.version))
        where = [*self._of(notes), self._stage() == "documents"]
        return self._grouped(notes.c.provider, state, unit.c.reason, where=where, source=source)

    def older_unknown(self, target: str) -> list[Any]:
        """Notes by (provider, reason, count) of which nobody knows whether an older version arrived on a target."""
        source = deliveries.join(notes, notes.c.note_id == deliveries.c.note_id)
        where = [
            *self._of(notes),
            deliveries.c.target == target,
            deliveries.c.version != notes.c.version,
            deliveries.c.state == "unknown",
        ]
        count = sa.func.count(sa.distinct(notes.c.note_id))
        return self._grouped(notes.c.provider, deliveries.c.reason, where=where, source=source, count=count)

    def is_outdated(self, fingerprint: str) -> bool:
        """Whether the day is to be built again."""
        query = sa.select(visit_days.c.visit_day).where(*self._of(visit_days), outdated(fingerprint))
        return self._connection.execute(query).first() is not None

    def quarantine(self) -> list[Any]:
        """Open rows by (provider, whether they are surely of the day, code, count).

        What could not even be read has no day. Of the day it can only be if it was first seen after that had begun.
        """
        row = quarantine.c
        of_day = sa.case((row.visit_day == self._day, 1), else_=0)
        maybe = sa.and_(row.visit_day.is_(None), row.first_seen_at >= self._starts_at)
        where = [row.account == self._account, row.resolved_at.is_(None), sa.or_(row.visit_day == self._day, maybe)]
        return self._grouped(row.provider, of_day, row.error_code, where=where)

    def jobs(self) -> list[Any]:
        """Jobs by (provider, state, code, whether it only shows why there is none, count).

        A job is of the day of its visit, or of the day it was wanted where the manifest does not say.
        """
        row = scribe_jobs.c
        of_visit = sa.and_(
            visits.c.account == row.account,
            visits.c.provider == row.provider,
            visits.c.correlation_key == row.correlation_key,
        )
        marker = sa.case((sa.and_(row.state == "cancelled", row.step.in_(MARKERS)), 1), else_=0)
        when = sa.func.coalesce(visits.c.started_at, row.wanted_at)
        return self._grouped(
            row.provider,
            row.state,
            row.code,
            marker,
            where=[row.account == self._account, *self._within(when)],
            source=scribe_jobs.outerjoin(visits, of_visit),
        )

    def events(self) -> list[Any]:
        """Events that wait in the inbox, and came after the day had begun, by provider."""
        row = inbox.c
        where = [row.account == self._account, row.processed_at.is_(None), row.received_at >= self._starts_at]
        return self._grouped(row.provider, where=where)

    def delays(self, targets: Sequence[str]) -> list[Delay]:
        """How long the notes of the day took from each place to the next; of those that got there."""
        found: dict[str, list[float]] = defaultdict(list)
        for row in self._connection.execute(self._times()):
            seen_at = row.ended_at or row.started_at or row.created_at
            _add(found["visit_landed"], seen_at, row.fetched_at)
            _add(found["landed_note"], row.fetched_at, row.mapped_at)
            _add(found["visit_validated"], seen_at, row.validated_at)
        for target in targets:
            for row in self._connection.execute(self._times(target)):
                seen_at = row.ended_at or row.started_at or row.created_at
                _add(found[f"validated_delivered:{target}"], row.validated_at, row.settled_at)
                _add(found[f"visit_delivered:{target}"], seen_at, row.settled_at)
        return [delay for name, seconds in found.items() if (delay := delay_of(name, seconds)) is not None]

    def _times(self, target: str | None = None) -> sa.Select[Any]:
        """When each note of the day was where; with a target, only of those it has."""
        columns = [notes.c[name] for name in ("ended_at", "started_at", "created_at", "mapped_at", "validated_at")]
        if target is None:
            record = sa.and_(
                *(source_records.c[name] == notes.c[name] for name in ("account", "provider", "stream", "source_id"))
            )
            query = sa.select(*columns, source_records.c.fetched_at).join_from(notes, source_records, record)
        else:
            there = (
                sa.select(deliveries.c.note_id, deliveries.c.version, sa.func.max(deliveries.c.settled_at).label("at"))
                .where(deliveries.c.target == target, deliveries.c.state == "delivered")
                .group_by(deliveries.c.note_id, deliveries.c.version)
                .subquery()
            )
            of_note = sa.and_(there.c.note_id == notes.c.note_id, there.c.version == notes.c.version)
            query = sa.select(*columns, there.c.at.label("settled_at")).join_from(notes, there, of_note)
        return query.where(*self._of(notes), notes.c.state != "retracted")

    @staticmethod
    def _stage() -> sa.ColumnElement[str]:
        """What became of a note's documents; written documents count whatever mapping they were built with."""
        built = sa.and_(
            *(
                sa.select(fhir_documents.c.note_id)
                .where(
                    fhir_documents.c.note_id == notes.c.note_id,
                    fhir_documents.c.version == notes.c.version,
                    fhir_documents.c.kind == kind,
                )
                .exists()
                for kind in ("Composition", "DocumentReference")
            )
        )
        quarantined = (
            sa.select(quarantine.c.id)
            .where(
                quarantine.c.account == notes.c.account,
                quarantine.c.stage == "fhir",
                quarantine.c.resolved_at.is_(None),
                *(quarantine.c[name] == notes.c[name] for name in ("provider", "stream", "source_id")),
            )
            .exists()
        )
        wordless = sa.and_(notes.c.state != "retracted", ~notes.c.has_text)
        return sa.case(
            (built, "documents"),
            (sa.or_(notes.c.state == "failed", wordless), "none"),
            (quarantined, "quarantined"),
            else_="waiting",
        )

    def _of(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        return [table.c.account == self._account, table.c.visit_day == self._day]

    def _within(self, moment: sa.ColumnElement[datetime]) -> list[sa.ColumnElement[bool]]:
        return [moment >= self._starts_at, moment < self._ends_at]

    def _grouped(
        self,
        *columns: sa.ColumnElement[Any],
        where: Sequence[sa.ColumnElement[bool]],
        source: sa.FromClause | None = None,
        count: sa.ColumnElement[int] = sa.func.count(),  # noqa: B008 - an expression, which nothing changes
    ) -> list[Any]:
        # Labelled and grouped by position: PostgreSQL takes two bound copies of one expression for two expressions.
        named = [column.label(f"c{number}") for number, column in enumerate(columns)]
        counted = sa.select(*named, count)
        inner = (counted if source is None else counted.select_from(source)).where(*where)
        places: list[sa.ColumnElement[Any]] = [sa.literal_column(str(number)) for number in range(1, len(named) + 1)]
        return list(self._connection.execute(inner.group_by(*places).order_by(*places)))


def _add(found: list[float], before: datetime | None, after: datetime | None) -> None:
    if before is not None and after is not None:
        found.append((after - before).total_seconds())
