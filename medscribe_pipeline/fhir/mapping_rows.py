"""Rows of the mapping, checked: what a section, a specialty or a kind of document is to FHIR."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from medscribe_pipeline.visits import KNOWN_PROVIDERS

__all__ = [
    "SNOMED",
    "Codes",
    "Document",
    "Fit",
    "Key",
    "Kind",
    "LoincCode",
    "Profile",
    "Row",
    "Rows",
    "Section",
    "Specialty",
    "Titles",
    "Upper",
    "checked_code",
    "in_language",
    "normal",
]

SNOMED = "http://snomed.info/sct"
"""Code system URI of SNOMED CT."""

Fit = Literal["exact", "good", "broad", "none"]
"""How well a LOINC code says what a section key says."""

Kind = Literal["note", "summary", "clerking", "operation_note", "treatment_plan"]
"""Kinds of `ScribeNote` there are."""

Profile = Literal["us", "fr", "international"]
"""Country profiles."""

_LOINC = re.compile(r"[0-9]{1,6}-[0-9]")
_SNOMED = re.compile(r"[1-9][0-9]{5,17}")

# The dihedral group of ten elements, and the permutation of Verhoeff's scheme: SNOMED CT's check digit.
_TIMES = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_TURNED = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def _loinc_code(code: str) -> str:
    """Checks shape and mod 10 digit of a LOINC code, which finds every mistyped digit."""
    if not _LOINC.fullmatch(code):
        raise ValueError("is no LOINC code such as 18776-5")
    digits = [int(digit) for digit in code if digit != "-"]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    if (sum(digits[::-2]) + sum(doubled)) % 10:
        raise ValueError("is no LOINC code: its check digit is wrong")
    return code


def checked_code(system: str, code: str) -> str:
    """The code, unless it cannot be one of its system.

    Raises:
        ValueError: It is of SNOMED CT and has the wrong shape or check digit.
    """
    if system != SNOMED:
        return code
    if not _SNOMED.fullmatch(code):
        raise ValueError("is no SNOMED CT code such as 394579002")
    sum_so_far = 0
    for place, digit in enumerate(reversed(code)):
        sum_so_far = int(_TIMES[sum_so_far][int(_TURNED[place % len(_TURNED)][int(digit)])])
    if sum_so_far:
        raise ValueError("is no SNOMED CT code: its check digit is wrong")
    return code


def normal(name: str) -> str:
    """A specialty in the one spelling that is compared.

    >>> normal(" internal-Medicine")
    'INTERNAL_MEDICINE'
    """
    return name.strip().upper().replace("-", "_")


def in_language(titles: dict[str, str], language: str | None) -> str:
    """The title in a language (BCP 47), whatever its country; English where there is none.

    >>> in_language({"en": "Plan", "fr": "Conduite à tenir"}, "fr-CA")
    'Conduite à tenir'
    """
    return titles.get((language or "").lower().partition("-")[0]) or titles["en"]


def _known_provider(name: str) -> str:
    if name not in KNOWN_PROVIDERS:
        raise ValueError(f"is no provider; there are: {', '.join(KNOWN_PROVIDERS)}")
    return name


def _for_every_profile(codes: Any) -> Any:
    """One code alone is meant for every profile."""
    return {"international": codes} if isinstance(codes, str) else codes


LoincCode = Annotated[str, AfterValidator(_loinc_code)]
# FHIR code: no white space at the ends, single spaces inside. Of 64 characters, as the database has it.
Key = Annotated[str, Field(pattern=r"^\S+( \S+)*$", max_length=64)]
_Word = Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9_]*$", max_length=64)]
_Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
_Title = Annotated[str, Field(pattern=r"\S", max_length=255)]
Titles = dict[_Language, _Title]
Upper = Annotated[str, AfterValidator(str.upper)]
_Specialty = Annotated[str, AfterValidator(normal)]
_Provider = Annotated[str, AfterValidator(_known_provider)]


class Row(BaseModel):
    """A row of a file: no field but its own, no value turned into another type, none shown in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _Titled(Row):
    title: Titles
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _in_english(self) -> Self:
        if "en" not in self.title:
            raise ValueError("title.en is missing; it stands in for every language without a title")
        return self


class Section(_Titled):
    """A section key: its LOINC code, how well that fits, its heading."""

    loinc: LoincCode | None = None
    display: str | None = None
    loinc_version: str | None = None
    fit: Fit
    renamed: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.loinc is None) != (self.fit == "none"):
            raise ValueError("fit is none exactly when there is no loinc")
        if (self.display is None) != (self.loinc_version is None):
            raise ValueError("display and loinc_version go together")
        if self.display is not None and self.loinc is None:
            raise ValueError("a display is one of a loinc")
        return self


class Specialty(_Titled):
    """A medical specialty: its code as a practice setting, and the note templates that imply it."""

    system: str = Field(SNOMED, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$")
    code: str = Field(pattern=r"^\S+( \S+)*$")
    templates: list[Upper] = []

    @model_validator(mode="after")
    def _checked(self) -> Self:
        checked_code(self.system, self.code)
        return self


class Codes(Row):
    """LOINC code of a document type in each country profile; the international one where a country has none."""

    us: LoincCode | None = None
    fr: LoincCode | None = None
    international: LoincCode

    def of(self, profile: str) -> str:
        """The code in a profile."""
        return getattr(self, profile) or self.international


class Document(_Titled):
    """A type of document, and the notes it is the type of."""

    kinds: list[Kind] = ["note"]
    templates: list[Upper] = []
    specialties: list[_Specialty] = []
    providers: list[_Provider] = []
    loinc: Annotated[Codes, BeforeValidator(_for_every_profile)]

    @property
    def matches_all(self) -> bool:
        """Whether it asks nothing of a note."""
        return not (self.kinds or self.templates or self.specialties or self.providers)

    def matches(self, template: str | None, kind: str, provider: str, specialty: str | None) -> bool:
        """Whether this row is about such a document; an empty list asks nothing."""
        return (
            (not self.kinds or kind in self.kinds)
            and (not self.templates or (template or "").upper() in self.templates)
            and (not self.specialties or normal(specialty or "") in self.specialties)
            and (not self.providers or provider in self.providers)
        )


class Rows(Row):
    """A whole mapping."""

    sections: dict[Key, Section]
    specialties: dict[_Word, Specialty] = {}
    documents: list[Document] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.documents[-1].matches_all:
            raise ValueError("the last row of documents matches everything")
        return self
