"""Rows as a driver takes them: what SQLAlchemy makes of each value, made column by column.

SQLAlchemy looks at every value of every row by name, which costs more than the database does with it. Here each column
is asked once how its values are bound, and what is bound is the same to the byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["bound"]


def bound(
    dialect: sa.Dialect, table: sa.Table, names: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[Any, ...]]:
    """The values of some columns, row by row.

    Args:
        dialect: Of the database they go to.
        table: The table.
        names: Its columns, in the order wanted.
        rows: At least one; dicts that hold these keys.

    Raises:
        sqlalchemy.exc.StatementError: A value is missing, or of another type than its column.
    """
    try:
        columns = [
            _values(table.c[name].type.dialect_impl(dialect).bind_processor(dialect), [row[name] for row in rows])
            for name in names
        ]
    except Exception as error:  # noqa: BLE001  # as SQLAlchemy does: what a value trips over is an error of the statement
        raise sa.exc.StatementError("A value cannot be bound", None, None, error, hide_parameters=True) from None
    return list(zip(*columns, strict=True))


def _values(process: Callable[[Any], Any] | None, values: list[Any]) -> list[Any]:
    if process is None:
        return values
    first = values[0]
    # The time of a run, the day of a partition, a NULL: one value for all rows.
    if all(value is first for value in values):
        return [process(first)] * len(values)
    return [process(value) for value in values]
