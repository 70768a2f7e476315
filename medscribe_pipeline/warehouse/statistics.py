"""PostgreSQL's statistics of tables that grow faster than the server looks at them.

Without statistics it takes a table for tiny: it reads all rows of an account to find a hundred of them, for every page
and every batch, and a first load takes time by the square of its size. Autovacuum looks once a minute, which is when
such a load is over. So whoever adds many rows says so here, and a table that has at least doubled is analysed.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LOOKED_AT_FROM", "Statistics", "added", "rows_added"]

LOOKED_AT_FROM = 500
"""Rows added before statistics are looked at: below that it does not matter how rows are found."""

_TARGET = 10
"""`default_statistics_target` while a table grows: the server looks at 300 rows for each of it, all over the table.

With the usual 100, looking costs a first load more than counting its days does. What has to be known is how many rows
there are, and that keys differ; autovacuum looks more closely once there is time.
"""

_ADDED = "medscribe_rows_added"

log = logging.getLogger(__name__)


def added(connection: sa.Connection, table: sa.Table, rows: int) -> None:
    """Notes that rows were added to a table, or replaced there."""
    connection.info.setdefault(_ADDED, Counter())[table.name] += rows


def rows_added(connection: sa.Connection) -> Counter[str]:
    """What was noted on a connection since this was asked last, by table."""
    found: Counter[str] = connection.info.pop(_ADDED, Counter())
    return found


class Statistics:
    """Rows one process has added to the tables of one warehouse, and when to look at a table again."""

    def __init__(self) -> None:
        self._added: Counter[str] = Counter()
        self._look_at: dict[str, int] = {}

    def renew(self, engine: sa.Engine, rows: Mapping[str, int]) -> None:
        """Analyses the tables that have at least doubled since they were analysed last.

        Args:
            engine: The warehouse, on PostgreSQL: rows are noted by its own ways of writing only.
            rows: What a transaction that was committed has added, by table.
        """
        self._added.update(rows)
        grown = [name for name in rows if self._added[name] >= self._look_at.get(name, LOOKED_AT_FROM)]
        try:
            for name in grown:
                self._look(engine, name)
        except sa.exc.DBAPIError:
            # What was written is written; without statistics the next statements take longer, that is all.
            log.info("Statistics of tables could not be renewed")

    def _look(self, engine: sa.Engine, name: str) -> None:
        with engine.begin() as connection:
            known = connection.scalar(
                sa.text("SELECT reltuples FROM pg_class WHERE oid = to_regclass(:name)"), {"name": name}
            )
            if known is not None and known < self._added[name]:
                connection.exec_driver_sql(f"SET LOCAL default_statistics_target = {_TARGET}")
                # Whoever is at it already does it for us.
                connection.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {engine.dialect.identifier_preparer.quote(name)}")
                self._added[name] = 0
                self._look_at.pop(name, None)
            else:
                self._look_at[name] = 2 * self._added[name]
