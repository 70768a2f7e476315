"""Everything the warehouse holds of one person, or of one note: what an erasure is for.

A person is known by an identifier, as notes and visits have it. It is looked for in the columns that hold it, and in
payloads below members whose name says `patient`: a record that was never mapped names its patient nowhere else. From
there it goes on to what belongs together: a recording, its notes, its jobs, the events about them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.warehouse.erasure import RecordKey, Scope
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import (
    ehr_references,
    inbox,
    notes,
    quarantine,
    scribe_jobs,
    source_records,
    visits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["mentions", "names_patient", "scope_of_note", "scope_of_patient"]

ROWS_AHEAD = 500


def scope_of_patient(
    connection: sa.Connection, warehouse: Warehouse, settings: Settings, system: str, value: str
) -> Scope:
    """What there is of a patient.

    Args:
        connection: An open transaction.
        warehouse: The warehouse.
        settings: The settings; they say which provider's patients have identifiers of this system.
        system: Identifier system.
        value: Identifier.
    """
    search = _Search(connection, warehouse)
    own = [name for name in PROVIDERS if settings.identifier_system(name, "patient") == system]
    search.notes_where(notes.c.patient_system == system, notes.c.patient_id == value)
    named = sa.or_(
        visits.c.patient_system == system, sa.and_(visits.c.patient_system.is_(None), visits.c.provider.in_(own))
    )
    search.visits_where(visits.c.patient_id == value, named)
    search.payloads_that(own, value, lambda payload: names_patient(payload, value))
    search.close()
    search.references_of(system, value)
    return search.scope


def scope_of_note(connection: sa.Connection, warehouse: Warehouse, note_id: str) -> Scope:
    """What there is of a note: its record, the recording behind it, and the other notes of that recording."""
    search = _Search(connection, warehouse)
    search.notes_where(notes.c.note_id == note_id)
    search.close()
    return search.scope


def names_patient(payload: Any, value: str) -> bool:
    """Whether a payload names this patient: the value, or an address that ends with it, under a member `…patient…`.

    >>> names_patient({"patient": {"uuid": "p-1"}}, "p-1"), names_patient({"patient": "/patients/p-1"}, "p-1")
    (True, True)
    >>> names_patient({"duration": 7, "patientId": 8}, "7"), names_patient({"duration": 7, "patientId": 8}, "8")
    (False, True)
    """
    return any(
        told.rsplit("/", 1)[-1] == value or told == value
        for names, told in _leaves(payload)
        if any("patient" in name.lower() for name in names)
    )


def mentions(payload: Any, ids: Collection[str]) -> bool:
    """Whether a payload holds one of these ids under a member whose name ends with `id`, or below one that is known."""
    return any(
        told.rsplit("/", 1)[-1] in ids or told in ids
        for names, told in _leaves(payload)
        if names and names[-1].lower().endswith(("id", "audio", "note"))
    )


def _leaves(payload: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """All texts and whole numbers, with the names of the members they are below. Not by recursion: depth is theirs."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), payload)]
    while waiting:
        names, node = waiting.pop()
        if isinstance(node, dict):
            waiting.extend(((*names, str(name)), value) for name, value in node.items())
        elif isinstance(node, list):
            waiting.extend((names, value) for value in node)
        elif isinstance(node, str):
            yield names, node
        elif isinstance(node, int) and not isinstance(node, bool):
            yield names, str(node)


