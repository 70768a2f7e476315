"""One thread that writes to the warehouse, and what waits for it.

A commit is a wait for the disk. Posts that arrive during one share the next: one transaction for all that wait,
each of them answered after its commit. So 200 posts at once cost a few commits, and memory holds no queue of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError, WarehouseError
from medscribe_pipeline.providers.inbox_store import Event, store_events
from medscribe_pipeline.warehouse.store import SCHEMA_HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["EventWriter", "hurry"]

MAX_BATCH = 256


@dataclass(frozen=True, slots=True)
class _Waiting:
    events: Sequence[Event]
    stored: Future[list[bool]] = field(default_factory=Future)


class EventWriter:
    """Stores events. All its work with the database is done by two threads of its own, one for writing.

    Args:
        warehouse: Where to; prepared by `hurry`.
        clock: Gives the current time.
    """

    def __init__(self, warehouse: Warehouse, clock: Callable[[], datetime]) -> None:
        self._warehouse = warehouse
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="inbox-write")
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="inbox-ready")

    def submit(self, events: Sequence[Event]) -> Future[list[bool]]:
        """Stores events, soon; the result comes after the commit.

        A future that is cancelled before its turn stores nothing. Its exception is a `MedscribeError`: a
        `WarehouseError` where sending again later will do, or another where this very event cannot be stored.
        """
        waiting = _Waiting(events)
        with self._lock:
            self._waiting.append(waiting)
        self._writing.submit(self._write_waiting)
        return waiting.stored

    def is_ready(self) -> Future[bool]:
        """Whether the warehouse answers and has the schema of this version."""
        return self._asking.submit(lambda: self._warehouse.schema_version() == SCHEMA_HEAD)

    def close(self) -> None:
        """Writes what waits, then ends the threads."""
        self._writing.shutdown(wait=True)
        self._asking.shutdown(wait=True, cancel_futures=True)

    def _write_waiting(self) -> None:
        """Writes what waits by now; the turns of those it took along find nothing left to do."""
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        batch = [waiting for waiting in taken if waiting.stored.set_running_or_notify_cancel()]
        if not batch:
            return
        error = self._write(batch)
        if error is not None and not isinstance(error, WarehouseError) and len(batch) > 1:
            # One of them cannot be stored: the others must not suffer for it.
            for waiting in batch:
                if (own := self._write([waiting])) is not None:
                    waiting.stored.set_exception(own)
        elif error is not None:
            for waiting in batch:
                waiting.stored.set_exception(error)

    def _write(self, batch: Sequence[_Waiting]) -> MedscribeError | None:
        """Stores a batch in one transaction and answers those that wait, or says why it was not stored."""
        try:
            fresh = store_events(
                self._warehouse, [event for waiting in batch for event in waiting.events], now=self._clock()
            )
        except MedscribeError as error:
            return error
        except Exception as error:  # noqa: BLE001  # whoever waits must be answered, whatever went wrong
            return MedscribeError("An event could not be stored", code="event", context={"cause": type(error).__name__})
        answers = iter(fresh)
        for waiting in batch:
            waiting.stored.set_result([next(answers) for _ in waiting.events])
        return None


def hurry(warehouse: Warehouse, longest_s: float) -> None:
    """Makes every wait for a lock of this warehouse end after `longest_s`; a sender is waiting for our answer."""
    milliseconds = int(longest_s * 1000)

    def prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        if warehouse.engine.dialect.name == "sqlite":
            cursor.execute(f"PRAGMA busy_timeout={milliseconds}")
        elif warehouse.engine.dialect.name == "postgresql":
            # Outside a transaction, or a rollback would take the settings back.
            before, connection.autocommit = connection.autocommit, True
            cursor.execute(f"SET lock_timeout={milliseconds}")
            cursor.execute(f"SET statement_timeout={milliseconds}")
            connection.autocommit = before
        cursor.close()

    sa.event.listen(warehouse.engine, "connect", prepare)
    warehouse.engine.dispose()  # Connections made before know nothing of it.
