"""Many texts as one parameter of PostgreSQL: an array, written as the server reads it.

The driver looks at each item of a list by itself, which takes longer than all else that is done for a statement of a
few hundred keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Dialect

__all__ = ["TextArray", "array_text"]


class TextArray(sa.types.TypeDecorator["Sequence[str | None]"]):
    """`TEXT[]`, for parameters."""

    impl = postgresql.ARRAY
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(sa.Text)

    def bind_processor(self, _dialect: Dialect) -> Callable[[Any], str]:
        """All of it in one go."""
        return array_text


def array_text(values: Sequence[str | None]) -> str:
    r"""An array of texts, as PostgreSQL writes one.

    >>> array_text(["one", None, 'a "quoted" \\'])
    '{"one",NULL,"a \\"quoted\\" \\\\"}'
    """
    if None not in values:
        joined = '","'.join(values)  # type: ignore[arg-type]  # there is none
        if "\\" not in joined and joined.count('"') == 2 * max(len(values) - 1, 0):
            return f'{{"{joined}"}}' if values else "{}"
    return f"{{{','.join(map(_item, values))}}}"


def _item(value: str | None) -> str:
    if value is None:
        return "NULL"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
