"""The visits manifest: a CSV file that says who, where and when, for recordings whose provider does not.

One row a recording, named columns in any order, comma, semicolon or tab between them, UTF-8. A file is read whole
or not at all: every problem found is reported with its line and column, and never with the value, which may be a
patient's.
"""

from __future__ import annotations

import csv
import difflib
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path
    from typing import TextIO
    from zoneinfo import ZoneInfo

__all__ = ["COLUMNS", "KNOWN_PROVIDERS", "MAX_LENGTHS", "VisitRow", "read_visits"]

KNOWN_PROVIDERS: Final = ("askara", "audioscribe", "nabla", "intron")
"""Providers a row may belong to, with credentials or without: a manifest may come before them."""

MAX_REPORTED = 20
"""Problems listed in one message; the others are counted."""

MAX_LINE = 1_000_000
"""Characters of one line: more is no manifest, and would be read into memory whole."""

DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True, slots=True)
class VisitRow:
    """One row of the manifest, checked. Fields are the columns of the table `visits`; times are aware UTC."""

    provider: str
    correlation_key: str
    patient_id: str | None = None
    patient_system: str | None = None
    practitioner_id: str | None = None
    practitioner_system: str | None = None
    encounter_id: str | None = None
    encounter_system: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    language: str | None = None
    template: str | None = None
    audio_url: str | None = None
    audio_path: str | None = None
    section_style: str | None = None
    split_by_problem: bool | None = None
    diarization: bool | None = None
    category: str | None = None
    specialty: str | None = None


COLUMNS: Final = tuple(VisitRow.__dataclass_fields__)
"""Columns a manifest may have."""

REQUIRED = ("provider", "correlation_key")
SYSTEMS = ("patient_system", "practitioner_system", "encounter_system")
TIMES = ("started_at", "ended_at")
SWITCHES = ("split_by_problem", "diarization")
YES = frozenset({"true", "yes", "oui", "1"})
NO = frozenset({"false", "no", "non", "0"})
SHORT = frozenset({"provider", "language", "template", "section_style", "category", "specialty"})
LONG = frozenset({"audio_url", "audio_path"})

MAX_LENGTHS: Final = {column: 64 if column in SHORT else 4096 if column in LONG else 255 for column in COLUMNS}
"""Longest value of each column, in characters: what the table holds."""

# RFC 5646 by shape: a language of two or three letters, then subtags.
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
# RFC 3986: a scheme (two characters at least: `C:` is a drive), then nothing a URI cannot hold.
_ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[^\s<>\"{}|\\^`\x00-\x1f]+")
# RFC 3986 by shape: a place on a web server, without credentials. Whether it may be used is for the provider to say.
_WEB_URL = re.compile(r"https?://[^\s/?#@<>\"{}|\\^`\x00-\x1f]+([/?#][^\s<>\"{}|\\^`\x00-\x1f]*)?", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?"
    r"([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?"
)

_URI_PROBLEM = "is not an absolute URI such as https://hospital.example/mrn or urn:oid:1.2.3"
_WORD_PROBLEM = "is not one word of letters, digits, _ and -"
_ANY_TEXT: Final = (re.compile(r".*", re.DOTALL), "")
_SHAPES: Final = {
    "language": (_LANGUAGE, "is not a language tag such as en or fr-FR"),
    "audio_url": (_WEB_URL, "is not a URL such as https://recordings.hospital.example/1.wav"),
    "section_style": (_WORD, _WORD_PROBLEM),
    "category": (_WORD, _WORD_PROBLEM),
    "specialty": (_WORD, _WORD_PROBLEM),
    **dict.fromkeys(SYSTEMS, (_ABSOLUTE_URI, _URI_PROBLEM)),
}


