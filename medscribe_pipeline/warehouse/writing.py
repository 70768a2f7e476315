"""Rows that replace others, give way to others or are new: for every database, one way each.

SQLite and PostgreSQL have a statement for both. Many rows go into PostgreSQL by COPY (see `copying`), and into SQLite
as tuples. For all others there is a path that needs nothing but SELECT, INSERT, UPDATE and SAVEPOINT; the execution
option `GENERIC` takes it on these two as well.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from medscribe_pipeline.warehouse.binding import bound
from medscribe_pipeline.warehouse.copying import can_copy, can_stage, copy_into, staged
from medscribe_pipeline.warehouse.statistics import added

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["GENERIC", "insert", "insert_absent", "native_name", "upsert"]

GENERIC = "medscribe_generic"
"""Execution option of a connection or engine: no statement of one dialect only."""

COPIED_FROM = 10
"""Rows from which on COPY takes less of our time than a statement for each."""

STAGED_FROM = 50
"""The same, by way of a temporary table."""

_NATIVE: dict[str, Callable[[sa.Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_KEYS_AT_ONCE = 100

Row = dict[str, Any]
Condition = sa.ColumnElement[bool]


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Row],
    *,
    not_older_by: str | None = None,
    unless: Condition | None = None,
) -> int:
    """Inserts rows, replacing those with the same primary key.

    Args:
        connection: An open write transaction.
        table: One of `tables`.
        rows: Dicts with the same keys, at most one for each primary key.
        not_older_by: A column; an existing row whose value is greater than the new one's stays as it is.
        unless: A condition on the columns of the table; an existing row for which it holds stays as it is.

    Returns:
        Number of rows sent.
    """
    if not rows:
        return 0
    names = tuple(rows[0])
    native = _native(connection)
    # Conditions are compared by a condition: none can be the key of a cache.
    statement = _upsert_statement if unless is None else _upsert_statement.__wrapped__
    if native is None:
        changed = [name for name in names if name not in _keys(table)]
        _upsert_generic(connection, table, rows, changed, not_older_by, unless)
    elif _takes_tuples(connection) and unless is None:
        _send_tuples(connection, table, rows, statement(native, table, names, not_older_by, None))
    elif len(rows) >= STAGED_FROM and can_stage(connection):
        source = staged(connection, table, rows)
        connection.execute(statement(native, table, names, not_older_by, unless, source))
        added(connection, table, len(rows))
    else:
        connection.execute(statement(native, table, names, not_older_by, unless), list(rows))
    return len(rows)


@functools.lru_cache(maxsize=128)
def _upsert_statement(
    native: Callable[[sa.Table], Any],
    table: sa.Table,
    names: tuple[str, ...],
    not_older_by: str | None,
    unless: Condition | None,
    source: sa.Table | None = None,
) -> sa.Insert:
    """The upsert of rows that are bound, or of those in `source`."""
    statement = native(table)
    if source is not None:
        statement = statement.from_select(names, sa.select(*(source.c[name] for name in names)))
    keys = _keys(table)
    conditions = [] if unless is None else [sa.not_(unless)]
    if not_older_by is not None:
        older = statement.excluded[not_older_by] >= table.c[not_older_by]
        conditions.append(sa.func.coalesce(older, sa.true()))
    upsert: sa.Insert = statement.on_conflict_do_update(
        index_elements=keys,
        set_={name: statement.excluded[name] for name in names if name not in keys},
        where=sa.and_(*conditions) if conditions else None,
    )
    return upsert


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Inserts rows whose primary keys are surely not there.

    Args:
        connection: An open write transaction.
        table: One of `tables`.
        rows: Dicts with the same keys.
    """
    if not rows:
        return
    if _native(connection) is not None and _takes_tuples(connection):
        _send_tuples(connection, table, rows, _insert_statement(table))
    elif len(rows) >= COPIED_FROM and _native(connection) is not None and can_copy(connection):
        copy_into(connection, table, rows)
        added(connection, table, len(rows))
    else:
        connection.execute(_insert_statement(table), list(rows))


@functools.lru_cache(maxsize=128)
def _insert_statement(table: sa.Table) -> sa.Insert:
    return sa.insert(table)


