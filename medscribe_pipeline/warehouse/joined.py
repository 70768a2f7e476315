"""The warehouse from inside an open transaction."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from medscribe_pipeline.warehouse.store import Warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

__all__ = ["Joined"]


class Joined(Warehouse):
    """The warehouse seen from inside an open transaction: what is written through it commits with that one."""

    def __init__(self, warehouse: Warehouse, connection: sa.Connection) -> None:
        super().__init__(warehouse.engine, account=warehouse.account, locks=warehouse.locks, sealing=warehouse.sealing)
        self._connection = connection

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """The open transaction; whoever opened it commits."""
        yield self._connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """The open transaction, with what it has written so far."""
        yield self._connection
