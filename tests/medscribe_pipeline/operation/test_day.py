"""A visit day counted from rows laid out by hand, on both databases, and the verdict on it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.operation.day import day_bounds
from medscribe_pipeline.operation.day_json import day_json, flow_markdown
from medscribe_pipeline.operation.reasons import Act, Kind
from medscribe_pipeline.operation.verdict import judge, together
from medscribe_pipeline.providers.own_counts import OwnCount
from medscribe_pipeline.warehouse.tables import (
    inbox,
    quarantine,
    scribe_jobs,
    source_records,
    sync_cursors,
    visit_days,
    visits,
)
from tests.databases import NOW
from tests.medscribe_pipeline.operation.laid import CANARY, DAY, LATER, Rows, day_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

Key = tuple[Kind, str | None, int]


@pytest.fixture
def rows(warehouse: Warehouse) -> Rows:
    return Rows(warehouse)


def gaps(report: Any) -> set[Key]:
    return {(gap.kind, gap.code, gap.count) for gap in report.gaps}


# Complete


def test_a_day_on_which_everything_went_all_the_way_is_complete(
    rows: Rows, warehouse: Warehouse, settings: Settings
) -> None:
    rows.read_to_the_end()
    rows.delivered()
    rows.delivered(provider="audioscribe", stream="sessions")

    report = day_of(warehouse, settings)

    verdict = judge(report)
    assert report.gaps == []
    assert (verdict.complete, verdict.needs_person, verdict.commands) == (True, False, ())
    assert verdict.sentence == (
        "2026-03-02 is complete: 2 records landed, 2 notes, 2 delivered to ehr, and everything else is accounted for."
    )


def test_a_day_on_which_nothing_happened_is_complete_once_everything_was_read(
    rows: Rows, warehouse: Warehouse, settings: Settings
) -> None:
    rows.read_to_the_end()

    verdict = judge(day_of(warehouse, settings))

    assert verdict.complete
    assert "nothing happened on it" in verdict.sentence


@pytest.mark.parametrize("until", [None, NOW])
def test_a_day_is_not_complete_while_a_stream_was_not_read_since_it_ended(
    rows: Rows, warehouse: Warehouse, settings: Settings, until: datetime | None
) -> None:
    if until is not None:
        rows.read_to_the_end(until)

    report = day_of(warehouse, settings)

    assert gaps(report) == {(Kind.UNREAD, "audios", 1), (Kind.UNREAD, "notes", 1)}
    assert judge(report).sentence == (
        "2026-03-02 is not complete: 2 streams not read since the day ended. It goes on by itself; `medscribe sync` "
        "does it now."
    )


def test_a_watermark_beyond_the_day_says_that_it_was_read(rows: Rows, warehouse: Warehouse, settings: Settings) -> None:
    for stream in ("audios", "notes"):
        rows.put(sync_cursors, provider="askara", stream=stream, watermark=LATER)

    assert all(stream.is_past for stream in day_of(warehouse, settings).streams)


def test_a_day_that_is_not_over_is_never_complete(rows: Rows, warehouse: Warehouse, settings: Settings) -> None:
    rows.read_to_the_end()
    rows.delivered()

    verdict = judge(day_of(warehouse, settings, now=NOW + timedelta(minutes=1)))

    assert not verdict.complete
    assert verdict.sentence == "2026-03-02 is not over yet, and nothing of it waits so far."


# What is missing


def test_every_place_a_record_can_stop_at_is_told_with_its_reason(
    rows: Rows, warehouse: Warehouse, settings: Settings
) -> None:
    rows.put(source_records, source_id="a", outcome="held", outcome_code="no_note_yet")
    rows.put(source_records, source_id="b", outcome="held", outcome_code="empty_note")
    rows.put(source_records, source_id="c", mapped_seq=None, outcome=None)
    rows.put(source_records, source_id="d", outcome="part", outcome_code="text_in_note")
    rows.put(source_records, source_id="e", outcome="quarantined", outcome_code="wire_model")
    rows.put(quarantine, source_id="e")
    rows.note(documents=False)

    report = day_of(warehouse, settings)

    assert gaps(report) >= {
        (Kind.RECORD, "no_note_yet", 1),
        (Kind.RECORD, "empty_note", 1),
        (Kind.UNMAPPED, None, 1),
        (Kind.QUARANTINED, "wire_model", 1),
        (Kind.UNBUILT, None, 1),
    }
    askara = report.providers["askara"]
    assert askara.landed == 6
    assert askara.records == Counter(held=2, waiting=1, part=1, quarantined=1, note=1)
    assert askara.documents == Counter(waiting=1)


def test_notes_stand_on_each_target_in_the_state_of_their_newest_version(
    rows: Rows, warehouse: Warehouse, settings: Settings
) -> None:
    rows.delivered()
    rows.delivery(rows.note(), state="held", reason="not_validated")
    rows.delivery(rows.note(), state="held", reason="not_validated")
    rows.delivery(rows.note(), state="rejected", reason="refused")
    rows.delivery(rows.note(), state="unknown", reason="timeout")
    rows.note()
    amended = rows.note()
    rows.delivery(amended, version="v1", state="unknown", reason="disconnected", source_seq=1)
    rows.delivery(amended, state="planned")

    report = day_of(warehouse, settings)

    assert report.providers["askara"].deliveries["ehr"] == Counter(
        delivered=1, held=2, rejected=1, unknown=1, planned=2
    )
    assert gaps(report) >= {
        (Kind.HELD, "not_validated", 2),
        (Kind.REJECTED, "refused", 1),
        (Kind.UNKNOWN, "timeout", 1),
        (Kind.UNKNOWN, "disconnected", 1),
        (Kind.ON_ITS_WAY, None, 2),
    }


def test_a_note_in_quarantine_is_one_gap_and_not_two(rows: Rows, warehouse: Warehouse, settings: Settings) -> None:
    rows.read_to_the_end()
    rows.note(documents=False, source_id="n")
    rows.put(quarantine, stage="fhir", source_id="n", error_code="cmp-1")

    report = day_of(warehouse, settings)

    assert gaps(report) == {(Kind.QUARANTINED, "cmp-1", 1)}
    assert report.providers["askara"].documents == Counter(quarantined=1)


@pytest.mark.parametrize(
    ("first_seen_at", "counts"), [(NOW, True), (NOW - timedelta(days=2), False)], ids=["since the day", "before it"]
)
def test_what_cannot_be_read_may_be_of_any_day_before_it_was_seen(
    rows: Rows, warehouse: Warehouse, settings: Settings, first_seen_at: datetime, counts: bool
) -> None:
    rows.read_to_the_end()
    rows.put(
        quarantine, stage="extract", visit_day=None, source_id="x", error_code="no_id", first_seen_at=first_seen_at
    )

    report = day_of(warehouse, settings)

    assert gaps(report) == ({(Kind.MAYBE_QUARANTINED, "no_id", 1)} if counts else set())


def test_what_is_resolved_or_of_another_day_is_no_gap(rows: Rows, warehouse: Warehouse, settings: Settings) -> None:
    rows.read_to_the_end()
    rows.put(quarantine, source_id="a", resolved_at=NOW)
    rows.put(quarantine, source_id="b", visit_day=DAY - timedelta(days=1))
    rows.put(source_records, source_id="c", visit_day=DAY + timedelta(days=1), mapped_seq=None)
    rows.put(source_records, source_id="d", account="north", mapped_seq=None)

    assert day_of(warehouse, settings).gaps == []


def test_jobs_are_of_the_day_of_their_visit(rows: Rows, warehouse: Warehouse, settings: Settings) -> None:
    rows.read_to_the_end()
    for number, (state, code) in enumerate(
        [("running", "timeout"), ("failed", "FILE_INVALID"), ("unknown", "timeout"), ("fetched", None)]
    ):
        rows.put(visits, provider="nabla", correlation_key=f"v{number}", started_at=NOW)
        # Wanted later than the visit was: by a manifest that came the day after.
        job = {"correlation_key": f"v{number}", "job_key": f"v{number}/t", "client_request_id": f"r{number}"}
        rows.put(scribe_jobs, **job, state=state, code=code, wanted_at=NOW + timedelta(days=1))
    refused = {"correlation_key": "v9", "job_key": "v9/visit", "client_request_id": "r9", "step": "visit"}
    rows.put(scribe_jobs, **refused, state="cancelled", code="audio_missing", submissions=0)

    report = day_of(warehouse, settings)

    assert gaps(report) == {
        (Kind.JOB_OPEN, None, 1),
        (Kind.JOB_STOPPED, "FILE_INVALID", 1),
        (Kind.JOB_UNKNOWN, "timeout", 1),
        (Kind.JOB_REFUSED, "audio_missing", 1),
    }
    assert report.providers["nabla"].jobs == Counter(running=1, failed=1, unknown=1, fetched=1)


def test_a_recording_the_manifest_names_and_the_provider_has_not_shown_is_expected(
    rows: Rows, warehouse: Warehouse, settings: Settings
) -> None:
    rows.read_to_the_end()
    rows.put(visits, correlation_key="shown")
    rows.put(visits, correlation_key="audio-of-a-note")
    rows.put(visits, correlation_key="not-shown")
    rows.put(visits, correlation_key="of-another-day", started_at=NOW + timedelta(days=3))
    rows.put(source_records, source_id="shown", outcome="part")
    rows.put(source_records, source_id="child", parent_id="audio-of-a-note", outcome="part")

    assert gaps(day_of(warehouse, settings)) == {(Kind.EXPECTED, None, 1)}


def test_events_that_wait_and_a_day_to_be_built_again_go_on_by_themselves(
    rows: Rows, warehouse: Warehouse, settings: Settings
) -> None:
    rows.read_to_the_end()
    rows.put(inbox, event_id="e1")
    rows.put(inbox, event_id="e2", processed_at=NOW)
    rows.put(visit_days, built_seq=1)

    report = day_of(warehouse, settings)

    assert gaps(report) == {(Kind.EVENT, None, 1), (Kind.OUTDATED, None, 1)}
    assert {gap.act for gap in report.gaps} == {Act.WAITS}
    assert not judge(report).needs_person


# The verdict


def test_what_a_person_has_to_do_is_said_first(rows: Rows, warehouse: Warehouse, settings: Settings) -> None:
    rows.read_to_the_end()
    for _ in range(3):
        rows.delivery(rows.note(), state="held", reason="not_validated")
    rows.delivery(rows.note(), state="held", reason="patient_missing")
    rows.put(quarantine, stage="extract", visit_day=None, source_id="x", error_code="no_id")

    report = day_of(warehouse, settings)

    verdict = judge(report)
    assert [gap.code for gap in report.open_gaps()] == ["patient_missing", "no_id", "not_validated"]
    assert (verdict.complete, verdict.needs_person) == (False, True)
    assert verdict.commands == (
        "medscribe links list",
        "medscribe quarantine list --stage extract",
        "medscribe quarantine replay ID",
        "medscribe deliveries list --day 2026-03-02 --state held",
    )
    assert verdict.sentence.startswith("2026-03-02 is not complete: 4 notes held (the EHR knows no such patient")
    assert "no clinician has validated it yet" in verdict.sentence
    assert verdict.sentence.endswith(
        "Do this first: register the patient in the EHR, or link them by hand (`medscribe links list`)."
    )


def test_what_nothing_more_comes_of_leaves_a_day_complete(rows: Rows, warehouse: Warehouse, settings: Settings) -> None:
    rows.read_to_the_end()
    rows.put(source_records, source_id="a", outcome="held", outcome_code="empty_note")
    rows.delivery(rows.note(state="retracted"), state="held", reason="retracted_before_delivery")
    rows.delivery(rows.note(), state="discarded")

    report = day_of(warehouse, settings)

    assert judge(report).complete
    assert {gap.act for gap in report.gaps} == {Act.NOTHING}


def test_where_a_command_wants_to_know_which_the_one_that_lists_them_comes_first(
    rows: Rows, warehouse: Warehouse, settings: Settings
) -> None:
    rows.read_to_the_end()
    rows.put(scribe_jobs, job_key="j", correlation_key="c", client_request_id="x", state="failed", code="TOO_SHORT")

    assert judge(day_of(warehouse, settings)).sentence.endswith(
        "(`medscribe jobs list --day 2026-03-02 --state failed --state expired`, then `medscribe jobs retry ID`)."
    )


def test_a_note_without_words_is_counted_as_a_record_without_a_note_alone(
    rows: Rows, warehouse: Warehouse, settings: Settings
) -> None:
    rows.delivery(rows.note(), state="delivered")
    rows.note(documents=False, has_text=False)

    assert day_of(warehouse, settings).notes == 1


def test_more_kinds_than_a_sentence_bears_are_counted(rows: Rows, warehouse: Warehouse, settings: Settings) -> None:
    rows.put(source_records, source_id="a", mapped_seq=None)
    rows.note(documents=False)
    rows.put(inbox, event_id="e1")
    rows.delivery(rows.note(), state="rejected", reason="refused")

    assert " and 3 more. Do this first: " in judge(day_of(warehouse, settings)).sentence


def test_records_the_provider_counts_and_we_have_not_make_a_day_incomplete(
    rows: Rows, warehouse: Warehouse, settings: Settings
) -> None:
    rows.read_to_the_end()
    report = day_of(warehouse, settings)
    report.asked = [OwnCount("askara", "notes", counted=3, listed=3, missing=2)]

    verdict = judge(report)

    assert not verdict.complete
    assert "2 records that the provider lists have not landed" in verdict.sentence
    assert verdict.commands == ("medscribe sync",)


def test_the_same_of_several_providers_is_told_once(rows: Rows, warehouse: Warehouse, settings: Settings) -> None:
    rows.read_to_the_end()
    rows.delivery(rows.note(), state="held", reason="not_validated")
    rows.delivery(rows.note(provider="audioscribe"), state="held", reason="not_validated")

    report = day_of(warehouse, settings)

    (told,) = together(report.open_gaps(), report.targets)
    assert (told.gap.count, sorted(told.where)) == (2, ["askara 1", "audioscribe 1"])


# Times


def test_a_day_lasts_from_midnight_to_midnight_where_the_account_is(make_settings: Callable[..., Settings]) -> None:
    paris = make_settings(timezone="Europe/Paris")

    starts_at, ends_at = day_bounds(paris, date(2026, 3, 29))

    assert (starts_at, ends_at) == (datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC))


def test_delays_are_those_between_the_places_a_note_comes_to(
    rows: Rows, warehouse: Warehouse, settings: Settings
) -> None:
    visited = {"started_at": NOW - timedelta(hours=2), "ended_at": NOW - timedelta(hours=1)}
    rows.delivered(**visited, validated_at=NOW - timedelta(minutes=30))
    rows.delivered(created_at=NOW + timedelta(minutes=1))

    found = {delay.name: delay for delay in day_of(warehouse, settings).delays}

    assert {name: (delay.count, delay.longest) for name, delay in found.items()} == {
        "visit_landed": (2, 3600.0),
        "landed_note": (2, 180.0),
        "visit_validated": (1, 1800.0),
        "validated_delivered:ehr": (1, 2400.0),
        "visit_delivered:ehr": (2, 4200.0),
    }
    assert found["visit_landed"].backwards == 1


# Nobody is named


def test_a_report_for_programs_is_plain_and_names_nobody(rows: Rows, warehouse: Warehouse, settings: Settings) -> None:
    rows.delivered()
    rows.put(quarantine, source_id="e")
    rows.put(visits, correlation_key=CANARY)
    report = day_of(warehouse, settings)

    told = day_json(report)

    assert CANARY not in repr(told) + flow_markdown(report) + judge(report).sentence
    assert set(told) == {
        "account",
        "day",
        "timezone",
        "starts_at",
        "ends_at",
        "read_at",
        "verdict",
        "missing",
        "accounted_for",
        "providers",
        "streams",
        "own_counts",
        "delays",
        "coverage",
    }
    assert told["verdict"]["complete"] is False
    assert told["providers"]["askara"]["deliveries"] == {"ehr": {"delivered": 1}}
    assert {each["what"] for each in told["missing"]} == {"quarantined", "expected", "unread"}
