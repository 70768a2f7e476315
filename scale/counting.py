"""Whether everything arrived once: the warehouse held against what the provider has and what the EHR says it holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import sqlalchemy as sa

from medscribe_pipeline.warehouse.tables import deliveries, fhir_documents, notes
from scale.world import DOCUMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

__all__ = ["Arrived", "arrived", "compared"]

Document = tuple[str, str]
"""Kind and logical id of a document on the EHR."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """How many notes of some days are where; `exact` is whether each of them is there once.

    Attributes:
        recorded: Consultations the provider has.
        notes: Notes in the warehouse.
        documents: FHIR documents in the warehouse, all kinds.
        delivered: Documents the ledger of the warehouse calls delivered.
        open: Documents of which it does not, by state.
        held: Documents the EHR holds, by its own ledger.
        twice: Documents the EHR holds and nobody knows of, or which it got more than once.
        missing: Documents that are said to be delivered and are not on the EHR.
    """

    recorded: int
    notes: int
    documents: int
    delivered: int
    open: int
    held: int
    twice: int
    missing: int

    @property
    def exact(self) -> bool:
        """Every note once in the warehouse, each of its documents once on the EHR, and nothing besides."""
        wanted = self.recorded * len(DOCUMENTS)
        return (
            self.notes == self.recorded
            and self.documents == self.delivered == self.held == wanted
            and not (self.open or self.twice or self.missing)
        )


def arrived(warehouse_url: str, world_url: str, days: Sequence[date], recorded: int) -> Arrived:
    """Counts, of all days that were built so far.

    Args:
        warehouse_url: The warehouse.
        world_url: The simulated world.
        days: The visit days; nothing else may have been delivered.
        recorded: Consultations the provider has on them.
    """
    engine = sa.create_engine(warehouse_url)
    try:
        with engine.connect() as connection:
            keys = connection.scalars(sa.select(notes.c.source_id).where(notes.c.visit_day.in_(days))).all()
            table = fhir_documents.c
            built = connection.scalar(
                sa.select(sa.func.count(table.note_id)).where(table.visit_day.in_(days), table.kind.in_(DOCUMENTS))
            )
            table = deliveries.c
            ledger = connection.execute(sa.select(table.kind, table.server_id, table.state)).all()
    finally:
        engine.dispose()
    told: list[tuple[str, str, str]] = httpx.get(f"{world_url}/ledger", timeout=30).json()
    return compared(keys, built or 0, [tuple(row) for row in ledger], told, recorded)


def compared(
    keys: Sequence[str],
    built: int,
    ledger: Sequence[tuple[str, str | None, str]],
    told: Sequence[tuple[str, str, str]],
    recorded: int,
) -> Arrived:
    """What the three say together.

    Args:
        keys: The provider's key of each note in the warehouse.
        built: Documents in the warehouse.
        ledger: Kind, id on the EHR and state of each document to deliver.
        told: Kind, id and number of versions of each document the EHR holds.
        recorded: Consultations the provider has.
    """
    known = Counter((kind, str(server_id)) for kind, server_id, state in ledger if state == "delivered")
    on_ehr = {(kind, key): int(versions) for kind, key, versions in told}
    # A document that two rows of the ledger name stands for two notes, so one of them is not there.
    shared = sum(count - 1 for count in known.values())
    return Arrived(
        recorded=recorded,
        notes=len(set(keys)) if len(set(keys)) == len(keys) else -1,
        documents=built,
        delivered=sum(known.values()),
        open=len(ledger) - sum(known.values()),
        held=len(on_ehr),
        twice=sum(1 for document in on_ehr if document not in known) + sum(n - 1 for n in on_ehr.values()),
        missing=sum(1 for document in known if document not in on_ehr) + shared,
    )
