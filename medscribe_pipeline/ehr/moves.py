"""The moves of the delivery ledger: what may follow what, and the guarded UPDATE that does it. See `ledger.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from medscribe_pipeline.warehouse.among import KEYS, among_keys
from medscribe_pipeline.warehouse.binding import bound
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import deliveries
from medscribe_pipeline.warehouse.writing import native_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MOVES", "NO_COPIES", "Copy", "Key", "Move", "State", "move", "move_all"]

_UNITS_AT_ONCE = 500
_BETWEEN = "/"


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


def move_all(
    connection: sa.Connection,
    name: str,
    keys: Sequence[Key],
    values: Mapping[str, Any],
    *,
    copies: Mapping[Key, Mapping[str, Copy]] | None = None,
    worker: str | None = None,
) -> set[Key]:
    """Does to many units what `move` does to each of them, in few statements; returns those that were moved.

    Args:
        connection: An open transaction.
        name: The move, of `MOVES`.
        keys: The units, each once.
        values: Columns it sets, to the same values in all.
        copies: What of each was seen on the server, by kind.
        worker: Only units that this worker holds.
    """
    seen = copies or {}
    native = native_name(connection)
    if native is None:
        # Not every database tells which rows an UPDATE has met.
        return {
            key for key in keys if move(connection, name, key, values, copies=seen.get(key, NO_COPIES), worker=worker)
        }
    alike: dict[tuple[str, tuple[str, ...]], list[Key]] = {}
    for key in keys:
        alike.setdefault((key.target, tuple(seen.get(key, ()))), []).append(key)
    given = {f"new_{column}": value for column, value in values.items()}
    if worker is not None:
        given["of_worker"] = worker
    moved: set[Key] = set()
    for (target, kinds), units in alike.items():
        statement = _update_all(native, name, tuple(values), kinds, of_worker=worker is not None)
        for chunk in in_chunks(units, _UNITS_AT_ONCE):
            named = {f"{key.note_id}{_BETWEEN}{key.version}": key for key in chunk}
            of_units: dict[str, Any] = {"of_target": target, "of_units": list(named)}
            of_units[KEYS] = [key.note_id for key in chunk]
            if kinds and native == "postgresql":
                of_units["of_seen"] = {
                    unit: {kind: _seen(copy) for kind, copy in seen[key].items()} for unit, key in named.items()
                }
            rows = connection.execute(statement, given | of_units).all()
            moved |= {named[unit] for unit, _ in rows}
            if kinds and native == "sqlite":
                met = [(named[unit], kind) for unit, kind in rows if kind in kinds]
                _note_all(connection, [_note(key, kind, seen[key][kind]) for key, kind in met])
    return moved


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
    sources = MOVES[name].sources
    other = deliveries.alias()
    # Rows that disagree stay as they are, for `entries` to report.
    torn = sa.exists().where(*_is_unit(other), ~_stands(other, sources))
    where = [*_is_unit(deliveries), _stands(deliveries, sources), ~torn]
    if name == "deliver":
        where.append(~sa.exists().where(*_is_unit(other), *_is_missing(other, kinds)))
    if of_worker:
        where.append(_OF_WORKER)
    if at:
        # Between the look at the server and this write another process may have sent it again and lost that answer
        # too: the state is `unknown` as before, but what was seen no longer says anything.
        where.append(deliveries.c.attempts == sa.bindparam("of_attempts"))
    values = _values(name, columns)
    if kinds:
        for column in _OF_COPIES:
            whens = {kind: _bound(kind, column) for kind in kinds}
            values[column] = sa.case(whens, value=deliveries.c.kind, else_=values.get(column, deliveries.c[column]))
    return sa.update(deliveries).where(*where).values(values)


@cache
def _update_all(
    native: str, name: str, columns: tuple[str, ...], kinds: tuple[str, ...], *, of_worker: bool
) -> sa.sql.dml.ReturningUpdate[Any]:
    """The same for the units `of_units`, which are of the notes `KEYS`; returns unit and kind of each row.

    What was seen of the `kinds` is different in each row. PostgreSQL looks it up in `of_seen`: to write a row twice
    would cost it as much again, for the row and its entries in every index. (To join with it would be a loop in a loop:
    by its statistics, hardly any row ever is in the state a move begins from.) On SQLite it is left to `_note_all`.
    """
    sources = MOVES[name].sources
    other = deliveries.alias()
    barred = ~_stands(other, sources)
    if name == "deliver":
        barred = sa.or_(barred, sa.and_(*_is_missing(other, kinds)))
    # Asked for once, not for each row anew: at the second row of a unit, SQLite would find the first one changed.
    torn = sa.select(other.c.note_id, other.c.version).where(*_are_among(native, other), barred)
    ids = sa.tuple_(deliveries.c.note_id, deliveries.c.version)
    # No note id has that sign in it, so no two units make one text.
    unit = deliveries.c.note_id + sa.literal_column(f"'{_BETWEEN}'") + deliveries.c.version
    units = among_keys(native, unit, named="of_units")
    where = [*_are_among(native, deliveries), units, _stands(deliveries, sources), ids.not_in(torn)]
    if of_worker:
        where.append(_OF_WORKER)
    values = _values(name, columns)
    if kinds and native == "postgresql":
        seen = sa.bindparam("of_seen", type_=postgresql.JSONB)
        is_seen = sa.or_(*(deliveries.c.kind == kind for kind in kinds))
        for column in _OF_COPIES:
            path = sa.func.jsonb_extract_path if column == "outcome_codes" else sa.func.jsonb_extract_path_text
            here = path(seen, unit, deliveries.c.kind, sa.literal_column(f"'{column}'"))
            values[column] = sa.case((is_seen, here), else_=values.get(column, deliveries.c[column]))
    return sa.update(deliveries).where(*where).values(values).returning(unit, deliveries.c.kind)


def _are_among(native: str, table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    """By which rows of many notes are found: no index leads to pairs of note and version."""
    return [table.c.target == sa.bindparam("of_target"), among_keys(native, table.c.note_id)]


def _is_missing(table: sa.FromClause, kinds: tuple[str, ...]) -> list[sa.ColumnElement[bool]]:
    """What keeps a unit from being delivered: a document that neither was there before nor was seen now."""
    return [table.c.server_id.is_(None), *(table.c.kind != kind for kind in kinds)]


def _values(name: str, columns: tuple[str, ...]) -> dict[str, Any]:
    return {
        "state": MOVES[name].target,
        **{column: _bound("new", column) for column in columns},
        **_COMPUTED.get(name, {}),
    }


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


def _is_unit(table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    return [
        table.c.target == sa.bindparam("of_target"),
        table.c.note_id == sa.bindparam("of_note"),
        table.c.version == sa.bindparam("of_version"),
    ]


_OF_WORKER = deliveries.c.claimed_by == sa.bindparam("of_worker")
_OF_COPIES = ("server_id", "etag", "outcome_codes")
_OF_ROW = ("target", "note_id", "version", "kind")


def _seen(copy: Copy) -> dict[str, Any]:
    """What was seen of one document, by the columns it is noted in."""
    return dict(zip(_OF_COPIES, (copy.server_id, copy.etag, list(copy.codes)), strict=True))


def _note(key: Key, kind: str, copy: Copy) -> dict[str, Any]:
    """The same, by the columns of its row."""
    return {"target": key.target, "note_id": key.note_id, "version": key.version, "kind": kind, **_seen(copy)}


def _note_all(connection: sa.Connection, noted: Sequence[dict[str, Any]]) -> None:
    """Notes on each row what was seen of its document."""
    if noted:
        text, names = _note_text(connection.dialect)
        connection.exec_driver_sql(text, bound(connection.dialect, deliveries, names, noted))


@cache
def _note_text(dialect: sa.Dialect) -> tuple[str, tuple[str, ...]]:
    """The text of the statement for one row, and its columns in the order in which it takes them."""
    of_row = [deliveries.c[name] == sa.bindparam(f"of_{name}") for name in _OF_ROW]
    values = {name: sa.bindparam(f"of_{name}", type_=deliveries.c[name].type) for name in _OF_COPIES}
    compiled: Any = sa.update(deliveries).where(*of_row).values(values).compile(dialect=dialect)
    return str(compiled), tuple(name.removeprefix("of_") for name in compiled.positiontup)
