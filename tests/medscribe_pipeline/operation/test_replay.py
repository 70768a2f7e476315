"""Out of quarantine, once more: whatever stage it stopped at, and whoever was faster meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import sqlalchemy as sa

from medscribe_pipeline.ehr.waiting import make_due
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir import build as fhir_build
from medscribe_pipeline.operation.replay import ReplayReport, replay
from medscribe_pipeline.pipeline import due_days
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.settings import EhrSettings
from medscribe_pipeline.warehouse.arrivals import Problem
from medscribe_pipeline.warehouse.quarantine_acts import discard
from medscribe_pipeline.warehouse.quarantine_list import Which, selected_ids
from medscribe_pipeline.warehouse.reports import day_balances
from medscribe_pipeline.warehouse.sealing import Sealing
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import fhir_documents, notes, quarantine, source_records
from tests.databases import NOW, TODAY, landing_for, rows_of
from tests.databases import record as landed_record
from tests.medscribe_pipeline.operation.intake import build, outcomes, pull, troubles
from tests.medscribe_pipeline.providers.mapped import audio, note, session

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.providers.catalogue import Provider, Reader
    from medscribe_pipeline.providers.pull import Facts
    from medscribe_pipeline.providers.records import LandedRecord
    from medscribe_pipeline.settings import Settings

LATER = NOW + timedelta(hours=1)
SLASHES = "02/03/2026 08:00"
"""A time that nobody reads today."""


def try_again(warehouse: Warehouse, settings: Settings, *ids: str, which: Which | None = None) -> ReplayReport:
    chosen = list(ids) or selected_ids(warehouse, which or Which())
    return replay(warehouse, settings, chosen, clock=lambda: LATER)


def land(warehouse: Warehouse, settings: Settings, provider: str, stream: str, *records: dict[str, Any]) -> None:
    pull(warehouse, settings, provider, stream, [orjson.dumps(each) for each in records])


def codes(warehouse: Warehouse) -> list[tuple[str, str]]:
    return sorted((row["stage"], row["error_code"]) for row in troubles(warehouse))


def note_ids(warehouse: Warehouse) -> set[str]:
    return {row["source_id"] for row in rows_of(warehouse, notes)}


def mended(payload: dict[str, Any]) -> dict[str, Any]:
    return {name: "2026-03-02T08:00:00Z" if value == SLASHES else value for name, value in payload.items()}


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Teaches the code another way to write times, as a new version would."""

    def teach() -> None:
        for name in ("askara", "audioscribe"):
            old = PROVIDERS[name]

            def to_notes(record: LandedRecord, settings: Settings, *, old: Provider = old) -> Any:
                return old.to_notes(replace(record, payload=mended(record.payload)), settings)

            streams = tuple(replace(each, reader=taught(each.reader)) for each in old.streams)
            monkeypatch.setitem(PROVIDERS, name, replace(old, streams=streams, to_notes=to_notes))

    return teach


def taught(reader: Reader | None) -> Reader:
    assert reader is not None
    old = reader

    def facts(payload: Any, settings: Settings, parent_id: str | None) -> Facts:
        return old.facts(mended(payload), settings, parent_id)

    return replace(old, facts=facts)


def test_what_could_not_be_read_lands_and_is_a_note(
    warehouse: Warehouse, settings: Settings, upgrade: Callable[[], None]
) -> None:
    land(warehouse, settings, "audioscribe", "sessions", session(id=1), session(id=2, createdAt=SLASHES))
    build(warehouse, settings)
    before = troubles(warehouse)
    upgrade()

    done = try_again(warehouse, settings)

    assert [row["error_code"] for row in before] == ["wire_model"]
    assert (done.rows, done.landed, done.became, done.still, done.left) == (1, 1, {"note": 1}, {}, {})
    assert (done.days, note_ids(warehouse), codes(warehouse)) == ([TODAY], {"1", "2"}, [])
    assert len({row["note_id"] for row in rows_of(warehouse, fhir_documents)}) == 2
    assert due_days(warehouse, settings) == []
    # The list shows it as it did: it is known, and not read again.
    again = pull(warehouse, settings, "audioscribe", "sessions", [orjson.dumps(session(id=2, createdAt=SLASHES))])
    assert (again.landed.unchanged, again.landed.changed) == (1, 0)


