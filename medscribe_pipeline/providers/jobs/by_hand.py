"""What a person does with jobs: look at them, have them done again, cancel them, say what became of one in doubt.

A job is named by its request id, a UUID of ours, because its key holds the visit's. Every act is a move of the ledger:
what another run did meanwhile counts, and the act then says that it found the job elsewhere. What was done is a row of
the access log, in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.jobs.ledger import BY_HAND, KEY_LENGTH, Ledger, Ref, State
from medscribe_pipeline.warehouse.audit import note_access
from medscribe_pipeline.warehouse.tables import scribe_jobs, visits

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Found", "JobRow", "WhichJobs", "absent", "cancel", "counted", "identify", "listed", "retry"]


class Found(StrEnum):
    """What an act came to: done, or why not."""

    DONE = "done"
    OTHER_STATE = "other_state"
    IN_DOUBT = "in_doubt"
    WAS_SENT = "was_sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class WhichJobs:
    """Which jobs are meant. Everything given must hold; nothing given means all.

    Attributes:
        ids: Request ids.
        provider: Only this provider.
        states: Only these states.
        code: Only this code.
        between: Only those whose visit began in it, or that were wanted in it where no visit says; end excluded.
    """

    ids: tuple[str, ...] = ()
    provider: str | None = None
    states: tuple[State, ...] = ()
    code: str | None = None
    between: tuple[datetime, datetime] | None = None

    def conditions(self, account: str) -> list[sa.ColumnElement[bool]]:
        """As conditions on `scribe_jobs`."""
        row = scribe_jobs.c
        found = [row.account == account]
        if self.ids:
            found.append(row.client_request_id.in_(self.ids))
        if self.provider is not None:
            found.append(row.provider == self.provider)
        if self.states:
            found.append(row.state.in_(self.states))
        if self.code is not None:
            found.append(row.code == self.code)
        if self.between is not None:
            started_at = (
                sa.select(visits.c.started_at)
                .where(
                    visits.c.account == row.account,
                    visits.c.provider == row.provider,
                    visits.c.correlation_key == row.correlation_key,
                )
                .scalar_subquery()
            )
            when = sa.func.coalesce(started_at, row.wanted_at)
            found += [when >= self.between[0], when < self.between[1]]
        return found


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as people see it: nothing of whom it is about, neither its key nor its request."""

    id: str
    provider: str
    step: str
    state: State
    code: str | None
    submissions: int
    polls: int
    has_vendor_id: bool
    wanted_at: datetime
    submitted_at: datetime | None
    settled_at: datetime | None
    next_poll_at: datetime | None
    expires_at: datetime | None


def counted(warehouse: Warehouse, which: WhichJobs) -> list[tuple[str, str, State, str | None, int]]:
    """How many jobs there are of each provider, step, state and code."""
    row = scribe_jobs.c
    kind = (row.provider, row.step, row.state, row.code)
    query = sa.select(*kind, sa.func.count()).where(*which.conditions(warehouse.account))
    with warehouse.read() as connection:
        found = connection.execute(query.group_by(*kind).order_by(*kind)).all()
    return [(provider, step, State(state), code, number) for provider, step, state, code, number in found]


def listed(warehouse: Warehouse, which: WhichJobs, *, limit: int | None = None) -> list[JobRow]:
    """The jobs, those wanted last first."""
    row = scribe_jobs.c
    query = sa.select(scribe_jobs).where(*which.conditions(warehouse.account))
    query = query.order_by(row.wanted_at.desc(), row.client_request_id).limit(limit)
    with warehouse.read() as connection:
        return [_row(each) for each in connection.execute(query)]


def retry(warehouse: Warehouse, job: str, *, who: str, now: datetime) -> Found:
    """Wants a job again that failed, expired or was cancelled by hand, under the same request id; a sync submits it."""

    def act(ledger: Ledger, connection: sa.Connection, ref: Ref, state: State) -> Found:
        if state is State.UNKNOWN:
            # It may have arrived: a person has to look first, else there could be two of it.
            return Found.IN_DOUBT
        if state is State.CANCELLED and not _is_by_hand(ledger, connection, ref):
            return Found.OTHER_STATE
        return Found.DONE if ledger.want_again(connection, ref, now=now) else Found.OTHER_STATE

    return _act(warehouse, job, act, "job_retried", who, now)