def read_visits(path: Path, *, zone: ZoneInfo, known_providers: Collection[str] = KNOWN_PROVIDERS) -> list[VisitRow]:
    """Reads and checks a visits manifest.

    The first line that is not blank is the header; its names count without case. `provider` and
    `correlation_key` must be there and filled; other columns, and their cells, may be missing. White space around
    a value is dropped, rows without any value are skipped.

    Times are ISO 8601 with a time of day (`2026-03-02T09:30`, `2026-03-02 09:30:00+01:00`). Without an offset they
    are local in `zone`. A local time the clocks go through twice counts as the first of the two; one they skip is
    read with the offset from before the change, so 02:30 in a spring gap of an hour is the instant of 03:30
    (`fold=0` in both cases, see PEP 495). Give the offset where that matters.

    `audio_url` or `audio_path`, not both, names the recording for a provider that works on order. `split_by_problem`
    and `diarization` are true, yes, 1 or oui, or false, no, 0 or non, in any case; empty leaves it to the settings.

    Args:
        path: The CSV file.
        zone: Zone of the times that name none.
        known_providers: Names allowed in `provider`, lower case.

    Raises:
        ConfigError: `visits_file`: the file cannot be read, is not a manifest, or has rows that are wrong. The
            message lists up to 20 problems as `line N, column NAME: problem`; `context` counts them all.
    """
    problems = _Problems(path.name)
    rows: list[VisitRow] = []
    lines_by_key: dict[tuple[str, str], int] = {}
    with _open(path) as file:
        for line, cells in _records(file, problems):
            values: dict[str, Any] = {}
            for column, cell in cells.items():
                try:
                    values[column] = _value(column, cell.strip(), zone, known_providers)
                except _WrongValue as wrong:
                    problems.add(line, column, wrong.problem)
            if not values.keys() >= set(REQUIRED):
                continue
            first = lines_by_key.setdefault((values["provider"], values["correlation_key"]), line)
            if first != line:
                problems.add(line, "correlation_key", f"is the same recording as on line {first}")
            row = VisitRow(**values)
            if row.started_at and row.ended_at and row.ended_at < row.started_at:
                problems.add(line, "ended_at", "is before started_at")
            if row.audio_url and row.audio_path:
                problems.add(line, "audio_path", "is given beside audio_url; a recording is in one place")
            rows.append(row)
    if problems.count:
        raise problems.as_error()
    if not rows:
        raise _unusable("The visits file has a header and no rows.", path.name)
    return rows


class _WrongValue(Exception):
    """What is wrong with a cell, without its value."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(slots=True)
class _Problems:
    """What is wrong with the file: all counted, the first ones kept."""

    file: str
    count: int = 0
    reported: list[str] = field(default_factory=list)

    def add(self, line: int, column: str | None, problem: str) -> None:
        self.count += 1
        if self.count <= MAX_REPORTED:
            place = f"line {line}, column {column}" if column else f"line {line}"
            self.reported.append(f"{place}: {problem}")

    def as_error(self) -> ConfigError:
        listed = list(self.reported)
        if self.count > MAX_REPORTED:
            listed.append(f"and {self.count - MAX_REPORTED} more")
        return ConfigError(
            "The visits file is wrong, nothing was imported.\n  " + "\n  ".join(listed),
            code="visits_file",
            context={"file": self.file, "problems": self.count},
        )


def _unusable(message: str, file: str) -> ConfigError:
    return ConfigError(message, code="visits_file", context={"file": file})


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    """The file as text; bytes that are no UTF-8 pass as lone surrogates, so that their line can be named."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except FileNotFoundError:
        raise _unusable("The visits file does not exist.", path.name) from None
    except IsADirectoryError:
        raise _unusable("The visits file is a directory.", path.name) from None
    except OSError:
        raise _unusable("The visits file cannot be read.", path.name) from None


