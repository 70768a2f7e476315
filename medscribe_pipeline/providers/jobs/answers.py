"""What an answer makes of a job: of its submission, of a question after it, or brought by a callback.

A result lands as a record of the stream `results` in the transaction that moves its job to `fetched`, together with the
jobs it makes possible. The same result again, on whichever way, finds the job fetched and changes nothing.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.providers.jobs.ledger import KEY_LENGTH, Entry, Ledger, State, job_key
from medscribe_pipeline.providers.pull import storable
from medscribe_pipeline.providers.work import JobSpec, Phase, Progress
from medscribe_pipeline.warehouse.arrivals import Landed, SourceRecord
from medscribe_pipeline.warehouse.landing import Landing
from medscribe_pipeline.warehouse.tables import scribe_jobs, source_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from medscribe_pipeline.providers.work import WorkProvider
    from medscribe_pipeline.warehouse.days import DayRule
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["FOLLOW_UP_STEP", "RESULTS", "Answers", "failure_code", "safe_code", "settle_callback"]

RESULTS = "results"
"""The stream of `source_records` that results land in."""

FOLLOW_UP_STEP = "follow_up"
"""Step of the cancelled job that shows why a result could not be followed up."""

# What a provider calls a failure is shown in reports and logs: a word may be, a sentence may name a patient.
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")

log = logging.getLogger(__name__)


def safe_code(code: str | None, default: str) -> str:
    """A code when it is one word, else `default`: free text may name a patient.

    >>> safe_code("FILE_INVALID", "failed"), safe_code("no speech by Mrs Test", "failed")
    ('FILE_INVALID', 'failed')
    """
    return code if code is not None and _CODE.fullmatch(code) else default


def failure_code(progress: Progress) -> str:
    """The code of a job that the provider gave up, or knows nothing of (`gone`)."""
    return "gone" if progress.phase is Phase.GONE else safe_code(progress.code, "provider_failure")


class Answers:
    """Takes in answers about the jobs of one provider.

    Args:
        warehouse: Where the ledger is, and where results land.
        work: The provider.
        days: How instants become visit days.
        run_id: The run this is part of.
    """

    def __init__(self, warehouse: Warehouse, work: WorkProvider, *, days: DayRule, run_id: str | None) -> None:
        self._warehouse = warehouse
        self._work = work
        self._ledger = Ledger(warehouse, work.name)
        self._landing = Landing(warehouse, work.name, RESULTS, days=days, run_id=run_id)
        self._run_id = run_id

    def settle(
        self, entry: Entry, progress: Progress, *, now: datetime, next_poll_at: datetime, worker: str | None = None
    ) -> State | None:
        """Takes in one answer, in one transaction.

        Args:
            entry: The job as it was when it was asked about.
            progress: What the provider says.
            now: The current time.
            next_poll_at: When to ask next, if that is to be done.
            worker: Who submitted it, when this is the answer to its submission.

        Returns:
            The state the job went to because of this answer; `None` when it changed nothing.

        Raises:
            MedscribeError: The result cannot be stored; nothing was changed.
        """
        vendor_job_id = _vendor_id(progress.vendor_job_id)
        # Asked before the transaction, because a provider may take its time; and because what it cannot do must not
        # keep the result itself out of the warehouse.
        result, specs, trouble = self._read_result(entry, progress)
        with self._warehouse.begin() as connection:
            if result is not None:
                self._lock(connection, entry, specs)
                if not self._ledger.collect(connection, entry.ref, vendor_job_id, now=now):
                    return None
                self._want_next(connection, entry, specs, trouble, now)
                self._land(connection, entry, result, now)
                return State.FETCHED
            if progress.phase in (Phase.FAILED, Phase.GONE):
                code = failure_code(progress)
                return State.FAILED if self._ledger.fail(connection, entry.ref, code, now=now, worker=worker) else None
            done = progress.phase is Phase.DONE
            go_on = self._ledger.announce if done else self._ledger.accept
            moved = go_on(connection, entry.ref, vendor_job_id, next_poll_at=next_poll_at)
            if self._ledger.expire(connection, entry.ref, now=now):
                return State.EXPIRED
            return (State.READY if done else State.RUNNING) if moved else None

    def _read_result(
        self, entry: Entry, progress: Progress
    ) -> tuple[dict[str, Any] | None, Sequence[JobSpec], str | None]:
        """The result as it can be stored, the jobs it makes possible, or why those cannot be told."""
        if progress.phase is not Phase.DONE or progress.result is None:
            return None, (), None
        result: dict[str, Any] = storable(progress.result)
        try:
            return result, self._work.follow_up(entry.job, result), None
        except MedscribeError as error:
            return result, (), safe_code(error.code, FOLLOW_UP_STEP)
        except Exception as error:  # noqa: BLE001 - the result is there and is worth more than what was to follow
            log.warning("A result could not be followed up: provider=%s type=%s", self._work.name, type(error).__name__)
            return result, (), "internal"

    def _lock(self, connection: sa.Connection, entry: Entry, specs: Sequence[JobSpec]) -> None:
        """Takes all rows that are going to change in the order of their keys, as enrolling does: no deadlock."""
        keys = [entry.ref.job_key, *(job_key(spec.correlation_key, spec.step) for spec in specs)]
        self._ledger.read(connection, scribe_jobs.c.job_key.in_(keys), lock=True)

    def _want_next(
        self, connection: sa.Connection, entry: Entry, specs: Sequence[JobSpec], trouble: str | None, now: datetime
    ) -> None:
        # They belong to the same wish, so they share its hash: a visit that changes replaces the whole chain.
        wish, run_id = entry.request_hash, self._run_id
        self._ledger.want(connection, specs, wish, now=now, run_id=run_id)
        if trouble is not None:
            spec = JobSpec(entry.job.correlation_key, FOLLOW_UP_STEP, {})
            self._ledger.want(connection, [spec], wish, now=now, run_id=run_id, refused=trouble)

    def _land(self, connection: sa.Connection, entry: Entry, result: dict[str, Any], now: datetime) -> None:
        job, key = entry.job, entry.ref.job_key
        payload = {
            "job_key": key,
            "correlation_key": job.correlation_key,
            "step": job.step,
            "client_request_id": job.client_request_id,
            "request": job.request,
            "result": result,
        }
        before = connection.scalar(
            sa.select(source_records.c.fetched_at).where(
                source_records.c.account == self._warehouse.account,
                source_records.c.provider == self._work.name,
                source_records.c.stream == RESULTS,
                source_records.c.source_id == key,
            )
        )
        record = SourceRecord(
            source_id=key,
            payload=payload,
            list_hash=content_hash(payload),
            updated_at=None,
            # The clock of the machine that fetched the result of an earlier request may have been ahead of ours; the
            # ledger knows which of the two is newer.
            fetched_at=max(now, before) if before is not None else now,
            visited_at=None,
            parent_id=job.correlation_key,
        )
        self._landing._land_records(connection, {key: record}, Landed(), now)  # noqa: SLF001 - `land` is a transaction of its own


def settle_callback(
    warehouse: Warehouse, work: WorkProvider, payload: Any, *, days: DayRule, now: datetime, run_id: str | None
) -> bool:
    """Takes in what a callback says. The same callback twice, early, late or out of order does no harm.

    Returns:
        Whether there is such a job. Where there is none, it may still be on its way into the ledger.

    Raises:
        MedscribeError: The callback cannot be read, or its result cannot be stored.
    """
    read = work.read_callback(payload)
    if read is None:
        return False
    vendor_job_id, client_request_id, progress = read
    entry = _find(warehouse, work.name, vendor_job_id, client_request_id)
    if entry is None:
        return False
    told = progress if progress.vendor_job_id else replace(progress, vendor_job_id=vendor_job_id)
    # Nothing to wait for: a job that is done, and whose result the callback did not bring, is asked after at once.
    Answers(warehouse, work, days=days, run_id=run_id).settle(entry, told, now=now, next_poll_at=now)
    return True


def _find(
    warehouse: Warehouse, provider: str, vendor_job_id: str | None, client_request_id: str | None
) -> Entry | None:
    """The job a callback is about. Our own name for it counts most: only we give it."""
    ledger = Ledger(warehouse, provider)
    with warehouse.read() as connection:
        for column, value in (
            (scribe_jobs.c.client_request_id, client_request_id),
            (scribe_jobs.c.vendor_job_id, vendor_job_id),
        ):
            found = ledger.read(connection, column == value) if value is not None else []
            if found:
                return found[0]
    return None


def _vendor_id(vendor_job_id: str | None) -> str | None:
    """The provider's id, when it is one that can be kept and asked by."""
    if vendor_job_id is None or not 0 < len(vendor_job_id) <= KEY_LENGTH or "\x00" in vendor_job_id:
        return None
    return vendor_job_id
