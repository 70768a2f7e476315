"""What the warehouse says about itself, counted from rows laid out by hand, on both databases."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.providers.jobs import REFUSED_STEP, State
from medscribe_pipeline.providers.jobs.answers import FOLLOW_UP_STEP
from medscribe_pipeline.warehouse.reports import (
    MARKERS,
    CursorStatus,
    DayBalance,
    TargetStatus,
    day_balances,
    duplicates,
    orphans,
    read_status,
)
from medscribe_pipeline.warehouse.tables import (
    deliveries,
    fhir_documents,
    inbox,
    note_sections,
    notes,
    quarantine,
    scribe_jobs,
    source_records,
    sync_cursors,
    visit_days,
)
from tests.databases import NOW, TODAY

if TYPE_CHECKING:
    from medscribe_pipeline.warehouse.store import Warehouse

YESTERDAY = TODAY - timedelta(days=1)
EARLIER = TODAY - timedelta(days=9)
TARGET = "ehr"
FINGERPRINT = "mapping-1"

ORDINARY: dict[str, dict[str, Any]] = {
    "source_records": {
        "provider": "askara",
        "stream": "notes",
        "payload": {"text": "qxcanary"},
        "content_hash": "c",
        "list_hash": "l",
        "fetched_at": NOW,
        "change_seq": 5,
        "mapped_seq": 5,
        "outcome": "note",
    },
    "notes": {
        "provider": "askara",
        "stream": "notes",
        "kind": "note",
        "state": "validated",
        "has_text": True,
        "version": "v2",
        "source_seq": 5,
        "mapped_at": NOW,
    },
    "note_sections": {"ordinal": 0, "text": "qxcanary"},
    "fhir_documents": {
        "kind": "Composition",
        "resource": {},
        "version": "v2",
        "mapping_version": "m",
        "source_seq": 5,
        "built_at": NOW,
    },
    "deliveries": {
        "target": TARGET,
        "kind": "DocumentReference",
        "version": "v2",
        "source_seq": 5,
        "state": "delivered",
        "attempts": 1,
    },
    "quarantine": {
        "stage": "extract",
        "provider": "askara",
        "stream": "notes",
        "source_id": "q",
        "error_code": "wire_model",
        "field_paths": ["createdAt"],
        "payload_hash": "h",
        "attempts": 1,
        "first_seen_at": NOW,
        "last_seen_at": NOW,
    },
    "scribe_jobs": {
        "provider": "nabla",
        "correlation_key": "visit-1",
        "step": "transcribe",
        "client_request_id": "r",
        "request": {"text": "qxcanary"},
        "request_hash": "h",
        "state": "running",
        "submissions": 1,
        "polls": 0,
        "wanted_at": NOW,
    },
    "inbox": {
        "provider": "nabla",
        "seq": 1,
        "kind": "callback",
        "payload": {"text": "qxcanary"},
        "verified": True,
        "received_at": NOW,
        "deliveries": 1,
        "attempts": 0,
    },
    "sync_cursors": {"provider": "askara", "stream": "notes", "moved_at": NOW},
    "visit_days": {"changed_seq": 5, "built_seq": 5, "built_with": FINGERPRINT},
}


class Rows:
    """Lays out rows; what is not said is ordinary."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse

    def put(self, table: sa.Table, **values: Any) -> None:
        scope = {"account": self.warehouse.account, "visit_day": TODAY, "id": str(uuid.uuid4())}
        row = {name: value for name, value in scope.items() if name in table.c} | ORDINARY[table.name] | values
        with self.warehouse.begin() as connection:
            connection.execute(sa.insert(table).values(row))

    def note(self, source_id: str, **values: Any) -> str:
        """A note, alone."""
        note_id = str(uuid.uuid4())
        self.put(notes, note_id=note_id, source_id=source_id, **values)
        return note_id

    def mapped(self, source_id: str, **values: Any) -> str:
        """A landed record and the note it became."""
        self.put(source_records, source_id=source_id, **values)
        return self.note(source_id, **values)


@pytest.fixture
def rows(warehouse: Warehouse) -> Rows:
    return Rows(warehouse)


def status_of(warehouse: Warehouse, day: date | None = None) -> Any:
    return read_status(warehouse, targets=[TARGET], fingerprint=FINGERPRINT, day=day)


# The status


def test_an_empty_warehouse_has_an_empty_status(warehouse: Warehouse) -> None:
    status = status_of(warehouse)

    assert (status.account, status.providers, status.cursors) == ("default", {}, [])
    assert (status.days, status.days_due, status.open_quarantine, status.troubled) == (0, 0, 0, 0)


