"""Blocks of text to a PDF: A4 or US Letter pages with a title, headings, paragraphs and page numbers.

Every glyph is tied to its characters (ToUnicode, and ActualText where a glyph alone cannot say), so that the words
can be searched, copied and read aloud. The same blocks and fonts give the same bytes: no clock, no random name, no
file identifier. PDF: ISO 32000-1 (https://opensource.adobe.com/dc-acrobat-sdk-docs/pdfstandards/PDF32000_2008.pdf).

This module needs the extra `pdf` and is imported only when a PDF is asked for.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from medscribe_pipeline.fhir.bidi import base_level, levels, visual_order
from medscribe_pipeline.fhir.pdf_file import PdfFile
from medscribe_pipeline.fhir.typefaces import Undrawable, shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from medscribe_pipeline.fhir.typefaces import Cluster

__all__ = ["A4", "BODY", "LARGEST", "LETTER", "SMALL", "TITLE", "Block", "Undrawable", "heading", "write_pdf"]

A4 = (595.28, 841.89)
LETTER = (612.0, 792.0)
"""Page sizes in points (1/72 inch)."""

LARGEST = 5 * 1024 * 1024
"""Bytes a PDF has at most: what every US Core server takes inline."""

_MOST_CHARACTERS = 200_000
_MOST_PAGES = 200
_MOST_FOOTER_LINES = 6
_MOST_KEPT = 8  # lines of headings in a row that are held together
_MARGIN = 56.0
_LEADING = 1.4
_FOOTER_SIZE = 8.0
_FOOTER_LINE = 11.0
_NUMBER_WIDTH = 70.0  # room for "123 / 200"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# Spaces of odd widths, which few fonts have, stand for a space; the two that forbid a line end stay.
_ODD_SPACE = re.compile("[\u1680\u2000-\u200a\u205f\u3000]")
_BULLET = re.compile(r"\s*(?:[-•*–]|\d{1,3}[.)])\s+")


@dataclass(frozen=True, slots=True)
class Style:
    """How a block looks: `size` and the gap `before` it in points; `keep` holds it together with what follows."""

    size: float
    before: float
    bold: bool = False
    keep: bool = False


TITLE = Style(16, 0, bold=True)
BODY = Style(10, 3)
SMALL = Style(9, 14)


def heading(depth: int) -> Style:
    """Style of a section heading; 0 is the outermost section."""
    return Style((13.0, 11.5, 10.5)[min(depth, 2)], (16.0, 10.0, 8.0)[min(depth, 2)], bold=True, keep=True)


@dataclass(frozen=True, slots=True)
class Block:
    """A text, of one or many lines, in one style."""

    text: str
    style: Style


@dataclass(frozen=True, slots=True)
class _Line:
    """One line as it is drawn: clusters from left to right; `x` from the left edge of the text."""

    clusters: tuple[Cluster, ...]
    x: float
    size: float
    before: float = 0.0
    keep: bool = False

    @property
    def height(self) -> float:
        return self.before + self.size * _LEADING


@dataclass(slots=True)
class _Page:
    lines: list[_Line] = field(default_factory=list)
    used: float = 0.0


def write_pdf(
    blocks: Sequence[Block],
    *,
    title: str,
    footer: str,
    language: str | None,
    right_to_left: bool,
    paper: tuple[float, float],
) -> bytes:
    """The blocks one after the other on as many pages as they need.

    Args:
        blocks: What to write. Line ends are kept; tabs are spaces.
        title: Title in the properties of the file.
        footer: A line for the foot of every page, beside its number; may be empty.
        language: BCP 47 tag, or `None`.
        right_to_left: Direction of lines without letters.
        paper: `A4` or `LETTER`.

    Raises:
        Undrawable: A character is in no font, or the file would be too large.
    """
    if sum(len(block.text) for block in blocks) > _MOST_CHARACTERS:
        raise Undrawable("too_large")
    width = paper[0] - 2 * _MARGIN
    setter = _Setter(language, int(right_to_left))
    foot = list(setter.lines(footer, Style(_FOOTER_SIZE, 0), width - _NUMBER_WIDTH)) if footer else []
    if len(foot) > _MOST_FOOTER_LINES:
        raise Undrawable("too_large")
    bottom = _MARGIN + max(len(foot) - 1, 0) * _FOOTER_LINE
    lines = [line for block in blocks for line in setter.lines(block.text, block.style, width)]
    pages = _paginate(lines, paper[1] - _MARGIN - bottom)
    if len(pages) > _MOST_PAGES:
        raise Undrawable("too_large")
    file = PdfFile(title, language, paper)
    for number, page in enumerate(pages, start=1):
        file.page()
        y = paper[1] - _MARGIN
        for place, line in enumerate(page.lines):
            y -= line.height - (0.0 if place else line.before)
            file.line(line.clusters, _MARGIN + line.x, y + line.size * (_LEADING - 1), line.size)
        for place, line in enumerate(reversed(foot)):
            file.line(line.clusters, _MARGIN + line.x, _MARGIN / 2 + place * _FOOTER_LINE, line.size, artifact=True)
        (counter,) = setter.lines(f"{number} / {len(pages)}", Style(_FOOTER_SIZE, 0), _NUMBER_WIDTH)
        x = paper[0] - _MARGIN - sum(cluster.advance for cluster in counter.clusters) * _FOOTER_SIZE / 1000
        file.line(counter.clusters, x, _MARGIN / 2, _FOOTER_SIZE, artifact=True)
    data = file.data()
    if len(data) > LARGEST:
        raise Undrawable("too_large")
    return data


def _paginate(lines: Sequence[_Line], height: float) -> list[_Page]:
    """Lines onto pages; a heading never stands last on one."""
    pages = [_Page()]
    for index, line in enumerate(lines):
        needed, place = line.height, index
        while lines[place].keep and place + 1 < len(lines) and place - index < _MOST_KEPT:
            place += 1
            needed += lines[place].height
        if pages[-1].lines and pages[-1].used + needed > height:
            pages.append(_Page())
        page = pages[-1]
        page.used += line.height if page.lines else line.height - line.before
        page.lines.append(line)
    return pages


@dataclass(frozen=True, slots=True)
class _Setter:
    """Breaks text into lines of a width."""

    language: str | None
    direction: int

    def lines(self, text: str, style: Style, width: float) -> Iterator[_Line]:
        """The lines of a text; an empty line of it is a gap of half a line before the next."""
        before = style.before
        for row in text.split("\n"):
            paragraph = _ODD_SPACE.sub(" ", _CONTROL.sub("", row.expandtabs(4)))
            if not paragraph.strip():
                before += style.size * _LEADING / 2
                continue
            for line in self._paragraph(paragraph, style, width):
                yield replace(line, before=before)
                before = 0.0

    def _paragraph(self, text: str, style: Style, width: float) -> Iterator[_Line]:
        base = base_level(text, self.direction)
        clusters = shape(text, levels(text, base), bold=style.bold, language=self.language)
        room = width * 1000 / style.size
        bullet = _BULLET.match(text)
        hang = sum(cluster.advance for cluster in clusters if bullet and cluster.start < bullet.end())
        hang = hang if hang < room / 2 else 0.0
        for number, part in enumerate(_broken(clusters, room, hang)):
            order = visual_order([cluster.level for cluster in part], [cluster.is_space for cluster in part], base)
            indent = hang if number else 0.0
            free = room - indent - sum(cluster.advance for cluster in part)
            x = (free if base else indent) * style.size / 1000
            yield _Line(tuple(part[index] for index in order), x, style.size, keep=style.keep)


def _broken(clusters: Sequence[Cluster], room: float, hang: float) -> Iterator[list[Cluster]]:
    """Clusters cut into lines at white space, or inside a word that is longer than a line.

    `hang` is what all lines but the first have less room.
    """
    line: list[Cluster] = []
    used, rest = 0.0, room - hang
    for word in _words(clusters):
        length = sum(cluster.advance for cluster in word if not cluster.is_space)
        if used + length > room and _trimmed(line):
            yield _trimmed(line)
            line, used, room = [], 0.0, rest
        for cluster in word:
            if used + cluster.advance > room and line and _may_start_line(cluster):
                yield _trimmed(line)
                line, used, room = [], 0.0, rest
            line.append(cluster)
            used += cluster.advance
    yield _trimmed(line)


def _may_start_line(cluster: Cluster) -> bool:
    """Not white space, and no mark that belongs to the letter before it."""
    return not cluster.is_space and not unicodedata.category(cluster.text[0]).startswith("M")


def _words(clusters: Iterable[Cluster]) -> Iterator[list[Cluster]]:
    """Words with the white space after them; white space before the first word is a word of its own."""
    word: list[Cluster] = []
    for cluster in clusters:
        if word and word[-1].is_space and not cluster.is_space:
            yield word
            word = []
        word.append(cluster)
    if word:
        yield word


def _trimmed(line: list[Cluster]) -> list[Cluster]:
    end = len(line)
    while end and line[end - 1].is_space:
        end -= 1
    return line[:end]
