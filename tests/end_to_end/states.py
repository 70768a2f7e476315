"""What is in a warehouse and in an EHR, without what may differ from one history of runs to another."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from medscribe_pipeline.sandbox import Sandbox

Row = dict[str, Any]
Tables = dict[str, list[Row]]

# Our own clock, names of runs and workers, how often something was tried, and numbers given in order of arrival.
VOLATILE = {
    "sync_cursors": {"moved_at", "run_id"},
    "source_records": {"fetched_at", "run_id", "change_seq", "mapped_seq"},
    "visit_days": {"changed_seq", "built_seq"},
    "visits": {"imported_at"},
    "notes": {"source_seq", "mapped_at"},
    "fhir_documents": {"source_seq", "built_at"},
    "deliveries": {"source_seq", "attempts", "outcome_codes", "sent_at", "settled_at", "server_id"},
    "quarantine": {"attempts", "first_seen_at", "last_seen_at", "run_id"},
}
# Diaries of the runs (which versions of a note were seen on the way depends on when each was), a counter, secrets, and
# the migrations' own table.
APART = {"sync_cursor_history", "notes_history", "change_counter", "oauth_tokens", "alembic_version"}


def tables_of(database: Path) -> Tables:
    """Every row of every table, in an order of its own."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: sorted((dict(row) for row in connection.execute(f'SELECT * FROM "{name}"')), key=repr)  # noqa: S608 - names come from the database itself
            for name in names
            if not name.startswith("sqlite_")
        }


def warehouse_state(database: Path) -> Tables:
    """What must be the same however often and wherever a run was cut off.

    Of the numbers in order of arrival only their relations are kept: mapped is what landed, built is what changed.
    """
    tables = tables_of(database)
    for row in tables["source_records"]:
        row["is_mapped"] = row["mapped_seq"] == row["change_seq"]
    for row in tables["visit_days"]:
        row["is_built"] = row["built_seq"] >= row["changed_seq"]
    for row in tables["quarantine"]:
        row["resolved_at"] = row["resolved_at"] is not None
    for row in tables["sync_cursors"]:
        if row["stream"].endswith(".complete"):  # When a stream was read to its end: our own clock.
            row["watermark"] = None
    return {
        name: sorted(({key: row[key] for key in row if key not in VOLATILE.get(name, ())} for row in rows), key=repr)
        for name, rows in tables.items()
        if name not in APART
    }


def ehr_state(sandbox: Sandbox) -> list[Row]:
    """The current version of every resource in the EHR, but for its id and when the EHR stored it."""
    resources = [
        {**resource, "id": None, "meta": {**resource["meta"], "lastUpdated": None}}
        for kind in ("Composition", "DocumentReference", "Provenance", "Binary")
        for resource in sandbox.fhir.resources(kind)
    ]
    return sorted(resources, key=repr)


def whole_state(database: Path, sandbox: Sandbox) -> dict[str, list[Row]]:
    """Both, after the ledger was compared with the EHR it speaks of."""
    assert_ledger_is_true(database, sandbox)
    return {**warehouse_state(database), "EHR": ehr_state(sandbox)}


def assert_ledger_is_true(database: Path, sandbox: Sandbox) -> None:
    """Nothing is under way, each delivered row names a resource of that note, and no note is there twice."""
    rows = tables_of(database)["deliveries"]
    assert not [row for row in rows if row["claimed_by"] or row["state"] in {"claimed", "sent", "planned", "unknown"}]
    identifiers = {kind: [value_of(each) for each in sandbox.fhir.resources(kind)] for kind in KINDS}
    for kind in KINDS:
        assert len(set(identifiers[kind])) == len(identifiers[kind])
        by_id = {each["id"]: value_of(each) for each in sandbox.fhir.resources(kind)}
        delivered = {
            row["note_id"]: row["server_id"] for row in rows if (row["kind"], row["state"]) == (kind, "delivered")
        }
        assert {by_id[server_id] for server_id in delivered.values()} == set(by_id.values())
        assert len(set(delivered.values())) == len(delivered)


KINDS = ("Composition", "DocumentReference")


def value_of(resource: Row) -> str:
    """The identifier of the note a resource was made from."""
    given = resource["identifier"]
    return str((given[0] if isinstance(given, list) else given)["value"])


def open_only(state: Tables) -> Tables:
    """A state without what passed through quarantine and left it again."""
    return {**state, "quarantine": [row for row in state["quarantine"] if not row["resolved_at"]]}