def _records(file: TextIO, problems: _Problems) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows with any value: the line each begins on, and its cells by column."""
    lines = _lines(file, problems)
    header_line, header = next(((line, text) for line, text in lines if text.strip()), (0, ""))
    if not header:
        raise _unusable("The visits file is empty.", problems.file)
    delimiter, columns = _header(header_line, header, problems)
    reader = csv.reader((text for _, text in lines), delimiter=delimiter, strict=True)
    while True:
        line = header_line + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            # The reader cannot tell where the next row begins: what follows would be nonsense.
            problems.add(line, None, 'a cell beginning with " is not closed by one, or is too long')
            raise problems.as_error() from None
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) == len(columns):
            yield line, dict(zip(columns, cells, strict=True))
        else:
            problems.add(line, None, f"number of cells is {len(cells)}, the header has {len(columns)}")


def _lines(file: TextIO, problems: _Problems) -> Iterator[tuple[int, str]]:
    number = 0
    while text := file.readline(MAX_LINE + 1):
        number += 1
        if len(text) > MAX_LINE:
            problems.add(number, None, f"is longer than {MAX_LINE} characters")
            raise problems.as_error()
        yield number, text


def _header(line: int, text: str, problems: _Problems) -> tuple[str, list[str]]:
    """The delimiter, which is the one that makes the most known columns, and the columns it makes."""
    if unreadable := _unreadable(text):
        problems.add(line, None, unreadable)
        raise problems.as_error()
    readings = [(delimiter, _names(text, delimiter)) for delimiter in DELIMITERS]
    delimiter, names = max(readings, key=lambda reading: sum(name in COLUMNS for name in reading[1]))
    if not set(names) & set(COLUMNS):
        problems.add(line, None, f"is no header; it must name columns out of {', '.join(COLUMNS)}")
        raise problems.as_error()
    for position, name in enumerate(names, start=1):
        if name not in COLUMNS:
            # Not the name itself: in a file without header it is the first row's value.
            problems.add(line, str(position), _unknown_name(name))
        elif name in names[: position - 1]:
            problems.add(line, name, "is there twice")
    for name in REQUIRED:
        if name not in names:
            problems.add(line, name, "is missing")
    if problems.count:
        raise problems.as_error()
    return delimiter, names


def _names(text: str, delimiter: str) -> list[str]:
    try:
        return [name.strip().lower() for name in next(csv.reader([text], delimiter=delimiter, strict=True))]
    except csv.Error:
        return []


def _unknown_name(name: str) -> str:
    if not name:
        return "has no name"
    nearest = difflib.get_close_matches(name[:64], COLUMNS, n=1, cutoff=0.0)
    return f"is not a known column; the nearest is {nearest[0]}"


def _unreadable(text: str) -> str | None:
    """What keeps a text from being stored: bytes that were no UTF-8, or NUL, which PostgreSQL refuses."""
    if "\x00" in text:
        return "has a NUL character (is the file UTF-16? save it as UTF-8)"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "is not UTF-8 (save the file as UTF-8)"
    return None


def _value(column: str, value: str, zone: ZoneInfo, known_providers: Collection[str]) -> str | datetime | bool | None:
    """A cell checked and converted; `None` for an empty one."""
    if not value:
        if column in REQUIRED:
            raise _WrongValue("is empty")
        return None
    if unreadable := _unreadable(value):
        raise _WrongValue(unreadable)
    if len(value) > MAX_LENGTHS[column]:
        raise _WrongValue(f"is longer than {MAX_LENGTHS[column]} characters")
    if column in TIMES:
        return _instant(value, zone)
    if column in SWITCHES:
        return _switch(value)
    if column == "provider":
        return _provider(value, known_providers)
    shape, problem = _SHAPES.get(column, _ANY_TEXT)
    if not shape.fullmatch(value):
        raise _WrongValue(problem)
    return value


def _provider(value: str, known_providers: Collection[str]) -> str:
    name = value.lower()
    if name not in known_providers:
        raise _WrongValue(f"is none of {', '.join(known_providers)}")
    return name


def _switch(value: str) -> bool:
    word = value.lower()
    if word not in YES | NO:
        raise _WrongValue("is neither yes (true, yes, 1, oui) nor no (false, no, 0, non)")
    return word in YES


def _instant(value: str, zone: ZoneInfo) -> datetime:
    if not _TIMESTAMP.fullmatch(value):
        raise _WrongValue("is not an ISO 8601 time such as 2026-03-02T09:30 or 2026-03-02T09:30:00+01:00")
    try:
        moment = datetime.fromisoformat(value.upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _WrongValue("is not a time there is") from None
