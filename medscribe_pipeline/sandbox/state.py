"""Where a sandbox remembers what it holds: one SQLite file, or nothing at all.

Every change is one transaction, so a sandbox that is killed comes back with the last whole change. The file is held
exclusively while a sandbox runs on it: two of them on one file would each believe they were the provider.
"""

from __future__ import annotations

import sqlite3
from threading import RLock
from typing import TYPE_CHECKING, Any

import orjson

from medscribe_pipeline.errors import Busy, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Change", "State"]

Change = tuple[str, str, Any]
"""Collection, key and JSON value; `None` deletes."""

_FORMAT = 0x5B0001  # also tells our files from every other SQLite file, the warehouse above all
_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    seq INTEGER PRIMARY KEY, collection TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
    UNIQUE (collection, key)
)
"""
# An update keeps `seq`, so records come back in the order they were first written.
_UPSERT = (
    "INSERT INTO items (collection, key, body) VALUES (?, ?, ?) "
    "ON CONFLICT (collection, key) DO UPDATE SET body = excluded.body"
)
_NOT_OURS = "The file is not a sandbox state of this version; remove it or name another."


class State:
    """JSON values by collection and key.

    Args:
        path: The file, made when missing. `None` remembers nothing: `save` is free and `load` finds nothing.

    Raises:
        Busy: Another sandbox runs on the file.
        ConfigError: The file cannot be opened, is no sandbox state, or is of another format.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = RLock()
        self._connection = None if path is None else _open(path)

    def load(self, collection: str) -> Iterator[tuple[str, Any]]:
        """Keys and values of a collection, in the order the keys were first saved."""
        if self._connection is None:
            return
        with self._lock:
            rows = self._connection.execute(
                "SELECT key, body FROM items WHERE collection = ? ORDER BY seq", (collection,)
            ).fetchall()
        for key, body in rows:
            yield key, orjson.loads(body)

    def save(self, changes: Iterable[Change]) -> None:
        """Writes all changes, or none."""
        if self._connection is None:
            return
        upserts, deletes = [], []
        for collection, key, value in changes:
            if value is None:
                deletes.append((collection, key))
            else:
                upserts.append((collection, key, orjson.dumps(value)))
        with self._lock, self._connection:
            self._connection.executemany("DELETE FROM items WHERE collection = ? AND key = ?", deletes)
            self._connection.executemany(_UPSERT, upserts)

    def close(self) -> None:
        """Lets the file go; the state object is of no use afterwards."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _open(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=0.5, check_same_thread=False)
    except sqlite3.Error:
        raise ConfigError("The sandbox cannot open its state file.", code="sandbox_state") from None
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        # Survives the death of the process, not of the machine: enough for a sandbox, and several times faster.
        connection.execute("PRAGMA synchronous = OFF")
        with connection:
            # BEGIN EXCLUSIVE takes the lock now rather than at the first write, when it would be too late to say so.
            connection.execute("BEGIN EXCLUSIVE")
            is_new = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            is_ours = is_new or connection.execute("PRAGMA user_version").fetchone()[0] == _FORMAT
            if is_ours:
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise Busy("Another sandbox is running on this state file.", code="sandbox_running") from None
        raise ConfigError("The sandbox cannot use its state file.", code="sandbox_state") from None
    except sqlite3.DatabaseError:
        connection.close()
        raise ConfigError(_NOT_OURS, code="sandbox_state") from None
    if not is_ours:
        connection.close()
        raise ConfigError(_NOT_OURS, code="sandbox_state")
    return connection
