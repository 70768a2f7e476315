"""Cursors as a person sees them: how far each stream was read, moved by hand, and read to the end until when.

A watermark is the time of the newest record that was surely seen, so it stays where it is while nothing happens. That
a stream was read to its end is therefore written down apart, as a row of `sync_cursors` whose stream ends in `MARK`:
whatever the source changed up to its watermark was seen, or there was nothing to see.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.warehouse.audit import note_access
from medscribe_pipeline.warehouse.tables import source_records, sync_cursor_history, sync_cursors

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = [
    "BY_HAND",
    "MARK",
    "CursorRow",
    "is_mark",
    "known_since",
    "mark_complete",
    "marked_enough",
    "move_cursor",
    "read_cursors",
]

MARK = ".complete"
MARK_AGAIN_AFTER = timedelta(hours=1)
"""How far the time until which a stream is complete may stay behind while its readings find nothing new."""

BY_HAND = "by hand"
"""What stands in place of a run where a person moved a cursor."""


@dataclass(frozen=True, slots=True)
class CursorRow:
    """One cursor. A stream that is read whole each time has none of its own, only the time it was complete.

    Attributes:
        provider: Name of the provider.
        stream: Name of the cursor: that of its stream, or of a part of it.
        watermark: See `sync_cursors`.
        has_signpost: Whether it stands at a certain record.
        moved_at: When it was written last; `None` for a stream without one.
        complete_until: Everything the source changed up to here was seen, when a sync last read the stream to its end.
    """

    provider: str
    stream: str
    watermark: datetime | None = None
    has_signpost: bool = False
    moved_at: datetime | None = None
    complete_until: datetime | None = None


def is_mark() -> sa.ColumnElement[bool]:
    """The condition that a row of `sync_cursors` says until when a stream is complete."""
    return sync_cursors.c.stream.endswith(MARK, autoescape=True)


def mark_complete(
    warehouse: Warehouse, provider: str, stream: str, *, until: datetime, now: datetime, run_id: str | None
) -> None:
    """Writes down that a stream was read to its end.

    Args:
        warehouse: The warehouse.
        provider: Name of the provider.
        stream: Name of the stream.
        until: What changed later may not have been seen: the start of the reading, less what clocks may be apart.
        now: The current time.
        run_id: The run that read it.
    """
    row = {"account": warehouse.account, "provider": provider, "stream": f"{stream}{MARK}", "watermark": until}
    row |= {"signpost": None, "moved_at": now, "run_id": run_id}
    with warehouse.begin() as connection:
        warehouse.upsert(connection, sync_cursors, [row], not_older_by="watermark")


def marked_enough(warehouse: Warehouse, provider: str, stream: str, *, until: datetime, zone: ZoneInfo) -> bool:
    """Whether a reading that found nothing new need not be written down.

    What is written already stays true: all that changed until then was seen. It is written anew when a day has ended
    in between, so that each day is known to be complete as soon as it is, and else once in `MARK_AGAIN_AFTER`: most
    syncs find nothing, and write nothing.

    Args:
        warehouse: The warehouse.
        provider: Name of the provider.
        stream: Name of the stream.
        until: As for `mark_complete`.
        zone: Where the days of the account begin and end.
    """
    key = {"account": warehouse.account, "provider": provider, "stream": f"{stream}{MARK}"}
    query = sa.select(sync_cursors.c.watermark).where(*(sync_cursors.c[name] == value for name, value in key.items()))
    with warehouse.read() as connection:
        before: datetime | None = connection.scalar(query)
    if before is None:
        return False
    same_day = before.astimezone(zone).date() >= until.astimezone(zone).date()
    return same_day and until - before < MARK_AGAIN_AFTER


def read_cursors(connection: sa.Connection, account: str) -> dict[tuple[str, str], CursorRow]:
    """All cursors of an account by provider and name, each with the time its stream is complete until."""
    rows = connection.execute(
        sa.select(sync_cursors).where(sync_cursors.c.account == account).order_by(sync_cursors.c.provider)
    ).all()
    marks = {(row.provider, row.stream.removesuffix(MARK)): row.watermark for row in rows if row.stream.endswith(MARK)}
    found = {key: CursorRow(*key, complete_until=until) for key, until in marks.items()}
    for row in rows:
        if not row.stream.endswith(MARK):
            key = (row.provider, row.stream)
            found[key] = CursorRow(*key, row.watermark, row.signpost is not None, row.moved_at, marks.get(key))
    return dict(sorted(found.items()))


def move_cursor(
    warehouse: Warehouse,
    provider: str,
    cursor: str,
    watermark: datetime | None,
    *,
    stream: str,
    who: str,
    now: datetime,
) -> None:
    """Puts a cursor where a person wants it, forwards or back; `None`: before everything.

    Its history has a row of it, and the access log says by whom.

    The stream then counts as complete up to there at most, until a sync has read it to its end again. Hold the lock
    of the stream (see `providers.sync`).
    """
    names = {"account": warehouse.account, "provider": provider, "stream": cursor}
    row = {**names, "watermark": watermark, "signpost": None, "moved_at": now, "run_id": BY_HAND}
    marked = (
        sync_cursors.c.account == warehouse.account,
        sync_cursors.c.provider == provider,
        sync_cursors.c.stream == f"{stream}{MARK}",
    )
    with warehouse.begin() as connection:
        warehouse.upsert(connection, sync_cursors, [row])
        connection.execute(sa.insert(sync_cursor_history).values(**row))
        if watermark is None:
            connection.execute(sa.delete(sync_cursors).where(*marked))
        else:
            later = sa.update(sync_cursors).where(*marked, sync_cursors.c.watermark > watermark)
            connection.execute(later.values(watermark=watermark, moved_at=now, run_id=BY_HAND))
        note_access(connection, warehouse.account, "cursor_moved", f"{provider} {cursor}", now, who)


def known_since(
    connection: sa.Connection, account: str, provider: str, stream: str, since: datetime | None
) -> tuple[int, int]:
    """How many landed records of a stream changed at `since` or later (`None`: all), and how many there are."""
    records = source_records.c
    later = (
        sa.true() if since is None else sa.or_(records.source_updated_at.is_(None), records.source_updated_at >= since)
    )
    query = sa.select(sa.func.coalesce(sa.func.sum(sa.case((later, 1), else_=0)), 0), sa.func.count()).where(
        records.account == account, records.provider == provider, records.stream == stream
    )
    row = connection.execute(query).one()
    return int(row[0]), int(row[1])
