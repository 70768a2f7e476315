"""What sweeps did not find: landed records to compare a list with, and how often each was missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.notes import NoteState
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import notes, source_records, sweep_sightings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import date, datetime, timedelta

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["missing_records", "remember_missing"]

ROWS_AHEAD = 1000


def missing_records(
    connection: sa.Connection,
    account: str,
    provider: str,
    stream: str,
    *,
    since_day: date | None,
    fetched_before: datetime,
) -> Iterator[str]:
    """Source ids of records that may turn out to be gone, in the order of the key.

    Left out are those that are gone already, forgotten, or retracted: for those nothing would change.

    Args:
        connection: An open transaction.
        account: The account.
        provider: Provider name.
        stream: Stream name.
        since_day: Only visits from this day on.
        fetched_before: Only records that landed from requests before this time.
    """
    retracted = (
        sa.select(notes.c.note_id)
        .where(
            *(notes.c[name] == source_records.c[name] for name in ("account", "provider", "stream", "source_id")),
            notes.c.state == NoteState.RETRACTED.value,
        )
        .exists()
    )
    query = (
        sa.select(source_records.c.source_id)
        .where(
            source_records.c.account == account,
            source_records.c.provider == provider,
            source_records.c.stream == stream,
            source_records.c.gone_at.is_(None),
            source_records.c.forgotten_at.is_(None),
            source_records.c.fetched_at < fetched_before,
            ~retracted,
        )
        .order_by(source_records.c.source_id)
        .execution_options(yield_per=ROWS_AHEAD)
    )
    if since_day is not None:
        query = query.where(source_records.c.visit_day >= since_day)
    return iter(connection.scalars(query))


def remember_missing(
    warehouse: Warehouse,
    connection: sa.Connection,
    account: str,
    provider: str,
    stream: str,
    *,
    missing: Sequence[str],
    sure: Collection[str],
    is_there: Callable[[str], bool],
    confirm_after: timedelta,
    now: datetime,
) -> list[str]:
    """Notes which records a sweep missed, and forgets those that are listed again.

    Args:
        warehouse: The warehouse.
        connection: A connection from `Warehouse.begin`.
        account: The account.
        provider: Provider name.
        stream: Stream name.
        missing: Records that were not found.
        sure: Those of them that need no second sweep.
        is_there: Whether a record was listed.
        confirm_after: How far apart two sweeps have to be that miss the same record.
        now: The current time.

    Returns:
        The records believed to be gone, now or by an earlier sweep.
    """
    names = {"account": account, "provider": provider, "stream": stream}
    own = [sweep_sightings.c[name] == value for name, value in names.items()]
    query = sa.select(sweep_sightings.c.source_id, sweep_sightings.c.first_missing_at, sweep_sightings.c.confirmed_at)
    before = {row.source_id: row for row in connection.execute(query.where(*own))}
    found_again = [source_id for source_id in before.keys() - set(missing) if is_there(source_id)]
    for chunk in in_chunks(found_again):
        connection.execute(sa.delete(sweep_sightings).where(*own, sweep_sightings.c.source_id.in_(chunk)))
    rows: list[dict[str, Any]] = []
    for source_id in missing:
        old = before.get(source_id)
        first = old.first_missing_at if old else now
        confirmed_at = old.confirmed_at if old else None
        if confirmed_at is None and (source_id in sure or (old and first <= now - confirm_after)):
            confirmed_at = now
        rows.append(
            {
                **names,
                "source_id": source_id,
                "first_missing_at": first,
                "last_missing_at": now,
                "confirmed_at": confirmed_at,
            }
        )
    warehouse.upsert(connection, sweep_sightings, rows)
    return [row["source_id"] for row in rows if row["confirmed_at"] is not None]
