"""Quarantine, once more: after a mapping, a setting or our code has changed, or a landed record was mended.

What could not be read is kept in the quarantine only. It is read again by the very code that reads what is pulled, and
lands if it can be read now. What could not be mapped has landed: it is mapped again. What broke a rule of FHIR is
mapped and built again. Then the days concerned are mapped and built, here and now; what there is to deliver goes out
with the next sync.

Everything is marked and made due in one transaction for each batch, before anything is built: a replay that is killed
is finished by the next sync, or by another replay.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.ehr.waiting import make_due
from medscribe_pipeline.fhir.build import build_day
from medscribe_pipeline.operation.rereading import NO_PAYLOAD, Reread, reread
from medscribe_pipeline.pipeline import finish_day
from medscribe_pipeline.providers.build import build_notes
from medscribe_pipeline.warehouse.quarantine import concerns_us, resolve_quarantine
from medscribe_pipeline.warehouse.quarantine_list import STAGES
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import change_counter, notes, quarantine, source_records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date, datetime

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["OVERTAKEN", "WENT_ON", "ReplayReport", "replay"]

BATCH = 200

OVERTAKEN = "overtaken"
"""What became of a row whose note has another content now, or is none any more: it is closed."""

WENT_ON = "went_on"
"""Why a row was left alone: its record went on by itself, so the row is closed."""

_ENDS = ("note", "part", "held")

Key = tuple[str, str, str]
"""Provider, stream and source id of a landed record."""


@dataclass(slots=True)
class ReplayReport:
    """What a replay did; counts, codes and days only.

    Attributes:
        rows: Rows that were taken up.
        landed: Records that could be read now and landed.
        became: What the records are now: `note`, `document`, `part`, `overtaken`, or `held.<code>`.
        still: Those still in quarantine, by stage and code.
        left: Those that could not be taken up, by the reason.
        days: Visit days that were mapped and built.
    """

    rows: int = 0
    landed: int = 0
    became: Counter[str] = field(default_factory=Counter)
    still: Counter[tuple[str, str]] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    days: list[date] = field(default_factory=list)


@dataclass(slots=True)
class _Taken:
    """What was taken up: landed records, rows about notes, and the days."""

    records: set[Key] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    days: set[date] = field(default_factory=set)


def replay(
    warehouse: Warehouse,
    settings: Settings,
    ids: Sequence[str],
    *,
    clock: Callable[[], datetime],
    on_day: Callable[[date], None] = lambda _: None,
) -> ReplayReport:
    """Takes rows of the quarantine up again; rows that a person put aside are opened for it.

    Args:
        warehouse: The warehouse.
        settings: The settings.
        ids: Ids of rows; see `quarantine_list.selected_ids`.
        clock: Gives the current time, aware UTC.
        on_day: Called with each day before it is built.

    Raises:
        MedscribeError: The warehouse cannot be used. What was done until then is done.
    """
    report = ReplayReport(rows=len(ids))
    taken = _Taken()
    for chunk in in_chunks(ids, BATCH):
        by_stage = _by_stage(warehouse, chunk, report)
        if extracted := by_stage["extract"]:
            _take_unread(warehouse, settings, extracted, report, taken, clock())
        if mapped := by_stage["map"]:
            _take_unmapped(warehouse, mapped, report, taken)
        if built := by_stage["fhir"]:
            _take_unbuilt(warehouse, built, taken)
    report.days = sorted(taken.days)
    for day in report.days:
        on_day(day)
        build_notes(warehouse, settings, day, clock=clock)
        build_day(warehouse, settings, day, clock=clock)
        if not settings.targets:
            finish_day(warehouse, settings, day)
    for part in in_chunks(sorted(taken.records), BATCH):
        _tell_records(warehouse, part, report)
    for built_ids in in_chunks(taken.notes, BATCH):
        _tell_notes(warehouse, built_ids, report, clock())
    return report


def _by_stage(warehouse: Warehouse, ids: Sequence[str], report: ReplayReport) -> dict[str, list[str]]:
    """The rows that wait, or that a person put aside, by stage."""
    found: dict[str, list[str]] = {stage: [] for stage in STAGES}
    query = (
        sa.select(quarantine.c.stage, quarantine.c.id)
        .where(quarantine.c.account == warehouse.account, quarantine.c.id.in_(ids), concerns_us())
        .order_by(quarantine.c.id)
    )
    with warehouse.read() as connection:
        for stage, row_id in connection.execute(query):
            found[stage].append(row_id)
    if went_on := len(ids) - sum(map(len, found.values())):
        report.left[WENT_ON] += went_on
    return found


def _take_unread(
    warehouse: Warehouse, settings: Settings, ids: Sequence[str], report: ReplayReport, taken: _Taken, now: datetime
) -> None:
    with warehouse.begin() as connection:
        _lock_changes(connection)
        done: Reread = reread(warehouse, connection, settings, _locked(warehouse, connection, ids), now=now)
    report.left.update(done.left)
    report.still.update({("extract", code): count for code, count in done.misfits.items()})
    report.landed += done.landed
    taken.records |= done.records
    taken.days |= done.days


def _take_unmapped(warehouse: Warehouse, ids: Sequence[str], report: ReplayReport, taken: _Taken) -> None:
    with warehouse.begin() as connection:
        _lock_changes(connection)
        landed = _map_again(connection, ids)
        opened: list[str] = []
        for row in _locked(warehouse, connection, ids):
            key = (row.provider, row.stream, row.source_id)
            if key in landed:
                opened.append(row.id)
                taken.records.add(key)
            else:
                report.left[NO_PAYLOAD] += 1
        _open_again(connection, opened)
        make_due(warehouse, connection, set(landed.values()))
    taken.days |= set(landed.values())


def _take_unbuilt(warehouse: Warehouse, ids: Sequence[str], taken: _Taken) -> None:
    """What is wrong may be how the note was mapped, so that is done again, too."""
    with warehouse.begin() as connection:
        _lock_changes(connection)
        landed = _map_again(connection, ids)
        opened = [row.id for row in _locked(warehouse, connection, ids)]
        _open_again(connection, opened)
        query = sa.select(notes.c.visit_day).join(quarantine, _same(notes)).where(quarantine.c.id.in_(ids)).distinct()
        days = {*landed.values(), *connection.scalars(query)}
        make_due(warehouse, connection, days)
    taken.notes += opened
    taken.days |= days


def _map_again(connection: sa.Connection, ids: Sequence[str]) -> dict[Key, date]:
    """Marks the landed records of these rows to be mapped again; returns their days.

    What is not kept any more, after its time or on request, is left as it was mapped.
    """
    records = source_records.c
    kept = sa.and_(records.payload_removed_at.is_(None), records.forgotten_at.is_(None))
    landed = {
        (row.provider, row.stream, row.source_id): row.visit_day
        for row in connection.execute(
            sa.select(records.provider, records.stream, records.source_id, records.visit_day)
            .join(quarantine, _same(source_records))
            .where(quarantine.c.id.in_(ids), kept)
            .order_by(records.provider, records.stream, records.source_id)
            .with_for_update(of=source_records)
        )
    }
    of_these = sa.exists().where(_same(source_records), quarantine.c.id.in_(ids))
    connection.execute(sa.update(source_records).where(of_these, kept).values(mapped_seq=None))
    return landed


def _lock_changes(connection: sa.Connection) -> None:
    """Takes the lock of those who land records, before any other: they take it first, too."""
    connection.execute(sa.select(change_counter.c.value).with_for_update()).all()


def _locked(warehouse: Warehouse, connection: sa.Connection, ids: Sequence[str]) -> Sequence[sa.Row[Any]]:
    """The rows, held until the commit; without what went on meanwhile."""
    own = (quarantine.c.account == warehouse.account, quarantine.c.id.in_(ids), concerns_us())
    return connection.execute(sa.select(quarantine).where(*own).order_by(quarantine.c.id).with_for_update()).all()


def _open_again(connection: sa.Connection, ids: Sequence[str]) -> None:
    """What a person put aside waits again; so does what was closed, until the build closes it."""
    connection.execute(
        sa.update(quarantine).where(quarantine.c.id.in_(ids)).values(resolved_at=None, closed_by=None, closed_for=None)
    )


def _tell_records(warehouse: Warehouse, keys: Sequence[Key], report: ReplayReport) -> None:
    """What these landed records are now, and what of them is still in quarantine."""
    records, table = source_records.c, quarantine.c
    with warehouse.read() as connection:
        for provider, stream in sorted({key[:2] for key in keys}):
            source_ids = [source_id for *name, source_id in keys if name == [provider, stream]]
            own = {"account": warehouse.account, "provider": provider, "stream": stream}
            landed = sa.select(records.outcome, records.outcome_code, sa.func.count()).where(
                *(records[name] == value for name, value in own.items()), records.source_id.in_(source_ids)
            )
            for outcome, code, count in connection.execute(landed.group_by(records.outcome, records.outcome_code)):
                if outcome in _ENDS:
                    report.became[f"held.{code}" if outcome == "held" else outcome] += count
            waiting = sa.select(table.stage, table.error_code, sa.func.count()).where(
                *(table[name] == value for name, value in own.items()),
                table.source_id.in_(source_ids),
                table.resolved_at.is_(None),
            )
            for stage, code, count in connection.execute(waiting.group_by(table.stage, table.error_code)):
                report.still[stage, code] += count


def _tell_notes(warehouse: Warehouse, ids: Sequence[str], report: ReplayReport, now: datetime) -> None:
    """What the notes of these rows of stage `fhir` are now."""
    table = quarantine.c
    has_version = sa.exists().where(_same(notes), notes.c.version == table.payload_hash)
    query = sa.select(table.id, table.error_code, table.resolved_at, has_version).where(table.id.in_(ids))
    with warehouse.begin() as connection:
        for row_id, code, resolved_at, current in connection.execute(query.order_by(table.id)).all():
            if resolved_at is not None:
                report.became["document"] += 1
            elif current:
                report.still["fhir", code] += 1
            else:
                resolve_quarantine(connection, [row_id], now)
                report.became[OVERTAKEN] += 1


def _same(table: sa.Table) -> sa.ColumnElement[bool]:
    """That a row of the quarantine is about a row of `table`."""
    names = ("account", "provider", "stream", "source_id")
    return sa.and_(*(table.c[name] == quarantine.c[name] for name in names))
