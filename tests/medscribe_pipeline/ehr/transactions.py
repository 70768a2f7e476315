"""The transactions in which a note version is created, or replaced, on a server that takes everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr.strategies.steps import entry, step_for
from medscribe_pipeline.ehr.targets import Capabilities

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medscribe_pipeline.ehr.ledger import Copy
    from medscribe_pipeline.ehr.sending import Shipment

__all__ = ["transaction"]


def transaction(shipment: Shipment, standing: Mapping[str, Copy] | None = None) -> dict[str, Any]:
    """The Bundle that brings all documents of a note version, or replaces what stands."""
    steps = [step_for(shipment, kind, Capabilities(), standing or {}, {}) for kind in shipment.resources]
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry(step) for step in steps]}