class _Search:
    """Collects a scope, inside a transaction."""

    def __init__(self, connection: sa.Connection, warehouse: Warehouse) -> None:
        self.scope = Scope()
        self._connection = connection
        self._warehouse = warehouse
        self._account = warehouse.account

    def notes_where(self, *which: sa.ColumnElement[bool]) -> None:
        """Adds notes and the records they were mapped from."""
        columns = (notes.c.note_id, notes.c.provider, notes.c.stream, notes.c.source_id)
        for row in self._connection.execute(sa.select(*columns).where(notes.c.account == self._account, *which)):
            self.scope.notes.add(row.note_id)
            self.scope.records.add(RecordKey(row.provider, row.stream, row.source_id))

    def visits_where(self, *which: sa.ColumnElement[bool]) -> None:
        """Adds rows of the manifest."""
        query = sa.select(visits.c.provider, visits.c.correlation_key)
        rows = self._connection.execute(query.where(visits.c.account == self._account, *which))
        self.scope.visits |= {(provider, key) for provider, key in rows}

    def payloads_that(self, providers: Collection[str], hint: str, fits: Callable[[Any], bool]) -> None:
        """Adds records, problems and events of these providers whose payload fits.

        Args:
            providers: Provider names.
            hint: A text that occurs in every payload that fits; the database looks for it first.
            fits: Looks closer.
        """
        written = orjson.dumps(hint).decode()[1:-1]
        table = source_records.c
        for row in self._rows(
            sa.select(table.provider, table.stream, table.source_id, table.payload).where(
                table.account == self._account,
                table.provider.in_(providers),
                sa.cast(table.payload, sa.Text).contains(written, autoescape=True),
            )
        ):
            if fits(row.payload):
                self.scope.records.add(RecordKey(row.provider, row.stream, row.source_id))
        self._problems_that(providers, fits)
        self._events_that(providers, fits)

    def close(self) -> None:
        """Adds what belongs to what was found, until there is nothing more."""
        before = -1
        while before != (before := len(self.scope.records) + len(self.scope.visits) + len(self.scope.notes)):
            self._add_relatives()
        for provider in sorted(
            {record.provider for record in self.scope.records} | {key[0] for key in self.scope.visits}
        ):
            ids = {record.source_id for record in self.scope.records if record.provider == provider}
            ids |= {key for name, key in self.scope.visits if name == provider}
            for chunk in in_chunks(sorted(ids)):
                self._add_jobs(provider, chunk)
                self._add_problems(provider, chunk)
            ids |= self._names_of_jobs(provider)
            self._events_that([provider], partial(mentions, ids=ids), ids)

    def references_of(self, system: str, value: str) -> None:
        """Adds what is known of the patient on the targets, and of encounters found to be theirs."""
        table = ehr_references.c
        own = sa.and_(table.kind == "Patient", table.system == system, table.value == value)
        rows = self._connection.execute(sa.select(ehr_references).where(table.account == self._account, own)).all()
        self.scope.references |= {(row.target, row.kind, row.system, row.value) for row in rows}
        for row in rows:
            if row.server_id is None:
                continue
            theirs = self._connection.execute(
                sa.select(ehr_references).where(
                    table.account == self._account,
                    table.target == row.target,
                    table.kind == "Encounter",
                    table.subject_id == row.server_id,
                )
            )
            self.scope.references |= {(each.target, each.kind, each.system, each.value) for each in theirs}

    def _add_relatives(self) -> None:
        """Parents, children and visits of the records; records of the visits; notes of all of them."""
        scope, table = self.scope, source_records.c
        for provider in sorted({record.provider for record in scope.records} | {name for name, _ in scope.visits}):
            ids = {record.source_id for record in scope.records if record.provider == provider}
            ids |= {key for name, key in scope.visits if name == provider}
            for chunk in in_chunks(sorted(ids)):
                rows = self._connection.execute(
                    sa.select(table.stream, table.source_id, table.parent_id).where(
                        table.account == self._account,
                        table.provider == provider,
                        sa.or_(table.source_id.in_(chunk), table.parent_id.in_(chunk)),
                    )
                ).all()
                scope.records |= {RecordKey(provider, row.stream, row.source_id) for row in rows}
                parents = [row.parent_id for row in rows if row.parent_id]
                for streams in in_chunks(parents):
                    of_parents = sa.select(table.stream, table.source_id).where(
                        table.account == self._account, table.provider == provider, table.source_id.in_(streams)
                    )
                    scope.records |= {RecordKey(provider, *row) for row in self._connection.execute(of_parents)}
                self.visits_where(visits.c.provider == provider, visits.c.correlation_key.in_({*chunk, *parents}))
                self.notes_where(notes.c.provider == provider, notes.c.source_id.in_(chunk))

    def _add_jobs(self, provider: str, ids: Iterable[str]) -> None:
        table = scribe_jobs.c
        query = sa.select(table.provider, table.job_key).where(
            table.account == self._account, table.provider == provider, table.correlation_key.in_(ids)
        )
        self.scope.jobs |= {(name, key) for name, key in self._connection.execute(query)}

    def _add_problems(self, provider: str, ids: Iterable[str]) -> None:
        table = quarantine.c
        query = sa.select(table.id).where(
            table.account == self._account, table.provider == provider, table.source_id.in_(ids)
        )
        self.scope.problems |= set(self._connection.scalars(query))

    def _names_of_jobs(self, provider: str) -> set[str]:
        """What the provider calls our jobs, and what we call them: events name them so."""
        table = scribe_jobs.c
        keys = [key for name, key in self.scope.jobs if name == provider]
        found: set[str] = set()
        for chunk in in_chunks(sorted(keys)):
            query = sa.select(table.vendor_job_id, table.client_request_id).where(
                table.account == self._account, table.provider == provider, table.job_key.in_(chunk)
            )
            for row in self._connection.execute(query):
                found |= {name for name in row if name}
        return found

    def _problems_that(self, providers: Collection[str], fits: Callable[[Any], bool]) -> None:
        """A payload may be sealed, so the database cannot look into it: each is opened."""
        table = quarantine.c
        query = sa.select(table.id, table.payload, table.sealed_with).where(
            table.account == self._account, table.provider.in_(providers), table.payload.is_not(None)
        )
        for row in self._rows(query):
            try:
                payload = self._warehouse.sealing.open(row.id, row.payload, row.sealed_with)
            except MedscribeError:
                self.scope.unreadable += 1
                continue
            if fits(payload):
                self.scope.problems.add(row.id)

    def _events_that(
        self, providers: Collection[str], fits: Callable[[Any], bool], ids: Collection[str] = frozenset()
    ) -> None:
        """Events whose payload fits, or that are named after one of these ids."""
        table = inbox.c
        query = sa.select(table.provider, table.event_id, table.payload).where(
            table.account == self._account, table.provider.in_(providers)
        )
        for row in self._rows(query):
            if row.event_id.split("/", 1)[0] in ids or fits(row.payload):
                self.scope.events.add((row.provider, row.event_id))

    def _rows(self, query: sa.Select[Any]) -> Iterator[sa.Row[Any]]:
        return iter(self._connection.execute(query.execution_options(yield_per=ROWS_AHEAD)))
