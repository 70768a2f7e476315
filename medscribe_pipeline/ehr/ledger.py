r"""The delivery ledger: which version of which note stands where on its way into an EHR.

```
 plan_again     .---------------------------------------------------------------- delivered, rejected
                v
    held <---> planned --claim--> claimed --mark_sent--> sent --deliver---------> delivered
   hold,        ^ ^ ^                |                   | | \--refuse----------> rejected
   release      | | '---give_back----'                   | |                         ^   ^
                | '--------take_back---------------------' | lose          deliver, |   |
                |                                          v               refuse   |   |
                '--------release_absent----------------- unknown --------------------'---'
```

A unit is one version of one note on one target: two rows, Composition and DocumentReference, that always move
together. Every move is one guarded UPDATE inside the caller's transaction: it says from which states it may start,
and does nothing (returns `False`) when another process was faster. What may follow what is data: `MOVES`.

`claimed` is committed before anything is prepared and `sent` before a request leaves, so whoever finds a dead
worker's row knows: `claimed` never left, `sent` may have arrived. `unknown` is left only by looking at the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.warehouse.tables import deliveries

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
    "entries",
    "give_back",
    "hold",
    "lose",
    "mark_sent",
    "plan_again",
    "refuse",
    "release",
    "release_absent",
    "take_back",
]

COMPOSITION = "Composition"
DOCUMENT_REFERENCE = "DocumentReference"
KINDS = (COMPOSITION, DOCUMENT_REFERENCE)


class State(StrEnum):
    """Where a note version stands; see the picture above."""

    PLANNED = "planned"
    CLAIMED = "claimed"
    SENT = "sent"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Move:
    """One allowed move: from any of `sources` to `target`."""

    sources: tuple[State, ...]
    target: State


MOVES: Mapping[str, Move] = {
    "hold": Move((State.PLANNED, State.HELD), State.HELD),
    "release": Move((State.HELD, State.PLANNED), State.PLANNED),
    "plan_again": Move((State.DELIVERED, State.REJECTED), State.PLANNED),
    "claim": Move((State.PLANNED,), State.CLAIMED),
    "give_back": Move((State.CLAIMED,), State.PLANNED),
    "mark_sent": Move((State.CLAIMED,), State.SENT),
    "take_back": Move((State.SENT,), State.PLANNED),
    "deliver": Move((State.SENT, State.UNKNOWN), State.DELIVERED),
    "refuse": Move((State.SENT, State.UNKNOWN), State.REJECTED),
    "lose": Move((State.SENT, State.UNKNOWN), State.UNKNOWN),
    "release_absent": Move((State.UNKNOWN,), State.PLANNED),
}
"""Every way a row may change its state. There is one function of the same name for each."""


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
    """The two rows of one note version, read together. `copies` is by resource type."""

    key: Key
    state: State
    reason: str | None
    source_seq: int
    visit_day: date
    attempts: int
    claimed_by: str | None
    settled_at: datetime | None
    copies: Mapping[str, Copy]


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A note version the ledger has not seen. With a `reason` it starts held, without one planned."""

    key: Key
    source_seq: int
    visit_day: date
    reason: str | None


