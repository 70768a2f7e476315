"""What the server accepted, in the order it did: one row for each resource written, never changed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Ledger", "Written", "read_ledger"]

_TABLE = """
CREATE TABLE IF NOT EXISTS written (
  seq INTEGER PRIMARY KEY, endpoint INTEGER NOT NULL, request INTEGER NOT NULL, method TEXT NOT NULL,
  type TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, resource TEXT NOT NULL
)
"""


@dataclass(frozen=True)
class Written:
    """One accepted write.

    Attributes:
        request: Number of the HTTP request; the entries of a Bundle share it.
        method: `POST`, `PUT`, or `SEED` for what was there from the beginning.
        type: Resource type.
        id: Logical id.
        version: Version of the resource, from 1.
        resource: As stored.
    """

    request: int
    method: str
    type: str
    id: str
    version: int
    resource: dict[str, Any] = field(repr=False)


class Ledger:
    """The writing side. The caller holds a lock."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # The machine is not expected to lose power, and the server is not what is tested.
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(_TABLE)

    def append(self, endpoint: int, written: Sequence[Written]) -> None:
        """Adds what one commit wrote: all of it or nothing."""
        rows = [
            (endpoint, each.request, each.method, each.type, each.id, each.version, json.dumps(each.resource))
            for each in written
        ]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO written (endpoint, request, method, type, id, version, resource) VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        self._connection.execute("COMMIT")


def read_ledger(path: Path, endpoint: int) -> list[Written]:
    """Everything an endpoint accepted, oldest first."""
    query = "SELECT request, method, type, id, version, resource FROM written WHERE endpoint = ? ORDER BY seq"
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(query, (endpoint,)).fetchall()
    return [
        Written(request, method, kind, server_id, version, json.loads(resource))
        for request, method, kind, server_id, version, resource in rows
    ]
