"""Claim, send, settle: many requests at once, one writer for each note, every step committed before the next.

The calling thread does all the writing: it claims ahead, marks as sent, hands over to a few threads that only talk
to the server, and settles what comes back. Answers that arrive together share a transaction with the notes that
leave next, so a commit that waits for the disk is paid once for several notes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.ledger import KINDS, Key, State
from medscribe_pipeline.ehr.plan import load_facts, may_claim, newest_delivered
from medscribe_pipeline.ehr.sending import Shipment, Verdict, send
from medscribe_pipeline.errors import MedscribeError, Retriable
from medscribe_pipeline.warehouse.tables import fhir_documents, notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["FAILURES_THAT_OPEN", "Dispatcher", "Tally"]

log = logging.getLogger(__name__)

FAILURES_THAT_OPEN = 5
"""So many failures of the server in a row, and nothing more is sent: the circuit is open."""

# Notes marked as sent beyond those the threads work at, so that no thread waits for a commit.
_AHEAD = 8
# Notes claimed at once, for each thread: enough to choose among patients, few enough to give back.
_CLAIMS = 8


@dataclass(slots=True)
class Tally:
    """What the calls of one delivery came to, over all its rounds.

    Attributes:
        lost: Note versions whose outcome was unknown at first.
        seconds: How long each answered request took.
        failures: Failures in a row up to now.
        error: Why nothing more is sent, if so.
    """

    lost: int = 0
    seconds: list[float] = field(default_factory=list)
    failures: int = 0
    error: MedscribeError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add_bug(self, error: BaseException) -> None:
        """Notes an exception that should not have been; its text may quote a note, so only its type is kept."""
        with self._lock:
            self.lost += 1
            self.error = MedscribeError(
                "Delivery failed in a way nobody foresaw; please report it with the type of the error",
                code="internal",
                context={"type": type(error).__name__},
            )

    def add(self, verdict: Verdict) -> None:
        """Counts one verdict on a request, and decides whether to go on. Called in the thread that sent it."""
        with self._lock:
            self.lost += verdict.state is State.UNKNOWN
            if verdict.error is None:
                self.seconds.append(verdict.seconds)
                self.failures = 0
                return
            self.failures += 1
            if self.error is None:
                self.error = self._why_stop(verdict.error) if not verdict.stops else verdict.error

    def _why_stop(self, error: MedscribeError) -> MedscribeError | None:
        if self.failures < FAILURES_THAT_OPEN:
            return None
        return Retriable(
            "The EHR failed several times in a row; what was not sent stays planned for the next run",
            code="circuit_open",
            status=error.status,
            context={"failures": self.failures, "last": error.code},
        )


class Dispatcher:
    """Sends planned note versions of one target.

    Args:
        warehouse: Where the ledger is.
        client: The EHR.
        target: Name of the target.
        connections: Requests at once.
        worker: Our name; see `Warehouse.worker`.
        clock: The current time, aware UTC.
        tally: Counted into, and asked whether to go on.
        checkpoint: Called with a name at every point where a process might die.
        on_settled: Called after each commit with the number of notes settled by it.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        client: FhirClient,
        *,
        target: str,
        connections: int,
        worker: str,
        clock: Callable[[], datetime],
        tally: Tally,
        checkpoint: Callable[[str], None],
        on_settled: Callable[[int], None],
    ) -> None:
        self._warehouse = warehouse
        self._client = client
        self._target = target
        self._connections = connections
        self._worker = worker
        self._clock = clock
        self._tally = tally
        self._checkpoint = checkpoint
        self._on_settled = on_settled
        # Every note version claimed and not settled yet, with its patient.
        self._ours: dict[Key, str] = {}
        # Of these, what waits, by patient: notes of one patient leave one after the other, in order.
        self._waiting: dict[str, deque[Key]] = {}
        self._flying: dict[Future[Verdict], Key] = {}
        self._landed: dict[Key, Verdict] = {}

    def run(self, keys: Sequence[Key]) -> None:
        """Sends `keys` in order, until all are settled or the tally says stop.

        Nothing stays claimed by us, however this ends. What other processes have meanwhile claimed, changed or
        delivered is left to them.
        """
        backlog = iter(keys)
        with ThreadPoolExecutor(self._connections, thread_name_prefix="ehr") as pool:
            try:
                while True:
                    self._claim_ahead(backlog)
                    for shipment in self._turn():
                        self._flying[pool.submit(self._send, shipment)] = shipment.key
                    if not self._flying:
                        return
                    done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
                    self._checkpoint("answered")
                    self._land(done)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                self._clear_up()

    def _send(self, shipment: Shipment) -> Verdict:
        """In a thread: sends, unless another thread has found out meanwhile that there is no use."""
        if self._tally.error is not None:
            return Verdict(State.PLANNED)
        try:
            verdict = send(self._client, shipment)
        except Exception as error:  # noqa: BLE001 - a note that may be on the server must not be lost to a bug
            self._tally.add_bug(error)
            return Verdict(State.UNKNOWN, "internal")
        self._tally.add(verdict)
        return verdict

    def _claim_ahead(self, backlog: Iterator[Key]) -> None:
        window = self._connections * _CLAIMS
        while self._tally.error is None and len(self._ours) <= window // 2:
            keys = list(islice(backlog, window))
            if not keys:
                return
            with self._warehouse.begin() as connection:
                claimed = self._claim(connection, keys)
            for key, patient in claimed:
                self._ours[key] = patient
                self._waiting.setdefault(patient, deque()).append(key)
            if claimed:
                self._checkpoint("claimed")

    def _claim(self, connection: sa.Connection, keys: Sequence[Key]) -> list[tuple[Key, str]]:
        """Claims those that may still be sent; the notes are locked, so nobody claims another version meanwhile."""
        note_ids = [key.note_id for key in keys]
        facts = load_facts(connection, notes.c.note_id.in_(note_ids), lock=True)
        listed = ledger.entries(connection, self._target, note_ids)
        now = self._clock()
        claimed = []
        for key in keys:
            note, versions = facts.get(key.note_id), listed.get(key.note_id, [])
            own = next((entry for entry in versions if entry.key == key), None)
            if note is None or own is None or not may_claim(note, own, versions):
                continue
            if ledger.claim(connection, key, worker=self._worker, now=now):
                claimed.append((key, note.patient or ""))
        return claimed

    def _turn(self) -> list[Shipment]:
        """Settles what has landed and marks what leaves next, in one transaction; returns what leaves."""
        leaving = self._next_to_leave()
        if not leaving and not self._landed:
            return []
        with self._warehouse.begin() as connection:
            self._settle(connection)
            shipments = self._mark(connection, leaving)
        settled = len(self._landed)
        for key in self._landed:
            del self._ours[key]
        self._landed.clear()
        for key in set(leaving) - {shipment.key for shipment in shipments}:
            del self._ours[key]
        if settled:
            self._checkpoint("settled")
            self._on_settled(settled)
        if shipments:
            self._checkpoint("marked_sent")
        return shipments

    def _next_to_leave(self) -> list[Key]:
        leaving: list[Key] = []
        if self._tally.error is not None:
            return leaving
        room = self._connections + _AHEAD - len(self._flying)
        busy = {self._ours[key] for key in self._flying.values()}
        for patient in list(self._waiting):
            if len(leaving) >= room:
                break
            if patient not in busy:
                leaving.append(self._waiting[patient].popleft())
                if not self._waiting[patient]:
                    del self._waiting[patient]
        return leaving

    def _mark(self, connection: sa.Connection, keys: Sequence[Key]) -> list[Shipment]:
        """Marks claimed notes as sent and reads what is to be sent."""
        if not keys:
            return []
        note_ids = [key.note_id for key in keys]
        resources = _resources(connection, note_ids)
        listed = ledger.entries(connection, self._target, note_ids)
        shipments = []
        for key in keys:
            documents = resources.get((key.note_id, key.version), {})
            if set(documents) != set(KINDS):
                # Built anew since the claim: what was decided on is gone.
                ledger.give_back(connection, key, worker=self._worker)
            elif ledger.mark_sent(connection, key, worker=self._worker, now=self._clock()):
                before = newest_delivered(listed[key.note_id])
                standing = (before.copies, before.key.version) if before else (None, None)
                shipments.append(Shipment(key, documents, *standing))
        return shipments

    def _settle(self, connection: sa.Connection) -> None:
        now = self._clock()
        for key, verdict in self._landed.items():
            match verdict.state:
                case State.DELIVERED:
                    moved = ledger.deliver(connection, key, verdict.copies, now=now, worker=self._worker)
                case State.REJECTED:
                    moved = ledger.refuse(
                        connection, key, verdict.reason, now=now, codes=verdict.codes, worker=self._worker
                    )
                case State.PLANNED:
                    moved = ledger.take_back(connection, key, worker=self._worker, codes=verdict.codes)
                case _:
                    moved = ledger.lose(
                        connection, key, verdict.reason, now=now, codes=verdict.codes, worker=self._worker
                    )
            if not moved:
                # Ctrl-C came between our own commit and our note of it; or our locks were lost and another run took us
                # for dead: it asks the server itself. Either way there is nothing for anybody to do.
                log.info("A delivery had been settled already: state=%s", verdict.state)

    def _land(self, futures: Iterable[Future[Verdict]]) -> None:
        for future in list(futures):
            key = self._flying.pop(future)
            self._landed[key] = Verdict(State.PLANNED) if future.cancelled() else future.result()

    def _clear_up(self) -> None:
        """However the run ended: settles what has landed since, and gives back what never left."""
        self._land(self._flying)
        if not self._ours:
            return
        with self._warehouse.begin() as connection:
            self._settle(connection)
            for key in self._ours.keys() - self._landed.keys():
                if not ledger.give_back(connection, key, worker=self._worker):
                    ledger.take_back(connection, key, worker=self._worker)


def _resources(connection: sa.Connection, note_ids: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
    query = sa.select(
        fhir_documents.c.note_id, fhir_documents.c.version, fhir_documents.c.kind, fhir_documents.c.resource
    ).where(fhir_documents.c.note_id.in_(note_ids), fhir_documents.c.kind.in_(KINDS))
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in connection.execute(query):
        found.setdefault((row.note_id, row.version), {})[row.kind] = row.resource
    return found
