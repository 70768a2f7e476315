"""Whether the delivery ledger has every note it should have, day by day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.warehouse.days import outdated
from medscribe_pipeline.warehouse.tables import deliveries, fhir_documents, notes, visit_days

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import date

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["DeliveryBalance", "delivery_balances"]


@dataclass(frozen=True, slots=True)
class DeliveryBalance:
    """One target's account of one visit day: notes with documents, and those the ledger says nothing of."""

    day: date
    notes: int
    missing: int


def delivery_balances(
    warehouse: Warehouse, target: str, *, days: Collection[date] | None = None, fingerprint: str = ""
) -> list[DeliveryBalance]:
    """The account of each visit day on a target, counted from the tables rather than from what a delivery reported.

    A note is accounted for when the ledger has its newest version, in whatever state; or a later one, which the
    warehouse has lost.

    Args:
        warehouse: Notes, documents and ledger.
        target: Name of the target.
        days: The days to look at. By default those that are done: on others a delivery is yet to come.
        fingerprint: What done days were built with; see `pipeline.fingerprint`.
    """
    entered = (
        sa.select(deliveries.c.note_id)
        .where(
            deliveries.c.target == target,
            deliveries.c.note_id == notes.c.note_id,
            sa.or_(deliveries.c.version == notes.c.version, deliveries.c.source_seq > notes.c.source_seq),
        )
        .exists()
    )
    built = [
        sa.select(fhir_documents.c.note_id)
        .where(
            fhir_documents.c.note_id == notes.c.note_id,
            fhir_documents.c.version == notes.c.version,
            fhir_documents.c.kind == kind,
        )
        .exists()
        for kind in ("Composition", "DocumentReference")
    ]
    done = sa.select(visit_days.c.visit_day).where(visit_days.c.account == warehouse.account, ~outdated(fingerprint))
    query = (
        sa.select(notes.c.visit_day, sa.func.count(), sa.func.sum(sa.case((entered, 0), else_=1)))
        .where(notes.c.account == warehouse.account, *built)
        .where(notes.c.visit_day.in_(done if days is None else list(days)))
        .group_by(notes.c.visit_day)
        .order_by(notes.c.visit_day)
    )
    with warehouse.read() as connection:
        return [DeliveryBalance(day, number, int(missing)) for day, number, missing in connection.execute(query)]
