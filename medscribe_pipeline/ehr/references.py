"""Who and where of our notes as the target's own ids: found once, kept in `ehr_references`, asked again when old.

A server that wants literal references wants its own logical ids. Those entered by a person (`links.py`) win and stay;
the others come from `lookup.py`. What is not certainly found holds the note; nothing is guessed, nothing is created.
When the server does not answer, nothing is noted about what was not answered: not known is not missing.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from concurrent.futures import wait
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.ehr.lookup import (
    ENCOUNTER,
    PATIENT,
    PRACTITIONER,
    Answer,
    ReferenceKind,
    ReferenceState,
    Span,
    encounter_by_time,
    resource_by_identifier,
)
from medscribe_pipeline.fhir.elements import instant
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import ehr_references
from medscribe_pipeline.warehouse.writing import upsert
from medscribe_pipeline.watching import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from datetime import datetime

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.ehr.targets import Capabilities
    from medscribe_pipeline.settings import EhrSettings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = [
    "BY_TIME",
    "ENCOUNTER",
    "LINK",
    "PATIENT",
    "PRACTITIONER",
    "SEARCH",
    "ReferenceKey",
    "ReferenceKind",
    "ReferenceState",
    "Resolution",
    "Wanted",
    "hold_reasons",
    "resolve",
    "time_key",
]

SEARCH = "search"
LINK = "link"

BY_TIME = "by-time"
"""Stands for the system of an encounter that has no identifier: it is known by patient and time of the visit."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReferenceKey:
    """What a row of `ehr_references` is about, on one target of one account."""

    kind: ReferenceKind
    system: str
    value: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A patient, clinician or encounter a note speaks of.

    Attributes:
        kind: FHIR resource type.
        system: Identifier system; empty for an encounter nobody has an identifier of.
        value: Identifier; empty as above.
        patient: For an encounter, identifier system and value of its patient: finds it by time, and is checked.
        started_at: For an encounter, when the visit began. Aware UTC.
        ended_at: For an encounter, when the visit ended. Aware UTC.
    """

    kind: ReferenceKind
    system: str = ""
    value: str = ""
    patient: tuple[str, str] | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def key(self) -> ReferenceKey | None:
        """Where it is kept; `None` for an encounter of which neither identifier, nor patient and time are known."""
        if self.system and self.value:
            return ReferenceKey(self.kind, self.system, self.value)
        if self.kind != ENCOUNTER or self.patient is None or self.started_at is None:
            return None
        return time_key(self.patient, self.started_at, self.ended_at)

    @property
    def visit(self) -> Span | None:
        """When the visit was, as far as anybody knows."""
        if self.started_at is None:
            return None
        return Span(self.started_at, max(self.started_at, self.ended_at or self.started_at))


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of one wanted reference."""

    kind: ReferenceKind
    state: ReferenceState
    server_id: str | None = None

    @property
    def reference(self) -> str | None:
        """The literal reference, such as `Patient/123`; `None` unless found."""
        return f"{self.kind}/{self.server_id}" if self.state is ReferenceState.FOUND else None

    @property
    def reason(self) -> str | None:
        """Why a note that needs it is held, such as `patient_missing`; `None` when found."""
        return None if self.state is ReferenceState.FOUND else _reason(self.kind, self.state)


def hold_reasons(*kinds: ReferenceKind) -> tuple[str, ...]:
    """Every reason `Resolution.reason` may give, for these kinds or for all.

    >>> hold_reasons("Patient")
    ('patient_missing', 'patient_ambiguous', 'patient_refused')
    """
    states = [state for state in ReferenceState if state is not ReferenceState.FOUND]
    return tuple(
        _reason(kind, state)
        for kind in kinds or (PATIENT, PRACTITIONER, ENCOUNTER)
        for state in states
        if kind == ENCOUNTER or state is not ReferenceState.MISMATCH
    )


def _reason(kind: ReferenceKind, state: ReferenceState) -> str:
    return f"{kind.lower()}_{state}"


