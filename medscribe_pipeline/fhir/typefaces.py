"""The fonts of a PDF: which one has a character, how its glyphs stand together, and what of it goes into the file.

HarfBuzz does both: it places glyphs (Arabic joins, Indic syllables, stacked accents) and cuts a font down to the
glyphs used. A character that no font has stops the whole PDF (`Undrawable`): a note with an empty box, or nothing,
where a word stood is worse than a note without its PDF.

Fonts: the Noto fonts of the package `manimgx-fonts`, and Inter (`fontpkg-inter`) for signs that Noto Sans leaves to
others (`≤`, `≈`, arrows). This module needs the extra `pdf` and is imported only when a PDF is asked for.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import uharfbuzz as hb

from medscribe_pipeline.fhir.bidi import MIRRORED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Cluster", "Glyph", "Typeface", "Undrawable", "shape", "typefaces"]

_UNITS = 1000  # a PDF measures glyphs in thousandths of the font size
_BOLD = 700.0
_REGULAR = 400.0
_DROPPED_TABLES = ("GSUB", "GPOS", "GDEF", "STAT", "cmap", "post", "name", "OS/2", "meta")
_NO_BREAK = ("\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}")


class Undrawable(Exception):
    """This note cannot become a PDF. `code` says why: `no_glyph` or `too_large`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Glyph:
    """One drawn shape: its number in the font, how far the pen moves on, and how far from the pen it stands.

    Distances are thousandths of the font size.
    """

    number: int
    advance: float
    right: float
    up: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """Characters that are drawn together: usually one of each.

    Attributes:
        start: Index of the first character in the paragraph.
        text: The characters.
        face: The typeface that draws them.
        level: Bidirectional level, see `bidi`.
        glyphs: What is drawn, from left to right.
        advance: Width, in thousandths of the font size.
    """

    start: int
    text: str
    face: Typeface
    level: int
    glyphs: tuple[Glyph, ...]
    advance: float

    @property
    def is_space(self) -> bool:
        """Whether a line may end here, and the white space be left out."""
        return self.text.isspace() and self.text not in _NO_BREAK

    @property
    def looks(self) -> str:
        """The characters as they look: brackets between right-to-left letters turn round."""
        return "".join(MIRRORED.get(character, character) for character in self.text) if self.level % 2 else self.text


class Typeface:
    """One font file in one weight, shared by all documents; it keeps nothing of any of them.

    Attributes:
        name: PostScript name.
        characters: Code points it has.
        ascent: Height above the base line, in thousandths of the font size.
        descent: Depth below the base line, below zero.
    """

    def __init__(self, data: bytes, name: str, weight: float) -> None:
        self._face = hb.Face(data)
        self._font = hb.Font(self._face)
        self._font.set_variations({"wght": weight})
        self._weight = weight
        self._scale = _UNITS / self._face.upem
        self.name = name
        # What a font keeps for its own use says something else in every font.
        self.characters = frozenset(code for code in self._face.unicodes if unicodedata.category(chr(code)) != "Co")
        extents = self._font.get_font_extents("ltr")
        self.ascent = extents.ascender * self._scale
        self.descent = extents.descender * self._scale

    def __repr__(self) -> str:
        return f"Typeface({self.name})"

    def width(self, glyph: int) -> float:
        """How far the pen moves on after a glyph that stands alone."""
        return float(self._font.get_glyph_h_advance(glyph) * self._scale)

    def shape(self, text: str, start: int, level: int, language: str | None) -> list[Cluster]:
        """The clusters of a run of one level, in reading order; `start` is its place in the paragraph.

        Raises:
            Undrawable: A character has no glyph after all.
        """
        buffer: Any = hb.Buffer()
        buffer.add_str(text)
        buffer.cluster_level = hb.BufferClusterLevel.MONOTONE_CHARACTERS
        buffer.flags = hb.BufferFlags.REMOVE_DEFAULT_IGNORABLES
        buffer.guess_segment_properties()
        # The language decides between forms of a letter (Romanian, Urdu); the machine's own must not.
        buffer.language = language or "und"
        buffer.direction = "rtl" if level % 2 else "ltr"
        hb.shape(self._font, buffer)
        drawn: dict[int, list[Glyph]] = {}
        for info, position in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True):
            if info.codepoint == 0:
                raise Undrawable("no_glyph")
            place = (position.x_advance, position.x_offset, position.y_offset)
            drawn.setdefault(info.cluster, []).append(Glyph(info.codepoint, *(part * self._scale for part in place)))
        starts = sorted(drawn)
        return [
            Cluster(start + at, text[at:end], self, level, tuple(drawn[at]), sum(glyph.advance for glyph in drawn[at]))
            for at, end in zip(starts, [*starts[1:], len(text)], strict=True)
        ]

    def subset(self, glyphs: Sequence[int]) -> bytes:
        """A font file with these glyphs alone, under their own numbers, in this weight."""
        wanted = hb.SubsetInput()
        wanted.glyph_set.update(glyphs)
        wanted.flags = hb.SubsetFlags.RETAIN_GIDS | hb.SubsetFlags.NO_HINTING | hb.SubsetFlags.NO_LAYOUT_CLOSURE
        wanted.pin_all_axes_to_default(self._face)
        wanted.pin_axis_location(self._face, "wght", self._weight)
        # A PDF names glyphs by number and says itself what they mean; it has no use for the rest.
        wanted.drop_table_tag_set.update(int.from_bytes(tag.encode()) for tag in _DROPPED_TABLES)
        return bytes(hb.subset(self._face, wanted).blob.data)


