"""Checks of the warehouse: whether it can be used, is up to date, and what in it has waited for somebody for long."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.operation.doctor.checks import Check, Level, of_error
from medscribe_pipeline.warehouse.store import SCHEMA_HEAD, Warehouse
from medscribe_pipeline.warehouse.tables import deliveries, inbox, quarantine, scribe_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from medscribe_pipeline.settings import Settings

__all__ = ["check_stored", "open_as_it_is"]

PATIENCE = timedelta(days=1)
LARGEST_SKEW_S = 10.0


@contextmanager
def open_as_it_is(settings: Settings) -> Iterator[tuple[Warehouse | None, Check]]:
    """The warehouse, neither made nor migrated, and whether it can be used; `None` when it cannot.

    Looking must not create what was not there, so an embedded one is opened only if there is a file.
    """
    try:
        url = sa.make_url(settings.database_url)
    except sa.exc.ArgumentError:
        url = None
    embedded = url is not None and url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    if embedded and url is not None and not Path(str(url.database)).expanduser().exists():
        yield None, Check("warehouse", Level.WARN, "There is no warehouse yet", "Run `medscribe init`")
        return
    try:
        warehouse = Warehouse.open(settings, migrate=False)
    except MedscribeError as error:
        yield None, of_error("warehouse", error, "Check MEDSCRIBE_WAREHOUSE_URL, and that the database is running")
        return
    with warehouse:
        check = _version(warehouse)
        yield (warehouse if check.level is Level.OK else None), check


def _version(warehouse: Warehouse) -> Check:
    try:
        version = warehouse.schema_version()
    except MedscribeError as error:
        return of_error("warehouse", error, "Check MEDSCRIBE_WAREHOUSE_URL, and that the database is running")
    if version is None:
        return Check("warehouse", Level.WARN, "The database is empty", "Run `medscribe init`")
    if version < SCHEMA_HEAD:
        says = f"The warehouse is at schema {version}; this version has {SCHEMA_HEAD}"
        return Check("warehouse", Level.WARN, says, "Back it up, then run `medscribe init`")
    if version > SCHEMA_HEAD:
        says = f"The warehouse is at schema {version}; this version knows {SCHEMA_HEAD} at most"
        return Check("warehouse", Level.FAIL, says, "Install the version that migrated it, or restore a backup")
    return Check("warehouse", Level.OK, f"Reachable, and at schema {version}")


def check_stored(warehouse: Warehouse, *, now: datetime) -> Iterator[Check]:
    """What is in a usable warehouse: the clock of its server, and open problems older than a day."""
    try:
        with warehouse.read() as connection:
            if warehouse.engine.dialect.name == "postgresql":
                there = connection.scalar(sa.select(sa.func.clock_timestamp()))
                yield _clock(there, now)
            yield from _old_problems(connection, warehouse.account, now - PATIENCE)
    except MedscribeError as error:
        yield of_error("warehouse content", error, "Check the database")


def _clock(there: datetime | None, now: datetime) -> Check:
    apart = abs((there - now).total_seconds()) if there is not None else 0.0
    if apart > LARGEST_SKEW_S:
        says = f"The clocks of this machine and of the database are {apart:.0f} s apart"
        return Check("database clock", Level.WARN, says, "Let both keep time by NTP")
    return Check("database clock", Level.OK, "The database has the same time")


def _old_problems(connection: sa.Connection, account: str, before: datetime) -> Iterator[Check]:
    """Counts by kind. What only waits for a clinician or a patient's record is no problem of ours."""
    ledger, job = deliveries.c, scribe_jobs.c
    questions: tuple[tuple[str, str, sa.Table, list[sa.ColumnElement[bool]]], ...] = (
        (
            "old quarantine",
            "Look at `medscribe quarantine list`",
            quarantine,
            [quarantine.c.resolved_at.is_(None), quarantine.c.first_seen_at < before],
        ),
        (
            "old refusals",
            "Look at `medscribe deliveries list --state rejected`",
            deliveries,
            [ledger.state == "rejected", ledger.settled_at < before],
        ),
        (
            "old doubts",
            "Run `medscribe deliveries reconcile`, then look at `medscribe deliveries list --state unknown`",
            deliveries,
            [ledger.state == "unknown", ledger.sent_at < before],
        ),
        (
            "old jobs in doubt",
            "Look at `medscribe jobs list --state unknown`",
            scribe_jobs,
            [job.state == "unknown", job.submitted_at < before],
        ),
        (
            "old events",
            "Run `medscribe sync`; if they stay, see the log",
            inbox,
            [inbox.c.processed_at.is_(None), inbox.c.received_at < before],
        ),
    )
    for name, to_do, table, where in questions:
        query = sa.select(sa.func.count()).select_from(table).where(table.c.account == account, *where)
        count = connection.scalar(query) or 0
        if count:
            yield Check(name, Level.WARN, f"{count} have waited for longer than a day", to_do)
        else:
            yield Check(name, Level.OK, "None older than a day")
