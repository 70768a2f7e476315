"""What of a visit day may go out: each note's newest version is planned or held, older ones are superseded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.ledger import COMPOSITION, DOCUMENT_REFERENCE, Entry, Key, NewEntry, State
from medscribe_pipeline.notes import NoteState
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import fhir_documents, notes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = [
    "DayView",
    "Decision",
    "NoteFacts",
    "decide",
    "hold_reason",
    "load_day",
    "load_facts",
    "may_claim",
    "newest_delivered",
    "plan",
]

BATCH = 500

NOT_VALIDATED = "not_validated"
PATIENT_UNKNOWN = "patient_unknown"
RETRACTED_BEFORE_DELIVERY = "retracted_before_delivery"
SUPERSEDED = "superseded"
DOCUMENTS_MISSING = "documents_missing"

_WAITING = (State.PLANNED, State.HELD)
# It is there, or it may be, or another worker is about to put it there.
_MAYBE_THERE = (State.CLAIMED, State.SENT, State.UNKNOWN, State.DELIVERED)
_IN_DOUBT = (State.CLAIMED, State.SENT, State.UNKNOWN)


@dataclass(frozen=True, slots=True)
class NoteFacts:
    """What the decision about a note needs to know.

    Attributes:
        note_id: The note.
        state: A `NoteState`, as text.
        version: Its newest version.
        source_seq: Orders the versions.
        visit_day: The day it belongs to now.
        patient: Who it is about, as one text; `None` when unknown.
        built_at: When the documents of this very version were built; `None` while there are none.
    """

    note_id: str
    state: str
    version: str
    source_seq: int
    visit_day: date
    patient: str | None
    built_at: datetime | None


@dataclass(frozen=True, slots=True)
class DayView:
    """The notes of a visit day and all their ledger entries, read in one transaction."""

    target: str
    facts: Mapping[str, NoteFacts]
    entries: Mapping[str, list[Entry]]

    def current(self) -> list[Entry]:
        """The entries of the notes' newest versions: what the day is counted by."""
        return [
            entry
            for note_id, listed in self.entries.items()
            for entry in listed
            if entry.key.version == self.facts[note_id].version
        ]

    def planned(self) -> list[Key]:
        """What waits to be sent, oldest change first."""
        waiting = [entry for entry in self.current() if entry.state is State.PLANNED]
        return [entry.key for entry in sorted(waiting, key=lambda entry: (entry.source_seq, entry.key))]

    def standing(self, *states: State) -> list[Entry]:
        """Entries of any version in one of `states`."""
        return [entry for listed in self.entries.values() for entry in listed if entry.state in states]


def load_day(warehouse: Warehouse, target: str, day: date) -> DayView:
    """Reads a day as it stands."""
    of_day = (notes.c.account == warehouse.account, notes.c.visit_day == day)
    with warehouse.read() as connection:
        facts = load_facts(connection, *of_day)
        entries = ledger.entries(connection, target, sa.select(notes.c.note_id).where(*of_day))
    return DayView(target, facts, entries)


def load_facts(connection: sa.Connection, *which: sa.ColumnElement[bool], lock: bool = False) -> dict[str, NoteFacts]:
    """Reads notes by id. With `lock`, nobody else who locks the same notes goes on before this transaction ends.

    Args:
        connection: An open transaction.
        which: Conditions on `notes`.
        lock: Lock the rows; on SQLite a write transaction is exclusive anyway.
    """
    composition, document = fhir_documents.alias("composition"), fhir_documents.alias("document")
    query = (
        sa.select(
            notes.c.note_id,
            notes.c.state,
            notes.c.version,
            notes.c.source_seq,
            notes.c.visit_day,
            notes.c.patient_system,
            notes.c.patient_id,
            document.c.built_at,
            document.c.source_seq.label("document_seq"),
        )
        .select_from(notes)
        # Documents of another version, or one of the two alone, are none: the day's documents are not built yet.
        .outerjoin(composition, sa.and_(*_documents_of(composition, COMPOSITION)))
        .outerjoin(
            document,
            sa.and_(*_documents_of(document, DOCUMENT_REFERENCE), composition.c.note_id == document.c.note_id),
        )
        .where(*which)
        .order_by(notes.c.note_id)
    )
    if lock:
        query = query.with_for_update(of=notes)
    return {
        row.note_id: NoteFacts(
            note_id=row.note_id,
            state=row.state,
            version=row.version,
            source_seq=row.source_seq if row.document_seq is None else row.document_seq,
            visit_day=row.visit_day,
            patient=_patient(row.patient_system, row.patient_id),
            built_at=row.built_at,
        )
        for row in connection.execute(query)
    }


def _documents_of(documents: sa.FromClause, kind: str) -> list[sa.ColumnElement[bool]]:
    return [
        documents.c.note_id == notes.c.note_id,
        documents.c.kind == kind,
        documents.c.version == notes.c.version,
    ]


def _patient(system: str | None, value: str | None) -> str | None:
    known = system and system.strip() and value and value.strip()
    return f"{system}|{value}" if known else None


