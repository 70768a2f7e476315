"""Which keys were seen and what the mapping makes of them, counted on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.fhir import default_mapping
from medscribe_pipeline.fhir.coverage import (
    MAX_UNKNOWN,
    Coverage,
    CoverageRow,
    KeyCodes,
    Treatment,
    codes_of,
    read_coverage,
    safe_key,
)
from medscribe_pipeline.fhir.synthetic import synthetic_note
from medscribe_pipeline.notes import NoteSection, stable_id
from medscribe_pipeline.warehouse.notes import MappedNote, write_notes
from tests.databases import NOW, TODAY

if TYPE_CHECKING:
    from medscribe_pipeline.warehouse.store import Warehouse

YESTERDAY = date(2026, 3, 1)
PLAN = KeyCodes(Treatment.LOINC, "18776-5", "exact")


def file(warehouse: Warehouse, name: str, day: date, *keys: str | None, provider: str = "nabla") -> None:
    """A note with a section of each key, one of them nested."""
    sections = tuple(NoteSection(key, None, "words") for key in keys)
    note = replace(
        synthetic_note(),
        note_id=stable_id(provider, warehouse.account, name, "note"),
        account=warehouse.account,
        provider=provider,
        source_id=name,
        sections=(replace(sections[0], sections=sections[1:]),),
    )
    with warehouse.begin() as connection:
        write_notes(warehouse, connection, [MappedNote(note, day, 1)], NOW)


def counted(coverage: Coverage) -> list[tuple[str, str | None, str, int, int]]:
    return [(row.provider, row.key, row.codes.treatment.value, row.notes, row.sections) for row in coverage.rows]


def test_sections_are_counted_by_provider_and_key(warehouse: Warehouse) -> None:
    file(warehouse, "n-1", TODAY, "PLAN", "PLAN", "VENDOR_NEWS", None)
    file(warehouse, "n-2", YESTERDAY, "PLAN")
    file(warehouse, "n-3", TODAY, "VITALS", provider="intron")

    every = read_coverage(warehouse, default_mapping())
    today = read_coverage(warehouse, default_mapping(), TODAY)

    assert counted(every) == [
        ("intron", "VITALS", "loinc", 1, 1),
        ("nabla", "PLAN", "loinc", 2, 3),
        ("nabla", None, "no_key", 1, 1),
        ("nabla", "VENDOR_NEWS", "unknown", 1, 1),
    ]
    assert ("nabla", "PLAN", "loinc", 1, 2) in counted(today)
    assert read_coverage(warehouse, default_mapping(), [TODAY, YESTERDAY]) == every
    assert read_coverage(warehouse, default_mapping(), [TODAY]) == today
    assert read_coverage(warehouse, default_mapping(), []) == Coverage(())
    assert (every.keys_seen, every.keys_mapped, every.keys_unknown) == (3, 2, 1)


def test_a_day_without_notes_and_another_account_have_no_rows(warehouse: Warehouse) -> None:
    file(warehouse, "n-1", TODAY, "PLAN")
    empty = Coverage(())

    assert read_coverage(warehouse, default_mapping(), YESTERDAY) == empty
    warehouse.account = "another"
    assert read_coverage(warehouse, default_mapping()) == empty
    assert (empty.keys_seen, empty.shown()) == (0, [])


@pytest.mark.parametrize(
    ("key", "codes"),
    [
        ("PLAN", PLAN),
        (" plan\n", PLAN),
        ("VENDOR_NEWS", KeyCodes(Treatment.UNKNOWN)),
        (None, KeyCodes(Treatment.NO_KEY)),
        (" ", KeyCodes(Treatment.NO_KEY)),
    ],
)
def test_what_the_mapping_makes_of_a_key(key: str | None, codes: KeyCodes) -> None:
    assert codes_of(default_mapping(), key) == codes


def test_every_key_of_the_mapping_is_mapped() -> None:
    mapping = default_mapping()

    found = {key: codes_of(mapping, key) for key in mapping.known_keys()}

    assert {codes.treatment for codes in found.values()} <= {Treatment.LOINC, Treatment.OWN_CODE}
    assert all((codes.loinc is None) == (codes.treatment is Treatment.OWN_CODE) for codes in found.values())
    assert all(codes.fit for codes in found.values())


@pytest.mark.parametrize("key", ["VENDOR_NEWS", "A1", "A" * 64])
def test_what_looks_like_a_key_is_shown(key: str) -> None:
    assert safe_key(key) == key


@pytest.mark.parametrize("key", [None, "", "A", "vendor_news", "MRS EXAMPLE", "É_KEY", "1ST", "KEY\n", "A" * 65])
def test_what_does_not_is_other(key: str | None) -> None:
    assert safe_key(key) == "other"


def row(key: str | None, sections: int, codes: KeyCodes | None = None) -> CoverageRow:
    return CoverageRow("nabla", key, codes or KeyCodes(Treatment.UNKNOWN), 1, sections)


def test_strange_keys_are_shown_together_and_none_is_lost() -> None:
    coverage = Coverage((row("PLAN", 9, PLAN), row("Mrs Example said", 5), row("VENDOR_NEWS", 4), row("dr example", 2)))

    shown = coverage.shown()

    assert [(each.key, each.notes, each.sections) for each in shown] == [
        ("PLAN", 1, 9),
        ("other", 2, 7),
        ("VENDOR_NEWS", 1, 4),
    ]
    assert coverage.keys_unknown == 3


def test_only_so_many_unknown_keys_are_named() -> None:
    coverage = Coverage(tuple(row(f"NEWS_{number}", 500 - number) for number in range(MAX_UNKNOWN + 10)))

    shown = coverage.shown()

    assert len(shown) == MAX_UNKNOWN + 1
    assert sum(each.sections for each in shown) == sum(each.sections for each in coverage.rows)
    assert next(each for each in shown if each.key == "other").notes == 10
