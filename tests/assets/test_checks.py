"""The asset checks: quiet on a healthy warehouse, and not to be fooled by what happens behind its back."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from assets.checks import CHECKS, delivery_checks
from assets.days import day_assets
from assets.deliveries import delivery_assets
from medscribe_pipeline.cli.runner import SyncResult, _collect
from medscribe_pipeline.warehouse.reports import duplicates, orphans
from resources import WarehouseResource
from tests.assets.jobs import build, reported, run, sync
from tests.synced import DAYS

if TYPE_CHECKING:
    from tests.synced import Clinic

NOBODY = "00000000-0000-0000-0000-000000000000"
ORPHAN = "INSERT INTO note_sections (note_id, ordinal, text) VALUES (?, 0, 'x')"


def audit(clinic: Clinic, instance: dg.DagsterInstance, *more: dg.AssetChecksDefinition) -> dict[str, dict[str, Any]]:
    """Runs the checks alone; their figures by name, with `passed`."""
    checks = [*CHECKS, *more]
    job = dg.define_asset_job("audit", selection=dg.AssetSelection.checks(*checks))
    definitions = dg.Definitions(
        assets=[*day_assets(clinic.settings), *delivery_assets(clinic.settings)],
        asset_checks=checks,
        jobs=[job],
        resources={"warehouse": WarehouseResource()},
    )
    result = definitions.resolve_job_def("audit").execute_in_process(instance=instance)
    return {
        evaluation.check_name: {
            "passed": evaluation.passed,
            **{name: value.value for name, value in evaluation.metadata.items()},
        }
        for evaluation in result.get_asset_check_evaluations()
    }


def passed(found: dict[str, dict[str, Any]]) -> dict[str, bool]:
    return {name: facts["passed"] for name, facts in found.items()}


def failed(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, fact in passed(found).items() if not fact}


def test_a_healthy_warehouse_passes_with_its_figures(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    found = audit(clinic, instance)

    assert found == {
        "no_duplicate_keys": {"passed": True, "days": "all", "notes": 0, "server_ids": 0},
        "no_orphans": {"passed": True, "days": "all", "note_sections": 0, "fhir_documents": 0},
        "landed_is_accounted_for": {
            "passed": True,
            "days": len(DAYS),
            "landed": clinic.value("SELECT count(*) FROM source_records"),
            "wrong_days": "none",
        },
        "known_section_keys": {"passed": True, "days": "all", "keys_unknown": 0, "keys": "none"},
        "documents_may_leave": {
            "passed": True,
            "days": "all",
            "identifier_shared": 0,
            "identifier_foreign": 0,
            "unreviewed_as_final": 0,
        },
    }


def test_an_empty_warehouse_passes(empty_clinic: Clinic, instance: dg.DagsterInstance) -> None:
    found = audit(empty_clinic, instance)

    assert all(passed(found).values())
    assert found["landed_is_accounted_for"]["days"] == 0


def test_landed_records_nobody_has_mapped_yet_are_accounted_for(
    empty_clinic: Clinic, instance: dg.DagsterInstance
) -> None:
    sync(instance)

    assert all(passed(audit(empty_clinic, instance)).values())


def test_a_note_that_vanished_is_missed_on_its_day(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    note = clinic.note_ids()[0]
    day = clinic.value("SELECT visit_day FROM notes WHERE note_id = ?", note)
    sections = clinic.value("SELECT count(*) FROM note_sections WHERE note_id = ?", note)
    clinic.change("DELETE FROM notes WHERE note_id = ?", note)

    found = audit(clinic, instance)

    assert failed(found) == {"no_orphans", "landed_is_accounted_for"}
    assert found["landed_is_accounted_for"]["wrong_days"] == day
    assert found["no_orphans"]["note_sections"] == sections > 0
    assert found["no_orphans"]["fhir_documents"] == 3
    with clinic.open() as warehouse:
        by_day = {str(each): orphans(warehouse, [each]) for each in DAYS}
    assert by_day.pop(day) == {"note_sections": sections, "fhir_documents": 3}
    assert not any(number for counts in by_day.values() for number in counts.values())


def test_a_note_on_the_wrong_day_is_missed_on_the_right_one(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    wrong, right = DAYS[2].isoformat(), DAYS[1].isoformat()
    note = clinic.value("SELECT min(note_id) FROM notes WHERE visit_day = ?", right)
    clinic.change("UPDATE notes SET visit_day = ? WHERE note_id = ?", wrong, note)

    found = audit(clinic, instance)

    assert found["landed_is_accounted_for"]["passed"] is False
    assert found["landed_is_accounted_for"]["wrong_days"] == right


def test_a_quarantined_record_must_be_in_the_quarantine(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    world = clinic.sandbox.world
    note = clinic.value(
        "SELECT min(source_id) FROM notes WHERE provider = 'askara' AND visit_day = ?", DAYS[3].isoformat()
    )
    other = next(key for key in world.records("patients") if key != world.records("notes")[note]["patient"])
    world.edit_note(note)
    world.put("notes", note, {**world.records("notes")[note], "patient": other})
    sync(instance)
    build(instance, DAYS)
    assert all(passed(audit(clinic, instance)).values())

    clinic.change("DELETE FROM quarantine WHERE stage = 'map'")

    assert audit(clinic, instance)["landed_is_accounted_for"]["passed"] is False


@pytest.mark.parametrize("table", ["note_sections", "fhir_documents"])
def test_an_orphan_is_found_in_its_table(clinic: Clinic, instance: dg.DagsterInstance, table: str) -> None:
    rows = {"note_sections": "ordinal = 0", "fhir_documents": "kind = 'Composition'"}
    note = clinic.value(f"SELECT min(note_id) FROM {table}")  # noqa: S608 - one of two table names
    clinic.change(f"UPDATE {table} SET note_id = ? WHERE note_id = ? AND {rows[table]}", NOBODY, note)  # noqa: S608 - the same

    found = audit(clinic, instance)

    assert failed(found) == {"no_orphans"}
    assert found["no_orphans"][table] == 1


def test_a_record_that_became_two_notes_is_found(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    note = clinic.note_ids()[0]
    # The table forbids it, so the table has to go first.
    clinic.change("CREATE TABLE copied AS SELECT * FROM notes")
    clinic.change("DROP TABLE notes")
    clinic.change("ALTER TABLE copied RENAME TO notes")
    clinic.change("CREATE TABLE twin AS SELECT * FROM notes WHERE note_id = ?", note)
    clinic.change("UPDATE twin SET note_id = ?", NOBODY)
    clinic.change("INSERT INTO notes SELECT * FROM twin")

    found = audit(clinic, instance)

    assert failed(found) == {"no_duplicate_keys"}
    assert found["no_duplicate_keys"]["notes"] == 1
    clinic.change("UPDATE notes SET visit_day = ? WHERE note_id = ?", DAYS[3].isoformat(), NOBODY)
    clinic.change("UPDATE notes SET visit_day = ? WHERE note_id = ?", DAYS[1].isoformat(), note)
    with clinic.open() as warehouse:
        by_day = [duplicates(warehouse, [], [day])["notes"] for day in DAYS[:4]]
    assert by_day == [0, 1, 0, 1]


def test_a_document_on_the_ehr_that_belongs_to_two_notes_is_found(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    one_id = clinic.value("SELECT min(server_id) FROM deliveries WHERE kind = 'Composition'")
    other_id = clinic.value("SELECT max(server_id) FROM deliveries WHERE kind = 'Composition'")
    assert one_id != other_id
    clinic.change("UPDATE deliveries SET server_id = ? WHERE server_id = ?", one_id, other_id)

    found = audit(clinic, instance)

    assert passed(found)["no_duplicate_keys"] is False
    assert found["no_duplicate_keys"]["server_ids"] == 1


def test_a_key_the_mapping_does_not_know_is_a_warning(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    clinic.change("UPDATE note_sections SET key = 'VENDOR_NEWS' WHERE ordinal = 0")
    clinic.change("UPDATE note_sections SET key = 'said qxcanary' WHERE ordinal = 1")

    found = audit(clinic, instance)
    result = run(instance, "build_days", partition_key=DAYS[0].isoformat())

    assert failed(found) == {"known_section_keys"}
    assert found["known_section_keys"] == {
        "passed": False,
        "days": "all",
        "keys_unknown": 2,
        "keys": "VENDOR_NEWS, other",
    }
    warned = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert [(each.check_name, each.severity) for each in warned] == [("known_section_keys", dg.AssetCheckSeverity.WARN)]
    assert "qxcanary" not in repr(instance.all_logs(result.run_id))


def test_a_failed_check_does_not_stop_the_build(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    for day in DAYS[:2]:
        note = clinic.value("SELECT min(note_id) FROM fhir_documents WHERE visit_day = ?", day.isoformat())
        stray = uuid.uuid4().hex
        clinic.change("UPDATE fhir_documents SET note_id = ? WHERE note_id = ?", stray, note)
        clinic.change(ORPHAN, stray)

    result = run(instance, "build_days", partition_key=DAYS[0].isoformat())

    assert result.success
    assert {each.check_name: each.passed for each in result.get_asset_check_evaluations()} == {
        "no_duplicate_keys": True,
        "no_orphans": False,
        "landed_is_accounted_for": True,
        "known_section_keys": True,
        "documents_may_leave": True,
        "every_note_is_accounted_for": True,
        "stored_as_sent": True,
    }
    (found,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "no_orphans"]
    figures = {name: value.value for name, value in found.metadata.items()}
    assert figures == {"days": 1, "note_sections": 1, "fhir_documents": 3}


def test_a_document_that_must_not_leave_stops_the_delivery_and_nothing_else(
    clinic: Clinic, instance: dg.DagsterInstance
) -> None:
    first = DAYS[0].isoformat()
    drafts = "SELECT note_id FROM notes WHERE state = 'draft' AND visit_day = ?"
    final = "UPDATE fhir_documents SET resource = json_set(resource, '$.docStatus', 'final')"
    clinic.change(f"{final} WHERE kind = 'DocumentReference' AND note_id IN ({drafts})", first)
    drafted = len(clinic.rows(drafts, first))
    clinic.change("DELETE FROM deliveries WHERE visit_day = ?", first)

    result = run(instance, "build_days", partition_key=first)

    collected = SyncResult()
    _collect(result, collected)
    evaluations = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert not result.success
    assert {name for name, _ in reported(result)} == {
        "scribe_notes",
        "fhir_compositions",
        "fhir_document_references",
    }
    assert clinic.value("SELECT count(*) FROM deliveries WHERE visit_day = ?", first) == 0
    assert evaluations["documents_may_leave"].metadata["unreviewed_as_final"].value == drafted > 0
    assert [(each.step, each.code, each.exit_code) for each in collected.failures] == [
        ("documents_may_leave", "check_failed", 1)
    ]


def test_a_note_the_ledger_says_nothing_of_is_missed_on_its_day(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    note = clinic.value("SELECT min(note_id) FROM deliveries")
    day = clinic.value("SELECT visit_day FROM notes WHERE note_id = ?", note)
    notes = clinic.value("SELECT count(DISTINCT note_id) FROM fhir_documents")
    clinic.change("DELETE FROM deliveries WHERE note_id = ?", note)

    found = audit(clinic, instance, *delivery_checks(clinic.settings))

    assert found["every_note_is_accounted_for"] == {
        "passed": False,
        "days": len(DAYS),
        "notes": notes,
        "missing": 1,
        "wrong_days": day,
    }


def test_a_check_that_cannot_read_the_warehouse_tells_no_more_than_that(
    clinic: Clinic, instance: dg.DagsterInstance
) -> None:
    clinic.change("DROP TABLE note_sections")

    result = run(instance, "build_days", partition_key=DAYS[0].isoformat())

    log = repr(instance.all_logs(result.run_id))
    assert not result.success
    assert "SELECT" not in log
    assert "no such table" not in log
