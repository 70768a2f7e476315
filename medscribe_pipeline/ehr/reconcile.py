"""Finding out: what a worker that died left behind, and whether a request whose answer is missing took effect."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.ledger import COMPOSITION, Entry, Key, State
from medscribe_pipeline.ehr.sending import Verdict, identifier_of, look_up
from medscribe_pipeline.errors import ConfigError, Retriable
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import fhir_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.ehr.plan import DayView
    from medscribe_pipeline.settings import EhrSettings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["reconcile", "recover"]

WORKER_DIED = "worker_died"


def recover(warehouse: Warehouse, view: DayView, *, now: datetime) -> int:
    """Takes over from workers that are gone: claimed never left, sent may have arrived. Returns how many notes."""
    under_way = view.standing(State.CLAIMED, State.SENT)
    workers = {entry.claimed_by for entry in under_way if entry.claimed_by is not None}
    dead = {worker for worker in workers if not warehouse.is_alive(worker)}
    orphans = [entry for entry in under_way if entry.claimed_by in dead]
    if not orphans:
        return 0
    with warehouse.begin() as connection:
        for entry in orphans:
            worker = entry.claimed_by or ""
            # The guards compare the worker, so a row that moved on since it was read stays as it is now.
            if not ledger.give_back(connection, entry.key, worker=worker):
                ledger.lose(connection, entry.key, WORKER_DIED, now=now, worker=worker)
    return len(orphans)


def reconcile(
    warehouse: Warehouse,
    client: FhirClient,
    view: DayView,
    settings: EhrSettings,
    *,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> dict[State, int]:
    """Asks the server after every note version whose outcome is unknown, and settles what it says.

    There: delivered, with the server's ids. Surely not there: planned again. No answer: unknown as before, and once
    the server cannot be reached the rest is not asked for.

    Returns:
        How many notes went into each state.

    Raises:
        ConfigError: Our credentials do not allow anything (401).
    """
    doubtful = view.standing(State.UNKNOWN)
    counts: dict[State, int] = {}
    if not doubtful:
        return counts
    _let_the_server_finish(doubtful, settings.reconcile_after_s, clock(), sleep)
    with ThreadPoolExecutor(settings.connections, thread_name_prefix="ehr") as pool:
        for chunk in in_chunks(doubtful, settings.connections):
            identifiers = _note_identifiers(warehouse, chunk)
            asked = [entry for entry in chunk if entry.key.note_id in identifiers]
            verdicts = list(pool.map(lambda each: look_up(client, *each), _questions(asked, identifiers)))
            with warehouse.begin() as connection:
                for entry, verdict in zip(asked, verdicts, strict=True):
                    if _settle(connection, entry, verdict, clock()):
                        counts[verdict.state] = counts.get(verdict.state, 0) + 1
            errors = [verdict.error for verdict in verdicts if verdict.error is not None]
            for error in errors:
                # 403 on a search is a right we may lack and can do without; 401 stops everything.
                if isinstance(error, ConfigError) and error.status != 403:  # noqa: PLR2004 - statuses are names
                    raise error
            if any(isinstance(error, Retriable) for error in errors):
                break
    return counts


def _let_the_server_finish(
    doubtful: Sequence[Entry], patience_s: float, now: datetime, sleep: Callable[[float], None]
) -> None:
    """Waits until the youngest doubt is old enough: a slow server may carry out what it was sent after we gave up."""
    youngest_s = min(((now - entry.settled_at).total_seconds() for entry in doubtful if entry.settled_at), default=0.0)
    delay_s = min(patience_s - youngest_s, patience_s)
    if delay_s > 0:
        sleep(delay_s)


def _questions(asked: Sequence[Entry], identifiers: dict[str, tuple[str, str]]) -> list[tuple[Key, tuple[str, str]]]:
    return [(entry.key, identifiers[entry.key.note_id]) for entry in asked]


def _note_identifiers(warehouse: Warehouse, chunk: Sequence[Entry]) -> dict[str, tuple[str, str]]:
    """The identifier of each note, which all its versions share, so the newest document has it."""
    query = sa.select(fhir_documents.c.note_id, fhir_documents.c.resource).where(
        fhir_documents.c.kind == COMPOSITION,
        fhir_documents.c.note_id.in_([entry.key.note_id for entry in chunk]),
    )
    with warehouse.read() as connection:
        rows = connection.execute(query).all()
    return {note_id: identifier_of(composition) for note_id, composition in rows}


def _settle(connection: sa.Connection, entry: Entry, verdict: Verdict, now: datetime) -> bool:
    key, attempts = entry.key, entry.attempts
    if verdict.state is State.DELIVERED:
        return ledger.deliver(connection, key, verdict.copies, now=now, attempts=attempts)
    if verdict.state is State.PLANNED:
        return ledger.release_absent(connection, key, attempts=attempts)
    if verdict.state is State.REJECTED:
        return ledger.refuse(connection, key, verdict.reason, now=now, codes=verdict.codes, attempts=attempts)
    if entry.reason == verdict.reason:
        return False
    return ledger.lose(connection, key, verdict.reason, now=now, attempts=attempts)
