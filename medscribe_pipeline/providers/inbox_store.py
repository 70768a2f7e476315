"""The table `inbox`: what providers push to us, stored as it came, each event once.

Storing is all the receiver does with an event; `inbox.process_inbox` does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from medscribe_pipeline.notes import canonical_json, content_hash
from medscribe_pipeline.providers.pull import storable
from medscribe_pipeline.warehouse.erasure import FORGOTTEN
from medscribe_pipeline.warehouse.retention import NO_PAYLOAD
from medscribe_pipeline.warehouse.tables import change_counter, inbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = [
    "Event",
    "EventKey",
    "OpenRow",
    "conclude",
    "oldest_open",
    "open_events",
    "postpone",
    "read_event",
    "store_event",
    "store_events",
    "waiting_since",
]

KEY_LENGTH = 255
HASH_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it arrived.

    Attributes:
        provider: Who sent it.
        kind: What it is about, of a few known words.
        event_id: Its own id; `None` or an unusable one: the hash of its content stands in.
        payload: JSON object or array, as received.
        verified: Whether a signature proved who sent it.
    """

    provider: str
    kind: str
    event_id: str | None
    payload: Any = field(repr=False)
    verified: bool


class EventKey(NamedTuple):
    """Which event, within the account."""

    provider: str
    event_id: str


@dataclass(frozen=True, slots=True)
class OpenRow:
    """An event that waits to be processed; `attempts` were made before."""

    key: EventKey
    kind: str
    verified: bool
    attempts: int
    received_at: datetime


def store_event(
    warehouse: Warehouse,
    provider: str,
    kind: str,
    event_id: str | None,
    payload: Any,
    verified: bool,
    now: datetime,
) -> bool:
    """Stores one event; see `store_events`. Returns whether it was new."""
    return store_events(warehouse, [Event(provider, kind, event_id, payload, verified)], now=now)[0]


def store_events(warehouse: Warehouse, events: Sequence[Event], *, now: datetime) -> list[bool]:
    """Stores events in one transaction: all or none.

    An event that is there already is counted, not stored again. The same id with another content is another event
    (Askara names an event after the note it is about) and gets a row of its own: nothing is ever overwritten.

    Returns:
        For each event whether it was new.

    Raises:
        MedscribeError: Nothing was stored. `warehouse`: the database is locked or cannot be reached, try again.
    """
    fresh: list[bool] = []
    with warehouse.begin() as connection:
        # The same lock as landing takes, so that `seq` rises in the order of commits and no two writers race for a key.
        sequence = before = connection.scalar(sa.select(change_counter.c.value).with_for_update()) or 0
        for event in events:
            payload = storable(event.payload)
            key = _key(event, payload)
            if (known := _payload(connection, warehouse, key)) is not None and not _is_same(known[0], payload):
                key = _other_key(key, payload)
                known = _payload(connection, warehouse, key)
            fresh.append(known is None)
            if known is not None:
                connection.execute(_row(warehouse, key).values(deliveries=inbox.c.deliveries + 1))
                continue
            sequence += 1
            row = {
                "account": warehouse.account,
                **key._asdict(),
                "seq": sequence,
                "kind": event.kind,
                "payload": payload,
                "verified": event.verified,
                "received_at": now,
                "deliveries": 1,
                "attempts": 0,
            }
            connection.execute(sa.insert(inbox).values(**row))
        if sequence > before:
            connection.execute(sa.update(change_counter).values(value=sequence))
    return fresh


def open_events(warehouse: Warehouse) -> tuple[int, int]:
    """How many events wait, and the `seq` of the newest of them (0 for none). One indexed query, for a sensor."""
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.max(inbox.c.seq), 0)).where(*_open(warehouse))
    with warehouse.read() as connection:
        count, newest = connection.execute(query).one()
    return count, newest


def waiting_since(warehouse: Warehouse) -> datetime | None:
    """When the event that waits longest arrived; `None` when none waits."""
    query = sa.select(sa.func.min(inbox.c.received_at)).where(*_open(warehouse))
    with warehouse.read() as connection:
        since: datetime | None = connection.scalar(query)
    return since


def oldest_open(warehouse: Warehouse, limit: int) -> list[OpenRow]:
    """Events that wait, oldest first; those that were tried before come after those that were not.

    Otherwise a few hundred that cannot be settled yet would stand in the way of all the others.
    """
    columns = (
        inbox.c.provider,
        inbox.c.event_id,
        inbox.c.kind,
        inbox.c.verified,
        inbox.c.attempts,
        inbox.c.received_at,
    )
    query = sa.select(*columns).where(*_open(warehouse)).order_by(inbox.c.attempts, inbox.c.seq).limit(limit)
    with warehouse.read() as connection:
        return [
            OpenRow(EventKey(row.provider, row.event_id), row.kind, row.verified, row.attempts, row.received_at)
            for row in connection.execute(query)
        ]


def read_event(warehouse: Warehouse, key: EventKey) -> Any:
    """The payload of an event."""
    with warehouse.read() as connection:
        found = _payload(connection, warehouse, key)
    return found[0] if found else None


def conclude(
    connection: sa.Connection, warehouse: Warehouse, key: EventKey, *, code: str | None, now: datetime
) -> None:
    """Marks an event as processed, as part of the transaction that did what it asked for.

    What an event says of somebody who was forgotten is not kept.
    """
    values: dict[str, Any] = {"attempts": inbox.c.attempts + 1, "code": code, "processed_at": now}
    if code == FORGOTTEN:
        values["payload"] = NO_PAYLOAD
    connection.execute(_row(warehouse, key).where(inbox.c.processed_at.is_(None)).values(**values))


def postpone(warehouse: Warehouse, key: EventKey, code: str) -> None:
    """Notes that an event was tried and why it has to wait."""
    values = {"attempts": inbox.c.attempts + 1, "code": code}
    with warehouse.begin() as connection:
        connection.execute(_row(warehouse, key).where(inbox.c.processed_at.is_(None)).values(**values))


def _key(event: Event, payload: Any) -> EventKey:
    """The event's own id where it has one that can be a key, else the hash of its content."""
    own = event.event_id
    usable = own is not None and 0 < len(own) <= KEY_LENGTH and own.isprintable()
    return EventKey(event.provider, own if usable and own else content_hash(payload))


def _other_key(key: EventKey, payload: Any) -> EventKey:
    digest = content_hash(payload)[:HASH_LENGTH]
    return EventKey(key.provider, f"{key.event_id[: KEY_LENGTH - HASH_LENGTH - 1]}/{digest}")


def _payload(connection: sa.Connection, warehouse: Warehouse, key: EventKey) -> tuple[Any] | None:
    query = sa.select(inbox.c.payload).where(*_is(warehouse, key))
    found = connection.execute(query).one_or_none()
    return None if found is None else (found[0],)


def _is_same(known: Any, payload: Any) -> bool:
    """Whether two payloads say the same; to Python `true` is 1 and `false` is 0, to a provider they are not."""
    return canonical_json(known) == canonical_json(payload)


def _row(warehouse: Warehouse, key: EventKey) -> sa.Update:
    return sa.update(inbox).where(*_is(warehouse, key))


def _is(warehouse: Warehouse, key: EventKey) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        inbox.c.account == warehouse.account,
        inbox.c.provider == key.provider,
        inbox.c.event_id == key.event_id,
    )


def _open(warehouse: Warehouse) -> tuple[sa.ColumnElement[bool], ...]:
    return (inbox.c.account == warehouse.account, inbox.c.processed_at.is_(None))
