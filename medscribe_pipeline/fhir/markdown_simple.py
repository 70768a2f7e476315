"""Markdown that needs no parser: paragraphs, bullets and numbers, with strong words at most.

Nearly all sections are of that kind, and a parser for all of CommonMark takes ten times as long to find that out. Only
what can be read in one way is read here; at the first line that may be anything else the whole text is left to the
parser. Whatever is read here, the parser would have read the same.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

__all__ = ["Rendered", "render_simple"]

# What means something wherever it stands: escapes, code, emphasis with `_`, links, images; and white space that
# parsers count or replace.
_MARKS = re.compile(r"[\\`_\[\t\r\0]")
# A line of words, in a list or not: it begins with a letter, a digit, a parenthesis or strong words, so that it is no
# heading, rule, table or fence, and no list in a list.
_LINE = re.compile(r"(?P<mark>- |(?P<number>[0-9]{1,9})\. )?(?P<words>(?![0-9]+[.)](?:\s|$))(?:\*\*)?[^\W_].*|\(.*)")
# Stars that can but open before the words, and can but close after them.
_STRONG = re.compile(r"(?:^|(?<= ))\*\*(?=[^\W_])([^*]*)(?:(?<=[^\W_])\*\*(?=[ .,;:)]|$)|(?<=:)\*\*(?= |$))")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text in both forms; both are empty where nothing of it would be seen.

    Attributes:
        xhtml: Block elements, to stand in a `div`.
        plain: Lines without marks but those of lists (`- `, `1. `) and the ` | ` between cells.
    """

    xhtml: str
    plain: str


@dataclass(slots=True)
class _Block:
    """A paragraph or a list: its tag, its lines or items as XHTML, its lines as plain text."""

    tag: str
    xhtml: list[str]
    plain: list[str]

    def written(self) -> str:
        if self.tag == "p":
            lines = "<br/>\n".join(self.xhtml)
            return f"<p>{lines}</p>"
        items = "\n".join(f"<li>{item}</li>" for item in self.xhtml)
        return f"<{self.tag}>\n{items}\n</{self.tag}>"


def render_simple(text: str) -> Rendered | None:
    r"""Renders Markdown, or leaves it to the parser.

    >>> render_simple("**Rest:** 2 days\n- water").xhtml
    '<p><strong>Rest:</strong> 2 days</p>\n<ul>\n<li>water</li>\n</ul>'
    >>> render_simple("*rest*") is None
    True
    """
    # Addresses have two brackets, entities an ampersand and a semicolon.
    if _MARKS.search(text) or ("<" in text and ">" in text) or ("&" in text and ";" in text):
        return None
    blocks: list[_Block] = []
    follows = False
    for line in text.split("\n"):
        if not line:
            follows = False
            continue
        read = _LINE.fullmatch(line)
        if read is None or line[-1].isspace():
            return None
        mark, number, words = read.group("mark", "number", "words")
        tag = "p" if mark is None else "ul" if number is None else "ol"
        block = _block(blocks, tag, follows=follows)
        written = _written(words)
        if block is None or written is None:
            return None
        block.xhtml.append(written[0])
        block.plain.append(f"{mark or ''}{written[1]}")
        if number is not None and number != str(len(block.xhtml)):
            return None  # It does not count 1, 2, 3, or it is no list but a line of the text above.
        follows = True
    return _rendered(blocks)


def _block(blocks: list[_Block], tag: str, *, follows: bool) -> _Block | None:
    """The block a line belongs to; `None` for a line right below a list that is no item of it."""
    last = blocks[-1] if blocks else None
    if last is not None and last.tag == tag and (follows or tag != "p"):
        return last
    if last is not None and follows and last.tag != "p":
        return None
    blocks.append(_Block(tag, [], []))
    return blocks[-1]


def _written(words: str) -> tuple[str, str] | None:
    """Words as XHTML and as plain text; `None` where a star may mean something else."""
    escaped = html.escape(words, quote=False)
    if "*" not in words:
        return escaped, words
    xhtml, plain = _STRONG.sub(r"<strong>\1</strong>", escaped), _STRONG.sub(r"\1", words)
    return None if "*" in xhtml or "*" in plain else (xhtml, plain)


def _rendered(blocks: list[_Block]) -> Rendered:
    lines: list[str] = []
    before = ""
    for block in blocks:
        # A list stands right below the paragraph that leads into it.
        if before and not (before == "p" and block.tag != "p"):
            lines.append("")
        lines += block.plain
        before = block.tag
    return Rendered("\n".join(block.written() for block in blocks), "\n".join(lines))
