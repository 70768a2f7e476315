"""Database errors into ours: what a person can do about each, without the statement and its values."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError, MedscribeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["translated"]


@contextmanager
def translated() -> Iterator[None]:
    """Turns database errors into ours; SQLAlchemy's texts hold statements, and drivers' texts hold values."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise _warehouse_error(error) from None


def _warehouse_error(error: sa.exc.SQLAlchemyError) -> MedscribeError:
    cause = getattr(error, "orig", None)
    name = str(
        getattr(cause, "sqlite_errorname", "") or getattr(cause, "sqlstate", "") or type(cause or error).__name__
    )
    known = {
        "SQLITE_CANTOPEN": "Cannot open the warehouse file; check that its folder exists and is writable",
        "SQLITE_READONLY": "The warehouse file is read-only; make it and its folder writable",
        "SQLITE_FULL": "The disk of the warehouse is full; free some space and run again, nothing half-written remains",
        "SQLITE_NOTADB": "MEDSCRIBE_WAREHOUSE_URL points to a file that is not a SQLite database",
        "SQLITE_BUSY": "The warehouse is locked by another program; close it and run again",
        "SQLITE_IOERR": "Reading or writing the warehouse failed; check the disk",
        "SQLITE_CORRUPT": "The warehouse file is damaged; restore a backup",
    }
    for prefix, message in known.items():
        if name.startswith(prefix):
            return ConfigError(message, code="warehouse", context={"cause": name})
    if isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
        return ConfigError(
            "The warehouse cannot be used; check MEDSCRIBE_WAREHOUSE_URL and that the database is running",
            code="warehouse",
            context={"cause": name},
        )
    return MedscribeError("A warehouse statement failed", code="warehouse_statement", context={"cause": name})
