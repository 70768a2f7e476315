"""Forgetting a person: nothing of them is left in any table or in the file, others stay, and nothing comes back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.providers.inbox import process_inbox
from medscribe_pipeline.providers.inbox_store import Event, store_events
from medscribe_pipeline.providers.person import mentions, names_patient, scope_of_note, scope_of_patient
from medscribe_pipeline.providers.pull import PullReport, Window, land_items, workers
from medscribe_pipeline.settings import AskaraSettings, AudioScribeSettings
from medscribe_pipeline.warehouse.arrivals import Problem
from medscribe_pipeline.warehouse.erasure import allow_again, forget, overwrite_free_space
from medscribe_pipeline.warehouse.sealing import Sealing
from medscribe_pipeline.warehouse.tables import (
    access_log,
    deliveries,
    fhir_documents,
    inbox,
    notes,
    quarantine,
    scribe_jobs,
    source_records,
    visits,
)
from tests.databases import NOW, dump, landing_for, rows_of
from tests.medscribe_pipeline.providers.mapped import session
from tests.medscribe_pipeline.providers.remembered import (
    CANARY,
    LATER,
    OTHER,
    SECRETS,
    SYSTEM,
    VICTIM,
    build,
    fill,
    land,
    note_id_of,
    note_payload,
    record,
    told,
    visit_rows,
    words,
)

if TYPE_CHECKING:
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

MUCH_LATER = LATER + timedelta(days=30)


@pytest.fixture
def ours(settings: Settings) -> Settings:
    """The hospital's own identifiers are those of Askara's patients; everything counts as reviewed."""
    return settings.model_copy(
        update={
            "askara": AskaraSettings(patient_system=SYSTEM),
            "audioscribe": AudioScribeSettings(reviewed=True),
        }
    )


@pytest.fixture
def filled(warehouse: Warehouse, ours: Settings) -> Warehouse:
    fill(warehouse, ours)
    return warehouse


def forget_patient(warehouse: Warehouse, settings: Settings, patient: str = VICTIM, **changes: Any) -> dict[str, int]:
    with warehouse.read() as connection:
        scope = scope_of_patient(connection, warehouse, settings, SYSTEM, patient)
    return forget(warehouse, scope, now=MUCH_LATER, who="synthetic-user", **changes)


def of(rows: dict[str, list[dict[str, Any]]], number: int) -> dict[str, list[dict[str, Any]]]:
    """What tables hold of one of the two people: rows that name their records, by the number in the ids."""
    names = {f"n-{number}", f"a-{number}", str(number), f"bad-{number}", f"lonely-{number}", f"visit-{number}"}
    keys = ("source_id", "correlation_key")
    return {table: [row for row in found if names & {row.get(key) for key in keys}] for table, found in rows.items()}


def test_nothing_of_the_person_is_left_in_any_table(filled: Warehouse, ours: Settings) -> None:
    assert all(secret in told(filled) for secret in SECRETS)

    forget_patient(filled, ours)

    assert [secret for secret in SECRETS if secret in told(filled)] == []


def test_of_others_everything_stays(filled: Warehouse, ours: Settings) -> None:
    before = dump(filled)
    others = {note_id_of(filled, source_id) for source_id in ("n-2", "2")}

    forget_patient(filled, ours)

    after = dump(filled)
    assert of(after, 2) == of(before, 2)
    for table in ("note_sections", "fhir_documents", "transcripts", "notes_history"):
        assert after[table] == [row for row in before[table] if row["note_id"] in others], table
    assert after["ehr_references"] == [
        row for row in before["ehr_references"] if VICTIM not in repr(row) and CANARY not in repr(row)
    ]


def test_hashes_keys_and_the_ledger_stay(filled: Warehouse, ours: Settings) -> None:
    kept = ("note_id", "version", "text_hash", "validated_version", "amends", "visit_day", "state", "source_seq")
    before = {row["note_id"]: {key: row[key] for key in kept} for row in rows_of(filled, notes)}
    hashes = {row["source_id"]: row["content_hash"] for row in rows_of(filled, source_records)}
    ledger = rows_of(filled, deliveries)

    forget_patient(filled, ours)

    assert {row["note_id"]: {key: row[key] for key in kept} for row in rows_of(filled, notes)} == before
    after = {row["source_id"]: row["content_hash"] for row in rows_of(filled, source_records)}
    assert {key: after[key] for key in hashes} == hashes
    assert rows_of(filled, deliveries) == ledger


def test_it_says_how_many_rows_of_each_table_lost_something(filled: Warehouse, ours: Settings) -> None:
    counts = forget_patient(filled, ours)

    # The note, its audio, the audio without one, the session, and the record that only waited in quarantine.
    assert (counts["source_records"], counts["notes"], counts["quarantine"]) == (5, 2, 1)
    assert (counts["visits"], counts["scribe_jobs"], counts["inbox"], counts["ehr_references"]) == (3, 1, 3, 2)
    assert counts["notes_history"] == 1
    assert all(counts.values())
    assert forget_patient(filled, ours, "nobody-synthetic") == dict.fromkeys(counts, 0)


def test_a_dry_run_counts_the_same_and_takes_it_back(filled: Warehouse, ours: Settings) -> None:
    before = dump(filled)

    counts = forget_patient(filled, ours, dry_run=True)

    assert dump(filled) == before
    assert forget_patient(filled, ours) == counts


def test_who_forgot_which_notes_is_written_down(filled: Warehouse, ours: Settings) -> None:
    expected = {note_id_of(filled, "n-1"), note_id_of(filled, "1")}

    forget_patient(filled, ours)

    rows = [(row["who"], row["what"], row["subject"]) for row in rows_of(filled, access_log)]
    assert set(rows) == {("synthetic-user", "forget", note_id) for note_id in expected}


def test_no_change_at_the_provider_brings_it_back(filled: Warehouse, ours: Settings) -> None:
    forget_patient(filled, ours)
    before = dump(filled)

    changed = note_payload(VICTIM, 1, "Plan:\nRun.")
    landed = land(filled, "notes", record("n-1", changed, parent_id="a-1", fetched_at=MUCH_LATER), at=MUCH_LATER)
    misfit = Problem(
        source_id="bad-1", code="wire_model", field_paths=(), payload={"patient": VICTIM}, payload_hash="9" * 64
    )
    quarantined = landing_for(filled, "askara", "notes").land([], [misfit], None, now=MUCH_LATER)
    build(filled, ours)

    assert (landed.new, landed.changed, quarantined.quarantined) == (0, 0, 0)
    assert [secret for secret in SECRETS if secret in told(filled)] == []
    unchanged = ("source_records", "notes", "quarantine", "note_sections", "fhir_documents")
    assert {name: dump(filled)[name] for name in unchanged} == {name: before[name] for name in unchanged}


class Asked:
    """A source whose details nobody may ask for."""

    detailed = True

    def identify(self, item: Any) -> str | None:
        return str(item["uuid"])

    def facts(self, _payload: Any) -> Any:
        raise AssertionError("its facts are not looked at")

    def detail(self, _source_id: str) -> Any:
        raise AssertionError("it is not asked for")


@pytest.mark.parametrize("full", [False, True])
def test_what_was_forgotten_is_not_even_asked_for(filled: Warehouse, ours: Settings, full: bool) -> None:
    forget_patient(filled, ours)
    landing = landing_for(filled, "askara", "notes")
    items = [{"uuid": name, "updatedAt": "2027-01-01T00:00:00Z"} for name in ("n-1", "bad-1")]

    with workers(1, "test", lambda: None) as pool:
        landed = land_items(
            items, NOW, Asked(), landing, None, pool, PullReport(), Window(full=full), lambda: MUCH_LATER
        )

    assert (landed.new, landed.changed, landed.quarantined) == (0, 0, 0)


def test_an_import_of_the_same_manifest_brings_nobody_back(filled: Warehouse, ours: Settings) -> None:
    forget_patient(filled, ours)

    done = visit_rows(filled)

    assert (done.forgotten, done.new, done.changed, done.unchanged) == (3, 0, 0, 3)
    assert [row["patient_id"] for row in rows_of(filled, visits) if row["forgotten_at"] is None] == [OTHER] * 3
    assert VICTIM not in told(filled)


def test_events_about_the_forgotten_are_emptied_without_asking_anybody(filled: Warehouse, ours: Settings) -> None:
    forget_patient(filled, ours)
    late = [
        Event("audioscribe", "session", "late-1", session(id=1, title=words(VICTIM, "late")), verified=False),
        Event(
            "nabla",
            "callback",
            "late-2",
            {"id": "job-1", "client_request_id": "ours-1", "status": "succeeded", "note": words(VICTIM, "late")},
            verified=True,
        ),
        Event(
            "askara", "new_note", "n-1", {"action": "new_note", "id": "n-1", "t": words(VICTIM, "l")}, verified=False
        ),
    ]
    with filled.begin() as connection:
        connection.execute(sa.delete(inbox))
    store_events(filled, late, now=MUCH_LATER)

    report = process_inbox(filled, ours, clock=lambda: MUCH_LATER, run_id=None)

    assert report.refused == {"forgotten": 3}
    assert {row["code"]: row["payload"] for row in rows_of(filled, inbox)} == {"forgotten": {}}
    assert CANARY not in told(filled)


def test_a_job_under_way_is_over(filled: Warehouse, ours: Settings) -> None:
    forget_patient(filled, ours)

    jobs = {row["correlation_key"]: row for row in rows_of(filled, scribe_jobs)}
    assert (jobs["visit-1"]["state"], jobs["visit-1"]["code"], jobs["visit-1"]["request"]) == (
        "cancelled",
        "forgotten",
        {},
    )
    assert jobs["visit-1"]["settled_at"] == MUCH_LATER
    assert jobs["visit-2"]["state"] == "running"


def test_the_file_of_the_warehouse_holds_nothing_of_it(filled: Warehouse, ours: Settings) -> None:
    if filled.engine.dialect.name != "sqlite":
        assert overwrite_free_space(filled) is None
        return
    path = Path(str(filled.engine.url.database))
    files = [path, path.with_name(f"{path.name}-wal")]
    found = [secret for secret in SECRETS if any(secret.encode() in each.read_bytes() for each in files)]
    assert found == list(SECRETS)

    forget_patient(filled, ours)
    done = overwrite_free_space(filled)

    assert done is True
    assert [secret for secret in SECRETS if any(secret.encode() in each.read_bytes() for each in files)] == []


def test_a_file_that_is_in_use_is_told(filled: Warehouse, ours: Settings) -> None:
    forget_patient(filled, ours)
    with filled.read() as connection:
        connection.execute(sa.select(notes)).all()
        done = overwrite_free_space(filled, wait_s=0.05)

    assert done is (False if filled.engine.dialect.name == "sqlite" else None)


def test_a_note_is_forgotten_with_its_recording_and_nothing_else(filled: Warehouse, ours: Settings) -> None:
    note_id = note_id_of(filled, "n-1")
    with filled.read() as connection:
        scope = scope_of_note(connection, filled, note_id)

    forget(filled, scope, now=MUCH_LATER, who="synthetic-user")

    marked = {row["source_id"] for row in rows_of(filled, source_records) if row["forgotten_at"] is not None}
    assert marked == {"n-1", "a-1"}
    assert {row["note_id"] for row in rows_of(filled, notes) if row["forgotten_at"] is not None} == {note_id}
    assert VICTIM in told(filled)  # in the session, and in the audio without a note
    build(filled, ours)
    assert note_id not in {row["note_id"] for row in rows_of(filled, fhir_documents)}


def test_what_was_forgotten_by_mistake_may_come_back(filled: Warehouse, ours: Settings) -> None:
    note_id = note_id_of(filled, "n-1")
    version = next(row["version"] for row in rows_of(filled, notes) if row["note_id"] == note_id)
    audio_payload = next(row["payload"] for row in rows_of(filled, source_records) if row["source_id"] == "a-1")
    with filled.read() as connection:
        scope = scope_of_note(connection, filled, note_id)
    forget(filled, scope, now=MUCH_LATER, who="synthetic-user")
    assert "n-1" in landing_for(filled, "askara", "notes").known(["n-1"])

    back = allow_again(filled, note_id, now=MUCH_LATER, who="synthetic-user")

    assert back == 2
    assert landing_for(filled, "askara", "notes").known(["n-1"]) == {}
    land(filled, "audios", record("a-1", audio_payload, fetched_at=MUCH_LATER), at=MUCH_LATER)
    again = record("n-1", note_payload(VICTIM, 1, "Plan:\nWalk."), parent_id="a-1", fetched_at=MUCH_LATER)
    land(filled, "notes", again, at=MUCH_LATER)
    visit_rows(filled)
    build(filled, ours)
    row = next(row for row in rows_of(filled, notes) if row["note_id"] == note_id)
    assert (row["forgotten_at"], row["patient_id"], row["version"]) == (None, VICTIM, version)
    assert note_id in {each["note_id"] for each in rows_of(filled, fhir_documents)}
    assert allow_again(filled, note_id, now=MUCH_LATER, who="synthetic-user") == 0


def test_payloads_sealed_with_a_lost_key_are_counted(filled: Warehouse, ours: Settings) -> None:
    filled.sealing = Sealing(b"k" * 32)
    payload = {"uuid": "bad-3", "patient": VICTIM}
    problem = Problem(
        source_id="bad-3", code="wire_model", field_paths=(), payload=payload, payload_hash=content_hash(payload)
    )
    landing_for(filled, "askara", "notes").land([], [problem], None, now=NOW)
    with filled.read() as connection:
        known = scope_of_patient(connection, filled, ours, SYSTEM, VICTIM)
    filled.sealing = Sealing()
    with filled.read() as connection:
        lost = scope_of_patient(connection, filled, ours, SYSTEM, VICTIM)

    assert (known.unreadable, lost.unreadable) == (0, 1)
    assert len(known.problems) == len(lost.problems) + 1
    assert len(rows_of(filled, quarantine)) == 3


def test_the_same_identifier_of_another_system_is_another_person(filled: Warehouse, ours: Settings) -> None:
    with filled.read() as connection:
        scope = scope_of_patient(connection, filled, ours, "https://elsewhere.example.org", VICTIM)

    found = (scope.notes, scope.records, scope.visits, scope.problems, scope.events)
    assert not any(found)


IDS = st.text("abc0-", min_size=1, max_size=5)
JSON = st.recursive(
    st.none() | st.integers(0, 20) | IDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "uuid", "text", "data", "audio"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@hypothesis(max_examples=60, deadline=None)
@given(payload=JSON, value=IDS, deep=st.integers(0, 3))
def test_a_patient_is_named_only_below_a_member_that_says_so(payload: Any, value: str, deep: int) -> None:
    assert not names_patient(payload, value)
    named: Any = {"patientId": value, "more": payload}
    for _ in range(deep):
        named = [{"data": named}]

    assert names_patient(named, value)
    assert not names_patient(named, f"{value}-another")


def test_depth_is_no_obstacle() -> None:
    deep: Any = {"patient": VICTIM}
    for _ in range(20_000):
        deep = [deep]

    assert names_patient(deep, VICTIM)
    assert not mentions(deep, {"n-1"})
