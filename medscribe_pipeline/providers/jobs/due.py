"""How many jobs wait for a run: what a sensor asks every minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.providers.jobs.ledger import ASKED_AFTER, State
from medscribe_pipeline.warehouse.tables import scribe_jobs

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["jobs_due"]


def jobs_due(warehouse: Warehouse, provider: str, now: datetime) -> int:
    """Jobs of a provider that wait to be submitted, or whose time to be asked after has come. One indexed query."""
    asked_after = sa.and_(scribe_jobs.c.state.in_(ASKED_AFTER), scribe_jobs.c.next_poll_at <= now)
    query = sa.select(sa.func.count()).where(
        scribe_jobs.c.account == warehouse.account,
        scribe_jobs.c.provider == provider,
        sa.or_(scribe_jobs.c.state == State.WANTED, asked_after),
    )
    with warehouse.read() as connection:
        return connection.scalar(query) or 0
