"""Tables of the bare script, and the fastest upsert each database has for them.

PostgreSQL: binary COPY into a temporary table, then one INSERT ... ON CONFLICT. SQLite: one prepared statement for all
rows (`executemany`), in WAL mode. A database is `postgresql://...` or `sqlite:///file`.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg.types.json import set_json_dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Rows", "Tables", "open_tables"]

Rows = dict[str, list[tuple[Any, ...]]]
"""Rows by table; JSON as bytes."""

# Column and type as PostgreSQL has it; the key is as long as `KEYS` says.
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "records": (("id", "text"), ("hash", "text"), ("payload", "jsonb")),
    "notes": tuple((name, "text") for name in ("note_id", "source_id", "title", "created_at", "version")),
    "sections": (("note_id", "text"), ("ordinal", "int4"), ("title", "text"), ("words", "text")),
    "documents": (("note_id", "text"), ("kind", "text"), ("resource", "jsonb")),
}
KEYS = {"records": 1, "notes": 1, "sections": 2, "documents": 2}
SQLITE_TIMEOUT_S = 120


class Tables(Protocol):
    """An open database."""

    def create(self) -> None:
        """Makes the tables."""

    def upsert(self, rows: Rows) -> None:
        """Writes rows of several tables in one transaction, over those with the same keys."""

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Hashes of the records among these that are there, by id."""

    def documents(self) -> list[tuple[str, bytes]]:
        """Kind and bytes of all documents, those of a note one after the other."""

    def close(self) -> None:
        """Ends the connection."""


def open_tables(url: str) -> Tables:
    """The tables of a database."""
    if url.startswith("sqlite:///"):
        return _Sqlite(url.removeprefix("sqlite:///"))
    return _Postgres(url)


def _names(table: str) -> list[str]:
    return [name for name, _ in TABLES[table]]


def _key(table: str) -> str:
    return ", ".join(_names(table)[: KEYS[table]])


def _replacing(table: str) -> str:
    changes = ", ".join(f"{name} = excluded.{name}" for name in _names(table)[KEYS[table] :])
    return f"ON CONFLICT ({_key(table)}) DO UPDATE SET {changes}"


class _Postgres:
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        set_json_dumps(bytes, self._connection)  # They are bytes already.
        self._staged: set[str] = set()

    def create(self) -> None:
        for table, columns in TABLES.items():
            types = ", ".join(f"{name} {kind} NOT NULL" for name, kind in columns)
            self._run(f"CREATE TABLE {table} ({types}, PRIMARY KEY ({_key(table)}))")

    def upsert(self, rows: Rows) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            for table, each in rows.items():
                if table not in self._staged:
                    self._staged.add(table)
                    self._run(f"CREATE TEMP TABLE new_{table} (LIKE {table}) ON COMMIT DELETE ROWS")
                with cursor.copy(f"COPY new_{table} FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types([kind for _, kind in TABLES[table]])
                    for row in each:
                        copy.write_row(row)
                self._run(f"INSERT INTO {table} TABLE new_{table} {_replacing(table)}")

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        found = self._connection.execute("SELECT id, hash FROM records WHERE id = any(%s)", [list(ids)], binary=True)
        return dict(found.fetchall())

    def documents(self) -> list[tuple[str, bytes]]:
        wanted = "SELECT kind, convert_to(resource::text, 'UTF8') FROM documents ORDER BY note_id, kind"
        return self._connection.execute(wanted, binary=True).fetchall()

    def close(self) -> None:
        self._connection.close()

    def _run(self, statement: str) -> None:
        self._connection.execute(statement)


class _Sqlite:
    def __init__(self, file: str) -> None:
        self._connection = sqlite3.connect(file, timeout=SQLITE_TIMEOUT_S, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")

    def create(self) -> None:
        for table in TABLES:
            columns = ", ".join(f"{name} NOT NULL" for name in _names(table))
            self._connection.execute(f"CREATE TABLE {table} ({columns}, PRIMARY KEY ({_key(table)})) WITHOUT ROWID")

    def upsert(self, rows: Rows) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for table, each in rows.items():
            marks = ", ".join("?" * len(TABLES[table]))
            self._connection.executemany(f"INSERT INTO {table} VALUES ({marks}) {_replacing(table)}", each)  # noqa: S608 - names of ours
        self._connection.execute("COMMIT")

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        marks = ", ".join("?" * len(ids))
        return dict(self._connection.execute(f"SELECT id, hash FROM records WHERE id IN ({marks})", ids))  # noqa: S608 - question marks

    def documents(self) -> list[tuple[str, bytes]]:
        return self._connection.execute("SELECT kind, resource FROM documents ORDER BY note_id, kind").fetchall()

    def close(self) -> None:
        self._connection.close()
