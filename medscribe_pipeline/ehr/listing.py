"""The delivery ledger for people: note versions by target, day, state and reason, a page at a time.

Nothing here reads a text, a document or an identifier of a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.ehr.ledger import Key, State
from medscribe_pipeline.warehouse.tables import deliveries, notes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Count", "Standing", "Which", "Written", "counted", "pages"]

PAGE_ROWS = 2_000
"""Ledger rows read at once. A note version has a row for each kind of document, four at most."""

_table = deliveries.c
_ORDER = (_table.target, _table.visit_day, _table.note_id, _table.version)


@dataclass(frozen=True, slots=True)
class Which:
    """Which note versions are meant; what is empty does not matter.

    Attributes:
        targets: Names of targets.
        states: Where they stand.
        reason: Why they are held, rejected, unknown, or were before they were discarded.
        day: Their visit day.
        provider: Where the note is from.
        note_ids: These notes.
    """

    targets: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    reason: str | None = None
    day: date | None = None
    provider: str | None = None
    note_ids: tuple[str, ...] = ()

    def conditions(self, account: str) -> list[sa.ColumnElement[bool]]:
        """Conditions on `deliveries`, joined with `notes`."""
        listed = ((_table.target, self.targets), (_table.state, self.states), (_table.note_id, self.note_ids))
        single = ((_table.reason, self.reason), (_table.visit_day, self.day), (notes.c.provider, self.provider))
        return [
            _table.account == account,
            *(column.in_(values) for column, values in listed if values),
            *(column == value for column, value in single if value is not None),
        ]


@dataclass(frozen=True, slots=True)
class Written:
    """The row of one kind of document. `server_id` is set when that document is on the server for certain."""

    kind: str
    server_id: str | None
    etag: str | None
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """One version of one note on one target, as it stands.

    Attributes:
        key: Which it is.
        provider: Where the note is from; `None` when the note is gone.
        newest: Whether it is the newest version of its note: only that is ever sent.
        visit_day: Its day.
        state: Where it stands.
        reason: Why, where there is a why.
        source_seq: Orders the versions of a note.
        attempts: How often it was sent.
        claimed_at: When a run took it in hand.
        sent_at: When it left last.
        settled_at: When its state was decided.
        written: Its rows, by kind.
    """

    key: Key
    provider: str | None
    newest: bool
    visit_day: date
    state: State
    reason: str | None
    source_seq: int
    attempts: int
    claimed_at: datetime | None
    sent_at: datetime | None
    settled_at: datetime | None
    written: tuple[Written, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of all its rows, each once."""
        return tuple(dict.fromkeys(code for row in self.written for code in row.codes))

    @property
    def missing(self) -> tuple[str, ...]:
        """Kinds of document that are not on the server for certain."""
        return tuple(row.kind for row in self.written if row.server_id is None)


@dataclass(frozen=True, slots=True)
class Count:
    """How many note versions of a target share a state and a reason."""

    target: str
    state: State
    reason: str | None
    versions: int


def counted(warehouse: Warehouse, which: Which) -> list[Count]:
    """How many note versions there are of each target, state and reason. A version counts once, whatever its kinds."""
    version = (
        sa.select(_table.target, _table.note_id, _table.version, _table.state, _table.reason)
        .select_from(_joined())
        .where(*which.conditions(warehouse.account))
        .distinct()
        .subquery()
    )
    shared = (version.c.target, version.c.state, version.c.reason)
    with warehouse.read() as connection:
        found = [
            Count(target, State(state), reason, number)
            for target, state, reason, number in connection.execute(
                sa.select(*shared, sa.func.count()).group_by(*shared)
            )
        ]
    # Databases do not agree on where NULL is sorted.
    return sorted(found, key=lambda each: (each.target, each.state, each.reason or ""))


def pages(warehouse: Warehouse, which: Which, *, rows: int = PAGE_ROWS) -> Iterator[list[Standing]]:
    """The note versions by target, day, note and version.

    Each page is a transaction of its own, so that whoever reads slowly, or changes what was read, holds up nobody.

    Args:
        warehouse: The warehouse.
        which: Which versions.
        rows: Ledger rows of a page; more than a version can have.
    """
    after: list[sa.ColumnElement[bool]] = []
    query = (
        sa.select(deliveries, notes.c.provider, notes.c.version.label("newest_version"))
        .select_from(_joined())
        .where(*which.conditions(warehouse.account))
        .order_by(*_ORDER, _table.kind)
        .limit(rows)
    )
    while True:
        with warehouse.read() as connection:
            read = connection.execute(query.where(*after)).all()
        found = [_standing(list(of_version)) for _, of_version in groupby(read, key=_place)]
        # The last one may go on beyond the page.
        whole = found if len(read) < rows else found[:-1]
        if whole:
            yield whole
        if len(read) < rows:
            return
        last = whole[-1]
        place = (last.key.target, last.visit_day, last.key.note_id, last.key.version)
        values = [sa.literal(value, column.type) for value, column in zip(place, _ORDER, strict=True)]
        after = [sa.tuple_(*_ORDER) > sa.tuple_(*values)]


def _joined() -> sa.Join:
    return deliveries.outerjoin(notes, notes.c.note_id == _table.note_id)


def _place(row: sa.Row[Any]) -> tuple[Any, ...]:
    return row.target, row.visit_day, row.note_id, row.version


def _standing(rows: list[sa.Row[Any]]) -> Standing:
    first = rows[0]
    return Standing(
        key=Key(first.target, first.note_id, first.version),
        provider=first.provider,
        newest=first.newest_version == first.version,
        visit_day=first.visit_day,
        state=State(first.state),
        reason=first.reason,
        source_seq=first.source_seq,
        attempts=first.attempts,
        claimed_at=first.claimed_at,
        sent_at=first.sent_at,
        settled_at=first.settled_at,
        written=tuple(Written(row.kind, row.server_id, row.etag, tuple(row.outcome_codes or ())) for row in rows),
    )
