"""Codes of sections, specialties and documents: the data files of this room, read once, checked, and looked up.

A section is never dropped and never guessed at: the key its provider gave it is always there as a coding of the
project's own CodeSystem, LOINC comes before it where LOINC has something, and an unknown key has no LOINC.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir.mapping_file import built_in_rows, own_rows, read_own_file
from medscribe_pipeline.fhir.mapping_rows import Codes, Document, Rows, Specialty, in_language, normal
from medscribe_pipeline.fhir.narrative import clean_text
from medscribe_pipeline.notes import content_hash

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "LOINC",
    "Mapping",
    "default_mapping",
    "load_mapping",
    "one_line",
    "section_system",
]

LOINC = "http://loinc.org"
"""Code system URI of LOINC."""

DATA = tuple(
    (resources.files("medscribe_pipeline.fhir") / name).read_bytes()
    for name in ("sections.toml", "documents.toml", "titles.toml")
)

_PROFILES = frozenset(Codes.model_fields)

CODE_VERSION = 3
"""Raise it when the code of this room builds other documents from the same note and the same data."""


def one_line(text: str | None) -> str | None:
    r"""Text fit for a FHIR string of one line: illegal characters gone, white space single; `None` if nothing is left.

    >>> one_line(" Motif\r\n de consultation ")
    'Motif de consultation'
    """
    if not text:
        return None
    if text.isprintable() and text[0] != " " and text[-1] != " " and "  " not in text:
        return text  # as nearly all are: no other white space is printable
    return " ".join(clean_text(text).split()) or None


def section_system(base_uri: str) -> str:
    """The project's own CodeSystem of section keys, below the base of the systems it owns.

    >>> section_system("https://example.org/fhir/")
    'https://example.org/fhir/CodeSystem/scribe-section'
    """
    return f"{base_uri.rstrip('/')}/CodeSystem/scribe-section"


@dataclass(frozen=True, slots=True)
class Mapping:
    """Codes and titles of sections and documents, looked up.

    Attributes:
        rows: What the files say.
        version: Version of data and code, at most 40 characters: documents built with another one are built again.
    """

    rows: Rows
    version: str

    def __hash__(self) -> int:
        """Rows cannot be hashed; what they say has a version."""
        return hash(self.version)

    def known_keys(self) -> frozenset[str]:
        """Every section key the mapping has a row for."""
        return frozenset(self.rows.sections)

    def is_known(self, key: str | None) -> bool:
        """Whether the mapping has a row for a section key, in any case."""
        return _section_key(key) in self.rows.sections

    def default_title(self, key: str | None, language: str | None) -> str | None:
        """Heading of a section the provider gave none, or `None` for a key the mapping does not know."""
        return _default_title(self, key, language)

    def section_heading(self, key: str | None, title: str | None, language: str | None) -> str | None:
        """The heading a reader sees: the provider's own, else ours for the key, else the key itself."""
        return one_line(title) or self.default_title(key, language) or one_line(key)

    def section_coding(self, key: str | None, title: str | None, language: str | None, base_uri: str) -> dict[str, Any]:
        """The CodeableConcept of a section.

        Args:
            key: Section key, as mapped or as its provider sent it; the case of a known one does not matter.
            title: The provider's own heading; it becomes `text`.
            language: BCP 47 tag of the note, for the heading where there is none.
            base_uri: Base of the systems this project owns.

        Returns:
            LOINC first where it fits, then the project's own coding with the key. An unknown key has its own coding
            only, no key has text only, and without both the result is empty: leave the element out.

        >>> default_mapping().section_coding("PLAN", "Suites", "fr", "https://example.org/fhir")["coding"][0]
        {'system': 'http://loinc.org', 'code': '18776-5'}
        """
        return self.section_concept(key, self.section_heading(key, title, language), base_uri)

    def section_concept(self, key: str | None, heading: str | None, base_uri: str) -> dict[str, Any]:
        """The same where the heading is known already."""
        codings = [dict(coding) for coding in _codings(self, key, base_uri)]
        concept: dict[str, Any] = {"coding": codings} if codings else {}
        if heading:
            concept["text"] = heading
        return concept

    def document_type(
        self, template: str | None, kind: str, provider: str, profile: str, specialty: str | None = None
    ) -> dict[str, Any]:
        """The CodeableConcept of a document's type.

        Args:
            template: The provider's template key, if any; one the mapping does not know counts as none.
            kind: `ScribeNote.kind`.
            provider: `ScribeNote.provider`.
            profile: Country profile: `us`, `fr` or `international`. The same consultation has another LOINC code in
                France than in the US.
            specialty: `ScribeNote.specialty`; it counts where the template says nothing more special.

        Raises:
            ConfigError: There is no such profile.
        """
        if profile not in _PROFILES:
            raise ConfigError("The FHIR profile must be us, fr or international.", code="fhir_profile")
        row = _document(self, template, kind, provider, specialty)
        return {
            "coding": [{"system": LOINC, "code": row.loinc.of(profile)}],
            "text": in_language(row.title, "fr" if profile == "fr" else "en"),
        }

    def document_title(
        self, template: str | None, kind: str, provider: str, language: str | None, specialty: str | None = None
    ) -> str:
        """Title of a document the provider gave none, in the language of the note."""
        return in_language(_document(self, template, kind, provider, specialty).title, language)

    def practice_setting(
        self, template: str | None, specialty: str | None, language: str | None = None
    ) -> dict[str, Any] | None:
        """The CodeableConcept of `context.practiceSetting`, or `None` where neither template nor specialty says one.

        What the visit says comes before what its template implies. A specialty the mapping does not know is there as
        it was written, without a code.

        >>> default_mapping().practice_setting("DIET", "cardiology")
        {'coding': [{'system': 'http://snomed.info/sct', 'code': '394579002'}], 'text': 'Cardiology'}
        """
        said = one_line(specialty)
        row = self.rows.specialties.get(normal(said)) if said else _implied(self, template)
        if row is None:
            return {"text": said} if said else None
        return {"coding": [{"system": row.system, "code": row.code}], "text": in_language(row.title, language)}


