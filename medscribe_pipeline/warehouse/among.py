"""The condition that a column holds one of many values, as a statement that is the same for any number of them.

An `IN` list is written anew for every number of values, and sent as one parameter each. SQLite and PostgreSQL take all
of them as one.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.warehouse.arrays import TextArray
from medscribe_pipeline.warehouse.tables import Json
from medscribe_pipeline.warehouse.writing import native_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["KEYS", "among", "among_keys"]

KEYS = "among_keys"
"""Name of the parameter that `among_keys` leaves to be given."""


def among(connection: sa.Connection, column: sa.ColumnElement[Any], values: Sequence[str]) -> sa.ColumnElement[bool]:
    """The condition that a text column holds one of these values.

    Args:
        connection: What the statement is for.
        column: The column.
        values: Any number up to `store.IN_CHUNK`: other databases get an `IN` list of them.
    """
    return _condition(native_name(connection), column, functools.partial(sa.bindparam, KEYS, list(values), unique=True))


def among_keys(native: str | None, column: sa.ColumnElement[Any], *, named: str = KEYS) -> sa.ColumnElement[bool]:
    """The same for a statement that is made once and executed with the list as a parameter.

    Args:
        native: From `writing.native_name`.
        column: The column.
        named: Name of the parameter.
    """
    return _condition(native, column, functools.partial(sa.bindparam, named))


def _condition(
    native: str | None, column: sa.ColumnElement[Any], parameter: Callable[..., sa.BindParameter[Any]]
) -> sa.ColumnElement[bool]:
    match native:
        case "sqlite":
            each = sa.func.json_each(parameter(type_=Json)).table_valued("value")
            return column.in_(sa.select(each.c.value))
        case "postgresql":
            return column == sa.any_(parameter(type_=TextArray()))
        case _:
            return column.in_(parameter(expanding=True))
