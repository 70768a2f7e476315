"""From rows of the visits manifest to jobs.

A visit that names a recording is a wish; `visit_hash` says which. It is a hash of the manifest's own columns, and not
of the request made of them: a new default in the settings, or a new version of ours, orders nothing a second time.

A visit whose wish changed is left alone while any of its jobs is under way; afterwards its first jobs get the new
request, and what was to follow from the old one and never left is cancelled. One join finds all visits with something
to do, whether a file or SQL brought them, and however old they say they are.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.providers.jobs.answers import safe_code
from medscribe_pipeline.providers.jobs.ledger import BY_HAND, SETTLED, Ledger, State, job_key
from medscribe_pipeline.providers.records import ManifestVisit
from medscribe_pipeline.providers.work import JobSpec
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import scribe_jobs, visits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from medscribe_pipeline.providers.work import WorkProvider
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["REFUSED_STEP", "enrol", "visit_hash", "with_recording"]

REFUSED_STEP = "visit"
"""Step of the cancelled job that shows why a visit cannot be worked on. It is looked at again in every run: what
stands in the way may be a setting, or a file that has yet to arrive."""

WISH = (
    "audio_url",
    "audio_path",
    "language",
    "template",
    "section_style",
    "split_by_problem",
    "diarization",
    "category",
)
"""Columns of `visits` that make another job when they change. Who and when may be corrected at any time."""

BATCH = 100
ROWS_AHEAD = 1000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Due:
    """A visit with something to do, and the keys of the jobs it has."""

    correlation_key: str
    job_keys: list[str] = field(default_factory=list)


def visit_hash(wish: Iterable[Any]) -> str:
    """Hash of what is asked for: the values of `WISH`, in this order."""
    return content_hash(list(wish))


def enrol(
    warehouse: Warehouse,
    work: WorkProvider,
    *,
    clock: Callable[[], datetime],
    run_id: str | None,
    limit: int,
    until: datetime,
) -> Counter[str]:
    """Enters the jobs of up to `limit` visits that have none for what they ask now.

    Args:
        warehouse: Visits and ledger.
        work: The provider; it may read a recording from end to end to say what is wanted.
        clock: The current time, aware UTC.
        run_id: The run this is part of.
        limit: Most visits, those that were refused before not counted.
        until: No further batch is begun after this time: what is enrolled is to be submitted too.

    Returns:
        How many jobs were entered (`wanted`), and how many visits refused (`refused`).
    """
    counts: Counter[str] = Counter()
    for batch in in_chunks(_due(warehouse, work.name, limit), BATCH):
        counts += _enrol_batch(warehouse, work, batch, clock(), run_id)
        if clock() >= until:
            break
    return counts


def _due(warehouse: Warehouse, provider: str, limit: int) -> list[_Due]:
    """Visits to look at, in the order of their keys."""
    of_the_visit = (
        (scribe_jobs.c.account == visits.c.account)
        & (scribe_jobs.c.provider == visits.c.provider)
        & (scribe_jobs.c.correlation_key == visits.c.correlation_key)
    )
    query = (
        sa.select(
            visits.c.correlation_key,
            *(visits.c[name] for name in WISH),
            scribe_jobs.c.job_key,
            scribe_jobs.c.state,
            scribe_jobs.c.code,
            scribe_jobs.c.submissions,
            scribe_jobs.c.request_hash,
        )
        .select_from(visits.outerjoin(scribe_jobs, of_the_visit))
        .where(*with_recording(warehouse, provider))
        .order_by(visits.c.correlation_key)
        # A manifest may have any number of rows: they are looked at one after the other.
        .execution_options(yield_per=ROWS_AHEAD)
    )
    due: list[_Due] = []
    fresh = 0
    with warehouse.read() as connection:
        for key, group in groupby(connection.execute(query), lambda row: row.correlation_key):
            jobs = list(group)
            wish = visit_hash(getattr(jobs[0], name) for name in WISH)
            if jobs[0].job_key is not None and not _is_open_wish(jobs, wish):
                continue
            due.append(_Due(key, [job.job_key for job in jobs if job.job_key is not None]))
            # Those refused before come on top: they must not take the place of new ones in every run.
            fresh += all(job.request_hash != wish for job in jobs)
            if fresh == limit:
                break
    return due


def _is_open_wish(jobs: Sequence[Any], wish: str) -> bool:
    """Whether none of a visit's jobs stands for what it asks now, and none for something else is under way."""
    if any(job.request_hash == wish and (job.state != State.CANCELLED or job.code == BY_HAND) for job in jobs):
        return False
    return all(_is_replaceable(job.state, job.submissions) for job in jobs)


