"""Note versions put where a test wants them in the ledger, by moves the ledger allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.ledger import KINDS, Copy, Key, NewEntry, State
from medscribe_pipeline.ehr.listing import Which, pages
from medscribe_pipeline.warehouse.tables import notes, visit_days
from tests.medscribe_pipeline.ehr.clinic import DAY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from medscribe_pipeline.ehr.listing import Standing
    from medscribe_pipeline.notes import ScribeNote
    from tests.medscribe_pipeline.ehr.clinic import Clinic

__all__ = ["due_days", "key_of", "place", "standing", "standings"]

EVERYTHING = Which()
REASONS = {State.HELD: "not_validated", State.REJECTED: "refused", State.UNKNOWN: "cannot_be_asked"}


def key_of(note: ScribeNote, target: str = "ehr") -> Key:
    return Key(target, str(note.note_id), note.version)


def place(
    clinic: Clinic,
    note: ScribeNote,
    state: State,
    reason: str | None = None,
    *,
    target: str = "ehr",
    day: date = DAY,
    seq: int | None = None,
    kinds: Sequence[str] = KINDS,
    done: Sequence[str] = (),
    codes: Sequence[str] = (),
) -> Key:
    """Enters a version and moves it into `state`; `done` of its documents are there already.

    `seq` is that of the note as it was written, unless another is given.
    """
    key = key_of(note, target)
    why = reason or REASONS.get(state, "")
    now, worker = clinic.now, "w1"
    copies = {kind: Copy(f"{key.version[:8]}-{kind}", 'W/"1"', ("201",)) for kind in kinds}
    part = {kind: copies[kind] for kind in done}
    with clinic.warehouse.begin() as connection:
        known = connection.scalar(sa.select(notes.c.source_seq).where(notes.c.note_id == key.note_id))
        new = NewEntry(key, tuple(kinds), seq or known or 1, day, why if state is State.HELD else None)
        ledger.add(connection, clinic.warehouse.account, [new])
        moved = True
        if state is State.DISCARDED:
            moved = ledger.discard(connection, key, now=now)
        if state in (State.CLAIMED, State.SENT, State.DELIVERED, State.REJECTED, State.UNKNOWN):
            moved = ledger.claim(connection, key, worker=worker, now=now)
        if state in (State.SENT, State.DELIVERED, State.REJECTED, State.UNKNOWN):
            moved = moved and ledger.mark_sent(connection, key, worker=worker, now=now)
        if state is State.DELIVERED:
            moved = moved and ledger.deliver(connection, key, copies, now=now, worker=worker)
        if state is State.REJECTED:
            moved = moved and ledger.refuse(connection, key, why, now=now, codes=codes, copies=part, worker=worker)
        if state is State.UNKNOWN:
            moved = moved and ledger.lose(connection, key, why, now=now, codes=codes, copies=part, worker=worker)
        assert moved
    return key


def standings(clinic: Clinic, which: Which = EVERYTHING) -> list[Standing]:
    return [each for page in pages(clinic.warehouse, which) for each in page]


def standing(clinic: Clinic, key: Key) -> Standing:
    (found,) = (each for each in standings(clinic, Which(note_ids=(key.note_id,))) if each.key == key)
    return found


def due_days(clinic: Clinic) -> set[date]:
    """Visit days the next sync goes through."""
    query = sa.select(visit_days.c.visit_day).where(visit_days.c.built_seq < visit_days.c.changed_seq)
    with clinic.warehouse.read() as connection:
        return set(connection.scalars(query))
