"""The queries of `docs/warehouse.md`, run against a warehouse with a handful of synthetic rows."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from docs.warehouse_page import QUERIES
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse import tables
from medscribe_pipeline.warehouse.store import Warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
HASH = "0" * 64


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    monkeypatch.chdir(tmp_path)
    with Warehouse.open(Settings(home=tmp_path)) as opened:
        fill(opened)
        yield opened


def record(source_id: str, outcome: str | None, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "account": "default",
        "provider": "askara",
        "stream": "notes",
        "source_id": source_id,
        "payload": {},
    }
    row |= {"content_hash": HASH, "list_hash": HASH, "fetched_at": NOW, "visit_day": DAY, "change_seq": 1}
    return {**row, "parent_id": None, "outcome": outcome, **more}


def note(note_id: str, patient_id: str | None, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "note_id": note_id,
        "account": "default",
        "provider": "askara",
        "stream": "notes",
        "kind": "note",
    }
    row |= {"source_id": note_id, "visit_day": DAY, "state": "validated", "has_text": True, "version": HASH}
    return {**row, "source_seq": 1, "mapped_at": NOW, "patient_id": patient_id, **more}


def delivery(note_id: str, state: str, kind: str = "DocumentReference", **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"target": "ehr", "note_id": note_id, "kind": kind, "version": HASH, "account": "default"}
    row |= {"visit_day": DAY, "source_seq": 1, "state": state, "attempts": 1, "reason": None}
    return {**row, "server_id": None, "etag": None, "settled_at": None, **more}


def problem(key: str, resolved_at: datetime | None) -> dict[str, Any]:
    row: dict[str, Any] = {"id": key, "account": "default", "stage": "extract", "provider": "askara", "stream": "notes"}
    row |= {"source_id": key, "error_code": "wire_model", "field_paths": [], "payload_hash": HASH, "attempts": 1}
    return {**row, "first_seen_at": NOW, "last_seen_at": NOW, "resolved_at": resolved_at}


def fill(warehouse: Warehouse) -> None:
    rows: dict[sa.Table, list[dict[str, Any]]] = {
        tables.source_records: [
            record("n1", "note", parent_id="a1"),
            record("n2", "note", parent_id="a2"),
            record("a1", "part", stream="audios"),
            record("s1", None, provider="audioscribe", stream="sessions"),
            record("s2", "note", account="another"),
        ],
        tables.notes: [
            note("n1", "zz-patient-1"),
            note("n2", None),
            note("n3", "zz-patient-3"),
            note("s2", None, account="another"),
        ],
        tables.note_sections: [
            {"note_id": "n1", "ordinal": 0, "key": "PLAN", "title": None, "text": "Synthetic."},
            {"note_id": "n2", "ordinal": 0, "key": "PLAN", "title": None, "text": "Synthetic."},
            {"note_id": "n2", "ordinal": 1, "key": None, "title": "Synthetic", "text": "Synthetic."},
        ],
        tables.deliveries: [
            delivery("n1", "delivered", server_id="17", etag='W/"1"', settled_at=NOW),
            delivery("n1", "delivered", "Composition", server_id="16", etag='W/"1"', settled_at=NOW),
            delivery("n1", "held", version="1" * 64, reason="superseded"),
            delivery("n2", "held", reason="patient_unknown"),
            delivery("n2", "held", "Composition", reason="patient_unknown"),
            delivery("n3", "held", reason="patient_unknown"),
        ],
        tables.quarantine: [
            problem("q1", None),
            problem("q2", NOW),
        ],
    }
    with warehouse.begin() as connection:
        for table, values in rows.items():
            connection.execute(sa.insert(table), values)


NOON = "2026-03-02T10:00:00.000000+00:00"
EXPECTED: dict[str, list[tuple[Any, ...]]] = {
    "What became of each day's records": [
        ("2026-03-02", "askara", "note", 2),
        ("2026-03-02", "askara", "part", 1),
        ("2026-03-02", "audioscribe", "waiting", 1),
    ],
    "What does not reach the EHR, and why": [("ehr", "held", "patient_unknown", 2, "2026-03-02")],
    "How a week went": [
        ("2026-03-02", "askara", 3, 3, 0, 1, 2, 0, 0, 0),
        ("2026-03-02", "audioscribe", 1, 0, 0, 0, 0, 0, 0, 0),
    ],
    "How long the last notes took": [("askara", "ehr", "2026-03-02", None, 0.0)],
    "What waits in quarantine": [("extract", "askara", "notes", "wire_model", 1, NOON)],
    "Recordings nobody can be named for": [("askara", "a2", "2026-03-02", 1)],
    "Where a note is in the EHR": [
        ("askara", "n1", "Composition", "16", 'W/"1"', NOON),
        ("askara", "n1", "DocumentReference", "17", 'W/"1"', NOON),
    ],
    "Which sections are recognised": [("askara", "PLAN", 2), ("askara", None, 1)],
}


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.title)
def test_query(query: Any, warehouse: Warehouse) -> None:
    with warehouse.read() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(query.sql))]

    assert rows == EXPECTED[query.title]
