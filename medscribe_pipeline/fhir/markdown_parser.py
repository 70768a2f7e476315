"""Markdown as it is read in a clinical note: CommonMark and tables, but nothing a clinician means may vanish.

CommonMark was made for prose. In a note, some of its marks are words, and some of its rules drop words silently:

| In a note | CommonMark would | Here |
|---|---|---|
| `- > 38.5`, `>3 days` | quote, and drop the "more than" | `>` is text; there are no block quotes |
| `+ Murphy sign` | begin a list, and drop the "positive" | lists begin with `-`, `*` or a number |
| `HLA-B*27, HLA-B*57`, `2*3*4` | emphasise, and drop the stars | a star inside a word is text, as `_` is |
| `[Allergies]: penicillin` | take it for a link's address, and show nothing | text; there are no link definitions |
| `[pain](left)`, `<SpO2:95>` | make a link, and drop `left` or `<>` | links and images lead to web addresses only |
| `Hb <b` and other HTML | pass it on, or hide it | text; there is no HTML |
| a row longer than its table's header | drop the further cells | all cells are kept |
| an indented line | make it code | it is the text, list or table it would be without |
| a line of `---` below a text | make the text a heading | a line; providers have found the headings before |
| more than a few levels of nesting | drop what is deeper | what is deeper is text |
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markdown_it.common.utils import mdTrim
from markdown_it.rules_block.list import list_block
from markdown_it.rules_block.table import escapedSplit, getLine, table
from markdown_it.token import Token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

__all__ = ["parse"]

DEEPEST = 32
"""Block levels that open a list; a list in a list takes two."""

# The parser drops blocks beyond its own limit, so none may come near it. Inline, beyond it, `[` is text.
_MAX_NESTING = 40

_ADDRESS = re.compile(r"(?:https?|ftp|file|data|javascript|mailto|tel):", re.IGNORECASE)
_WITHOUT = ["blockquote", "code", "html_block", "html_inline", "lheading", "reference"]


def parse(text: str) -> Sequence[Token]:
    """The block tokens of a Markdown text, inline tokens in their `children`."""
    return _parser().parse(text)


@cache
def _parser() -> MarkdownIt:
    parser = _ClinicalMarkdown("commonmark", {"html": False, "maxNesting": _MAX_NESTING})
    parser.enable("table").disable(_WITHOUT)
    # `alt`: the blocks these may end, as in the parser's own list.
    parser.block.ruler.at("table", _whole_table, {"alt": ["paragraph"]})
    parser.block.ruler.at("list", _list, {"alt": ["paragraph"]})
    parser.inline.ruler.before("emphasis", "star_in_word", _star_in_word)
    return parser


class _ClinicalMarkdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802  # the parser calls it by this name
        """Whether a link or image leads there. One that leads nowhere stays as it was written."""
        return _ADDRESS.match(url) is not None


def _list(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    begin = state.bMarks[start] + state.tShift[start]
    if state.level >= DEEPEST or state.src.startswith("+", begin):
        return False
    return list_block(state, start, end, silent)


def _whole_table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    first = len(state.tokens)
    if not table(state, start, end, silent):
        return False
    whole: list[Token] = []
    shown = line = 0
    for token in state.tokens[first:]:
        if token.type == "tr_open" and token.map:
            shown, line = 0, token.map[0]
        elif token.type == "inline":
            shown += 1
        elif token.type == "tr_close":
            for cell in _cells(getLine(state, line))[shown:]:
                inline = Token("inline", "", 0, content=mdTrim(cell), children=[], level=token.level + 2)
                whole += [Token("td_open", "td", 1), inline, Token("td_close", "td", -1)]
        whole.append(token)
    state.tokens[first:] = whole
    return True


def _cells(row: str) -> list[str]:
    cells = escapedSplit(mdTrim(row))
    # The pipes at either end belong to the row.
    return cells[cells[:1] == [""] : len(cells) - (cells[-1:] == [""])]


def _star_in_word(state: StateInline, silent: bool) -> bool:
    start, end = state.pos, state.pos
    while end < state.posMax and state.src[end] == "*":
        end += 1
    if start == end or not start or end == state.posMax:
        return False
    if not (_is_of_word(state.src[start - 1]) and _is_of_word(state.src[end])):
        return False
    if not silent:
        state.pending += state.src[start:end]
    state.pos = end
    return True


def _is_of_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"
