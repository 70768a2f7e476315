"""What of a visit day may go out: each note's newest version is planned or held, older ones are superseded.

Every reason to hold a note is weighed here, in `decide`; each run decides again, so a note is released by itself when
the reason is gone. Nothing is written when nothing changed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.ledger import DOCUMENT_REFERENCE, KINDS, Copy, Entry, Key, NewEntry, State
from medscribe_pipeline.notes import NoteState
from medscribe_pipeline.warehouse.store import in_chunks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    import sqlalchemy as sa

    from medscribe_pipeline.ehr.day_view import DayView, NoteFacts
    from medscribe_pipeline.ehr.targets import Capabilities
    from medscribe_pipeline.settings import EhrSettings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = [
    "HOLD_REASONS",
    "Decision",
    "Rules",
    "decide",
    "hold_reason",
    "is_behind",
    "may_claim",
    "newest_delivered",
    "plan",
    "standing_copies",
    "would_leave",
]

BATCH = 500

NOT_VALIDATED = "not_validated"
PATIENT_UNKNOWN = "patient_unknown"
RETRACTED_BEFORE_DELIVERY = "retracted_before_delivery"
SUPERSEDED = "superseded"
DOCUMENTS_MISSING = "documents_missing"
AMENDMENT_BY_HAND = "amendment_by_hand"
RETRACTION_BY_HAND = "retraction_by_hand"
HELD_BY_SWITCH = "held_by_switch"

HOLD_REASONS = frozenset(
    {
        NOT_VALIDATED,
        PATIENT_UNKNOWN,
        RETRACTED_BEFORE_DELIVERY,
        SUPERSEDED,
        DOCUMENTS_MISSING,
        AMENDMENT_BY_HAND,
        RETRACTION_BY_HAND,
        HELD_BY_SWITCH,
    }
)
"""Why a note is held, as far as that follows from the note, the ledger and the rules; all else is an obstacle."""

_WAITING = (State.PLANNED, State.HELD)
# It is there, or it may be, or another worker is about to put it there.
_MAYBE_THERE = (State.CLAIMED, State.SENT, State.UNKNOWN, State.DELIVERED)
_IN_DOUBT = (State.CLAIMED, State.SENT, State.UNKNOWN)
_MoveName = Literal["add", "reshape", "hold", "release", "plan_again"]
_ALWAYS_LATER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rules:
    """What of a target decides whether a note goes out, and as what.

    Attributes:
        kinds: Kinds of document the target takes, in the order they are sent.
        amendment: What happens with a later version; see `Capabilities`.
        retraction: What happens with a note withdrawn at its source.
        hold_all: Nothing goes out.
    """

    kinds: tuple[str, ...] = KINDS
    amendment: Literal["update", "new_document", "hold"] = "update"
    retraction: Literal["update", "hold"] = "update"
    hold_all: bool = False

    @classmethod
    def of(cls, capabilities: Capabilities, settings: EhrSettings) -> Rules:
        """The rules of a target."""
        return cls(capabilities.kinds, capabilities.amendment, capabilities.retraction, settings.hold_all)


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


def standing_copies(listed: Sequence[Entry], key: Key) -> tuple[dict[str, Copy], str | None]:
    """What other versions of a note have left on the target: the newest copy of each kind of document.

    Not only what was delivered: a version that got there in part and was then overtaken has left that part.

    Returns:
        The copies, and the version the DocumentReference is of (of the others, where there is none).
    """
    copies: dict[str, Copy] = {}
    version: str | None = None
    # What is not settled was sent later than what is.
    for entry in sorted(listed, key=lambda entry: (entry.source_seq, entry.settled_at or _ALWAYS_LATER)):
        if entry.key == key or not entry.done:
            continue
        if DOCUMENT_REFERENCE in entry.done or DOCUMENT_REFERENCE not in copies:
            version = entry.key.version
        copies |= entry.done
    return copies, version


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing to do in the ledger: `add`, `reshape`, or the move of that name."""

    move: _MoveName
    key: Key
    source_seq: int
    visit_day: date
    reason: str | None = None
    kinds: tuple[str, ...] = ()