def _is_replaceable(state: str, submissions: int) -> bool:
    return state in SETTLED or (state == State.WANTED and submissions == 0)


def with_recording(warehouse: Warehouse, provider: str) -> list[sa.ColumnElement[bool]]:
    """Conditions on `visits`: those of a provider that name a recording."""
    recording = sa.or_(visits.c.audio_url.is_not(None), visits.c.audio_path.is_not(None))
    return [visits.c.account == warehouse.account, visits.c.provider == provider, recording]


def _enrol_batch(
    warehouse: Warehouse, work: WorkProvider, batch: Sequence[_Due], now: datetime, run_id: str | None
) -> Counter[str]:
    manifest = _read_visits(warehouse, work.name, [due.correlation_key for due in batch])
    # Outside the transaction: a provider may look at files or ask for addresses.
    wishes = {key: _wanted(work, key, visit) for key, visit in manifest.items()}
    ledger = Ledger(warehouse, work.name)
    counts: Counter[str] = Counter()
    with warehouse.begin() as connection:
        keys = [key for due in batch for key in due.job_keys]
        held = {
            entry.ref.job_key: entry for entry in ledger.read(connection, scribe_jobs.c.job_key.in_(keys), lock=True)
        }
        for due in batch:
            jobs = [held[key] for key in due.job_keys if key in held]
            if due.correlation_key not in wishes or not all(
                _is_replaceable(job.state, job.submissions) for job in jobs
            ):
                continue
            specs, refused = wishes[due.correlation_key]
            wish = visit_hash(getattr(manifest[due.correlation_key], name) for name in WISH)
            counts["refused" if refused else "wanted"] += ledger.want(
                connection, specs, wish, now=now, run_id=run_id, refused=refused
            )
            if not refused:
                ledger.drop(connection, job_key(due.correlation_key, REFUSED_STEP))
            for job in jobs:
                if job.request_hash != wish and job.state is State.WANTED:
                    ledger.cancel(connection, job.ref, "superseded", now=now)
    return counts


def _read_visits(warehouse: Warehouse, provider: str, keys: Sequence[str]) -> dict[str, ManifestVisit]:
    query = sa.select(visits).where(*with_recording(warehouse, provider), visits.c.correlation_key.in_(keys))
    with warehouse.read() as connection:
        return {
            row.correlation_key: ManifestVisit(
                **{name: getattr(row, name) for name in ManifestVisit.__dataclass_fields__}
            )
            for row in connection.execute(query)
        }


def _wanted(work: WorkProvider, key: str, visit: ManifestVisit) -> tuple[list[JobSpec], str | None]:
    """The jobs of a visit; or the one that shows why there are none, and the reason."""
    try:
        specs = work.wanted(key, visit)
    except MedscribeError as error:
        refused = safe_code(error.code, "refused")
    except Exception as error:  # noqa: BLE001 - rows are also written by SQL, unchecked: one must not stop the others
        log.warning("A visit could not be read: provider=%s type=%s", work.name, type(error).__name__)
        refused = "internal"
    else:
        if specs:
            return specs, None
        refused = "no_recording"
    return [JobSpec(key, REFUSED_STEP, {})], refused
