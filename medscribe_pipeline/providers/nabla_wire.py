"""Nabla on the wire: what answers and callbacks look like, in every documented generation.

The generations differ in spelling more than in sense: `doctor` and `DOCTOR`, `speaker` and `speaker_type`, a result
at top level, under `payload` or in a webhook's `data`, a note nested under `note` or not. Reading accepts all of them
at once, whatever the configured version, because an account's webhooks may have another version than its requests.
The names of an error's fields are printed nowhere, so the usual ones are accepted.

Sources: the vendor's pages for `listen_async` (archived), `transcribe-async` and `generate-note(-async)` (2024-04-22,
2024-10-01), error handling and webhooks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from medscribe_pipeline.notes import NoteSection, TranscriptTurn
from medscribe_pipeline.providers.wire import Text, WireModel, source_id_of
from medscribe_pipeline.providers.work import Phase, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Heard",
    "LandedJob",
    "NoteWire",
    "ResultWire",
    "SectionWire",
    "TurnWire",
    "hear",
    "read_result",
    "to_section",
]

_STATES = {"ongoing": Phase.RUNNING, "failed": Phase.FAILED, "succeeded": Phase.DONE}
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FIRST_ERROR_STATUS = 400
_MAX_HOLDERS = 8
_LONGEST_MS = 2**63


def _whole_ms(value: Any) -> Any:
    if isinstance(value, float) and abs(value) > _LONGEST_MS:
        return None  # No time in any recording; the words are worth more than when they were said.
    return round(value) if isinstance(value, float) else value


OffsetMs = Annotated[int | None, BeforeValidator(_whole_ms)]


class TurnWire(WireModel):
    """An item of a transcript. The vendor's prose says `start_time_ms`, its schema `start_offset_ms`."""

    text: Text
    speaker: str | None = Field(None, validation_alias=AliasChoices("speaker_type", "speaker"))
    start_ms: OffsetMs = Field(None, validation_alias=AliasChoices("start_offset_ms", "start_time_ms"))
    end_ms: OffsetMs = Field(None, validation_alias=AliasChoices("end_offset_ms", "end_time_ms"))

    def to_turn(self) -> TranscriptTurn:
        """The turn as notes carry it."""
        return TranscriptTurn(self.text, (self.speaker or "").strip().lower() or None, self.start_ms, self.end_ms)


class SectionWire(WireModel):
    """A section of a note. Keys are an open set, in either case."""

    key: str | None = None
    title: str | None = None
    text: Text = ""


class NoteWire(WireModel):
    """A note."""

    title: str | None = None
    sections: list[SectionWire]


class ResultWire(WireModel):
    """What a finished job brought, out of whatever it was wrapped in."""

    transcript: list[TurnWire] | None = None
    note: NoteWire | None = None


class LandedJob(WireModel):
    """A result as the job ledger lands it."""

    correlation_key: str
    step: str
    request: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Heard:
    """What an answer or a callback says. `progress` is `None` when it is about nothing but ids."""

    vendor_job_id: str | None
    client_request_id: str | None
    progress: Progress | None


def hear(message: dict[str, Any], *, pushed: bool = False) -> Heard:
    """Reads an answer to a request, or what was pushed to us: a callback or a webhook.

    The status word decides where there is one. Without (the archived generation), a note means success; then an error
    code means failure, also beside a transcript; then a transcript means success. A text under `message` and nothing
    else is a complaint only when pushed: a receipt may hold a friendly one.
    """
    body = _unwrapped(message)
    ids = [found for name in ("request_id", "id") for part in _parts(body) if (found := source_id_of(part, name))]
    vendor_job_id = ids[0] if ids else None
    client_ids = [found for part in _parts(body) if (found := source_id_of(part, "client_request_id"))]
    phase = _phase(body, ("error", "error_message", *(("message",) if pushed else ())))
    progress = None
    if phase is not None:
        progress = Progress(
            phase,
            vendor_job_id,
            result=body if phase is Phase.DONE else None,
            code=_failure_code(body) if phase is Phase.FAILED else None,
        )
    return Heard(vendor_job_id, client_ids[0] if client_ids else None, progress)


def read_result(result: dict[str, Any]) -> ResultWire:
    """The transcript and the note of a finished job.

    Raises:
        pydantic.ValidationError: They are not what is documented.
    """
    body = _unwrapped(result)
    return ResultWire.model_validate({"transcript": _transcript(body), "note": _note(body)})


def _unwrapped(message: dict[str, Any]) -> dict[str, Any]:
    """The job out of a webhook's envelope `{id, type, created_at, data}`, whose own id is that of the event."""
    data = message.get("data")
    return data if isinstance(data, dict) and isinstance(message.get("type"), str) else message


