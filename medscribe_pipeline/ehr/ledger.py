r"""The delivery ledger: which version of which note stands where on its way into an EHR.

```
 plan_again     .-------------------------------------------------- delivered, rejected, discarded
                v
    held <---> planned --claim--> claimed --mark_sent--> sent --deliver---------> delivered
   hold,        ^ ^ ^                |                   | | \--refuse----------> rejected
   release      | | '---give_back----'                   | |                         ^   ^
                | '--------take_back---------------------' | lose          deliver, |   |
                |                                          v               refuse   |   |
                '--------release_absent----------------- unknown --------------------'---'

    planned, held, rejected, unknown --discard--> discarded
```

A unit is one version of one note on one target: a row for each kind of document the target takes of it, fixed while
it is under way, all in the same state. Every move is one guarded UPDATE inside the caller's transaction: it says
from which states it may start, and does nothing (returns `False`) when another process was faster. What is done to many
units at once (`claim_all` and others) is done by few such statements, and says which units it was done to. What may
follow what is data: `MOVES`.

`claimed` is committed before anything is prepared and `sent` before a request leaves, so whoever finds a dead
worker's row knows: `claimed` never left, `sent` may have arrived. `unknown` is left by looking at the server, or by a
person who has looked. `discarded` is a person's word that this version shall not be sent.

Where a request can succeed in part, a row that has a `server_id` while its unit is not delivered is done already for
this version: that document is there, and is not sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.ehr.entering import NewEntry, add
from medscribe_pipeline.ehr.moves import MOVES, NO_COPIES, Copy, Key, Move, State, move, move_all
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.warehouse.among import KEYS, among_keys
from medscribe_pipeline.warehouse.tables import deliveries, notes
from medscribe_pipeline.warehouse.writing import native_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

__all__ = [
    "COMPOSITION",
    "DOCUMENT_REFERENCE",
    "GIVEN_UP_IN_DOUBT",
    "KINDS",
    "MOVES",
    "Copy",
    "Entry",
    "Key",
    "Move",
    "NewEntry",
    "State",
    "add",
    "claim",
    "claim_all",
    "deliver",
    "deliver_all",
    "discard",
    "entered",
    "entries",
    "give_back",
    "hold",
    "lose",
    "mark_all_sent",
    "mark_sent",
    "plan_again",
    "refuse",
    "release",
    "release_absent",
    "reshape",
    "take_back",
]

COMPOSITION = "Composition"
DOCUMENT_REFERENCE = "DocumentReference"
KINDS = (COMPOSITION, DOCUMENT_REFERENCE)
"""The kinds of document every note has."""


GIVEN_UP_IN_DOUBT = "discarded_in_doubt"
"""The act of discarding what may have arrived, as an outcome code tells it."""


_WAITING = (State.PLANNED, State.HELD)
# In the order in which `entries` takes a row apart. Codes are asked for where somebody looks at them, and times that
# nobody asks for not at all: reading these takes longer than reading all the rest.
_READ = (
    *(deliveries.c[name] for name in ("note_id", "kind", "version", "visit_day", "source_seq", "state", "reason")),
    *(deliveries.c[name] for name in ("server_id", "etag", "attempts", "claimed_by", "settled_at")),
    sa.case((deliveries.c.state == State.DISCARDED, deliveries.c.outcome_codes)),
)
_OF_TARGET = sa.select(*_READ).where(deliveries.c.target == sa.bindparam("of_target"))


@cache
def _of_notes(native: str | None) -> sa.Select[Any]:
    return _OF_TARGET.where(among_keys(native, deliveries.c.note_id))


@dataclass(frozen=True, slots=True)
class Entry:
    """The rows of one note version, read together.

    `copies` is by kind of document, and has all its kinds. `given_up_in_doubt`: a person discarded it while nobody knew
    whether it had arrived.
    """

    key: Key
    state: State
    reason: str | None
    source_seq: int
    visit_day: date
    attempts: int
    claimed_by: str | None
    settled_at: datetime | None
    copies: Mapping[str, Copy]
    given_up_in_doubt: bool = False

    @property
    def done(self) -> dict[str, Copy]:
        """What of it is on the server for certain."""
        return {kind: copy for kind, copy in self.copies.items() if copy.server_id is not None}


def entries(connection: sa.Connection, target: str, note_ids: Sequence[str] | sa.Select[Any]) -> dict[str, list[Entry]]:
    """All versions of the given notes on a target, by note.

    Args:
        connection: An open transaction.
        target: Name of the target.
        note_ids: Note ids, or a query that selects them.

    Raises:
        MedscribeError: `ledger_torn`: the rows of a version do not agree. No move leaves them so.
    """
    if isinstance(note_ids, sa.Select):
        rows = connection.execute(_OF_TARGET.where(deliveries.c.note_id.in_(note_ids)), {"of_target": target})
    else:
        rows = connection.execute(_of_notes(native_name(connection)), {"of_target": target, KEYS: list(note_ids)})
    units: dict[Key, list[Sequence[Any]]] = {}
    for row in rows.all():
        units.setdefault(Key(target, row[0], row[2]), []).append(row)
    found: dict[str, list[Entry]] = {}
    for key, of_unit in units.items():
        found.setdefault(key.note_id, []).append(_entry(key, of_unit))
    return found


def _entry(key: Key, rows: Sequence[Sequence[Any]]) -> Entry:
    copies: dict[str, Copy] = {}
    doubts = False
    shared: tuple[str, int, str | None] | None = None
    for row in rows:
        _, kind, _, visit_day, seq, state, reason, server_id, etag, attempts, claimed_by, settled_at, codes = row
        if shared is None:
            shared = (state, attempts, claimed_by)
        elif (state, attempts, claimed_by) != shared:
            raise MedscribeError(
                "The rows of a delivery do not agree; restore the ledger from a backup or correct it by hand",
                code="ledger_torn",
            )
        copies[kind] = Copy(server_id, etag)
        doubts = doubts or (codes is not None and _given_up_in_doubt(codes))
    return Entry(key, State(state), reason, seq, visit_day, attempts, claimed_by, settled_at, copies, doubts)


def _given_up_in_doubt(codes: Sequence[str]) -> bool:
    """Whether the last act by hand among the codes (see `signatures`) was to discard it in doubt."""
    acts = [code for code in codes if code.startswith("by_hand:")]
    return bool(acts) and acts[-1].startswith(f"by_hand:{GIVEN_UP_IN_DOUBT}:")


def entered(new: NewEntry) -> Entry:
    """What `entries` says of a version that was just entered."""
    state = State.HELD if new.reason else State.PLANNED
    copies = dict.fromkeys(new.kinds, Copy(None, None))
    return Entry(new.key, state, new.reason, new.source_seq, new.visit_day, 0, None, None, copies)


def reshape(connection: sa.Connection, key: Key, kinds: Sequence[str]) -> bool:
    """Gives a version that waits a row for each of `kinds` (one at least), and for what of it is there already.

    What a target takes may change while a note waits, and so may the documents that are built of it.
    """
    # Whoever claims it locks the note first, so its rows cannot begin to move while some are added.
    connection.execute(sa.select(notes.c.note_id).where(notes.c.note_id == key.note_id).with_for_update())
    of_unit = (
        deliveries.c.target == key.target,
        deliveries.c.note_id == key.note_id,
        deliveries.c.version == key.version,
    )
    rows = connection.execute(sa.select(deliveries).where(*of_unit).with_for_update()).mappings().all()
    if not rows or any(row["state"] not in _WAITING for row in rows):
        return False
    gone = [row["kind"] for row in rows if row["kind"] not in kinds and row["server_id"] is None]
    fresh = [kind for kind in kinds if kind not in {row["kind"] for row in rows}]
    if fresh:
        blank = {**rows[0], "server_id": None, "etag": None, "outcome_codes": None}
        connection.execute(sa.insert(deliveries), [{**blank, "kind": kind} for kind in fresh])
    if gone:
        connection.execute(sa.delete(deliveries).where(*of_unit, deliveries.c.kind.in_(gone)))
    return bool(gone or fresh)


def hold(connection: sa.Connection, key: Key, reason: str, *, source_seq: int, visit_day: date) -> bool:
    """Must not be sent, for `reason`."""
    return move(connection, "hold", key, {"reason": reason, "source_seq": source_seq, "visit_day": visit_day})


def release(connection: sa.Connection, key: Key, *, source_seq: int, visit_day: date) -> bool:
    """May be sent: nothing holds it (any more)."""
    return move(connection, "release", key, {"reason": None, "source_seq": source_seq, "visit_day": visit_day})


def plan_again(connection: sa.Connection, key: Key, *, source_seq: int, visit_day: date) -> bool:
    """Has to be sent once more: the source went back to it, its documents were built anew, or a person says so.

    What the server said of a delivery no longer describes the server, so it is forgotten. What of a rejected or
    discarded version is there stays known: it is not to be there twice.
    """
    values = {"reason": None, "source_seq": source_seq, "visit_day": visit_day, "settled_at": None}
    return move(connection, "plan_again", key, values)


def claim(connection: sa.Connection, key: Key, *, worker: str, now: datetime) -> bool:
    """`worker` is going to send it, and nobody else."""
    return move(connection, "claim", key, {"claimed_by": worker, "claimed_at": now, "reason": None})


def claim_all(connection: sa.Connection, keys: Sequence[Key], *, worker: str, now: datetime) -> set[Key]:
    """`claim` for each of them; returns those that are claimed now."""
    values = {"claimed_by": worker, "claimed_at": now, "reason": None}
    return move_all(connection, "claim", keys, values)


def give_back(connection: sa.Connection, key: Key, *, worker: str) -> bool:
    """Was claimed by `worker` and did not leave."""
    return move(connection, "give_back", key, {"claimed_by": None, "claimed_at": None}, worker=worker)


def mark_sent(connection: sa.Connection, key: Key, *, worker: str, now: datetime) -> bool:
    """Is about to leave: from the commit on it may have arrived."""
    return move(connection, "mark_sent", key, {"sent_at": now}, worker=worker)


def mark_all_sent(connection: sa.Connection, keys: Sequence[Key], *, worker: str, now: datetime) -> set[Key]:
    """`mark_sent` for each of them; returns those that may leave."""
    return move_all(connection, "mark_sent", keys, {"sent_at": now}, worker=worker)


def take_back(
    connection: sa.Connection,
    key: Key,
    *,
    worker: str,
    codes: Sequence[str] = (),
    copies: Mapping[str, Copy] = NO_COPIES,
) -> bool:
    """Provably had no effect beyond `copies`: no connection, told to come back later, or not allowed in."""
    values = {"claimed_by": None, "claimed_at": None, "outcome_codes": list(codes)}
    return move(connection, "take_back", key, values, copies=copies, worker=worker)


def deliver(
    connection: sa.Connection,
    key: Key,
    copies: Mapping[str, Copy],
    *,
    now: datetime,
    worker: str | None = None,
    attempts: int | None = None,
) -> bool:
    """Is on the server, as `copies` and what was there already; `False` if that is not the whole of it.

    Give `worker` for an answer, `attempts` (as read) for a look-up or a person's word.
    """
    values = {"reason": None, "settled_at": now, "claimed_by": None, "claimed_at": None}
    return move(connection, "deliver", key, values, copies=copies, worker=worker, attempts=attempts)


def deliver_all(
    connection: sa.Connection, copies: Mapping[Key, Mapping[str, Copy]], *, now: datetime, worker: str
) -> set[Key]:
    """`deliver` for each of them, by its answer; returns those that were delivered."""
    values = {"reason": None, "settled_at": now, "claimed_by": None, "claimed_at": None}
    return move_all(connection, "deliver", list(copies), values, copies=copies, worker=worker)


def refuse(
    connection: sa.Connection,
    key: Key,
    reason: str,
    *,
    now: datetime,
    codes: Sequence[str] = (),
    copies: Mapping[str, Copy] = NO_COPIES,
    worker: str | None = None,
    attempts: int | None = None,
) -> bool:
    """The server will not have it beyond `copies`; a person must look. `worker` and `attempts` as in `deliver`."""
    values = {"reason": reason, "settled_at": now, "claimed_by": None, "claimed_at": None, "outcome_codes": list(codes)}
    return move(connection, "refuse", key, values, copies=copies, worker=worker, attempts=attempts)


def lose(
    connection: sa.Connection,
    key: Key,
    reason: str,
    *,
    now: datetime,
    codes: Sequence[str] = (),
    copies: Mapping[str, Copy] = NO_COPIES,
    worker: str | None = None,
    attempts: int | None = None,
) -> bool:
    """What is not in `copies` may have arrived or not. `worker` and `attempts` as in `deliver`."""
    values = {"reason": reason, "settled_at": now, "claimed_by": None, "claimed_at": None, "outcome_codes": list(codes)}
    return move(connection, "lose", key, values, copies=copies, worker=worker, attempts=attempts)


def release_absent(
    connection: sa.Connection, key: Key, *, attempts: int, copies: Mapping[str, Copy] = NO_COPIES
) -> bool:
    """Surely did not arrive, but for `copies`: the server was asked, or a person has looked.

    `attempts` as read before looking.
    """
    return move(
        connection, "release_absent", key, {"reason": None, "settled_at": None}, copies=copies, attempts=attempts
    )


def discard(connection: sa.Connection, key: Key, *, now: datetime, attempts: int | None = None) -> bool:
    """Shall not be sent, a person says; the reason stays what it was. `attempts` as in `deliver`."""
    # As in `reshape`: rows that are being added must not be missed.
    connection.execute(sa.select(notes.c.note_id).where(notes.c.note_id == key.note_id).with_for_update())
    return move(connection, "discard", key, {"settled_at": now}, attempts=attempts)
