"""Nabla: a recording becomes a transcript and a note, as jobs. Nothing can be listed; what is not asked for is lost.

* `archived`: one job, `listen`. Its result comes to the callback URL and can never be asked for.
* Later: a job `transcribe`, then a job `note` made of its transcript; both can be polled, and webhooks may be quicker.

What is odd here:

* Failure of a job is an HTTP 200 with a status and a code of its own. It is the provider's verdict on this recording
  (too short, no speech): the same request would fail again.
* No payload names patient, clinician or time: they come from the visits manifest, and `client_request_id` is the only
  thing that leads back to it.
* `client_request_id` is documented to guarantee idempotency, so a submission whose answer was lost may be repeated.
* The callback URL goes into a request only as it leaves: it is an address of ours, may hold a secret, and another one
  must not make another job.

Sources: see `nabla_wire` and `nabla_words`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import ValidationError

from medscribe_pipeline.errors import ConfigError, MedscribeError, ProviderContractError
from medscribe_pipeline.notes import NoteState, ScribeNote, content_hash, stable_id
from medscribe_pipeline.providers.audio_url import check_audio_url
from medscribe_pipeline.providers.http import BearerToken, HttpClient, Refused, Unsettled
from medscribe_pipeline.providers.nabla_wire import (
    Heard,
    LandedJob,
    ResultWire,
    TurnWire,
    hear,
    read_result,
    to_section,
)
from medscribe_pipeline.providers.nabla_words import (
    GENERATIONS,
    LISTEN_LANGUAGES,
    Generation,
    language_tag,
    section_customisation,
    section_style,
    speech_locale,
    template_name,
)
from medscribe_pipeline.providers.records import Held, LandedRecord, ManifestVisit, if_known, merged_visit
from medscribe_pipeline.providers.work import Job, JobSpec, Phase, Progress, WorkProvider

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.notes import NoteSection
    from medscribe_pipeline.settings import NablaSettings, Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["LISTEN", "NAME", "NOTE", "RESULTS", "TRANSCRIBE", "Nabla", "open_client", "server_url", "to_notes"]

NAME = "nabla"
RESULTS = "results"
LISTEN = "listen"
TRANSCRIBE = "transcribe"
NOTE = "note"

_SPEAKERS = frozenset({"doctor", "patient"})


def server_url(own: NablaSettings) -> str:
    """Base URL of all endpoints, path prefix included."""
    host = "https://api.nabla.com" if own.api_version == "archived" else f"https://{own.region}.api.nabla.com"
    prefix = own.path_prefix if own.path_prefix is not None else GENERATIONS[own.api_version].prefix
    return f"{own.base_url or host}{prefix.rstrip('/')}"


def version_headers(own: NablaSettings) -> dict[str, str]:
    """`X-Nabla-Api-Version`; the archived API is older than the header."""
    if own.send_version_header and own.api_version != "archived":
        return {"X-Nabla-Api-Version": own.api_version}
    return {}


@contextmanager
def open_client(settings: Settings, warehouse: Warehouse) -> Iterator[HttpClient]:  # noqa: ARG001  # the shape all providers share
    """The HTTP client of the account, with the server key or with an OAuth client.

    Raises:
        ConfigError: There are no credentials, or they cannot be such.
    """
    own = settings.nabla
    base_url = server_url(own)
    if own.token is not None:
        setting = "MEDSCRIBE_NABLA_TOKEN"
        auth = BearerToken(own.token.get_secret_value(), setting)
        with HttpClient(NAME, base_url, own, auth, credential_hint=setting) as client:
            yield client
        return
    # Cryptography is slow to load; only who signs with a key pays for it.
    from medscribe_pipeline.providers.nabla_auth import ClientAssertionAuth  # noqa: PLC0415

    hint = "MEDSCRIBE_NABLA_CLIENT_ID, MEDSCRIBE_NABLA_PRIVATE_KEY_FILE"
    with (
        ClientAssertionAuth(own, f"{base_url}/oauth/token", headers=version_headers(own)) as signing,
        HttpClient(NAME, base_url, own, signing, credential_hint=hint) as client,
    ):
        yield client


class Nabla(WorkProvider):
    """Nabla for the job ledger; see `work.WorkProvider`.

    A job's request is `{"body": ...}`, in the spelling of the API version it was planned with. That of `transcribe`
    holds under `note` what is to be asked once there is a transcript (`None`: nothing), that of `note` the transcript.

    Args:
        settings: The settings.
    """

    name = NAME
    repeatable_submit = True

    def __init__(self, settings: Settings) -> None:
        self.budgets: dict[str, int] = {}
        self._own = settings.nabla
        self._generation: Generation = GENERATIONS[self._own.api_version]
        self._headers = version_headers(self._own)

    def wanted(self, correlation_key: str, visit: ManifestVisit) -> list[JobSpec]:
        """See `work.WorkProvider.wanted`.

        Raises:
            MedscribeError: `audio_path` (a local file cannot be given to Nabla), `audio_url...` (see `audio_url`),
                `language` or `section_style` (not one of Nabla's).
        """
        if not visit.audio_url:
            if visit.audio_path:
                raise _refused("Nabla downloads recordings; give a URL, not a local file.", "audio_path")
            return []
        check_audio_url(visit.audio_url, self._own)
        language = language_tag(visit.language or self._own.language)
        if language is None or (self._own.api_version == "archived" and language not in LISTEN_LANGUAGES):
            raise _refused("Nabla does not know this language, or needs its country too (es-MX).", "language")
        note = self._note_wanted(visit, language)
        if self._own.api_version == "archived":
            body = {
                "output_objects": ["transcript_item", *(["note"] if note else [])],
                "language": language,
                "split_by_sentence": self._own.split_by_sentence,
                **note,
                "file_url": visit.audio_url,
            }
            return [JobSpec(correlation_key, LISTEN, {"body": body})]
        body = {
            "speech_locale": speech_locale(language),
            "file_url": visit.audio_url,
            "split_by_sentence": self._own.split_by_sentence,
        }
        return [JobSpec(correlation_key, TRANSCRIBE, {"body": body, "note": note or None})]

    def submit(self, client: HttpClient, job: Job) -> Progress:
        """See `work.WorkProvider.submit`.

        Raises:
            Unsettled: Also with `no_job_id`, `wrong_job` or `answer`: the answer cannot be one to this request, so
                nobody knows what became of it.
        """
        # Throttled is not taken, and `client_request_id` guards against twice anyway.
        answer = client.request(
            "POST",
            self._submit_path(job.step),
            json=self._outgoing(job),
            headers=self._headers,
            repeat=False,
            throttle_is_refusal=True,
        )
        if job.step == LISTEN and answer.body is None:
            return Progress(Phase.RUNNING)
        heard = _heard(job, answer.body, Unsettled)
        progress = heard.progress or Progress(Phase.RUNNING, heard.vendor_job_id)
        open_end = progress.phase in (Phase.RUNNING, Phase.UNRECOGNISED)
        if open_end and progress.vendor_job_id is None and job.step != LISTEN:
            raise Unsettled("Nabla took a job and gave it no id.", code="no_job_id", context={"client": NAME})
        return progress

    def poll(self, client: HttpClient, job: Job) -> Progress:
        """See `work.WorkProvider.poll`. `listen` cannot be asked after: only its callback ends it.

        Raises:
            ProviderContractError: `wrong_job` or `answer`: the answer is not about this job.
        """
        if job.step == LISTEN or job.vendor_job_id is None:
            return Progress(Phase.RUNNING, job.vendor_job_id)
        path = "/generate-note-async" if job.step == NOTE else "/transcribe-async"
        try:
            answer = client.request(
                "GET", f"{path}/{quote(job.vendor_job_id, safe='')}", headers=self._headers, repeat=True
            )
        except Refused as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise
            return Progress(Phase.GONE, job.vendor_job_id, code=str(error.status))
        heard = _heard(job, answer.body, ProviderContractError)
        return heard.progress or Progress(Phase.UNRECOGNISED, job.vendor_job_id)

    def follow_up(self, job: Job, result: dict[str, Any]) -> Sequence[JobSpec]:
        """The job `note`, once a transcript has words. An unreadable one is left to mapping, which says so."""
        note = job.request.get("note")
        if job.step != TRANSCRIBE or not note:
            return ()
        try:
            found = read_result(result).transcript or []
        except ValidationError:
            return ()
        # Items without an offset stay behind those they came after.
        turns = sorted((turn for turn in found if turn.text.strip()), key=_Order())
        if not turns:
            return ()
        transcript = [
            {
                "text": turn.text,
                "speaker": turn.speaker,
                "start_offset_ms": turn.start_ms,
                "end_offset_ms": turn.end_ms,
            }
            for turn in turns
        ]
        return (JobSpec(job.correlation_key, NOTE, {"body": note, "transcript": transcript}),)

    def read_callback(self, payload: Any) -> tuple[str | None, str | None, Progress] | None:
        """See `work.WorkProvider.read_callback`. A mere receipt, ids and nothing else, is about no job."""
        if not isinstance(payload, dict):
            return None
        heard = hear(payload, pushed=True)
        if heard.progress is None or (heard.vendor_job_id is None and heard.client_request_id is None):
            return None
        return heard.vendor_job_id, heard.client_request_id, heard.progress

    def _note_wanted(self, visit: ManifestVisit, language: str) -> dict[str, Any]:
        """What to ask of the note; empty where none is wanted, or none is offered in the language."""
        own, generation = self._own, self._generation
        style = section_style(visit.section_style or own.section_style)
        if style is None:
            raise _refused("The section style is auto, paragraphs or bullet_points.", "section_style")
        offered = generation.note_languages is None or language in generation.note_languages
        if not (own.make_notes and offered):
            return {}
        wants_split = own.split_by_problem if visit.split_by_problem is None else visit.split_by_problem
        # Only English can be split.
        split = wants_split and language.startswith("en-")
        template = template_name(visit.template or own.template, renamed=generation.renamed)
        if own.api_version == "archived":
            return {"section_style": style, "split_by_problem": split, "note_template": template}
        note: dict[str, Any] = {
            "note_locale": speech_locale(language) if generation.renamed else language,
            generation.template_field: template,
        }
        if generation.customises and (custom := section_customisation(template, style, split=split)):
            note["note_sections_customization"] = custom
        return note

    def _submit_path(self, step: str) -> str:
        if step == NOTE:
            return "/generate-note-async"
        return self._own.submit_path or ("/listen_async" if step == LISTEN else "/transcribe-async")

    def _outgoing(self, job: Job) -> dict[str, Any]:
        """The body to send: what was planned, our name for it, and what the step adds."""
        body = {**job.request["body"], "client_request_id": job.client_request_id}
        if job.step == LISTEN:
            if self._own.callback_url is None:
                raise ConfigError(
                    "The archived API answers by callback only.",
                    code="callback_url",
                    context={"client": NAME, "setting": "MEDSCRIBE_NABLA_CALLBACK_URL"},
                )
            body["callback_url"] = self._own.callback_url.get_secret_value()
        if job.step == NOTE:
            body["transcript_items"] = [
                {"text": turn["text"], **self._speaker(turn["speaker"])} for turn in job.request["transcript"]
            ]
        return body

    def _speaker(self, speaker: str | None) -> dict[str, str]:
        name = (speaker or "").strip().lower()
        name = name if name in _SPEAKERS else "unspecified"
        return {"speaker_type": name.upper()} if self._generation.renamed else {"speaker": name}


def _heard(job: Job, body: Any, unfit: type[MedscribeError]) -> Heard:
    """What an answer says of a job.

    An answer about another job is never taken for this one: it would file a note under the wrong patient.
    """
    if not isinstance(body, dict):
        raise unfit("Nabla's answer is no JSON object.", code="answer", context={"client": NAME})
    heard = hear(body)
    known, named = job.vendor_job_id, heard.vendor_job_id
    strange = known is not None and named is not None and known.lower() != named.lower()
    if strange or heard.client_request_id not in (None, job.client_request_id):
        raise unfit("Nabla's answer is about another job.", code="wrong_job", context={"client": NAME})
    return heard


class _Order:
    """Sort key of turns: the start, or that of the turn before for one without. `sorted` keeps ties in order."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, turn: TurnWire) -> int:
        if turn.start_ms is not None:
            self._last = turn.start_ms
        return self._last


def _refused(message: str, field: str) -> MedscribeError:
    return MedscribeError(message, code=field, field_paths=(field,))


def to_notes(record: LandedRecord, settings: Settings) -> tuple[ScribeNote, ...] | Held:
    """Maps a landed result to its note, or says why it has none.

    Raises:
        pydantic.ValidationError: The result is not what is documented.
    """
    landed = LandedJob.model_validate(record.payload)
    result = read_result(landed.result)
    if result.note is None:
        return _without_note(landed, result, settings)
    request = landed.request
    body = request.get("body") or {}
    turns = result.transcript
    if turns is None:
        turns = ResultWire.model_validate({"transcript": request.get("transcript")}).transcript or []
    transcript = tuple(turn.to_turn() for turn in turns)
    sections = tuple(to_section(section, split=_split_asked(body)) for section in result.note.sections)
    manifest = record.visit or ManifestVisit()
    language = language_tag(str(body.get("language") or body.get("note_locale") or "")) or manifest.language
    template = body.get("note_template_key") or body.get("note_template") or manifest.template
    state = NoteState.VALIDATED if settings.nabla.reviewed else NoteState.DRAFT
    visit = merged_visit(settings, NAME, record.visit)
    specialty = manifest.specialty
    title = result.note.title
    # Nabla tells no time: the note cannot be older than the visit, nor younger than its arrival.
    created_at = visit.ended_at or visit.started_at or record.fetched_at
    note = ScribeNote(
        note_id=stable_id(NAME, settings.account, landed.correlation_key, NOTE),
        provider=NAME,
        account=settings.account,
        stream=RESULTS,
        source_id=record.source_id,
        state=state,
        version=content_hash(
            [title, _said(sections), transcript, state, language, template, visit, *if_known(specialty)]
        ),
        kind=NOTE,
        title=title,
        language=language,
        template=template,
        specialty=specialty,
        sections=sections,
        transcript=transcript,
        visit=visit,
        created_at=created_at,
    )
    return (note,)


@dataclass(frozen=True, slots=True)
class _Said:
    """What a section says, as its hash has always had it: how a text reads is our finding, no change of theirs."""

    key: str | None
    title: str | None
    text: str
    sections: tuple[_Said, ...]


def _said(sections: Sequence[NoteSection]) -> tuple[_Said, ...]:
    return tuple(_Said(each.key, each.title, each.text, _said(each.sections)) for each in sections)


def _without_note(landed: LandedJob, result: ResultWire, settings: Settings) -> Held:
    """Why there is no note in a result: it is on its way, was not asked for, or was not given."""
    body = landed.request.get("body") or {}
    if landed.step == TRANSCRIBE:
        asked = bool(landed.request.get("note", settings.nabla.make_notes))
        if asked and any(turn.text.strip() for turn in result.transcript or []):
            return Held("text_in_note", part=True)
    else:
        asked = landed.step == NOTE or NOTE in body.get("output_objects", (NOTE,))
    if asked:
        return Held("empty_transcript" if landed.step == TRANSCRIBE else "no_note")
    return Held("note_language" if settings.nabla.make_notes else "transcript_only")


def _split_asked(body: dict[str, Any]) -> bool:
    custom = body.get("note_sections_customization") or ()
    return bool(body.get("split_by_problem")) or any(entry.get("split_by_problem") for entry in custom)
