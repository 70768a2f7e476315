"""What an event that nobody signed is a hint at, and the record itself, asked for by its id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.errors import ProviderContractError, Rejected
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.providers import askara, audioscribe
from medscribe_pipeline.providers.wire import reference_id, source_id_of
from medscribe_pipeline.warehouse.erasure import FORGOTTEN
from medscribe_pipeline.warehouse.tables import scribe_jobs, source_records

if TYPE_CHECKING:
    from medscribe_pipeline.providers.answers import Answer
    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.providers.inbox_store import OpenRow
    from medscribe_pipeline.providers.pull import Facts, Source
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Answered", "NothingNamed", "Part", "fetch", "is_forgotten", "is_forgotten_job", "is_landed", "named_in"]

NO_NOTE_KINDS = frozenset({"new_document", "document_synchronize"})


@dataclass(frozen=True, slots=True)
class Part:
    """A record that was asked for: whose it is and what came."""

    source: Source
    stream: str
    source_id: str
    answer: Answer


class Answered:
    """A source of one record that has been asked for already: nothing goes over the net inside a transaction."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.detailed = part.source.detailed

    def identify(self, item: Any) -> str | None:
        """See `pull.Source.identify`."""
        return self._part.source.identify(item)

    def facts(self, payload: Any) -> Facts:
        """See `pull.Source.facts`."""
        return self._part.source.facts(payload)

    def detail(self, _source_id: str) -> Answer:
        """What came."""
        return self._part.answer


@dataclass(frozen=True, slots=True)
class NothingNamed:
    """An event that names nothing to ask for, and why."""

    code: str


def named_in(row: OpenRow, payload: Any) -> str | NothingNamed:
    """The id of the session or note an event is about."""
    if row.key.provider == audioscribe.NAME:
        return source_id_of(payload, "id") or NothingNamed("no_id")
    if row.key.provider != askara.NAME:
        return NothingNamed("unrecognised")
    if row.kind in NO_NOTE_KINDS:
        return NothingNamed("not_a_note")
    return _note_id(payload) or NothingNamed("unrecognised")


def _note_id(payload: Any) -> str | None:
    """`metadata.note.uuid`, or the event's id when it is about a note."""
    if not isinstance(payload, dict):
        return None
    metadata = payload.get("metadata")
    note = metadata.get("note") if isinstance(metadata, dict) else None
    about_note = payload.get("resource_type") == "note" or payload.get("action") == "new_note"
    return source_id_of(note, "uuid") or (source_id_of(payload, "id") if about_note else None)


def fetch(client: HttpClient, settings: Settings, warehouse: Warehouse, provider: str, named: str) -> list[Part]:
    """Asks for the record; an Askara note comes after the audio it was written from, as when pulled.

    Raises:
        MedscribeError: See `providers.http`; `other_record`: another one came.
    """
    if provider == audioscribe.NAME:
        return [_ask(audioscribe.SessionSource(client, settings), audioscribe.SESSIONS, named)]
    # Where the note does not say, the audio it was found by when it was pulled.
    known = _landed(warehouse, provider, askara.NOTES, named)
    parent_id = known.parent_id if known else None
    note = _ask(askara.NoteSource(client, settings, parent_id), askara.NOTES, named)
    audio_id = reference_id(note.answer.body.get("audio")) or parent_id
    if audio_id is None:
        return [note]
    try:
        return [_ask(askara.AudioSource(client, settings), askara.AUDIOS, audio_id), note]
    except Rejected as error:
        if error.code != "not_found":
            raise
        return [note]


def _ask(source: Source, stream: str, source_id: str) -> Part:
    answer = source.detail(source_id)
    if source.identify(answer.body) != source_id:
        raise ProviderContractError("The provider answered with another record than asked for", code="other_record")
    return Part(source, stream, source_id, answer)


def is_landed(warehouse: Warehouse, provider: str, part: Part) -> bool:
    """Whether this very content is here already, in which case the list item it was announced by stays known."""
    known = _landed(warehouse, provider, part.stream, part.source_id)
    return known is not None and known.content_hash == content_hash(part.answer.body)


def is_forgotten(warehouse: Warehouse, provider: str, named: str) -> bool:
    """Whether the session or note of that id was forgotten on request: nothing of it is asked for."""
    query = sa.select(source_records.c.source_id).where(
        source_records.c.account == warehouse.account,
        source_records.c.provider == provider,
        source_records.c.source_id == named,
        source_records.c.forgotten_at.is_not(None),
    )
    with warehouse.read() as connection:
        return connection.execute(query).first() is not None


def is_forgotten_job(warehouse: Warehouse, provider: str, *names: str | None) -> bool:
    """Whether the job with one of these names, the provider's or ours, was forgotten on request."""
    known = [name for name in names if name is not None]
    query = sa.select(scribe_jobs.c.job_key).where(
        scribe_jobs.c.account == warehouse.account,
        scribe_jobs.c.provider == provider,
        scribe_jobs.c.code == FORGOTTEN,
        sa.or_(scribe_jobs.c.client_request_id.in_(known), scribe_jobs.c.vendor_job_id.in_(known)),
    )
    with warehouse.read() as connection:
        return connection.execute(query).first() is not None


def _landed(warehouse: Warehouse, provider: str, stream: str, source_id: str) -> sa.Row[str, str | None] | None:
    query = sa.select(source_records.c.content_hash, source_records.c.parent_id).where(
        source_records.c.account == warehouse.account,
        source_records.c.provider == provider,
        source_records.c.stream == stream,
        source_records.c.source_id == source_id,
    )
    with warehouse.read() as connection:
        return connection.execute(query).one_or_none()
