"""What the warehouse says about itself: the figures behind `medscribe status`, the demo's table and the checks.

Counts, codes and times only. Nothing here reads a payload, a section or an identifier of a patient.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.warehouse.cursors import is_mark
from medscribe_pipeline.warehouse.days import outdated
from medscribe_pipeline.warehouse.tables import (
    deliveries,
    fhir_documents,
    inbox,
    note_sections,
    notes,
    quarantine,
    scribe_jobs,
    source_records,
    sync_cursors,
    visit_days,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import date, datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = [
    "CursorStatus",
    "DayBalance",
    "ProviderStatus",
    "Status",
    "TargetStatus",
    "day_balances",
    "duplicates",
    "orphans",
    "read_status",
]


MARKERS = ("visit", "follow_up")
"""Steps of what never became a job: a visit that cannot be worked on, a result that cannot be followed up."""


@dataclass(slots=True)
class TargetStatus:
    """Where the newest versions of one provider's notes stand on one target.

    `deliveries` are documents by kind and state; `held` and `rejected` are notes by reason.
    """

    deliveries: Counter[tuple[str, str]] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class ProviderStatus:
    """Where one provider's records and jobs stand.

    Counters of documents and deliveries are by resource type and state, `jobs` by state and code (empty without one).
    `refused` are what never became a job, by what was wanted (`visit`, `follow_up`) and code. Deliveries are those to
    all targets; `targets` has them apart.
    """

    provider: str
    landed: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    held_records: Counter[str] = field(default_factory=Counter)
    documents: Counter[str] = field(default_factory=Counter)
    deliveries: Counter[tuple[str, str]] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[tuple[str, str]] = field(default_factory=Counter)
    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    targets: dict[str, TargetStatus] = field(default_factory=dict)

    def jobs_in(self, state: str) -> int:
        """Jobs in a state, whatever their code."""
        return sum(count for (each, _), count in self.jobs.items() if each == state)


@dataclass(frozen=True, slots=True)
class CursorStatus:
    """How far a stream was read."""

    provider: str
    stream: str
    watermark: datetime | None
    moved_at: datetime


@dataclass(slots=True)
class Status:
    """The whole picture of one account, and of its deliveries to `targets`."""

    account: str
    providers: dict[str, ProviderStatus] = field(default_factory=dict)
    cursors: list[CursorStatus] = field(default_factory=list)
    days: int = 0
    days_due: int = 0
    open_events: int = 0
    targets: tuple[str, ...] = ()

    @property
    def open_quarantine(self) -> int:
        """Quarantined records that wait for somebody."""
        return sum(status.quarantined.total() for status in self.providers.values())

    @property
    def troubled(self) -> int:
        """Deliveries that were refused, or whose outcome is not known; and jobs nobody knows the outcome of."""
        return sum(
            status.jobs_in("unknown")
            + sum(count for (_, state), count in status.deliveries.items() if state in ("rejected", "unknown"))
            for status in self.providers.values()
        )


@dataclass(frozen=True, slots=True)
class DayBalance:
    """One visit day's account: `landed` must equal the sum of the others."""

    day: date
    landed: int
    notes: int
    part: int
    held: int
    quarantined: int
    waiting: int

    @property
    def balanced(self) -> bool:
        """Whether every landed record is accounted for."""
        return self.landed == self.notes + self.part + self.held + self.quarantined + self.waiting


def read_status(warehouse: Warehouse, *, targets: Sequence[str], fingerprint: str, day: date | None = None) -> Status:
    """Reads the status of an account, of all days or of one, and of the deliveries to `targets`.

    Superseded versions of a delivery are left out of its counts: they are history, not work. Jobs and events of the
    inbox belong to no day: they are counted when no day is asked for.
    """
    status = Status(warehouse.account, targets=tuple(targets))
    with warehouse.read() as connection:
        counts = _Counts(connection, status, day)
        counts.records()
        counts.documents()
        counts.deliveries()
        counts.quarantine()
        if day is None:
            counts.jobs()
            waiting = sa.select(sa.func.count()).where(*counts.of(inbox), inbox.c.processed_at.is_(None))
            status.open_events = connection.scalar(waiting) or 0
        status.cursors = [
            CursorStatus(row.provider, row.stream, row.watermark, row.moved_at)
            for row in connection.execute(
                sa.select(sync_cursors)
                .where(sync_cursors.c.account == status.account, ~is_mark())
                .order_by(sync_cursors.c.provider, sync_cursors.c.stream)
            )
        ]
        days = sa.select(sa.func.count()).where(*counts.of(visit_days))
        status.days = connection.scalar(days) or 0
        status.days_due = connection.scalar(days.where(outdated(fingerprint))) or 0
    return status


