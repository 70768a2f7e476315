"""The views: the same rows on both databases, made again by every migration."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.warehouse import tables
from medscribe_pipeline.warehouse.recreated import laid_aside
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import metadata
from medscribe_pipeline.warehouse.views import (
    v_daily,
    v_delivery_latency,
    v_notes,
    v_sections,
    v_transcript_turns,
    view_metadata,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings

    MakeSettings = Callable[..., Settings]

DAY = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
VERSION = "a" * 64
OLD_VERSION = "b" * 64
TURNS = [
    {"text": "Synthetic question?", "speaker": "doctor", "start_offset_ms": 0, "end_offset_ms": 1500},
    {"text": "Synthetic 'answer'.", "speaker": None, "start_offset_ms": None, "end_offset_ms": None},
]


def note(note_id: str, **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(column.name for column in tables.notes.columns)
    row |= {"note_id": note_id, "account": "default", "provider": "nabla", "stream": "notes", "source_id": note_id}
    row |= {"kind": "note", "visit_day": DAY, "state": "draft", "has_text": True, "version": VERSION, "source_seq": 1}
    return {**row, "mapped_at": NOON, **more}


def record(source_id: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"account": "default", "provider": "nabla", "stream": "notes", "source_id": source_id}
    row |= {"payload": {}, "content_hash": VERSION, "list_hash": VERSION, "fetched_at": NOON, "visit_day": DAY}
    return {**row, "change_seq": 4, "outcome": "note", "mapped_seq": 4, **more}


def delivery(note_id: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"target": "ehr", "note_id": note_id, "kind": "Composition", "version": VERSION}
    row |= {"account": "default", "visit_day": DAY, "source_seq": 1, "state": "delivered", "attempts": 1}
    return {**row, "sent_at": None, "settled_at": None, **more}


def fill(warehouse: Warehouse, rows: dict[sa.Table, list[dict[str, Any]]]) -> None:
    with warehouse.begin() as connection:
        for table, values in rows.items():
            connection.execute(sa.insert(table), values)


def read(warehouse: Warehouse, view: sa.Table) -> list[dict[str, Any]]:
    with warehouse.read() as connection:
        return [row._asdict() for row in connection.execute(sa.select(view).order_by(*view.columns))]


def test_every_view_has_the_columns_it_is_described_with(warehouse: Warehouse) -> None:
    with warehouse.read() as connection:
        inspector = sa.inspect(connection)
        found = {name: [each["name"] for each in inspector.get_columns(name)] for name in inspector.get_view_names()}

    assert found == {view.name: view.columns.keys() for view in view_metadata.tables.values()}


def test_notes_with_their_clinician_and_size(warehouse: Warehouse) -> None:
    clinician = {"identifiers": [{"system": "urn:zz", "value": "zz-7"}], "role_identifiers": [], "display": "Dr Zz"}
    signed = {"state": "validated", "amends": OLD_VERSION, "practitioner": clinician}
    visit = {"started_at": NOON - timedelta(seconds=90.25), "ended_at": NOON}
    fill(
        warehouse,
        {
            tables.notes: [note("n1", **signed, **visit), note("n2", has_text=False)],
            tables.note_sections: [
                {"note_id": "n1", "ordinal": 0, "key": "PLAN", "text": "four", "parent_ordinal": None},
                {"note_id": "n1", "ordinal": 1, "key": None, "text": "äöü", "parent_ordinal": 0},
            ],
            tables.transcripts: [{"note_id": "n1", "turns": TURNS}],
        },
    )

    full, bare = read(warehouse, v_notes)

    assert (full["practitioner_system"], full["practitioner_id"], full["practitioner_name"]) == (
        "urn:zz",
        "zz-7",
        "Dr Zz",
    )
    assert (full["duration_s"], full["started_at"]) == (90.25, visit["started_at"])
    assert (full["sections"], full["characters"], full["has_transcript"], full["amended"]) == (2, 7, True, True)
    assert (bare["sections"], bare["characters"], bare["has_transcript"], bare["amended"]) == (0, 0, False, False)
    assert (bare["practitioner_id"], bare["duration_s"], bare["has_text"]) == (None, None, False)


def test_sections_know_what_they_are_nested_in(warehouse: Warehouse) -> None:
    sections = [
        {"note_id": "n1", "ordinal": 0, "key": "PLAN", "title": "Plan", "text": "", "parent_ordinal": None},
        {"note_id": "n1", "ordinal": 1, "key": "MEDICATION", "title": None, "text": "Synthetic.", "parent_ordinal": 0},
    ]
    fill(warehouse, {tables.notes: [note("n1")], tables.note_sections: sections})

    outer, inner = read(warehouse, v_sections)

    assert (outer["key"], outer["parent_key"], outer["characters"]) == ("PLAN", None, 0)
    assert (inner["key"], inner["parent_key"], inner["parent_title"]) == ("MEDICATION", "PLAN", "Plan")
    assert (inner["visit_day"], inner["provider"], inner["format"]) == (DAY, "nabla", "text")


def test_turns_stand_in_rows_in_their_order(warehouse: Warehouse) -> None:
    fill(
        warehouse,
        {
            tables.notes: [note("n1"), note("n2")],
            tables.transcripts: [{"note_id": "n1", "turns": TURNS}, {"note_id": "n2", "turns": []}],
        },
    )

    rows = read(warehouse, v_transcript_turns)

    assert [row["ordinal"] for row in rows] == [0, 1]
    assert [{key: row[key] for key in ("text", "speaker", "start_offset_ms", "end_offset_ms")} for row in rows] == TURNS
    assert {row["note_id"] for row in rows} == {"n1"}


def test_a_day_in_figures(warehouse: Warehouse) -> None:
    fill(
        warehouse,
        {
            tables.source_records: [
                record("n1"),
                record("n2"),
                record("h1", outcome="held"),
                record("q1", outcome="quarantined"),
                record("w1", outcome=None, mapped_seq=None),
                record("w2", outcome="held", mapped_seq=3),
                record("other", visit_day=DAY + timedelta(1)),
            ],
            tables.notes: [
                note("n1", state="validated", patient_id="zz-1"),
                note("n2", has_text=False),
                note("x1", account="another"),
            ],
            tables.fhir_documents: [
                {"note_id": note_id, "kind": kind, "account": "default", "visit_day": DAY, "resource": {}}
                | {"version": version, "mapping_version": "1", "source_seq": 1, "built_at": NOON}
                for note_id, kind, version in (
                    ("n1", "Composition", VERSION),
                    ("n1", "DocumentReference", VERSION),
                    ("n2", "Composition", OLD_VERSION),
                )
            ],
            tables.deliveries: [
                delivery("n1"),
                delivery("n1", kind="DocumentReference"),
                delivery("n1", version=OLD_VERSION, state="rejected"),
                delivery("n1", target="second", state="claimed"),
                delivery("n2", state="held"),
            ],
            tables.visit_days: [{"account": "default", "visit_day": DAY, "changed_seq": 4, "built_seq": 3}],
        },
    )

    another, day, next_day = read(warehouse, v_daily)

    counted = {name: value for name, value in day.items() if value}
    assert counted == {
        "account": "default",
        "visit_day": DAY,
        "provider": "nabla",
        "records": 6,
        "records_waiting": 2,
        "records_held": 1,
        "records_quarantined": 1,
        "notes": 2,
        "notes_draft": 1,
        "notes_validated": 1,
        "notes_without_text": 1,
        "notes_without_patient": 1,
        "notes_with_document": 1,
        "deliveries": 3,
        "delivered": 1,
        "held": 1,
        "under_way": 1,
        "changes_waiting": True,
    }
    assert (another["account"], another["records"], another["notes"]) == ("another", 0, 1)
    assert (next_day["records"], next_day["notes"], next_day["changes_waiting"]) == (1, 0, False)


def test_latency_counts_from_each_beginning_to_the_last_document(warehouse: Warehouse) -> None:
    begun = {"ended_at": NOON - timedelta(hours=1), "validated_at": NOON + timedelta(seconds=1)}
    sent = {"sent_at": NOON + timedelta(seconds=10), "settled_at": NOON + timedelta(seconds=10.5)}
    later = {"sent_at": NOON + timedelta(seconds=11), "settled_at": NOON + timedelta(seconds=12)}
    fill(
        warehouse,
        {
            tables.source_records: [record("n1"), record("n2", fetched_at=NOON + timedelta(days=1))],
            tables.notes: [note("n1", **begun), note("n2")],
            tables.deliveries: [
                delivery("n1", **sent),
                delivery("n1", kind="DocumentReference", **later),
                delivery("n1", version=OLD_VERSION, **sent),
                delivery("n2", **sent),
                delivery("n2", target="second", state="unknown", sent_at=NOON),
            ],
        },
    )

    first, second = read(warehouse, v_delivery_latency)

    spans = ("visit_to_delivered_s", "validated_to_delivered_s", "pulled_to_delivered_s", "sent_to_delivered_s")
    assert [first[name] for name in spans] == [3612.0, 11.0, 12.0, 2.0]
    # Fetched again after it went out: how long that had taken is not known any more.
    assert [second[name] for name in spans] == [None, None, None, 0.5]


def migrate_nothing(warehouse: Warehouse) -> None:
    """What every upgrade does around its migrations, without one."""
    with warehouse.begin() as connection, laid_aside(connection):
        assert not set(sa.inspect(connection).get_view_names()) & set(view_metadata.tables)


def test_a_migration_makes_the_views_again_and_keeps_who_may_read_them(
    make_settings: MakeSettings, postgres_url: str
) -> None:
    with Warehouse.open(make_settings(warehouse_url=postgres_url)) as warehouse:
        with warehouse.begin() as connection:
            # Roles are the server's, not the database's.
            reader = sa.make_url(postgres_url).database or ""
            connection.exec_driver_sql(f'CREATE ROLE "Reader {reader}"')
            connection.exec_driver_sql(f'GRANT SELECT ON v_daily TO "Reader {reader}" WITH GRANT OPTION')
            connection.exec_driver_sql("GRANT SELECT ON v_notes TO PUBLIC")
            connection.exec_driver_sql("DROP VIEW v_sections")
        grants = sa.text(
            "SELECT table_name, grantee, is_grantable FROM information_schema.role_table_grants "
            "WHERE table_name LIKE 'v\\_%' AND grantee <> 'postgres' ORDER BY 1, 2"
        )
        try:
            migrate_nothing(warehouse)

            assert len(read(warehouse, v_sections)) == 0
            with warehouse.read() as connection:
                found = [tuple(row) for row in connection.execute(grants)]
            assert found == [("v_daily", f"Reader {reader}", "YES"), ("v_notes", "PUBLIC", "NO")]
        finally:
            with warehouse.begin() as connection:
                connection.exec_driver_sql(f'DROP OWNED BY "Reader {reader}"')
                connection.exec_driver_sql(f'DROP ROLE "Reader {reader}"')


def test_views_of_others_upon_ours_are_named_before_anything_moves(
    make_settings: MakeSettings, postgres_url: str
) -> None:
    with Warehouse.open(make_settings(warehouse_url=postgres_url)) as warehouse:
        with warehouse.begin() as connection:
            connection.exec_driver_sql("CREATE VIEW of_somebody AS SELECT visit_day FROM v_daily")

        with pytest.raises(ConfigError, match="other views use v_daily") as raised:
            migrate_nothing(warehouse)

        assert raised.value.code == "views_in_use"
        assert read(warehouse, v_notes) == []


def test_every_table_view_and_column_says_what_it_is() -> None:
    described = [*metadata.tables.values(), *view_metadata.tables.values()]

    assert [each.name for each in described if not each.comment] == []
    assert [str(column) for each in described for column in each.columns if not column.comment] == []


def test_postgresql_knows_all_comments(make_settings: MakeSettings, postgres_url: str) -> None:
    comments = sa.text(
        "SELECT c.relname, coalesce(a.attname, ''), d.description FROM pg_description AS d "
        "JOIN pg_class AS c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass AND c.relkind IN ('r', 'v') "
        "LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0 "
        "WHERE c.relnamespace = 'public'::regnamespace"
    )
    with Warehouse.open(make_settings(warehouse_url=postgres_url)) as warehouse, warehouse.read() as connection:
        found = {(table, column): text for table, column, text in connection.execute(comments)}

    described = [*metadata.tables.values(), *view_metadata.tables.values()]
    assert found == {(each.name, ""): each.comment for each in described} | {
        (each.name, column.name): column.comment for each in described for column in each.columns
    }
