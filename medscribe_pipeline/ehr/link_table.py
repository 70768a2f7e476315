"""The links in the warehouse: importing them, listing what is known and what is not, forgetting it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.ehr.references import (
    ENCOUNTER,
    LINK,
    PATIENT,
    PRACTITIONER,
    ReferenceKey,
    ReferenceState,
    hold_reasons,
)
from medscribe_pipeline.ehr.waiting import held_for, held_notes, make_due
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import ehr_references

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from medscribe_pipeline.ehr.links import LinkRow
    from medscribe_pipeline.ehr.references import ReferenceKind
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Forgotten", "ImportedLinks", "KnownReference", "forget_references", "import_links", "known_references"]


@dataclass(frozen=True, slots=True)
class ImportedLinks:
    """What an import did. `notes` is how many held notes the next sync looks at again because of it."""

    new: int
    changed: int
    unchanged: int
    notes: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was forgotten, and how many held notes the next sync looks at again because of it."""

    references: int
    notes: int


@dataclass(frozen=True, slots=True)
class KnownReference:
    """A row of `ehr_references`, and how many notes are held for it."""

    target: str
    key: ReferenceKey
    state: ReferenceState
    server_id: str | None
    origin: str
    looked_at: datetime
    notes: int


def import_links(warehouse: Warehouse, rows: Sequence[LinkRow], *, now: datetime) -> ImportedLinks:
    """Writes links, all or none, and makes due the visit days of held notes they may release.

    A link replaces what a search found, and an earlier link. Links that are not in `rows` stay. Notes that are
    delivered already are not sent again for a link that changes.
    """
    counts = {"new": 0, "changed": 0, "unchanged": 0}
    released = 0
    days = set()
    with warehouse.begin() as connection:
        for target in sorted({row.target for row in rows}):
            # In one order in every process: two that write the same rows must not wait for each other.
            links = {row.key: row.server_id for row in sorted(rows, key=_order) if row.target == target}
            before = _links(connection, warehouse.account, target, list(links))
            fresh = {key: server_id for key, server_id in links.items() if before.get(key) != server_id}
            counts["new"] += len(fresh.keys() - before.keys())
            counts["changed"] += len(fresh.keys() & before.keys())
            counts["unchanged"] += len(links) - len(fresh)
            written = [_row(warehouse.account, target, key, server_id, now) for key, server_id in fresh.items()]
            warehouse.upsert(connection, ehr_references, written)
            held = held_for(held_notes(connection, warehouse.account, target, hold_reasons()), fresh)
            released += len(held)
            days |= {each.visit_day for each in held}
        make_due(warehouse, connection, days)
    return ImportedLinks(**counts, notes=released)


def known_references(
    warehouse: Warehouse,
    target: str,
    *,
    kind: ReferenceKind | None = None,
    state: ReferenceState | None = None,
    origin: str | None = None,
) -> list[KnownReference]:
    """What is known on a target, by kind, system and value; with the notes that wait for each."""
    which = _which(warehouse.account, target, kind, state, origin)
    query = (
        sa.select(ehr_references)
        .where(*which)
        .order_by(ehr_references.c.kind, ehr_references.c.system, ehr_references.c.value)
    )
    with warehouse.read() as connection:
        held = held_notes(connection, warehouse.account, target, hold_reasons())
        waiting = Counter(key for each in held for key in each.waits_for)
        return [
            KnownReference(
                target=target,
                key=(key := ReferenceKey(row.kind, row.system, row.value)),
                state=ReferenceState(row.state),
                server_id=row.server_id,
                origin=row.origin,
                looked_at=row.looked_at,
                notes=waiting[key],
            )
            for row in connection.execute(query)
        ]


def forget_references(
    warehouse: Warehouse,
    target: str,
    *,
    kind: ReferenceKind | None = None,
    state: ReferenceState | None = None,
    origin: str,
) -> Forgotten:
    """Forgets what is known, so that the server is asked again, and makes due the days of notes held for it.

    Notes are looked at again by the reason they are held for, whether or not anything about them was kept.

    Args:
        warehouse: The open warehouse.
        target: Name of the target.
        kind: Only this kind.
        state: Only what is in this state.
        origin: `search` or `link`: what the server said, or what a person entered.
    """
    kinds = [kind] if kind else [PATIENT, PRACTITIONER, ENCOUNTER]
    reasons = [reason for each in kinds for reason in hold_reasons(each)]
    with warehouse.begin() as connection:
        deleted = connection.execute(
            sa.delete(ehr_references).where(*_which(warehouse.account, target, kind, state, origin))
        )
        if state is not None:
            # What is found holds a note only when it is of another patient.
            held_as = ReferenceState.MISMATCH if state is ReferenceState.FOUND else state
            reasons = [reason for reason in reasons if reason.endswith(f"_{held_as}")]
        held = list(held_notes(connection, warehouse.account, target, reasons))
        make_due(warehouse, connection, {each.visit_day for each in held})
    return Forgotten(deleted.rowcount, len(held))


def _which(
    account: str, target: str, kind: ReferenceKind | None, state: ReferenceState | None, origin: str | None
) -> list[sa.ColumnElement[bool]]:
    which = [ehr_references.c.account == account, ehr_references.c.target == target]
    given = {"kind": kind, "state": state, "origin": origin}
    return which + [ehr_references.c[name] == value for name, value in given.items() if value is not None]


def _links(
    connection: sa.Connection, account: str, target: str, keys: Sequence[ReferenceKey]
) -> dict[ReferenceKey, str]:
    """The links there are already, out of `keys`."""
    found: dict[ReferenceKey, str] = {}
    for kind, system in {(key.kind, key.system) for key in keys}:
        values = [key.value for key in keys if (key.kind, key.system) == (kind, system)]
        for chunk in in_chunks(values):
            query = sa.select(ehr_references.c.value, ehr_references.c.server_id).where(
                *_which(account, target, kind, None, LINK),
                ehr_references.c.system == system,
                ehr_references.c.value.in_(chunk),
            )
            found |= {ReferenceKey(kind, system, value): server_id for value, server_id in connection.execute(query)}
    return found


def _order(row: LinkRow) -> tuple[str, str, str]:
    return row.key.kind, row.key.system, row.key.value


def _row(account: str, target: str, key: ReferenceKey, server_id: str, now: datetime) -> dict[str, Any]:
    return {
        "account": account,
        "target": target,
        "kind": key.kind,
        "system": key.system,
        "value": key.value,
        "state": ReferenceState.FOUND.value,
        "server_id": server_id,
        "subject_id": None,
        "origin": LINK,
        "looked_at": now,
    }
