"""`medscribe quarantine`: what a person sees, and what a person can do."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from medscribe_pipeline.sandbox import MARKERS
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.audit import read_accesses
from medscribe_pipeline.warehouse.store import Warehouse
from tests.medscribe_pipeline.operation.intake import build, pull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.medscribe_pipeline.cli.conftest import Ran

    Medscribe = Callable[..., Ran]

MARKER = MARKERS[0]
ROW = {
    "id",
    "stage",
    "provider",
    "stream",
    "visit_day",
    "code",
    "field_paths",
    "attempts",
    "first_seen_at",
    "last_seen_at",
    "resolved_at",
    "closed_by",
    "closed_for",
    "sealed",
}


def session(number: int | None, **changes: Any) -> bytes:
    return orjson.dumps(
        {
            "id": number if number is not None else {},
            "title": f"{MARKER} {number}",
            "note": f"Plan: {MARKER}",
            "createdAt": "2026-03-02T08:00:00Z",
            **changes,
        }
    )


@pytest.fixture
def filled(home: Path) -> Iterator[Warehouse]:
    """Two sessions with a wrong time, one without id, and one that is a note."""
    assert home
    settings = Settings.load()
    records = [session(1), session(2, createdAt=MARKER), session(3, createdAt=MARKER), session(None)]
    with Warehouse.open(settings) as warehouse:
        pull(warehouse, settings, "audioscribe", "sessions", records)
        build(warehouse, settings)
        yield warehouse


def rows(medscribe: Medscribe, *arguments: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = medscribe("quarantine", "list", "--json", *arguments).json["rows"]
    return listed


def ids(medscribe: Medscribe, *arguments: str) -> list[str]:
    return [row["id"] for row in rows(medscribe, *arguments)]


@pytest.mark.usefixtures("filled")
def test_counts_come_first_and_no_patient_is_shown(medscribe: Medscribe) -> None:
    ran = medscribe("quarantine", "list")
    as_json = medscribe("quarantine", "list", "--json")

    assert (ran.code, as_json.code) == (0, 0)
    assert ran.out.index("In quarantine") < ran.out.index("createdAt:value_error")
    assert {each["code"]: each["rows"] for each in as_json.json["counts"]} == {"wire_model": 2, "no_id": 1}
    assert [set(row) for row in as_json.json["rows"]] == [ROW] * 3
    assert as_json.json["more"] is False
    assert [marker for marker in MARKERS if marker in ran.out + ran.err + as_json.out] == []


@pytest.mark.usefixtures("filled")
def test_rows_are_chosen_by_what_they_have_in_common(medscribe: Medscribe) -> None:
    assert len(ids(medscribe, "--code", "no_id")) == 1
    assert len(ids(medscribe, "--stage", "extract", "--provider", "audioscribe")) == 3
    assert ids(medscribe, "--provider", "askara") == ids(medscribe, "--day", "2026-03-02") == []
    assert medscribe("quarantine", "list", "--json", "--limit", "1").json["more"] is True
    assert "These are the first 1" not in medscribe("quarantine", "list", "--counts").out
    assert "first 1. --limit 0" in medscribe("quarantine", "list", "--limit", "1").words
    assert "Nothing of that" in medscribe("quarantine", "list", "--code", "x").out
    assert set(medscribe("quarantine", "list", "--counts", "--json").json) == {"counts"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["list", "--stage", "delivery"], "stage"),
        (["list", "--day", "someday"], "day"),
        (["show", "no-such-row"], "no_such_row"),
        (["replay"], "which_rows"),
        (["replay", "one", "--all"], "which_rows"),
        (["replay", "no-such-row"], "no_such_row"),
        (["discard", "--reason", "because of Mrs Zzmark", "--all"], "discard_reason"),
        (["discard", "--reason", "duplicate"], "which_rows"),
        (["discard", "--reason", "duplicate", "--all"], "needs_yes"),
        (["reseal"], "no_encryption_key"),
    ],
)
@pytest.mark.usefixtures("filled")
def test_a_slip_is_told_and_does_nothing(medscribe: Medscribe, arguments: list[str], code: str) -> None:
    ran = medscribe("quarantine", *arguments)

    assert ran.code == 2
    assert f"code={code}" in ran.err
    assert MARKER not in ran.err
    assert len(ids(medscribe)) == 3


@pytest.mark.usefixtures("filled")
def test_a_row_says_what_it_means_and_what_to_do(medscribe: Medscribe) -> None:
    row_id = ids(medscribe, "--code", "wire_model")[0]

    shown = medscribe("quarantine", "show", row_id)
    as_json = medscribe("quarantine", "show", row_id, "--json").json

    assert shown.code == 0
    assert "createdAt:value_error" in shown.out
    assert "What it means: a field has the wrong type or is missing." in shown.words
    assert "What to do: " in shown.words
    assert set(as_json) == {*ROW, "openable", "means", "to_do", "command"}
    assert [marker for marker in MARKERS if marker in shown.out] == []
    assert "source_id" in medscribe("quarantine", "show", row_id, "--ids").out


def test_a_payload_is_shown_on_request_and_who_looked_is_noted(medscribe: Medscribe, filled: Warehouse) -> None:
    row_id = ids(medscribe, "--code", "wire_model")[0]

    shown = medscribe("quarantine", "show", row_id, "--payload")
    as_json = medscribe("quarantine", "show", row_id, "--payload", "--json")

    assert f"Plan: {MARKER}" in shown.out
    assert as_json.json["payload"]["createdAt"] == MARKER
    with filled.read() as connection:
        accesses = list(read_accesses(connection, filled.account))
    assert [(each.what, each.subject) for each in accesses] == [("quarantine_payload", row_id)] * 2


def test_what_a_landed_record_says_is_shown_from_where_it_is(medscribe: Medscribe, filled: Warehouse) -> None:
    row_id = ids(medscribe, "--code", "wire_model")[0]
    settings = Settings.load()
    with filled.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE source_records SET mapped_with = 'x', payload = replace(payload, '08:00', 'x')"
        )
    with filled.begin() as connection:
        connection.exec_driver_sql("UPDATE visit_days SET built_with = 'x'")
    build(filled, settings)
    (mapped,) = ids(medscribe, "--stage", "map")

    shown = medscribe("quarantine", "show", mapped, "--payload", "--json").json

    assert mapped != row_id
    assert shown["payload"]["title"] == f"{MARKER} 1"


def test_one_command_after_the_cause_was_mended(medscribe: Medscribe, filled: Warehouse) -> None:
    unmended = medscribe("quarantine", "replay", "--code", "wire_model")
    with filled.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE quarantine SET payload = replace(payload, ?, ?)",
            (f'"createdAt":"{MARKER}"', '"createdAt":"2026-03-02"'),
        )

    mended = medscribe("quarantine", "replay", "--all", "--json")
    rest = medscribe("quarantine", "replay", "--all")

    assert unmended.code == 1
    assert "2 still in quarantine (extract, wire_model)" in unmended.words
    assert mended.code == 1
    assert mended.json == {
        "rows": 3,
        "landed": 2,
        "became": {"note": 2},
        "still_quarantined": {"extract.no_id": 1},
        "left": {},
        "days": ["2026-03-02"],
    }
    assert "1 rows tried again" in rest.words
    assert len(ids(medscribe)) == 1
    assert [marker for marker in MARKERS if marker in unmended.out + mended.out + rest.out] == []


@pytest.mark.usefixtures("filled")
def test_rows_are_put_aside_and_taken_up_again(medscribe: Medscribe) -> None:
    (row_id,) = ids(medscribe, "--code", "no_id")

    done = medscribe("quarantine", "discard", row_id, "--reason", "test_data")
    many = medscribe("quarantine", "discard", "--code", "wire_model", "--reason", "duplicate", "--yes", "--json")

    assert (done.code, many.json) == (0, {"rows": 2})
    assert ids(medscribe) == []
    aside = {row["id"]: row["closed_for"] for row in rows(medscribe, "--all")}
    assert (len(aside), aside[row_id]) == (3, "test_data")
    assert "put aside: test_data" in medscribe("quarantine", "list", "--all").out
    assert "Was in quarantine" in medscribe("quarantine", "show", row_id).out
    assert "Nothing of that is in quarantine" in medscribe("quarantine", "replay", "--all").out
    assert medscribe("quarantine", "replay", row_id).code == 1
    assert ids(medscribe) == [row_id]


def test_payloads_are_sealed_and_their_key_replaced(
    medscribe: Medscribe, filled: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def payloads() -> str:
        with filled.read() as connection:
            return str(connection.exec_driver_sql("SELECT payload FROM quarantine").all())

    keys = [base64.b64encode(bytes([n] * 32)).decode() for n in range(3)]
    monkeypatch.setenv("MEDSCRIBE_ENCRYPTION_KEY", keys[0])
    first = medscribe("quarantine", "reseal", "--json")
    monkeypatch.setenv("MEDSCRIBE_ENCRYPTION_KEY", keys[1])
    monkeypatch.setenv("MEDSCRIBE_ENCRYPTION_OLD_KEY", keys[0])
    second = medscribe("quarantine", "reseal")
    monkeypatch.delenv("MEDSCRIBE_ENCRYPTION_OLD_KEY")
    row_id = ids(medscribe)[0]
    opened = medscribe("quarantine", "show", row_id, "--payload")
    monkeypatch.setenv("MEDSCRIBE_ENCRYPTION_KEY", keys[2])
    lost = medscribe("quarantine", "reseal")
    shown = medscribe("quarantine", "show", row_id)
    refused = medscribe("quarantine", "show", row_id, "--payload")

    assert first.json == {"sealed": 3, "as_before": 0, "unreadable": 0}
    assert "3 payloads sealed" in second.words
    assert MARKER not in payloads()
    assert MARKER in opened.out
    assert (lost.code, refused.code, shown.code) == (1, 1, 0)
    assert "3 cannot be opened" in lost.words
    assert "sealed with a key that is not set" in shown.words
    assert "code=sealed_away" in refused.err
    assert not any(key in ran.out + ran.err for key in keys for ran in (first, second, opened, lost, shown, refused))
