"""Finding out: what a worker that died left behind, and whether a request whose answer is missing took effect."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.documents import NOTHING, as_version, load_documents
from medscribe_pipeline.ehr.fitting import Unfit
from medscribe_pipeline.ehr.ledger import Copy, Entry, State
from medscribe_pipeline.ehr.obstacles import Places, fit_note
from medscribe_pipeline.ehr.plan import standing_copies
from medscribe_pipeline.ehr.sending import CANNOT_BE_ASKED, LOOKUP_FAILED, SEVERAL_MATCHES, Verdict
from medscribe_pipeline.ehr.strategies.looking import seek
from medscribe_pipeline.ehr.targets import Capabilities
from medscribe_pipeline.errors import ConfigError, MedscribeError, Retriable
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.watching import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    import sqlalchemy as sa

    from medscribe_pipeline.ehr.day_view import DayView
    from medscribe_pipeline.ehr.dispatch import Server
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


@dataclass(frozen=True, slots=True)
class _Question:
    """A version whose outcome is unknown, and what is known of it.

    Attributes:
        entry: Its ledger entry.
        documents: Its documents that are not there for certain, as the target takes them. Of an earlier version
            the words are not kept: then these are the newest ones, under the identifier of that version.
        is_current: Whether it is the newest version.
        standing: What other versions have left on the target.
    """

    entry: Entry
    documents: Mapping[str, dict[str, Any]]
    is_current: bool
    standing: Mapping[str, Copy]


def reconcile(
    warehouse: Warehouse,
    server: Server,
    view: DayView,
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
    settings = server.settings
    _let_the_server_finish(doubtful, settings.reconcile_after_s, clock(), sleep)
    with Pool(settings.connections, thread_name_prefix="ehr") as pool:
        for chunk in in_chunks(doubtful, settings.connections):
            questions = _questions(warehouse, server, view, chunk)
            verdicts = list(pool.map(lambda each: _ask(server, each), questions))
            with warehouse.begin() as connection:
                for question, verdict in zip(questions, verdicts, strict=True):
                    if _settle(connection, question.entry, verdict, clock()):
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


def _questions(warehouse: Warehouse, server: Server, view: DayView, chunk: Sequence[Entry]) -> list[_Question]:
    with warehouse.read() as connection:
        loaded = load_documents(connection, [entry.key.note_id for entry in chunk], server.capabilities.kinds)
    questions = []
    for entry in chunk:
        version, built, _ = loaded.get(entry.key.note_id, NOTHING)
        of_entry = {kind: each for kind, each in built.items() if kind in entry.copies}
        fitted = fit_note(entry.key.note_id, of_entry, _undemanding(server.capabilities), Places())
        documents = of_entry if isinstance(fitted, Unfit) else fitted
        is_current = version == entry.key.version
        if not is_current:
            documents = as_version(documents, entry.key)
        open_ = {kind: each for kind, each in documents.items() if kind not in entry.done}
        standing, _ = standing_copies(view.entries[entry.key.note_id], entry.key)
        questions.append(_Question(entry, open_, is_current, standing))
    return questions


def _undemanding(capabilities: Capabilities) -> Capabilities:
    """For looking: whom a document names does not matter, nor whether it was welcome; what it says does."""
    everything = Capabilities()
    return capabilities.model_copy(
        update={
            "references": "logical",
            "author": "omit" if capabilities.author == "omit" else "optional",
            **{name: getattr(everything, name) for name in ("doc_status", "encounter", "period_end_required")},
            **dict.fromkeys(("max_attachment_bytes", "max_bundle_bytes"), sys.maxsize),
        }
    )


def _ask(server: Server, question: _Question) -> Verdict:
    """In a thread: what the server says of one version."""
    missing = question.entry.copies.keys() - question.entry.done.keys() - question.documents.keys()
    if missing:
        # Nothing is left to look for it by.
        return Verdict(State.UNKNOWN, CANNOT_BE_ASKED)
    if question.is_current:
        return server.strategy.look_up(question.documents, question.standing)
    return _ask_after_earlier(server, question)


def _ask_after_earlier(server: Server, question: _Question) -> Verdict:
    """What became of a version that is not the newest any more.

    A document that names no version is there if any version of it is: which one does not matter, because the newest
    is going to replace it. Without an ETag it is looked at before that.
    """
    copies: dict[str, Copy] = {}
    arrived, sure = True, True
    for kind, resource in question.documents.items():
        try:
            sought = seek(server.client, server.capabilities, kind, resource)
        except MedscribeError as error:
            return Verdict(State.UNKNOWN, LOOKUP_FAILED, copies=copies, error=error)
        if sought.several:
            return Verdict(State.REJECTED, SEVERAL_MATCHES, codes=("looked_up",), copies=copies)
        if sought.there is not None:
            copies[kind] = Copy(sought.there.id, sought.there.etag, ("looked_up",))
        elif sought.other is not None:
            copies[kind] = Copy(sought.other.id, None, ("looked_up",))
        else:
            arrived, sure = False, sure and sought.sure
    if arrived:
        return Verdict(State.DELIVERED, copies=copies)
    return Verdict(State.PLANNED if sure else State.UNKNOWN, "" if sure else CANNOT_BE_ASKED, copies=copies)


def _settle(connection: sa.Connection, entry: Entry, verdict: Verdict, now: datetime) -> bool:
    key, attempts, copies = entry.key, entry.attempts, verdict.copies
    if verdict.state is State.DELIVERED:
        return ledger.deliver(connection, key, copies, now=now, attempts=attempts)
    if verdict.state is State.PLANNED:
        return ledger.release_absent(connection, key, attempts=attempts, copies=copies)
    if verdict.state is State.REJECTED:
        return ledger.refuse(
            connection, key, verdict.reason, now=now, codes=verdict.codes, copies=copies, attempts=attempts
        )
    if entry.reason == verdict.reason and not copies:
        return False
    return ledger.lose(connection, key, verdict.reason, now=now, copies=copies, attempts=attempts)