def _takes_tuples(connection: sa.Connection) -> bool:
    return connection.dialect.name == "sqlite" and connection.dialect.paramstyle == "qmark"


def _send_tuples(connection: sa.Connection, table: sa.Table, rows: Sequence[Row], statement: sa.Insert) -> None:
    text, names = _compiled(connection.dialect, statement, tuple(rows[0]))
    connection.exec_driver_sql(text, bound(connection.dialect, table, names, rows))


@functools.lru_cache(maxsize=128)
def _compiled(dialect: sa.Dialect, statement: sa.Insert, names: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The text of a statement, and the columns in the order in which it takes them."""
    compiled: Any = statement.compile(dialect=dialect, column_keys=list(names))
    return str(compiled), tuple(compiled.positiontup)


def insert_absent(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> int:
    """Inserts those rows whose primary key is not there; the others change nothing.

    Where the key is being entered by a transaction that has not ended, this waits for it.

    Args:
        connection: An open write transaction.
        table: One of `tables`.
        rows: Dicts with the same keys, at most one for each primary key.

    Returns:
        Number of rows inserted.
    """
    if not rows:
        return 0
    insert = _native(connection)
    if insert is None:
        existing = _locked(connection, table, rows)
        fresh = [row for row in rows if _key(table, row) not in existing]
        return len(fresh) - len(_insert(connection, table, fresh))
    # RETURNING and not a row count: psycopg has none for an INSERT that meets a conflict.
    first, *_ = table.primary_key.columns
    return len(connection.execute(insert(table).on_conflict_do_nothing().returning(first), list(rows)).all())


def native_name(connection: sa.Connection) -> str | None:
    """Name of the dialect whose own statements may be used; `None` where only those that all databases know."""
    name = connection.dialect.name
    return name if name in _NATIVE and not connection.get_execution_options().get(GENERIC) else None


def _native(connection: sa.Connection) -> Callable[[sa.Table], Any] | None:
    return _NATIVE.get(native_name(connection) or "")


def _keys(table: sa.Table) -> list[str]:
    return [column.name for column in table.primary_key.columns]


def _key(table: sa.Table, row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in _keys(table))


def _upsert_generic(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Row],
    changed: Sequence[str],
    not_older_by: str | None,
    unless: Condition | None,
) -> None:
    existing = _locked(connection, table, rows)
    fresh = [row for row in rows if _key(table, row) not in existing]
    stored = [row for row in rows if _key(table, row) in existing]
    stored += _insert(connection, table, fresh)
    if not stored or not changed:
        return
    values = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in changed}
    update = sa.update(table).where(*(table.c[name] == sa.bindparam(f"key_{name}") for name in _keys(table)))
    if unless is not None:
        update = update.where(sa.not_(unless))
    if not_older_by is not None:
        old, new = table.c[not_older_by], values[not_older_by]
        update = update.where(sa.or_(old.is_(None), new.is_(None), old <= new))
    connection.execute(
        update.values(values),
        [{f"{'new' if name in values else 'key'}_{name}": value for name, value in row.items()} for row in stored],
    )


def _locked(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> set[tuple[Any, ...]]:
    """The keys of those rows that are there. They stay: where the database can, the rows are locked."""
    columns = list(table.primary_key.columns)
    found: set[tuple[Any, ...]] = set()
    for chunk in _chunks(rows):
        same = [sa.and_(*(column == row[column.name] for column in columns)) for row in chunk]
        query = sa.select(*columns).where(sa.or_(*same)).with_for_update()
        found.update(tuple(row) for row in connection.execute(query))
    return found


def _insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> list[Row]:
    """Inserts rows; returns those another transaction has entered meanwhile."""
    if not rows:
        return []
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(table), list(rows))
    except sa.exc.IntegrityError:
        return [row for row in rows if not _inserted(connection, table, row)]
    return []


def _inserted(connection: sa.Connection, table: sa.Table, row: Row) -> bool:
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(table), row)
    except sa.exc.IntegrityError:
        if not _locked(connection, table, [row]):
            # It was refused for another reason than its key.
            raise
        return False
    return True


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), _KEYS_AT_ONCE):
        yield rows[start : start + _KEYS_AT_ONCE]
