"""Who looked: one row for each time somebody had patients' texts or identifiers shown, or decided something by hand.

A command that shows them on request calls `note_access` before it prints anything: what cannot be noted is not shown.
An act by hand (on a delivery, a job, a cursor, a row of the quarantine) calls it in the transaction that does it.
Subjects are ids of ours, never an identifier of a patient: the log itself must not say who was treated.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.warehouse.tables import access_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["Access", "current_user", "note_access", "read_accesses"]

SUBJECT_LENGTH = 255
WHO_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Access:
    """One row of `access_log`.

    Attributes:
        at: When, aware UTC.
        who: The user of the operating system that ran the command.
        what: What was shown or done, as a code: `show_text`, `job_cancelled`.
        subject: Of what: a note id, a quarantine id, a job id, a cursor, a target.
    """

    at: datetime
    who: str
    what: str
    subject: str


def note_access(connection: sa.Connection, account: str, what: str, subject: str, now: datetime, who: str) -> None:
    """Writes down that somebody looked, or did something.

    Args:
        connection: A connection from `Warehouse.begin`; commit it before anything is shown.
        account: The account of the warehouse.
        what: What is about to be shown, or is done, as a short code in snake_case.
        subject: Of what: an id of ours, or a name from the settings. Never an identifier of a patient.
        now: The current time, aware UTC.
        who: See `current_user`.
    """
    row = {"account": account, "at": now, "who": who[:WHO_LENGTH], "what": what, "subject": subject[:SUBJECT_LENGTH]}
    connection.execute(sa.insert(access_log).values(**row))


def read_accesses(
    connection: sa.Connection,
    account: str,
    *,
    since: datetime | None = None,
    what: str | None = None,
    who: str | None = None,
    subject: str | None = None,
    limit: int | None = None,
) -> Iterator[Access]:
    """Who looked, newest first.

    Args:
        connection: An open transaction.
        account: The account of the warehouse.
        since: Only from this time on.
        what: Only this code.
        who: Only this user.
        subject: Only this subject.
        limit: Most rows; `None` for all.
    """
    columns = access_log.c
    wanted = {columns.what: what, columns.who: who, columns.subject: subject}
    query = (
        sa.select(columns.at, columns.who, columns.what, columns.subject)
        .where(columns.account == account, *(column == value for column, value in wanted.items() if value is not None))
        .order_by(columns.at.desc(), columns.id.desc())
        .limit(limit)
    )
    if since is not None:
        query = query.where(columns.at >= since)
    return (Access(*row) for row in connection.execute(query))


def current_user() -> str:
    """Name of the user of the operating system that runs this process; `unknown` where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
