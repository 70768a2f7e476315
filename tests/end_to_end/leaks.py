"""Searching files for patients and secrets, in every form they could be hidden in."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import closing
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.sandbox import MARKERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from medscribe_pipeline.sandbox import World

# Shorter names occur in words of their own.
SHORTEST = 5


def needles_of(world: World, secrets: Iterable[str]) -> set[str]:
    """Everything that must be nowhere: the markers in all texts, names, ids, dates of birth, and the secrets."""
    patients = list(world.records("patients").values())
    people = [*patients, *world.records("users").values()]
    names = {part for each in people for part in (each["firstName"], each["lastName"]) if len(part) >= SHORTEST}
    facts = {each[field] for each in people for field in ("uuid", "email")}
    births = {each["dateOfBirth"][:19] for each in patients}
    return {*MARKERS, *names, *facts, *births, *secrets}


def found_in(texts: Iterable[str], needles: Iterable[str]) -> set[str]:
    """Which needles any of the texts holds, as it is or in an escaped form."""
    wanted = {form: needle for needle in needles for form in _forms(needle)}
    return {needle for text in texts for form, needle in wanted.items() if form in text}


def _forms(needle: str) -> set[str]:
    """A text as it stands, in JSON, in JSON in JSON, and as Python prints it."""
    once = json.dumps(needle)[1:-1]
    return {needle, once, json.dumps(once)[1:-1], repr(needle)[1:-1], ascii(needle)[1:-1]}


def texts_of(path: Path) -> Iterator[str]:
    """A file as text; of a SQLite database every value as well, since one longer than a page is cut into pieces."""
    content = path.read_bytes()
    yield content.decode("utf-8", errors="replace")
    if content.startswith(b"SQLite format 3\0"):
        yield from _values_of(path)


def _values_of(database: Path) -> Iterator[str]:
    with closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            for row in connection.execute(f'SELECT * FROM "{name}"'):  # noqa: S608 - names come from the database itself
                yield from map(_text_of, row)


def _text_of(value: Any) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return zlib.decompress(value).decode("utf-8", errors="replace")
    except zlib.error:
        return value.decode("utf-8", errors="replace")
