"""Mapping files into rows: the ones of this room, and one of the user's own laid over them.

The own file has the same form, and says only what is to be different:

* `[sections.KEY]` and `[specialties.KEY]`: fields over those of our row, titles language by language; or a new row.
  What we said of a code (fit, source, display) is not said of another one.
* `[[documents]]`: whole rows, asked before ours.

It is taken whole or not at all: every problem is told with its place. Values are not, they may be anything.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir.mapping_rows import (
    Codes,
    Document,
    Fit,
    Key,
    LoincCode,
    Row,
    Rows,
    Section,
    Specialty,
    Titles,
    Upper,
    normal,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["built_in_rows", "own_rows", "read_own_file"]

MAX_BYTES = 1_000_000
"""Size of an own file: more is something else."""

MAX_REPORTED = 20
"""Problems listed in one message; the others are counted."""

OWN_SOURCE = "own mapping file"
"""`source` of a row of the user's own that names none."""

WHAT_TO_DO = "Correct it, or unset MEDSCRIBE_FHIR_MAPPING."

_AT_LINE = re.compile(r"\(at line ([0-9]+), column ([0-9]+)\)")


class _Translations(Row):
    de: dict[str, str]
    es: dict[str, str]
    it: dict[str, str]
    pt: dict[str, str]


def built_in_rows(sections: bytes, documents: bytes, titles: bytes) -> Rows:
    """The rows of this project.

    Args:
        sections: `sections.toml`.
        documents: `documents.toml`.
        titles: `titles.toml`: for each further language, English title to title.
    """
    data = {**tomllib.loads(sections.decode()), **tomllib.loads(documents.decode())}
    further = _Translations.model_validate(tomllib.loads(titles.decode())).model_dump()
    for row in (*data["sections"].values(), *data["specialties"].values(), *data["documents"]):
        english = row["title"]["en"]
        row["title"] |= {language: known[english] for language, known in further.items() if english in known}
    return Rows.model_validate(data)


def read_own_file(path: Path) -> bytes:
    """The bytes of the user's mapping file.

    Raises:
        ConfigError: Code `fhir_mapping`: it is not there, no file, too large, or cannot be read.
    """
    path = path.expanduser()
    try:
        if not path.exists():
            raise _unusable("does not exist", path.name)
        if not path.is_file():
            raise _unusable("is a folder or a device, not a file", path.name)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError:
        raise _unusable("cannot be read; mind its permissions", path.name) from None
    if len(data) > MAX_BYTES:
        raise _unusable("is larger than a megabyte", path.name)
    return data


def own_rows(name: str, data: bytes, ours: Rows) -> Rows:
    """Our rows with those of the user's own file laid over them.

    Args:
        name: Name of the file, for messages.
        data: Its content.
        ours: The rows of this project.

    Raises:
        ConfigError: Code `fhir_mapping`: it is no TOML in UTF-8, says nothing, or rows are wrong. The message lists up
            to 20 problems as `row.field: problem`; `field_paths` has the same places.
    """
    content = _parsed(name, data)
    if not any(content.values()):
        raise _unusable("says nothing: it has neither sections, specialties nor documents", name)
    try:
        own = _Own.model_validate(content)
    except ValidationError as error:
        raise _wrong(name, list(_problems(error))) from None
    problems: list[_Problem] = []
    sections = _laid_over("sections", own.sections, ours.sections, Section, problems)
    specialties = _laid_over("specialties", own.specialties, ours.specialties, Specialty, problems)
    if problems:
        raise _wrong(name, problems)
    return Rows(sections=sections, specialties=specialties, documents=[*own.documents, *ours.documents])


_AnyCase = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]


class _OwnSection(Row):
    loinc: LoincCode | None = None
    display: str | None = None
    loinc_version: str | None = None
    fit: Fit | None = None
    title: Titles = Field(default_factory=dict)
    source: str | None = None


class _OwnSpecialty(Row):
    system: str | None = None
    code: str | None = None
    templates: list[Upper] | None = None
    title: Titles = Field(default_factory=dict)
    source: str | None = None


class _OwnDocument(Document):
    source: str = Field(OWN_SOURCE, min_length=1)


class _Own(Row):
    sections: dict[Key, _OwnSection] = Field(default_factory=dict)
    specialties: dict[_AnyCase, _OwnSpecialty] = Field(default_factory=dict)
    documents: list[_OwnDocument] = Field(default_factory=list)


_ROWS: dict[str, type[Row]] = {"sections": _OwnSection, "specialties": _OwnSpecialty, "documents": _OwnDocument}

