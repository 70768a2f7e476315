"""Landed records into notes: every record is accounted for, and mapped again only when something changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.notes import NoteState, stable_id
from medscribe_pipeline.providers import build
from medscribe_pipeline.providers.build import NotesReport, build_notes, count_due, mapping_fingerprint
from medscribe_pipeline.settings import AskaraSettings, AudioScribeSettings, FhirSettings
from medscribe_pipeline.visits import VisitRow
from medscribe_pipeline.warehouse.arrivals import SourceRecord
from medscribe_pipeline.warehouse.manifest import import_visits
from medscribe_pipeline.warehouse.notes import read_notes
from medscribe_pipeline.warehouse.reports import day_balances
from medscribe_pipeline.warehouse.tables import notes, quarantine, source_records
from tests.databases import DAYS, NOW, TODAY, dump, landing_for, rows_of
from tests.medscribe_pipeline.providers.mapped import audio, note, session

if TYPE_CHECKING:
    from datetime import date

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

DAY = timedelta(days=1)
SEEN = count(1)


def land(
    warehouse: Warehouse,
    provider: str,
    stream: str,
    source_id: str,
    payload: dict[str, Any],
    *,
    parent_id: str | None = None,
    visited_at: datetime = NOW,
) -> None:
    """As the pull would: the newest of what was landed wins."""
    seen = next(SEEN)
    record = SourceRecord(
        source_id=source_id,
        payload=payload,
        list_hash=f"list {seen}",
        updated_at=None,
        fetched_at=NOW + timedelta(seconds=seen),
        visited_at=visited_at,
        parent_id=parent_id,
    )
    landing_for(warehouse, provider, stream).land([record], [], None, now=NOW)


def land_audio(warehouse: Warehouse, number: int = 1, **changes: Any) -> None:
    source_id = f"a-{number}"
    land(warehouse, "askara", "audios", source_id, audio(uuid=source_id, **changes))


def land_note(warehouse: Warehouse, number: int = 1, **changes: Any) -> None:
    source_id, parent_id = f"n-{number}", f"a-{number}"
    payload = note(uuid=source_id, audio=f"/audios/{parent_id}", **changes)
    land(warehouse, "askara", "notes", source_id, payload, parent_id=parent_id)


def land_session(warehouse: Warehouse, number: int = 1, **changes: Any) -> None:
    land(warehouse, "audioscribe", "sessions", str(number), session(id=number, **changes))


def run(warehouse: Warehouse, settings: Settings, day: date = TODAY, at: datetime = NOW) -> NotesReport:
    return build_notes(warehouse, settings, day, clock=lambda: at, run_id="run-2")


def outcomes(warehouse: Warehouse) -> dict[str, tuple[str | None, str | None]]:
    return {row["source_id"]: (row["outcome"], row["outcome_code"]) for row in rows_of(warehouse, source_records)}


def states(warehouse: Warehouse) -> dict[str, str]:
    return {row["source_id"]: row["state"] for row in rows_of(warehouse, notes)}


def open_codes(warehouse: Warehouse) -> dict[str, str]:
    return {row["source_id"]: row["error_code"] for row in rows_of(warehouse, quarantine) if row["resolved_at"] is None}


def due(warehouse: Warehouse, settings: Settings) -> int:
    with warehouse.read() as connection:
        return count_due(connection, warehouse.account, TODAY, mapping_fingerprint(settings))


@pytest.fixture
def busy_day(warehouse: Warehouse) -> Warehouse:
    """One record of each fate."""
    land_audio(warehouse, 1)
    land_note(warehouse, 1)
    land_audio(warehouse, 2, audioWorkflowStepV3="transcription")
    land_audio(warehouse, 3)
    land_note(warehouse, 3, patient="somebody-else")
    land_audio(warehouse, 4)
    land_note(warehouse, 4, content=" ")
    land_session(warehouse, 5)
    land_session(warehouse, 6, createdAt="never")
    return warehouse


def test_every_landed_record_is_accounted_for(busy_day: Warehouse, settings: Settings) -> None:
    before = due(busy_day, settings)
    report = run(busy_day, settings)

    assert (before, due(busy_day, settings)) == (9, 0)
    assert outcomes(busy_day) == {
        "a-1": ("part", "text_in_note"),
        "n-1": ("note", None),
        "a-2": ("held", "not_transcribed_yet"),
        "a-3": ("part", "text_in_note"),
        "n-3": ("quarantined", "patient_conflict"),
        "a-4": ("part", "text_in_note"),
        "n-4": ("held", "empty_note"),
        "5": ("note", None),
        "6": ("quarantined", "wire_model"),
    }
    assert (report.landed, report.looked_at, report.notes, report.parts) == (9, 9, 2, 3)
    assert report.held == {"not_transcribed_yet": 1, "empty_note": 1}
    assert report.quarantined == {"patient_conflict": 1, "wire_model": 1}
    assert report.landed == report.notes + report.parts + report.held.total() + report.quarantined.total()
    assert report.states == {"validated": 2, "draft": 1}
    (balance,) = day_balances(busy_day)
    assert balance.balanced
    assert (balance.notes, balance.waiting) == (2, 0)


def test_what_cannot_be_mapped_is_in_quarantine_without_a_second_copy(busy_day: Warehouse, settings: Settings) -> None:
    run(busy_day, settings)

    found = {row["source_id"]: row for row in rows_of(busy_day, quarantine)}
    assert set(found) == {"n-3", "6"}
    assert found["6"]["field_paths"] == ["createdAt:value_error"]
    assert found["n-3"]["field_paths"] == ["patient", "audio.patient"]
    for row in found.values():
        assert (row["stage"], row["payload"], row["visit_day"], row["run_id"]) == ("map", None, TODAY, "run-2")


def test_a_second_build_writes_nothing(busy_day: Warehouse, settings: Settings) -> None:
    first = run(busy_day, settings)
    before = dump(busy_day)

    second = run(busy_day, settings, at=NOW + DAY)

    assert dump(busy_day) == before
    assert second.looked_at == 0
    assert (second.landed, second.notes, second.held) == (first.landed, first.notes, first.held)


def test_only_what_changed_is_mapped_again(busy_day: Warehouse, settings: Settings) -> None:
    run(busy_day, settings)
    land_session(busy_day, 5, note="Plan: more rest")

    report = run(busy_day, settings, at=NOW + DAY)

    assert report.looked_at == 1
    mapped = {row["source_id"]: row["mapped_at"] for row in rows_of(busy_day, notes)}
    assert mapped == {"n-1": NOW, "n-4": NOW, "5": NOW + DAY}


def test_a_note_that_can_be_mapped_leaves_the_quarantine(busy_day: Warehouse, settings: Settings) -> None:
    run(busy_day, settings)
    land_note(busy_day, 3)
    land_session(busy_day, 6)

    report = run(busy_day, settings, at=NOW + DAY)

    assert open_codes(busy_day) == {}
    assert report.quarantined == {}
    assert {row["resolved_at"] for row in rows_of(busy_day, quarantine)} == {NOW + DAY}
    assert {"n-3", "6"} <= set(states(busy_day))


def test_a_note_that_cannot_be_mapped_any_more_keeps_its_last_good_version(
    warehouse: Warehouse, settings: Settings
) -> None:
    land_session(warehouse, 1)
    run(warehouse, settings)
    land_session(warehouse, 1, createdAt="never")

    report = run(warehouse, settings)

    assert open_codes(warehouse) == {"1": "wire_model"}
    assert states(warehouse) == {"1": "draft"}
    assert (report.notes, report.quarantined) == (0, {"wire_model": 1})
    assert all(balance.balanced for balance in day_balances(warehouse))


def test_a_changed_audio_changes_its_note(warehouse: Warehouse, settings: Settings) -> None:
    land_audio(warehouse, audioWorkflowStepV3="edition")
    land_note(warehouse)
    run(warehouse, settings)
    assert states(warehouse) == {"n-1": "draft"}

    land_audio(warehouse, audioWorkflowStepV3="validated")
    run(warehouse, settings)
    assert states(warehouse) == {"n-1": "validated"}

    land_audio(warehouse, archivedAt="2026-03-02T10:00:00Z")
    run(warehouse, settings)
    assert states(warehouse) == {"n-1": "retracted"}


def test_an_audio_stops_waiting_when_its_note_arrives(warehouse: Warehouse, settings: Settings) -> None:
    land_audio(warehouse)
    run(warehouse, settings)
    assert outcomes(warehouse)["a-1"] == ("held", "no_note_yet")

    land_note(warehouse)
    run(warehouse, settings)

    assert outcomes(warehouse)["a-1"] == ("part", "text_in_note")


def test_the_order_of_arrival_makes_no_difference(warehouse: Warehouse, settings: Settings) -> None:
    land_note(warehouse, 1)
    run(warehouse, settings)
    land_audio(warehouse, 1)
    land_audio(warehouse, 2)
    run(warehouse, settings)
    land_note(warehouse, 2)
    run(warehouse, settings)

    assert set(outcomes(warehouse).values()) == {("part", "text_in_note"), ("note", None)}
    assert states(warehouse) == {"n-1": "validated", "n-2": "validated"}


def test_the_manifest_reaches_the_notes(warehouse: Warehouse, settings: Settings) -> None:
    land_session(warehouse, 1)
    run(warehouse, settings)
    visit = VisitRow(
        provider="audioscribe", correlation_key="1", patient_id="p-9", started_at=datetime(2026, 3, 1, 7, tzinfo=UTC)
    )
    import_visits(warehouse, [visit], days=DAYS, now=NOW)

    old_day, new_day = run(warehouse, settings), run(warehouse, settings, TODAY - DAY)

    (row,) = rows_of(warehouse, notes)
    assert (row["patient_id"], row["visit_day"]) == ("p-9", TODAY - DAY)
    assert (old_day.landed, old_day.notes, new_day.landed, new_day.notes) == (0, 0, 1, 1)


def test_the_manifest_of_an_audio_reaches_its_note(warehouse: Warehouse, settings: Settings) -> None:
    land_audio(warehouse, patient=None)
    land_note(warehouse, patient=None)
    visit = VisitRow(provider="askara", correlation_key="a-1", patient_id="p-9")
    import_visits(warehouse, [visit], days=DAYS, now=NOW)

    run(warehouse, settings)

    assert rows_of(warehouse, notes)[0]["patient_id"] == "p-9"


@pytest.mark.parametrize(
    "changes",
    [
        {"timezone": "Europe/Paris"},
        {"fhir": FhirSettings(base_uri="https://hospital.example/fhir")},
        {"audioscribe": AudioScribeSettings(reviewed=True)},
        {"askara": AskaraSettings(patient_system="urn:oid:1.2.3")},
        {"askara": AskaraSettings(reviewed_steps=("validated", "edition"))},
    ],
)
def test_another_mapping_maps_everything_again(
    busy_day: Warehouse, settings: Settings, changes: dict[str, Any]
) -> None:
    run(busy_day, settings)
    other = settings.model_copy(update=changes)

    assert mapping_fingerprint(other) != mapping_fingerprint(settings)
    assert due(busy_day, other) == 9
    assert run(busy_day, other).looked_at == 9
    assert due(busy_day, other) == 0


def test_another_version_of_the_code_maps_everything_again(
    busy_day: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(busy_day, settings)
    monkeypatch.setattr(build, "CODE_VERSION", "another")

    assert run(busy_day, settings).looked_at == 9


def test_settings_that_map_nothing_differently_map_nothing_again(settings: Settings) -> None:
    other = settings.model_copy(update={"lookback_s": 1, "schedule": "0 * * * *", "first_day": TODAY})

    assert mapping_fingerprint(other) == mapping_fingerprint(settings)


def test_a_build_that_dies_between_batches_is_finished_by_the_next(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BATCH", 2)
    for number in range(1, 6):
        land_session(warehouse, number)
    calls = 0

    def clock() -> datetime:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return NOW

    with pytest.raises(KeyboardInterrupt):
        build_notes(warehouse, settings, TODAY, clock=clock)
    half = len(states(warehouse))
    report = run(warehouse, settings)

    assert (half, report.looked_at, report.notes) == (4, 1, 5)


def test_a_batch_is_written_whole_or_not_at_all(busy_day: Warehouse, settings: Settings) -> None:
    before = dump(busy_day)

    def refuse(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO quarantine"):
            raise ZeroDivisionError

    sa.event.listen(busy_day.engine, "before_cursor_execute", refuse)
    try:
        with pytest.raises(ZeroDivisionError):
            run(busy_day, settings)
    finally:
        sa.event.remove(busy_day.engine, "before_cursor_execute", refuse)

    assert dump(busy_day) == before


def test_days_are_built_on_their_own(warehouse: Warehouse, settings: Settings) -> None:
    land_session(warehouse, 1)
    land(warehouse, "audioscribe", "sessions", "2", session(id=2), visited_at=NOW - DAY)

    report = run(warehouse, settings)

    assert (report.landed, set(states(warehouse))) == (1, {"1"})


def test_an_account_sees_only_its_own(warehouse: Warehouse, settings: Settings) -> None:
    land_session(warehouse, 1)
    other = settings.model_copy(update={"account": "other"})
    warehouse.account = "other"

    assert run(warehouse, other).landed == 0


def test_the_stored_note_is_the_mapped_one(warehouse: Warehouse, settings: Settings) -> None:
    land_audio(warehouse)
    land_note(warehouse)
    run(warehouse, settings)

    note_id = stable_id("askara", "default", "n-1", "note")
    with warehouse.read() as connection:
        (found,) = read_notes(connection, [str(note_id)])

    assert found.note.note_id == note_id
    assert found.note.state is NoteState.VALIDATED
    assert [section.text for section in found.note.sections] == ["toux", "Repos"]
    assert found.visit_day == TODAY
    assert found.source_seq == 2


def test_unrecognised_headings_are_counted(warehouse: Warehouse, settings: Settings) -> None:
    land_session(warehouse, 1, note="# Horoscope\nGood stars.\n\n# Plan\nRest")

    assert run(warehouse, settings).unknown_headings == 1
