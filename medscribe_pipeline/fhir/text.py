"""A note as plain text: the rendering every server accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medscribe_pipeline.fhir.elements import PRODUCTS, status
from medscribe_pipeline.fhir.mapping_rows import in_language
from medscribe_pipeline.fhir.narrative import is_blank, plain_text
from medscribe_pipeline.fhir.sections import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.fhir.sections import Mapping
    from medscribe_pipeline.notes import NoteSection, ScribeNote

__all__ = ["WITHDRAWN", "document_title", "has_text", "origin_line", "text_rendering"]

WITHDRAWN = {
    "en": "Withdrawn at its source: do not use.",
    "fr": "Retiré à la source : ne pas utiliser.",
    "de": "An der Quelle zurückgezogen: nicht verwenden.",
    "es": "Retirado en origen: no utilizar.",
    "it": "Ritirato all'origine: non utilizzare.",
    "pt": "Retirado na origem: não utilizar.",
}
"""What is said of anything retracted, by language."""

_DRAFTED = {
    "en": "Drafted by {product} (artificial intelligence).",
    "fr": "Rédigé par {product} (intelligence artificielle).",
    "de": "Verfasst von {product} (künstliche Intelligenz).",
    "es": "Redactado por {product} (inteligencia artificial).",
    "it": "Redatto da {product} (intelligenza artificiale).",
    "pt": "Redigido por {product} (inteligência artificial).",
}
_REVIEWED = {
    "preliminary": {
        "en": "Not validated by a clinician.",
        "fr": "Non validé par un professionnel de santé.",
        "de": "Nicht von einer medizinischen Fachperson freigegeben.",
        "es": "No validado por un profesional sanitario.",
        "it": "Non validato da un professionista sanitario.",
        "pt": "Não validado por um profissional de saúde.",
    },
    "final": {
        "en": "Validated by a clinician.",
        "fr": "Validé par un professionnel de santé.",
        "de": "Von einer medizinischen Fachperson freigegeben.",
        "es": "Validado por un profesional sanitario.",
        "it": "Validato da un professionista sanitario.",
        "pt": "Validado por um profissional de saúde.",
    },
    "amended": {
        "en": "Amended after its validation and validated again by a clinician.",
        "fr": "Modifié après sa validation, puis validé à nouveau par un professionnel de santé.",
        "de": "Nach der Freigabe geändert und von einer medizinischen Fachperson erneut freigegeben.",
        "es": "Modificado tras su validación y validado de nuevo por un profesional sanitario.",
        "it": "Modificato dopo la validazione e validato di nuovo da un professionista sanitario.",
        "pt": "Alterado após a validação e validado de novo por um profissional de saúde.",
    },
    "entered-in-error": WITHDRAWN,
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
    drafted = in_language(_DRAFTED, note.language).format(product=PRODUCTS.get(note.provider, note.provider))
    return f"{drafted} {in_language(_REVIEWED[status(note)], note.language)}"


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