def test_records_and_notes_are_counted_by_provider(warehouse: Warehouse, rows: Rows) -> None:
    rows.mapped("a")
    rows.note("b", state="draft")
    rows.put(source_records, source_id="c", outcome="held", outcome_code="no_note_yet", stream="audios")
    rows.put(source_records, source_id="d", outcome="held", outcome_code="no_note_yet", stream="audios")
    rows.put(source_records, source_id="e", provider="audioscribe", stream="sessions", outcome=None, mapped_seq=None)

    providers = status_of(warehouse).providers

    assert list(providers) == ["askara", "audioscribe"]
    assert providers["askara"].landed == Counter(notes=1, audios=2)
    assert providers["askara"].held_records == Counter(no_note_yet=2)
    assert providers["askara"].notes == Counter(validated=1, draft=1)
    assert providers["audioscribe"].landed == Counter(sessions=1)


def test_documents_and_deliveries_are_counted_by_kind_and_state(warehouse: Warehouse, rows: Rows) -> None:
    sent, held, refused = rows.note("a"), rows.note("b"), rows.note("c")
    for note_id in (sent, held):
        rows.put(fhir_documents, note_id=note_id)
        rows.put(fhir_documents, note_id=note_id, kind="DocumentReference")
    for kind in ("Composition", "DocumentReference"):
        rows.put(deliveries, note_id=sent, kind=kind)
        rows.put(deliveries, note_id=held, kind=kind, state="held", reason="not_validated")
        rows.put(deliveries, note_id=refused, kind=kind, state="rejected", reason="invalid")

    askara = status_of(warehouse).providers["askara"]

    assert askara.documents == Counter(Composition=2, DocumentReference=2)
    assert askara.deliveries == Counter(
        {
            (kind, state): 1
            for kind in ("Composition", "DocumentReference")
            for state in ("delivered", "held", "rejected")
        }
    )
    # Both documents of a note go together: a reason counts once.
    assert askara.held == Counter(not_validated=1)
    assert askara.rejected == Counter(invalid=1)


def test_superseded_versions_and_other_targets_are_no_work(warehouse: Warehouse, rows: Rows) -> None:
    note_id = rows.note("a")
    rows.put(deliveries, note_id=note_id)
    rows.put(deliveries, note_id=note_id, version="v1", state="rejected", reason="invalid")
    rows.put(deliveries, note_id=note_id, target="another", state="unknown", reason="no_answer")

    status = status_of(warehouse)

    assert status.providers["askara"].deliveries == Counter({("DocumentReference", "delivered"): 1})
    assert status.troubled == 0


def test_targets_are_counted_together_and_apart(warehouse: Warehouse, rows: Rows) -> None:
    note_id = rows.note("a")
    rows.put(deliveries, note_id=note_id)
    rows.put(deliveries, note_id=note_id, target="store", kind="Composition", state="held", reason="patient_missing")
    rows.put(deliveries, note_id=rows.note("b"), target="store", state="rejected", reason="refused")

    status = read_status(warehouse, targets=[TARGET, "store"], fingerprint=FINGERPRINT)

    askara = status.providers["askara"]
    assert status.targets == (TARGET, "store")
    assert (askara.deliveries.total(), askara.held, askara.rejected) == (
        3,
        Counter(patient_missing=1),
        Counter(refused=1),
    )
    assert askara.targets[TARGET] == TargetStatus(Counter({("DocumentReference", "delivered"): 1}))
    assert askara.targets["store"] == TargetStatus(
        Counter({("Composition", "held"): 1, ("DocumentReference", "rejected"): 1}),
        Counter(patient_missing=1),
        Counter(refused=1),
    )
    assert status.troubled == 1


@pytest.mark.parametrize(
    ("state", "troubled"),
    [("planned", 0), ("claimed", 0), ("sent", 0), ("delivered", 0), ("held", 0), ("rejected", 1), ("unknown", 1)],
)
def test_only_refusals_and_unknown_outcomes_are_trouble(
    warehouse: Warehouse, rows: Rows, state: str, troubled: int
) -> None:
    rows.put(deliveries, note_id=rows.note("a"), state=state)

    assert status_of(warehouse).troubled == troubled


def test_a_held_delivery_without_a_reason_is_still_counted(warehouse: Warehouse, rows: Rows) -> None:
    rows.put(deliveries, note_id=rows.note("a"), state="held", reason=None)

    assert status_of(warehouse).providers["askara"].held.total() == 1