_SAID_OF_A_CODE = {
    Section: frozenset({"loinc", "display", "loinc_version", "fit", "source"}),
    Specialty: frozenset({"system", "code", "source"}),
}
"""What our row says of our code: it is not said of another one."""

_R = TypeVar("_R", Section, Specialty)


def _laid_over(
    table: str, own: Mapping[str, Row], ours: Mapping[str, _R], model: type[_R], problems: list[_Problem]
) -> dict[str, _R]:
    """Our rows of a table, with the user's own over them; what is wrong with those is added to `problems`."""
    merged = dict(ours)
    spellings: set[str] = set()
    for written, row in own.items():
        key = normal(written) if model is Specialty else written.upper()
        if key in spellings:
            problems.append(_Problem(f"{table}.{written}", "is there twice; upper and lower case are one"))
            continue
        spellings.add(key)
        try:
            merged[key] = model.model_validate(_facts(model, row.model_dump(exclude_unset=True), ours.get(key)))
        except ValidationError as error:
            problems.extend(_problems(error, (table, written)))
    return merged


def _facts(model: type[Row], own: dict[str, Any], known: Row | None) -> dict[str, Any]:
    """The fields of one row: the user's own, then ours, then what goes without saying."""
    facts = known.model_dump() if known else {}
    if model is Specialty:
        other_code = not own.keys().isdisjoint(("code", "system"))
        facts = {"source": OWN_SOURCE, **facts}
    else:
        other_code = "loinc" in own or own.get("fit") == "none"
        facts = {"source": OWN_SOURCE, "fit": "none", **facts}
    if other_code:
        facts = {name: value for name, value in facts.items() if name not in _SAID_OF_A_CODE[model]}
        facts |= {"source": OWN_SOURCE} | ({"fit": "good"} if "loinc" in own else {})
    title = {**facts.get("title", {}), **own.get("title", {})}
    return {**facts, **own, "title": title}


def _parsed(name: str, data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig")  # Some editors put a mark before UTF-8.
    except UnicodeDecodeError:
        raise _unusable("is not UTF-8 text", name) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Its words may repeat what the file holds; the place does not.
        found = _AT_LINE.search(str(error))
        place = f"at line {found[1]}, column {found[2]}" if found else "at its end"
        raise _unusable(f"is not valid TOML {place}", name) from None
    except RecursionError:
        raise _unusable("is nested too deeply", name) from None


@dataclass(frozen=True, slots=True)
class _Problem:
    """What is wrong where."""

    place: str
    words: str


def _problems(error: ValidationError, before: tuple[str, ...] = ()) -> Iterator[_Problem]:
    for detail in error.errors(include_input=False, include_url=False, include_context=False):
        loc = (*before, *detail["loc"])
        place = ".".join(str(part + 1) if isinstance(part, int) else part for part in loc if part != "[key]")
        yield _Problem(place, _words(detail["type"], detail["msg"], loc))


def _words(kind: str, message: str, loc: tuple[str | int, ...]) -> str:
    if kind == "extra_forbidden":
        at_top, in_row = len(loc) == 1, len(loc) == len(("table", "row", "field"))
        fields = _Own.model_fields if at_top else _ROWS[str(loc[0])].model_fields if in_row else Codes.model_fields
        return f"is not known here; known: {', '.join(fields)}"
    if loc[-1] == "[key]":
        in_titles = "title" in loc[:-1]
        return "is no language such as fr" if in_titles else "is no key: no white space at its ends, 64 characters"
    if kind == "missing":
        return "is missing"
    if kind in ("dict_type", "model_type"):
        return "must be a table"
    return message.removeprefix("Value error, ")


def _wrong(name: str, problems: Sequence[_Problem]) -> ConfigError:
    listed = [f"{problem.place}: {problem.words}" for problem in problems[:MAX_REPORTED]]
    if len(problems) > MAX_REPORTED:
        listed.append(f"and {len(problems) - MAX_REPORTED} more")
    return ConfigError(
        f"The FHIR mapping file is wrong. {WHAT_TO_DO}\n  " + "\n  ".join(listed),
        code="fhir_mapping",
        field_paths=[problem.place for problem in problems[:MAX_REPORTED]],
        context={"file": name, "problems": len(problems)},
    )


def _unusable(what: str, name: str) -> ConfigError:
    return ConfigError(f"The FHIR mapping file {what}. {WHAT_TO_DO}", code="fhir_mapping", context={"file": name})
