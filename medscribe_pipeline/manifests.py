"""CSV files people write for us: one header, one thing a row, read whole or not at all.

Named columns in any order, comma, semicolon or tab between them, UTF-8. Every problem found is reported with its line
and column, and never with the value, which may be a patient's. What the columns mean is for the reader of each kind of
file to say.
"""

from __future__ import annotations

import csv
import difflib
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import TextIO

__all__ = ["ABSOLUTE_URI", "URI_PROBLEM", "Layout", "Manifest", "WrongValue", "open_manifest"]

MAX_REPORTED = 20
"""Problems listed in one message; the others are counted."""

MAX_LINE = 1_000_000
"""Characters of one line: more is no manifest, and would be read into memory whole."""

DELIMITERS = (",", ";", "\t")

ABSOLUTE_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[^\s<>\"{}|\\^`\x00-\x1f]+")
"""RFC 3986: a scheme (two characters at least: `C:` is a drive), then nothing a URI cannot hold."""

URI_PROBLEM: Final = "is not an absolute URI such as https://hospital.example/mrn or urn:oid:1.2.3"


@dataclass(frozen=True, slots=True)
class Layout:
    """What one kind of file looks like.

    Attributes:
        name: What people call it (`visits`), for messages; the code of its errors is `<name>_file`.
        lengths: Its columns, and the longest value of each in characters.
        required: Columns that must be there, and filled.
    """

    name: str
    lengths: Mapping[str, int]
    required: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns a file may have."""
        return tuple(self.lengths)

    def unusable(self, problem: str, file: str) -> ConfigError:
        """The error for a file that cannot be read at all."""
        return ConfigError(f"The {self.name} file {problem}.", code=f"{self.name}_file", context={"file": file})


class WrongValue(Exception):
    """What is wrong with a cell, without its value."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(slots=True)
