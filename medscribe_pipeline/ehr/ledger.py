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
from which states it may start, and does nothing (returns `False`) when another process was faster. What may follow
what is data: `MOVES`.

`claimed` is committed before anything is prepared and `sent` before a request leaves, so whoever finds a dead
worker's row knows: `claimed` never left, `sent` may have arrived. `unknown` is left by looking at the server, or by a
person who has looked. `discarded` is a person's word that this version shall not be sent.

Where a request can succeed in part, a row that has a `server_id` while its unit is not delivered is done already for
this version: that document is there, and is not sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.warehouse.tables import deliveries, notes
from medscribe_pipeline.warehouse.writing import insert_absent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date, datetime

__all__ = [
    "COMPOSITION",
    "DOCUMENT_REFERENCE",
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
    "deliver",
    "discard",
    "entries",
    "give_back",
    "hold",
    "lose",
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


class State(StrEnum):
    """Where a note version stands; see the picture above."""

    PLANNED = "planned"
    CLAIMED = "claimed"
    SENT = "sent"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    HELD = "held"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Move:
    """One allowed move: from any of `sources` to `target`."""

    sources: tuple[State, ...]
    target: State


MOVES: Mapping[str, Move] = {
    "hold": Move((State.PLANNED, State.HELD), State.HELD),
    "release": Move((State.HELD, State.PLANNED), State.PLANNED),
    "plan_again": Move((State.DELIVERED, State.REJECTED, State.DISCARDED), State.PLANNED),
    "claim": Move((State.PLANNED,), State.CLAIMED),
    "give_back": Move((State.CLAIMED,), State.PLANNED),
    "mark_sent": Move((State.CLAIMED,), State.SENT),
    "take_back": Move((State.SENT,), State.PLANNED),
    "deliver": Move((State.SENT, State.UNKNOWN), State.DELIVERED),
    "refuse": Move((State.SENT, State.UNKNOWN), State.REJECTED),
    "lose": Move((State.SENT, State.UNKNOWN), State.UNKNOWN),
    "release_absent": Move((State.UNKNOWN,), State.PLANNED),
    "discard": Move((State.PLANNED, State.HELD, State.REJECTED, State.UNKNOWN), State.DISCARDED),
}
"""Every way a row may change its state. There is one function of the same name for each."""

_WAITING = (State.PLANNED, State.HELD)
_NO_COPIES: Mapping[str, Copy] = {}


class Key(NamedTuple):
    """One version of one note on one target."""

    target: str
    note_id: str
    version: str


@dataclass(frozen=True, slots=True)
class Copy:
    """The server's copy of one resource: its logical id, and the ETag of the version we wrote or saw last."""

    server_id: str | None
    etag: str | None
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """The rows of one note version, read together. `copies` is by kind of document, and has all its kinds."""

    key: Key
    state: State
    reason: str | None
    source_seq: int
    visit_day: date
    attempts: int
    claimed_by: str | None
    settled_at: datetime | None
    copies: Mapping[str, Copy]

    @property
    def done(self) -> dict[str, Copy]:
        """What of it is on the server for certain."""
        return {kind: copy for kind, copy in self.copies.items() if copy.server_id is not None}


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A note version the ledger has not seen. With a `reason` it starts held, without one planned."""

    key: Key
    kinds: tuple[str, ...]
    source_seq: int
    visit_day: date
    reason: str | None


def entries(connection: sa.Connection, target: str, note_ids: Sequence[str] | sa.Select[Any]) -> dict[str, list[Entry]]:
    """All versions of the given notes on a target, by note.

    Args:
        connection: An open transaction.
        target: Name of the target.
        note_ids: Note ids, or a query that selects them.

    Raises:
        MedscribeError: `ledger_torn`: the rows of a version do not agree. No move leaves them so.
    """
    query = sa.select(deliveries).where(deliveries.c.target == target, deliveries.c.note_id.in_(note_ids))
    rows: dict[Key, dict[str, sa.RowMapping]] = {}
    for row in connection.execute(query).mappings():
        rows.setdefault(Key(target, row["note_id"], row["version"]), {})[row["kind"]] = row
    found: dict[str, list[Entry]] = {}
    for key, by_kind in rows.items():
        found.setdefault(key.note_id, []).append(_entry(key, by_kind))
    return found


def _entry(key: Key, rows: Mapping[str, sa.RowMapping]) -> Entry:
    row = next(iter(rows.values()))
    shared = (row["state"], row["attempts"], row["claimed_by"])
    if any((each["state"], each["attempts"], each["claimed_by"]) != shared for each in rows.values()):
        raise MedscribeError(
            "The rows of a delivery do not agree; restore the ledger from a backup or correct it by hand",
            code="ledger_torn",
        )
    return Entry(
        key=key,
        state=State(row["state"]),
        reason=row["reason"],
        source_seq=row["source_seq"],
        visit_day=row["visit_day"],
        attempts=row["attempts"],
        claimed_by=row["claimed_by"],
        settled_at=row["settled_at"],
        copies={kind: Copy(each["server_id"], each["etag"]) for kind, each in rows.items()},
    )


def add(connection: sa.Connection, account: str, fresh: Iterable[NewEntry]) -> None:
    """Enters note versions; one that another process entered meanwhile stays as it is."""
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
    insert_absent(connection, deliveries, rows)


def reshape(connection: sa.Connection, key: Key, kinds: Sequence[str]) -> bool:
    """Gives a version that waits a row for each of `kinds` (one at least), and for what of it is there already.

    What a target takes may change while a note waits, and so may the documents that are built of it.
    """
    # Whoever claims it locks the note first, so its rows cannot begin to move while some are added.
    connection.execute(sa.select(notes.c.note_id).where(notes.c.note_id == key.note_id).with_for_update())
    rows = connection.execute(sa.select(deliveries).where(*_is(key)).with_for_update()).mappings().all()
    if not rows or any(row["state"] not in _WAITING for row in rows):
        return False
    gone = [row["kind"] for row in rows if row["kind"] not in kinds and row["server_id"] is None]
    fresh = [kind for kind in kinds if kind not in {row["kind"] for row in rows}]
    if fresh:
        blank = {**rows[0], "server_id": None, "etag": None, "outcome_codes": None}
        connection.execute(sa.insert(deliveries), [{**blank, "kind": kind} for kind in fresh])
    if gone:
        connection.execute(sa.delete(deliveries).where(*_is(key), deliveries.c.kind.in_(gone)))
    return bool(gone or fresh)


def hold(connection: sa.Connection, key: Key, reason: str, *, source_seq: int, visit_day: date) -> bool:
    """Must not be sent, for `reason`."""
    return _move(connection, "hold", key, {"reason": reason, "source_seq": source_seq, "visit_day": visit_day})


def release(connection: sa.Connection, key: Key, *, source_seq: int, visit_day: date) -> bool:
    """May be sent: nothing holds it (any more)."""
    return _move(connection, "release", key, {"reason": None, "source_seq": source_seq, "visit_day": visit_day})


def plan_again(connection: sa.Connection, key: Key, *, source_seq: int, visit_day: date) -> bool:
    """Has to be sent once more: the source went back to it, its documents were built anew, or a person says so.

    What the server said of a delivery no longer describes the server, so it is forgotten. What of a rejected or
    discarded version is there stays known: it is not to be there twice.
    """
    delivered = deliveries.c.state == State.DELIVERED
    forgotten = {name: sa.case((delivered, sa.null()), else_=deliveries.c[name]) for name in ("server_id", "etag")}
    values = {"reason": None, "source_seq": source_seq, "visit_day": visit_day, "settled_at": None, **forgotten}
    return _move(connection, "plan_again", key, values)


def claim(connection: sa.Connection, key: Key, *, worker: str, now: datetime) -> bool:
    """`worker` is going to send it, and nobody else."""
    return _move(connection, "claim", key, {"claimed_by": worker, "claimed_at": now, "reason": None})


def give_back(connection: sa.Connection, key: Key, *, worker: str) -> bool:
    """Was claimed by `worker` and did not leave."""
    return _move(connection, "give_back", key, {"claimed_by": None, "claimed_at": None}, worker=worker)


def mark_sent(connection: sa.Connection, key: Key, *, worker: str, now: datetime) -> bool:
    """Is about to leave: from the commit on it may have arrived."""
    values = {"sent_at": now, "attempts": deliveries.c.attempts + 1}
    return _move(connection, "mark_sent", key, values, worker=worker)


def take_back(
    connection: sa.Connection,
    key: Key,
    *,
    worker: str,
    codes: Sequence[str] = (),
    copies: Mapping[str, Copy] = _NO_COPIES,
) -> bool:
    """Provably had no effect beyond `copies`: no connection, told to come back later, or not allowed in."""
    values = {"claimed_by": None, "claimed_at": None, "outcome_codes": list(codes)}
    return _move(connection, "take_back", key, values, copies=copies, worker=worker)


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
    elsewhere = deliveries.alias()
    missing = sa.exists().where(
        *_is(key, elsewhere), elsewhere.c.server_id.is_(None), elsewhere.c.kind.not_in(list(copies))
    )
    values = {"reason": None, "settled_at": now, "claimed_by": None, "claimed_at": None}
    return _move(connection, "deliver", key, values, ~missing, copies=copies, worker=worker, attempts=attempts)


def refuse(
    connection: sa.Connection,
    key: Key,
    reason: str,
    *,
    now: datetime,
    codes: Sequence[str] = (),
    copies: Mapping[str, Copy] = _NO_COPIES,
    worker: str | None = None,
    attempts: int | None = None,
) -> bool:
    """The server will not have it beyond `copies`; a person must look. `worker` and `attempts` as in `deliver`."""
    values = {"reason": reason, "settled_at": now, "claimed_by": None, "claimed_at": None, "outcome_codes": list(codes)}
    return _move(connection, "refuse", key, values, copies=copies, worker=worker, attempts=attempts)


def lose(
    connection: sa.Connection,
    key: Key,
    reason: str,
    *,
    now: datetime,
    codes: Sequence[str] = (),
    copies: Mapping[str, Copy] = _NO_COPIES,
    worker: str | None = None,
    attempts: int | None = None,
) -> bool:
    """What is not in `copies` may have arrived or not. `worker` and `attempts` as in `deliver`."""
    values = {"reason": reason, "settled_at": now, "claimed_by": None, "claimed_at": None, "outcome_codes": list(codes)}
    return _move(connection, "lose", key, values, copies=copies, worker=worker, attempts=attempts)


def release_absent(
    connection: sa.Connection, key: Key, *, attempts: int, copies: Mapping[str, Copy] = _NO_COPIES
) -> bool:
    """Surely did not arrive, but for `copies`: the server was asked, or a person has looked.

    `attempts` as read before looking.
    """
    return _move(
        connection, "release_absent", key, {"reason": None, "settled_at": None}, copies=copies, attempts=attempts
    )


def discard(connection: sa.Connection, key: Key, *, now: datetime, attempts: int | None = None) -> bool:
    """Shall not be sent, a person says; the reason stays what it was. `attempts` as in `deliver`."""
    # As in `reshape`: rows that are being added must not be missed.
    connection.execute(sa.select(notes.c.note_id).where(notes.c.note_id == key.note_id).with_for_update())
    return _move(connection, "discard", key, {"settled_at": now}, attempts=attempts)


def _move(
    connection: sa.Connection,
    name: str,
    key: Key,
    values: Mapping[str, Any],
    *only_if: sa.ColumnElement[bool],
    copies: Mapping[str, Copy] = _NO_COPIES,
    worker: str | None = None,
    attempts: int | None = None,
) -> bool:
    """Updates all rows of a unit if all stand where `name` may start; `False` if they do not (any more)."""
    move = MOVES[name]
    other = deliveries.alias()
    # Rows that disagree stay as they are, for `entries` to report.
    torn = sa.exists().where(*_is(key, other), other.c.state.not_in(move.sources))
    where = [*_is(key), deliveries.c.state.in_(move.sources), ~torn, *only_if]
    if worker is not None:
        where.append(deliveries.c.claimed_by == worker)
    if attempts is not None:
        # Between the look at the server and this write another process may have sent it again and lost that answer
        # too: the state is `unknown` as before, but what was seen no longer says anything.
        where.append(deliveries.c.attempts == attempts)
    seen = _seen(copies, values) if copies else {}
    moved = connection.execute(sa.update(deliveries).where(*where).values(state=move.target, **{**values, **seen}))
    return moved.rowcount > 0


def _seen(copies: Mapping[str, Copy], values: Mapping[str, Any]) -> dict[str, sa.ColumnElement[Any]]:
    """What is on the server, for the rows of the kinds that are; the others keep what they have."""
    facts: dict[str, dict[str, Any]] = {
        "server_id": {kind: copy.server_id for kind, copy in copies.items()},
        "etag": {kind: copy.etag for kind, copy in copies.items()},
        "outcome_codes": {kind: list(copy.codes) for kind, copy in copies.items()},
    }
    seen: dict[str, sa.ColumnElement[Any]] = {}
    for name, by_kind in facts.items():
        column = deliveries.c[name]
        whens = {kind: sa.literal(value, column.type) for kind, value in by_kind.items()}
        rest = sa.literal(values[name], column.type) if name in values else column
        seen[name] = sa.case(whens, value=deliveries.c.kind, else_=rest)
    return seen


def _is(key: Key, table: sa.FromClause = deliveries) -> list[sa.ColumnElement[bool]]:
    return [table.c.target == key.target, table.c.note_id == key.note_id, table.c.version == key.version]