def time_key(patient: tuple[str, str], started_at: datetime, ended_at: datetime | None) -> ReferenceKey:
    """Where an encounter without identifier is kept. A hash, because a value may not be longer than the column.

    Times count to the second, as they do in documents.
    """
    return ReferenceKey(ENCOUNTER, BY_TIME, content_hash([*patient, instant(started_at), instant(ended_at)]))


def resolve(
    warehouse: Warehouse,
    client: FhirClient,
    target: str,
    settings: EhrSettings,
    wanted: Collection[Wanted],
    *,
    clock: Callable[[], datetime],
    capabilities: Capabilities,
) -> dict[Wanted, Resolution]:
    """Finds the target's ids of all that is wanted, from what is known and, for the rest, from the server.

    What is found is known for `references_valid_s`, anything else for `references_missing_s`, a link for ever. Runs
    at the same time may ask the same twice; the last one to write wins, and never over a link.

    Args:
        warehouse: Where `ehr_references` is.
        client: The target.
        target: Its name.
        settings: Connections, how long answers are good, and whether an encounter may be found by time.
        wanted: What to find. Patients that encounters name are found along with them.
        clock: The current time, aware UTC.
        capabilities: Nothing is asked of a target that takes logical references.

    Returns:
        A resolution for each of `wanted`; nothing at all where the target takes logical references.

    Raises:
        ConfigError: `reference_search`: the server lets us search no such resources; `credentials` and others.
        MedscribeError: The server did not answer, or not in a way anybody can read. In all these cases what was
            answered before is kept, and the rest stays as unknown as it was.
    """
    if capabilities.references == "logical" or not wanted:
        return {}
    call = _Call(warehouse, client, target, settings, clock)
    patients = {Wanted(PATIENT, *each.patient) for each in wanted if each.patient}
    try:
        call.look_up([*(each for each in wanted if each.kind != ENCOUNTER), *patients])
        call.look_up([each for each in wanted if each.kind == ENCOUNTER])
    finally:
        call.keep()
    found = {each: call.resolution(each) for each in wanted}
    states = Counter(each.state.value for each in found.values())
    for state, count in sorted(states.items()):
        log.info("References: target=%s asked=%d state=%s records=%d", target, len(call.fresh), state, count)
    return found


