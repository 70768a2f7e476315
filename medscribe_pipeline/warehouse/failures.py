"""Database errors into ours: what a person can do about each, without the statement and its values."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError, WarehouseTrouble, WarehouseUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["translated"]


class _Kind(NamedTuple):
    error: type[MedscribeError]
    code: str
    message: str


_FULL = _Kind(
    WarehouseUnusable,
    "warehouse_full",
    "The disk of the warehouse is full; free some space and run again, nothing half-written remains",
)
_LOCKED = _Kind(
    WarehouseTrouble,
    "warehouse_locked",
    "The warehouse is locked by another program; close it, or wait for it to end, and run again",
)
_CONFLICT = _Kind(
    WarehouseTrouble,
    "warehouse_conflict",
    "Two transactions stood in each other's way and the database ended this one; run again, nothing half-written "
    "remains",
)
_DAMAGED = _Kind(WarehouseUnusable, "warehouse_damaged", "The warehouse is damaged; restore a backup")
_IO = _Kind(WarehouseUnusable, "warehouse_io", "Reading or writing the warehouse failed; check its disk")
_UNREACHABLE = _Kind(
    WarehouseTrouble,
    "warehouse_unreachable",
    "The database of the warehouse does not answer, or ended the connection; run again when it is back. If it stays "
    "so, check that it is running and that MEDSCRIBE_WAREHOUSE_URL names it",
)
_REFUSED = _Kind(
    WarehouseUnusable,
    "warehouse_refused",
    "The database refuses the connection; check user, password and name of the database in MEDSCRIBE_WAREHOUSE_URL",
)
_OVERLOADED = _Kind(
    WarehouseTrouble,
    "warehouse_overloaded",
    "The database has no connection or memory left for this; run again later, or allow it more",
)
_OTHER = _Kind(
    WarehouseUnusable,
    "warehouse",
    "The warehouse cannot be used; check MEDSCRIBE_WAREHOUSE_URL and that the database is running",
)
_SCHEMA = _Kind(
    WarehouseUnusable,
    "warehouse_schema",
    "A table or column of the warehouse is not there or not as this version left it; undo what somebody changed, "
    "or restore a backup",
)
_STATEMENT = _Kind(MedscribeError, "warehouse_statement", "A warehouse statement failed")

# By how the name of a SQLite error or the SQLSTATE of any other database begins; the first that fits counts.
# https://www.sqlite.org/rescode.html, https://www.postgresql.org/docs/current/errcodes-appendix.html
_KINDS = {
    "SQLITE_CANTOPEN": _Kind(
        WarehouseUnusable,
        "warehouse_cannot_open",
        "Cannot open the warehouse file; check that its folder exists and is writable",
    ),
    "SQLITE_READONLY": _Kind(
        WarehouseUnusable, "warehouse_readonly", "The warehouse file is read-only; make it and its folder writable"
    ),
    "SQLITE_FULL": _FULL,
    "SQLITE_NOTADB": _Kind(
        WarehouseUnusable,
        "warehouse_not_sqlite",
        "MEDSCRIBE_WAREHOUSE_URL points to a file that is not a SQLite database",
    ),
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_IOERR": _IO,
    "SQLITE_CORRUPT": _DAMAGED,
    "08": _UNREACHABLE,
    "25006": _Kind(
        WarehouseUnusable,
        "warehouse_readonly",
        "The database is read-only, a standby perhaps; MEDSCRIBE_WAREHOUSE_URL must name one that can be written",
    ),
    "25P03": _UNREACHABLE,
    "28": _REFUSED,
    "3D": _REFUSED,
    "3F": _SCHEMA,
    "40": _CONFLICT,
    "42703": _SCHEMA,
    "42P01": _SCHEMA,
    "42S02": _SCHEMA,
    "42S22": _SCHEMA,
    "42501": _Kind(
        WarehouseUnusable,
        "warehouse_forbidden",
        "The database user may not do this; it needs all rights on the tables and on the schema they are in",
    ),
    "53100": _FULL,
    "53": _OVERLOADED,
    "55P03": _LOCKED,
    "57014": _LOCKED,
    "57P04": _REFUSED,
    "57P": _UNREACHABLE,
    "58": _IO,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}

# SQLite has one code for all that is wrong with a statement; only its text tells that its schema is.
_SQLITE_SCHEMA = ("no such table", "no such column", "has no column named")

# What a PostgreSQL server says while it begins or ends, when it refuses everybody and not us.
_PASSING = ("starting up", "shutting down", "recovery", "not yet accepting", "too many", "connection slots")


@contextmanager
def translated() -> Iterator[None]:
    """Turns database errors into ours; SQLAlchemy's texts hold statements, and drivers' texts hold values."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        told = _told(error)
    else:
        return
    # A `with` block handles the original while it leaves: without `from None`, and without forgetting it, it would
    # hang on ours as its context, and a program that stores exceptions would store it, too.
    try:
        raise told from None
    finally:
        told.__context__ = None


def _told(error: sa.exc.SQLAlchemyError) -> MedscribeError:
    cause = getattr(error, "orig", None)
    state = str(getattr(cause, "sqlite_errorname", "") or getattr(cause, "sqlstate", "") or "")
    if state == "SQLITE_ERROR":
        kind = _SCHEMA if any(words in str(cause) for words in _SQLITE_SCHEMA) else _STATEMENT
        return kind.error(kind.message, code=kind.code, context={"cause": state})
    kind = next((kind for begins, kind in _KINDS.items() if state.startswith(begins)), None) or _unnamed(error, state)
    return kind.error(kind.message, code=kind.code, context={"cause": state or type(cause or error).__name__})


def _unnamed(error: sa.exc.SQLAlchemyError, state: str) -> _Kind:
    """An error without a code of its own: those of connecting, and of drivers that give none."""
    if isinstance(error, sa.exc.TimeoutError):
        return _OVERLOADED
    if not isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
        return _STATEMENT
    if error.connection_invalidated:
        return _UNREACHABLE
    if state or not type(error.orig).__module__.startswith("psycopg"):
        return _OTHER
    # libpq has no codes for what happens before there is a connection. Its text is looked at and not shown.
    text = str(error.orig)
    return _REFUSED if "FATAL" in text and not any(words in text for words in _PASSING) else _UNREACHABLE
