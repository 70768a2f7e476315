"""The stages of a visit day taken together: which days are out of date, and when is one done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.fhir.build import count_due as documents_due
from medscribe_pipeline.fhir.build import mapping_version
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.providers.build import count_due as notes_due
from medscribe_pipeline.providers.build import mapping_fingerprint
from medscribe_pipeline.warehouse.days import changed_seq, days_to_build, mark_built
from medscribe_pipeline.warehouse.tables import deliveries

if TYPE_CHECKING:
    from datetime import date

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["due_days", "fingerprint", "finish_day"]

OPEN_STATES = ("planned", "claimed", "sent", "unknown")


def fingerprint(settings: Settings) -> str:
    """Short hash of everything a built day depends on beside its data: mapping, code tables, target."""
    target = settings.ehr.target if settings.ehr.enabled else None
    return content_hash([mapping_fingerprint(settings), mapping_version(settings), target])[:16]


def due_days(warehouse: Warehouse, settings: Settings, *, limit: int | None = None) -> list[tuple[date, int]]:
    """Days that are not built, or not delivered to the end, or built by another mapping; with their newest change."""
    return days_to_build(warehouse, fingerprint(settings), limit=limit)


def finish_day(warehouse: Warehouse, settings: Settings, day: date) -> bool:
    """Marks a day as done if it is: everything mapped, built, and settled with the EHR. Returns whether it is.

    All is read in the transaction that marks it, so a change that lands meanwhile leaves the day due.
    """
    with warehouse.begin() as connection:
        seq = changed_seq(connection, warehouse.account, day)
        if seq == 0:
            return True
        if notes_due(connection, warehouse.account, day, mapping_fingerprint(settings)):
            return False
        if documents_due(connection, warehouse.account, day, mapping_version(settings)):
            return False
        if settings.ehr.enabled:
            undelivered = sa.select(sa.func.count()).where(
                deliveries.c.account == warehouse.account,
                deliveries.c.target == settings.ehr.target,
                deliveries.c.visit_day == day,
                deliveries.c.state.in_(OPEN_STATES),
            )
            if connection.scalar(undelivered):
                return False
        mark_built(warehouse, connection, day, seq, fingerprint(settings))
    return True
