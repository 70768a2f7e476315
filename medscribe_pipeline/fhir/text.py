"""A note as plain text: the rendering every server accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medscribe_pipeline.fhir.elements import PRODUCTS, status
from medscribe_pipeline.fhir.narrative import is_blank, plain_text
from medscribe_pipeline.fhir.sections import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.fhir.sections import Mapping
    from medscribe_pipeline.notes import NoteSection, ScribeNote

__all__ = ["document_title", "has_text", "origin_line", "text_rendering"]

_PROVENANCE_LINE = {
    "en": {
        "preliminary": "Drafted by {product} (artificial intelligence). Not validated by a clinician.",
        "final": "Drafted by {product} (artificial intelligence). Validated by a clinician.",
        "amended": "Drafted by {product} (artificial intelligence). Amended after its validation and validated again "
        "by a clinician.",
        "entered-in-error": "Drafted by {product} (artificial intelligence). Withdrawn at its source: do not use.",
    },
    "fr": {
        "preliminary": "Rédigé par {product} (intelligence artificielle). Non validé par un professionnel de santé.",
        "final": "Rédigé par {product} (intelligence artificielle). Validé par un professionnel de santé.",
        "amended": "Rédigé par {product} (intelligence artificielle). Modifié après sa validation, puis validé à "
        "nouveau par un professionnel de santé.",
        "entered-in-error": "Rédigé par {product} (intelligence artificielle). Retiré à la source : ne pas utiliser.",
    },
}


def document_title(note: ScribeNote, mapping: Mapping) -> str:
    """Title of the document: the provider's own, else ours for its type, in the language of the note."""
    return one_line(note.title) or mapping.document_title(
        note.template, note.kind, note.provider, note.language, note.specialty
    )


def has_text(section: NoteSection) -> bool:
    """Whether a section, or one in it, has anything to show; the others are left out."""
    return not is_blank(section.text, section.format) or any(has_text(child) for child in section.sections)


def origin_line(note: ScribeNote) -> str:
    """Who wrote it and who looked at it, in one line of the note's language.

    It stands in the text because servers may drop every label of the metadata.
    """
    product = PRODUCTS.get(note.provider, note.provider)
    language = "fr" if (note.language or "").lower().partition("-")[0] == "fr" else "en"
    return _PROVENANCE_LINE[language][status(note)].format(product=product)


def text_rendering(note: ScribeNote, mapping: Mapping) -> str:
    """The whole note as plain text: title, sections in order with their headings, and where it comes from."""
    blocks = [document_title(note, mapping), *_text_blocks(note.sections, note.language, mapping), origin_line(note)]
    return "\n\n".join(blocks) + "\n"


def _text_blocks(sections: Sequence[NoteSection], language: str | None, mapping: Mapping) -> Iterator[str]:
    """Heading and text of each section with text, depth first."""
    for section in filter(has_text, sections):
        text = plain_text(section.text, section.format)
        heading = mapping.section_heading(section.key, section.title, language)
        yield "\n".join(part for part in (heading, text) if part)
        yield from _text_blocks(section.sections, language, mapping)
