"""The visits manifest in the warehouse: what an import changes, and which records it touches."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.warehouse.days import DayRule, mark_changed
from medscribe_pipeline.warehouse.store import Warehouse, in_chunks
from medscribe_pipeline.warehouse.tables import change_counter, source_records, visits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from medscribe_pipeline.visits import VisitRow

__all__ = ["Imported", "import_visits"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    `records` is how many landed records it touched; they will be built again. `forgotten` rows were forgotten on
    request, and stay so.
    """

    new: int
    changed: int
    unchanged: int
    records: int
    forgotten: int = 0


def import_visits(warehouse: Warehouse, rows: Sequence[VisitRow], *, days: DayRule, now: datetime) -> Imported:
    """Writes manifest rows, all or none, and makes the records they speak of due for building.

    Rows that are in the warehouse but not in `rows` stay.
    """
    counts = {"new": 0, "changed": 0, "unchanged": 0, "forgotten": 0}
    touched_records = 0
    with warehouse.begin() as connection:
        sequence = connection.scalar(sa.select(change_counter.c.value).with_for_update()) or 0
        touched: dict[date, int] = {}
        for provider in sorted({row.provider for row in rows}):
            wanted = {row.correlation_key: dataclasses.asdict(row) for row in rows if row.provider == provider}
            for chunk in in_chunks(list(wanted)):
                existing = {
                    row.correlation_key: row._asdict()
                    for row in connection.execute(
                        sa.select(visits).where(
                            visits.c.account == warehouse.account,
                            visits.c.provider == provider,
                            visits.c.correlation_key.in_(chunk),
                        )
                    )
                }
                fresh = []
                for key in chunk:
                    old = existing.get(key)
                    if old is None:
                        counts["new"] += 1
                    elif old["forgotten_at"] is not None:
                        counts["forgotten"] += 1
                        continue
                    elif all(old[name] == value for name, value in wanted[key].items()):
                        counts["unchanged"] += 1
                        continue
                    else:
                        counts["changed"] += 1
                    fresh.append({**wanted[key], "account": warehouse.account, "imported_at": now})
                warehouse.upsert(connection, visits, fresh)
                for row in fresh:
                    sequence += 1
                    found = _touch(warehouse, connection, row, sequence, days, now)
                    touched_records += len(found)
                    touched |= dict.fromkeys((day for pair in found for day in pair), sequence)
        connection.execute(sa.update(change_counter).values(value=sequence))
        mark_changed(warehouse, connection, touched)
    return Imported(**counts, records=touched_records)


def _touch(
    warehouse: Warehouse, connection: sa.Connection, row: dict[str, Any], sequence: int, days: DayRule, now: datetime
) -> list[tuple[date, date]]:
    """Gives the records of one visit a new change_seq, and its day; returns their old and new days."""
    concerned = (
        source_records.c.account == warehouse.account,
        source_records.c.provider == row["provider"],
        sa.or_(
            source_records.c.source_id == row["correlation_key"], source_records.c.parent_id == row["correlation_key"]
        ),
    )
    old_days = list(connection.scalars(sa.select(source_records.c.visit_day).where(*concerned)))
    if not old_days:
        return []
    changes: dict[str, Any] = {"change_seq": sequence}
    if row["started_at"] is not None:
        changes["visit_day"] = days.day(row["started_at"], now=now)
    connection.execute(sa.update(source_records).where(*concerned).values(**changes))
    return [(old, changes.get("visit_day", old)) for old in old_days]