def test_what_cannot_be_read_now_either_stays_with_its_payload(warehouse: Warehouse, settings: Settings) -> None:
    land(warehouse, settings, "audioscribe", "sessions", session(id=2, createdAt=SLASHES))
    (before,) = troubles(warehouse)

    done = try_again(warehouse, settings)

    (after,) = troubles(warehouse)
    assert (done.still, done.landed, done.days) == ({("extract", "wire_model"): 1}, 0, [])
    assert after == {**before, "attempts": 2, "last_seen_at": LATER, "run_id": None}


def test_what_could_not_be_mapped_is_mapped_again(
    warehouse: Warehouse, settings: Settings, upgrade: Callable[[], None]
) -> None:
    land_unmappable(warehouse)
    build(warehouse, settings)
    before = codes(warehouse)
    upgrade()

    done = try_again(warehouse, settings)

    assert before == [("map", "wire_model")]
    assert (done.became, done.still, done.days) == ({"note": 1}, {}, [TODAY])
    assert (note_ids(warehouse), codes(warehouse)) == ({"7"}, [])
    assert all(balance.balanced for balance in day_balances(warehouse))


def land_unmappable(warehouse: Warehouse) -> None:
    """A session that an older version could read."""
    payload = session(id=7, createdAt=SLASHES)
    landing_for(warehouse, "audioscribe", "sessions").land([landed_record("7", payload=payload)], [], None, now=NOW)


