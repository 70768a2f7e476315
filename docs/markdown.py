"""The little Markdown the generated pages need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["NOTICE", "code", "page", "table"]

NOTICE = "<!-- Generated from the code by `make docs`. Edit the code, not this page. -->"
"""First line of every generated page."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A table; line breaks and bars inside cells are made harmless.

    >>> print(table(("a", "b"), [("1", "x|y")]))
    | a | b |
    | --- | --- |
    | 1 | x\|y |
    """
    lines = [_row(header), _row(["---"] * len(header)), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def code(text: str) -> str:
    """Text as code; nothing for no text.

    >>> code("a"), code("")
    ('`a`', '')
    """
    return f"`{text}`" if text else ""


def page(*blocks: str) -> str:
    """A generated page: the notice, then the blocks with an empty line between them."""
    return "\n\n".join((NOTICE, *(block.strip("\n") for block in blocks))) + "\n"