def entries(connection: sa.Connection, target: str, note_ids: Sequence[str] | sa.Select[Any]) -> dict[str, list[Entry]]:
    """All versions of the given notes on a target, by note.

    Args:
        connection: An open transaction.
        target: Name of the target.
        note_ids: Note ids, or a query that selects them.
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
    if set(rows) != set(KINDS) or len({row["state"] for row in rows.values()}) > 1:
        raise _torn()
    row = rows[DOCUMENT_REFERENCE]
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
        for kind in KINDS
    ]
    if not rows:
        return
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    connection.execute(insert(deliveries).on_conflict_do_nothing(), rows)


def hold(connection: sa.Connection, key: Key, reason: str, *, source_seq: int, visit_day: date) -> bool:
    """Must not be sent, for `reason`."""
    return _move(connection, "hold", key, {"reason": reason, "source_seq": source_seq, "visit_day": visit_day})


def release(connection: sa.Connection, key: Key, *, source_seq: int, visit_day: date) -> bool:
    """May be sent: nothing holds it (any more)."""
    return _move(connection, "release", key, {"reason": None, "source_seq": source_seq, "visit_day": visit_day})


def plan_again(connection: sa.Connection, key: Key, *, source_seq: int, visit_day: date) -> bool:
    """Has to be sent once more: the source went back to it, or its documents were built anew after a rejection.

    What the server said then no longer describes the server, so it is forgotten.
    """
    values = {"reason": None, "source_seq": source_seq, "visit_day": visit_day, "settled_at": None}
    return _move(connection, "plan_again", key, {**values, "server_id": None, "etag": None})


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


def take_back(connection: sa.Connection, key: Key, *, worker: str, codes: Sequence[str] = ()) -> bool:
    """Provably had no effect: no connection, told to come back later, or not allowed in."""
    values = {"claimed_by": None, "claimed_at": None, "outcome_codes": list(codes)}
    return _move(connection, "take_back", key, values, worker=worker)


def deliver(
    connection: sa.Connection,
    key: Key,
    copies: Mapping[str, Copy],
    *,
    now: datetime,
    worker: str | None = None,
    attempts: int | None = None,
) -> bool:
    """Is on the server, as `copies`. Give `worker` for an answer, `attempts` (as read) for a look-up."""
    by_kind = {
        kind: {"server_id": copy.server_id, "etag": copy.etag, "outcome_codes": list(copy.codes)}
        for kind, copy in copies.items()
    }
    values = {"reason": None, "settled_at": now, "claimed_by": None, "claimed_at": None}
    return _move(connection, "deliver", key, values, by_kind=by_kind, worker=worker, attempts=attempts)


def refuse(
    connection: sa.Connection,
    key: Key,
    reason: str,
    *,
    now: datetime,
    codes: Sequence[str] = (),
    worker: str | None = None,
    attempts: int | None = None,
) -> bool:
    """The server will not have it; a person must look. `worker` and `attempts` as in `deliver`."""
    values = {"reason": reason, "settled_at": now, "claimed_by": None, "claimed_at": None, "outcome_codes": list(codes)}
    return _move(connection, "refuse", key, values, worker=worker, attempts=attempts)


def lose(
    connection: sa.Connection,
    key: Key,
    reason: str,
    *,
    now: datetime,
    codes: Sequence[str] = (),
    worker: str | None = None,
    attempts: int | None = None,
) -> bool:
    """May have arrived or not. `worker` and `attempts` as in `deliver`; without either, a dead worker's row."""
    values = {"reason": reason, "settled_at": now, "claimed_by": None, "claimed_at": None, "outcome_codes": list(codes)}
    return _move(connection, "lose", key, values, worker=worker, attempts=attempts)


def release_absent(connection: sa.Connection, key: Key, *, attempts: int) -> bool:
    """Surely did not arrive: the server was asked. `attempts` as read before asking."""
    return _move(connection, "release_absent", key, {"reason": None, "settled_at": None}, attempts=attempts)


def _move(
    connection: sa.Connection,
    name: str,
    key: Key,
    values: Mapping[str, Any],
    *,
    by_kind: Mapping[str, Mapping[str, Any]] | None = None,
    worker: str | None = None,
    attempts: int | None = None,
) -> bool:
    """Updates both rows if they stand where `name` may start; `False` if they do not (any more)."""
    move = MOVES[name]
    where = [*_is(key), deliveries.c.state.in_(move.sources)]
    if worker is not None:
        where.append(deliveries.c.claimed_by == worker)
    if attempts is not None:
        # Between the look at the server and this write another process may have sent it again and lost that answer
        # too: the state is `unknown` as before, but what was seen no longer says anything.
        where.append(deliveries.c.attempts == attempts)
    update = sa.update(deliveries).where(*where).values(state=move.target, **values)
    updates = [update]
    if by_kind is not None:
        updates = [update.where(deliveries.c.kind == kind).values(**more) for kind, more in by_kind.items()]
    moved = sum(connection.execute(each).rowcount for each in updates)
    if moved not in (0, len(KINDS)):
        raise _torn()
    return moved > 0


def _is(key: Key) -> list[sa.ColumnElement[bool]]:
    return [
        deliveries.c.target == key.target,
        deliveries.c.note_id == key.note_id,
        deliveries.c.version == key.version,
    ]


def _torn() -> MedscribeError:
    return MedscribeError(
        "The delivery ledger holds half an entry; restore it from a backup or correct it by hand",
        code="ledger_torn",
    )
