"""`docs/mapping.md`: section keys and document types with their LOINC codes, read off the mapping data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docs.markdown import code, page, table
from medscribe_pipeline.fhir.sections import DATA, LOINC, parse_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["render"]

_INTRODUCTION = f"""\
# Mapping of notes to FHIR

Every section of a note that has text becomes a section of a Composition. Its code holds up to two codings: LOINC
(`{LOINC}`) where LOINC has something, then the project's own coding with the section key
(`…/CodeSystem/scribe-section`, see [configuration](configuration.md#identifier-systems)). A key that is not in this
table is kept as it came, with the own coding only. A section under an unknown heading keeps its title and has no
coding. Nothing is dropped and nothing is guessed.

The data is `medscribe_pipeline/fhir/sections.toml`. A change there changes the mapping version, and every day is built
again from what has landed. That is not a new version of a note: what is delivered already is not sent again."""

_SECTIONS = """\
## Sections

The fit says how well the code says what the key says:

- **exact**: the same thing;
- **good**: the same thing in another setting or with another name;
- **broad**: LOINC is wider, and the own coding carries the meaning;
- **none**: LOINC has no code.

The heading a reader sees is the provider's own. The titles here stand in where the provider sends none."""

_DOCUMENTS = """\
## Document types

The type of the whole document, the same in Composition and DocumentReference. The first row that matches counts. An
empty cell asks nothing; the last row matches every note.

Each row has a code for three country profiles, because the same consultation has another code in France than in the
US. The documents of this version carry the international code."""

_SOURCES = """\
## Sources

- **C-CDA 5**: HL7 C-CDA 5.0.0, section templates. Its Notes Section binds the section code to document types, so a
  document type is a legitimate section code.
- **IPS**: HL7 International Patient Summary, sections.
- **R4**: FHIR R4, value sets doc-section-codes and c80-doc-typecodes.
- **US Core 9**: US Core 9.0.0, common clinical notes.
- **JDV_J07**: the French national document types (ANS), release of 2026-06-29.
- **project**: our own judgement where no authority was found.

No display names of LOINC are sent: LOINC renames them between releases, and validators take an old one for an error."""


def render() -> str:
    """The page."""
    mapping = parse_mapping(DATA)
    profiles = ("us", "fr", "international")
    sections = (
        (code(key), code(row.loinc or ""), row.fit, row.title.en, row.title.fr, row.source)
        for key, row in sorted(mapping.sections.items())
    )
    documents = (
        (
            _codes(row.kinds),
            _codes(row.templates),
            _codes(row.providers),
            *(code(getattr(row.loinc, profile)) for profile in profiles),
            row.title.en,
            row.title.fr,
            row.source,
        )
        for row in mapping.documents
    )
    return page(
        _INTRODUCTION,
        _SECTIONS,
        table(("key", "LOINC", "fit", "title (en)", "title (fr)", "source"), sections),
        _DOCUMENTS,
        table(
            ("kinds", "templates", "providers", *profiles, "title (en)", "title (fr)", "source"),
            documents,
        ),
        _SOURCES,
    )


def _codes(values: Iterable[str]) -> str:
    return ", ".join(map(code, values))
