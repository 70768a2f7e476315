"""What all documents of one version of a note say alike, worked out once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from medscribe_pipeline.fhir.elements import instant, language_tag, note_date, note_identifier, status, version_id
from medscribe_pipeline.fhir.people import attester, author
from medscribe_pipeline.fhir.text import document_title, shown_sections

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.fhir.text import Shown
    from medscribe_pipeline.notes import ScribeNote

__all__ = ["Facts", "facts_of"]


class Facts(NamedTuple):
    """What the documents of a note have in common. Dicts are copied by whoever puts them into a resource.

    Attributes:
        status: See `elements.status`.
        language: The language of the note, if it is a BCP 47 tag.
        date: The time the note is of, as FHIR writes it.
        title: The title of its documents.
        identifier: Its identifier through all its versions.
        version: The UUID of this version.
        author: See `people.author`.
        attester: See `people.attester`.
        sections: The sections that have something to show.
    """

    status: str
    language: str | None
    date: str | None
    title: str
    identifier: dict[str, str]
    version: str
    author: dict[str, Any]
    attester: list[dict[str, Any]]
    sections: tuple[Shown, ...]


def facts_of(note: ScribeNote, options: BuildOptions, sections: tuple[Shown, ...] | None = None) -> Facts:
    """Reads them off a note.

    Args:
        note: The note.
        options: How its documents are built.
        sections: Its `shown_sections`, where they are known already.

    Raises:
        MedscribeError: Code `not_buildable`: the note failed at its provider. Code `no_date`: neither the note nor
            its visit has a time.
    """
    if sections is None:
        sections = shown_sections(note.sections, note.language, options.mapping)
    return Facts(
        status=status(note),
        language=language_tag(note),
        date=instant(note_date(note)),
        title=document_title(note, options.mapping),
        identifier=note_identifier(options.base_uri, note.provider, note.account, note.note_id),
        version=version_id(note.note_id, note.version),
        author=author(note, options.base_uri),
        attester=attester(note),
        sections=sections,
    )
