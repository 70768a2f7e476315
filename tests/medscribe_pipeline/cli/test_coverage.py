"""`medscribe fhir coverage`: what was counted, and no word of a patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.synced import DAYS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic


def test_the_figures_are_those_of_the_warehouse(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    clinic.change("UPDATE note_sections SET key = 'VENDOR_NEWS' WHERE ordinal = 0")
    clinic.change("UPDATE note_sections SET key = 'said qxcanary' WHERE ordinal = 1")
    keys = {key for (key,) in clinic.rows("SELECT DISTINCT key FROM note_sections WHERE key IS NOT NULL")}

    found = medscribe("fhir", "coverage", "--json").json

    assert set(found) == {"mapping_version", "keys_seen", "keys_mapped", "keys_unknown", "rows"}
    assert (found["keys_seen"], found["keys_mapped"], found["keys_unknown"]) == (len(keys), len(keys) - 2, 2)
    assert sum(row["sections"] for row in found["rows"]) == clinic.value("SELECT count(*) FROM note_sections")
    assert {row["key"] for row in found["rows"] if row["treatment"] == "unknown"} == {"VENDOR_NEWS", "other"}
    assert {frozenset(row) for row in found["rows"]} == {
        frozenset({"provider", "key", "treatment", "loinc", "fit", "notes", "sections"})
    }


def test_a_day_is_counted_on_its_own(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    first = DAYS[0].isoformat()

    found = medscribe("fhir", "coverage", "--day", first, "--json").json

    assert sum(row["sections"] for row in found["rows"]) == clinic.value(
        "SELECT count(*) FROM note_sections s JOIN notes n ON n.note_id = s.note_id WHERE n.visit_day = ?", first
    )


def test_people_see_what_is_unknown_and_no_strange_key(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    clinic.change("UPDATE note_sections SET key = 'said qxcanary' WHERE ordinal = 1")

    ran = medscribe("fhir", "coverage")

    assert ran.code == 0
    assert "other" in ran.words
    assert "1 not." in ran.words
    assert "qxcanary" not in ran.out


def test_a_day_that_is_none_is_exit_code_2(home: Path, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("fhir", "coverage", "--day", "someday")

    assert (ran.code, ran.out) == (2, "")
    assert "code=day" in ran.err
    assert not home.exists()
