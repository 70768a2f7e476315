"""A note with documents must be in the ledger of every target, in whatever state."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.warehouse.balances import DeliveryBalance, delivery_balances
from medscribe_pipeline.warehouse.tables import deliveries, fhir_documents, notes, visit_days
from tests.databases import NOW, TODAY

if TYPE_CHECKING:
    from datetime import date

    from medscribe_pipeline.warehouse.store import Warehouse

YESTERDAY = TODAY - timedelta(days=1)


def put(warehouse: Warehouse, table: sa.Table, **values: Any) -> None:
    scope = {"account": "default", "visit_day": TODAY}
    with warehouse.begin() as connection:
        connection.execute(sa.insert(table).values({**scope, **values}))


def note(warehouse: Warehouse, *kinds: str, day: date = TODAY, state: str | None = None, **entry: Any) -> None:
    """A note with documents of these kinds, and with a row in the ledger if it has a state there."""
    note_id, account = str(uuid.uuid4()), str(entry.pop("account", "default"))
    facts = {"version": "v2", "source_seq": 5, "visit_day": day, "note_id": note_id, "account": account}
    source = {"provider": "askara", "stream": "notes", "source_id": note_id, "kind": "note", "state": "validated"}
    put(warehouse, notes, **facts, **source, has_text=True, mapped_at=NOW)
    for kind in kinds:
        put(warehouse, fhir_documents, **facts, kind=kind, resource={}, mapping_version="m", built_at=NOW)
    if state is not None:
        row = {**facts, "target": "ehr", "kind": "DocumentReference", "state": state, "attempts": 0}
        put(warehouse, deliveries, **{**row, **entry})


BOTH = ("Composition", "DocumentReference")


def test_every_state_accounts_for_a_note_and_nothing_else_does(warehouse: Warehouse) -> None:
    for state in ("planned", "claimed", "sent", "delivered", "rejected", "unknown", "held", "discarded"):
        note(warehouse, *BOTH, state=state)
    note(warehouse, *BOTH)
    note(warehouse, *BOTH, state="delivered", version="v1", source_seq=4)
    note(warehouse, *BOTH, state="delivered", target="store")

    assert delivery_balances(warehouse, "ehr", days=[TODAY]) == [DeliveryBalance(TODAY, 11, 3)]


def test_a_note_without_its_documents_is_not_expected(warehouse: Warehouse) -> None:
    note(warehouse)
    note(warehouse, "Composition")
    note(warehouse, *BOTH, account="north")

    assert delivery_balances(warehouse, "ehr", days=[TODAY]) == []


def test_what_the_ledger_knows_better_than_the_warehouse_is_accounted_for(warehouse: Warehouse) -> None:
    note(warehouse, *BOTH, state="delivered", version="v3", source_seq=6)

    assert delivery_balances(warehouse, "ehr", days=[TODAY]) == [DeliveryBalance(TODAY, 1, 0)]


def test_without_days_those_are_looked_at_that_are_done(warehouse: Warehouse) -> None:
    for day, built_seq in ((TODAY, 4), (YESTERDAY, 5)):
        note(warehouse, *BOTH, day=day)
        put(warehouse, visit_days, visit_day=day, changed_seq=5, built_seq=built_seq, built_with="f")

    assert delivery_balances(warehouse, "ehr", fingerprint="f") == [DeliveryBalance(YESTERDAY, 1, 1)]
    assert delivery_balances(warehouse, "ehr", fingerprint="g") == []
