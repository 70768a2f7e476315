"""What a person does to rows of the quarantine: put them aside, or seal them with another key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.warehouse.audit import note_access
from medscribe_pipeline.warehouse.quarantine import DISCARDED
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import quarantine, source_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["REASONS_TO_DISCARD", "Resealed", "discard", "reseal"]

REASONS_TO_DISCARD = ("duplicate", "mended_at_provider", "no_visit", "not_needed", "test_data")
"""Why somebody may put a record aside. Codes and no free text: that would name patients."""

PAGE = 200
WHO_LENGTH = 64


@dataclass(slots=True)
class Resealed:
    """What became of payloads: sealed anew, sealed with this key already, or not to be opened."""

    sealed: int = 0
    as_before: int = 0
    unreadable: int = 0


def discard(warehouse: Warehouse, ids: Sequence[str], *, reason: str, who: str, now: datetime) -> int:
    """Closes rows as done by a person.

    A landed record that could not be mapped counts as held from then on, with the code `discarded`. The same record
    that fails in the same way stays closed; when the provider changes it, or it fails in another way, it is opened
    again.

    Args:
        warehouse: The warehouse.
        ids: Ids of rows; those that are closed already are left alone.
        reason: One of `REASONS_TO_DISCARD`.
        who: Who decided it.
        now: The current time, aware UTC.

    Returns:
        How many were closed.
    """
    done = 0
    signed = {"closed_by": who[:WHO_LENGTH], "closed_for": reason}
    for chunk in in_chunks(ids, PAGE):
        with warehouse.begin() as connection:
            closed = _discard_page(warehouse, connection, chunk, signed, now)
            for row_id in closed:
                # On the row it stands only until the row is opened again.
                note_access(connection, warehouse.account, "quarantine_discarded", row_id, now, who)
        done += len(closed)
    return done


def _discard_page(
    warehouse: Warehouse, connection: sa.Connection, ids: Sequence[str], signed: dict[str, str], now: datetime
) -> list[str]:
    table = quarantine.c
    of_these = (table.account == warehouse.account, table.id.in_(ids), table.resolved_at.is_(None))
    records = source_records.c
    landed = sa.and_(
        records.account == table.account,
        records.provider == table.provider,
        records.stream == table.stream,
        records.source_id == table.source_id,
    )
    # The records first, as whoever maps them does: from here on nobody changes what the quarantine says of them.
    connection.execute(
        sa.select(records.source_id)
        .join(quarantine, landed)
        .where(*of_these, table.stage == "map")
        .order_by(records.provider, records.stream, records.source_id)
        .with_for_update(of=source_records)
    ).all()
    rows = connection.execute(
        sa.select(table.id, table.stage, table.provider, table.stream, table.source_id)
        .where(*of_these)
        .order_by(table.id)
        .with_for_update()
    ).all()
    for row in rows:
        if row.stage == "map":
            connection.execute(
                sa.update(source_records)
                .where(
                    records.account == warehouse.account,
                    records.provider == row.provider,
                    records.stream == row.stream,
                    records.source_id == row.source_id,
                    records.outcome == "quarantined",
                )
                .values(outcome="held", outcome_code=DISCARDED)
            )
    closed = [row.id for row in rows]
    connection.execute(sa.update(quarantine).where(table.id.in_(closed)).values(**signed, resolved_at=now))
    return closed


def reseal(warehouse: Warehouse) -> Resealed:
    """Seals every payload that is not sealed with the newest key, whatever it was sealed with before, or not at all.

    A payload whose key is gone stays as it is, and is counted. What is done stays done if this is stopped.
    """
    report = Resealed()
    table = quarantine.c
    last = ""
    while True:
        with warehouse.begin() as connection:
            rows = connection.execute(
                sa.select(table.id, table.payload, table.sealed_with)
                .where(table.account == warehouse.account, table.stage == "extract", table.id > last)
                .order_by(table.id)
                .limit(PAGE)
                .with_for_update()
            ).all()
            for row in rows:
                _reseal_row(warehouse, connection, row, report)
        if len(rows) < PAGE:
            return report
        last = rows[-1].id


def _reseal_row(
    warehouse: Warehouse, connection: sa.Connection, row: sa.Row[str, object, str | None], report: Resealed
) -> None:
    if row.payload is None or row.sealed_with == warehouse.sealing.key_id:
        report.as_before += 1
        return
    try:
        payload = warehouse.sealing.open(row.id, row.payload, row.sealed_with)
    except MedscribeError:
        report.unreadable += 1
        return
    stored, sealed_with = warehouse.sealing.seal(row.id, payload)
    connection.execute(
        sa.update(quarantine).where(quarantine.c.id == row.id).values(payload=stored, sealed_with=sealed_with)
    )
    report.sealed += 1
