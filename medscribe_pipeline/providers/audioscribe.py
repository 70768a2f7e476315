"""Dictanote AudioScribe: a list of sessions, nothing more.

Source: two snapshots of the vendor's API page, which differ in the name of the resource (`sessions` or `notes`, a
setting). What is odd here:

* Pages count from 0; size and order are not documented. The list ends at the first empty page, or at a 404.
* There is no change time, no status, no patient, no language. Edits show only by reading everything and comparing
  hashes; who a session is about comes from the visits manifest; nothing counts as reviewed unless a setting says so.
* Nothing says in which zone `createdAt` is when it has no offset: `MEDSCRIBE_TIMEZONE`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import Field

from medscribe_pipeline.errors import ConfigError, Rejected
from medscribe_pipeline.notes import NoteState, ScribeNote, TranscriptTurn, content_hash, stable_id
from medscribe_pipeline.providers.headings import split_sections
from medscribe_pipeline.providers.http import Answer, BearerToken, HttpClient
from medscribe_pipeline.providers.pages import pull_pages
from medscribe_pipeline.providers.pull import Facts, Page, PullReport, Window, items_of, retry_waiting
from medscribe_pipeline.providers.records import Held, LandedRecord, if_known, merged_visit
from medscribe_pipeline.providers.wire import SourceId, Text, WireModel, WireTime, aware, parse_time, source_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.landing import Landing
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["NAME", "SESSIONS", "SessionSource", "open_client", "pull_sessions", "session_facts", "to_note"]

NAME = "audioscribe"
SESSIONS = "sessions"
NOT_FOUND = 404


class SessionWire(WireModel):
    """A session: list item, detail and webhook body are the same."""

    id: SourceId
    title: Text = ""
    note: Text = ""
    original_transcript: Text = Field("", alias="originalTranscript")
    created_at: WireTime = Field(alias="createdAt")


@contextmanager
def open_client(settings: Settings, _warehouse: Warehouse) -> Iterator[HttpClient]:
    """The HTTP client of the account."""
    own = settings.audioscribe
    if own.token is None:
        raise ConfigError("MEDSCRIBE_AUDIOSCRIBE_TOKEN is not set", code="credentials")
    setting = "MEDSCRIBE_AUDIOSCRIBE_TOKEN"
    auth = BearerToken(own.token.get_secret_value(), setting)
    with HttpClient(NAME, own.base_url, own, auth, credential_hint=setting) as client:
        yield client


def session_facts(payload: Any, settings: Settings, _parent_id: str | None = None) -> Facts:
    """What landing must know of a session. Sessions say nothing of changes, so there is no change time."""
    wire = SessionWire.model_validate(payload)
    return Facts(updated_at=None, visited_at=aware(wire.created_at, settings.zone))


class SessionSource:
    """`/api/v1/audioscribe/sessions/`."""

    detailed = False

    def __init__(self, client: HttpClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._first_page = settings.audioscribe.first_page
        self._path = f"/api/v1/audioscribe/{settings.audioscribe.resource}/"

    def page(self, number: int) -> Page | None:
        """One page; `None` past the end."""
        try:
            answer = self._client.get_json(self._path, [("page", str(number))])
        except Rejected as error:
            if error.status == NOT_FOUND and number > self._first_page:
                return None
            raise
        return Page(items_of(answer), answer.sent_at)

    def identify(self, item: Any) -> str | None:
        """See `pull.Source.identify`."""
        return source_id_of(item, "id")

    def detail(self, source_id: str) -> Answer:
        """One session."""
        return self._client.get_json(f"{self._path}{quote(source_id, safe='')}/")

    def facts(self, payload: Any) -> Facts:
        """See `pull.Source.facts`."""
        return session_facts(payload, self._settings)

    def created_at(self, item: Any) -> datetime | None:
        """When a list item was created, as far as it can be read."""
        try:
            return aware(parse_time(item.get("createdAt")), self._settings.zone)
        except (ValueError, AttributeError):
            return None


def pull_sessions(
    client: HttpClient,
    landing_for: Callable[[str | None], Landing],
    settings: Settings,
    window: Window,
    *,
    clock: Callable[[], datetime],
    on_progress: Callable[[PullReport], None],
) -> PullReport:
    """Pulls all sessions and lands those that are new or changed."""
    own = settings.audioscribe
    source = SessionSource(client, settings)
    landing = landing_for(None)
    report = pull_pages(
        source.page,
        source,
        landing,
        first_page=own.first_page,
        max_pages=own.max_pages,
        threads=own.connections,
        window=window,
        clock=clock,
        expected=landing.count(),
        stop_after_known_pages=0 if window.full else own.stop_after_known_pages,
        created_at=source.created_at,
        on_progress=on_progress,
        give_up=client.give_up,
    )
    retry_waiting(source, landing, report, clock, own.connections, client.give_up)
    return report


def to_note(record: LandedRecord, settings: Settings) -> ScribeNote | Held:
    """Maps a session. The raw transcript is kept apart: it is never the note."""
    wire = SessionWire.model_validate(record.payload)
    created_at = aware(wire.created_at, settings.zone)
    visit = merged_visit(settings, NAME, record.visit, started_at=created_at)
    state = NoteState.VALIDATED if settings.audioscribe.reviewed else NoteState.DRAFT
    language = record.visit.language if record.visit else None
    template = record.visit.template if record.visit else None
    specialty = record.visit.specialty if record.visit else None
    title = wire.title.strip() or None
    transcript = (TranscriptTurn(wire.original_transcript),) if wire.original_transcript.strip() else ()
    return ScribeNote(
        note_id=stable_id(NAME, settings.account, wire.id, "note"),
        provider=NAME,
        account=settings.account,
        stream=SESSIONS,
        source_id=wire.id,
        state=state,
        version=content_hash([title, wire.note, state, language, template, visit, *if_known(specialty)]),
        title=title,
        language=language,
        template=template,
        specialty=specialty,
        sections=split_sections(wire.note),
        transcript=transcript,
        visit=visit,
        created_at=created_at,
    )
