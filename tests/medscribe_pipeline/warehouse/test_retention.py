"""What is removed because of its age, and what is kept in any case."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.providers.inbox_store import Event, store_events
from medscribe_pipeline.warehouse import retention
from medscribe_pipeline.warehouse.arrivals import Problem
from medscribe_pipeline.warehouse.retention import Pruned, prune
from medscribe_pipeline.warehouse.tables import inbox, notes_history, quarantine, source_records
from tests.databases import NOW, TODAY, dump, landing_for, record, rows_of

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

DAY = timedelta(days=1)


def replaced(warehouse: Warehouse, at: datetime, account: str = "default") -> None:
    row = {"account": account, "note_id": "n-1", "provider": "askara", "visit_day": TODAY, "state": "draft"}
    row |= {"version": "1" * 64, "replaced_by": "2" * 64, "sections": [], "source_seq": 1}
    with warehouse.begin() as connection:
        connection.execute(sa.insert(notes_history).values(**row, mapped_at=at, replaced_at=at))


def ours(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update=changes)


@pytest.mark.parametrize(("days", "left"), [(0, 0), (9, 1), (10, 2), (365, 2)])
def test_replaced_versions_are_kept_for_so_many_days(
    warehouse: Warehouse, settings: Settings, days: int, left: int
) -> None:
    replaced(warehouse, NOW - 10 * DAY)
    replaced(warehouse, NOW - DAY)

    pruned = prune(warehouse, ours(settings, history_days=days), clock=lambda: NOW)

    assert len(rows_of(warehouse, notes_history)) == left
    assert pruned == Pruned(notes_history=2 - left)


def test_another_account_is_left_alone(warehouse: Warehouse, settings: Settings) -> None:
    replaced(warehouse, NOW - 10 * DAY, account="another")

    prune(warehouse, ours(settings, history_days=0), clock=lambda: NOW)

    assert len(rows_of(warehouse, notes_history)) == 1


def test_more_rows_than_fit_into_one_transaction_are_all_removed(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for _ in range(5):
        replaced(warehouse, NOW - DAY)

    assert prune(warehouse, ours(settings, history_days=0), clock=lambda: NOW).notes_history == 5
    assert rows_of(warehouse, notes_history) == []


OUTCOMES = {
    "note": True,
    "part": True,
    "held": False,
    "quarantined": False,
    None: False,
}


def land(warehouse: Warehouse) -> None:
    """One record for each outcome; one more that was mapped before it changed, and a parent with its child."""
    names = [str(outcome) for outcome in OUTCOMES]
    landing = landing_for(warehouse)
    landing.land([record(name) for name in [*names, "outdated", "parent"]], [], None, now=NOW)
    landing_for(warehouse, stream="notes").land([record("child", parent_id="parent")], [], None, now=NOW)
    with warehouse.begin() as connection:
        connection.execute(sa.update(source_records).values(mapped_seq=source_records.c.change_seq, outcome="note"))
        for outcome in OUTCOMES:
            mine = source_records.c.source_id == str(outcome)
            connection.execute(sa.update(source_records).where(mine).values(outcome=outcome))
        mine = source_records.c.source_id == "outdated"
        connection.execute(sa.update(source_records).where(mine).values(mapped_seq=source_records.c.change_seq - 1))


def test_only_payloads_nobody_needs_any_more_are_removed(warehouse: Warehouse, settings: Settings) -> None:
    land(warehouse)
    hashes = {row["source_id"]: row["content_hash"] for row in rows_of(warehouse, source_records)}

    pruned = prune(warehouse, ours(settings, payload_days=30), clock=lambda: NOW + 31 * DAY)

    rows = {row["source_id"]: row for row in rows_of(warehouse, source_records)}
    removed = {name for name, row in rows.items() if row["payload"] == {}}
    assert removed == {"note", "part", "child"}
    assert {name for name, row in rows.items() if row["payload_removed_at"] == NOW + 31 * DAY} == removed
    assert {name: row["content_hash"] for name, row in rows.items()} == hashes
    assert pruned.source_records == 3


def test_payloads_are_kept_for_ever_by_default_and_while_they_are_young(
    warehouse: Warehouse, settings: Settings
) -> None:
    land(warehouse)
    before = dump(warehouse)

    prune(warehouse, settings, clock=lambda: NOW + 10_000 * DAY)
    prune(warehouse, ours(settings, payload_days=30), clock=lambda: NOW + 29 * DAY)

    assert dump(warehouse) == before


def test_closed_problems_and_processed_events_lose_theirs_too(warehouse: Warehouse, settings: Settings) -> None:
    def problem(name: str) -> Problem:
        return Problem(source_id=name, code="wire_model", field_paths=(), payload={"x": name}, payload_hash=name)

    landing_for(warehouse).land([], [problem("open"), problem("closed")], None, now=NOW)
    landing_for(warehouse).land([record("closed")], [], None, now=NOW)
    events = [Event("askara", "new_note", name, {"text": name}, verified=False) for name in ("waits", "done")]
    store_events(warehouse, events, now=NOW)
    with warehouse.begin() as connection:
        done = inbox.c.event_id == "done"
        connection.execute(sa.update(inbox).where(done).values(processed_at=NOW))

    first = prune(warehouse, ours(settings, payload_days=30), clock=lambda: NOW + 31 * DAY)
    second = prune(warehouse, ours(settings, payload_days=30), clock=lambda: NOW + 31 * DAY)

    assert {row["source_id"]: row["payload"] for row in rows_of(warehouse, quarantine)} == {
        "open": {"x": "open"},
        "closed": None,
    }
    assert {row["event_id"]: row["payload"] for row in rows_of(warehouse, inbox)} == {
        "waits": {"text": "waits"},
        "done": {},
    }
    assert (first.quarantine, first.inbox) == (1, 1)
    assert second == Pruned()


def test_a_dry_run_counts_and_removes_nothing(warehouse: Warehouse, settings: Settings) -> None:
    land(warehouse)
    replaced(warehouse, NOW)
    before = dump(warehouse)
    ageing = ours(settings, payload_days=30, history_days=1)

    counted = prune(warehouse, ageing, clock=lambda: NOW + 31 * DAY, dry_run=True)

    assert dump(warehouse) == before
    assert counted == prune(warehouse, ageing, clock=lambda: NOW + 31 * DAY) == Pruned(1, 3)
