"""Claim, send, settle: many requests at once, one writer for each note, every step committed before the next.

The calling thread does all the writing: it claims ahead, marks as sent, hands over to a few threads that only talk
to the server, and settles what comes back. Answers that arrive together, or nearly so while the threads have enough to
send, share a transaction with the notes that leave next, so a commit that waits for the disk is paid once for several.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.comparing import read_back
from medscribe_pipeline.ehr.day_view import load_facts
from medscribe_pipeline.ehr.documents import NOTHING, load_documents
from medscribe_pipeline.ehr.fitting import Unfit, most_that_fits
from medscribe_pipeline.ehr.ledger import Key, State
from medscribe_pipeline.ehr.obstacles import fit_note
from medscribe_pipeline.ehr.plan import may_claim, standing_copies
from medscribe_pipeline.ehr.sending import Shipment, Verdict
from medscribe_pipeline.ehr.strategies.steps import PROVENANCE
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.warehouse.among import among
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import notes
from medscribe_pipeline.watching import Pool, telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from datetime import datetime

    import sqlalchemy as sa

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.ehr.ledger import Copy, Entry
    from medscribe_pipeline.ehr.obstacles import Places
    from medscribe_pipeline.ehr.plan import Rules
    from medscribe_pipeline.ehr.strategies import Strategy
    from medscribe_pipeline.ehr.tally import Allowance, Tally
    from medscribe_pipeline.ehr.targets import Capabilities
    from medscribe_pipeline.settings import EhrSettings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Dispatcher", "Server"]

log = logging.getLogger(__name__)

# Requests marked as sent beyond those the threads work at, so that no thread waits for a commit: so many at least, and
# so many for each thread.
_AHEAD = 8
_AHEAD_OF_EACH = 2
# Requests' worth of notes claimed at once, for each thread: enough to choose among patients, few enough to give back.
_CLAIMS = 8
# Notes claimed or marked in one transaction at the most: a query takes no more ids.
_BATCH = 500
# So long may an answer wait for others to be committed with, while the threads have something to send.
_GATHERING_S = 0.05
# Element paths that are kept of a note that was read back.
_PATHS_KEPT = 20


@dataclass(frozen=True, slots=True)
class Server:
    """A target as far as sending goes.

    Attributes:
        client: Its FHIR calls.
        settings: Its settings.
        capabilities: What it can do.
        rules: What follows for the ledger.
        strategy: How notes are sent to it.
    """

    client: FhirClient
    settings: EhrSettings
    capabilities: Capabilities
    rules: Rules
    strategy: Strategy


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A note version we hold: its ledger entry, and what others of the note have left on the target.

    Read when it was claimed. While it is ours no other version of the note is under way or in doubt, and nobody else
    moves this one: nothing of it changes.
    """

    patient: str
    entry: Entry
    standing: Mapping[str, Copy]
    standing_version: str | None