def test_the_quarantine_counts_what_waits_and_not_what_was_solved(warehouse: Warehouse, rows: Rows) -> None:
    rows.put(quarantine)
    rows.put(quarantine, stage="map", error_code="patient_conflict")
    rows.put(quarantine, resolved_at=NOW)

    status = status_of(warehouse)

    assert status.providers["askara"].quarantined == Counter(
        {("extract", "wire_model"): 1, ("map", "patient_conflict"): 1}
    )
    assert status.open_quarantine == 2


def test_days_are_due_when_changed_or_built_by_another_mapping(warehouse: Warehouse, rows: Rows) -> None:
    rows.put(visit_days, visit_day=TODAY)
    rows.put(visit_days, visit_day=TODAY - timedelta(1), built_seq=4)
    rows.put(visit_days, visit_day=TODAY - timedelta(2), built_with="mapping-0")
    rows.put(visit_days, visit_day=TODAY - timedelta(3), built_seq=0, built_with=None)

    status = status_of(warehouse)

    assert (status.days, status.days_due) == (4, 3)


def test_cursors_come_in_order_with_their_times(warehouse: Warehouse, rows: Rows) -> None:
    rows.put(sync_cursors, stream="notes", watermark=NOW)
    rows.put(sync_cursors, stream="audios")

    assert status_of(warehouse).cursors == [
        CursorStatus("askara", "audios", None, NOW),
        CursorStatus("askara", "notes", NOW, NOW),
    ]


def test_one_day_is_told_apart_from_the_others(warehouse: Warehouse, rows: Rows) -> None:
    for day, count in ((TODAY, 2), (YESTERDAY, 1)):
        rows.put(visit_days, visit_day=day, built_seq=0)
        for n in range(count):
            note_id = rows.mapped(f"{day}-{n}", visit_day=day)
            rows.put(fhir_documents, note_id=note_id, visit_day=day)
            rows.put(deliveries, note_id=note_id, visit_day=day)
            rows.put(quarantine, visit_day=day)

    expected: list[tuple[date | None, int]] = [(TODAY, 2), (YESTERDAY, 1), (None, 3)]
    for asked, count in expected:
        status = status_of(warehouse, asked)
        askara = status.providers["askara"]
        counters = (askara.landed, askara.notes, askara.documents, askara.deliveries, askara.quarantined)
        assert [counter.total() for counter in counters] == [count] * 5
        assert (status.days, status.days_due) == ((2, 2) if asked is None else (1, 1))


def test_another_account_is_none_of_our_business(warehouse: Warehouse, rows: Rows) -> None:
    note_id = rows.note("a", account="north")
    rows.put(source_records, source_id="a", account="north")
    rows.put(fhir_documents, note_id=note_id, account="north")
    rows.put(deliveries, note_id=note_id, account="north", state="rejected")
    rows.put(quarantine, account="north")
    rows.put(sync_cursors, account="north")
    rows.put(visit_days, account="north", built_seq=0)

    status = status_of(warehouse)

    assert (status.providers, status.cursors, status.days, status.days_due) == ({}, [], 0, 0)
    assert day_balances(warehouse) == []


def test_jobs_are_counted_by_state_and_code(warehouse: Warehouse, rows: Rows) -> None:
    for number, facts in enumerate(
        [
            {"state": "fetched"},
            {"state": "fetched"},
            {"state": "failed", "code": "too_short"},
            {"state": "unknown", "code": "timeout"},
            {"state": "cancelled", "code": "superseded"},
            {"state": "running", "provider": "intron"},
            {"state": "running", "account": "north"},
        ]
    ):
        rows.put(scribe_jobs, job_key=f"visit-{number}/transcribe", **facts)

    status = status_of(warehouse)

    nabla = status.providers["nabla"]
    assert nabla.jobs == Counter(
        {("fetched", ""): 2, ("failed", "too_short"): 1, ("unknown", "timeout"): 1, ("cancelled", "superseded"): 1}
    )
    assert (nabla.jobs_in("fetched"), nabla.jobs_in("running")) == (2, 0)
    assert status.providers["intron"].jobs == Counter({("running", ""): 1})
    assert nabla.refused == Counter()


