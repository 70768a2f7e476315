"""A note as plain text: the rendering every server accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from medscribe_pipeline.fhir.elements import PRODUCTS, status
from medscribe_pipeline.fhir.mapping_rows import in_language
from medscribe_pipeline.fhir.narrative import both_forms, is_blank
from medscribe_pipeline.fhir.sections import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.fhir.sections import Mapping
    from medscribe_pipeline.notes import NoteSection, ScribeNote

__all__ = ["WITHDRAWN", "Shown", "document_title", "has_text", "origin_line", "shown_sections", "text_rendering"]

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


class Shown(NamedTuple):
    """A section that has something to show, or one in it has: read once for every form it takes.

    Attributes:
        key: Its key, as its provider sent it.
        heading: What a reader sees above it.
        plain: Its text as plain text, empty where only sections in it have some.
        div: Its text as a narrative, or empty as well.
        sections: The sections in it, of those that have something to show.
    """

    key: str | None
    heading: str | None
    plain: str
    div: str
    sections: tuple[Shown, ...]


def shown_sections(sections: Sequence[NoteSection], language: str | None, mapping: Mapping) -> tuple[Shown, ...]:
    """The sections of a note that have something to show, in order; all others are left out."""
    shown: list[Shown] = []
    for section in sections:
        below = shown_sections(section.sections, language, mapping) if section.sections else ()
        plain, div = both_forms(section.text, section.format)
        if plain or below:
            heading = mapping.section_heading(section.key, section.title, language)
            shown.append(Shown(section.key, heading, plain, div, below))
    return tuple(shown)


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


def text_rendering(note: ScribeNote, mapping: Mapping, sections: Sequence[Shown] | None = None) -> str:
    """The whole note as plain text: title, sections in order with their headings, and where it comes from.

    Args:
        note: The note.
        mapping: Titles and headings.
        sections: Its `shown_sections`, where they are known already.
    """
    if sections is None:
        sections = shown_sections(note.sections, note.language, mapping)
    return "\n\n".join([document_title(note, mapping), *_text_blocks(sections), origin_line(note)]) + "\n"


def _text_blocks(sections: Sequence[Shown]) -> Iterator[str]:
    """Heading and text of each section, depth first."""
    for _, heading, plain, _, below in sections:
        yield f"{heading}\n{plain}" if heading and plain else heading or plain
        if below:
            yield from _text_blocks(below)
