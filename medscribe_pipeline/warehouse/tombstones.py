"""Tombstones: a record that its provider holds no more, landed as a change of that record.

The record stays with its payload; `gone_at` says since when it is gone. Mapping makes its notes retracted, and those of
the records that hang on it, and delivery withdraws what it has delivered. A record that is listed again lands again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.warehouse.days import mark_changed
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import change_counter, source_records, sweep_sightings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["GONE", "PAYLOAD_REMOVED", "land_tombstones", "wanted_again"]

GONE = "gone_at_provider"
"""Code of a record that is gone and never became a note."""

PAYLOAD_REMOVED = "payload_removed"
"""Code of a record that has to be mapped again and cannot, because its payload was removed for its age."""


def wanted_again() -> sa.ColumnElement[bool]:
    """The condition that a record lands again even if it is as it was: it was gone, or its payload is missed."""
    return sa.or_(
        source_records.c.gone_at.is_not(None),
        sa.and_(
            source_records.c.payload_removed_at.is_not(None),
            sa.func.coalesce(source_records.c.outcome_code, "") == PAYLOAD_REMOVED,
        ),
    )


def land_tombstones(
    warehouse: Warehouse,
    provider: str,
    stream: str,
    gone: Mapping[str, datetime],
    *,
    run_id: str | None = None,
) -> set[date]:
    """Marks records as gone, and makes their visit days due; all in one transaction.

    Args:
        warehouse: The warehouse.
        provider: Provider name.
        stream: Stream of the records.
        gone: Source ids, each with the time of the request that showed it. A record that has landed by a later request
            is there again and stays.
        run_id: The run this is part of.

    Returns:
        The visit days that were touched; none for records that are marked already.
    """
    names = {"account": warehouse.account, "provider": provider, "stream": stream}
    family = (source_records.c.account == warehouse.account, source_records.c.provider == provider)
    touched: dict[date, int] = {}
    with warehouse.begin() as connection:
        # The same lock as landing takes: change_seq rises in commit order.
        sequence = connection.scalar(sa.select(change_counter.c.value).with_for_update()) or 0
        for chunk in in_chunks(sorted(gone)):
            query = sa.select(
                source_records.c.source_id, source_records.c.visit_day, source_records.c.fetched_at
            ).where(
                *family,
                source_records.c.stream == stream,
                source_records.c.source_id.in_(chunk),
                source_records.c.gone_at.is_(None),
                source_records.c.forgotten_at.is_(None),
            )
            for source_id, day, fetched_at in connection.execute(query).all():
                if fetched_at >= gone[source_id]:
                    continue
                sequence += 1
                own = (source_records.c.stream == stream, source_records.c.source_id == source_id)
                marked = {"gone_at": gone[source_id], "change_seq": sequence, "run_id": run_id}
                connection.execute(sa.update(source_records).where(*family, *own).values(**marked))
                touched[day] = sequence
                hanging = (*family, source_records.c.parent_id == source_id)
                days = connection.scalars(sa.select(source_records.c.visit_day).where(*hanging).distinct())
                touched |= dict.fromkeys(days, sequence)
                connection.execute(sa.update(source_records).where(*hanging).values(change_seq=sequence))
            connection.execute(
                sa.delete(sweep_sightings).where(
                    *(sweep_sightings.c[name] == value for name, value in names.items()),
                    sweep_sightings.c.source_id.in_(chunk),
                )
            )
        connection.execute(sa.update(change_counter).values(value=sequence))
        mark_changed(warehouse, connection, touched)
    return set(touched)