@dataclass(slots=True)
class _Call:
    """What is known in the course of one `resolve`: from the table and, in `fresh`, from the server just now."""

    warehouse: Warehouse
    client: FhirClient
    target: str
    settings: EhrSettings
    clock: Callable[[], datetime]
    known: dict[ReferenceKey, Answer] = field(default_factory=dict)
    fresh: dict[ReferenceKey, Answer] = field(default_factory=dict)

    def look_up(self, wanted: Iterable[Wanted]) -> None:
        """Learns about all of `wanted`; patients must be known before their encounters are looked up."""
        questions: dict[ReferenceKey, Wanted] = {}
        for each in wanted:
            if each.key is not None and each.key not in self.known:
                # Of several notes with one encounter, one that knows the time helps most.
                better = each.key in questions and questions[each.key].visit is None
                questions[each.key] = each if better else questions.setdefault(each.key, each)
        self._recall(questions)
        self._ask({key: each for key, each in questions.items() if key not in self.known and self._may_ask(each)})

    def resolution(self, wanted: Wanted) -> Resolution:
        """What came of it."""
        answer = self.known.get(wanted.key) if wanted.key else None
        if answer is None:
            return Resolution(wanted.kind, ReferenceState.MISSING)
        patient_id = self._patient_id(wanted)
        of_another = answer.subject_id and patient_id and answer.subject_id != patient_id
        if answer.state is ReferenceState.FOUND and of_another:
            return Resolution(wanted.kind, ReferenceState.MISMATCH)
        return Resolution(wanted.kind, answer.state, answer.server_id)

    def keep(self) -> None:
        """Writes what the server said, except over what a person has entered."""
        if not self.fresh:
            return
        now = self.clock()
        rows = [
            {
                "account": self.warehouse.account,
                "target": self.target,
                "kind": key.kind,
                "system": key.system,
                "value": key.value,
                "state": answer.state.value,
                "server_id": answer.server_id,
                "subject_id": answer.subject_id,
                "origin": SEARCH,
                "looked_at": now,
            }
            for key, answer in sorted(
                self.fresh.items(), key=lambda item: (item[0].kind, item[0].system, item[0].value)
            )
        ]
        with self.warehouse.begin() as connection:
            upsert(connection, ehr_references, rows, unless=ehr_references.c.origin == LINK)

    def _recall(self, questions: Mapping[ReferenceKey, Wanted]) -> None:
        """Reads what is known already and not too old."""
        values: dict[tuple[ReferenceKind, str], list[str]] = {}
        for key in questions:
            values.setdefault((key.kind, key.system), []).append(key.value)
        now = self.clock()
        with self.warehouse.read() as connection:
            for (kind, system), listed in values.items():
                for chunk in in_chunks(listed):
                    query = sa.select(ehr_references).where(
                        ehr_references.c.account == self.warehouse.account,
                        ehr_references.c.target == self.target,
                        ehr_references.c.kind == kind,
                        ehr_references.c.system == system,
                        ehr_references.c.value.in_(chunk),
                    )
                    for row in connection.execute(query):
                        key = ReferenceKey(kind, system, row.value)
                        answer = Answer(ReferenceState(row.state), row.server_id, row.subject_id)
                        if self._is_good(row, now) and not self._is_outdated(questions[key], answer):
                            self.known[key] = answer

    def _is_good(self, row: sa.Row[Any], now: datetime) -> bool:
        found = row.state == ReferenceState.FOUND
        valid_s = self.settings.references_valid_s if found else self.settings.references_missing_s
        looked_at: datetime = row.looked_at
        return row.origin == LINK or now - looked_at < timedelta(seconds=valid_s)

    def _is_outdated(self, wanted: Wanted, answer: Answer) -> bool:
        """Whether it was looked for by time and by what then was the patient's id, and another one is known since."""
        return wanted.system == "" and answer.subject_id is not None and answer.subject_id != self._patient_id(wanted)

    def _patient_id(self, wanted: Wanted) -> str | None:
        answer = self.known.get(ReferenceKey(PATIENT, *wanted.patient)) if wanted.patient else None
        return answer.server_id if answer else None

    def _may_ask(self, wanted: Wanted) -> bool:
        """By identifier always; by time when the settings allow it and the patient is known."""
        return bool(wanted.system) or (self.settings.encounter_by_time and self._patient_id(wanted) is not None)

    def _ask(self, questions: Mapping[ReferenceKey, Wanted]) -> None:
        """Asks the server, a few at a time. After the first failure nobody asks any more, and it is raised."""
        if not questions:
            return
        stop = threading.Event()
        with Pool(self.settings.connections, thread_name_prefix="references") as pool:
            futures = {key: pool.submit(self._ask_one, each, stop) for key, each in questions.items()}
            try:
                wait(futures.values())
            finally:
                stop.set()
        failure: BaseException | None = None
        for key, future in futures.items():
            failure = failure or future.exception()
            answer = None if future.exception() else future.result()
            if answer is not None:
                self.known[key] = self.fresh[key] = answer
        if failure is not None:
            raise failure

    def _ask_one(self, wanted: Wanted, stop: threading.Event) -> Answer | None:
        """In a thread: the server's answer; `None` when there is no use in asking any more."""
        if stop.is_set():
            return None
        try:
            return self._answer(wanted)
        except BaseException:
            stop.set()
            raise

    def _answer(self, wanted: Wanted) -> Answer:
        answer = Answer(ReferenceState.MISSING)
        if wanted.system:
            answer = resource_by_identifier(self.client, wanted.kind, wanted.system, wanted.value)
        patient_id, visit = self._patient_id(wanted), wanted.visit
        by_time = self.settings.encounter_by_time and wanted.kind == ENCOUNTER
        if by_time and patient_id and visit and answer.state is ReferenceState.MISSING:
            answer = encounter_by_time(self.client, patient_id, visit)
        return answer
