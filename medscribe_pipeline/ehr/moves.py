"""The moves of the delivery ledger: what may follow what, and the guarded UPDATE that does it. See `ledger.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from medscribe_pipeline.warehouse.tables import deliveries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MOVES", "NO_COPIES", "Copy", "Key", "Move", "State", "move"]


class State(StrEnum):
    """Where a note version stands; see the picture in `ledger.py`."""

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
"""Every way a row may change its state. There is a function of that name in `ledger.py` for each."""


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


NO_COPIES: Mapping[str, Copy] = {}


def move(
    connection: sa.Connection,
    name: str,
    key: Key,
    values: Mapping[str, Any],
    *,
    copies: Mapping[str, Copy] = NO_COPIES,
    worker: str | None = None,
    attempts: int | None = None,
) -> bool:
    """Updates all rows of a unit if all stand where a move may start; `False` if they do not (any more).

    Args:
        connection: An open transaction.
        name: The move, of `MOVES`.
        key: The unit.
        values: Columns it sets.
        copies: What of it was seen on the server, by kind.
        worker: Only if this worker holds it.
        attempts: Only if it was sent so many times.
    """
    statement = _update(name, tuple(values), tuple(copies), of_worker=worker is not None, at=attempts is not None)
    given: dict[str, Any] = {"of_target": key.target, "of_note": key.note_id, "of_version": key.version}
    given |= {f"new_{column}": value for column, value in values.items()}
    if worker is not None:
        given["of_worker"] = worker
    if attempts is not None:
        given["of_attempts"] = attempts
    for kind, copy in copies.items():
        seen = {"server_id": copy.server_id, "etag": copy.etag, "outcome_codes": list(copy.codes)}
        given |= {f"{kind}_{column}": value for column, value in seen.items()}
    return connection.execute(statement, given).rowcount > 0


@cache
def _update(name: str, columns: tuple[str, ...], kinds: tuple[str, ...], *, of_worker: bool, at: bool) -> sa.Update:
    """The statement of a move. Building one takes longer than running it, so each shape is built once.

    Args:
        name: The move.
        columns: What it sets, to `new_<column>`.
        kinds: Kinds whose copies were seen, as `<kind>_<column>`; the others keep what they have.
        of_worker: Only if `of_worker` holds it.
        at: Only if it is still at `of_attempts`.
    """
    rule = MOVES[name]
    other = deliveries.alias()
    # Rows that disagree stay as they are, for `entries` to report.
    torn = sa.exists().where(*_is(other), ~_stands(other, rule.sources))
    where = [*_is(deliveries), _stands(deliveries, rule.sources), ~torn]
    if name == "deliver":
        missing = [other.c.server_id.is_(None), *(other.c.kind != kind for kind in kinds)]
        where.append(~sa.exists().where(*_is(other), *missing))
    if of_worker:
        where.append(deliveries.c.claimed_by == sa.bindparam("of_worker"))
    if at:
        # Between the look at the server and this write another process may have sent it again and lost that answer
        # too: the state is `unknown` as before, but what was seen no longer says anything.
        where.append(deliveries.c.attempts == sa.bindparam("of_attempts"))
    values: dict[str, Any] = {column: _bound("new", column) for column in columns} | dict(_COMPUTED.get(name, {}))
    if kinds:
        for column in ("server_id", "etag", "outcome_codes"):
            whens = {kind: _bound(kind, column) for kind in kinds}
            values[column] = sa.case(whens, value=deliveries.c.kind, else_=values.get(column, deliveries.c[column]))
    return sa.update(deliveries).where(*where).values(state=rule.target, **values)


_DELIVERED = deliveries.c.state == State.DELIVERED
_COMPUTED: Mapping[str, Mapping[str, sa.ColumnElement[Any]]] = {
    "mark_sent": {"attempts": deliveries.c.attempts + 1},
    "plan_again": {
        column: sa.case((_DELIVERED, sa.null()), else_=deliveries.c[column]) for column in ("server_id", "etag")
    },
}
"""What moves set to something that follows from the row."""


def _bound(prefix: str, column: str) -> sa.BindParameter[Any]:
    return sa.bindparam(f"{prefix}_{column}", type_=deliveries.c[column].type)


def _stands(table: sa.FromClause, states: Sequence[State]) -> sa.ColumnElement[bool]:
    return sa.or_(*(table.c.state == state for state in states))


def _is(table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    return [
        table.c.target == sa.bindparam("of_target"),
        table.c.note_id == sa.bindparam("of_note"),
        table.c.version == sa.bindparam("of_version"),
    ]
