"""Reading the quarantine: what waits, counted and row by row. Payloads only when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import quarantine, source_records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["STAGES", "Count", "Trouble", "Which", "counted", "listed", "read_payload", "read_trouble", "selected_ids"]

STAGES = ("extract", "map", "fhir")
"""Where a record can stop: when it is read, when it becomes a note, when the note becomes documents."""

PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which rows are meant. Everything given must hold; nothing given means all that is open.

    Attributes:
        ids: These and no others, open or not; the rest is then left out.
        stage: Only this stage.
        code: Only this error code.
        provider: Only this provider.
        day: Only this visit day. What could not even be read has none.
        closed: Also what is closed.
    """

    ids: tuple[str, ...] = ()
    stage: str | None = None
    code: str | None = None
    provider: str | None = None
    day: date | None = None
    closed: bool = False

    @property
    def narrows(self) -> bool:
        """Whether anything but open or closed was said."""
        return bool(self.ids or self.stage or self.code or self.provider or self.day)

    def conditions(self, account: str) -> list[sa.ColumnElement[bool]]:
        """As conditions on the table, but for `ids`."""
        wanted = {
            quarantine.c.stage: self.stage,
            quarantine.c.error_code: self.code,
            quarantine.c.provider: self.provider,
            quarantine.c.visit_day: self.day,
        }
        found = [column == value for column, value in wanted.items() if value is not None]
        if not self.closed and not self.ids:
            found.append(quarantine.c.resolved_at.is_(None))
        return [quarantine.c.account == account, *found]


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows there are of one kind of trouble, and since when."""

    provider: str
    stream: str
    stage: str
    code: str
    rows: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class Trouble:
    """One row, without its payload. `field_paths` say where, never what; `sealed_with` is the id of a key."""

    id: str
    stage: str
    provider: str
    stream: str
    source_id: str
    visit_day: date | None
    error_code: str
    field_paths: list[str]
    payload_hash: str
    attempts: int
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    closed_by: str | None
    closed_for: str | None
    sealed_with: str | None

    @property
    def is_open(self) -> bool:
        """Whether it waits for somebody."""
        return self.resolved_at is None


_COLUMNS = tuple(quarantine.c[name] for name in Trouble.__dataclass_fields__)


def counted(warehouse: Warehouse, which: Which) -> list[Count]:
    """How many rows there are of each kind of trouble, most first."""
    table = quarantine.c
    kind = (table.provider, table.stream, table.stage, table.error_code)
    query = (
        sa.select(*kind, sa.func.count(), sa.func.min(table.first_seen_at))
        .where(*which.conditions(warehouse.account))
        .group_by(*kind)
        .order_by(sa.func.count().desc(), *kind)
    )
    with warehouse.read() as connection:
        return [Count(*row) for row in connection.execute(query)]


def listed(warehouse: Warehouse, which: Which, *, page: int = PAGE) -> Iterator[Trouble]:
    """The rows, those last seen first, read a page at a time."""
    table = quarantine.c
    query = (
        sa.select(*_COLUMNS)
        .where(*which.conditions(warehouse.account))
        .order_by(table.last_seen_at.desc(), table.id)
        .limit(page)
    )
    following = query
    while True:
        with warehouse.read() as connection:
            rows = [Trouble(*row) for row in connection.execute(following)]
        yield from rows
        if len(rows) < page:
            return
        last = rows[-1]
        following = query.where(
            sa.or_(
                table.last_seen_at < last.last_seen_at,
                sa.and_(table.last_seen_at == last.last_seen_at, table.id > last.id),
            )
        )


def selected_ids(warehouse: Warehouse, which: Which) -> list[str]:
    """The ids of the rows, in order.

    Raises:
        ConfigError: `no_such_row`: an id that was given is none of this account.
    """
    query = sa.select(quarantine.c.id).where(*which.conditions(warehouse.account)).order_by(quarantine.c.id)
    with warehouse.read() as connection:
        if not which.ids:
            return list(connection.scalars(query))
        wanted = sorted(set(which.ids))
        chunks = (query.where(quarantine.c.id.in_(chunk)) for chunk in in_chunks(wanted))
        found = [each for chunk in chunks for each in connection.scalars(chunk)]
    if len(found) < len(wanted):
        raise _no_such_row()
    return found


def read_trouble(warehouse: Warehouse, row_id: str) -> Trouble:
    """One row.

    Raises:
        ConfigError: `no_such_row`: there is none of that id in this account.
    """
    query = sa.select(*_COLUMNS).where(quarantine.c.account == warehouse.account, quarantine.c.id == row_id)
    with warehouse.read() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise _no_such_row()
    return Trouble(*row)


def read_payload(warehouse: Warehouse, trouble: Trouble) -> Any:
    """What was received: from the row, or from the record itself where that has landed; `None` if it is kept nowhere.

    Raises:
        MedscribeError: `sealed_away`: its key is not known.
    """
    own = {name: getattr(trouble, name) for name in ("provider", "stream", "source_id")}
    landed = sa.select(source_records.c.payload).where(
        source_records.c.account == warehouse.account, *(source_records.c[name] == own[name] for name in own)
    )
    kept = sa.select(quarantine.c.payload, quarantine.c.sealed_with).where(
        quarantine.c.account == warehouse.account, quarantine.c.id == trouble.id
    )
    with warehouse.read() as connection:
        if trouble.stage != "extract":
            return connection.scalar(landed)
        stored, sealed_with = connection.execute(kept).one()
    return warehouse.sealing.open(trouble.id, stored, sealed_with)


def _no_such_row() -> ConfigError:
    return ConfigError(
        "There is no such row in the quarantine of this account; `medscribe quarantine list` shows their ids",
        code="no_such_row",
    )
