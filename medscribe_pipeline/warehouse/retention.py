"""Retention: what is removed because of its age. Replaced versions of notes, and the text of payloads.

Records, notes and the ledger stay: a payload leaves its hash behind, so that the same record is recognised when it
comes again. Kept in any case are the payloads of records that could not be mapped, or not yet, and of records that
others hang on (an Askara audio): their notes are mapped with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.warehouse.tables import inbox, notes_history, quarantine, source_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["NO_PAYLOAD", "Pruned", "prune"]

NO_PAYLOAD: dict[str, Any] = {}
"""What stands where a payload was."""

BATCH = 500


@dataclass(slots=True)
class Pruned:
    """How many rows were removed, or lost their payload; or would be."""

    notes_history: int = 0
    source_records: int = 0
    quarantine: int = 0
    inbox: int = 0


def prune(warehouse: Warehouse, settings: Settings, *, clock: Callable[[], datetime], dry_run: bool = False) -> Pruned:
    """Removes what is older than `history_days` and `payload_days`, a few hundred rows in each transaction.

    Args:
        warehouse: The warehouse.
        settings: The settings.
        clock: Gives the current time.
        dry_run: Count, and remove nothing.
    """
    now = clock()
    replaced_before = now - timedelta(days=settings.history_days)
    old = (notes_history.c.account == warehouse.account, notes_history.c.replaced_at < replaced_before)
    pruned = Pruned(notes_history=_each(warehouse, notes_history, old, None, dry_run=dry_run))
    if not settings.payload_days:
        return pruned
    before = now - timedelta(days=settings.payload_days)
    removed = {"payload": NO_PAYLOAD, "payload_removed_at": now}
    pruned.source_records = _each(warehouse, source_records, _finished(warehouse, before), removed, dry_run=dry_run)
    pruned.quarantine = _each(
        warehouse,
        quarantine,
        (
            quarantine.c.account == warehouse.account,
            quarantine.c.resolved_at < before,
            has_payload(quarantine.c.payload),
        ),
        {"payload": None},
        dry_run=dry_run,
    )
    pruned.inbox = _each(
        warehouse,
        inbox,
        (inbox.c.account == warehouse.account, inbox.c.processed_at < before, has_payload(inbox.c.payload)),
        {"payload": NO_PAYLOAD},
        dry_run=dry_run,
    )
    return pruned


def has_payload(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    """The condition that a payload is there: neither NULL nor what stands for a removed one."""
    text = sa.cast(column, sa.Text)
    return sa.and_(column.is_not(None), text.not_in(("{}", "null")))


def _finished(warehouse: Warehouse, before: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on records nobody needs the payload of: old, mapped as they are, and nothing hangs on them."""
    child = source_records.alias("child")
    hanging = (
        sa.select(child.c.source_id)
        .where(
            child.c.account == source_records.c.account,
            child.c.provider == source_records.c.provider,
            child.c.parent_id == source_records.c.source_id,
        )
        .exists()
    )
    return (
        source_records.c.account == warehouse.account,
        source_records.c.payload_removed_at.is_(None),
        source_records.c.fetched_at < before,
        source_records.c.mapped_seq == source_records.c.change_seq,
        sa.or_(source_records.c.outcome == "note", source_records.c.outcome == "part"),
        ~hanging,
    )


def _each(
    warehouse: Warehouse,
    table: sa.Table,
    which: tuple[sa.ColumnElement[bool], ...],
    values: dict[str, Any] | None,
    *,
    dry_run: bool,
) -> int:
    """Changes rows, or deletes them where there are no `values`; returns how many."""
    if dry_run:
        with warehouse.read() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(table).where(*which)) or 0
    return sum(_batches(warehouse, table, which, values))


def _batches(
    warehouse: Warehouse, table: sa.Table, which: tuple[sa.ColumnElement[bool], ...], values: dict[str, Any] | None
) -> Iterator[int]:
    keys = list(table.primary_key.columns)
    # `which` once more in the statement itself: between finding a row and changing it somebody may have changed it.
    while True:
        with warehouse.begin() as connection:
            found = connection.execute(sa.select(*keys).where(*which).limit(BATCH)).all()
            if not found:
                return
            rows = sa.tuple_(*keys).in_([tuple(row) for row in found])
            statement: sa.Update | sa.Delete = sa.delete(table) if values is None else sa.update(table).values(**values)
            yield connection.execute(statement.where(rows, *which)).rowcount