class Manifest:
    """An open file, and what is wrong with it: all problems counted, the first ones kept.

    Attributes:
        layout: What it should look like.
        file: Its name, for messages.
    """

    layout: Layout
    file: str
    _text: TextIO = field(repr=False)
    _count: int = 0
    _reported: list[str] = field(default_factory=list)

    def rows(self, convert: Callable[[str, str], Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows with any value: the line each begins on, and its values by column, `None` for an empty cell.

        Columns whose cell is wrong are left out; rows that then lack a required one are counted and not given.

        Args:
            convert: Column and cell (stripped, not empty, no longer than allowed) to value; raises `WrongValue`.

        Raises:
            ConfigError: What follows cannot be read, or makes no sense.
        """
        for line, cells in self._records():
            values: dict[str, Any] = {}
            for column, cell in cells.items():
                try:
                    values[column] = self._value(column, cell.strip(), convert)
                except WrongValue as wrong:
                    self.problem(line, column, wrong.problem)
            if values.keys() >= set(self.layout.required):
                yield line, values

    def problem(self, line: int, column: str | None, problem: str) -> None:
        """Notes what is wrong, without the value."""
        self._count += 1
        if self._count <= MAX_REPORTED:
            place = f"line {line}, column {column}" if column else f"line {line}"
            self._reported.append(f"{place}: {problem}")

    def close(self, rows: int) -> None:
        """Ends the reading.

        Args:
            rows: How many rows were taken.

        Raises:
            ConfigError: There were problems, or no rows.
        """
        if self._count:
            raise self._as_error()
        if not rows:
            raise self.layout.unusable("has a header and no rows", self.file)

    def _as_error(self) -> ConfigError:
        listed = list(self._reported)
        if self._count > MAX_REPORTED:
            listed.append(f"and {self._count - MAX_REPORTED} more")
        return ConfigError(
            f"The {self.layout.name} file is wrong, nothing was imported.\n  " + "\n  ".join(listed),
            code=f"{self.layout.name}_file",
            context={"file": self.file, "problems": self._count},
        )

    def _value(self, column: str, cell: str, convert: Callable[[str, str], Any]) -> Any:
        if not cell:
            if column in self.layout.required:
                raise WrongValue("is empty")
            return None
        if unreadable := _unreadable(cell):
            raise WrongValue(unreadable)
        if len(cell) > self.layout.lengths[column]:
            raise WrongValue(f"is longer than {self.layout.lengths[column]} characters")
        return convert(column, cell)

    def _records(self) -> Iterator[tuple[int, dict[str, str]]]:
        """The rows with any value: the line each begins on, and its cells by column."""
        lines = self._lines()
        header_line, header = next(((line, text) for line, text in lines if text.strip()), (0, ""))
        if not header:
            raise self.layout.unusable("is empty", self.file)
        delimiter, columns = self._header(header_line, header)
        reader = csv.reader((text for _, text in lines), delimiter=delimiter, strict=True)
        while True:
            line = header_line + reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                # The reader cannot tell where the next row begins: what follows would be nonsense.
                self.problem(line, None, 'a cell beginning with " is not closed by one, or is too long')
                raise self._as_error() from None
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) == len(columns):
                yield line, dict(zip(columns, cells, strict=True))
            else:
                self.problem(line, None, f"number of cells is {len(cells)}, the header has {len(columns)}")

    def _lines(self) -> Iterator[tuple[int, str]]:
        number = 0
        while text := self._text.readline(MAX_LINE + 1):
            number += 1
            if len(text) > MAX_LINE:
                self.problem(number, None, f"is longer than {MAX_LINE} characters")
                raise self._as_error()
            yield number, text

    def _header(self, line: int, text: str) -> tuple[str, list[str]]:
        """The delimiter, which is the one that makes the most known columns, and the columns it makes."""
        known = self.layout.columns
        if unreadable := _unreadable(text):
            self.problem(line, None, unreadable)
            raise self._as_error()
        readings = [(delimiter, _names(text, delimiter)) for delimiter in DELIMITERS]
        delimiter, names = max(readings, key=lambda reading: sum(name in known for name in reading[1]))
        if not set(names) & set(known):
            self.problem(line, None, f"is no header; it must name columns out of {', '.join(known)}")
            raise self._as_error()
        for position, name in enumerate(names, start=1):
            if name not in known:
                # Not the name itself: in a file without header it is the first row's value.
                self.problem(line, str(position), _unknown_name(name, known))
            elif name in names[: position - 1]:
                self.problem(line, name, "is there twice")
        for name in self.layout.required:
            if name not in names:
                self.problem(line, name, "is missing")
        if self._count:
            raise self._as_error()
        return delimiter, names


@contextmanager
def open_manifest(path: Path, layout: Layout) -> Iterator[Manifest]:
    """Opens a file to be read by `rows` and ended by `close`.

    Bytes that are no UTF-8 pass as lone surrogates, so that their line can be named.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            yield Manifest(layout, path.name, text)
    except FileNotFoundError:
        raise layout.unusable("does not exist", path.name) from None
    except IsADirectoryError:
        raise layout.unusable("is a directory", path.name) from None
    except OSError:
        raise layout.unusable("cannot be read", path.name) from None


def _names(text: str, delimiter: str) -> list[str]:
    try:
        return [name.strip().lower() for name in next(csv.reader([text], delimiter=delimiter, strict=True))]
    except csv.Error:
        return []


def _unknown_name(name: str, known: tuple[str, ...]) -> str:
    if not name:
        return "has no name"
    nearest = difflib.get_close_matches(name[:64], known, n=1, cutoff=0.0)
    return f"is not a known column; the nearest is {nearest[0]}"


def _unreadable(text: str) -> str | None:
    """What keeps a text from being stored: bytes that were no UTF-8, or NUL, which PostgreSQL refuses."""
    if "\x00" in text:
        return "has a NUL character (is the file UTF-16? save it as UTF-8)"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "is not UTF-8 (save the file as UTF-8)"
    return None
