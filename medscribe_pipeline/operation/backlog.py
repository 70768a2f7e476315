"""What waits, as gauges: the same figures as `medscribe status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medscribe_pipeline.pipeline import fingerprint
from medscribe_pipeline.warehouse.reports import read_status
from medscribe_pipeline.watching import telemetry

if TYPE_CHECKING:
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["tell_backlog"]

OPEN_JOBS = ("wanted", "submitting", "running", "ready", "unknown")
OPEN_DELIVERIES = ("planned", "claimed", "sent", "unknown", "held", "rejected")


def tell_backlog(warehouse: Warehouse, settings: Settings) -> None:
    """Sets the gauges of what waits; asks the warehouse only if anybody listens.

    Raises:
        WarehouseError: The warehouse cannot be asked.
    """
    if not telemetry.is_on():
        return
    found = read_status(warehouse, targets=tuple(settings.targets), fingerprint=fingerprint(settings))
    _tell("days_due", found.days_due)
    _tell("events", found.open_events)
    for name, provider in found.providers.items():
        _tell("quarantined", provider.quarantined.total(), provider=name)
        _tell("jobs", sum(provider.jobs_in(state) for state in OPEN_JOBS), provider=name)
        for target, of in provider.targets.items():
            for state in OPEN_DELIVERIES:
                count = sum(n for (_, each), n in of.deliveries.items() if each == state)
                _tell(f"deliveries_{state}", count, provider=name, target=target)


def _tell(what: str, count: int, **labels: str) -> None:
    telemetry.level("medscribe.backlog", count, what=what, **labels)
