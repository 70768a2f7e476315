"""Visit days: which partition a record belongs to, and which days are out of date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.warehouse.tables import visit_days
from medscribe_pipeline.warehouse.writing import insert

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime
    from zoneinfo import ZoneInfo

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["DayRule", "days_to_build", "mark_built", "mark_changed"]


@dataclass(frozen=True, slots=True)
class DayRule:
    """How an instant becomes a visit day.

    Attributes:
        zone: Whose midnight parts the days.
        first_day: Earliest partition. What happened before counts to this day, so that nothing falls outside.
    """

    zone: ZoneInfo
    first_day: date

    @classmethod
    def of(cls, settings: Settings) -> DayRule:
        """The rule the settings describe."""
        return cls(zone=settings.zone, first_day=settings.first_day)

    def day(self, instant: datetime, *, now: datetime) -> date:
        """The local day of `instant`, kept between `first_day` and today.

        A provider whose clock is wrong sends times in the future: those count to today, because a partition
        of the future does not exist and the record would never be built.
        """
        today = now.astimezone(self.zone).date()
        return min(max(instant.astimezone(self.zone).date(), self.first_day), max(today, self.first_day))


def mark_changed(warehouse: Warehouse, connection: sa.Connection, days: Mapping[date, int]) -> None:
    """Notes that `days` were touched by the change_seq each maps to. Part of the landing transaction."""
    if not days:
        return
    existing = set(connection.scalars(_THERE, {"of_account": warehouse.account, "of_days": list(days)}))
    insert(
        connection,
        visit_days,
        [
            {"account": warehouse.account, "visit_day": day, "changed_seq": seq, "built_seq": 0}
            for day, seq in days.items()
            if day not in existing
        ],
    )
    known = [
        {"of_account": warehouse.account, "of_day": day, "changed_seq": seq}
        for day, seq in days.items()
        if day in existing
    ]
    if known:
        connection.execute(_CHANGE, known)


_THERE = sa.select(visit_days.c.visit_day).where(
    visit_days.c.account == sa.bindparam("of_account"),
    visit_days.c.visit_day.in_(sa.bindparam("of_days", expanding=True)),
)
_CHANGE = (
    sa.update(visit_days)
    .where(visit_days.c.account == sa.bindparam("of_account"), visit_days.c.visit_day == sa.bindparam("of_day"))
    .values(changed_seq=sa.bindparam("changed_seq"))
)


def days_to_build(warehouse: Warehouse, fingerprint: str, *, limit: int | None = None) -> list[tuple[date, int]]:
    """Days that are out of date, oldest first, each with its newest change_seq. One small indexed query."""
    query = (
        sa.select(visit_days.c.visit_day, visit_days.c.changed_seq)
        .where(visit_days.c.account == warehouse.account, outdated(fingerprint))
        .order_by(visit_days.c.visit_day)
        .limit(limit)
    )
    with warehouse.read() as connection:
        return [(day, seq) for day, seq in connection.execute(query)]


def changed_seq(connection: sa.Connection, account: str, day: date) -> int:
    """The newest change that touched a day; 0 for a day nothing ever landed on."""
    query = sa.select(visit_days.c.changed_seq).where(visit_days.c.account == account, visit_days.c.visit_day == day)
    return connection.scalar(query) or 0


def mark_built(warehouse: Warehouse, connection: sa.Connection, day: date, seq: int, fingerprint: str) -> None:
    """Notes that everything up to `seq` on that day went all the way. Changes that came since keep the day outdated."""
    connection.execute(
        sa.update(visit_days)
        .where(visit_days.c.account == warehouse.account, visit_days.c.visit_day == day, visit_days.c.built_seq <= seq)
        .values(built_seq=seq, built_with=fingerprint)
    )


def outdated(fingerprint: str) -> sa.ColumnElement[bool]:
    """The condition that a visit day has to be built (again): changes came, or it was built with something else."""
    return sa.or_(
        visit_days.c.built_seq < visit_days.c.changed_seq,
        visit_days.c.built_with.is_(None),
        visit_days.c.built_with != fingerprint,
    )