def test_what_never_became_a_job_is_counted_apart(warehouse: Warehouse, rows: Rows) -> None:
    never = {"state": "cancelled", "submissions": 0}
    rows.put(scribe_jobs, job_key="visit-1/visit", step="visit", code="audio_missing", **never)
    rows.put(scribe_jobs, job_key="visit-2/visit", step="visit", code="audio_missing", **never)
    rows.put(scribe_jobs, job_key="visit-3/follow_up", step="follow_up", code="internal", **never)

    nabla = status_of(warehouse).providers["nabla"]

    assert nabla.refused == Counter({("visit", "audio_missing"): 2, ("follow_up", "internal"): 1})
    assert nabla.jobs == Counter()


def test_the_steps_that_are_no_jobs_are_those_of_the_ledger() -> None:
    assert set(MARKERS) == {REFUSED_STEP, FOLLOW_UP_STEP}


@pytest.mark.parametrize(
    ("state", "troubled"),
    [(state, int(state is State.UNKNOWN)) for state in State],
)
def test_of_jobs_only_unknown_outcomes_are_trouble(
    warehouse: Warehouse, rows: Rows, state: State, troubled: int
) -> None:
    rows.put(scribe_jobs, job_key="visit-1/transcribe", state=state.value)

    assert status_of(warehouse).troubled == troubled


def test_events_wait_until_they_are_processed(warehouse: Warehouse, rows: Rows) -> None:
    rows.put(inbox, event_id="a")
    rows.put(inbox, event_id="b", provider="askara")
    rows.put(inbox, event_id="c", processed_at=NOW)
    rows.put(inbox, event_id="d", account="north")

    assert status_of(warehouse).open_events == 2


def test_jobs_and_events_belong_to_no_day(warehouse: Warehouse, rows: Rows) -> None:
    rows.put(scribe_jobs, job_key="visit-1/transcribe")
    rows.put(inbox, event_id="a")

    status = status_of(warehouse, TODAY)

    assert (status.providers, status.open_events) == ({}, 0)


# The account of each day


def test_every_landed_record_is_somewhere(warehouse: Warehouse, rows: Rows) -> None:
    rows.mapped("note")
    rows.put(source_records, source_id="part", outcome="part", stream="audios")
    rows.put(source_records, source_id="held", outcome="held", outcome_code="no_note_yet")
    rows.put(source_records, source_id="bad", outcome="quarantined", outcome_code="patient_conflict")
    rows.put(quarantine, stage="map", source_id="bad")
    rows.put(source_records, source_id="new", outcome=None, mapped_seq=None)
    rows.put(source_records, source_id="changed", mapped_seq=4)
    rows.mapped("elsewhere", visit_day=YESTERDAY)

    balances = day_balances(warehouse)

    assert balances == [
        DayBalance(YESTERDAY, landed=1, notes=1, part=0, held=0, quarantined=0, waiting=0),
        DayBalance(TODAY, landed=6, notes=1, part=1, held=1, quarantined=1, waiting=2),
    ]
    assert all(balance.balanced for balance in balances)


def test_days_can_be_chosen(warehouse: Warehouse, rows: Rows) -> None:
    rows.mapped("a")
    rows.mapped("b", visit_day=YESTERDAY)

    assert [balance.day for balance in day_balances(warehouse, [YESTERDAY])] == [YESTERDAY]
    assert day_balances(warehouse, []) == []


@pytest.mark.parametrize("wrong", [{"visit_day": YESTERDAY}, {"stream": "audios"}, {"provider": "audioscribe"}])
def test_the_note_of_a_record_must_be_its_own_and_of_its_day(
    warehouse: Warehouse, rows: Rows, wrong: dict[str, Any]
) -> None:
    rows.put(source_records, source_id="a")
    rows.note("a", **wrong)

    (balance,) = day_balances(warehouse)

    assert (balance.landed, balance.notes, balance.balanced) == (1, 0, False)


@pytest.mark.parametrize("wrong", [{"resolved_at": NOW}, {"stage": "extract"}, {"source_id": "b"}])
def test_a_quarantined_record_must_still_wait_in_the_quarantine(
    warehouse: Warehouse, rows: Rows, wrong: dict[str, Any]
) -> None:
    rows.put(source_records, source_id="a", outcome="quarantined", outcome_code="patient_conflict")
    rows.put(quarantine, **{"stage": "map", "source_id": "a", **wrong})

    (balance,) = day_balances(warehouse)

    assert (balance.landed, balance.quarantined, balance.balanced) == (1, 0, False)


def test_a_record_with_two_notes_counts_once(warehouse: Warehouse, rows: Rows) -> None:
    rows.mapped("a")
    rows.note("a", kind="summary")

    (balance,) = day_balances(warehouse)

    assert (balance.landed, balance.notes, balance.balanced) == (1, 1, True)