class _Counts:
    """Fills a status, table by table, within one view of the warehouse."""

    def __init__(self, connection: sa.Connection, status: Status, day: date | None) -> None:
        self._connection = connection
        self._status = status
        self._day = day

    def records(self) -> None:
        records = source_records.c
        columns = (records.provider, records.stream, records.outcome, records.outcome_code)
        for name, stream, outcome, code, number in self._grouped(*columns, where=self.of(source_records)):
            self._provider(name).landed[stream] += number
            if outcome == "held":
                self._provider(name).held_records[code] += number
        for name, state, number in self._grouped(notes.c.provider, notes.c.state, where=self.of(notes)):
            self._provider(name).notes[state] += number

    def documents(self) -> None:
        source = fhir_documents.join(notes, notes.c.note_id == fhir_documents.c.note_id)
        columns = (notes.c.provider, fhir_documents.c.kind)
        for name, kind, number in self._grouped(*columns, where=self.of(fhir_documents), source=source):
            self._provider(name).documents[kind] += number

    def deliveries(self) -> None:
        ledger = deliveries.c
        source = deliveries.join(notes, notes.c.note_id == ledger.note_id)
        where = [*self.of(deliveries), ledger.target.in_(self._status.targets), ledger.version == notes.c.version]
        columns = (notes.c.provider, ledger.target, ledger.kind, ledger.state)
        for name, target, kind, state, number in self._grouped(*columns, where=where, source=source):
            for status in self._of_target(name, target):
                status.deliveries[kind, state] += number
        # A note has a row for each kind of document the target takes, all with the same reason.
        columns = (notes.c.provider, ledger.target, ledger.state, ledger.reason)
        stopped = [*where, ledger.state.in_(("held", "rejected"))]
        count = sa.func.count(sa.distinct(ledger.note_id))
        for name, target, state, reason, number in self._grouped(*columns, where=stopped, source=source, count=count):
            for status in self._of_target(name, target):
                (status.held if state == "held" else status.rejected)[reason or "?"] += number

    def quarantine(self) -> None:
        where = [*self.of(quarantine), quarantine.c.resolved_at.is_(None)]
        columns = (quarantine.c.provider, quarantine.c.stage, quarantine.c.error_code)
        for name, stage, code, number in self._grouped(*columns, where=where):
            self._provider(name).quarantined[stage, code] += number

    def jobs(self) -> None:
        jobs = scribe_jobs.c
        # The ledger shows what cannot be done as a cancelled job of such a step, never sent and with the reason.
        marker = sa.case((sa.and_(jobs.state == "cancelled", jobs.step.in_(MARKERS)), jobs.step), else_="")
        columns = (jobs.provider, marker, jobs.state, jobs.code)
        for name, wanted, state, code, number in self._grouped(*columns, where=self.of(scribe_jobs)):
            if wanted:
                self._provider(name).refused[wanted, code or "?"] += number
            else:
                self._provider(name).jobs[state, code or ""] += number

    def of(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        """The rows of the account, and of the day if one is asked for."""
        on_day = [table.c.visit_day == self._day] if self._day is not None else []
        return [table.c.account == self._status.account, *on_day]

    def _provider(self, name: str) -> ProviderStatus:
        return self._status.providers.setdefault(name, ProviderStatus(name))

    def _of_target(self, name: str, target: str) -> tuple[ProviderStatus, TargetStatus]:
        """What counts all targets, and what counts this one."""
        provider = self._provider(name)
        return provider, provider.targets.setdefault(target, TargetStatus())

    def _grouped(
        self,
        *columns: sa.ColumnElement[Any],
        where: list[sa.ColumnElement[bool]],
        source: sa.FromClause | None = None,
        count: sa.ColumnElement[int] = sa.func.count(),  # noqa: B008 - an expression, which nothing changes
    ) -> list[Any]:
        query = sa.select(*columns, count).where(*where).group_by(*columns).order_by(*columns)
        return list(self._connection.execute(query if source is None else query.select_from(source)))


def day_balances(warehouse: Warehouse, days: Collection[date] | None = None) -> list[DayBalance]:
    """The account of each visit day, counted from the tables themselves rather than from what the stages reported."""
    records = source_records.c
    written = (
        sa.select(notes.c.note_id)
        .where(
            notes.c.account == records.account,
            notes.c.provider == records.provider,
            notes.c.stream == records.stream,
            notes.c.source_id == records.source_id,
            # In disguise: a day that is not in its statistics yet looks empty to PostgreSQL, which would go through all
            # of its notes for each record.
            sa.func.coalesce(notes.c.visit_day, records.visit_day) == records.visit_day,
        )
        .exists()
    )
    waiting_for_somebody = (
        sa.select(quarantine.c.id)
        .where(
            quarantine.c.account == records.account,
            quarantine.c.stage == "map",
            quarantine.c.provider == records.provider,
            quarantine.c.stream == records.stream,
            quarantine.c.source_id == records.source_id,
            quarantine.c.resolved_at.is_(None),
        )
        .exists()
    )

    def number(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.sum(sa.case((sa.and_(*conditions), 1), else_=0))

    current = records.mapped_seq == records.change_seq
    query = (
        sa.select(
            records.visit_day,
            sa.func.count(),
            number(current, records.outcome == "note", written),
            number(current, records.outcome == "part"),
            number(current, records.outcome == "held"),
            number(current, records.outcome == "quarantined", waiting_for_somebody),
            number(sa.or_(records.mapped_seq.is_(None), records.mapped_seq != records.change_seq)),
        )
        .where(records.account == warehouse.account)
        .group_by(records.visit_day)
        .order_by(records.visit_day)
    )
    if days is not None:
        query = query.where(records.visit_day.in_(days))
    with warehouse.read() as connection:
        return [DayBalance(row[0], *(int(value) for value in row[1:])) for row in connection.execute(query)]


def duplicates(warehouse: Warehouse, targets: Sequence[str], days: Collection[date] | None = None) -> dict[str, int]:
    """How many source records have more than one note of a kind, and how many server ids belong to several notes.

    Args:
        warehouse: Notes and ledger.
        targets: Names of the targets whose server ids are compared.
        days: Only what is on one of these visit days; the other note may be on any. By default all of them.
    """
    noted, another = notes.c, notes.alias().c
    twice_noted = sa.select(noted.provider, noted.stream, noted.source_id, noted.kind).where(
        noted.account == warehouse.account,
        sa.exists().where(
            *(another[key] == noted[key] for key in ("account", "provider", "stream", "source_id")),
            # In disguise: who believes in the unique key, as PostgreSQL does, would not look.
            sa.func.coalesce(another.kind, noted.kind) == noted.kind,
            another.note_id != noted.note_id,
        ),
    )
    filed, other = deliveries.c, deliveries.alias().c
    twice_filed = sa.select(filed.target, filed.kind, filed.server_id).where(
        filed.account == warehouse.account,
        filed.target.in_(targets),
        # Not asked here whether there is an id: SQLite would take all that have one for fewer than those of a day.
        sa.exists().where(
            *(other[key] == filed[key] for key in ("account", "target", "server_id", "kind")),
            other.note_id != filed.note_id,
        ),
    )
    if days is not None:
        twice_noted = twice_noted.where(noted.visit_day.in_(days))
        twice_filed = twice_filed.where(filed.visit_day.in_(days))
    with warehouse.read() as connection:
        return {
            name: connection.scalar(sa.select(sa.func.count()).select_from(query.distinct().subquery())) or 0
            for name, query in (("notes", twice_noted), ("server_ids", twice_filed))
        }


def orphans(warehouse: Warehouse, days: Collection[date] | None = None) -> dict[str, int]:
    """Sections and documents without their note. Foreign keys forbid them; a database without checks may have some.

    Args:
        warehouse: Notes, sections and documents.
        days: Only documents of these visit days, and sections of the notes such documents are missing: a section says
            nothing of its day. By default all there are.
    """
    noteless = ~sa.exists().where(notes.c.note_id == fhir_documents.c.note_id)
    of_documents = sa.select(sa.func.count()).select_from(fhir_documents).where(noteless)
    of_sections = sa.select(sa.func.count()).select_from(note_sections)
    if days is None:
        of_sections = of_sections.where(~sa.exists().where(notes.c.note_id == note_sections.c.note_id))
    else:
        on_days = (fhir_documents.c.account == warehouse.account, fhir_documents.c.visit_day.in_(days))
        of_documents = of_documents.where(*on_days)
        gone = sa.select(fhir_documents.c.note_id).where(noteless, *on_days)
        of_sections = of_sections.where(note_sections.c.note_id.in_(gone))
    with warehouse.read() as connection:
        return {
            "note_sections": connection.scalar(of_sections) or 0,
            "fhir_documents": connection.scalar(of_documents) or 0,
        }
