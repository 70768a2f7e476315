"""Lines of shaped text into the bytes of a PDF: page contents, embedded fonts, and what each glyph means.

PDF: ISO 32000-1, sections 9.4 (text), 9.7.4 (CID fonts), 9.10.3 (ToUnicode), 14.9.4 (ActualText).
This module needs the extra `pdf`.
"""

from __future__ import annotations

import io
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pydyf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medscribe_pipeline.fhir.typefaces import Cluster, Glyph, Typeface

__all__ = ["PdfFile"]

_CMAP = """/CIDInit /ProcSet findresource begin
12 dict begin
begincmap
/CMapName /Adobe-Identity-UCS def
/CMapType 2 def
1 begincodespacerange
<0000> <ffff>
endcodespacerange
{mappings}
endcmap
CMapName currentdict /CMap defineresource pop
end
end"""
_MAPPINGS_A_BLOCK = 100  # more than that is not allowed in one bfchar block


@dataclass(slots=True)
class _Used:
    """What a document uses of one typeface: under which name, and which glyphs for which characters.

    The place of a pair in `shown` is its code in the file: a shape that stands for two letters has two codes.
    """

    name: str
    shown: dict[tuple[int, str], int] = field(default_factory=dict)

    def code(self, glyph: int, characters: str) -> int:
        return self.shown.setdefault((glyph, characters), len(self.shown) + 1)


class PdfFile:
    """A PDF in the making: `page`, then `line` for each line of it, and `data` at the end.

    Args:
        title: Title of the document, shown in the window of a reader.
        language: BCP 47 tag, or `None`.
        size: Width and height of the pages, in points.
    """

    def __init__(self, title: str, language: str | None, size: tuple[float, float]) -> None:
        self._pdf = pydyf.PDF()
        self._pdf.info["Title"] = pydyf.String(title)
        if language:
            self._pdf.catalog["Lang"] = pydyf.String(language)
        self._pdf.catalog["ViewerPreferences"] = pydyf.Dictionary({"DisplayDocTitle": "true"})
        self._size = size
        self._used: dict[Typeface, _Used] = {}
        self._fonts = pydyf.Dictionary({})
        self._pdf.add_object(self._fonts)
        self._content: list[bytes] = []

    def page(self) -> None:
        """Begins a page."""
        content = pydyf.Stream(compress=True)
        self._content = content.stream
        self._pdf.add_object(content)
        page = {
            "Type": "/Page",
            "Parent": self._pdf.pages.reference,
            "MediaBox": pydyf.Array([0, 0, *self._size]),
            "Resources": pydyf.Dictionary({"Font": self._fonts.reference}),
            "Contents": content.reference,
        }
        self._pdf.add_page(pydyf.Dictionary(page))

    def line(self, clusters: Iterable[Cluster], x: float, y: float, size: float, *, artifact: bool = False) -> None:
        """Draws clusters from left to right, the first one at `x`; `y` is the base line, from the foot of the page.

        An artifact is no part of the text: a page number.
        """
        out = self._content
        if artifact:
            out.append(b"/Artifact BMC")
        out.append(f"BT 1 0 0 1 {_number(x)} {_number(y)} Tm".encode())
        face: Typeface | None = None
        shown: list[str] = []
        for cluster in clusters:
            if cluster.face is not face:
                _show(out, shown)
                face = cluster.face
                out.append(f"/{self._use(face).name} {_number(size)} Tf".encode())
            used = self._use(face)
            for glyph, characters in zip(cluster.glyphs, _shares(cluster), strict=True):
                self._draw(glyph, used.code(glyph.number, characters), face, size, shown)
        _show(out, shown)
        out.append(b"ET")
        if artifact:
            out.append(b"EMC")

    def data(self) -> bytes:
        """The finished file. Call it once."""
        for face, used in self._used.items():
            self._embed(face, used)
        file = io.BytesIO()
        self._pdf.write(file)
        return file.getvalue()

    def _use(self, face: Typeface) -> _Used:
        return self._used.setdefault(face, _Used(f"F{len(self._used)}"))

    def _draw(self, glyph: Glyph, code: int, face: Typeface, size: float, shown: list[str]) -> None:
        number = f"<{code:04x}>"
        # An adjustment moves the pen back. Before the glyph: its place; after it: to where the next one starts.
        before, after = -glyph.right, glyph.right + face.width(glyph.number) - glyph.advance
        if glyph.up:
            _show(self._content, shown)
            self._content.append(f"{_number(glyph.up * size / 1000)} Ts".encode())
        shown += [_number(before), number, _number(after)]
        if glyph.up:
            _show(self._content, shown)
            self._content.append(b"0 Ts")

    def _embed(self, face: Typeface, used: _Used) -> None:
        """Adds the part of a font that is used, as a CID font whose numbers are the glyph numbers."""
        glyphs = [0, *(glyph for glyph, _ in used.shown)]
        name = f"/{_tag(used.name)}+{face.name}"
        data = face.subset(glyphs)
        file = pydyf.Stream([data], {"Length1": len(data)}, compress=True)
        numbers = pydyf.Stream([b"".join(glyph.to_bytes(2, "big") for glyph in glyphs)], compress=True)
        unicode = pydyf.Stream([_to_unicode(used.shown)], compress=True)
        descriptor = pydyf.Dictionary(
            {
                "Type": "/FontDescriptor",
                "FontName": name,
                "Flags": 4,  # glyphs beyond the standard Latin set
                "FontBBox": pydyf.Array([-1000, round(face.descent), 3000, round(face.ascent)]),
                "ItalicAngle": 0,
                "Ascent": round(face.ascent),
                "Descent": round(face.descent),
                "CapHeight": 714,  # of Noto Sans; only read to replace a font that is missing, and none is
                "StemV": 80,
            }
        )
        for item in (file, numbers, unicode, descriptor):
            self._pdf.add_object(item)
        descriptor["FontFile2"] = file.reference
        widths = pydyf.Array([_number(face.width(glyph)) for glyph in glyphs])
        cid_font = pydyf.Dictionary(
            {
                "Type": "/Font",
                "Subtype": "/CIDFontType2",
                "BaseFont": name,
                "CIDSystemInfo": pydyf.Dictionary(
                    {"Registry": pydyf.String("Adobe"), "Ordering": pydyf.String("Identity"), "Supplement": 0}
                ),
                "CIDToGIDMap": numbers.reference,
                "DW": 0,
                "W": pydyf.Array([0, widths]),
                "FontDescriptor": descriptor.reference,
            }
        )
        self._pdf.add_object(cid_font)
        font = pydyf.Dictionary(
            {
                "Type": "/Font",
                "Subtype": "/Type0",
                "BaseFont": name,
                "Encoding": "/Identity-H",
                "DescendantFonts": pydyf.Array([cid_font.reference]),
                "ToUnicode": unicode.reference,
            }
        )
        self._pdf.add_object(font)
        self._fonts[used.name] = font.reference


