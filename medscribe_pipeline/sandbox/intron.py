"""The Intron API: a sound file, or its URL, to a transcript and documents in Markdown, on order.

Paths, fields and states are those of the vendor's pages for file upload and file status. There is no callback and no
list: a file id that is lost is lost. Uploads are read as they arrive and not kept.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from medscribe_pipeline.sandbox.fates import Fate, fates_of
from medscribe_pipeline.sandbox.intron_content import CATEGORIES, results, transcript
from medscribe_pipeline.sandbox.jobs import JobBook, Phase, fates_in
from medscribe_pipeline.sandbox.multipart import FormReader, MultipartError, boundary_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from medscribe_pipeline.sandbox.corpus import Record
    from medscribe_pipeline.sandbox.fates import JobOptions
    from medscribe_pipeline.sandbox.multipart import FilePart
    from medscribe_pipeline.sandbox.state import State
    from medscribe_pipeline.sandbox.stats import Stats
    from medscribe_pipeline.sandbox.world import World

__all__ = ["Intron", "IntronOptions"]

_NAMESPACE = uuid.UUID("6f0f2a3e-6f6e-5d1e-9d2b-0c53c0de0002")
_WINDOW_S = 60.0
_FORMATS = frozenset({".wav", ".mp3", ".mp4", ".m4a", ".ogg", ".webm", ".flac"})
_FLAGS = frozenset(flag for flags in CATEGORIES.values() for flag in flags)
_DEFAULT_CATEGORY = "file_category_telehealth"
_SWITCHES = frozenset({"TRUE", "FALSE"})
_TEXTS = frozenset(
    {"audio_file_name", "audio_file_url", "audio_file_blob", "use_category", "use_template_id",
     "use_language_asr_input", "use_language_data_extraction_output"}
)  # fmt: skip
_SWITCHED = frozenset({"use_diarization", "use_disable_llm_corrections"}) | _FLAGS
_ON_ITS_WAY = ("FILE_PROCESSING", "FILE_PENDING", "FILE_QUEUED")
_FAILED = {
    Fate.FAILED: "FILE_PROCESSING_FAILED",
    Fate.INVALID: "FILE_INVALID",
    Fate.OVERSIZED: "FILE_INVALID_SIZE",
    Fate.OVERLONG: "FILE_INVALID_DURATION",
    Fate.TIMEOUT: "FILE_PROCESSING_TIMEOUT",
    Fate.CANCELLED: "FILE_PROCESSING_CANCELLED",
}


@dataclass(frozen=True, slots=True)
class IntronOptions:
    """How this Intron behaves where the vendor leaves it open, and its credential.

    Attributes:
        token: The API key.
        status_calls_per_minute: Documented.
        uploads_per_minute: Two figures are about (30 and 60); `None` does not count them.
        max_file_bytes: Larger files are refused with 413.
        strict_fields: Answer 400 to fields and flags nobody documented, instead of ignoring them.
    """

    token: str = "sandbox-intron-key"  # noqa: S105 - known to everybody, good on loopback only
    status_calls_per_minute: int = 100
    uploads_per_minute: int | None = None
    max_file_bytes: int = 100_000_000
    strict_fields: bool = True


class _Refused(Exception):
    """A request that is not taken: HTTP status and a fixed text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Intron:
    """The API and its jobs.

    Args:
        world: Knows recordings by their content.
        options: Its behaviour.
        jobs: How long jobs take and what becomes of them.
        state: Where jobs are remembered.
        stats: Counts submissions.
        clock: Seconds since the epoch, for the limits by the minute.

    Attributes:
        book: The jobs.
        app: The ASGI application.
    """

    def __init__(
        self,
        world: World,
        options: IntronOptions,
        jobs: JobOptions,
        state: State,
        stats: Stats,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._world = world
        self._options = options
        self._stats = stats
        self.book = JobBook("intron", jobs, state)
        self._status_calls = _Minute(options.status_calls_per_minute, clock)
        self._uploads = _Minute(options.uploads_per_minute, clock)
        self.app = Starlette(
            routes=[
                Route("/file/v1/upload", self._guarded(self._upload), methods=["POST"]),
                Route("/file/v1/upload/sync", self._guarded(self._upload_sync), methods=["POST"]),
                Route("/file/v1/status/{id}", self._guarded(self._status)),
            ],
            exception_handlers={404: _not_found, 405: _method_not_allowed},
        )

    def _guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Lets only requests with the API key through, and answers what was refused in the vendor's envelope."""

        async def endpoint_if_authorized(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {self._options.token}":
                return _error(401, "invalid api key")
            try:
                return await endpoint(request)
            except _Refused as refused:
                return _error(refused.status, refused.message)

        return endpoint_if_authorized

    async def _upload(self, request: Request) -> Response:
        if wait_s := self._uploads.wait_s():
            return _error(429, "too many uploads", {"retry-after": str(wait_s)})
        job = await self._begin(request)
        fates = fates_in(job)
        status = 503 if Fate.BUSY in fates else 408 if Fate.WAITING in fates else 200
        return _ok("file queued for processing", {"file_id": job["id"]}, status)

    async def _upload_sync(self, request: Request) -> Response:
        """Waits for the result; where that would be long the file is queued, which the vendor tells by 503 or 408."""
        job = await self._begin(request)
        fates = fates_in(job)
        if Fate.WAITING in fates:
            return _ok("request timed out", {"file_id": job["id"]}, 408)
        if fates & {Fate.BUSY, Fate.SLOW, Fate.NEVER, Fate.UNRECOGNISED, Fate.GONE}:
            return _ok("file queued for processing", {"file_id": job["id"]}, 503)
        while job["left"] > 0:
            job = self.book.ask(job["id"]) or job
        return _ok("file status found", {**self._told(job, structured=False), "file_id": job["id"]})

    async def _status(self, request: Request) -> Response:
        if wait_s := self._status_calls.wait_s():
            return _error(429, "too many status calls", {"retry-after": str(wait_s)})
        wish = request.query_params.get("get_structured_post_processing", "f")
        if wish not in {"t", "f"}:
            raise _Refused(400, "get_structured_post_processing is t or f")
        job = self.book.ask(request.path_params["id"])
        if job is None:
            raise _Refused(404, "file not found")
        return _ok("file status found", self._told(job, structured=wish == "t"))

    def _told(self, job: Record, *, structured: bool) -> dict[str, Any]:
        """A job's state, and its results when it is done. No times, no patient and no id: there are none."""
        phase, data = self.book.phase(job, asked=True), {"audio_file_name": job["audio_file_name"]}
        if phase is Phase.UNRECOGNISED:
            return {"processing_status": "FILE_HIBERNATING", **data}
        if phase is Phase.FAILED:
            return {"processing_status": next(_FAILED[fate] for fate in _FAILED if fate in fates_in(job)), **data}
        if phase is not Phase.DONE:
            return {"processing_status": _ON_ITS_WAY[min(job["left"], len(_ON_ITS_WAY) - 1)], **data}
        return {
            "processing_status": "FILE_TRANSCRIBED",
            **data,
            "audio_transcript": transcript(job["name"], diarized=job["diarized"]),
            "processed_audio_duration_in_seconds": job["duration_s"],
            **results(job["name"], job["flags"], structured=structured),
        }

    async def _begin(self, request: Request) -> Record:
        form = await self._read(request)
        self._check(form)
        fields, file = form.fields, form.files.get("audio_file_blob")
        url = fields.get("audio_file_url") or fields.get("audio_file_blob") or ""
        names = self._names(file, url, fields["audio_file_name"])
        # The words may be in any of the names: clients give a recording another one of their own.
        telling = next((name for name in names if fates_of(name)), names[0])
        fates = fates_of(telling, self.book.options)
        self._stats.count_job("intron", "upload", names[0])
        category = fields.get("use_category", _DEFAULT_CATEGORY)
        return self.book.add(
            # As in the vendor's sample, the id looks like a UUID and is none.
            str(uuid.uuid5(_NAMESPACE, f"job/{len(self.book)}"))[:-2] + "fs",
            None,
            fates.hearing,
            name=names[0],
            audio_file_name=fields["audio_file_name"],
            diarized=fields.get("use_diarization") == "TRUE",
            flags=[flag for flag in CATEGORIES[category] if fields.get(flag) == "TRUE"],
            duration_s=20 if file is None else max(1, file.size // 8000),
        )

    def _names(self, file: FilePart | None, url: str, name: str) -> list[str]:
        """What a recording may be called by, the most telling first."""
        known = None if file is None else self._world.recording_of(file.digest.hexdigest())
        candidates = (
            "" if known is None else known["file"],
            unquote(urlsplit(url).path).lstrip("/"),
            "" if file is None else file.filename,
            name,
        )
        return [candidate for candidate in candidates if candidate]

    async def _read(self, request: Request) -> FormReader:
        boundary = boundary_of(request.headers.get("content-type", ""))
        if boundary is None:
            raise _Refused(400, "not a multipart form")
        form = FormReader(boundary)
        problem: str | None = None
        async for piece in request.stream():
            # To the end even when it is clear that it is wrong: a client that is still writing hears no answer.
            if problem is None:
                try:
                    form.feed(piece)
                except MultipartError as error:
                    problem = str(error)
        try:
            form.close()
        except MultipartError as error:
            problem = problem or str(error)
        if problem is not None:
            raise _Refused(400, problem)
        return form

    def _check(self, form: FormReader) -> None:
        fields, file = form.fields, form.files.get("audio_file_blob")
        if not fields.get("audio_file_name"):
            raise _Refused(400, "audio_file_name is required")
        url = fields.get("audio_file_url") or fields.get("audio_file_blob")
        if (file is None) == (url is None):
            raise _Refused(400, "either audio_file_blob or audio_file_url is required")
        if url is not None and not url.startswith(("https://", "http://")):
            raise _Refused(400, "audio_file_url is no url")
        if file is not None:
            self._check_file(file)
        category = fields.get("use_category", _DEFAULT_CATEGORY)
        if category not in CATEGORIES:
            raise _Refused(400, "unknown use_category")
        if any(fields[name] not in _SWITCHES for name in fields.keys() & _SWITCHED):
            raise _Refused(400, "a flag is neither TRUE nor FALSE")
        if self._options.strict_fields:
            wanted = {flag for flag in fields.keys() & _FLAGS if fields[flag] == "TRUE"}
            if fields.keys() - _TEXTS - _SWITCHED or wanted - set(CATEGORIES[category]):
                raise _Refused(400, "unknown field, or a flag of another category")

    def _check_file(self, file: FilePart) -> None:
        if file.size > self._options.max_file_bytes:
            raise _Refused(413, "the file is too large")
        if file.size == 0:
            raise _Refused(400, "the file is empty")
        if PurePosixPath(file.filename).suffix.lower() not in _FORMATS:
            raise _Refused(400, "the file is of a type that is not supported")


class _Minute:
    """Counts calls of the last minute against a limit."""

    def __init__(self, limit: int | None, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._calls: deque[float] = deque()

    def wait_s(self) -> int:
        """Counts a call and returns 0, or, where that would be too many, the whole seconds until one is free."""
        if self._limit is None:
            return 0
        now = self._clock()
        while self._calls and self._calls[0] <= now - _WINDOW_S:
            self._calls.popleft()
        if len(self._calls) < self._limit:
            self._calls.append(now)
            return 0
        return int(self._calls[0] + _WINDOW_S - now) + 1


def _ok(message: str, data: dict[str, Any], status: int = 200) -> Response:
    return _json({"status": "Ok", "message": message, "data": data}, status)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return _json({"status": "Error", "message": message, "data": {}}, status, headers)


def _json(content: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


async def _not_found(_request: Request, _cause: Exception) -> Response:
    return _error(404, "not found")


async def _method_not_allowed(_request: Request, _cause: Exception) -> Response:
    return _error(405, "method not allowed")