def cancel(warehouse: Warehouse, job: str, *, who: str, now: datetime) -> Found:
    """Cancels a job that was never sent, or that failed or expired and is not to be done again.

    What a provider has is its own: nothing takes it back.
    """

    def act(ledger: Ledger, connection: sa.Connection, ref: Ref, state: State) -> Found:
        if ledger.give_up(connection, ref, BY_HAND, now=now):
            return Found.DONE
        if state is not State.WANTED:
            return Found.OTHER_STATE
        return Found.DONE if ledger.cancel(connection, ref, BY_HAND, now=now) else Found.WAS_SENT

    return _act(warehouse, job, act, "job_cancelled", who, now)


def absent(warehouse: Warehouse, job: str, *, who: str, now: datetime) -> Found:
    """A job in doubt is surely not at the provider: it is submitted again."""

    def act(ledger: Ledger, connection: sa.Connection, ref: Ref, state: State) -> Found:
        if state is State.UNKNOWN and ledger.want_again(connection, ref, now=now):
            return Found.DONE
        return Found.OTHER_STATE

    return _act(warehouse, job, act, "job_absent", who, now)


def identify(
    warehouse: Warehouse, job: str, vendor_job_id: str, *, who: str, now: datetime, expires_after_s: float
) -> Found:
    """A job in doubt is at the provider, under this id: it is asked after from now on.

    Raises:
        ConfigError: `vendor_id`: it cannot be an id, or another job has it; `no_such_job`.
    """
    if not 0 < len(vendor_job_id) <= KEY_LENGTH or not vendor_job_id.isprintable() or vendor_job_id.isspace():
        raise ConfigError("That is no id a provider gives", code="vendor_id")

    def act(ledger: Ledger, connection: sa.Connection, ref: Ref, state: State) -> Found:
        row = scribe_jobs.c
        taken = sa.select(row.job_key).where(
            *ledger.mine(), row.vendor_job_id == vendor_job_id, row.job_key != ref.job_key
        )
        if connection.execute(taken).first() is not None:
            raise ConfigError("Another job has that id already", code="vendor_id")
        if state is not State.UNKNOWN or not ledger.accept(connection, ref, vendor_job_id, next_poll_at=now):
            return Found.OTHER_STATE
        # Its time may be up since it was submitted; it is known to be under way only now.
        values = {"vendor_job_id": vendor_job_id, "expires_at": now + timedelta(seconds=expires_after_s)}
        connection.execute(sa.update(scribe_jobs).where(*ledger.mine(), row.job_key == ref.job_key).values(**values))
        return Found.DONE

    return _act(warehouse, job, act, "job_identified", who, now)


def _is_by_hand(ledger: Ledger, connection: sa.Connection, ref: Ref) -> bool:
    row = scribe_jobs.c
    query = sa.select(row.code).where(*ledger.mine(), row.job_key == ref.job_key)
    return connection.scalar(query) == BY_HAND


def _act(
    warehouse: Warehouse,
    job: str,
    act: Callable[[Ledger, sa.Connection, Ref, State], Found],
    what: str,
    who: str,
    now: datetime,
) -> Found:
    """Does something with a job, locked, in a transaction of its own that also writes down who did what.

    Raises:
        ConfigError: `no_such_job`.
    """
    row = scribe_jobs.c
    query = sa.select(row.provider, row.job_key, row.client_request_id, row.state)
    query = query.where(row.account == warehouse.account, row.client_request_id == job).with_for_update()
    with warehouse.begin() as connection:
        found = connection.execute(query).first()
        if found is None:
            raise ConfigError("There is no job of that id; see `medscribe jobs list`", code="no_such_job")
        ref = Ref(found.job_key, found.client_request_id)
        came_to = act(Ledger(warehouse, found.provider), connection, ref, State(found.state))
        if came_to is Found.DONE:
            note_access(connection, warehouse.account, what, job, now, who)
        return came_to


def _row(row: sa.Row[Any]) -> JobRow:
    return JobRow(
        id=row.client_request_id,
        provider=row.provider,
        step=row.step,
        state=State(row.state),
        code=row.code,
        submissions=row.submissions,
        polls=row.polls,
        has_vendor_id=row.vendor_job_id is not None,
        wanted_at=row.wanted_at,
        submitted_at=row.submitted_at,
        settled_at=row.settled_at,
        next_poll_at=row.next_poll_at,
        expires_at=row.expires_at,
    )
