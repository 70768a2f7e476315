"""What changes while it is being mapped: in the end all is as if it had changed before."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.notes import stable_id
from medscribe_pipeline.processes import Batch
from medscribe_pipeline.providers import build
from medscribe_pipeline.providers.build import build_batch, build_notes
from medscribe_pipeline.visits import VisitRow
from medscribe_pipeline.warehouse.arrivals import SourceRecord
from medscribe_pipeline.warehouse.erasure import RecordKey, Scope, forget
from medscribe_pipeline.warehouse.manifest import import_visits
from medscribe_pipeline.warehouse.tables import notes, source_records
from medscribe_pipeline.warehouse.tombstones import land_tombstones
from tests.databases import DAYS, NOW, TODAY, dump, empty, landing_for, rows_of
from tests.medscribe_pipeline.providers.mapped import audio, note, session

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from medscribe_pipeline.providers.due import DueRecord
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    Meanwhile = Callable[[Warehouse, Settings], object]

SOON, LATER, LATEST = (NOW + timedelta(minutes=minutes) for minutes in (1, 2, 3))


def land(warehouse: Warehouse, provider: str, stream: str, source_id: str, payload: Any, at: datetime) -> None:
    record = SourceRecord(
        source_id=source_id,
        payload=payload,
        list_hash=f"as of {at}",
        updated_at=None,
        fetched_at=at,
        visited_at=NOW,
        parent_id="a-1" if stream == "notes" else None,
    )
    landing_for(warehouse, provider, stream).land([record], [], None, now=NOW)


def land_session(warehouse: Warehouse, text: str, at: datetime = NOW) -> None:
    land(warehouse, "audioscribe", "sessions", "17", session(note=text), at)


def land_audio(warehouse: Warehouse, at: datetime = NOW, **changes: Any) -> None:
    land(warehouse, "askara", "audios", "a-1", audio(**changes), at)


def land_note(warehouse: Warehouse, text: str = "Repos", at: datetime = NOW) -> None:
    land(warehouse, "askara", "notes", "n-1", note(content=text), at)


def land_all(warehouse: Warehouse, at: datetime = NOW, text: str = "Plan: rest") -> None:
    land_session(warehouse, text, at)
    land_audio(warehouse, at, languageSpoken="en" if at == SOON else "fr")
    land_note(warehouse, text, at)


def it_changes(warehouse: Warehouse, _settings: Settings) -> None:
    land_session(warehouse, "Plan: tea", LATER)


def its_parent_changes(warehouse: Warehouse, _settings: Settings) -> None:
    land_audio(warehouse, LATER, archivedAt="2026-03-02T10:00:00Z")


def it_is_gone(warehouse: Warehouse, _settings: Settings) -> None:
    land_tombstones(warehouse, "audioscribe", "sessions", {"17": LATER})
    land_tombstones(warehouse, "askara", "audios", {"a-1": LATER})


def its_visit_is_imported(warehouse: Warehouse, _settings: Settings) -> None:
    import_visits(
        warehouse, [VisitRow(provider="audioscribe", correlation_key="17", patient_id="p-9")], days=DAYS, now=NOW
    )


def it_is_forgotten(warehouse: Warehouse, _settings: Settings) -> None:
    scope = Scope(
        notes={row["note_id"] for row in rows_of(warehouse, notes)},
        records={RecordKey("audioscribe", "sessions", "17"), RecordKey("askara", "notes", "n-1")},
    )
    forget(warehouse, scope, now=LATER, who="somebody")


def its_visit_alone_is_forgotten(warehouse: Warehouse, _settings: Settings) -> None:
    forget(warehouse, Scope(visits={("askara", "a-1")}), now=LATER, who="somebody")


def another_run_maps_it(warehouse: Warehouse, settings: Settings) -> None:
    build_notes(warehouse, settings, TODAY, clock=lambda: NOW, run_id="run-2")


def result(
    warehouse: Warehouse, settings: Settings, before: Callable[[], object], *, mapped: bool
) -> dict[str, list[dict[str, Any]]]:
    """All rows after everything was landed, `before` was called, and all was built twice."""
    empty(warehouse)
    import_visits(warehouse, [VisitRow(provider="askara", correlation_key="a-1", patient_id="p-1")], days=DAYS, now=NOW)
    land_all(warehouse)
    if mapped:
        build_notes(warehouse, settings, TODAY, clock=lambda: NOW, run_id="run-2")
        land_all(warehouse, SOON, "Plan: much rest")
    before()
    for _ in range(2):
        build_notes(warehouse, settings, TODAY, clock=lambda: NOW, run_id="run-2")
    rows = dump(warehouse, "id")
    # Numbered in the order in which they were replaced, which may be another.
    rows["notes_history"].sort(key=lambda row: (row["note_id"], row["replaced_by"]))
    return rows


@pytest.mark.parametrize("mapped", [False, True], ids=["new", "changed"])
@pytest.mark.parametrize(
    "meanwhile",
    [
        it_changes,
        its_parent_changes,
        it_is_gone,
        its_visit_is_imported,
        it_is_forgotten,
        its_visit_alone_is_forgotten,
        another_run_maps_it,
    ],
)
def test_what_happens_while_records_are_mapped_might_have_happened_before(
    warehouse: Warehouse,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Meanwhile,
    *,
    mapped: bool,
) -> None:
    expected = result(warehouse, settings, lambda: meanwhile(warehouse, settings), mapped=mapped)
    real = build._map
    happened: list[bool] = []

    def slow(each: DueRecord, known: Settings) -> Any:
        made = real(each, known)
        if not happened:
            happened.append(True)
            meanwhile(warehouse, settings)
        return made

    found = result(warehouse, settings, lambda: monkeypatch.setattr(build, "_map", slow), mapped=mapped)

    assert happened
    assert found == expected


def test_a_parent_whose_first_child_arrives_meanwhile_stays_due(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the parent changes by that, and it was not mapped before."""
    land_audio(warehouse)
    real = build._map

    def slow(each: DueRecord, known: Settings) -> Any:
        monkeypatch.setattr(build, "_map", real)
        made = real(each, known)
        land_note(warehouse)
        return made

    monkeypatch.setattr(build, "_map", slow)
    outcomes = []
    for _ in range(2):
        build_notes(warehouse, settings, TODAY, clock=lambda: NOW)
        outcomes.append({row["source_id"]: row["outcome"] for row in rows_of(warehouse, source_records)})

    assert outcomes == [{"a-1": None, "n-1": None}, {"a-1": "part", "n-1": "note"}]


def test_what_was_forgotten_before_its_turn_came_is_not_touched(warehouse: Warehouse, settings: Settings) -> None:
    land_all(warehouse)
    it_is_forgotten(warehouse, settings)
    before = dump(warehouse)
    keys = (("audioscribe", "sessions", "17"), ("askara", "notes", "n-1"))
    batch = Batch(TODAY, keys, True, build.mapping_fingerprint(settings))

    assert build_batch(warehouse, settings, batch, LATEST) == 0
    assert dump(warehouse) == before
    assert stable_id("askara", "default", "n-1", "note") not in {row["note_id"] for row in rows_of(warehouse, notes)}


def test_records_are_mapped_by_the_mapping_they_are_to_be_mapped_by(warehouse: Warehouse, settings: Settings) -> None:
    land_all(warehouse)

    with pytest.raises(MedscribeError) as raised:
        build_batch(warehouse, settings, Batch(TODAY, (("audioscribe", "sessions", "17"),), True, "another"), LATEST)

    assert raised.value.code == "mapping_differs"
    assert rows_of(warehouse, notes) == []
