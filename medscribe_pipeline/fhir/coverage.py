"""Which section keys were seen, and what the mapping makes of each: where its gaps are.

Counts only. A key comes from a provider, so a strange one could hold anything, a patient's words included:
`Coverage.shown` names only what looks like a key and counts the rest as `other`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.fhir.sections import one_line
from medscribe_pipeline.warehouse.tables import note_sections, notes

if TYPE_CHECKING:
    from collections.abc import Collection

    from medscribe_pipeline.fhir.sections import Mapping
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["OTHER", "Coverage", "CoverageRow", "KeyCodes", "Treatment", "codes_of", "read_coverage", "safe_key"]

OTHER = "other"
"""Stands for keys that do not look like keys."""

MAX_UNKNOWN = 50
"""Unknown keys of a provider that are named, most frequent first; the rest is `other`."""

_KEY = re.compile(r"[A-Z][A-Z0-9_]{1,63}")


class Treatment(StrEnum):
    """What the mapping makes of a key: LOINC and its own code, its own code on purpose, or what it does not know.

    `NO_KEY` is text under a heading nobody recognised, or under none: there is nothing to map.
    """

    LOINC = "loinc"
    OWN_CODE = "own_code"
    UNKNOWN = "unknown"
    NO_KEY = "no_key"


@dataclass(frozen=True, slots=True)
class KeyCodes:
    """A section key under a mapping; `loinc` and `fit` are `None` where there is none."""

    treatment: Treatment
    loinc: str | None = None
    fit: str | None = None


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """How often a provider used a key; `key` is `None` for sections without one."""

    provider: str
    key: str | None
    codes: KeyCodes
    notes: int
    sections: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """All rows, ordered by provider and, within it, most frequent first."""

    rows: tuple[CoverageRow, ...]

    @property
    def keys_seen(self) -> int:
        """Distinct keys."""
        return len({row.key for row in self.rows if row.key is not None})

    @property
    def keys_mapped(self) -> int:
        """Distinct keys the mapping knows, with LOINC or on purpose without."""
        return len({row.key for row in self.rows if row.codes.treatment in (Treatment.LOINC, Treatment.OWN_CODE)})

    @property
    def keys_unknown(self) -> int:
        """Distinct keys the mapping does not know."""
        return len({row.key for row in self.rows if row.codes.treatment is Treatment.UNKNOWN})

    def shown(self) -> list[CoverageRow]:
        """The rows as they may be shown anywhere: strange and rare unknown keys are together in `other`.

        The notes of `other` are the sum over its keys, so a note with two of them counts twice.
        """
        named: list[CoverageRow] = []
        others: dict[str, list[CoverageRow]] = defaultdict(list)
        unknown: dict[str, int] = defaultdict(int)
        for row in self.rows:
            if row.codes.treatment is Treatment.UNKNOWN:
                unknown[row.provider] += 1
                if safe_key(row.key) == OTHER or unknown[row.provider] > MAX_UNKNOWN:
                    others[row.provider].append(row)
                    continue
            named.append(row)
        named += [
            CoverageRow(
                provider,
                OTHER,
                KeyCodes(Treatment.UNKNOWN),
                sum(row.notes for row in rows),
                sum(row.sections for row in rows),
            )
            for provider, rows in others.items()
        ]
        return sorted(named, key=_rank)


def safe_key(key: str | None) -> str:
    """A section key for people to read, or `other` for what does not look like one.

    >>> safe_key("DIET_HABITS"), safe_key("Mrs Example said")
    ('DIET_HABITS', 'other')
    """
    return key if key and _KEY.fullmatch(key) else OTHER


def codes_of(mapping: Mapping, key: str | None) -> KeyCodes:
    """What a mapping makes of a key."""
    known = (one_line(key) or "").upper()
    if not known:
        return KeyCodes(Treatment.NO_KEY)
    row = mapping.rows.sections.get(known)
    if row is None:
        return KeyCodes(Treatment.UNKNOWN)
    return KeyCodes(Treatment.LOINC if row.loinc else Treatment.OWN_CODE, row.loinc, row.fit)


def read_coverage(warehouse: Warehouse, mapping: Mapping, days: date | Collection[date] | None = None) -> Coverage:
    """Counts the sections of an account by provider and key: one query, for one visit day, for some or for all."""
    source = notes.join(note_sections, note_sections.c.note_id == notes.c.note_id)
    key: sa.ColumnElement[str] = note_sections.c.key
    if isinstance(days, date) and warehouse.engine.dialect.name == "postgresql":
        # Note by note, by the key of the sections: PostgreSQL takes a day of a first backfill for so much that it goes
        # through the sections of all days for each.
        own = sa.select(key).where(note_sections.c.note_id == notes.c.note_id).offset(0).lateral()
        source, key = notes.join(own, sa.true()), own.c.key
    query = (
        sa.select(notes.c.provider, key, sa.func.count(sa.distinct(notes.c.note_id)), sa.func.count())
        .select_from(source)
        .where(notes.c.account == warehouse.account)
        # The key first: SQLite would find the notes by their provider otherwise, all of the account for each day.
        .group_by(key, notes.c.provider)
    )
    if days is not None:
        query = query.where(notes.c.visit_day.in_([days] if isinstance(days, date) else days))
    with warehouse.read() as connection:
        found = connection.execute(query).all()
    rows = [
        CoverageRow(provider, key, codes_of(mapping, key), in_notes, number)
        for provider, key, in_notes, number in found
    ]
    return Coverage(tuple(sorted(rows, key=_rank)))


def _rank(row: CoverageRow) -> tuple[str, int, str]:
    return row.provider, -row.sections, row.key or ""
