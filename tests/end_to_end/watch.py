"""What the commands and sandboxes of a test leave behind, kept until it is searched for patients and secrets.

Every test here ends with that search; see `conftest.py`. Left out are the warehouse, where all of it belongs, and what
the test itself has named on a command line: its manifest, and reports that were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.canaries import (
    SANDBOX_SECRETS,
    Canaries,
    CommandLines,
    files_below,
    needles_of,
    texts_of,
    tokens_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medscribe_pipeline.sandbox import World

ASKED_FOR = frozenset({"--text", "--payload", "--transcript"})
"""With one of these a command prints patients' texts: somebody wanted to read them."""


@dataclass(slots=True)
class Remains:
    """What there is to search, and for what."""

    worlds: list[World] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    databases: set[Path] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    printed: list[str] = field(default_factory=list)
    lines: CommandLines = field(default_factory=CommandLines)

    def note_output(self, arguments: Sequence[str], *printed: str) -> None:
        """What a command printed, unless it was asked for a patient's text."""
        if not ASKED_FOR & set(arguments):
            self.printed += printed

    def canaries(self) -> Canaries:
        """The search for everything the test knows of."""
        stored = {token for database in self.databases for token in tokens_in(database)}
        people = {needle for world in self.worlds for needle in needles_of(world)}
        return Canaries({*SANDBOX_SECRETS, *self.secrets, *stored, *people})

    def files(self) -> list[Path]:
        """Every file there is but the warehouses and what the test named."""
        kept = tuple(str(database) for database in self.databases)
        return [path for path in files_below(self.folders, but=self.named) if not str(path).startswith(kept)]

    def found(self) -> dict[str, set[str]]:
        """Needles by where they were found; empty when all is well."""
        canaries = self.canaries()
        found = {str(path): needles for path, needles in canaries.in_files(self.files()).items()}
        found["standard output and error"] = canaries.among(self.printed)
        # The paths a test gives its files are pytest's.
        found["command lines"] = canaries.among(self.lines.seen)
        return {place: needles for place, needles in found.items() if needles}

    def empty(self) -> None:
        """Begins anew, for the next test."""
        for each in (self.worlds, self.folders, self.databases, self.secrets, self.named, self.printed):
            each.clear()
        self.lines.seen.clear()

    def texts(self) -> Iterable[str]:
        """All of it, for tests of what ought to be there."""
        yield from self.printed
        for path in self.files():
            yield from texts_of(path)


remains = Remains()
"""Of the test that runs now; `conftest.py` empties it."""