def _parts(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The places a result or an error may be in, outermost first."""
    return islice(_walk(body), _MAX_HOLDERS)


def _walk(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    waiting = [body]
    for part in waiting:
        yield part
        waiting += [inner for name in ("payload", "data") if isinstance(inner := part.get(name), dict)]


def _transcript(body: dict[str, Any]) -> Any:
    names = ("transcript", "transcript_items")
    return next((part[name] for part in _parts(body) for name in names if part.get(name) is not None), None)


def _note(body: dict[str, Any]) -> Any:
    for part in _parts(body):
        if part.get("note") is not None:
            return part["note"]
        if part.get("sections") is not None:
            return part
    return None


def _phase(body: dict[str, Any], complaints: tuple[str, ...]) -> Phase | None:
    words = [word for part in _parts(body) if (word := _status_word(part.get("status")))]
    if words:
        return _STATES.get(words[0], Phase.UNRECOGNISED)
    if _note(body) is not None:
        return Phase.DONE
    # `0` and `200` are codes of success where there are any.
    if any(not code.isdigit() or int(code) >= _FIRST_ERROR_STATUS for code in _codes(body)):
        return Phase.FAILED
    if _transcript(body) is not None:
        return Phase.DONE
    complains = any(part.get(name) for part in _parts(body) for name in complaints)
    return Phase.FAILED if complains else None


def _status_word(value: Any) -> str | None:
    """A state; a number under the name `status` is an error code."""
    return value.strip().lower() if isinstance(value, str) and not value.strip().isdigit() else None


def _failure_code(body: dict[str, Any]) -> str:
    """Why it failed: the number, else the error's name. The message may quote the recording and is never read."""
    names = (code for place in _error_places(body) if (code := _token(place.get("name"))))
    return next(_codes(body), None) or next(names, None) or "failed"


def _codes(body: dict[str, Any]) -> Iterator[str]:
    for place in _error_places(body):
        for name in ("code", "status_code", "error_code", "status"):
            value = place.get(name)
            code = None if name == "status" and _status_word(value) else _token(value)
            if code:
                yield code


def _error_places(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Innermost first: a `code` beside the status may be that of the request, not of the failure."""
    for part in reversed(list(_parts(body))):
        if isinstance(error := part.get("error"), dict):
            yield error
        yield part


def _token(value: Any) -> str | None:
    """A code as text; text that is no single word is none, and is not shown."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value).strip()
    return text if _CODE.fullmatch(text) else None


_SPLIT_KEYS = frozenset({"HISTORY_OF_PRESENT_ILLNESS", "SOAP_SUBJECTIVE", "SUBJECTIVE"})
_LINE_END = re.compile(r"\r\n|\r|\n")


def to_section(wire: SectionWire, *, split: bool) -> NoteSection:
    """A section with its key in capitals, title and text as they came.

    Args:
        wire: The section.
        split: Subsections by problem were asked for. How the API marks them is not documented, so they become nested
            sections only where there is one way to read them: two headings or more (`# ...`), all of one level, each
            with a title and text below it. All else stays one text.
    """
    key = (wire.key or "").strip().upper() or None
    if split and key in _SPLIT_KEYS and (found := _by_problem(wire.text)):
        return NoteSection(key, wire.title, found[0], found[1])
    return NoteSection(key, wire.title, wire.text)


def _by_problem(text: str) -> tuple[str, tuple[NoteSection, ...]] | None:
    from markdown_it import MarkdownIt  # noqa: PLC0415  # slow to load, rarely needed

    lines = _LINE_END.split(text)
    tokens = MarkdownIt("commonmark").parse("\n".join(lines))
    headings = [
        (token.map[0], inline.content.strip(), token)
        for token, inline in pairwise(tokens)
        if token.type == "heading_open" and token.map
    ]
    # Setext headings are a line and a row of dashes: more often a separator than a heading.
    if not headings[1:] or len({(token.markup, token.level) for _, _, token in headings}) != 1:
        return None
    if headings[0][2].level or not headings[0][2].markup.startswith("#"):
        return None
    ends = [start for start, _, _ in headings[1:]] + [len(lines)]
    sections = tuple(
        NoteSection(None, title, "\n".join(lines[start + 1 : end]).strip("\n"))
        for (start, title, _), end in zip(headings, ends, strict=True)
    )
    if not all((section.title or "") and section.text.strip() for section in sections):
        return None
    return "\n".join(lines[: headings[0][0]]).strip("\n"), sections
