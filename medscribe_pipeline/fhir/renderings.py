"""The forms a note can have in a DocumentReference: plain text, XHTML and PDF, all with the same words in one order.

Text is what every server takes; the other two are for servers and people who want headings and pages.

A PDF has to bring its fonts. A note with a character that no font of ours has (Chinese, Japanese, Korean), or one that
would be too large, is left without its PDF rather than given one with a hole in it: the other forms hold every word.
`missing_forms` says so of the finished resource.
"""

from __future__ import annotations

import html
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir.elements import identifier, language_tag
from medscribe_pipeline.fhir.narrative import XHTML, clean_text
from medscribe_pipeline.fhir.text import document_title, origin_line, shown_sections, text_rendering

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from medscribe_pipeline.fhir.options import BuildOptions, Rendering
    from medscribe_pipeline.fhir.sections import Mapping
    from medscribe_pipeline.fhir.text import Shown
    from medscribe_pipeline.notes import ScribeNote

__all__ = ["CONTENT_TYPES", "missing_forms", "rendering", "renderings", "require", "xhtml_rendering"]

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
_PDF_MODULES = ("pydyf", "uharfbuzz", "manimgx_fonts", "fontpkg_inter")


def renderings(
    note: ScribeNote, options: BuildOptions, sections: Sequence[Shown] | None = None
) -> list[tuple[str, bytes]]:
    """The note in the forms of `options.renderings`, in that order: content type and bytes of each.

    A PDF that cannot be made is left out; where nothing else was asked for, text stands in.

    Args:
        note: The note.
        options: Which forms, and how.
        sections: Its `shown_sections`, where they are known already.
    """
    if sections is None:
        sections = shown_sections(note.sections, note.language, options.mapping)
    made = [made for form in options.renderings if (made := rendering(note, options, form, sections))]
    return made or [(CONTENT_TYPES["text"], text_rendering(note, options.mapping, sections).encode())]


def missing_forms(document_reference: dict[str, Any], options: BuildOptions) -> tuple[Rendering, ...]:
    """The forms asked for that a DocumentReference does not hold."""
    held = {content["attachment"]["contentType"] for content in document_reference["content"]}
    return tuple(form for form in options.renderings if CONTENT_TYPES[form] not in held)


def rendering(
    note: ScribeNote, options: BuildOptions, form: Rendering, sections: Sequence[Shown] | None = None
) -> tuple[str, bytes] | None:
    """The note in one form: its content type and its bytes, the same for the same note and options.

    Args:
        note: The note.
        options: How.
        form: Which form.
        sections: Its `shown_sections`, where they are known already.

    Returns:
        `None` for a PDF that cannot show every character, or would be too large.

    Raises:
        ConfigError: A PDF is asked for, and the extra `pdf` is not installed.
    """
    if sections is None:
        sections = shown_sections(note.sections, note.language, options.mapping)
    if form == "pdf":
        data = _pdf_rendering(note, options, sections)
        return None if data is None else (CONTENT_TYPES[form], data)
    make = xhtml_rendering if form == "xhtml" else text_rendering
    return CONTENT_TYPES[form], make(note, options.mapping, sections).encode()


def require(renderings: Iterable[Rendering]) -> None:
    """Checks that what the forms need is installed, without loading it.

    Raises:
        ConfigError: The extra `pdf` is needed and not installed.
    """
    if "pdf" in renderings and any(find_spec(module) is None for module in _PDF_MODULES):
        raise ConfigError(
            "MEDSCRIBE_FHIR_RENDERINGS asks for PDF, which needs an extra: pip install medscribe-pipeline[pdf]",
            code="pdf_not_installed",
        )


def xhtml_rendering(note: ScribeNote, mapping: Mapping, sections: Sequence[Shown]) -> str:
    """The whole note as an XHTML document: title, sections in order with their headings, and where it comes from.

    It links to nothing and has no script or style. There is no document type declaration: XHTML needs none, and
    readers hardened against XML entities refuse documents that have one.
    """
    title = html.escape(clean_text(document_title(note, mapping)), quote=False)
    body = [f"<h1>{title}</h1>", *_xhtml_blocks(sections)]
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


def _pdf_rendering(note: ScribeNote, options: BuildOptions, sections: Sequence[Shown]) -> bytes | None:
    require(("pdf",))
    from medscribe_pipeline.fhir import pdf  # noqa: PLC0415  # needs the extra

    mapping = options.mapping
    title = clean_text(document_title(note, mapping))
    blocks = [pdf.Block(title, pdf.TITLE)]
    for depth, section in _walk(sections):
        if section.heading:
            blocks.append(pdf.Block(clean_text(section.heading), pdf.heading(depth)))
        blocks.append(pdf.Block(section.plain, pdf.BODY))
    blocks.append(pdf.Block(clean_text(origin_line(note)), pdf.SMALL))
    patient = identifier(note.visit.patient)
    try:
        return pdf.write_pdf(
            blocks,
            title=title,
            # Pages get parted from each other; each says whose it is.
            footer=clean_text(patient["value"]) if patient else "",
            language=language_tag(note),
            right_to_left=_is_right_to_left(note),
            paper=pdf.LETTER if options.profile == "us" else pdf.A4,
        )
    except pdf.Undrawable:
        return None


def _is_right_to_left(note: ScribeNote) -> bool:
    return (language_tag(note) or "").lower().partition("-")[0] in _RIGHT_TO_LEFT


def _language_attributes(note: ScribeNote) -> str:
    tag = language_tag(note)
    if tag is None:
        return ""
    direction = ' dir="rtl"' if _is_right_to_left(note) else ""
    return f' lang="{tag}" xml:lang="{tag}"{direction}'


def _xhtml_blocks(sections: Sequence[Shown]) -> Iterator[str]:
    for depth, section in _walk(sections):
        level = min(depth + 2, _DEEPEST_HEADING)
        if section.heading:
            yield f"<h{level}>{html.escape(clean_text(section.heading), quote=False)}</h{level}>"
        if section.div:
            yield section.div


def _walk(sections: Sequence[Shown], depth: int = 0) -> Iterator[tuple[int, Shown]]:
    """Each section with how deep it stands in others, depth first."""
    for section in sections:
        yield depth, section
        yield from _walk(section.sections, depth + 1)
