"""Calls-a-minute budgets that all runs of an account share, on whatever machine they are.

A provider that allows 100 calls a minute may count them in fixed minutes or in sliding ones; we cannot know. So the
rule here holds for both: **no 60 seconds, wherever they begin, contain more calls than the budget.** Calls are counted
one after the other, and the count begins again only after a minute in which none was let go. A burst may use up the
whole budget at once; then everybody waits until the burst is a minute old.

The count is one row of `rate_budgets`, read and written in one transaction that locks it.
"""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from medscribe_pipeline.warehouse.tables import rate_budgets
from medscribe_pipeline.warehouse.writing import insert_absent

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Grant", "RateBudget"]

# A second more than a minute: between the count and the server's own lies the way there.
QUIET = timedelta(seconds=61)


class Grant(NamedTuple):
    """How many of the calls asked for may be made now, and when to ask for the others (`None`: all may)."""

    granted: int
    wait_until: datetime | None


class RateBudget:
    """The budget of one kind of call to one provider.

    Args:
        warehouse: Whose account it belongs to, and where it is kept.
        provider: Provider name.
        kind: What is counted (`submit`, `poll`).
        calls_per_minute: How many are allowed; runs with different settings share the count and keep to their own.
        clock: The current time, aware UTC. Clocks of several machines should agree to about a second.
    """

    def __init__(
        self, warehouse: Warehouse, provider: str, kind: str, calls_per_minute: int, *, clock: Callable[[], datetime]
    ) -> None:
        self._warehouse = warehouse
        self._names = {"account": warehouse.account, "provider": provider, "kind": kind}
        self._limit = calls_per_minute
        self._clock = clock

    def take(self, n: int, connection: sa.Connection | None = None) -> Grant:
        """Asks for `n` calls that are made right after.

        Args:
            n: How many are wanted.
            connection: An open write transaction to be part of. Take the budget last in it: its row stays locked.
        """
        return self._count(n, connection, beyond=False)

    def charge(self, n: int, connection: sa.Connection | None = None) -> None:
        """Counts `n` calls that were made without asking, such as repetitions: later ones wait for them."""
        self._count(n, connection, beyond=True)

    def _count(self, n: int, connection: sa.Connection | None, *, beyond: bool) -> Grant:
        now = self._clock()
        transaction: AbstractContextManager[sa.Connection] = (
            self._warehouse.begin() if connection is None else nullcontext(connection)
        )
        with transaction as open_connection:
            last, used = self._locked(open_connection, now)
            # More than a minute ahead: a clock was wrong when that was written, and nobody is to wait for it to come.
            if abs(now - last) >= QUIET:
                last, used = now, 0
            granted = n if beyond else max(0, min(n, self._limit - used))
            if granted:
                last = max(last, now)
            open_connection.execute(
                sa.update(rate_budgets).where(*self._row()).values(window_at=last, used=used + granted)
            )
        return Grant(granted, None if granted == n else last + QUIET)

    def _locked(self, connection: sa.Connection, now: datetime) -> tuple[datetime, int]:
        """When the last call was let go and how many count up to then; the row is ours until the commit."""
        insert_absent(connection, rate_budgets, [{**self._names, "window_at": now, "used": 0}])
        row = connection.execute(
            sa.select(rate_budgets.c.window_at, rate_budgets.c.used).where(*self._row()).with_for_update()
        ).one()
        return row.window_at, row.used

    def _row(self) -> list[sa.ColumnElement[bool]]:
        return [rate_budgets.c[name] == value for name, value in self._names.items()]
