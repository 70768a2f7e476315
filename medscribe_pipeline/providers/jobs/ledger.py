r"""The job ledger: how far each piece of work stands that a provider does for us.

```
  renew, want_again
  .------------------------------------------- cancelled, failed, expired, fetched, unknown (want_again only)
  v
  wanted --claim--> submitting --accept--> running --announce--> ready --collect--> fetched
   |  ^                 |                     |                    |
   |  '----give_back----+--lose--> unknown    |------expire--------'---------------> expired
   |                    |                     |
   |                    '--------fail---------'------------------------------------> failed
   '--cancel-----------------------------------------------------------------------> cancelled
                                                       failed, expired --give_up--> cancelled
```

Every move is one guarded UPDATE inside the caller's transaction: it says from which states it may start, for which
request, and does nothing when the job is elsewhere (another run, or a callback, was faster). What may follow what is
data: `MOVES`. `docs/jobs.md` shows the whole picture.

`submitting` is committed before a request leaves, so whoever finds a dead worker's row knows that the provider may have
it. A callback may overtake our own answer, so a result is taken in from every state that has none yet, and lands in
`source_records` in the transaction that moves its job to `fetched`: there is one result for each request, however
often and on whichever way it arrives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from medscribe_pipeline.notes import stable_id
from medscribe_pipeline.providers.work import Job, JobSpec
from medscribe_pipeline.warehouse.tables import scribe_jobs
from medscribe_pipeline.warehouse.writing import insert_absent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["ASKED_AFTER", "MOVES", "OPEN", "SETTLED", "Entry", "Ledger", "Move", "Ref", "Standing", "State", "job_key"]


class State(StrEnum):
    """Where a job stands; see the picture above."""

    WANTED = "wanted"
    SUBMITTING = "submitting"
    RUNNING = "running"
    READY = "ready"
    FETCHED = "fetched"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Move:
    """One allowed move: from any of `sources` to `target`."""

    sources: tuple[State, ...]
    target: State


OPEN = (State.WANTED, State.SUBMITTING, State.RUNNING, State.READY)
"""States that move on by themselves, for a bounded time."""

SETTLED = (State.FETCHED, State.FAILED, State.EXPIRED, State.CANCELLED)
"""States a job has come to its end in. `unknown` is neither: a callback or a person decides."""

ASKED_AFTER = (State.RUNNING, State.READY)
"""States in which the provider is asked how far it is, or for the result."""

MOVES: Mapping[str, Move] = {
    "renew": Move((*SETTLED, State.WANTED), State.WANTED),
    "want_again": Move((State.FAILED, State.EXPIRED, State.UNKNOWN, State.CANCELLED), State.WANTED),
    "cancel": Move((State.WANTED,), State.CANCELLED),
    "give_up": Move((State.FAILED, State.EXPIRED), State.CANCELLED),
    "claim": Move((State.WANTED,), State.SUBMITTING),
    "give_back": Move((State.SUBMITTING,), State.WANTED),
    "lose": Move((State.SUBMITTING,), State.UNKNOWN),
    "accept": Move((State.WANTED, State.SUBMITTING, State.UNKNOWN), State.RUNNING),
    "announce": Move((State.WANTED, State.SUBMITTING, State.UNKNOWN, *ASKED_AFTER), State.READY),
    "expire": Move(ASKED_AFTER, State.EXPIRED),
    "fail": Move((*OPEN, State.UNKNOWN, State.EXPIRED), State.FAILED),
    "collect": Move((*OPEN, State.UNKNOWN, State.EXPIRED, State.FAILED), State.FETCHED),
}
"""Every way a job may change its state. `Ledger` has a method of the same name for each; `renew` is part of `want`."""

BY_HAND = "by_hand"
"""Code of a job that a person cancelled: it is not wanted again before its visit asks for something else."""

KEY_LENGTH = 255


class Ref(NamedTuple):
    """One request of one job: a job whose visit changed has the same key and another request id."""

    job_key: str
    client_request_id: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A job as it was read. `job` is what providers get to see."""

    job: Job
    ref: Ref
    state: State
    request_hash: str
    submissions: int
    polls: int
    code: str | None
    next_poll_at: datetime | None
    expires_at: datetime | None
    claimed_by: str | None
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a provider's jobs stand. `codes` counts by state those that carry a code; holds no id of anything."""

    states: Mapping[str, int]
    codes: Mapping[str, Mapping[str, int]]
    oldest_open_at: datetime | None
    overdue: int


