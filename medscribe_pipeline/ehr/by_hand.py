"""What a person does with the delivery ledger: send again, tell what became of a request, give up on a version.

Each act is one guarded move of the ledger, in a transaction that holds the lock on the note and looks once more: where
a run was faster, nothing happens, and that is told. What was done, when and by whom is noted on the version (see
`signatures.py`), which the next answer of the server may overwrite, and for good in the access log.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.day_view import load_facts
from medscribe_pipeline.ehr.ledger import DOCUMENT_REFERENCE, Copy, State
from medscribe_pipeline.ehr.listing import Which, pages
from medscribe_pipeline.ehr.outcomes import is_id
from medscribe_pipeline.ehr.plan import SUPERSEDED, is_behind
from medscribe_pipeline.ehr.signatures import Act, discarded_in_doubt, in_doubt, sign
from medscribe_pipeline.ehr.waiting import make_due
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.warehouse.audit import note_access
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import deliveries, notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date, datetime

    from medscribe_pipeline.ehr.day_view import NoteFacts
    from medscribe_pipeline.ehr.ledger import Entry, Key
    from medscribe_pipeline.ehr.listing import Standing
    from medscribe_pipeline.warehouse.store import Warehouse

    Take = Callable[[sa.Connection, "_Now"], "Act | Obstacle | None"]

__all__ = [
    "Done",
    "Obstacle",
    "discard",
    "discard_obstacle",
    "reconciled",
    "release_absent",
    "release_there",
    "retry",
    "retry_obstacle",
]

BATCH = 200
"""Note versions moved in one transaction: on SQLite nobody else writes meanwhile."""

_RETRIED_FROM = (State.REJECTED, State.DISCARDED)


class Obstacle(StrEnum):
    """Why nothing is done with a note version that was named."""

    OLDER_VERSION = "older_version"
    MAY_BE_THERE = "may_be_there"
    LEDGER_AHEAD = "ledger_ahead"
    OTHER_STATE = "other_state"
    ALREADY_SUPERSEDED = "already_superseded"


@dataclass(slots=True)
class Done:
    """What an act on many versions did.

    Attributes:
        versions: Note versions that were moved.
        overtaken: Those that somebody else moved first; nothing was done with them.
        obstacles: Those nothing can be done with, by reason.
        days: Visit days the next sync goes through because of it.
    """

    versions: int = 0
    overtaken: int = 0
    obstacles: Counter[Obstacle] = field(default_factory=Counter)
    days: set[date] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Now:
    """A version as it stands inside the transaction that moves it."""

    own: Entry
    note: NoteFacts | None
    listed: Sequence[Entry]
    codes: Mapping[str, tuple[str, ...]]

    @property
    def day(self) -> date:
        """The day the note is delivered with."""
        return self.note.visit_day if self.note else self.own.visit_day


def retry_obstacle(standing: Standing, *, absent: bool) -> Obstacle | None:
    """Why a version cannot be sent again; `None` when it can.

    Args:
        standing: The version.
        absent: A person has looked, and what was discarded in doubt is not on the server.
    """
    if standing.state not in _RETRIED_FROM:
        return Obstacle.OTHER_STATE
    if not standing.newest:
        return Obstacle.OLDER_VERSION
    return Obstacle.MAY_BE_THERE if in_doubt(standing) and not absent else None


def discard_obstacle(standing: Standing) -> Obstacle | None:
    """Why there is no use in discarding a version, or no way to; `None` when there is."""
    if standing.state not in ledger.MOVES["discard"].sources:
        return Obstacle.OTHER_STATE
    superseded = standing.state is State.HELD and standing.reason == SUPERSEDED
    return Obstacle.ALREADY_SUPERSEDED if superseded else None


def retry(warehouse: Warehouse, which: Which, *, who: str, clock: Callable[[], datetime], absent: bool = False) -> Done:
    """Plans rejected and discarded versions again, and makes their days due.

    What of such a version is on the server already is not sent again.

    Args:
        warehouse: The warehouse.
        which: Which versions; those in other states are left alone.
        who: Who does it.
        clock: The current time, aware UTC.
        absent: A person has looked, and what was discarded in doubt is not on the server.

    Raises:
        MedscribeError: `ledger_torn`: the rows of a version do not agree.
    """
    take = partial(_retry_one, absent=absent)
    return _act(warehouse, which, partial(retry_obstacle, absent=absent), take, who, clock)


def discard(warehouse: Warehouse, which: Which, *, who: str, clock: Callable[[], datetime]) -> Done:
    """Sees to it that versions are not sent, until somebody retries them.

    Args:
        warehouse: The warehouse.
        which: Which versions; those under way or delivered, and those that are superseded anyway, are left alone.
        who: Who does it.
        clock: The current time, aware UTC.

    Raises:
        MedscribeError: `ledger_torn`: the rows of a version do not agree.
    """

    def take(connection: sa.Connection, now: _Now) -> Act | None:
        moved = ledger.discard(connection, now.own.key, now=clock(), attempts=now.own.attempts)
        doubt = Act.DISCARDED_IN_DOUBT if now.own.state is State.UNKNOWN else Act.DISCARDED
        return doubt if moved else None

    return _act(warehouse, which, discard_obstacle, take, who, clock)


def release_absent(warehouse: Warehouse, standing: Standing, *, who: str, clock: Callable[[], datetime]) -> bool:
    """A person has looked: what is not known to be there of an unknown version is not on the server. Planned again.

    Args:
        warehouse: The warehouse.
        standing: The version, as it was read before looking: if it was sent again since, nothing happens.
        who: Who says so.
        clock: The current time, aware UTC.

    Returns:
        Whether it was released; `False` if something else happened to it meanwhile.
    """

    def take(connection: sa.Connection, now: _Now) -> Act | None:
        moved = ledger.release_absent(connection, now.own.key, attempts=standing.attempts)
        return Act.RELEASED_ABSENT if moved else None

    return _one(warehouse, standing, take, who, clock)


def release_there(
    warehouse: Warehouse,
    standing: Standing,
    kind: str | None,
    server_id: str,
    *,
    who: str,
    clock: Callable[[], datetime],
) -> State | None:
    """A person has looked: a document of an unknown version is on the server, under this id.

    With the last of its documents the version counts as delivered; until then it stays unknown.

    Args:
        warehouse: The warehouse.
        standing: The version, as it was read before looking: if it was sent again since, nothing happens.
        kind: Which document; not needed where one only is in doubt.
        server_id: Its logical id.
        who: Who says so.
        clock: The current time, aware UTC.

    Returns:
        Where it stands now; `None` if something else happened to it meanwhile.

    Raises:
        ConfigError: `server_id`: that is no logical id. `which_document`: that document is not in doubt, or several
            are and none is named. `server_id_taken`: the ledger knows another document under this id.
    """
    if not is_id(server_id):
        raise ConfigError(
            "--there takes the logical id alone: letters, digits, '-' and '.', without the resource type",
            code="server_id",
        )
    if (kind is None and len(standing.missing) != 1) or (kind is not None and kind not in standing.missing):
        raise ConfigError(
            f"Say with --kind which document that is; in doubt are: {', '.join(standing.missing) or 'none'}",
            code="which_document",
        )
    known = kind or standing.missing[0]
    copies = {known: Copy(server_id, None)}
    left = State.DELIVERED if standing.missing == (known,) else State.UNKNOWN

    def take(connection: sa.Connection, now: _Now) -> Act | None:
        key, attempts = now.own.key, standing.attempts
        _refuse_taken(connection, key, known, server_id)
        if left is State.DELIVERED:
            moved = ledger.deliver(connection, key, copies, now=clock(), attempts=attempts)
        else:
            reason = now.own.reason or ""
            moved = ledger.lose(connection, key, reason, now=clock(), copies=copies, attempts=attempts)
        return Act.RELEASED_THERE if moved else None

    return left if _one(warehouse, standing, take, who, clock) else None


@contextmanager
def reconciled(warehouse: Warehouse, target: str) -> Iterator[None]:
    """Around asking a target after what is unknown: makes due the days on which that settled something.

    A day may count as done while a person is waited for; what was held up by it can go out now.
    """
    before = _unknown(warehouse, target)
    try:
        yield
    finally:
        after = _unknown(warehouse, target)
        days = {day for key, day in before.items() if key not in after}
        if days:
            with warehouse.begin() as connection:
                make_due(warehouse, connection, days)


def _unknown(warehouse: Warehouse, target: str) -> dict[Key, date]:
    which = Which(targets=(target,), states=(State.UNKNOWN,))
    return {each.key: each.visit_day for page in pages(warehouse, which) for each in page}


def _retry_one(connection: sa.Connection, now: _Now, *, absent: bool) -> Act | Obstacle | None:
    if now.note is None or now.note.version != now.own.key.version:
        return None  # a newer version has come meanwhile
    if is_behind(now.note, now.listed):
        return Obstacle.LEDGER_AHEAD
    if now.own.state is State.DISCARDED and discarded_in_doubt(now.codes.values()) and not absent:
        return Obstacle.MAY_BE_THERE
    moved = ledger.plan_again(connection, now.own.key, source_seq=now.note.source_seq, visit_day=now.note.visit_day)
    return Act.RETRIED if moved else None


def _act(
    warehouse: Warehouse,
    which: Which,
    obstacle_to: Callable[[Standing], Obstacle | None],
    take: Take,
    who: str,
    clock: Callable[[], datetime],
) -> Done:
    done = Done()
    for page in pages(warehouse, which):
        wanted = []
        for standing in page:
            obstacle = obstacle_to(standing)
            if obstacle is None:
                wanted.append(standing)
            else:
                done.obstacles[obstacle] += 1
        for batch in in_chunks(wanted, BATCH):
            _take_batch(warehouse, batch, take, who, clock, done)
    return done


def _one(
    warehouse: Warehouse,
    standing: Standing,
    take: Take,
    who: str,
    clock: Callable[[], datetime],
) -> bool:
    done = Done()
    _take_batch(warehouse, [standing], take, who, clock, done)
    return done.versions > 0


def _take_batch(
    warehouse: Warehouse,
    batch: Sequence[Standing],
    take: Take,
    who: str,
    clock: Callable[[], datetime],
    done: Done,
) -> None:
    """Moves versions in one transaction, those that still stand as they were read."""
    note_ids = sorted({each.key.note_id for each in batch})
    days = set()
    moved = 0
    with warehouse.begin() as connection:
        # As those who claim do it: while this lock is held, no version of these notes begins to leave.
        facts = load_facts(connection, notes.c.note_id.in_(note_ids), lock=True)
        listed = {
            target: ledger.entries(connection, target, note_ids)
            for target in sorted({each.key.target for each in batch})
        }
        codes = _codes(connection, note_ids)
        for standing in batch:
            key = standing.key
            versions = listed[key.target].get(key.note_id, [])
            own = next((entry for entry in versions if entry.key == key), None)
            if own is None or (own.state, own.attempts) != (standing.state, standing.attempts):
                done.overtaken += 1
                continue
            now = _Now(own, facts.get(key.note_id), versions, codes.get(key, {}))
            act = take(connection, now)
            if isinstance(act, Obstacle):
                done.obstacles[act] += 1
            elif act is None:
                done.overtaken += 1
            else:
                moved += 1
                at = clock()
                sign(connection, key, now.codes, act, who=who, at=at)
                note_access(connection, warehouse.account, f"delivery_{act}", key.note_id, at, who)
                # What was given up for good holds up nothing; what was in doubt held up later versions.
                days |= {now.day} if act is not Act.DISCARDED else set()
        make_due(warehouse, connection, days)
    # Only what was committed counts.
    done.versions += moved
    done.days |= days


def _codes(connection: sa.Connection, note_ids: Sequence[str]) -> dict[Key, dict[str, tuple[str, ...]]]:
    columns = (deliveries.c.target, deliveries.c.note_id, deliveries.c.version, deliveries.c.kind)
    query = sa.select(*columns, deliveries.c.outcome_codes).where(deliveries.c.note_id.in_(note_ids))
    found: dict[Key, dict[str, tuple[str, ...]]] = {}
    for target, note_id, version, kind, codes in connection.execute(query):
        found.setdefault(ledger.Key(target, note_id, version), {})[kind] = tuple(codes or ())
    return found


def _refuse_taken(connection: sa.Connection, key: Key, kind: str, server_id: str) -> None:
    """One id of a type is one document: a slip of the pen must not have one note replace another later on."""
    own = sa.and_(deliveries.c.note_id == key.note_id, deliveries.c.kind == kind)
    types = [kind] if kind in (ledger.COMPOSITION, "Provenance") else [DOCUMENT_REFERENCE, "Transcript"]
    query = sa.select(deliveries.c.note_id).where(
        deliveries.c.target == key.target, deliveries.c.server_id == server_id, deliveries.c.kind.in_(types), ~own
    )
    if connection.execute(query.limit(1)).first() is not None:
        raise ConfigError(
            "The ledger knows another document under this id; look once more which one it is", code="server_id_taken"
        )