# Notes are of few kinds, with few keys: what was looked up for one is there for the next, and memory stays bounded.


@lru_cache(maxsize=1024)
def _section_key(key: str | None) -> str:
    return (one_line(key) or "").upper()


@lru_cache(maxsize=1024)
def _default_title(mapping: Mapping, key: str | None, language: str | None) -> str | None:
    section = mapping.rows.sections.get(_section_key(key))
    return in_language(section.title, language) if section else None


@lru_cache(maxsize=1024)
def _codings(mapping: Mapping, key: str | None, base_uri: str) -> tuple[dict[str, str], ...]:
    """The codings of a section; whoever uses them takes copies."""
    known = _section_key(key)
    section = mapping.rows.sections.get(known)
    code = known if section else one_line(key)
    codings: list[dict[str, str]] = []
    if section and section.loinc:
        codings.append({"system": LOINC, "code": section.loinc})
        if section.display and section.loinc_version:
            codings[0].update(version=section.loinc_version, display=section.display)
    if code:
        codings.append({"system": section_system(base_uri), "code": code})
    return tuple(codings)


@lru_cache(maxsize=1024)
def _implied(mapping: Mapping, template: str | None) -> Specialty | None:
    name = (template or "").upper()
    return next((row for row in mapping.rows.specialties.values() if name in row.templates), None)


@lru_cache(maxsize=1024)
def _document(mapping: Mapping, template: str | None, kind: str, provider: str, specialty: str | None) -> Document:
    return next(row for row in mapping.rows.documents if row.matches(template, kind, provider, specialty))


@cache
def default_mapping() -> Mapping:
    """The mapping of this project alone."""
    return Mapping(built_in_rows(*DATA), f"{CODE_VERSION}-{hashlib.sha256(b''.join(DATA)).hexdigest()[:12]}")


def load_mapping(path: Path | None) -> Mapping:
    """The mapping with a file of the user's own laid over it.

    The file is read every time, so that a change counts from the next build on; unchanged content is not parsed again.

    Raises:
        ConfigError: Code `fhir_mapping`: the file cannot be read, or a row is wrong.
    """
    return default_mapping() if path is None else _with_own(path.name, read_own_file(path))


@lru_cache(maxsize=8)
def _with_own(name: str, data: bytes) -> Mapping:
    ours = default_mapping()
    rows = own_rows(name, data, ours.rows)
    # Of what it says, not of its bytes: comments and order change no document.
    return Mapping(rows, f"{ours.version}-{content_hash(rows.model_dump())[:12]}")
