r"""A document that a language model wrote in Markdown, as sections. What counts as a heading: `markdown_headings`.

A heading is nested under the one above it that is heavier, with two exceptions. The four parts of a SOAP note are
always parts of the whole. And a part with a key is nested only under those that hold such parts, the four of a SOAP
note and headings without key; elsewhere it begins a section of its own (`### Allergies` after `## History`).

A heading nobody knows with nothing below is text: it may be a finding (`### No known allergies`), and documents show
no empty section.

Nothing is lost. The words (runs of letters and digits) of the Markdown are the words of titles and texts, in order and
depth first, but for two: the number of an ordered list's item that is a heading, and the `markdown` of a fence around
the whole. Of the rest goes only what is no word: the marks of headings, thematic breaks, blank lines around a text, and
the indent of a list item whose first line became a heading. Texts stay Markdown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.notes import NoteSection
from medscribe_pipeline.providers.headings_file import shipped_headings
from medscribe_pipeline.providers.markdown_headings import (
    FINDINGS,
    PLANS,
    MarkdownDocument,
    MarkdownHeading,
    find_headings,
    outdented,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["split_markdown"]

_LINE_END = re.compile(r"\r\n|\r|\n")
_WRAPPERS = frozenset({"", "markdown", "md"})
_HOLDERS = FINDINGS | PLANS


@cache
def _parsers() -> tuple[MarkdownIt, MarkdownIt]:
    """One for whole documents, and one that leaves the texts of their blocks as they are."""
    from markdown_it import MarkdownIt  # noqa: PLC0415  # slow to load, and not every provider writes Markdown

    whole, blocks = (MarkdownIt("commonmark").enable("table") for _ in range(2))
    return whole, blocks.disable(["inline", "text_join"])


def _parse(text: str) -> MarkdownDocument:
    whole, blocks = _parsers()
    # Link definitions, which the texts may refer to.
    environment: dict[str, Any] = {}
    tokens = blocks.parse(text, environment)

    def inline(content: str) -> Sequence[Token]:
        return whole.parseInline(content, environment)[0].children or ()

    return MarkdownDocument(tokens, text.split("\n"), inline)


def split_markdown(text: str, *, soap: bool = False) -> tuple[NoteSection, ...]:
    r"""Splits a Markdown document at its headings.

    Args:
        text: The document; line ends of any kind.
        soap: It is known to be a SOAP note: assessment and plan are its parts whatever else it holds.

    Returns:
        The sections in order; none for a text without a visible character. Text before the first heading, or
        without any, is a section whose key and title are `None`. A title of the whole is a first section
        without text.

    >>> [(s.key, s.title, s.text) for s in split_markdown("- **Subjective:** cough\n- **Objective**\n  - T 38")]
    [('SOAP_SUBJECTIVE', 'Subjective', 'cough'), ('SOAP_OBJECTIVE', 'Objective', '- T 38')]
    """
    document = _parse("\n".join(_LINE_END.split(text)))
    if _is_wrapped(document.tokens, document.lines):
        document = _parse(document.tokens[0].content)
    tokens, lines = document.tokens, document.lines
    table = shipped_headings()
    missed: set[str] = set()
    found = find_headings(document, table.known, missed=missed)
    if not (_is_soap(found) or missed.isdisjoint(table.only_in_soap)):
        # Single letters count only where they complete a SOAP note: elsewhere `P: 80` is a pulse.
        with_letters = find_headings(document, table.in_soap)
        found = with_letters if _is_soap(with_letters) else found
    if soap or _is_soap(found):
        found = [replace(heading, key=table.replaced_in_soap.get(heading.key or "", heading.key)) for heading in found]
    found = _without_findings(found, lines)
    breaks = {token.map[0] for token in tokens if token.type == "hr" and token.level == 0 and token.map}
    return _assemble(["" if index in breaks else line for index, line in enumerate(lines)], found)


def _is_wrapped(tokens: Sequence[Token], lines: Sequence[str]) -> bool:
    """Whether the whole document stands in one fence, as models like to answer."""
    if len(tokens) != 1 or tokens[0].type != "fence" or tokens[0].map is None:
        return False
    start, end = tokens[0].map
    # Link definitions have no token.
    is_whole = not any(line.strip() for line in (*lines[:start], *lines[end:]))
    return is_whole and tokens[0].info.strip().lower() in _WRAPPERS


def _is_soap(found: Sequence[MarkdownHeading]) -> bool:
    return {heading.key for heading in found} >= FINDINGS


def _without_findings(found: Sequence[MarkdownHeading], lines: Sequence[str]) -> list[MarkdownHeading]:
    """Leaves out headings nobody knows that hold neither text nor a weaker heading; the title of the whole stays."""
    kept: list[MarkdownHeading] = []
    for index in range(len(found) - 1, -1, -1):
        heading = found[index]
        following = kept[-1] if kept else None
        end = following.start if following else len(lines)
        says_something = heading.rest or any(line.strip() for line in lines[heading.end : end])
        holds = following is not None and following.rank > heading.rank
        if heading.known or says_something or holds or (index == 0 and following is not None):
            kept.append(heading)
    return kept[::-1]


@dataclass(slots=True)
class _Node:
    """A section while it is built. `is_name`: it is the title of the whole, or the first of several."""

    heading: MarkdownHeading
    text: str
    is_name: bool
    children: list[_Node] = field(default_factory=list)

    def section(self, *, in_plan: bool = False) -> NoteSection:
        key = self.heading.key
        # What a plan calls medications is prescribed, not taken so far.
        shown = None if in_plan and key == "CURRENT_MEDICATIONS" else key
        in_plan = in_plan or key in PLANS
        nested = tuple(child.section(in_plan=in_plan) for child in self.children)
        return NoteSection(key=shown, title=self.heading.title, text=self.text, sections=nested, format="markdown")


def _assemble(lines: Sequence[str], found: Sequence[MarkdownHeading]) -> tuple[NoteSection, ...]:
    """Sections from headings and the lines between them."""
    tops: list[_Node] = []
    path: list[_Node] = []
    preamble = _text(lines[: found[0].start] if found else lines)
    names = _names(found) if not preamble else 0
    for index, heading in enumerate(found):
        end = found[index + 1].start if index + 1 < len(found) else len(lines)
        below = [outdented(lines[number], heading, number) for number in range(heading.end, end)]
        node = _Node(heading, _text([heading.rest, *below]), is_name=index < names)
        while path and not _holds(path, node.heading):
            path.pop()
        (path[-1].children if path else tops).append(node)
        path.append(node)
    first = (NoteSection(key=None, title=None, text=preamble, format="markdown"),) if preamble else ()
    return (*first, *(node.section() for node in tops))


def _names(found: Sequence[MarkdownHeading]) -> int:
    """How many of the first headings are titles of the whole: without key, and heavier than all that follow."""
    count = 0
    while count < len(found) - 1 and found[count].key is None:
        if any(later.rank <= found[count].rank for later in found[count + 1 :]):
            break
        count += 1
    return count


def _holds(path: Sequence[_Node], heading: MarkdownHeading) -> bool:
    """Whether the last section of the path is one the heading is nested in."""
    last = path[-1]
    if last.is_name or heading.rank <= last.heading.rank or heading.key in FINDINGS:
        return False
    if heading.key is None or last.heading.key is None:
        return True
    if heading.key in PLANS:
        return last.heading.key == "ASSESSMENT_AND_PLAN"
    return last.heading.key in _HOLDERS


def _text(lines: Sequence[str]) -> str:
    """Lines as text, without the blank ones at either end."""
    written = [index for index, line in enumerate(lines) if line and not line.isspace()]
    return "\n".join(lines[written[0] : written[-1] + 1]) if written else ""
