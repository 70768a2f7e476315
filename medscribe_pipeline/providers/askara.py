"""Askara: `/audios` says who, when and how far; `/notes` holds the text.

Source: the vendor's Audio reference (API 1.1.0) and its note-synchronisation and OAuth guides. What is odd here:

* A list answers a bare array; the last page is one shorter than `itemsPerPage`. Pages count from 1.
* `patient` is a uuid in lists and an object in details. Either is accepted anywhere, and API Platform's
  IRIs (`/audios/<uuid>`) count as the uuid at their end.
* Every enum is open. Only the step `validated` says that a clinician has signed the text off; a setting may count
  earlier steps as reviewed, and who signed those nobody says.
* The change of an audio's step does not change its note; the audio is the note's parent, so that both stay together.
* Whether lists hold archived audios is not documented: a second pass asks for them by `exists[archivedAt]`.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import Field

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.notes import (
    Identifier,
    NoteState,
    Practitioner,
    ScribeNote,
    content_hash,
    stable_id,
)
from medscribe_pipeline.providers.changes import Order, pull_changes
from medscribe_pipeline.providers.headings import split_sections
from medscribe_pipeline.providers.http import Answer, BearerToken, HttpClient
from medscribe_pipeline.providers.oauth import RefreshTokenAuth
from medscribe_pipeline.providers.pull import (
    Facts,
    Page,
    PullReport,
    Window,
    items_of,
    land_items,
    retry_waiting,
    workers,
)
from medscribe_pipeline.providers.records import Held, LandedRecord, if_known, merged_visit
from medscribe_pipeline.providers.tokens import WarehouseTokens
from medscribe_pipeline.providers.wire import (
    RPPS_SYSTEM,
    SourceId,
    Text,
    WireModel,
    WireTime,
    aware,
    is_rpps,
    parse_time,
    reference_id,
    source_id_of,
    wire_time,
)
from medscribe_pipeline.warehouse.arrivals import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from medscribe_pipeline.providers.pull import Source
    from medscribe_pipeline.settings import AskaraSettings, Settings
    from medscribe_pipeline.warehouse.landing import Landing
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = [
    "ARCHIVED",
    "AUDIOS",
    "NAME",
    "NOTES",
    "AudioSource",
    "NoteSource",
    "audio_facts",
    "list_page",
    "note_facts",
    "open_client",
    "pull_audios",
    "pull_notes",
    "to_note",
]

NAME = "askara"
AUDIOS = "audios"
NOTES = "notes"

VALIDATED = "validated"
FAILED = "failed"
ARCHIVED = ("exists[archivedAt]", "true")
WAITING_STEPS = frozenset({"audio_recording", "transcription"})


class AudioWire(WireModel):
    """`GET /audios/{uuid}`."""

    uuid: SourceId
    created_at: WireTime = Field(alias="createdAt")
    updated_at: WireTime = Field(alias="updatedAt")
    archived_at: WireTime | None = Field(None, alias="archivedAt")
    patient: str | dict[str, Any] | None = None
    user: str | dict[str, Any] | None = None
    language: str | None = Field(None, alias="languageSpoken")
    step: str | None = Field(None, alias="audioWorkflowStepV3")


class NoteWire(WireModel):
    """`GET /notes/{uuid}`; `audio` is described in words only, so it is accepted in every form."""

    uuid: SourceId
    type: str | None = None
    content: Text = ""
    created_at: WireTime = Field(alias="createdAt")
    updated_at: WireTime = Field(alias="updatedAt")
    archived_at: WireTime | None = Field(None, alias="archivedAt")
    patient: str | dict[str, Any] | None = None
    audio: str | dict[str, Any] | None = None
    user: str | dict[str, Any] | None = None


@contextmanager
def open_client(settings: Settings, warehouse: Warehouse) -> Iterator[HttpClient]:
    """The HTTP client of the account, with a fixed token or with OAuth tokens kept in the warehouse.

    Raises:
        ConfigError: There are no credentials, or they cannot be such.
    """
    own = settings.askara
    if own.token is not None:
        setting = "MEDSCRIBE_ASKARA_TOKEN"
        auth = BearerToken(own.token.get_secret_value(), setting)
        with HttpClient(NAME, own.base_url, own, auth, credential_hint=setting) as client:
            yield client
        return
    tokens = WarehouseTokens(warehouse, NAME, lock_timeout_s=settings.lock_timeout_s)
    hint = "MEDSCRIBE_ASKARA_REFRESH_TOKEN"
    with (
        RefreshTokenAuth(own, tokens) as refreshing,
        HttpClient(NAME, own.base_url, own, refreshing, credential_hint=hint) as client,
    ):
        yield client


def audio_facts(payload: Any, settings: Settings, _parent_id: str | None = None) -> Facts:
    """What landing must know of an audio."""
    wire = AudioWire.model_validate(payload)
    return Facts(updated_at=aware(wire.updated_at, settings.zone), visited_at=aware(wire.created_at, settings.zone))


def note_facts(payload: Any, settings: Settings, parent_id: str | None = None) -> Facts:
    """What landing must know of a note; `parent_id` is its audio where the note does not say."""
    wire = NoteWire.model_validate(payload)
    return Facts(
        updated_at=aware(wire.updated_at, settings.zone),
        visited_at=aware(wire.created_at, settings.zone),
        parent_id=reference_id(wire.audio) or parent_id,
    )


class _Source:
    """A detailed list: items announce records, `/{resource}/{uuid}` holds them."""

    detailed = True

    def __init__(self, client: HttpClient, resource: str, settings: Settings) -> None:
        self._client = client
        self._resource = resource
        self._settings = settings

    def identify(self, item: Any) -> str | None:
        """See `pull.Source.identify`."""
        return source_id_of(item, "uuid")

    def detail(self, source_id: str) -> Answer:
        """See `pull.Source.detail`."""
        return self._client.get_json(f"/{self._resource}/{quote(source_id, safe='')}")


class AudioSource(_Source):
    """`/audios`."""

    def __init__(self, client: HttpClient, settings: Settings) -> None:
        super().__init__(client, AUDIOS, settings)

    def facts(self, payload: Any) -> Facts:
        """See `pull.Source.facts`."""
        return audio_facts(payload, self._settings)


class NoteSource(_Source):
    """`/notes`. `audio_id` is set while the notes of one audio are asked for: then that is the parent."""

    def __init__(self, client: HttpClient, settings: Settings, audio_id: str | None = None) -> None:
        super().__init__(client, NOTES, settings)
        self._audio_id = audio_id

    def facts(self, payload: Any) -> Facts:
        """See `pull.Source.facts`."""
        return note_facts(payload, self._settings, self._audio_id)


def pull_audios(
    client: HttpClient,
    landing_for: Callable[[str | None], Landing],
    settings: Settings,
    window: Window,
    *,
    clock: Callable[[], datetime],
    on_progress: Callable[[PullReport], None],
) -> PullReport:
    """Pulls changed audios, then newly archived ones: two passes with a cursor each over one stream."""
    source = AudioSource(client, settings)
    report = _pull_list(
        client, source, AUDIOS, landing_for(None), settings, window, "updatedAt", (), clock, on_progress
    )
    archived = _pull_list(
        client,
        source,
        AUDIOS,
        landing_for("audios_archived"),
        settings,
        window,
        "archivedAt",
        (ARCHIVED,),
        clock,
        on_progress,
    )
    report.complete = report.complete and archived.complete
    report.pages += archived.pages
    report.items += archived.items
    report.landed.add(archived.landed)
    report.still_quarantined += archived.still_quarantined
    return report


def pull_notes(
    client: HttpClient,
    landing_for: Callable[[str | None], Landing],
    settings: Settings,
    window: Window,
    *,
    changed_audios: Callable[[int], list[tuple[str, int]]],
    clock: Callable[[], datetime],
    on_progress: Callable[[PullReport], None],
) -> PullReport:
    """Pulls changed notes: through the list, or for each audio that changed (`MEDSCRIBE_ASKARA_NOTES_BY`).

    Args:
        client: From `open_client`.
        landing_for: Cursor name to landing.
        settings: The settings.
        window: What a person asked for.
        changed_audios: A change_seq to the audios landed after it, with theirs, in order.
        clock: Gives the current time.
        on_progress: Called after each page.
    """
    if settings.askara.notes_by == "list":
        source = NoteSource(client, settings)
        return _pull_list(
            client, source, NOTES, landing_for(None), settings, window, "updatedAt", (), clock, on_progress
        )
    landing = landing_for("notes_by_audio")
    before = landing.cursor()
    report = PullReport()
    done = 0 if window.full else int(before.signpost or 0)
    for audio_id, seq in changed_audios(done):
        _pull_notes_of(client, audio_id, landing, settings, window, report, clock)
        landing.land([], [], Cursor(None, str(seq)), now=clock())
        on_progress(report)
    retry_waiting(NoteSource(client, settings), landing, report, clock, settings.askara.connections, client.give_up)
    report.complete = True
    landing.record_history(before, now=clock())
    return report


def _pull_notes_of(
    client: HttpClient,
    audio_id: str,
    landing: Landing,
    settings: Settings,
    window: Window,
    report: PullReport,
    clock: Callable[[], datetime],
) -> None:
    own = settings.askara
    source = NoteSource(client, settings, audio_id)
    with workers(own.connections, "detail", client.give_up) as pool:
        for number in range(1, own.max_pages + 1):
            params = [("page", str(number)), ("itemsPerPage", str(own.page_size)), (own.notes_audio_filter, audio_id)]
            answer = client.get_json("/notes", params)
            items = items_of(answer)
            land_items(items, answer.sent_at, source, landing, None, pool, report, window, clock)
            report.pages += 1
            report.items += len(items)
            if len(items) < own.page_size:
                return


def list_page(
    client: HttpClient,
    resource: str,
    own: AskaraSettings,
    number: int,
    order: Order,
    time_field: str,
    low: datetime | None = None,
    high: datetime | None = None,
    extra: tuple[tuple[str, str], ...] = (),
) -> Page:
    """One page of a list by the times in `time_field`, from `low` to `high`."""
    params = [("page", str(number)), ("itemsPerPage", str(own.page_size)), *extra]
    if low is not None:
        params.append((f"{time_field}[gte]", wire_time(low)))
    if high is not None:
        params.append((f"{time_field}[lte]", wire_time(high)))
    params += [(f"order[{time_field}]", order), ("order[uuid]", order)]
    answer = client.get_json(f"/{resource}", params)
    return Page(items_of(answer), answer.sent_at)


def _pull_list(
    client: HttpClient,
    source: Source,
    resource: str,
    landing: Landing,
    settings: Settings,
    window: Window,
    time_field: str,
    extra: tuple[tuple[str, str], ...],
    clock: Callable[[], datetime],
    on_progress: Callable[[PullReport], None],
) -> PullReport:
    own: AskaraSettings = settings.askara
    zone = settings.zone

    def fetch(low: datetime | None, number: int, order: Order) -> Page:
        return list_page(client, resource, own, number, order, time_field, low, window.until, extra)

    def changed_at(item: Any) -> datetime | None:
        try:
            return aware(parse_time(item.get(time_field)), zone)
        except (ValueError, AttributeError):
            return None

    before = landing.cursor()
    report = pull_changes(
        fetch,
        source,
        landing,
        changed_at=changed_at,
        page_size=own.page_size,
        max_pages=own.max_pages,
        threads=own.connections,
        window=window,
        lookback=timedelta(seconds=settings.lookback_s),
        lag=timedelta(seconds=settings.lag_s),
        clock=clock,
        on_progress=on_progress,
        give_up=client.give_up,
    )
    retry_waiting(source, landing, report, clock, own.connections, client.give_up)
    landing.record_history(before, now=clock())
    return report


def to_note(record: LandedRecord, settings: Settings) -> ScribeNote | Held:
    """Maps a landed note (or audio) of Askara.

    Raises:
        MedscribeError: Code `patient_conflict` when note and audio name different patients: filing it under either
            could be wrong, so a person must look.
    """
    if record.stream == AUDIOS:
        return _audio_without_text(record)
    note = NoteWire.model_validate(record.payload)
    audio = AudioWire.model_validate(record.parent) if record.parent is not None else None
    patients = {
        found for found in (reference_id(note.patient), reference_id(audio.patient if audio else None)) if found
    }
    if len(patients) > 1:
        raise MedscribeError(
            "Note and audio name different patients", code="patient_conflict", field_paths=("patient", "audio.patient")
        )
    zone = settings.zone
    user = note.user if isinstance(note.user, dict) else audio.user if audio and isinstance(audio.user, dict) else None
    visit = merged_visit(
        settings,
        NAME,
        record.visit,
        patient_id=patients.pop() if patients else None,
        practitioner=_practitioner(user, settings),
        started_at=aware(audio.created_at if audio else note.created_at, zone),
    )
    archived = note.archived_at is not None or (audio is not None and audio.archived_at is not None)
    step = audio.step if audio else None
    state = NoteState.RETRACTED if archived else _state(step, settings.askara)
    attested = state is NoteState.VALIDATED and step == VALIDATED
    # A note only counted as reviewed says less than one signed off: when it is, that is another version.
    counted = step if state is NoteState.VALIDATED and not attested else None
    language = (record.visit.language if record.visit else None) or (audio.language if audio else None)
    template = note.type or (record.visit.template if record.visit else None)
    specialty = record.visit.specialty if record.visit else None
    return ScribeNote(
        note_id=stable_id(NAME, settings.account, note.uuid, "note"),
        provider=NAME,
        account=settings.account,
        stream=NOTES,
        source_id=note.uuid,
        state=state,
        version=content_hash([note.content, template, state, language, visit, *if_known(specialty, counted)]),
        language=language,
        template=template,
        specialty=specialty,
        sections=split_sections(note.content),
        visit=visit,
        created_at=aware(note.created_at, zone),
        updated_at=aware(note.updated_at, zone),
        attested=attested,
    )


def _state(step: str | None, own: AskaraSettings) -> NoteState:
    if step == FAILED:
        return NoteState.FAILED
    return NoteState.VALIDATED if step in own.reviewed_steps else NoteState.DRAFT


def _audio_without_text(record: LandedRecord) -> Held:
    audio = AudioWire.model_validate(record.payload)
    if record.children:
        return Held("text_in_note", part=True)
    if audio.archived_at is not None:
        return Held("archived_without_note")
    if audio.step == FAILED:
        return Held("failed_at_provider")
    return Held("not_transcribed_yet" if audio.step in WAITING_STEPS else "no_note_yet")


def _practitioner(user: dict[str, Any] | None, settings: Settings) -> Practitioner | None:
    if not user:
        return None
    identifiers = []
    if isinstance(uuid := user.get("uuid"), str) and uuid:
        identifiers.append(Identifier(settings.identifier_system(NAME, "practitioner"), uuid))
    if isinstance(rpps := user.get("rpps"), str) and is_rpps(rpps):
        identifiers.append(Identifier(RPPS_SYSTEM, rpps))
    # The AM number belongs to a place of practice, not to a person: it is carried, never matched on.
    am = user.get("am")
    role = (Identifier(f"{settings.fhir.base_uri}/sid/fr-numero-am", am),) if isinstance(am, str) and am else ()
    names = (user.get("firstName"), user.get("lastName"))
    display = " ".join(name.strip() for name in names if isinstance(name, str) and name.strip()) or None
    return Practitioner(tuple(identifiers), role, display) if identifiers or display else None
