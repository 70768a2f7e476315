"""Markdown as XHTML and as plain text: the same words, in the same order, from one reading.

XHTML has only `p br h1-h6 ul ol li em strong code pre table thead tbody tr th td hr` and no attribute: a subset of
what the Microsoft FHIR server accepts. What Markdown says with attributes is said in words: a list that does not count
1, 2, 3 shows the numbers it was written with. Of a link the text is shown, of an image what it says instead; where
they lead is not. A single line feed is a line break, as in the forms and vital signs it comes from.

How Markdown is read: `markdown_parser`.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from medscribe_pipeline.fhir.markdown_simple import Rendered, render_simple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from markdown_it.token import Token

__all__ = ["Rendered", "render"]

# What fences are labelled with. Anything else behind a fence may be words.
_LANGUAGES = frozenset(
    {"", "csv", "html", "json", "markdown", "md", "plain", "plaintext", "text", "txt", "xml", "yaml"}
)


@lru_cache(maxsize=64)  # A section is asked for several times while its note is built; memory stays bounded.
def render(text: str) -> Rendered:
    """Renders Markdown.

    Args:
        text: Without control characters and lone surrogates. Characters written as entities may be anything.
    """
    return render_simple(text) or _render_parsed(text)


def _render_parsed(text: str) -> Rendered:
    # Slow to load, and most Markdown is simple.
    from medscribe_pipeline.fhir.markdown_parser import parse  # noqa: PLC0415

    blocks = _blocks(iter(parse(text)))
    if not any(block.lines for block in blocks):
        return Rendered("", "")
    lines: list[str] = []
    before: _Block | None = None
    for block in filter(_has_words, blocks):
        if before and not (before.tag == "p" and block.tag in ("ul", "ol")):
            lines.append("")
        lines += block.lines
        before = block
    return Rendered("\n".join(block.xhtml for block in blocks), "\n".join(lines))


@dataclass(frozen=True, slots=True)
class _Block:
    """A block element: its tag, what is in it, and its words as plain lines (none for a rule)."""

    tag: str
    inner: str
    lines: list[str]

    @property
    def xhtml(self) -> str:
        return f"<{self.tag}>{self.inner}</{self.tag}>" if self.tag != "hr" else "<hr/>"


def _has_words(block: _Block) -> bool:
    return bool(block.lines)


def _blocks(tokens: Iterator[Token]) -> list[_Block]:
    """The blocks up to the end of what holds them; those without a word are left out."""
    blocks: list[_Block] = []
    for token in tokens:
        if token.nesting < 0:
            break
        block = _block(token, tokens)
        if block.lines or block.tag == "hr":
            blocks.append(block)
    return blocks


def _block(token: Token, tokens: Iterator[Token]) -> _Block:
    if token.type == "hr":
        return _Block("hr", "", [])
    if token.type == "fence":
        return _code(token)
    if token.type == "table_open":
        return _table(tokens)
    if token.type in ("bullet_list_open", "ordered_list_open"):
        return _list(tokens)
    # A paragraph or a heading: its text, and its end.
    words = _words(next(tokens))
    next(tokens)
    return _Block(token.tag, words.xhtml, words.lines)


def _code(fence: Token) -> _Block:
    label = fence.info.strip()
    content = fence.content if label.lower() in _LANGUAGES else f"{label}\n{fence.content}"
    lines = [line.rstrip() for line in content.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return _Block("pre", f"<code>{_escape(chr(10).join(lines))}</code>", lines)


def _list(tokens: Iterator[Token]) -> _Block:
    """A list. The mark of an item without words is shown: a lone `-` or `5.` may be all that was said."""
    items: list[tuple[Token, list[_Block]]] = []
    for token in tokens:
        if token.nesting < 0:
            break
        items.append((token, _blocks(tokens)))
    marks = [f"{item.info}{item.markup}" for item, _ in items]
    is_said = [any(map(_has_words, blocks)) for _, blocks in items]
    if not any(is_said):
        return _Block("p", "<br/>\n".join(marks), marks)
    is_numbered = bool(items[0][0].info)
    # Without attributes a list begins at 1. One that does not says its numbers in words.
    counts = (
        is_numbered and all(is_said) and [item.info for item, _ in items] == list(map(str, range(1, len(items) + 1)))
    )
    entries, lines = list[str](), list[str]()
    for mark, said, (_, blocks) in zip(marks, is_said, items, strict=True):
        bullet = mark if is_numbered else "-"
        shown = blocks if said else [] if is_numbered else [_Block("p", mark, [mark])]
        number = mark if is_numbered and not counts else ""
        entries.append(f"<li>{_item(number, shown)}</li>")
        below = [line for block in shown for line in block.lines]
        indent = " " * (len(bullet) + 1)
        lines.append(f"{bullet} {below[0]}" if below else bullet)
        lines += [f"{indent}{line}" for line in below[1:]]
    return _Block("ol" if counts else "ul", "\n" + "\n".join(entries) + "\n", lines)


def _item(number: str, blocks: list[_Block]) -> str:
    """What is in a list item: its first paragraph stands beside the mark."""
    parts = [block.xhtml for block in blocks]
    if blocks and blocks[0].tag == "p":
        parts[0] = blocks[0].inner
        if number:
            parts[0] = f"{number} {parts[0]}"
    elif number:
        parts.insert(0, number)
    return "\n".join(parts)


def _table(tokens: Iterator[Token]) -> _Block:
    """A table; rows without words are left out, as the empty header many are written with."""
    rows: dict[str, list[str]] = {"thead": [], "tbody": []}
    lines: list[str] = []
    part = "thead"
    cells: list[tuple[str, str]] = []
    for token in tokens:
        if token.type == "table_close":
            break
        if token.type in ("thead_open", "tbody_open"):
            part = token.tag
        elif token.type == "tr_open":
            cells = []
        elif token.type == "inline":
            words = _words(token)
            cells.append((words.xhtml, " ".join(words.lines)))
        elif token.type == "tr_close" and any(plain for _, plain in cells):
            tag = "th" if part == "thead" else "td"
            rows[part].append("<tr>\n" + "\n".join(f"<{tag}>{xhtml}</{tag}>" for xhtml, _ in cells) + "\n</tr>")
            lines.append(" | ".join(plain for _, plain in cells))
    parts = [f"<{name}>\n" + "\n".join(found) + f"\n</{name}>" for name, found in rows.items() if found]
    return _Block("table", "\n" + "\n".join(parts) + "\n", lines)


@dataclass(slots=True)
class _Words:
    """Inline content while it is written in both forms."""

    _xhtml: list[str] = field(default_factory=list)
    _plain: list[str] = field(default_factory=list)
    _open: dict[str, int] = field(default_factory=dict)
    _titles: list[str] = field(default_factory=list)

    @property
    def xhtml(self) -> str:
        return "".join(self._xhtml)

    @property
    def lines(self) -> list[str]:
        return [line for line in map(str.strip, "".join(self._plain).split("\n")) if line]

    def write(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            if token.type in ("softbreak", "hardbreak"):
                self._xhtml.append("<br/>\n")
                self._plain.append("\n")
            elif token.type == "code_inline":
                self._xhtml.append(f"<code>{_escape(token.content)}</code>")
                self._plain.append(token.content)
            elif token.tag in ("em", "strong"):
                self._emphasis(token)
            elif token.type == "link_open":
                self._titles.append(_title(token))
            elif token.type == "link_close":
                self._text(self._titles.pop())
            elif token.type == "image":
                self.write(token.children or ())
                self._text(_title(token))
            else:
                self._text(token.content)

    def _text(self, text: str) -> None:
        self._xhtml.append(_escape(text))
        self._plain.append(text)

    def _emphasis(self, token: Token) -> None:
        """Emphasis within the same emphasis says nothing more: that keeps elements a few levels deep."""
        depth = self._open.get(token.tag, 0)
        self._open[token.tag] = depth + token.nesting
        if token.nesting > 0 and depth == 0:
            self._xhtml.append(f"<{token.tag}>")
        elif token.nesting < 0 and depth == 1:
            self._xhtml.append(f"</{token.tag}>")


def _words(inline: Token) -> _Words:
    words = _Words()
    words.write(inline.children or ())
    return words


def _title(token: Token) -> str:
    """The words a link or image shows when pointed at."""
    title = str(token.attrGet("title") or "")
    return f" ({title})" if title.strip() else ""


def _escape(text: str) -> str:
    return html.escape(text, quote=False)