# Duplicates and orphans


def test_a_healthy_warehouse_has_neither(warehouse: Warehouse, rows: Rows) -> None:
    note_id = rows.mapped("a")
    rows.note("a", kind="summary")
    rows.put(note_sections, note_id=note_id)
    rows.put(fhir_documents, note_id=note_id)
    rows.put(deliveries, note_id=note_id, server_id="1")
    rows.put(deliveries, note_id=note_id, server_id="1", version="v1")
    rows.put(deliveries, note_id=note_id, server_id="1", kind="Composition")

    assert duplicates(warehouse, [TARGET]) == {"notes": 0, "server_ids": 0}
    assert orphans(warehouse) == {"note_sections": 0, "fhir_documents": 0}


def test_a_server_id_with_two_notes_is_a_duplicate(warehouse: Warehouse, rows: Rows) -> None:
    for source_id in ("a", "b", "c"):
        rows.put(deliveries, note_id=rows.note(source_id), server_id="1")

    assert duplicates(warehouse, [TARGET]) == {"notes": 0, "server_ids": 1}
    assert duplicates(warehouse, ["another"]) == {"notes": 0, "server_ids": 0}


def test_a_server_id_of_another_kind_target_or_account_is_none(warehouse: Warehouse, rows: Rows) -> None:
    rows.put(deliveries, note_id=rows.note("a"), server_id="1")
    rows.put(deliveries, note_id=rows.note("b"), server_id="1", kind="Composition")
    rows.put(deliveries, note_id=rows.note("c"), server_id="1", target="another")
    rows.put(deliveries, note_id=rows.note("d", account="north"), server_id="1", account="north")
    rows.put(deliveries, note_id=rows.note("e"), server_id=None)
    rows.put(deliveries, note_id=rows.note("f"), server_id=None)

    assert duplicates(warehouse, [TARGET]) == {"notes": 0, "server_ids": 0}


def test_what_is_twice_is_found_from_either_of_its_days(warehouse: Warehouse, rows: Rows) -> None:
    for source_id, day in (("a", TODAY), ("b", YESTERDAY)):
        rows.put(deliveries, note_id=rows.note(source_id, visit_day=day), server_id="1", visit_day=day)

    found = [
        duplicates(warehouse, [TARGET], days)["server_ids"] for days in ([TODAY], [YESTERDAY], [EARLIER], [], None)
    ]

    assert found == [1, 1, 0, 0, 1]


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_a_unique_key_is_not_believed_in(warehouse: Warehouse, rows: Rows) -> None:
    unique = "uq_notes_account"
    with warehouse.begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE notes DROP CONSTRAINT {unique}"))
    try:
        rows.note("a")
        rows.note("a", visit_day=YESTERDAY)
        rows.note("a", kind="summary")
        found = [duplicates(warehouse, [], days)["notes"] for days in ([TODAY], [YESTERDAY], [EARLIER], None)]
        with warehouse.begin() as connection:
            connection.execute(sa.delete(notes))
    finally:
        with warehouse.begin() as connection:
            columns = "account, provider, stream, source_id, kind"
            connection.execute(sa.text(f"ALTER TABLE notes ADD CONSTRAINT {unique} UNIQUE ({columns})"))

    assert found == [1, 1, 0, 1]


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@given(
    filed=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from((0, 1, 2)), st.sampled_from(("1", "2", None)))),
    asked=st.none() | st.sets(st.sampled_from((0, 1, 2))),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_server_ids_of_several_notes_are_counted_by_the_days_they_touch(
    warehouse: Warehouse, filed: list[tuple[str, int, str | None]], asked: set[int] | None
) -> None:
    rows = Rows(warehouse)
    with warehouse.begin() as connection:
        connection.execute(sa.delete(deliveries))
    for number, (note_id, day, server_id) in enumerate(filed):
        on = TODAY - timedelta(days=day)
        rows.put(deliveries, note_id=note_id, version=f"v{number}", visit_day=on, server_id=server_id)

    days = None if asked is None else [TODAY - timedelta(days=day) for day in asked]
    expected = 0
    for server_id in ("1", "2"):
        of_it = [(note_id, day) for note_id, day, each in filed if each == server_id]
        touched = asked is None or any(day in asked for _, day in of_it)
        expected += touched and len({note_id for note_id, _ in of_it}) > 1
    assert duplicates(warehouse, [TARGET], days) == {"notes": 0, "server_ids": expected}
