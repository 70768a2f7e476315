"""Many rows into PostgreSQL by binary COPY, inside the transaction of a SQLAlchemy connection.

COPY knows no conflict. Where rows may be there already, it goes into a temporary table, from which one statement takes
them on: `staged`. Such a table is made once for each connection, and is empty again at the end of each transaction, so
that nothing is created for each batch: a table costs files and rows of the catalogue. Its name holds a hash of its
columns: rows for one table do not always have the same ones.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.warehouse.binding import bound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["can_copy", "can_stage", "copy_into", "make_copying", "staged"]

_TYPES = "medscribe_copy_types"
_MAY_STAGE = "medscribe_may_stage"


def make_copying(engine: sa.Engine) -> None:
    """Has an engine of psycopg 3 send rows by COPY where `copy_into` says so; otherwise it stays as it is.

    A COPY is then a statement like any other: SQLAlchemy's events see it, and its errors are SQLAlchemy's.
    """
    if engine.dialect.driver == "psycopg":
        sa.event.listen(engine, "do_executemany", _send)


def _send(cursor: Any, statement: str, rows: Sequence[tuple[Any, ...]], context: Any) -> bool:
    types = context.execution_options.get(_TYPES)
    if types is None:
        return False
    with cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
    return True


def can_copy(connection: sa.Connection) -> bool:
    """Whether `copy_into` works on this connection: see `make_copying`."""
    return sa.event.contains(connection.engine, "do_executemany", _send)


def can_stage(connection: sa.Connection) -> bool:
    """Whether rows can go through a temporary table: a database may allow none to its users."""
    if not can_copy(connection):
        return False
    if _MAY_STAGE not in connection.info:
        allowed = sa.func.has_database_privilege(sa.func.current_database(), "TEMPORARY")
        connection.info[_MAY_STAGE] = bool(connection.scalar(sa.select(allowed)))
    return bool(connection.info[_MAY_STAGE])


def staged(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> sa.Table:
    """Copies rows into a temporary table of their own.

    Args:
        connection: An open write transaction for which `can_stage` holds.
        table: The table they are meant for; the temporary one has those of its columns that the rows have.
        rows: Dicts with the same keys, at least two: see `copy_into`.

    Returns:
        The temporary table, holding these rows and no others.
    """
    made, create, empty = _staging(table, tuple(rows[0]), connection.dialect)
    connection.exec_driver_sql(create)
    # Holds rows only where this transaction has staged before; TRUNCATE would cost as much as hundreds of rows do.
    connection.execute(empty)
    copy_into(connection, made, rows)
    return made


@functools.lru_cache(maxsize=64)
def _staging(table: sa.Table, names: tuple[str, ...], dialect: sa.Dialect) -> tuple[sa.Table, str, sa.Delete]:
    columns = [sa.Column(name, table.c[name].type) for name in names]
    shape = content_hash([[column.name, column.type.compile(dialect)] for column in columns])
    # No constraint: what the table refuses, it refuses when it takes them on, as it does by any other way.
    made = sa.Table(
        f"medscribe_{table.name}_{shape[:8]}",
        sa.MetaData(),
        *columns,
        schema="pg_temp",
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DELETE ROWS",
    )
    return made, str(sa.schema.CreateTable(made, if_not_exists=True).compile(dialect=dialect)), sa.delete(made)


def copy_into(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds rows to a table.

    Args:
        connection: An open write transaction for which `can_copy` holds.
        table: Where to.
        rows: Dicts with the same keys, at least two: one alone is no `executemany` to SQLAlchemy.
    """
    statement, types = _copy(table, tuple(rows[0]), connection.dialect)
    values = bound(connection.dialect, table, list(rows[0]), rows)
    connection.exec_driver_sql(statement, values, execution_options={_TYPES: types})


@functools.lru_cache(maxsize=64)
def _copy(table: sa.Table, names: tuple[str, ...], dialect: sa.Dialect) -> tuple[str, list[str]]:
    quote = dialect.identifier_preparer
    columns = ", ".join(quote.quote(name) for name in names)
    # psycopg knows types by their names, without their lengths.
    types = [table.c[name].type.compile(dialect).partition("(")[0].lower() for name in names]
    return f"COPY {quote.format_table(table)} ({columns}) FROM STDIN (FORMAT BINARY)", types
