"""The condition that a column holds one of many values, as a statement that is the same for any number of them.

An `IN` list is written anew for every number of values, and sent as one parameter each. SQLite and PostgreSQL take all
of them as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from medscribe_pipeline.warehouse.tables import Json
from medscribe_pipeline.warehouse.writing import native_name

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["among"]


def among(connection: sa.Connection, column: sa.ColumnElement[Any], values: Sequence[str]) -> sa.ColumnElement[bool]:
    """The condition that a text column holds one of these values.

    Args:
        connection: What the statement is for.
        column: The column.
        values: Any number up to `store.IN_CHUNK`: other databases get an `IN` list of them.
    """
    match native_name(connection):
        case "sqlite":
            each = sa.func.json_each(sa.bindparam(None, list(values), type_=Json)).table_valued("value")
            return column.in_(sa.select(each.c.value))
        case "postgresql":
            return column == sa.any_(sa.bindparam(None, list(values), type_=postgresql.ARRAY(sa.Text)))
        case _:
            return column.in_(values)