def hold_reason(note: NoteFacts, *, maybe_there: bool) -> str | None:
    """Why a note must not be sent now; `None` when it may.

    Args:
        note: The note.
        maybe_there: An earlier version of it is on the target, or may be: then a retraction has to reach it too.
    """
    if note.state == NoteState.RETRACTED:
        if not maybe_there:
            return RETRACTED_BEFORE_DELIVERY
    elif note.state != NoteState.VALIDATED:
        # Machine text nobody has signed off stays here, whatever status it would carry there.
        return NOT_VALIDATED
    return None if note.patient else PATIENT_UNKNOWN


def newest_delivered(listed: Sequence[Entry]) -> Entry | None:
    """The version of a note that stands on the target, as far as the ledger knows."""
    delivered = [entry for entry in listed if entry.state is State.DELIVERED and entry.settled_at is not None]
    return max(delivered, key=lambda entry: (entry.source_seq, entry.settled_at), default=None)


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing to do in the ledger: `add`, or the move of that name."""

    move: Literal["add", "hold", "release", "plan_again"]
    key: Key
    source_seq: int
    visit_day: date
    reason: str | None = None


def decide(target: str, note: NoteFacts, listed: Sequence[Entry]) -> list[Decision]:
    """What the ledger needs for a note; nothing for a note that stands where it should.

    Args:
        target: Name of the target.
        note: The note as it is now.
        listed: All its ledger entries on the target.
    """
    if _is_behind(note, listed):
        return []
    own = next((entry for entry in listed if entry.key.version == note.version), None)
    others = [entry for entry in listed if entry is not own]
    decisions = [
        Decision("hold", entry.key, entry.source_seq, entry.visit_day, SUPERSEDED)
        for entry in others
        if entry.state in _WAITING and entry.reason != SUPERSEDED
    ]
    maybe_there = any(entry.state in _MAYBE_THERE for entry in others)
    reason = hold_reason(note, maybe_there=maybe_there) if note.built_at else DOCUMENTS_MISSING
    if move := _own_move(note, own, reason, listed):
        key = Key(target, note.note_id, note.version)
        decisions.append(Decision(move, key, note.source_seq, note.visit_day, reason))
    return decisions


def may_claim(note: NoteFacts, own: Entry, listed: Sequence[Entry]) -> bool:
    """Whether a planned version can be sent at this moment: decided, still the newest, and nobody else at the note."""
    return (
        own.state is State.PLANNED
        and own.key.version == note.version
        and not any(entry.state in _IN_DOUBT for entry in listed)
        and not _is_behind(note, listed)
        and not decide(own.key.target, note, listed)
    )


def _is_behind(note: NoteFacts, listed: Sequence[Entry]) -> bool:
    """The ledger knows a later version than the warehouse (restored from a backup): an older one overwrites nothing."""
    return any(entry.source_seq > note.source_seq for entry in listed if entry.state in _MAYBE_THERE)


def _own_move(
    note: NoteFacts, own: Entry | None, reason: str | None, listed: Sequence[Entry]
) -> Literal["add", "hold", "release", "plan_again"] | None:
    if own is None:
        return "add" if note.built_at else None
    if own.state in _WAITING:
        stands = (own.state is State.HELD, own.reason, own.source_seq, own.visit_day)
        if stands == (reason is not None, reason, note.source_seq, note.visit_day):
            return None
        return "hold" if reason else "release"
    if reason is not None or note.built_at is None or own.settled_at is None:
        return None
    if own.state is State.DELIVERED:
        # Edited, delivered, and edited back: the same text has to go out a second time.
        return "plan_again" if newest_delivered(listed) is not own else None
    # Rejected documents that a better mapping built anew deserve another try.
    return "plan_again" if own.state is State.REJECTED and note.built_at > own.settled_at else None


def plan(warehouse: Warehouse, view: DayView) -> int:
    """Brings the ledger up to date with the notes of a day; returns how many decisions that took.

    Nothing is written when nothing changed.
    """
    decisions = [
        decision
        for note in view.facts.values()
        for decision in decide(view.target, note, view.entries.get(note.note_id, ()))
    ]
    for chunk in in_chunks(decisions, BATCH):
        with warehouse.begin() as connection:
            _write(connection, warehouse.account, chunk)
    return len(decisions)


def _write(connection: sa.Connection, account: str, decisions: Sequence[Decision]) -> None:
    fresh = [
        NewEntry(each.key, each.source_seq, each.visit_day, each.reason) for each in decisions if each.move == "add"
    ]
    ledger.add(connection, account, fresh)
    for each in decisions:
        # A guarded move that does nothing lost against another process; the next look decides again.
        if each.move == "hold":
            reason = each.reason or SUPERSEDED
            ledger.hold(connection, each.key, reason, source_seq=each.source_seq, visit_day=each.visit_day)
        elif each.move == "release":
            ledger.release(connection, each.key, source_seq=each.source_seq, visit_day=each.visit_day)
        elif each.move == "plan_again":
            ledger.plan_again(connection, each.key, source_seq=each.source_seq, visit_day=each.visit_day)
