"""The forms a note can have in a DocumentReference: plain text, XHTML and PDF. All say the same words in the same order.

Text is what every server takes; the other two are for servers and people who want headings and pages.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from medscribe_pipeline.fhir.elements import language_tag
from medscribe_pipeline.fhir.narrative import XHTML, clean_text, is_blank, to_xhtml
from medscribe_pipeline.fhir.text import document_title, has_text, origin_line, text_rendering

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.fhir.options import BuildOptions, Rendering
    from medscribe_pipeline.fhir.sections import Mapping
    from medscribe_pipeline.notes import NoteSection, ScribeNote

__all__ = ["CONTENT_TYPES", "rendering", "renderings"]

CONTENT_TYPES: dict[Rendering, str] = {
    "text": "text/plain; charset=utf-8",
    # The character set is said although XML says it by itself: there are servers that insist on it.
    "xhtml": "application/xhtml+xml; charset=utf-8",
    "pdf": "application/pdf",
}
"""Media type of each form."""

# Languages written from right to left; a browser needs to be told, it does not look at the letters.
_RIGHT_TO_LEFT = frozenset({"ar", "ckb", "dv", "fa", "he", "ks", "ps", "sd", "ug", "ur", "yi"})
_DEEPEST_HEADING = 6


def renderings(note: ScribeNote, options: BuildOptions) -> list[tuple[str, bytes]]:
    """The note in the forms of `options.renderings`, in that order: content type and bytes of each."""
    return [rendering(note, options, form) for form in options.renderings]


def rendering(note: ScribeNote, options: BuildOptions, form: Rendering) -> tuple[str, bytes]:
    """The note in one form: its content type and its bytes, the same for the same note and mapping."""
    make = {"text": text_rendering, "xhtml": xhtml_rendering}[form]
    return CONTENT_TYPES[form], make(note, options.mapping).encode()


def xhtml_rendering(note: ScribeNote, mapping: Mapping) -> str:
    """The whole note as an XHTML document: title, sections in order with their headings, and where it comes from.

    It links to nothing and has no script or style. There is no document type declaration: XHTML needs none, and
    readers hardened against XML entities refuse documents that have one.
    """
    title = html.escape(clean_text(document_title(note, mapping)), quote=False)
    body = [f"<h1>{title}</h1>", *_xhtml_blocks(note.sections, note.language, mapping, 2)]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<html xmlns="{XHTML}"{_language_attributes(note)}>',
            f"<head>\n<title>{title}</title>\n</head>",
            "<body>",
            *body,
            f"<p>{html.escape(clean_text(origin_line(note)), quote=False)}</p>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _language_attributes(note: ScribeNote) -> str:
    tag = language_tag(note)
    if tag is None:
        return ""
    direction = ' dir="rtl"' if tag.lower().partition("-")[0] in _RIGHT_TO_LEFT else ""
    return f' lang="{tag}" xml:lang="{tag}"{direction}'


def _xhtml_blocks(
    sections: Sequence[NoteSection], language: str | None, mapping: Mapping, level: int
) -> Iterator[str]:
    """Heading and narrative of each section with text, depth first."""
    for section in filter(has_text, sections):
        heading = mapping.section_heading(section.key, section.title, language)
        if heading:
            yield f"<h{level}>{html.escape(clean_text(heading), quote=False)}</h{level}>"
        if not is_blank(section.text):
            yield to_xhtml(section.text)
        yield from _xhtml_blocks(section.sections, language, mapping, min(level + 1, _DEEPEST_HEADING))
