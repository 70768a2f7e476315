"""How many jobs wait for a run: what a sensor asks every minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.providers.jobs.enrol import with_recording
from medscribe_pipeline.providers.jobs.ledger import ASKED_AFTER, State
from medscribe_pipeline.warehouse.tables import scribe_jobs, visits

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["jobs_due"]


def jobs_due(warehouse: Warehouse, provider: str, now: datetime) -> int:
    """Jobs that wait to be submitted or asked after, and recordings without a job yet. One query, indexed.

    A visit whose wish changed is found by the next run of anything; that takes reading all of them.
    """
    asked_after = sa.and_(scribe_jobs.c.state.in_(ASKED_AFTER), scribe_jobs.c.next_poll_at <= now)
    own = (scribe_jobs.c.account == warehouse.account, scribe_jobs.c.provider == provider)
    waiting = sa.select(sa.func.count()).where(*own, sa.or_(scribe_jobs.c.state == State.WANTED, asked_after))
    known = sa.exists().where(*own, scribe_jobs.c.correlation_key == visits.c.correlation_key)
    new = sa.select(sa.func.count()).where(*with_recording(warehouse, provider), ~known)
    with warehouse.read() as connection:
        return connection.scalar(sa.select(waiting.scalar_subquery() + new.scalar_subquery())) or 0
