"""The assets of a visit day: reported day by day, rebuilt on their own, idempotent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from medscribe_pipeline.pipeline import due_days
from tests.assets.jobs import build, failures, reported, run, sync
from tests.synced import CLOSED_PORT, DAYS, tables_of

if TYPE_CHECKING:
    from tests.synced import Clinic

STAGES = ("scribe_notes", "fhir_compositions", "fhir_document_references", "ehr_deliveries")

NOTES_FACTS = {
    "dagster/row_count",
    "landed",
    "looked_at",
    "draft",
    "validated",
    "retracted",
    "failed",
    "held",
    "held_why",
    "quarantined",
    "quarantined_why",
    "unknown_headings",
}
DOCUMENT_FACTS = {
    "dagster/row_count",
    "built",
    "without_document",
    "without_why",
    "forms_left_out",
    "quarantined",
    "quarantined_why",
}
COMPOSITION_FACTS = DOCUMENT_FACTS | {"keys_seen", "keys_mapped", "keys_unknown", "coverage"}
DELIVERY_FACTS = {
    "dagster/row_count",
    "target",
    "delivered",
    "already_delivered",
    "planned",
    "in_flight",
    "held",
    "held_why",
    "rejected",
    "rejected_why",
    "unknown",
    "unknown_why",
    "discarded",
    "left_for_next_run",
    "requests",
    "read_back",
    "changed",
    "run",
}
LATENCY = {"latency_median_s", "latency_p95_s"}


def due(clinic: Clinic) -> list[str]:
    with clinic.open() as warehouse:
        return [day.isoformat() for day, _ in due_days(warehouse, clinic.settings)]


def test_a_range_of_days_reports_each_day(empty_clinic: Clinic, instance: dg.DagsterInstance) -> None:
    sync(instance)

    result = build(instance, DAYS)

    figures = reported(result)
    assert result.success
    assert set(figures) == {(name, day.isoformat()) for name in STAGES for day in DAYS}
    for (name, _), facts in figures.items():
        expected = {
            "scribe_notes": NOTES_FACTS,
            "fhir_compositions": COMPOSITION_FACTS,
            "ehr_deliveries": DELIVERY_FACTS,
        }
        assert set(facts) - LATENCY == expected.get(name, DOCUMENT_FACTS)
    assert due(empty_clinic) == []


def test_the_figures_of_a_day_are_those_of_the_warehouse(empty_clinic: Clinic, instance: dg.DagsterInstance) -> None:
    sync(instance)

    figures = reported(build(instance, DAYS))

    rows = empty_clinic.rows
    notes = dict(rows("SELECT visit_day, count(*) FROM notes GROUP BY 1"))
    landed = dict(rows("SELECT visit_day, count(*) FROM source_records GROUP BY 1"))
    validated = dict(rows("SELECT visit_day, count(*) FROM notes WHERE state = 'validated' GROUP BY 1"))
    compositions = dict(rows("SELECT visit_day, count(*) FROM fhir_documents WHERE kind = 'Composition' GROUP BY 1"))
    delivered = dict(
        rows(
            "SELECT visit_day, count(*) FROM deliveries"
            " WHERE state = 'delivered' AND kind = 'DocumentReference' GROUP BY 1"
        )
    )
    for day in map(str, DAYS):
        assert figures["scribe_notes", day]["dagster/row_count"] == notes[day] > 0
        assert figures["scribe_notes", day]["landed"] == landed[day]
        assert figures["scribe_notes", day]["validated"] == validated.get(day, 0)
        assert figures["fhir_compositions", day]["dagster/row_count"] == compositions[day]
        assert figures["ehr_deliveries", day]["delivered"] == delivered.get(day, 0)
    assert sum(delivered.values()) > 0


def test_a_day_shows_which_section_keys_the_mapping_covers(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    first = DAYS[0].isoformat()
    of_day = "note_id IN (SELECT note_id FROM notes WHERE visit_day = ?)"
    clinic.change(f"UPDATE note_sections SET key = 'said qxcanary' WHERE ordinal = 0 AND {of_day}", first)  # noqa: S608 - a constant
    # Only the documents are built: mapping the notes again would put the keys back.
    before = clinic.rows(f"SELECT key, count(*) FROM note_sections WHERE {of_day} GROUP BY 1", first)  # noqa: S608 - the same

    keys = [dg.AssetKey("fhir_compositions"), dg.AssetKey("fhir_document_references")]
    result = run(instance, "build_days", partition_key=first, asset_selection=keys)

    facts = reported(result)["fhir_compositions", first]
    rows = [record.data for record in facts["coverage"].records]
    assert facts["keys_unknown"] == 1
    assert facts["keys_seen"] == facts["keys_mapped"] + 1 == len([key for key, _ in before if key])
    assert sum(row["sections"] for row in rows) == sum(number for _, number in before)
    assert {row["key"] for row in rows if row["treatment"] == "unknown"} == {"other"}
    assert "qxcanary" not in repr(instance.all_logs(result.run_id))


def test_codes_say_why_most_frequent_first(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    first = DAYS[0].isoformat()
    held = dict(
        clinic.rows(
            "SELECT reason, count(*) FROM deliveries"
            " WHERE state = 'held' AND kind = 'DocumentReference' AND visit_day = ? GROUP BY 1",
            first,
        )
    )

    facts = reported(build(instance, DAYS[:1]))["ehr_deliveries", first]

    ranked = sorted(held.items(), key=lambda item: (-item[1], item[0]))
    assert facts["held"] == sum(held.values()) > 0
    assert facts["held_why"] == ", ".join(f"{code} {number}" for code, number in ranked)
    assert facts["rejected_why"] == "-"


def test_building_days_again_changes_no_table_and_sends_nothing(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    before = tables_of(clinic.database)
    clinic.sandbox.stats.reset()

    result = build(instance, DAYS)

    assert result.success
    assert tables_of(clinic.database) == before
    assert [path for path in clinic.sandbox.stats.requests if not path.startswith("GET ")] == []
    assert {facts["delivered"] for (name, _), facts in reported(result).items() if name == "ehr_deliveries"} == {0}


def test_one_day_is_built_on_its_own(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    world = clinic.sandbox.world
    ours = {day: _askara_note_of(clinic, day.isoformat()) for day in (DAYS[1], DAYS[2])}
    for key in ours.values():
        world.edit_note(key)
    sync(instance)
    before = tables_of(clinic.database)

    result = run(instance, "build_days", partition_key=DAYS[1].isoformat())

    after = tables_of(clinic.database)
    changed = {row for row in after["notes"] if row not in before["notes"]}
    assert {key for key, day in reported(result)} == set(STAGES)
    assert {day for key, day in reported(result)} == {DAYS[1].isoformat()}
    assert len(changed) == 1
    assert ours[DAYS[1]] in changed.pop()
    assert due(clinic) == [DAYS[2].isoformat()]


def test_a_day_nothing_landed_on_is_built_without_complaint(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    before = tables_of(clinic.database)

    result = run(instance, "build_days", partition_key="2026-01-02")

    assert result.success
    assert reported(result)["scribe_notes", "2026-01-02"]["landed"] == 0
    assert tables_of(clinic.database) == before


def test_without_an_ehr_a_day_is_done_when_its_documents_are(
    empty_clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MEDSCRIBE_EHR_BASE_URL", "MEDSCRIBE_EHR_TOKEN"):
        monkeypatch.delenv(name)
    sync(instance)
    assert due(empty_clinic) == [day.isoformat() for day in DAYS]

    result = build(instance, DAYS)

    assert {name for name, _ in reported(result)} == set(STAGES) - {"ehr_deliveries"}
    assert due(empty_clinic) == []


def test_an_ehr_that_is_down_leaves_notes_and_documents_built_and_the_days_due(
    empty_clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_EHR_BASE_URL", CLOSED_PORT)
    monkeypatch.setenv("MEDSCRIBE_EHR_MAX_ATTEMPTS", "1")
    sync(instance)

    result = build(instance, DAYS)

    told = failures(result)
    assert list(told) == ["ehr_deliveries"]
    assert told["ehr_deliveries"]["exit_code"] == 3
    assert {name for name, _ in reported(result)} >= set(STAGES) - {"ehr_deliveries"}
    assert len(due(empty_clinic)) > 0


def test_an_exception_while_mapping_is_told_without_its_words(
    empty_clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise KeyError("qxcanary: the patient's own words")

    sync(instance)
    monkeypatch.setattr("assets.days.build_notes_of", stumble)

    result = build(instance, DAYS)

    assert failures(result)["scribe_notes"]["code"] == "unexpected"
    assert "qxcanary" not in repr(instance.all_logs(result.run_id))
    assert due(empty_clinic) == [day.isoformat() for day in DAYS]


def test_a_payload_that_breaks_the_mapping_is_quarantined_and_the_rest_goes_on(
    empty_clinic: Clinic, instance: dg.DagsterInstance
) -> None:
    world = empty_clinic.sandbox.world
    note = _clean_notes(empty_clinic)[0]
    other = next(key for key in world.records("patients") if key != world.records("notes")[note]["patient"])
    world.put("notes", note, {**world.records("notes")[note], "patient": other})
    sync(instance)

    result = build(instance, DAYS)

    facts = [facts for (name, _), facts in reported(result).items() if name == "scribe_notes"]
    assert result.success
    assert sum(each["quarantined"] for each in facts) == 1
    assert "patient_conflict 1" in {each["quarantined_why"] for each in facts}
    assert sum(each["dagster/row_count"] for each in facts) == len(empty_clinic.note_ids()) > 10


@pytest.mark.parametrize("policy", ["single_run", "multi_run"])
def test_a_single_day_is_built_under_either_backfill_policy(
    empty_clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setenv("MEDSCRIBE_BACKFILL", policy)
    sync(instance)

    result = run(instance, "build_days", partition_key=DAYS[0].isoformat())

    assert result.success
    assert due(empty_clinic) == [day.isoformat() for day in DAYS[1:]]


def _clean_notes(clinic: Clinic) -> list[str]:
    world = clinic.sandbox.world
    audios = world.records("audios")
    return [
        key
        for key, note in world.records("notes").items()
        if "_defect" not in note and note["audio"] in audios and "_defect" not in audios[note["audio"]]
    ]


def _askara_note_of(clinic: Clinic, day: str) -> str:
    """An Askara note of a visit day, by its id at the provider."""
    query = "SELECT min(source_id) FROM notes WHERE provider = 'askara' AND visit_day = ?"
    return str(clinic.value(query, day))