def _show(out: list[bytes], shown: list[str]) -> None:
    """Writes the glyphs gathered so far and forgets them."""
    if shown:
        out.append(("[" + " ".join(part for part in shown if part != "0") + "] TJ").encode().replace(b"> <", b""))
        shown.clear()


def _number(value: float) -> str:
    """A number as PDF wants it: no exponent, no more digits than anyone can see."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _tag(name: str) -> str:
    """Six letters that tell the subset of a font from the font, and from other subsets in the file."""
    number = int(name[1:])
    return "AAAA" + chr(ord("A") + number // 26) + chr(ord("A") + number % 26)


def _shares(cluster: Cluster) -> list[str]:
    """Which of a cluster's characters each of its glyphs says to a reader of the text."""
    parts = unicodedata.normalize("NFD", cluster.looks)
    if len(parts) == len(cluster.glyphs) and cluster.level % 2 == 0:
        return list(parts)
    widest = max(range(len(cluster.glyphs)), key=lambda place: cluster.glyphs[place].advance, default=0)
    return [cluster.looks if place == widest else "" for place in range(len(cluster.glyphs))]


def _to_unicode(shown: dict[tuple[int, str], int]) -> bytes:
    rows = [f"<{code:04x}> <{text.encode('utf-16-be').hex()}>" for (_, text), code in shown.items()]
    blocks = [rows[start : start + _MAPPINGS_A_BLOCK] for start in range(0, len(rows), _MAPPINGS_A_BLOCK)]
    mappings = "\n".join(f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar" for block in blocks)
    return _CMAP.format(mappings=mappings).encode()