@cache
def typefaces(*, bold: bool) -> tuple[Typeface, ...]:
    """All typefaces of a weight, in the order they are asked: letters of Europe, signs, then script by script."""
    weight = _BOLD if bold else _REGULAR
    faces: list[Typeface] = []
    for package, folder, first in (
        ("manimgx_fonts", "", "NotoSans[wght].ttf"),
        ("fontpkg_inter", "files", "Inter[opsz,wght].ttf"),
    ):
        entry = resources.files(package).joinpath(folder).joinpath(first)
        faces.append(_typeface(entry.read_bytes(), first, weight))
    scripts = sorted(
        (entry for entry in resources.files("manimgx_fonts").iterdir() if entry.name.endswith(".ttf")),
        # Emoji and symbols last: they have digits and signs too.
        key=lambda entry: ("Emoji" in entry.name, "Symbols" in entry.name, entry.name),
    )
    faces += [
        _typeface(entry.read_bytes(), entry.name, weight)
        for entry in scripts
        if entry.name != "NotoSans[wght].ttf" and "Italic" not in entry.name
    ]
    return tuple(faces)


def _typeface(data: bytes, filename: str, weight: float) -> Typeface:
    family = filename.partition("[")[0]
    return Typeface(data, f"{family}-{'Bold' if weight == _BOLD else 'Regular'}", weight)


def shape(text: str, levels: Sequence[int], *, bold: bool, language: str | None) -> list[Cluster]:
    """The clusters of a paragraph in reading order.

    Args:
        text: One paragraph, without line ends and tabs.
        levels: Bidirectional level of each character.
        bold: Whether it is a heading.
        language: BCP 47 tag, or `None`.

    Raises:
        Undrawable: No font has one of the characters.
    """
    clusters: list[Cluster] = []
    for start, end, face in _runs(text, levels, typefaces(bold=bold)):
        clusters += face.shape(text[start:end], start, levels[start], language)
    return clusters


def _runs(text: str, levels: Sequence[int], faces: Sequence[Typeface]) -> Iterator[tuple[int, int, Typeface]]:
    """Stretches of one level and one typeface."""
    current, home, start = faces[0], faces[0], 0
    for first, end in _letters(text):
        face = _face_of(text[first:end], home, faces)
        if text[first].isalpha():
            home = face
        if first > start and (face is not current or levels[first] != levels[start]):
            yield start, first, current
            start = first
        current = face
    if text:
        yield start, len(text), current


def _letters(text: str) -> Iterator[tuple[int, int]]:
    """Each character with the marks and joiners that follow it."""
    start = 0
    for index, character in enumerate(text):
        if index and unicodedata.category(character) not in ("Mn", "Mc", "Me", "Cf"):
            yield start, index
            start = index
    if text:
        yield start, len(text)


def _face_of(letter: str, home: Typeface, faces: Sequence[Typeface]) -> Typeface:
    needed = {ord(character) for character in letter if unicodedata.category(character) != "Cf"}
    # Spaces, digits and signs look like the letters before them; letters go to the first face that has them.
    candidates = faces if letter[0].isalpha() else (home, *faces)
    # HarfBuzz puts letter and accent together where a font has them as one.
    composed = {ord(character) for character in unicodedata.normalize("NFC", letter)} - {0x200C, 0x200D}
    for face in candidates:
        if needed <= face.characters or composed <= face.characters:
            return face
    raise Undrawable("no_glyph")