def test_a_document_that_broke_a_rule_is_built_again_from_a_note_that_is_mapped_again(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise MedscribeError("A rule", code="cmp-1", field_paths=("Composition.section",))

    land(warehouse, settings, "audioscribe", "sessions", session(id=1), session(id=2))
    with monkeypatch.context() as patch:
        patch.setattr(fhir_build, "check", refuse)
        build(warehouse, settings)
    before = codes(warehouse)
    mapped_before = {row["mapped_seq"] for row in rows_of(warehouse, source_records)}

    done = try_again(warehouse, settings, which=Which(stage="fhir"))

    assert before == [("fhir", "cmp-1")] * 2
    assert (done.became, done.still, codes(warehouse)) == ({"document": 2}, {}, [])
    assert {row["mapped_seq"] for row in rows_of(warehouse, source_records)} == mapped_before
    assert due_days(warehouse, settings) == []


def test_a_document_that_breaks_it_still_says_so(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trip(*_: Any) -> None:
        raise KeyError("Zzmark-Testpatient")

    land(warehouse, settings, "audioscribe", "sessions", session(id=1))
    monkeypatch.setattr(fhir_build, "check", trip)
    build(warehouse, settings)

    done = try_again(warehouse, settings)

    (row,) = troubles(warehouse)
    assert done.still == {("fhir", "unexpected"): 1}
    assert row["field_paths"][0].startswith("KeyError:test_replay.py:")
    assert row["attempts"] == 2


def test_a_row_about_a_note_that_is_another_by_now_is_closed(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise MedscribeError("A rule", code="cmp-1")

    land(warehouse, settings, "audioscribe", "sessions", session(id=1))
    with monkeypatch.context() as patch:
        patch.setattr(fhir_build, "check", refuse)
        build(warehouse, settings)
    pull(warehouse, settings, "audioscribe", "sessions", [orjson.dumps(session(id=1, note=""))], at=LATER)
    build(warehouse, settings)

    done = try_again(warehouse, settings)

    assert (done.became, done.still, codes(warehouse)) == ({"overtaken": 1}, {}, [])


def test_what_only_the_provider_has_is_left_to_the_sync(warehouse: Warehouse, settings: Settings) -> None:
    problem = Problem(source_id="n-1", code="detail_failed", field_paths=(), payload={"uuid": "n-1"}, payload_hash="h")
    landing_for(warehouse, "askara", "notes").land([], [problem], None, now=NOW)

    done = try_again(warehouse, settings)

    assert (done.left, done.still) == ({"asked_by_sync": 1}, {})
    assert landing_for(warehouse, "askara", "notes").waiting_for_detail(1) == [("n-1", {"uuid": "n-1"})]


def test_a_stream_this_version_does_not_know_is_left_alone(warehouse: Warehouse, settings: Settings) -> None:
    problem = Problem(source_id="x", code="wire_model", field_paths=("a:b",), payload={"id": 1}, payload_hash="h")
    for provider in ("someone", "nabla"):
        landing_for(warehouse, provider, "things").land([], [problem], None, now=NOW)

    assert try_again(warehouse, settings).left == {"no_reader": 2}


def test_a_note_keeps_the_audio_it_was_found_by(warehouse: Warehouse, settings: Settings) -> None:
    """Where `/notes` does not say, the request did; a later version of it came in a state nobody could read."""
    land(warehouse, settings, "askara", "audios", audio())
    plain = note(audio=None)
    record = landed_record("n-1", payload=plain, parent_id="a-1")
    landing_for(warehouse, "askara", "notes").land([record], [], None, now=NOW)
    newer = {**plain, "updatedAt": "2026-03-02T08:25:00Z", "content": "Plan: rest"}
    problem = Problem(
        source_id="n-1", code="wire_model", field_paths=("a:b",), payload=newer, payload_hash="list of newer"
    )
    landing_for(warehouse, "askara", "notes").land([], [problem], None, now=LATER)

    done = try_again(warehouse, settings)

    (landed,) = [row for row in rows_of(warehouse, source_records) if row["stream"] == "notes"]
    assert (landed["parent_id"], landed["payload"]["content"]) == ("a-1", "Plan: rest")
    assert done.became == {"note": 1}


def test_what_landed_since_is_not_replaced_by_what_is_older(warehouse: Warehouse, settings: Settings) -> None:
    older = session(id=1, note="Plan: bleed the patient")
    problem = Problem(source_id="1", code="wire_model", field_paths=("a:b",), payload=older, payload_hash="h")
    landing = landing_for(warehouse, "audioscribe", "sessions")
    landing.land([], [problem], None, now=NOW)
    land(warehouse, settings, "audioscribe", "sessions", session(id=2))
    # Past the code that closes the row when the record lands.
    landing.land([landed_record("1", payload=session(id=1), fetched_at=LATER)], [], None, now=LATER)
    with warehouse.begin() as connection:
        connection.execute(sa.update(quarantine).values(resolved_at=None))

    done = try_again(warehouse, settings)

    payloads = {row["source_id"]: row["payload"] for row in rows_of(warehouse, source_records)}
    assert payloads["1"]["note"] == session()["note"]
    assert (done.landed, codes(warehouse)) == (0, [])


def test_what_went_on_by_itself_is_left_alone(warehouse: Warehouse, settings: Settings) -> None:
    land(warehouse, settings, "audioscribe", "sessions", session(id=1, createdAt=SLASHES))
    (row_id,) = selected_ids(warehouse, Which())
    land(warehouse, settings, "audioscribe", "sessions", session(id=1))
    before = rows_of(warehouse, quarantine)

    done = try_again(warehouse, settings, row_id)

    assert done.left == {"went_on": 1}
    assert rows_of(warehouse, quarantine) == before


def test_an_id_that_can_be_read_now_is_found(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The field had another name, which a new version knows."""
    item = {"uid" if name == "id" else name: value for name, value in session(id=1).items()}
    land(warehouse, settings, "audioscribe", "sessions", item)
    announced = {"uid": "n-1", "updatedAt": "2026-03-02T08:20:00Z"}
    land(warehouse, settings, "askara", "notes", announced)
    for name in ("askara", "audioscribe"):
        streams = tuple(replace(each, reader=with_id_field(each.reader)) for each in PROVIDERS[name].streams)
        monkeypatch.setitem(PROVIDERS, name, replace(PROVIDERS[name], streams=streams))

    done = try_again(warehouse, settings)

    assert set(outcomes(warehouse, "audioscribe", "sessions")) == {"1"}
    # Of the other there is only its announcement: the sync asks for it, under its id.
    assert done.left == {"asked_by_sync": 1}
    assert landing_for(warehouse, "askara", "notes").waiting_for_detail(9) == [("n-1", announced)]
    assert ("extract", "no_id") not in codes(warehouse)


def with_id_field(reader: Reader | None) -> Reader:
    assert reader is not None
    old = reader

    def facts(payload: Any, settings: Settings, parent_id: str | None) -> Facts:
        return old.facts({**payload, old.id_field: payload["uid"]}, settings, parent_id)

    return replace(old, id_field="uid", facts=facts)


def test_a_row_whose_key_is_gone_is_said_and_stops_nothing(
    warehouse: Warehouse, settings: Settings, upgrade: Callable[[], None]
) -> None:
    sealed = Warehouse(warehouse.engine, account=warehouse.account, locks=warehouse.locks, sealing=Sealing(bytes(32)))
    land(sealed, settings, "audioscribe", "sessions", session(id=1, createdAt=SLASHES))
    land(warehouse, settings, "audioscribe", "sessions", session(id=2, createdAt=SLASHES))
    upgrade()

    done = try_again(warehouse, settings)
    with_key = try_again(sealed, settings)

    assert (done.left, done.became) == ({"sealed_away": 1}, {"note": 1})
    assert (with_key.left, with_key.became) == ({}, {"note": 1})


def test_what_was_put_aside_is_accounted_for_and_comes_back_by_its_id(
    warehouse: Warehouse, settings: Settings, upgrade: Callable[[], None]
) -> None:
    land_unmappable(warehouse)
    land(warehouse, settings, "audioscribe", "sessions", session(id=8, createdAt=SLASHES))
    build(warehouse, settings)
    ids = selected_ids(warehouse, Which())
    discard(warehouse, ids, reason="not_needed", who="ada", now=NOW)

    assert outcomes(warehouse, "audioscribe", "sessions") == {"7": ("held", "discarded")}
    assert all(balance.balanced for balance in day_balances(warehouse))
    assert try_again(warehouse, settings).rows == 0
    # Mapped again, for another reason: it fails as before, and stays aside.
    with warehouse.begin() as connection:
        connection.execute(sa.update(source_records).values(mapped_with="another"))
    build_all(warehouse, settings)
    assert outcomes(warehouse, "audioscribe", "sessions") == {"7": ("held", "discarded")}
    assert (codes(warehouse), due_days(warehouse, settings)) == ([], [])

    unmended = try_again(warehouse, settings, *ids)
    assert unmended.still == {("map", "wire_model"): 1, ("extract", "wire_model"): 1}
    assert all(balance.balanced for balance in day_balances(warehouse))
    upgrade()
    assert try_again(warehouse, settings, *ids).became == {"note": 2}


def build_all(warehouse: Warehouse, settings: Settings) -> None:
    with warehouse.begin() as connection:
        make_due(warehouse, connection, [TODAY])
    build(warehouse, settings)


def test_a_note_put_aside_with_its_documents_leaves_its_day_done(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise MedscribeError("A rule", code="cmp-1")

    monkeypatch.setattr(fhir_build, "check", refuse)
    land(warehouse, settings, "audioscribe", "sessions", session(id=1))
    build(warehouse, settings)
    discard(warehouse, selected_ids(warehouse, Which()), reason="not_needed", who="ada", now=NOW)

    build_all(warehouse, settings)

    assert (codes(warehouse), due_days(warehouse, settings)) == ([], [])


def test_with_a_target_the_day_is_left_to_the_delivery(
    warehouse: Warehouse, settings: Settings, upgrade: Callable[[], None]
) -> None:
    land(warehouse, settings, "audioscribe", "sessions", session(id=1, createdAt=SLASHES))
    delivering = settings.model_copy(update={"ehr": EhrSettings(base_url="https://fhir.example.org/r4")})
    upgrade()

    try_again(warehouse, delivering)

    assert [day for day, _ in due_days(warehouse, delivering)] == [TODAY]
    assert len(rows_of(warehouse, fhir_documents)) > 0


@pytest.mark.parametrize("column", ["payload_removed_at", "forgotten_at", None])
def test_a_record_that_is_not_kept_any_more_is_left_as_it_is(
    warehouse: Warehouse, settings: Settings, column: str | None
) -> None:
    land_unmappable(warehouse)
    build(warehouse, settings)
    with warehouse.begin() as connection:
        if column is None:
            connection.execute(sa.delete(source_records))
        else:
            connection.execute(sa.update(source_records).values({column: NOW, "payload": {}}))
    before = rows_of(warehouse, source_records)

    done = try_again(warehouse, settings)

    assert (done.left, done.became, done.still) == ({"no_payload": 1}, {}, {})
    assert rows_of(warehouse, source_records) == before