def job_key(correlation_key: str, step: str) -> str:
    """The key of a job: `<correlation key>/<step>`; a correlation key that leaves no room for the step is hashed.

    >>> job_key("visit-1", "listen")
    'visit-1/listen'
    """
    key = f"{correlation_key}/{step}"
    return key if len(key) <= KEY_LENGTH else f"{sha256(correlation_key.encode()).hexdigest()}/{step}"


class Ledger:
    """The jobs of one provider and account. All methods are part of the caller's transaction.

    Moves return whether they happened. They are for one request (`Ref`): an answer to a request that the job no longer
    stands for moves nothing.
    """

    def __init__(self, warehouse: Warehouse, provider: str) -> None:
        self._account = warehouse.account
        self._provider = provider

    def mine(self) -> list[sa.ColumnElement[bool]]:
        """The condition that a row belongs to this ledger."""
        return [scribe_jobs.c.account == self._account, scribe_jobs.c.provider == self._provider]

    def client_request_id(self, key: str, request_hash: str) -> str:
        """Our name for a request: the same job and request always have the same."""
        return str(stable_id(self._provider, self._account, key, request_hash))

    def read(self, connection: sa.Connection, *conditions: sa.ColumnElement[bool], lock: bool = False) -> list[Entry]:
        """The jobs that fulfil the conditions, in the order of their keys; with `lock`, ours until the commit."""
        query = sa.select(scribe_jobs).where(*self.mine(), *conditions).order_by(scribe_jobs.c.job_key)
        if lock:
            query = query.with_for_update()
        return [_entry(row) for row in connection.execute(query)]

    def get(self, connection: sa.Connection, key: str) -> Entry | None:
        """The job of that key."""
        found = self.read(connection, scribe_jobs.c.job_key == key)
        return found[0] if found else None

    def want(
        self,
        connection: sa.Connection,
        specs: Iterable[JobSpec],
        request_hash: str,
        *,
        now: datetime,
        run_id: str | None,
        refused: str | None = None,
    ) -> int:
        """Enters jobs, or gives those that have come to an end this request instead of another; returns how many.

        Args:
            connection: An open write transaction.
            specs: The jobs.
            request_hash: Hash of what is asked for. A job that stands for it already stays as it is.
            now: The current time.
            run_id: The run this is part of.
            refused: Why they cannot be done: they are entered as `cancelled` with this code.
        """
        entered = 0
        for spec in specs:
            key = job_key(spec.correlation_key, spec.step)
            row = {
                "correlation_key": spec.correlation_key,
                "step": spec.step,
                "client_request_id": self.client_request_id(key, request_hash),
                "request": spec.request,
                "request_hash": request_hash,
                "state": State.CANCELLED if refused else State.WANTED,
                "code": refused,
                "submissions": 0,
                "polls": 0,
                "vendor_job_id": None,
                "next_poll_at": None,
                "expires_at": None,
                "claimed_by": None,
                "wanted_at": now,
                "submitted_at": None,
                "settled_at": now if refused else None,
                "run_id": run_id,
            }
            names = {"account": self._account, "provider": self._provider, "job_key": key}
            entered += insert_absent(connection, scribe_jobs, [{**names, **row}]) or self._renew(connection, key, row)
        return entered

    def _renew(self, connection: sa.Connection, key: str, row: dict[str, Any]) -> int:
        """`renew`, and `cancel` of what never left: the request of a job that has none under way is replaced."""
        never_sent = sa.and_(scribe_jobs.c.state == State.WANTED, scribe_jobs.c.submissions == 0)
        code = scribe_jobs.c.code
        marker = sa.and_(
            scribe_jobs.c.state == State.CANCELLED, code.is_distinct_from(row["code"]), code.is_distinct_from(BY_HAND)
        )
        replaceable = sa.and_(
            sa.or_(never_sent, scribe_jobs.c.state.in_(SETTLED)),
            sa.or_(scribe_jobs.c.request_hash != row["request_hash"], marker),
        )
        # Of the very request that is wanted again, the provider may have told its id late: it is not forgotten.
        same = scribe_jobs.c.request_hash == row["request_hash"]
        known = sa.case((same, scribe_jobs.c.vendor_job_id), else_=row["vendor_job_id"])
        update = (
            sa.update(scribe_jobs)
            .where(*self.mine(), scribe_jobs.c.job_key == key, replaceable)
            .values(**{**row, "vendor_job_id": known})
        )
        return connection.execute(update).rowcount

    def drop(self, connection: sa.Connection, key: str) -> None:
        """Removes a job that never was one: it only showed why there was none."""
        was_none = [scribe_jobs.c.state == State.CANCELLED, scribe_jobs.c.submissions == 0]
        connection.execute(sa.delete(scribe_jobs).where(*self.mine(), scribe_jobs.c.job_key == key, *was_none))

    def want_again(self, connection: sa.Connection, ref: Ref, *, now: datetime) -> bool:
        """A person decided that it is to be sent once more, under the same request id."""
        values = {"code": None, "wanted_at": now, "settled_at": None, "submissions": 0, "polls": 0}
        return self._move(connection, "want_again", ref, values)

    def cancel(self, connection: sa.Connection, ref: Ref, code: str, *, now: datetime) -> bool:
        """Is not to be sent any more, and never was."""
        return self._move(connection, "cancel", ref, {"code": code, "settled_at": now}, scribe_jobs.c.submissions == 0)

    def give_up(self, connection: sa.Connection, ref: Ref, code: str, *, now: datetime) -> bool:
        """A person decided that nothing more is to come of what failed or expired."""
        return self._move(connection, "give_up", ref, {"code": code, "settled_at": now})

    def claim(
        self,
        connection: sa.Connection,
        key: str,
        *,
        worker: str,
        now: datetime,
        expires_at: datetime,
        run_id: str | None,
    ) -> Entry | None:
        """`worker` is about to send it, and nobody else; from the commit on the provider may have it."""
        values = {
            "state": MOVES["claim"].target,
            "claimed_by": worker,
            "submissions": scribe_jobs.c.submissions + 1,
            "submitted_at": now,
            "expires_at": expires_at,
            "run_id": run_id,
        }
        is_free = scribe_jobs.c.state.in_(MOVES["claim"].sources)
        update = sa.update(scribe_jobs).where(*self.mine(), scribe_jobs.c.job_key == key, is_free).values(**values)
        return self.get(connection, key) if connection.execute(update).rowcount else None

    def give_back(
        self, connection: sa.Connection, ref: Ref, *, worker: str, sent: bool, code: str | None = None
    ) -> bool:
        """Is to be sent again: it surely had no effect, or (`sent`) sending it twice does no harm."""
        values: dict[str, Any] = {"claimed_by": None, "code": code}
        if not sent:
            values["submissions"] = scribe_jobs.c.submissions - 1
        return self._move(connection, "give_back", ref, values, scribe_jobs.c.claimed_by == worker)

    def lose(self, connection: sa.Connection, ref: Ref, code: str, *, worker: str) -> bool:
        """The provider may have it or not, and nobody can say."""
        values = {"claimed_by": None, "code": code}
        return self._move(connection, "lose", ref, values, scribe_jobs.c.claimed_by == worker)

    def accept(self, connection: sa.Connection, ref: Ref, vendor_job_id: str | None, *, next_poll_at: datetime) -> bool:
        """The provider has it and works at it. Its id is written down in any case: nobody will tell it again."""
        # Without a submission nothing bounds the wait, and nothing can have been accepted.
        was_sent = scribe_jobs.c.submissions > 0
        values = {"claimed_by": None, "code": None, "next_poll_at": next_poll_at}
        moved = self._move(connection, "accept", ref, values, was_sent)
        self._note_vendor_id(connection, ref, vendor_job_id)
        return moved

    def announce(
        self, connection: sa.Connection, ref: Ref, vendor_job_id: str | None, *, next_poll_at: datetime
    ) -> bool:
        """It is done, and the result is still to be asked for."""
        was_sent = scribe_jobs.c.submissions > 0
        values = {"claimed_by": None, "code": None, "next_poll_at": next_poll_at}
        moved = self._move(connection, "announce", ref, values, was_sent)
        self._note_vendor_id(connection, ref, vendor_job_id)
        return moved

    def ask(self, connection: sa.Connection, entry: Entry, *, now: datetime, next_poll_at: datetime) -> Entry | None:
        """Is asked after by us, and by nobody else before `next_poll_at`. No move: the answer makes one."""
        due = [scribe_jobs.c.state.in_(ASKED_AFTER), scribe_jobs.c.next_poll_at <= now]
        values = {"polls": scribe_jobs.c.polls + 1, "next_poll_at": next_poll_at}
        asked = connection.execute(sa.update(scribe_jobs).where(*self._is(entry.ref), *due).values(**values)).rowcount
        return replace(entry, polls=entry.polls + 1, next_poll_at=next_poll_at) if asked else None

    def note_trouble(self, connection: sa.Connection, ref: Ref, code: str | None) -> None:
        """Why asking after it did not work last time (`None`: it did). No move."""
        changed = [scribe_jobs.c.state.in_(ASKED_AFTER), scribe_jobs.c.code.is_distinct_from(code)]
        connection.execute(sa.update(scribe_jobs).where(*self._is(ref), *changed).values(code=code))

    def expire(self, connection: sa.Connection, ref: Ref, *, now: datetime) -> bool:
        """Its time is up. Keeps the code of the trouble with it, if there was any."""
        values = {**_ended(now), "code": sa.func.coalesce(scribe_jobs.c.code, "no_result")}
        return self._move(connection, "expire", ref, values, scribe_jobs.c.expires_at <= now)

    def fail(self, connection: sa.Connection, ref: Ref, code: str, *, now: datetime, worker: str | None = None) -> bool:
        """The provider gave it up or refused it. Give `worker` when that is the answer to its submission."""
        mine = [scribe_jobs.c.claimed_by == worker] if worker is not None else []
        return self._move(connection, "fail", ref, {**_ended(now), "code": code}, *mine)

    def collect(self, connection: sa.Connection, ref: Ref, vendor_job_id: str | None, *, now: datetime) -> bool:
        """Its result lands in this transaction."""
        moved = self._move(connection, "collect", ref, {**_ended(now), "code": None})
        self._note_vendor_id(connection, ref, vendor_job_id)
        return moved

    def standing(self, connection: sa.Connection, *, now: datetime) -> Standing:
        """How the jobs stand; `overdue` are those still asked after although their time is up."""
        by_code = connection.execute(
            sa.select(scribe_jobs.c.state, scribe_jobs.c.code, sa.func.count())
            .where(*self.mine())
            .group_by(scribe_jobs.c.state, scribe_jobs.c.code)
        ).all()
        states: dict[str, int] = {}
        codes: dict[str, dict[str, int]] = {}
        for state, code, count in by_code:
            states[state] = states.get(state, 0) + count
            if code is not None:
                codes.setdefault(state, {})[code] = count
        oldest = sa.select(sa.func.min(scribe_jobs.c.wanted_at)).where(*self.mine(), scribe_jobs.c.state.in_(OPEN))
        overdue = (
            sa.select(sa.func.count())
            .select_from(scribe_jobs)
            .where(*self.mine(), scribe_jobs.c.state.in_(ASKED_AFTER), scribe_jobs.c.expires_at <= now)
        )
        return Standing(states, codes, connection.scalar(oldest), connection.scalar(overdue) or 0)

    def _note_vendor_id(self, connection: sa.Connection, ref: Ref, vendor_job_id: str | None) -> None:
        if vendor_job_id is not None:
            unknown = scribe_jobs.c.vendor_job_id.is_(None)
            update = sa.update(scribe_jobs).where(*self._is(ref), unknown)
            connection.execute(update.values(vendor_job_id=vendor_job_id))

    def _move(
        self,
        connection: sa.Connection,
        name: str,
        ref: Ref,
        values: Mapping[str, Any],
        *guards: sa.ColumnElement[bool],
    ) -> bool:
        """Updates the job if it stands where `name` may start, for that request; `False` if it does not (any more)."""
        move = MOVES[name]
        where = [*self._is(ref), scribe_jobs.c.state.in_(move.sources), *guards]
        update = sa.update(scribe_jobs).where(*where).values(state=move.target, **values)
        return connection.execute(update).rowcount > 0

    def _is(self, ref: Ref) -> list[sa.ColumnElement[bool]]:
        return [
            *self.mine(),
            scribe_jobs.c.job_key == ref.job_key,
            scribe_jobs.c.client_request_id == ref.client_request_id,
        ]


def _ended(now: datetime) -> dict[str, Any]:
    return {"claimed_by": None, "next_poll_at": None, "settled_at": now}


def _entry(row: sa.Row[Any]) -> Entry:
    return Entry(
        job=Job(row.correlation_key, row.step, row.request, row.client_request_id, row.vendor_job_id),
        ref=Ref(row.job_key, row.client_request_id),
        state=State(row.state),
        request_hash=row.request_hash,
        submissions=row.submissions,
        polls=row.polls,
        code=row.code,
        next_poll_at=row.next_poll_at,
        expires_at=row.expires_at,
        claimed_by=row.claimed_by,
        settled_at=row.settled_at,
    )
