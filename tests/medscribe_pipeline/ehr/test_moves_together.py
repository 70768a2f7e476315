"""Moving many units at once is moving each of them, whatever stands in the ledger and on whatever database."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.ledger import KINDS, Copy, Key, State
from medscribe_pipeline.warehouse.tables import deliveries
from medscribe_pipeline.warehouse.writing import GENERIC
from tests.medscribe_pipeline.ehr.clinic import DAY, NOW

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.medscribe_pipeline.ehr.clinic import Clinic

    Copies = Mapping[str, Copy]
    Rows = list[dict[str, Any]]

WORKER = "w1"
STATES = [State.PLANNED, State.CLAIMED, State.SENT, State.UNKNOWN, State.DELIVERED, State.HELD]
NOTES = [str(uuid.UUID(int=number)) for number in range(4)]
"""Few, so that several versions of one note meet."""

ROW = st.fixed_dictionaries(
    {
        # Mostly as one, now and then torn.
        "state": st.sampled_from(STATES),
        "claimed_by": st.sampled_from([WORKER, "w2", None]),
        "server_id": st.sampled_from([None, None, "known"]),
    }
)
UNIT: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "key": st.tuples(st.sampled_from(NOTES), st.sampled_from(["v1", "v2"])),
        "kinds": st.sampled_from([KINDS, KINDS[:1], (*KINDS, "Provenance")]),
        "row": ROW,
        "torn": st.one_of(st.none(), st.none(), ROW),
        "seen": st.integers(0, 3),
        "asked": st.booleans(),
    }
)
UNITS = st.lists(UNIT, max_size=8, unique_by=lambda unit: unit["key"])


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("name", ["claim", "mark_sent", "deliver"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(units=UNITS)
def test_units_that_are_moved_together_move_as_each_would_alone(
    any_clinic: Clinic, name: str, generic: bool, units: list[dict[str, Any]]
) -> None:
    copies = {Key("ehr", *unit["key"]): seen(unit) for unit in units if unit["asked"]}

    with any_clinic.warehouse.engine.connect() as connection:
        connection.execution_options(**{GENERIC: generic})
        with connection.begin() as transaction:
            enter(connection, units)
            together, found = all_at_once(connection, name, copies), rows(connection)
            transaction.rollback()
        with connection.begin() as transaction:
            enter(connection, units)
            alone, wanted = {key for key in copies if one(connection, name, key, copies[key])}, rows(connection)
            transaction.rollback()

    assert (together, found) == (alone, wanted)


def test_a_thousand_are_moved_in_few_statements(any_clinic: Clinic) -> None:
    keys = [Key("ehr", str(uuid.UUID(int=number)), "v1") for number in range(1000)]
    copies = {key: {kind: Copy(f"{key.note_id}-{kind}", 'W/"1"', ("201",)) for kind in KINDS} for key in keys}
    statements: list[str] = []
    warehouse = any_clinic.warehouse
    with warehouse.begin() as connection:
        ledger.add(connection, "default", [ledger.NewEntry(key, KINDS, 1, DAY, None) for key in keys])

    with warehouse.begin() as connection:
        sa.event.listen(connection, "after_cursor_execute", lambda *told: statements.append(told[2]))
        moved = [
            ledger.claim_all(connection, keys, worker=WORKER, now=NOW),
            ledger.mark_all_sent(connection, keys, worker=WORKER, now=NOW),
            ledger.deliver_all(connection, copies, now=NOW, worker=WORKER),
        ]
        stored = ledger.entries(connection, "ehr", keys[0][1:2])[keys[0].note_id]

    assert moved == [set(keys)] * 3
    assert len(statements) < 10
    assert [(entry.state, entry.done) for entry in stored] == [
        (State.DELIVERED, {kind: Copy(f"{keys[0].note_id}-{kind}", 'W/"1"') for kind in KINDS})
    ]


def seen(unit: dict[str, Any]) -> Copies:
    return {kind: Copy(f"new-{kind}", 'W/"2"', ("201",)) for kind in unit["kinds"][: unit["seen"]]}


def enter(connection: sa.Connection, units: list[dict[str, Any]]) -> None:
    listed = [
        {
            "target": "ehr",
            "note_id": unit["key"][0],
            "version": unit["key"][1],
            "kind": kind,
            "account": "default",
            "visit_day": DAY,
            "source_seq": 1,
            "attempts": 1,
            **(unit["torn"] if unit["torn"] is not None and number == len(unit["kinds"]) - 1 else unit["row"]),
        }
        for unit in units
        for number, kind in enumerate(unit["kinds"])
    ]
    if listed:
        connection.execute(sa.insert(deliveries), listed)


def rows(connection: sa.Connection) -> Rows:
    query = sa.select(deliveries).order_by(deliveries.c.note_id, deliveries.c.version, deliveries.c.kind)
    return [dict(row) for row in connection.execute(query).mappings()]


def all_at_once(connection: sa.Connection, name: str, copies: Mapping[Key, Copies]) -> set[Key]:
    if name == "claim":
        return ledger.claim_all(connection, list(copies), worker=WORKER, now=NOW)
    if name == "mark_sent":
        return ledger.mark_all_sent(connection, list(copies), worker=WORKER, now=NOW)
    return ledger.deliver_all(connection, copies, now=NOW, worker=WORKER)


def one(connection: sa.Connection, name: str, key: Key, copies: Copies) -> bool:
    if name == "claim":
        return ledger.claim(connection, key, worker=WORKER, now=NOW)
    if name == "mark_sent":
        return ledger.mark_sent(connection, key, worker=WORKER, now=NOW)
    return ledger.deliver(connection, key, copies, now=NOW, worker=WORKER)
