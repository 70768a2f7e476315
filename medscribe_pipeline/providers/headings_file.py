"""The headings we know (`headings.toml`), and the form in which headings are compared."""

from __future__ import annotations

import hashlib
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "MAX_MARKDOWN_TITLE",
    "MAX_TITLE",
    "Headings",
    "fold",
    "headings_version",
    "load_headings",
    "shipped_headings",
]

MAX_TITLE = 60
"""Characters of a line that can be a heading by its shape or by the words before its colon."""

MAX_MARKDOWN_TITLE = 120
"""The same for `#` headings, which say themselves that they are headings."""


@dataclass(frozen=True, slots=True)
class Headings:
    """The headings we know, spellings folded (`fold`).

    Attributes:
        known: Spelling to section key; `None` for headings that stand for no key.
        only_in_soap: Further spellings that count only in a SOAP note.
        in_soap: `known` and `only_in_soap`, which is what counts in a SOAP note.
        replaced_in_soap: Key to the key it is in a SOAP note.
        lead_ins: Last words of a line that introduces a list and is no heading.
    """

    known: Mapping[str, str | None]
    only_in_soap: Mapping[str, str]
    in_soap: Mapping[str, str | None]
    replaced_in_soap: Mapping[str, str]
    lead_ins: frozenset[str]


_Spelling = Annotated[str, Field(min_length=1, max_length=MAX_TITLE)]
_Key = Annotated[str, Field(pattern=r"^[A-Z]+(_[A-Z]+)*$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class _Languages(_Table):
    en: list[_Spelling] = Field(min_length=1)
    fr: list[_Spelling] = Field(min_length=1)


class _KeyTable(_Languages):
    only_in_soap: list[_Spelling] = []
    replaces: _Key | None = None


class _Data(_Table):
    lead_ins: list[_Spelling]
    unkeyed: _Languages
    keys: dict[_Key, _KeyTable] = Field(min_length=1)


def fold(heading: str) -> str:
    """The form headings are compared in: no case, accents, dots or punctuation; `&` and `+` are `and`.

    >>> fold("Évaluation  Clinique :"), fold("H.P.I."), fold("A&P"), fold("Co-morbidities")
    ('evaluation clinique', 'hpi', 'a and p', 'co morbidities')
    """
    return _fold(heading) if len(heading) <= MAX_MARKDOWN_TITLE else _fold.__wrapped__(heading)


@lru_cache(maxsize=2048)  # The same headings come in note after note; memory stays bounded.
def _fold(heading: str) -> str:
    heading = heading.casefold().replace("œ", "oe").replace(".", "").replace("&", " and ").replace("+", " and ")
    return " ".join(unicodedata.normalize("NFKD", heading).translate(_FOLDED).split())


class _Folded(dict[int, str]):
    """What becomes of a decomposed character, remembered for those that headings are made of."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        folded = "" if unicodedata.combining(character) else character if character.isalnum() else " "
        if code < _REMEMBERED:
            self[code] = folded
        return folded


_REMEMBERED = 0x2100  # Latin, Greek, Cyrillic, combining marks, punctuation
_FOLDED = _Folded()


def load_headings(toml: str) -> Headings:
    """Reads and checks the text of a headings file.

    Raises:
        ConfigError: It is not TOML, not of the documented shape, or one spelling stands for two things.
    """
    data = _parse(toml)
    known: dict[str, str | None] = {}
    unkeyed: list[tuple[str | None, _Languages]] = [(None, data.unkeyed)]
    for key, languages in (*unkeyed, *data.keys.items()):
        for language, spellings in (("en", languages.en), ("fr", languages.fr)):
            for index, folded in enumerate(_folded(spellings, f"{key or 'unkeyed'}.{language}")):
                if known.setdefault(folded, key) != key:
                    raise _ambiguous(f"{key}.{language}.{index}")

    only_in_soap: dict[str, str] = {}
    replaced: dict[str, str] = {}
    for key, table in data.keys.items():
        for index, folded in enumerate(_folded(table.only_in_soap, f"{key}.only_in_soap")):
            if folded in known or only_in_soap.setdefault(folded, key) != key:
                raise _ambiguous(f"{key}.only_in_soap.{index}")
        if table.replaces and (table.replaces not in data.keys or replaced.setdefault(table.replaces, key) != key):
            raise _ambiguous(f"{key}.replaces")
    lead_ins = frozenset(_folded(data.lead_ins, "lead_ins"))
    return Headings(known, only_in_soap, {**known, **only_in_soap}, replaced, lead_ins)


def _parse(toml: str) -> _Data:
    try:
        tables = tomllib.loads(toml)
        own = {name: tables.pop(name) for name in ("lead_ins", "unkeyed") if name in tables}
        return _Data.model_validate({**own, "keys": tables})
    except tomllib.TOMLDecodeError:
        raise ConfigError("The headings file is not valid TOML.", code="headings_file") from None
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        paths = [".".join(map(str, detail["loc"])).removeprefix("keys.") for detail in details]
        raise ConfigError("The headings file has a wrong entry.", code="headings_file", field_paths=paths) from None


def _folded(spellings: Sequence[str], path: str) -> list[str]:
    """The spellings of one list folded; one that is empty then, or there already, is an error."""
    folded: list[str] = []
    for index, spelling in enumerate(map(fold, spellings)):
        if not spelling or spelling in folded:
            raise _ambiguous(f"{path}.{index}")
        folded.append(spelling)
    return folded


def _ambiguous(path: str) -> ConfigError:
    return ConfigError(
        "The headings file has an entry that is empty, given twice, or stands for two things.",
        code="headings_file",
        field_paths=[path],
    )


@cache
def shipped_headings() -> Headings:
    """Those of the data file that comes with the package."""
    return load_headings(_shipped_toml())


def _shipped_toml() -> str:
    return (resources.files("medscribe_pipeline.providers") / "headings.toml").read_text("utf-8")


@cache
def headings_version() -> str:
    """Short hash of the shipped data file: with another one, the same text may be split differently."""
    return hashlib.sha256(_shipped_toml().encode()).hexdigest()[:12]
