"""Entering note versions into the delivery ledger; see `ledger.py`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from medscribe_pipeline.ehr.moves import Key, State
from medscribe_pipeline.warehouse.arrays import TextArray
from medscribe_pipeline.warehouse.statistics import added
from medscribe_pipeline.warehouse.tables import deliveries
from medscribe_pipeline.warehouse.writing import insert_absent, native_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

__all__ = ["NewEntry", "add"]


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A note version the ledger has not seen. With a `reason` it starts held, without one planned."""

    key: Key
    kinds: tuple[str, ...]
    source_seq: int
    visit_day: date
    reason: str | None


def add(connection: sa.Connection, account: str, fresh: Iterable[NewEntry]) -> bool:
    """Enters note versions; one that another process entered meanwhile stays as it is, and this returns `False`."""
    if native_name(connection) == "postgresql":
        return _add_arrays(connection, account, fresh)
    rows = [
        {
            "target": new.key.target,
            "note_id": new.key.note_id,
            "kind": kind,
            "version": new.key.version,
            "account": account,
            "visit_day": new.visit_day,
            "source_seq": new.source_seq,
            "state": State.HELD if new.reason else State.PLANNED,
            "reason": new.reason,
            "attempts": 0,
        }
        for new in fresh
        for kind in new.kinds
    ]
    return insert_absent(connection, deliveries, rows) == len(rows)


def _add_arrays(connection: sa.Connection, account: str, fresh: Iterable[NewEntry]) -> bool:
    """On PostgreSQL: what differs from note to note as one array a column, and the rows are made there."""
    alike: dict[tuple[str, tuple[str, ...], date, str | None], list[NewEntry]] = {}
    for new in fresh:
        alike.setdefault((new.key.target, new.kinds, new.visit_day, new.reason), []).append(new)
    all_new = True
    for (target, kinds, visit_day, reason), listed in alike.items():
        given = {
            "of_notes": [new.key.note_id for new in listed],
            "of_versions": [new.key.version for new in listed],
            "of_seqs": [str(new.source_seq) for new in listed],
            "of_kinds": kinds,
            "of_target": target,
            "of_account": account,
            "of_day": visit_day,
            "of_state": State.HELD if reason else State.PLANNED,
            "of_reason": reason,
        }
        entered = connection.execute(_insert_arrays(), given).rowcount
        added(connection, deliveries, entered)
        all_new &= entered == len(listed) * len(kinds)
    return all_new


@cache
def _insert_arrays() -> sa.Insert:
    arrays = [sa.bindparam(each, type_=TextArray()) for each in ("of_notes", "of_versions", "of_seqs")]
    unit = sa.func.unnest(*arrays).table_valued(*(sa.column(each.key, sa.Text) for each in arrays)).render_derived()
    kinds = sa.func.unnest(sa.bindparam("of_kinds", type_=TextArray()))
    kind = kinds.table_valued(sa.column("kind", sa.Text)).render_derived()
    columns = deliveries.c
    values = {
        "target": sa.bindparam("of_target", type_=columns.target.type),
        "note_id": unit.c.of_notes,
        "kind": kind.c.kind,
        "version": unit.c.of_versions,
        "account": sa.bindparam("of_account", type_=columns.account.type),
        "visit_day": sa.bindparam("of_day", type_=columns.visit_day.type),
        "source_seq": sa.cast(unit.c.of_seqs, columns.source_seq.type),
        "state": sa.bindparam("of_state", type_=columns.state.type),
        "reason": sa.bindparam("of_reason", type_=columns.reason.type),
        "attempts": sa.literal_column("0"),
    }
    rows = sa.select(*values.values()).select_from(unit.join(kind, sa.true()))
    insert = postgresql.insert(deliveries).from_select(list(values), rows).on_conflict_do_nothing()
    return insert.execution_options(preserve_rowcount=True)
