"""Codes of sections and documents: `sections.toml`, read once, checked, and looked up.

A section is never dropped and never guessed at: the key its provider gave it is always there as a coding of the
project's own CodeSystem, LOINC comes before it where LOINC has something, and an unknown key has no LOINC.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir.narrative import clean_text

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "LOINC",
    "Mapping",
    "default_mapping",
    "load_mapping",
    "one_line",
]

LOINC = "http://loinc.org"
"""Code system URI of LOINC."""

DATA = (resources.files("medscribe_pipeline.fhir") / "sections.toml").read_bytes()

CODE_VERSION = 2
"""Raise it when the code of this room builds other documents from the same note and the same data."""


def _loinc_code(code: str) -> str:
    """Checks the mod 10 digit LOINC ends its codes with, which finds every mistyped digit."""
    digits = [int(digit) for digit in code if digit != "-"]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    if (sum(digits[::-2]) + sum(doubled)) % 10:
        raise ValueError("check digit is wrong")
    return code


LoincCode = Annotated[str, Field(pattern=r"^[0-9]{1,6}-[0-9]$"), AfterValidator(_loinc_code)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _Titles(_Row):
    en: str = Field(min_length=1)
    fr: str = Field(min_length=1)

    def in_language(self, language: str | None) -> str:
        """French for any French, English for everything else."""
        return self.fr if (language or "").lower().partition("-")[0] == "fr" else self.en


class _Section(_Row):
    loinc: LoincCode | None = None
    display: str | None = None
    loinc_version: str | None = None
    fit: Literal["exact", "good", "broad", "none"]
    title: _Titles
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.loinc is None) != (self.fit == "none"):
            raise ValueError("fit is none exactly when there is no loinc")
        if (self.display is None) != (self.loinc_version is None):
            raise ValueError("display and loinc_version go together")
        return self


class _Codes(_Row):
    us: LoincCode
    fr: LoincCode
    international: LoincCode


class _Document(_Row):
    kinds: list[str] = ["note"]
    templates: list[str] = []
    providers: list[str] = []
    loinc: _Codes
    title: _Titles
    source: str = Field(min_length=1)

    def matches(self, template: str | None, kind: str, provider: str) -> bool:
        """Whether this row is about such a document; an empty list asks nothing."""
        return (
            (not self.kinds or kind in self.kinds)
            and (not self.templates or (template or "").upper() in self.templates)
            and (not self.providers or provider in self.providers)
        )


class _Rows(_Row):
    sections: dict[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")], _Section]
    documents: list[_Document] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        last = self.documents[-1]
        if last.kinds or last.templates or last.providers:
            raise ValueError("the last row of documents matches everything")
        return self


def parse_mapping(data: bytes) -> _Rows:
    """Reads and checks a mapping file.

    Raises:
        ConfigError: It is not TOML, or a row is wrong; `field_paths` says which.
    """
    try:
        return _Rows.model_validate(tomllib.loads(data.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise ConfigError("The FHIR mapping file is not valid TOML in UTF-8.", code="fhir_mapping") from None
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        raise ConfigError(
            "The FHIR mapping file has wrong rows.",
            code="fhir_mapping",
            field_paths=[".".join(str(part) for part in detail["loc"]) for detail in details],
        ) from None


def one_line(text: str | None) -> str | None:
    r"""Text fit for a FHIR string of one line: illegal characters gone, white space single; `None` if nothing is left.

    >>> one_line(" Motif\r\n de consultation ")
    'Motif de consultation'
    """
    return " ".join(clean_text(text or "").split()) or None


@dataclass(frozen=True, slots=True)
class Mapping:
    """Codes and titles of sections and documents, looked up.

    Attributes:
        rows: What the file says.
        version: Version of data and code: documents built with another one are built again.
    """

    rows: _Rows
    version: str

    def known_keys(self) -> frozenset[str]:
        """Every section key the mapping has a row for."""
        return frozenset(self.rows.sections)

    def default_title(self, key: str | None, language: str | None) -> str | None:
        """Heading of a section the provider gave none, or `None` for a key the mapping does not know."""
        section = self.rows.sections.get((key or "").upper())
        return section.title.in_language(language) if section else None

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
        code = one_line(key)
        if code and code.upper() in self.rows.sections:
            code = code.upper()
        codings: list[dict[str, Any]] = []
        section = self.rows.sections.get(code or "")
        if section and section.loinc:
            codings.append({"system": LOINC, "code": section.loinc})
            if section.display and section.loinc_version:
                codings[0].update(version=section.loinc_version, display=section.display)
        if code:
            codings.append({"system": f"{base_uri.rstrip('/')}/CodeSystem/scribe-section", "code": code})
        concept: dict[str, Any] = {"coding": codings} if codings else {}
        if heading := self.section_heading(code, title, language):
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
            specialty: `ScribeNote.specialty`.

        Raises:
            ConfigError: There is no such profile.
        """
        if profile not in _Codes.model_fields:
            raise ConfigError("The FHIR profile must be us, fr or international.", code="fhir_profile")
        row = self._document(template, kind, provider)
        language = "fr" if profile == "fr" else "en"
        return {
            "coding": [{"system": LOINC, "code": getattr(row.loinc, profile)}],
            "text": row.title.in_language(language),
        }

    def document_title(self, template: str | None, kind: str, provider: str, language: str | None) -> str:
        """Title of a document the provider gave none, in the language of the note."""
        return self._document(template, kind, provider).title.in_language(language)

    def practice_setting(self, template: str | None, specialty: str | None) -> dict[str, Any] | None:
        """The CodeableConcept of `context.practiceSetting`, or `None` where neither template nor specialty says one."""
        return None

    def _document(self, template: str | None, kind: str, provider: str) -> _Document:
        return next(row for row in self.rows.documents if row.matches(template, kind, provider))


@cache
def default_mapping() -> Mapping:
    """The mapping of this project alone."""
    return Mapping(parse_mapping(DATA), f"{CODE_VERSION}-{hashlib.sha256(DATA).hexdigest()[:12]}")


def load_mapping(path: Path | None) -> Mapping:
    """The mapping with a file of the user's own before it.

    Raises:
        ConfigError: The file cannot be read, or a row is wrong.
    """
    return default_mapping()
