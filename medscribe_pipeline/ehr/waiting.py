"""Notes held because who or where was not certain on a target, and making their visit days due again.

A held note is nothing a day waits for, so a day with held notes counts as done. When something happens that may
release them (a link, time to ask again), their days are marked as changed: the next sync goes through them, finds
records and documents as they were, and delivers what may go now.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.ehr.references import (
    ENCOUNTER,
    PATIENT,
    PRACTITIONER,
    SEARCH,
    ReferenceKey,
    ReferenceState,
    hold_reasons,
    time_key,
)
from medscribe_pipeline.warehouse.days import mark_changed
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import change_counter, deliveries, ehr_references, notes, visit_days

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from datetime import date, datetime
    from typing import Any

    from medscribe_pipeline.ehr.references import ReferenceKind
    from medscribe_pipeline.settings import EhrSettings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["HeldNote", "held_for", "held_notes", "make_due", "wake"]


@dataclass(frozen=True, slots=True)
class HeldNote:
    """A note that waits for a reference.

    Attributes:
        note_id: The note.
        visit_day: Its day.
        reason: Why it is held.
        waits_for: What is not certain; of a clinician with several identifiers, any of them.
        patient: The patient of an encounter it waits for: another id of theirs may lead to another encounter.
    """

    note_id: str
    visit_day: date
    reason: str
    waits_for: frozenset[ReferenceKey]
    patient: ReferenceKey | None


def held_notes(connection: sa.Connection, account: str, target: str, reasons: Sequence[str]) -> Iterator[HeldNote]:
    """The notes held for one of `reasons` on a target, row by row."""
    held = (
        sa.select(deliveries.c.note_id, deliveries.c.reason)
        .where(
            deliveries.c.account == account,
            deliveries.c.target == target,
            deliveries.c.state == State.HELD,
            deliveries.c.reason.in_(reasons),
        )
        .distinct()
        .subquery()
    )
    query = (
        sa.select(
            held.c.note_id,
            held.c.reason,
            *(notes.c[name] for name in ("visit_day", "patient_system", "patient_id", "practitioner")),
            *(notes.c[name] for name in ("encounter_system", "encounter_id", "started_at", "ended_at")),
        )
        .join_from(held, notes, notes.c.note_id == held.c.note_id)
        .order_by(held.c.note_id)
    )
    for row in connection.execute(query):
        encounter = row.reason in hold_reasons(ENCOUNTER)
        patient = _key(PATIENT, row.patient_system, row.patient_id) if encounter else None
        yield HeldNote(row.note_id, row.visit_day, row.reason, frozenset(_waits_for(row)), patient)


def held_for(notes_held: Iterable[HeldNote], keys: Collection[ReferenceKey]) -> list[HeldNote]:
    """Those that one of `keys` may release."""
    return [each for each in notes_held if not each.waits_for.isdisjoint(keys) or each.patient in keys]


def make_due(warehouse: Warehouse, connection: sa.Connection, days: Collection[date]) -> None:
    """Has the next sync go through these days again. Part of the transaction that gives it a reason to.

    Call it last in a transaction: it waits for whoever lands records at this moment.
    """
    if not days:
        return
    sequence = (connection.scalar(sa.select(change_counter.c.value).with_for_update()) or 0) + 1
    connection.execute(sa.update(change_counter).values(value=sequence))
    mark_changed(warehouse, connection, dict.fromkeys(sorted(days), sequence))


def wake(warehouse: Warehouse, target: str, settings: EhrSettings, *, now: datetime) -> list[date]:
    """Makes due the days of notes held for what was not certain when last asked, if that is long enough ago.

    A day that is due already is left alone, so that calling this often costs two small queries.

    Args:
        warehouse: Notes, ledger and references.
        target: Name of the target.
        settings: How long an answer is good.
        now: The current time, aware UTC.

    Returns:
        The days.
    """
    with warehouse.read() as connection:
        held = list(held_notes(connection, warehouse.account, target, hold_reasons()))
        old = _old_answers(connection, warehouse.account, target, settings, now, held)
        asleep = _done_days(connection, warehouse.account, {each.visit_day for each in held})
    days = {each.visit_day for each in held if not each.waits_for.isdisjoint(old)} & asleep
    if days:
        with warehouse.begin() as connection:
            make_due(warehouse, connection, days)
    return sorted(days)


def _old_answers(
    connection: sa.Connection,
    account: str,
    target: str,
    settings: EhrSettings,
    now: datetime,
    held: Sequence[HeldNote],
) -> set[ReferenceKey]:
    """What of that which `held` waits for was asked too long ago to be still believed."""
    wanted = {key for each in held for key in each.waits_for}
    old: set[ReferenceKey] = set()
    for kind, system in {(key.kind, key.system) for key in wanted}:
        values = sorted(key.value for key in wanted if (key.kind, key.system) == (kind, system))
        for chunk in in_chunks(values):
            query = sa.select(ehr_references.c.value, ehr_references.c.state, ehr_references.c.looked_at).where(
                ehr_references.c.account == account,
                ehr_references.c.target == target,
                ehr_references.c.kind == kind,
                ehr_references.c.system == system,
                ehr_references.c.value.in_(chunk),
                ehr_references.c.origin == SEARCH,
            )
            for value, state, looked_at in connection.execute(query):
                found = state == ReferenceState.FOUND
                valid_s = settings.references_valid_s if found else settings.references_missing_s
                if now - looked_at >= timedelta(seconds=valid_s):
                    old.add(ReferenceKey(kind, system, value))
    return old


def _done_days(connection: sa.Connection, account: str, days: Collection[date]) -> set[date]:
    done: set[date] = set()
    for chunk in in_chunks(sorted(days)):
        query = sa.select(visit_days.c.visit_day).where(
            visit_days.c.account == account,
            visit_days.c.visit_day.in_(chunk),
            visit_days.c.built_seq >= visit_days.c.changed_seq,
        )
        done.update(connection.scalars(query))
    return done


def _waits_for(row: sa.Row[Any]) -> Iterator[ReferenceKey]:
    if row.reason in hold_reasons(PATIENT):
        keys = [_key(PATIENT, row.patient_system, row.patient_id)]
    elif row.reason in hold_reasons(PRACTITIONER):
        listed = (row.practitioner or {}).get("identifiers", [])
        keys = [_key(PRACTITIONER, each["system"], each["value"]) for each in listed]
    else:
        keys = [_key(ENCOUNTER, row.encounter_system, row.encounter_id) or _by_time(row)]
    return (key for key in keys if key is not None)


def _by_time(row: sa.Row[Any]) -> ReferenceKey | None:
    if not row.patient_system or not row.patient_id or row.started_at is None:
        return None
    return time_key((row.patient_system, row.patient_id), row.started_at, row.ended_at)


def _key(kind: ReferenceKind, system: str | None, value: str | None) -> ReferenceKey | None:
    return ReferenceKey(kind, system, value) if system and value else None