def decide(
    target: str, note: NoteFacts, listed: Sequence[Entry], rules: Rules = Rules(), obstacle: str | None = None
) -> list[Decision]:
    """What the ledger needs for a note; nothing for a note that stands where it should.

    Args:
        target: Name of the target.
        note: The note as it is now.
        listed: All its ledger entries on the target.
        rules: What the target takes.
        obstacle: Why the target would not take these documents, or for whom and where it does not know.
    """
    if not listed:
        return _first(target, note, rules, obstacle)
    if is_behind(note, listed):
        return []
    own = next((entry for entry in listed if entry.key.version == note.version), None)
    others = [entry for entry in listed if entry is not own]
    decisions = [
        Decision("hold", entry.key, entry.source_seq, entry.visit_day, SUPERSEDED)
        for entry in others
        if entry.state in _WAITING and entry.reason != SUPERSEDED
    ]
    there = {kind for each in others for kind in (each.copies if _maybe_there(each) else each.done)}
    kinds = _kinds(note, rules, there)
    reason = _reason(note, rules, there, obstacle) if kinds else DOCUMENTS_MISSING
    if (
        reason is None
        and note.state == NoteState.RETRACTED
        and not any(each.done or each.state in _MAYBE_THERE for each in others)
    ):
        # Whether there is anything to withdraw nobody knows, and a person has said not to ask.
        reason = RETRACTION_BY_HAND
    key = Key(target, note.note_id, note.version)
    decisions += [
        Decision(move, key, note.source_seq, note.visit_day, None if move == "plan_again" else reason, kinds)
        for move in _own_moves(note, own, reason, listed, kinds)
    ]
    return decisions


def _first(target: str, note: NoteFacts, rules: Rules, obstacle: str | None) -> list[Decision]:
    """What `decide` says of a note the ledger knows nothing of: nearly all of them, once."""
    kinds = _kinds(note, rules, set())
    if not kinds:
        return []
    key = Key(target, note.note_id, note.version)
    return [Decision("add", key, note.source_seq, note.visit_day, _reason(note, rules, set(), obstacle), kinds)]


def _maybe_there(entry: Entry) -> bool:
    return entry.state in _MAYBE_THERE or entry.given_up_in_doubt


def would_leave(target: str, note: NoteFacts, listed: Sequence[Entry], rules: Rules) -> bool:
    """Whether a note would be planned if no obstacle stands in its way."""
    decisions = [each for each in decide(target, note, listed, rules) if each.key.version == note.version]
    if decisions:
        return decisions[-1].reason is None
    stands = any(entry.state is State.PLANNED and entry.key.version == note.version for entry in listed)
    return stands and not is_behind(note, listed)


def may_claim(note: NoteFacts, own: Entry, listed: Sequence[Entry], rules: Rules = Rules()) -> bool:
    """Whether a planned version can be sent at this moment: decided, still the newest, and nobody else at the note."""
    return (
        own.state is State.PLANNED
        and own.key.version == note.version
        and not any(entry.state in _IN_DOUBT for entry in listed)
        and not is_behind(note, listed)
        and not decide(own.key.target, note, listed, rules)
    )


def is_behind(note: NoteFacts, listed: Sequence[Entry]) -> bool:
    """The ledger knows a later version than the warehouse (restored from a backup): an older one overwrites nothing."""
    return any(entry.source_seq > note.source_seq for entry in listed if _maybe_there(entry) or entry.done)


def _kinds(note: NoteFacts, rules: Rules, there: set[str]) -> tuple[str, ...]:
    """The documents of a note that the target is to have; none while they are not built."""
    if not note.built_at:
        return ()
    all_built = note.kinds.issuperset(rules.kinds)
    kinds = rules.kinds if all_built else tuple(kind for kind in rules.kinds if kind in note.kinds)
    if note.state == NoteState.RETRACTED and there:
        # A withdrawal reaches what is there. Nothing is put there only to be withdrawn.
        return tuple(kind for kind in kinds if kind in there)
    return kinds