class Dispatcher:
    """Sends planned note versions of one target.

    Args:
        warehouse: Where the ledger is.
        server: The target.
        places: Where who and what the notes speak of is there.
        worker: Our name; see `Warehouse.worker`.
        clock: The current time, aware UTC.
        tally: Counted into, and asked whether to go on.
        allowance: How much may be sent.
        checkpoint: Called with a name at every point where a process might die.
        on_settled: Called after each commit with the number of notes settled by it.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        server: Server,
        places: Places,
        *,
        worker: str,
        clock: Callable[[], datetime],
        tally: Tally,
        allowance: Allowance,
        checkpoint: Callable[[str], None],
        on_settled: Callable[[int], None],
    ) -> None:
        self._warehouse = warehouse
        self._server = server
        self._places = places
        self._worker = worker
        self._clock = clock
        self._tally = tally
        self._allowance = allowance
        self._checkpoint = checkpoint
        self._on_settled = on_settled
        self._connections = server.settings.connections
        self._together = server.strategy.notes_per_request
        self._unseen = most_that_fits(server.capabilities)
        # What is marked as sent when we die has to be looked for; where nobody can look, nothing is marked ahead.
        ahead = max(1, max(_AHEAD, self._connections * _AHEAD_OF_EACH) // self._together)
        self._ahead = ahead if server.capabilities.search else 0
        # Every note version claimed and not settled yet.
        self._ours: dict[Key, _Claimed] = {}
        # Of these, what waits, by patient: notes of one patient leave one after the other, in order.
        self._waiting: dict[str, deque[Key]] = {}
        self._flying: dict[Future[list[Verdict]], list[Key]] = {}
        self._answers: SimpleQueue[Future[list[Verdict]]] = SimpleQueue()
        self._landed: dict[Key, Verdict] = {}

    def run(self, keys: Sequence[Key]) -> None:
        """Sends `keys` in order, until all are settled or the tally or the allowance says stop.

        Nothing stays claimed by us, however this ends. What other processes have meanwhile claimed, changed or
        delivered is left to them.
        """
        backlog = iter(keys)
        with Pool(self._connections, thread_name_prefix="ehr") as pool:
            try:
                self._claim_ahead(backlog)
                while True:
                    for group in in_chunks(self._turn(), self._together):
                        answer = pool.submit(self._send, group)
                        self._flying[answer] = [shipment.key for shipment in group]
                        answer.add_done_callback(self._answers.put)
                    # Only now: what has been answered is settled first, and the threads are busy meanwhile.
                    self._claim_ahead(backlog)
                    if self._flying:
                        done = self._answered()
                        self._checkpoint("answered")
                        self._land(done)
                    elif self._stopped() or not self._waiting:
                        return
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                self._clear_up()

    def _answered(self) -> list[Future[list[Verdict]]]:
        """Waits for an answer; then for some more, to commit them together, as long as no thread waits for that."""
        done = [self._answers.get()]
        until = time.monotonic() + _GATHERING_S
        while True:
            idle = len(self._flying) - len(done) <= self._connections or len(done) >= self._connections
            try:
                done.append(self._answers.get(timeout=0 if idle else max(0.0, until - time.monotonic())))
            except Empty:
                return done

    def _stopped(self) -> bool:
        return self._tally.error is not None or self._allowance.exhausted

    def _send(self, group: Sequence[Shipment]) -> list[Verdict]:
        """In a thread: sends, unless another thread has found out meanwhile that there is no use."""
        if self._tally.error is not None:
            return [Verdict(State.PLANNED) for _ in group]
        try:
            verdicts = self._server.strategy.deliver(group)
        except Exception as error:  # noqa: BLE001 - a note that may be on the server must not be lost to a bug
            self._tally.add_bug(error, len(group))
            return [Verdict(State.UNKNOWN, "internal") for _ in group]
        self._tally.add(verdicts)
        return [self._read_back(shipment, verdict) for shipment, verdict in zip(group, verdicts, strict=True)]

    def _read_back(self, shipment: Shipment, verdict: Verdict) -> Verdict:
        """In a thread: of a share of the notes, compares what the server keeps with what it was given."""
        share = self._server.settings.read_back_share
        if verdict.state is not State.DELIVERED or not self._server.capabilities.read or not _is_drawn(shipment, share):
            return verdict
        try:
            changed = read_back(self._server.client, shipment.resources, verdict.copies)
        except MedscribeError:
            # It is delivered, whatever the server makes of our curiosity.
            return verdict
        self._tally.add_read_back(changed)
        codes = [f"changed:{path}" for path in changed[:_PATHS_KEPT]]
        copies = {
            kind: replace(copy, codes=(*copy.codes, *(code for code in codes if code[8:].split(".")[0] == kind)))
            for kind, copy in verdict.copies.items()
        }
        return replace(verdict, copies=copies)

    def _claim_ahead(self, backlog: Iterator[Key]) -> None:
        window = min(self._connections * self._together * _CLAIMS, _BATCH)
        while not self._stopped() and len(self._ours) <= window // 2:
            allowed = window if self._allowance.notes is None else min(window, self._allowance.notes - len(self._ours))
            keys = list(islice(backlog, max(allowed, 0)))
            if not keys:
                return
            with self._warehouse.begin() as connection:
                claimed = self._claim(connection, keys)
            for key, held in claimed.items():
                self._ours[key] = held
                self._waiting.setdefault(held.patient, deque()).append(key)
            if claimed:
                self._checkpoint("claimed")

    def _claim(self, connection: sa.Connection, keys: Sequence[Key]) -> dict[Key, _Claimed]:
        """Claims those that may still be sent; the notes are locked, so nobody claims another version meanwhile."""
        note_ids = [key.note_id for key in keys]
        facts = load_facts(connection, among(connection, notes.c.note_id, note_ids), lock=True)
        listed = ledger.entries(connection, self._server.settings.target, note_ids)
        free: dict[Key, _Claimed] = {}
        for key in keys:
            note, versions = facts.get(key.note_id), listed.get(key.note_id, [])
            own = next((entry for entry in versions if entry.key == key), None)
            if note is not None and own is not None and may_claim(note, own, versions, self._server.rules):
                free[key] = _Claimed(note.patient or "", own, *standing_copies(versions, key))
        claimed = ledger.claim_all(connection, list(free), worker=self._worker, now=self._clock())
        return {key: held for key, held in free.items() if key in claimed}

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
        if self._stopped():
            return leaving
        room = min((self._connections + self._ahead - len(self._flying)) * self._together, _BATCH)
        busy = {self._ours[key].patient for keys in self._flying.values() for key in keys}
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
        documents = load_documents(connection, note_ids, self._server.capabilities.kinds)
        ready: dict[Key, Shipment] = {}
        for key in keys:
            held = self._ours[key]
            own = held.entry
            version, built, most_bytes = documents.get(key.note_id, NOTHING)
            resources = fit_note(
                key.note_id,
                {kind: built[kind] for kind in built if kind in own.copies},
                self._server.capabilities,
                self._places,
                is_small=most_bytes <= self._unseen,
            )
            missing = own.copies.keys() if isinstance(resources, Unfit) else own.copies.keys() - resources.keys()
            anew = version != key.version or bool(missing - {PROVENANCE})
            if isinstance(resources, Unfit) or anew or not self._allowance.take(resources):
                # Built anew since the claim: what was decided on is gone. Or the run has sent enough.
                ledger.give_back(connection, key, worker=self._worker)
                continue
            if missing:
                self._forgo(connection, key, tuple(resources))
            ready[key] = Shipment(key, resources, held.standing or None, held.standing_version, own.done)
        marked = ledger.mark_all_sent(connection, list(ready), worker=self._worker, now=self._clock())
        return [shipment for key, shipment in ready.items() if key in marked]

    def _forgo(self, connection: sa.Connection, key: Key, kinds: tuple[str, ...]) -> None:
        """A Provenance that could name nothing it is about, on this target, is none: the note goes without."""
        ledger.give_back(connection, key, worker=self._worker)
        ledger.reshape(connection, key, kinds)
        ledger.claim(connection, key, worker=self._worker, now=self._clock())

    def _settle(self, connection: sa.Connection) -> None:
        now = self._clock()
        delivered = {key: each.copies for key, each in self._landed.items() if each.state is State.DELIVERED}
        moved = ledger.deliver_all(connection, delivered, now=now, worker=self._worker)
        for key, verdict in self._landed.items():
            if key in moved or (key not in delivered and self._settle_other(connection, key, verdict, now)):
                telemetry.add("medscribe.deliveries", 1, target=key.target, state=verdict.state)
            else:
                # Ctrl-C came between our own commit and our note of it; or our locks were lost and another run took us
                # for dead: it asks the server itself. Either way there is nothing for anybody to do.
                log.info("A delivery had been settled already: state=%s", verdict.state)

    def _settle_other(self, connection: sa.Connection, key: Key, verdict: Verdict, now: datetime) -> bool:
        """Settles what was not delivered; `False` if it had been settled already."""
        copies, codes, worker = verdict.copies, verdict.codes, self._worker
        if verdict.state is State.PLANNED:
            return ledger.take_back(connection, key, worker=worker, codes=codes, copies=copies)
        settle = ledger.refuse if verdict.state is State.REJECTED else ledger.lose
        return settle(connection, key, verdict.reason, now=now, codes=codes, copies=copies, worker=worker)

    def _land(self, futures: Iterable[Future[list[Verdict]]]) -> None:
        for future in list(futures):
            keys = self._flying.pop(future)
            verdicts = [Verdict(State.PLANNED) for _ in keys] if future.cancelled() else future.result()
            self._landed |= dict(zip(keys, verdicts, strict=True))

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


def _is_drawn(shipment: Shipment, share: float) -> bool:
    """Whether a note is among the share that is read back: the same notes each time, so that a test can tell."""
    if share <= 0:
        return False
    drawn = int(content_hash([shipment.key.note_id, shipment.key.version])[:8], 16)
    return drawn < share * 0x1_0000_0000
