"""Rows of the quarantine: sealed at rest, put aside by a person, listed and counted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError, MedscribeError
from medscribe_pipeline.warehouse.arrivals import Problem
from medscribe_pipeline.warehouse.quarantine_acts import discard, reseal
from medscribe_pipeline.warehouse.quarantine_list import (
    Which,
    counted,
    listed,
    read_payload,
    read_trouble,
    selected_ids,
)
from medscribe_pipeline.warehouse.sealing import Sealing
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import access_log, quarantine
from tests.databases import NOW, landing_for, record, rows_of

KEY, NEW_KEY = bytes(range(32)), bytes(range(1, 33))
MARKER = "Zzmark-Testpatient"
LATER = NOW + timedelta(hours=1)


def with_keys(warehouse: Warehouse, key: bytes | None, old_key: bytes | None = None) -> Warehouse:
    return Warehouse(warehouse.engine, account=warehouse.account, locks=warehouse.locks, sealing=Sealing(key, old_key))


def problem(source_id: str, code: str = "wire_model", **changes: Any) -> Problem:
    facts: dict[str, Any] = {
        "field_paths": ("createdAt:value_error",),
        "payload": {"uuid": source_id, "content": MARKER},
        "payload_hash": f"hash of {source_id}",
        **changes,
    }
    return Problem(source_id=source_id, code=code, **facts)


def put(warehouse: Warehouse, *problems: Problem, stream: str = "notes") -> int:
    return landing_for(warehouse, stream=stream).land([], problems, None, now=NOW).quarantined


def stored(warehouse: Warehouse) -> str:
    """All payloads as they lie in the database, read past our types."""
    with warehouse.read() as connection:
        return str(connection.execute(sa.text("SELECT payload FROM quarantine")).all())


def one_id(warehouse: Warehouse) -> str:
    (found,) = selected_ids(warehouse, Which())
    return found


def test_payloads_are_sealed_where_there_is_a_key(warehouse: Warehouse) -> None:
    sealed = with_keys(warehouse, KEY)
    put(sealed, problem("n-1"))

    trouble = read_trouble(sealed, one_id(sealed))

    assert MARKER not in stored(warehouse)
    assert trouble.sealed_with == sealed.sealing.key_id
    assert read_payload(sealed, trouble) == {"uuid": "n-1", "content": MARKER}
    # The same trouble is recognised by its hash, sealed or not.
    assert put(sealed, problem("n-1")) == 0
    assert put(warehouse, problem("n-1")) == 0


def test_a_warehouse_reads_what_was_there_before_there_was_a_key(warehouse: Warehouse) -> None:
    put(warehouse, problem("n-1"))
    sealed = with_keys(warehouse, KEY)

    assert read_payload(sealed, read_trouble(sealed, one_id(sealed)))["content"] == MARKER


def test_a_key_is_replaced_by_another(warehouse: Warehouse) -> None:
    put(warehouse, problem("n-0"))
    put(with_keys(warehouse, KEY), problem("n-1"), problem("n-2"))
    both = with_keys(warehouse, NEW_KEY, KEY)
    put(both, problem("n-3"))

    done = reseal(both)

    assert (done.sealed, done.as_before, done.unreadable) == (3, 1, 0)
    new = with_keys(warehouse, NEW_KEY)
    for trouble in listed(new, Which()):
        assert read_payload(new, trouble)["content"] == MARKER
    again = reseal(new)
    assert (again.sealed, again.as_before) == (0, 4)
    assert MARKER not in stored(warehouse)


def test_a_payload_whose_key_is_gone_is_counted_and_stops_nothing(warehouse: Warehouse) -> None:
    put(with_keys(warehouse, KEY), problem("n-1"), problem("n-2", "detail_failed"))
    put(warehouse, problem("n-3", "detail_failed"))
    new = with_keys(warehouse, NEW_KEY)

    done = reseal(new)

    assert (done.sealed, done.unreadable) == (1, 2)
    assert [key for key, _ in landing_for(new, stream="notes").waiting_for_detail(10)] == ["n-3"]
    lost = next(each for each in listed(new, Which()) if each.source_id == "n-1")
    with pytest.raises(MedscribeError) as caught:
        read_payload(new, lost)
    assert caught.value.code == "sealed_away"


def test_what_a_person_put_aside_stays_aside_until_it_changes(warehouse: Warehouse) -> None:
    put(warehouse, problem("n-1"))
    row_id = one_id(warehouse)

    assert discard(warehouse, [row_id], reason="test_data", who="ada", now=LATER) == 1
    assert discard(warehouse, [row_id], reason="not_needed", who="bob", now=LATER) == 0

    trouble = read_trouble(warehouse, row_id)
    assert (trouble.resolved_at, trouble.closed_by, trouble.closed_for) == (LATER, "ada", "test_data")
    (access,) = rows_of(warehouse, access_log)
    assert (access["at"], access["who"], access["what"], access["subject"]) == (
        LATER,
        "ada",
        "quarantine_discarded",
        row_id,
    )
    landing = landing_for(warehouse, stream="notes")
    known = landing.known(["n-1"])["n-1"]
    assert (known.list_hash, known.quarantined) == ("hash of n-1", False)
    assert put(warehouse, problem("n-1")) == 0
    assert selected_ids(warehouse, Which()) == []

    assert put(warehouse, problem("n-1", payload_hash="another")) == 1
    assert read_trouble(warehouse, row_id).closed_by is None
    assert selected_ids(warehouse, Which()) == [row_id]


def test_another_trouble_with_it_opens_it_again(warehouse: Warehouse) -> None:
    put(warehouse, problem("n-1"))
    discard(warehouse, [one_id(warehouse)], reason="duplicate", who="ada", now=LATER)

    assert put(warehouse, problem("n-1", "no_id")) == 1
    assert len(selected_ids(warehouse, Which())) == 1


def test_a_record_that_lands_is_not_called_put_aside_any_more(warehouse: Warehouse) -> None:
    put(warehouse, problem("n-1"))
    discard(warehouse, [one_id(warehouse)], reason="no_visit", who="ada", now=LATER)

    landing_for(warehouse, stream="notes").land([record("n-1")], [], None, now=LATER)

    (row,) = rows_of(warehouse, quarantine)
    assert (row["resolved_at"], row["closed_by"], row["closed_for"]) == (LATER, None, None)


def test_what_was_put_aside_is_not_asked_for(warehouse: Warehouse) -> None:
    put(warehouse, problem("n-1", "detail_missing"))
    discard(warehouse, [one_id(warehouse)], reason="no_visit", who="ada", now=LATER)

    landing = landing_for(warehouse, stream="notes")

    assert landing.waiting_for_detail(10) == []
    assert "n-1" in landing.known(["n-1"])


def test_rows_are_counted_and_listed_by_what_they_have_in_common(warehouse: Warehouse) -> None:
    put(warehouse, problem("n-1"), problem("n-2"), problem("n-3", "no_id"))
    put(warehouse, problem("a-1"), stream="audios")
    discard(warehouse, selected_ids(warehouse, Which(code="no_id")), reason="duplicate", who="ada", now=LATER)

    counts = {(each.stream, each.code): each.rows for each in counted(warehouse, Which())}

    assert counts == {("notes", "wire_model"): 2, ("audios", "wire_model"): 1}
    assert {each.source_id for each in listed(warehouse, Which(code="wire_model"), page=1)} == {"n-1", "n-2", "a-1"}
    assert len(list(listed(warehouse, Which(closed=True), page=2))) == 4
    for nothing in (Which(provider="nabla"), Which(stage="map"), Which(day=NOW.date())):
        assert selected_ids(warehouse, nothing) == []
    assert not Which(closed=True).narrows


def test_rows_of_another_account_are_nobodys(warehouse: Warehouse) -> None:
    put(warehouse, problem("n-1"))
    row_id = one_id(warehouse)
    other = Warehouse(warehouse.engine, account="north", locks=warehouse.locks)

    assert counted(other, Which()) == []
    assert discard(other, [row_id], reason="duplicate", who="ada", now=LATER) == 0
    assert reseal(with_keys(other, KEY)).sealed == 0
    for ask in (lambda: read_trouble(other, row_id), lambda: selected_ids(other, Which(ids=(row_id,)))):
        with pytest.raises(ConfigError) as caught:
            ask()
        assert caught.value.code == "no_such_row"