def _reason(note: NoteFacts, rules: Rules, there: set[str], obstacle: str | None) -> str | None:
    reason = hold_reason(note, maybe_there=bool(there))
    if reason is None and there:
        if note.state == NoteState.RETRACTED:
            reason = RETRACTION_BY_HAND if rules.retraction == "hold" else None
        elif rules.amendment == "hold":
            reason = AMENDMENT_BY_HAND
    # The switch comes last: what it holds would go out without it.
    return reason or obstacle or (HELD_BY_SWITCH if rules.hold_all else None)


def _own_moves(
    note: NoteFacts, own: Entry | None, reason: str | None, listed: Sequence[Entry], kinds: tuple[str, ...]
) -> list[_MoveName]:
    if own is None:
        return ["add"] if kinds else []
    kept = {} if own.state is State.DELIVERED else own.done
    reshaped: list[_MoveName] = [] if own.copies.keys() == {*kinds, *kept} else ["reshape"]
    if own.state in _WAITING:
        stands = (own.state is State.HELD, own.reason, own.source_seq, own.visit_day)
        settled = stands == (reason is not None, reason, note.source_seq, note.visit_day)
        if reason is not None:
            return [] if settled else ["hold"]
        return reshaped if settled else ["release", *reshaped]
    if note.built_at is None or own.settled_at is None:
        return []
    if own.state is State.DELIVERED and newest_delivered(listed) is not own:
        # Edited, delivered, and edited back: the same text has to go out a second time, or to wait like any other.
        return ["plan_again", "hold"] if reason else ["plan_again", *reshaped]
    # Rejected documents that a better mapping built anew deserve another try.
    anew = own.state is State.REJECTED and reason is None and note.built_at > own.settled_at
    return ["plan_again", *reshaped] if anew else []


def plan(
    warehouse: Warehouse, view: DayView, rules: Rules = Rules(), obstacles: Mapping[str, str] | None = None
) -> DayView | None:
    """Brings the ledger up to date with the notes of a day.

    Args:
        warehouse: Where the ledger is.
        view: The day as it stands.
        rules: What the target takes.
        obstacles: Why notes cannot go out as they are, by note id.

    Returns:
        The day as it stands then; `None` where it has to be looked at again for that.
    """
    known = obstacles or {}
    decisions = [
        decision
        for note in view.facts.values()
        for decision in decide(view.target, note, view.entries.get(note.note_id, ()), rules, known.get(note.note_id))
    ]
    as_decided = True
    for chunk in in_chunks(decisions, BATCH):
        with warehouse.begin() as connection:
            as_decided &= _write(connection, warehouse.account, chunk)
    if not as_decided:
        return None
    entries = dict(view.entries)
    for each in decisions:
        entries[each.key.note_id] = [*entries.get(each.key.note_id, ()), ledger.entered(_new_entry(each))]
    return replace(view, entries=entries)


def _write(connection: sa.Connection, account: str, decisions: Sequence[Decision]) -> bool:
    """Does what was decided; whether that was to enter versions and nothing else, and all of them are new."""
    fresh = [_new_entry(each) for each in decisions if each.move == "add"]
    entered = ledger.add(connection, account, fresh)
    for each in decisions:
        # A guarded move that does nothing lost against another process; the next look decides again.
        if each.move == "hold":
            reason = each.reason or SUPERSEDED
            ledger.hold(connection, each.key, reason, source_seq=each.source_seq, visit_day=each.visit_day)
        elif each.move == "release":
            ledger.release(connection, each.key, source_seq=each.source_seq, visit_day=each.visit_day)
        elif each.move == "plan_again":
            ledger.plan_again(connection, each.key, source_seq=each.source_seq, visit_day=each.visit_day)
        elif each.move == "reshape":
            ledger.reshape(connection, each.key, each.kinds)
    return entered and len(fresh) == len(decisions)


def _new_entry(decision: Decision) -> NewEntry:
    return NewEntry(decision.key, decision.kinds, decision.source_seq, decision.visit_day, decision.reason)
