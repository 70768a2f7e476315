"""Syncing one stream from end to end: lock, client, pull, figures."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.pull import PullReport, Window
from medscribe_pipeline.warehouse.cursors import mark_complete, marked_enough
from medscribe_pipeline.warehouse.days import DayRule
from medscribe_pipeline.warehouse.landing import Landing
from medscribe_pipeline.watching import telemetry, working

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from medscribe_pipeline.providers.http import Stats
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["SyncReport", "stream_lock", "sync_stream"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SyncReport:
    """What a stream's sync did and cost. Waits in seconds, sizes in bytes."""

    provider: str
    stream: str
    started_at: datetime
    ended_at: datetime
    pulled: PullReport = field(default_factory=PullReport)
    requests: int = 0
    retries: int = 0
    throttled: int = 0
    waited_s: float = 0.0
    received_bytes: int = 0


def sync_stream(
    warehouse: Warehouse,
    settings: Settings,
    provider: str,
    stream: str,
    window: Window,
    *,
    clock: Callable[[], datetime],
    run_id: str | None = None,
    on_progress: Callable[[PullReport], None] = lambda _: None,
) -> SyncReport:
    """Pulls what changed in one stream and lands it.

    Only one run at a time syncs a stream of an account: two would read the same pages and race for the cursor.

    Raises:
        Busy: Another run is at it and did not end within `MEDSCRIBE_LOCK_TIMEOUT_S`.
        MedscribeError: See `providers.http` and `providers.pull`. What was landed before stays landed.
    """
    started_at = clock()
    known = PROVIDERS[provider]
    days = DayRule.of(settings)

    def landing_for(cursor_stream: str | None) -> Landing:
        return Landing(warehouse, provider, stream, days=days, run_id=run_id, cursor_stream=cursor_stream)

    with (
        working("medscribe.pull", run=run_id, provider=provider, stream=stream),
        warehouse.locks.hold(stream_lock(settings.account, provider, stream), settings.lock_timeout_s),
        known.open_client(settings, warehouse) as client,
    ):
        pulled = known.stream(stream).pull(
            client, landing_for, settings, window, warehouse=warehouse, clock=clock, on_progress=on_progress
        )
        stats = client.stats
        if _is_complete(settings, provider, window, pulled):
            until = started_at - timedelta(seconds=settings.lag_s)
            if pulled.taken_on or not marked_enough(warehouse, provider, stream, until=until, zone=settings.zone):
                mark_complete(warehouse, provider, stream, until=until, now=clock(), run_id=run_id)
        _tell(provider, stream, pulled, stats)
    return SyncReport(
        provider=provider,
        stream=stream,
        started_at=started_at,
        ended_at=clock(),
        pulled=pulled,
        requests=stats.requests,
        retries=stats.retries,
        throttled=stats.throttled,
        waited_s=stats.waited_s,
        received_bytes=stats.bytes,
    )


def _tell(provider: str, stream: str, pulled: PullReport, stats: Stats) -> None:
    landed = pulled.landed
    log.info(
        "Stream pulled: provider=%s stream=%s pages=%d records=%d new=%d changed=%d unchanged=%d quarantined=%d "
        "requests=%d retries=%d throttled=%d waited_s=%.3f",
        provider,
        stream,
        pulled.pages,
        pulled.items,
        landed.new,
        landed.changed,
        landed.unchanged,
        landed.quarantined,
        stats.requests,
        stats.retries,
        stats.throttled,
        stats.waited_s,
    )
    for outcome in ("new", "changed", "unchanged", "stale", "quarantined"):
        telemetry.add("medscribe.records", getattr(landed, outcome), provider=provider, stream=stream, outcome=outcome)


def stream_lock(account: str, provider: str, stream: str) -> str:
    """Name of the lock that whoever reads a stream, or moves its cursor, holds."""
    return f"sync:{account}:{provider}:{stream}"


def _is_complete(settings: Settings, provider: str, window: Window, pulled: PullReport) -> bool:
    """Whether nothing was left out: neither by the window a person asked for, nor by what became of the reading."""
    if window.since is not None or window.until is not None:
        return False
    # Whoever has the reading stop among known records says by that setting that new ones come first.
    stops_early = getattr(getattr(settings, provider), "stop_after_known_pages", 0) > 0
    return pulled.complete or stops_early
