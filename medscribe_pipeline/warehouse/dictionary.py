"""The data dictionary: types of columns in words. What columns mean is said by the comments in `tables` and `views`."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from medscribe_pipeline.warehouse.tables import Json, UtcDateTime

__all__ = ["type_name"]

_NAMES: tuple[tuple[type[sa.types.TypeEngine[Any]], str], ...] = (
    (UtcDateTime, "time"),
    (Json, "JSON"),
    (sa.Date, "day"),
    (sa.Boolean, "true or false"),
    (sa.Integer, "integer"),
    (sa.Float, "number"),
)


def type_name(column: sa.Column[Any]) -> str:
    """The type of a column, the same for every database: `text (64)`, `time`, `JSON`."""
    kind: Any = column.type
    known = next((name for family, name in _NAMES if isinstance(kind, family)), "text")
    return f"text ({kind.length})" if known == "text" and kind.length else known
