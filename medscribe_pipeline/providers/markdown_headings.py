"""Which lines of a Markdown document are headings, for the mark they bear or the words they say.

A parser decides what is a heading, a paragraph, a list or code; the spellings of `headings.toml` decide what is known.
Headings are, the weightiest first:

1. `#` to `######`, and lines underlined with `=` or `-`;
2. bold lines of their own at the beginning of a paragraph, and known spellings in bold (`**Plan:** rest`), with
   unknown ones among them;
3. known spellings that lead into text after a colon, or stand alone at the beginning of a paragraph or in capitals;
4. known spellings in any of these shapes at the beginning of an item of a top-level list.

What only leads into text (2 to 4) and is weaker than a heading above it that holds such parts of its own is text there:
`- **Medications:** ...` in a plan is a line of the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medscribe_pipeline.providers.headings import LONGEST_ACRONYM, SENTENCE
from medscribe_pipeline.providers.headings_file import MAX_MARKDOWN_TITLE, MAX_TITLE, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from markdown_it.token import Token

__all__ = ["FINDINGS", "PLANS", "MarkdownDocument", "MarkdownHeading", "find_headings", "outdented"]

FINDINGS = frozenset({"SOAP_SUBJECTIVE", "SOAP_OBJECTIVE"})
"""The parts that make a note a SOAP note."""

PLANS = frozenset({"SOAP_ASSESSMENT", "SOAP_PLAN", "ASSESSMENT", "PLAN", "ASSESSMENT_AND_PLAN"})
"""The parts that say what is thought and done: their medications are not the current ones."""

_BOLD, _PLAIN, _ITEM = 7, 8, 9


@dataclass(frozen=True, slots=True)
class MarkdownHeading:
    """A heading in its place.

    Attributes:
        title: As written, without marks.
        key: Its section key, where it has one.
        known: Whether the data file has it; it may be known and stand for no key.
        rank: Weight of its mark, 1 the heaviest.
        rest: What follows it on its own line.
        start: Its first line.
        end: The line after it.
        indent: Of a list item: how much white space its further lines have before them because of it.
        item_end: Of a list item: the line after its last one.
    """

    title: str
    key: str | None
    known: bool
    rank: int
    rest: str
    start: int
    end: int
    indent: int = 0
    item_end: int = 0


@dataclass(frozen=True, slots=True)
class _Lead:
    """The beginning of a line that spells a known heading: title, what follows, how it is set apart."""

    title: str
    key: str | None
    rest: str
    marked: bool
    colon: bool


@dataclass(frozen=True, slots=True)
class MarkdownDocument:
    """A document in blocks.

    Attributes:
        tokens: Its blocks; those of type `inline` have their content, and no children.
        lines: Its lines.
        inline: Parses the content of a block, with the link definitions of the document.
    """

    tokens: Sequence[Token]
    lines: Sequence[str]
    inline: Callable[[str], Sequence[Token]]


def find_headings(
    document: MarkdownDocument, spellings: Mapping[str, str | None], *, missed: set[str] | None = None
) -> list[MarkdownHeading]:
    """The headings of a document, in order.

    Args:
        document: The document.
        spellings: Folded spelling (`headings.fold`) to section key.
        missed: Takes what was looked for among them and is not there. With none of these added to the spellings, the
            headings are the same.
    """
    tokens = document.tokens
    finder = _Finder(document, spellings, set() if missed is None else missed)
    for index, token in enumerate(tokens):
        if token.map is None:
            continue
        if token.type in ("heading_open", "paragraph_open") and token.level == 0:
            finder.block(token, tokens[index + 1], token.map[0], token.map[1])
        elif token.type == "list_item_open" and token.level == 1:
            finder.item(tokens[index + 1 : index + 3], token.map[0], token.map[1])
    return finder.found


class _Finder:
    """Collects headings block by block, and remembers which of them are open."""

    def __init__(self, document: MarkdownDocument, spellings: Mapping[str, str | None], missed: set[str]) -> None:
        self.found: list[MarkdownHeading] = []
        self._lines = document.lines
        self._inline = document.inline
        self._spellings = spellings
        self._missed = missed
        self._open: list[MarkdownHeading] = []

    def block(self, token: Token, inline: Token, start: int, end: int) -> None:
        """A paragraph, or a heading by mark or underline; if it is no title, its lines are looked at one by one."""
        if token.type == "heading_open":
            title = inline.content.strip()
            if _is_title(title, underlined=not token.markup.startswith("#")):
                lead = self._lead(title) or _Lead(_plain(title), None, "", marked=False, colon=False)
                self._add(lead, int(token.tag.removeprefix("h")), start, end)
                return
        for offset, line in enumerate(inline.content.split("\n")):
            self._line(line.strip(), inline.content if offset == 0 else None, start + offset)

    def item(self, opening: Sequence[Token], start: int, end: int) -> None:
        """An item of a top-level list: its first line may be a heading. `opening` are the two tokens in it."""
        block, inline = opening
        if inline.type != "inline" or not block.map or block.map[0] != start:
            return
        first = inline.content.split("\n")[0].strip()
        lead = self._lead(first)
        if lead is None or (self._above(_ITEM) is not None and lead.key not in FINDINGS):
            return
        has_more = any(line.strip() for line in self._lines[start + 1 : end])
        # A bare known word is an item of a list like any other, unless something stands under it.
        if lead.rest or lead.marked or lead.colon or has_more or block.type == "heading_open":
            column = max(self._lines[start].find(first), 0)
            self._add(lead, _ITEM, start, start + 1, indent=column, item_end=end)

    def _line(self, line: str, first_of: str | None, number: int) -> None:
        """A line of a paragraph; `first_of` is the text of the paragraph where it is the first one."""
        lead = self._lead(line)
        if lead is None:
            lead = self._unknown(line, first_of) if first_of is not None else None
            if lead is not None:
                self._add(lead, _BOLD, number, number + 1)
            return
        above = self._above(_BOLD if lead.marked else _PLAIN)
        if above is None or lead.key in FINDINGS:
            is_heading = lead.marked or lead.colon or first_of is not None or self._in_capitals(lead, number)
        elif not lead.marked:
            is_heading = False
        else:
            begins_next_part = above.key in FINDINGS and lead.key in PLANS
            is_heading = not lead.rest or begins_next_part or above.key not in FINDINGS | PLANS
        if is_heading:
            self._add(lead, _BOLD if lead.marked else _PLAIN, number, number + 1)

    def _unknown(self, line: str, paragraph: str) -> _Lead | None:
        """The first line of a paragraph as a heading for its shape alone.

        Bold words that lead into text are one only where the heading before was such, too (`**Procedure:** rest`, then
        `**Anaesthesia:** rest`), and holds no parts of its own: in a plan they are part of the plan.
        """
        if not line.startswith(("**", "__")):
            return None
        bold, rest = _bold_title(line, self._inline(paragraph))
        if bold is None:
            return None
        last = self._open[-1] if self._open else None
        follows = last is not None and last.rank == _BOLD and last.key not in FINDINGS | PLANS
        return _Lead(bold, None, rest, marked=True, colon=True) if not rest or follows else None

    def _in_capitals(self, lead: _Lead, number: int) -> bool:
        """Whether a title stands out by its capitals: no acronym, and not below a line in capitals itself."""
        return _is_shouted(lead.title) and not _is_shouted(self._lines[number - 1])

    def _add(self, lead: _Lead, rank: int, start: int, end: int, *, indent: int = 0, item_end: int = 0) -> None:
        known = self._spelling(lead.title) is not None
        heading = MarkdownHeading(lead.title, lead.key, known, rank, lead.rest, start, end, indent, item_end)
        while self._open and self._open[-1].rank >= rank:
            self._open.pop()
        self._open.append(heading)
        self.found.append(heading)

    def _above(self, rank: int) -> MarkdownHeading | None:
        """The nearest heading with a key that one of that weight would stand under."""
        return next((heading for heading in reversed(self._open) if heading.key and heading.rank < rank), None)

    def _lead(self, line: str) -> _Lead | None:
        """Reads a line as known heading and rest: `Plan`, `Plan: rest`, `**Plan:** rest`, `**Plan: rest**`.

        Emphasis is read as it is meant: in `**Plan:**rest` and `** Plan **` it is none for CommonMark.
        """
        opening = line[: len(line) - len(line.lstrip("*_"))]
        close = line.find(opening[::-1], len(opening)) if opening else -1
        inner, after = line[len(opening) :].strip(), ""
        if close > 0:
            inner, after = line[len(opening) : close].strip(), line[close + len(opening) :].strip()
        colon = inner.endswith(":")
        if not colon and after.startswith((":", "- ", "– ", "— ")):
            colon, after = True, after[1:].lstrip()
        title = inner.rstrip(":").rstrip()
        if colon or not after:
            spelling = self._spelling(title)
            if spelling is not None:
                return _Lead(title, self._spellings[spelling], after, bool(opening), colon)
        before, _, tail = inner.partition(":")
        spelling = self._spelling(before.rstrip()) if tail else None
        if spelling is None:
            return None
        rest = " ".join(part for part in (tail.strip(), after) if part)
        return _Lead(before.rstrip(), self._spellings[spelling], rest, bool(opening), colon=True)

    def _spelling(self, title: str) -> str | None:
        """The spelling a title is known by; an enumerator before it and a final `(...)` are ignored if need be."""
        if not 0 < len(title) <= MAX_TITLE or not title[0].isalnum():
            return None
        for candidate in (title, _unnumbered(title)):
            for written in (candidate, candidate.rpartition("(")[0] if candidate.endswith(")") else ""):
                folded = fold(written)
                if folded in self._spellings:
                    return folded
                self._missed.add(folded)
        return None


def _is_title(title: str, *, underlined: bool) -> bool:
    """Whether the text of a heading is one. A sentence above a `---` that was meant as a rule is none."""
    if not any(map(str.isalnum, title)):
        return False
    if underlined:
        return len(title) <= MAX_TITLE and "\n" not in title and title[-1] not in SENTENCE
    return len(title) <= MAX_MARKDOWN_TITLE


def _bold_title(line: str, inline: Sequence[Token]) -> tuple[str | None, str]:
    """A short title in bold at the beginning of a paragraph that is no sentence, and what follows its colon."""
    children = [child for child in inline if child.type != "text" or child.content]
    if [child.type for child in children[:3]] != ["strong_open", "text", "strong_close"]:
        return None, ""
    inner = children[1].content
    # What the parser took for the title must stand there as it is: no escapes, no entities.
    if line[2 : 4 + len(inner)] != inner + line[:2]:
        return None, ""
    title, rest = inner.strip().rstrip(":").rstrip(), line[4 + len(inner) :].strip()
    if rest and not inner.rstrip().endswith(":") and not rest.startswith(":"):
        return None, ""
    is_title = 0 < len(title) <= MAX_TITLE and title[0].isalnum() and SENTENCE.isdisjoint(title) and ":" not in title
    return (title, rest.removeprefix(":").strip()) if is_title else (None, "")


def _is_shouted(line: str) -> bool:
    """Whether a line is in capitals and not only because it is short (`T 38`, `CAT`)."""
    return line.isupper() and sum(map(str.isalpha, line)) > LONGEST_ACRONYM


def _plain(title: str) -> str:
    """A title without the marks around it; those inside stay."""
    return title.strip("*_: ")


def _unnumbered(title: str) -> str:
    """Without `1.`, `II)`, `A:` or `S -` before it; empty where there is no such thing."""
    first, _, rest = title.partition(" ")
    number, rest = first.rstrip(".):-–—"), rest.strip()
    is_number = number.isdigit() or len(number) == 1 or (number != "" and set(number) <= set("IVX"))
    if not is_number or (number == first and not rest.startswith(("-", "–", "—"))):
        return ""
    rest = rest.lstrip("-–— ")
    # A single letter is no title after another: `S: a` is a sentence.
    return rest if len(rest) > 1 else ""


def outdented(line: str, heading: MarkdownHeading, number: int) -> str:
    """A line below a heading, without the indent it had for belonging to the heading's list item."""
    if number >= heading.item_end:
        return line
    return line[min(len(line) - len(line.lstrip()), heading.indent) :]
