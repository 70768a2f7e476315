"""Records that are gone, lost their payload, or hang on one that is: what mapping makes of their notes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.providers.build import build_notes, mapping_fingerprint
from medscribe_pipeline.settings import AskaraSettings
from medscribe_pipeline.warehouse.arrivals import SourceRecord
from medscribe_pipeline.warehouse.retention import prune
from medscribe_pipeline.warehouse.tables import notes, notes_history, quarantine, source_records
from medscribe_pipeline.warehouse.tombstones import land_tombstones
from tests.databases import NOW, TODAY, dump, landing_for, rows_of
from tests.medscribe_pipeline.providers.mapped import audio, note

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.arrivals import Landed
    from medscribe_pipeline.warehouse.store import Warehouse

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def land(warehouse: Warehouse, stream: str, payload: dict[str, Any], at: datetime = NOW, **changes: Any) -> Landed:
    record = SourceRecord(
        source_id=payload["uuid"],
        payload=payload,
        list_hash=f"list {payload['uuid']} {payload['updatedAt']}",
        updated_at=None,
        fetched_at=at,
        visited_at=NOW,
        **changes,
    )
    return landing_for(warehouse, "askara", stream).land([record], [], None, now=at)


def land_both(warehouse: Warehouse, at: datetime = NOW, **of_audio: Any) -> None:
    land(warehouse, "audios", audio(**of_audio), at)
    land(warehouse, "notes", note(), at, parent_id="a-1")


def build(warehouse: Warehouse, settings: Settings, at: datetime = NOW) -> None:
    build_notes(warehouse, settings, TODAY, clock=lambda: at)


def the_note(warehouse: Warehouse) -> dict[str, Any]:
    (row,) = rows_of(warehouse, notes)
    return row


def record_of(warehouse: Warehouse, source_id: str) -> dict[str, Any]:
    return next(row for row in rows_of(warehouse, source_records) if row["source_id"] == source_id)


def gone(warehouse: Warehouse, stream: str, source_id: str, at: datetime) -> set[Any]:
    return land_tombstones(warehouse, "askara", stream, {source_id: at}, run_id="run-3")


@pytest.mark.parametrize(("stream", "source_id"), [("notes", "n-1"), ("audios", "a-1")])
def test_a_tombstone_retracts_the_note_and_touches_its_day(
    warehouse: Warehouse, settings: Settings, stream: str, source_id: str
) -> None:
    land_both(warehouse)
    build(warehouse, settings)
    before, seq = the_note(warehouse), record_of(warehouse, "n-1")["change_seq"]

    touched = gone(warehouse, stream, source_id, NOW + HOUR)
    build(warehouse, settings, NOW + HOUR)

    after = the_note(warehouse)
    assert touched == {TODAY}
    assert (after["state"], after["attested"]) == ("retracted", False)
    assert after["version"] != before["version"]
    assert record_of(warehouse, "n-1")["change_seq"] > seq
    assert record_of(warehouse, source_id)["payload"] != {}
    # What amends it, should it come back, is told by what was validated last.
    assert after["validated_version"] == before["version"]


def test_the_same_tombstone_twice_changes_nothing(warehouse: Warehouse, settings: Settings) -> None:
    land_both(warehouse)
    gone(warehouse, "notes", "n-1", NOW + HOUR)
    build(warehouse, settings, NOW + HOUR)
    before = dump(warehouse)

    assert gone(warehouse, "notes", "n-1", NOW + 2 * HOUR) == set()
    build(warehouse, settings, NOW + 2 * HOUR)

    assert dump(warehouse) == before


def test_a_record_that_landed_after_the_question_is_not_gone(warehouse: Warehouse) -> None:
    land_both(warehouse, NOW + HOUR)

    assert gone(warehouse, "notes", "n-1", NOW + HOUR) == set()
    assert record_of(warehouse, "n-1")["gone_at"] is None


def test_a_page_asked_for_before_the_tombstone_does_not_undo_it(warehouse: Warehouse, settings: Settings) -> None:
    land_both(warehouse)
    build(warehouse, settings)
    gone(warehouse, "notes", "n-1", NOW + HOUR)

    landed = land(warehouse, "notes", note(content="Changed meanwhile."), NOW + HOUR / 2, parent_id="a-1")

    assert (landed.stale, landed.changed) == (1, 0)
    assert record_of(warehouse, "n-1")["gone_at"] == NOW + HOUR


def test_a_record_that_is_listed_again_lands_although_it_is_as_it_was(warehouse: Warehouse, settings: Settings) -> None:
    land_both(warehouse)
    build(warehouse, settings)
    before = the_note(warehouse)
    gone(warehouse, "notes", "n-1", NOW + HOUR)
    build(warehouse, settings, NOW + HOUR)

    assert landing_for(warehouse, "askara", "notes").known(["n-1"]) == {}
    landed = land(warehouse, "notes", note(), NOW + 2 * HOUR, parent_id="a-1")
    build(warehouse, settings, NOW + 2 * HOUR)

    assert landed.changed == 1
    assert record_of(warehouse, "n-1")["gone_at"] is None
    after = the_note(warehouse)
    assert (after["state"], after["version"]) == (before["state"], before["version"])


def test_a_record_that_is_gone_before_it_was_ever_mapped_is_accounted_for(
    warehouse: Warehouse, settings: Settings
) -> None:
    land_both(warehouse)
    gone(warehouse, "notes", "n-1", NOW + HOUR)

    build(warehouse, settings, NOW + HOUR)

    assert rows_of(warehouse, notes) == []
    assert [record_of(warehouse, "n-1")[name] for name in ("outcome", "outcome_code")] == ["held", "gone_at_provider"]


def test_another_mapping_leaves_what_is_gone_as_it_is(warehouse: Warehouse, settings: Settings) -> None:
    land_both(warehouse)
    build(warehouse, settings)
    gone(warehouse, "notes", "n-1", NOW + HOUR)
    build(warehouse, settings, NOW + HOUR)
    before = the_note(warehouse)

    build(warehouse, settings.model_copy(update={"timezone": "Europe/Paris"}), NOW + 2 * HOUR)

    assert the_note(warehouse) == before


@pytest.fixture
def short_lived(settings: Settings) -> Settings:
    return settings.model_copy(update={"payload_days": 30, "history_days": 0})


@pytest.fixture
def pruned(warehouse: Warehouse, short_lived: Settings) -> Settings:
    """A note whose payload is gone for its age; its audio keeps its own."""
    land_both(warehouse)
    build(warehouse, short_lived)
    assert prune(warehouse, short_lived, clock=lambda: NOW + 31 * DAY).source_records == 1
    assert (record_of(warehouse, "n-1")["payload"], record_of(warehouse, "a-1")["payload"] != {}) == ({}, True)
    return short_lived


def test_a_record_without_its_payload_is_recognised_when_it_comes_again(warehouse: Warehouse, pruned: Settings) -> None:
    before = dump(warehouse)

    known = landing_for(warehouse, "askara", "notes").known(["n-1"])
    landed = land(warehouse, "notes", note(), NOW + 32 * DAY, parent_id="a-1")
    build(warehouse, pruned, NOW + 32 * DAY)

    assert known["n-1"].list_hash == record_of(warehouse, "n-1")["list_hash"]
    assert (landed.unchanged, landed.changed, landed.new) == (1, 0, 0)
    assert dump(warehouse) == before


def test_a_changed_record_lands_with_its_payload(warehouse: Warehouse, pruned: Settings) -> None:
    land(warehouse, "notes", note(content="Plan:\nSomething else."), NOW + 32 * DAY, parent_id="a-1")
    build(warehouse, pruned, NOW + 32 * DAY)

    row = record_of(warehouse, "n-1")
    assert (row["payload"]["content"], row["payload_removed_at"]) == ("Plan:\nSomething else.", None)
    assert row["outcome"] == "note"


def test_another_mapping_leaves_notes_without_payload_as_they_are(warehouse: Warehouse, pruned: Settings) -> None:
    before = the_note(warehouse)

    build(warehouse, pruned.model_copy(update={"timezone": "Europe/Paris"}), NOW + 32 * DAY)

    assert the_note(warehouse) == before
    assert rows_of(warehouse, quarantine) == []


@pytest.mark.parametrize("how", ["archived", "gone", "own tombstone"])
def test_a_note_without_its_payload_can_still_be_withdrawn(warehouse: Warehouse, pruned: Settings, how: str) -> None:
    later = NOW + 32 * DAY
    if how == "archived":
        land(warehouse, "audios", audio(archivedAt="2026-04-01T08:00:00Z"), later)
    else:
        gone(warehouse, *(("audios", "a-1") if how == "gone" else ("notes", "n-1")), later)

    build(warehouse, pruned, later)

    assert the_note(warehouse)["state"] == "retracted"


def test_what_has_to_be_mapped_again_without_its_payload_waits_and_is_healed_by_pulling_it_again(
    warehouse: Warehouse, pruned: Settings
) -> None:
    later = NOW + 32 * DAY
    before = the_note(warehouse)
    land(warehouse, "audios", audio(audioWorkflowStepV3="transcribed", updatedAt="2026-04-01T08:00:00Z"), later)
    build(warehouse, pruned, later)
    waiting = [row["error_code"] for row in rows_of(warehouse, quarantine) if row["resolved_at"] is None]
    assert the_note(warehouse) == before

    assert landing_for(warehouse, "askara", "notes").known(["n-1"]).get("n-1") is None
    land(warehouse, "notes", note(), later, parent_id="a-1")
    build(warehouse, pruned, later)

    assert waiting == ["payload_removed"]
    assert [row for row in rows_of(warehouse, quarantine) if row["resolved_at"] is None] == []
    assert the_note(warehouse)["state"] == "draft"


def test_each_replaced_version_is_kept_with_what_it_said(warehouse: Warehouse, settings: Settings) -> None:
    land_both(warehouse)
    build(warehouse, settings)
    first = the_note(warehouse)
    for number in (1, 2):
        changed = note(content=f"Plan:\nSynthetic change {number}.", updatedAt=f"2026-03-02T0{number}:00:00Z")
        land(warehouse, "notes", changed, NOW + number * HOUR, parent_id="a-1")
        build(warehouse, settings, NOW + number * HOUR)

    one, two = rows_of(warehouse, notes_history)
    assert (one["version"], one["replaced_by"], one["state"]) == (first["version"], two["version"], first["state"])
    assert two["replaced_by"] == the_note(warehouse)["version"]
    assert [each["text"] for each in two["sections"]] == ["Synthetic change 1."]
    assert [(each["mapped_at"], each["replaced_at"]) for each in (one, two)] == [
        (NOW, NOW + HOUR),
        (NOW + HOUR, NOW + 2 * HOUR),
    ]
    assert one["created_at"] == first["created_at"]


def test_what_only_the_mapping_reads_otherwise_is_no_other_version(warehouse: Warehouse, settings: Settings) -> None:
    land_both(warehouse)
    build(warehouse, settings)
    before = the_note(warehouse)

    other = settings.model_copy(update={"askara": AskaraSettings(reviewed_steps=frozenset({"edition", "validated"}))})
    build(warehouse, other, NOW + HOUR)

    assert {row["mapped_with"] for row in rows_of(warehouse, source_records)} == {mapping_fingerprint(other)}
    # Read the same by the other mapping, it is not even written again.
    assert the_note(warehouse) == before
    assert rows_of(warehouse, notes_history) == []


def test_no_history_is_kept_where_nobody_wants_one(warehouse: Warehouse, settings: Settings) -> None:
    ours = settings.model_copy(update={"history_days": 0})
    land_both(warehouse)
    build(warehouse, ours)
    land(warehouse, "notes", note(content="Plan:\nAnother."), NOW + HOUR, parent_id="a-1")

    build(warehouse, ours, NOW + HOUR)

    assert rows_of(warehouse, notes_history) == []


def test_the_transcript_of_a_replaced_version_is_kept(warehouse: Warehouse, settings: Settings) -> None:
    def session(text: str, at: datetime) -> None:
        payload = {"id": 7, "title": "Synthetic", "note": text, "originalTranscript": f"said {text}"}
        record = SourceRecord(
            source_id="7",
            payload={**payload, "createdAt": "2026-03-02T08:00:00Z"},
            list_hash=text,
            updated_at=None,
            fetched_at=at,
            visited_at=NOW,
        )
        landing_for(warehouse, "audioscribe", "sessions").land([record], [], None, now=at)
        build(warehouse, settings, at)

    session("one", NOW)
    session("two", NOW + HOUR)

    (kept,) = rows_of(warehouse, notes_history)
    assert [turn["text"] for turn in kept["transcript"]] == ["said one"]
    with warehouse.read() as connection:
        without = sa.select(sa.func.count()).select_from(notes_history).where(notes_history.c.transcript.is_(None))
        assert connection.scalar(without) == 0
