"""Intron Health: a recording is uploaded, asked after, and comes back as a transcript and Markdown documents.

Source: the vendor's file upload page, and its file status page. What is odd here:

* There is no list, no look-up by file name and no callback. An upload whose answer got lost cannot be found again, so
  it is never repeated; its job becomes `unknown`. The name we give each file (the client request id) lets a person
  recognise it in the provider's own interface.
* A time-out (408) or an overload (503) whose body names a file id means queued, not failed.
* The status answer has neither a time nor an id nor a patient: all that comes from the visits manifest.
* One result makes several documents: SOAP note, summary, clerking, treatment plan, operation note. Entity lists, ICD
  codes, suggestions and scores are data without a document; they stay in the landed payload.
* The page on URLs contradicts itself (`audio_file_url` is "required", yet in no sample); that is what is sent.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from medscribe_pipeline.errors import ConfigError, Retriable
from medscribe_pipeline.notes import NoteSection, NoteState, ScribeNote, TranscriptTurn, content_hash, stable_id
from medscribe_pipeline.providers.audio_file import AudioFile, AudioFileError, inspect_audio, open_audio
from medscribe_pipeline.providers.audio_url import check_audio_url
from medscribe_pipeline.providers.http import BearerToken, HttpClient, Refused, Unsettled
from medscribe_pipeline.providers.intron_wire import (
    LandedResult,
    check_flags,
    file_id_of,
    progress_of,
    refused,
    upload_fields,
)
from medscribe_pipeline.providers.multipart import FilePart, multipart
from medscribe_pipeline.providers.records import Held, LandedRecord, ManifestVisit, if_known, merged_visit
from medscribe_pipeline.providers.structured_sections import has_words, sections_of, text_of, titled
from medscribe_pipeline.providers.work import Job, JobSpec, Phase, Progress, WorkProvider

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["NAME", "Intron", "open_client", "to_notes"]

NAME = "intron"
UPLOAD = "upload"

KINDS = {
    "transcript_soap_note": "note",
    "transcript_summary": "summary",
    "transcript_clerking": "clerking",
    "transcript_treatment_plan": "treatment_plan",
    "transcript_op_note": "operation_note",
}
"""Results that are documents, and the kind of each; the transcript goes with the first there is."""

_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


@contextmanager
def open_client(settings: Settings, _warehouse: Warehouse) -> Iterator[HttpClient]:
    """The HTTP client of the account.

    Raises:
        ConfigError: There is no token, or it cannot be one; or the CA file cannot be used.
    """
    own = settings.intron
    setting = "MEDSCRIBE_INTRON_TOKEN"
    if own.token is None:
        raise ConfigError(f"{setting} is not set", code="credentials")
    auth = BearerToken(own.token.get_secret_value(), setting)
    with HttpClient(NAME, own.base_url, own, auth, credential_hint=setting, ca_file=own.ca_file) as client:
        yield client


class Intron(WorkProvider):
    """Intron for the job ledger; see `work.WorkProvider`.

    A job's request is `{"fields": ...}` with the form fields, and either `audio_url`, or `audio_path` (relative to the
    audio folder) with `bytes` and `sha256`.

    Args:
        settings: The settings.

    Raises:
        ConfigError: `post_processing` asks for what Intron does not have.
    """

    name = NAME
    repeatable_submit = False

    def __init__(self, settings: Settings) -> None:
        self._own = settings.intron
        check_flags(self._own)
        self.budgets = {"poll": self._own.status_calls_per_minute, "submit": self._own.uploads_per_minute}

    def wanted(self, correlation_key: str, visit: ManifestVisit) -> list[JobSpec]:
        """See `work.WorkProvider.wanted`. A local file is read from end to end, and wins over a URL.

        Raises:
            MedscribeError: `audio_...` (see `audio_file` and `audio_url`), `category` or `language`.
        """
        # First what costs nothing: a visit that is refused is looked at in every run, and its file is long.
        fields = upload_fields(visit, self._own)
        request: dict[str, Any]
        if visit.audio_path:
            file = inspect_audio(self._own.audio_folder, visit.audio_path, self._own.max_file_bytes)
            request = {"audio_path": file.path, "bytes": file.size, "sha256": file.sha256}
        elif visit.audio_url:
            check_audio_url(visit.audio_url, self._own)
            request = {"audio_url": visit.audio_url}
        else:
            return []
        return [JobSpec(correlation_key, UPLOAD, {**request, "fields": fields})]

    def submit(self, client: HttpClient, job: Job) -> Progress:
        """Uploads a file, or hands on its URL, exactly once.

        Returns:
            `FAILED` with the code of `AudioFileError`, and no complete request sent, where the file is not what it
            was when the job was wanted.

        Raises:
            Unsettled: The file may have been taken, and nothing tells.
            Retriable: It surely was not: the provider asks us to slow down, or cannot be reached.
        """
        fields = {"audio_file_name": job.client_request_id, **job.request["fields"]}
        if "audio_path" not in job.request:
            return self._upload(client, {**fields, "audio_file_url": job.request["audio_url"]}, None)
        wanted = AudioFile(job.request["audio_path"], job.request["bytes"], job.request["sha256"])
        try:
            with open_audio(self._own.audio_folder, wanted) as audio:
                filename = f"{job.client_request_id}{wanted.extension}"
                part = FilePart("audio_file_blob", filename, wanted.media_type, wanted.size, audio.chunks)
                return self._upload(client, fields, part)
        except AudioFileError as error:
            return Progress(Phase.FAILED, code=error.code)

    def _upload(self, client: HttpClient, fields: dict[str, str], file: FilePart | None) -> Progress:
        form = multipart(fields, file)
        unsettled: Unsettled | None = None
        body: Any = None
        try:
            answer = client.request("POST", "/file/v1/upload", content=form.content, headers=form.headers, repeat=False)
            body = answer.body
        except Unsettled as error:
            unsettled = error
            body = error.answer.body if error.answer else None
        file_id = file_id_of(body)
        if unsettled is not None and file_id is None:
            raise _surely_not_taken(unsettled) or unsettled
        progress = progress_of(body)
        if progress.phase in (Phase.DONE, Phase.FAILED):
            return progress
        if file_id is not None:
            return Progress(Phase.RUNNING, vendor_job_id=file_id)
        if refused(body):
            return Progress(Phase.FAILED, code=progress.code)
        raise Unsettled("The upload was answered without a file id.", code="no_file_id", context={"client": NAME})

    def poll(self, client: HttpClient, job: Job) -> Progress:
        """Asks after a file. `GONE` when the provider does not know it."""
        if job.vendor_job_id is None:
            return Progress(Phase.GONE)
        path = f"/file/v1/status/{quote(job.vendor_job_id, safe='')}"
        gone = False
        try:
            # `f`: Markdown, which is documented, rather than JSON of undocumented shape.
            answer = client.get_json(path, [("get_structured_post_processing", "f")])
        except Refused as error:
            gone = error.status in _GONE
            if not gone:
                raise
        if gone:
            return Progress(Phase.GONE, vendor_job_id=job.vendor_job_id)
        return replace(progress_of(answer.body), vendor_job_id=job.vendor_job_id)

    def follow_up(self, job: Job, result: dict[str, Any]) -> Sequence[JobSpec]:  # noqa: ARG002  # the contract's shape
        """Nothing follows: one upload asks for everything."""
        return ()

    def read_callback(self, payload: Any) -> None:  # noqa: ARG002  # the contract's shape
        """Intron calls nobody back."""
        return


def _surely_not_taken(error: Unsettled) -> Retriable | None:
    """A 429 without a file id: the documented limit was passed, so the upload was not looked at."""
    if error.status != HTTPStatus.TOO_MANY_REQUESTS:
        return None
    return Retriable(error.message, code="throttled", status=error.status, context=error.context)


def to_notes(record: LandedRecord, settings: Settings) -> tuple[ScribeNote, ...] | Held:
    """Maps a landed result to its documents.

    Returns:
        One note a kind, in the order of `KINDS`; `Held` with `transcript_only` or `no_text` where there is none.

    Raises:
        ValidationError: The payload is not what `jobs` lands.
    """
    landed = LandedResult.model_validate(record.payload)
    data = landed.result.data
    documents = {kind: value for name, kind in KINDS.items() if has_words(value := getattr(data, name))}
    transcript = text_of(data.audio_transcript)
    if not documents:
        return Held("transcript_only" if has_words(transcript) else "no_text")
    visit = merged_visit(settings, NAME, record.visit)
    specialty = record.visit.specialty if record.visit else None
    state = NoteState.VALIDATED if settings.intron.reviewed else NoteState.DRAFT
    asked = landed.request.fields.get("use_language_asr_input")
    language = (record.visit.language if record.visit else None) or asked
    created_at = visit.ended_at or visit.started_at or record.fetched_at
    notes: list[ScribeNote] = []
    for kind, value in documents.items():
        template = "SOAP" if kind == "note" else None
        spoken = transcript if not notes else ""
        title, sections = titled(sections_of(value, soap=kind == "note"))
        if kind == "treatment_plan":
            sections = tuple(map(_prescribed, sections))
        notes.append(
            ScribeNote(
                note_id=stable_id(NAME, settings.account, landed.correlation_key, kind),
                provider=NAME,
                account=settings.account,
                stream=record.stream,
                source_id=record.source_id,
                kind=kind,
                state=state,
                version=content_hash([kind, value, spoken, template, state, language, visit, *if_known(specialty)]),
                language=language,
                template=template,
                specialty=specialty,
                title=title,
                sections=sections,
                transcript=turns(spoken),
                visit=visit,
                created_at=created_at,
                updated_at=created_at,
            )
        )
    return tuple(notes)


def _prescribed(section: NoteSection) -> NoteSection:
    """A section of a treatment plan: its medications are those to take, and have no key that says so."""
    key = None if section.key == "CURRENT_MEDICATIONS" else section.key
    return replace(section, key=key, sections=tuple(map(_prescribed, section.sections)))


def turns(transcript: str) -> tuple[TranscriptTurn, ...]:
    r"""A transcript as turns: `SPEAKER_01: words` begins one, and further lines belong to it; without any, one turn.

    >>> [(turn.speaker, turn.text) for turn in turns("\nSPEAKER_01: Hello.\nWell: two lines.\nSPEAKER_02: Yes.\n")]
    [('SPEAKER_01', 'Hello.\nWell: two lines.'), ('SPEAKER_02', 'Yes.')]
    """
    found: list[tuple[str | None, list[str]]] = [(None, [])]
    for line in transcript.splitlines():
        label, colon, words = line.partition(":")
        if colon and _is_speaker(label.strip()):
            found.append((label.strip().upper(), [words]))
        else:
            found[-1][1].append(line)
    spoken = ((speaker, "\n".join(line.strip() for line in lines).strip()) for speaker, lines in found)
    return tuple(TranscriptTurn(text, speaker=speaker) for speaker, text in spoken if text)


def _is_speaker(label: str) -> bool:
    name, _, number = label.upper().partition("_")
    return name == "SPEAKER" and number.isascii() and number.isdigit()
