"""What Intron's file API says and wants to hear: categories and their flags, processing states, envelopes.

Sources: the vendor's page *Transcribe with API: file upload*, and its *file status* page and newer host for what
came later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from medscribe_pipeline.errors import ConfigError, MedscribeError
from medscribe_pipeline.providers.wire import SourceId, WireModel
from medscribe_pipeline.providers.work import Phase, Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medscribe_pipeline.providers.records import ManifestVisit
    from medscribe_pipeline.settings import IntronSettings

__all__ = ["CATEGORIES", "STATES", "LandedResult", "check_flags", "file_id_of", "progress_of", "upload_fields"]

CATEGORY_PREFIX = "file_category_"


@dataclass(frozen=True, slots=True)
class Flags:
    """The `get_*` flags of a category, without the prefix.

    Attributes:
        documented: As old as the category: asked for unless a setting says otherwise.
        later: Seen in newer documentation only: sent when a setting asks for them, because an older host may refuse
            what it does not know. `answer` makes the service ignore the others.
    """

    documented: tuple[str, ...]
    later: tuple[str, ...] = ()


CATEGORIES: Mapping[str, Flags] = {
    "general": Flags(("summary",), ("answer",)),
    "telehealth": Flags(
        ("summary", "entity_list", "treatment_plan", "soap_note", "clerking"),
        (
            "icd_codes",
            "suggestions",
            "differential_diagnosis",
            "followup_instructions",
            "practice_guidelines",
            "answer",
        ),
    ),
    "procedure": Flags(
        ("summary", "entity_list", "treatment_plan", "op_note", "icd_codes", "suggestions"),
        ("answer",),
    ),
    "call_center": Flags(
        ("summary", "call_center_results", "call_center_agent_score", "call_center_product_insights"),
        (
            "call_center_agent_score_category",
            "call_center_product_info",
            "call_center_compliance",
            "call_center_feedback",
            "call_center_sentiment",
        ),
    ),
    "legal": Flags(("legal_court_hearing",)),
    "meeting_notes": Flags(
        (
            "summary",
            "meeting_notes_participants",
            "meeting_notes_decisions",
            "meeting_notes_action_items",
            "meeting_notes_key_topics",
            "meeting_notes_next_steps",
        ),
    ),
}
"""By the name of the category without its prefix. The last two came later; their results are data only."""

STATES: Mapping[str, Phase] = {
    "FILE_QUEUED": Phase.RUNNING,
    "FILE_PENDING": Phase.RUNNING,
    "FILE_PROCESSING": Phase.RUNNING,
    "FILE_TRANSCRIBED": Phase.DONE,
    "FILE_PROCESSING_FAILED": Phase.FAILED,
    "FILE_INVALID": Phase.FAILED,
    "FILE_INVALID_SIZE": Phase.FAILED,
    "FILE_INVALID_DURATION": Phase.FAILED,
    "FILE_PROCESSING_TIMEOUT": Phase.FAILED,
    "FILE_PROCESSING_CANCELLED": Phase.FAILED,
}
"""`processing_status`. Whether post-processing is complete with `FILE_TRANSCRIBED` is not stated; it is taken to be."""

_CODE_WORD = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:-.*)?")
MAX_ID = 255


def check_flags(settings: IntronSettings) -> None:
    """Refuses names in `post_processing` that no category has: a slip would otherwise lose documents unnoticed.

    Raises:
        ConfigError: Code `setting`.
    """
    known = {name for flags in CATEGORIES.values() for name in (*flags.documented, *flags.later)}
    if not known.issuperset(settings.post_processing or ()):
        raise ConfigError(
            "A name in the setting is no post-processing of Intron; write it without the prefix get_.",
            code="setting",
            context={"setting": "MEDSCRIBE_INTRON_POST_PROCESSING"},
        )


def upload_fields(visit: ManifestVisit, settings: IntronSettings) -> dict[str, str]:
    """The form fields of an upload but for file and name; the manifest wins over the settings.

    Raises:
        MedscribeError: Code `category` or `language`: the manifest names one that Intron has not.
    """
    category = (visit.category or settings.category).strip().lower().removeprefix(CATEGORY_PREFIX)
    flags = CATEGORIES.get(category)
    if flags is None:
        raise MedscribeError("The category is none of Intron's.", code="category", field_paths=("category",))
    # Codes are ISO 639 without region; nothing documents what becomes of a longer tag.
    language = _LANGUAGE.fullmatch(visit.language or settings.language)
    if language is None:
        raise MedscribeError("The language is no language tag.", code="language", field_paths=("language",))
    wanted = flags.documented if settings.post_processing is None else settings.post_processing
    fields = {
        "use_diarization": _flag(settings.diarization if visit.diarization is None else visit.diarization),
        "use_category": f"{CATEGORY_PREFIX}{category}",
        "use_language_asr_input": language[1].lower(),
    }
    fields |= {f"get_{name}": _flag(name in wanted) for name in flags.documented}
    fields |= {f"get_{name}": _flag(True) for name in flags.later if name in wanted}
    return fields


def _flag(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def _data(body: Any) -> Mapping[str, Any]:
    data = body.get("data") if isinstance(body, dict) else None
    return data if isinstance(data, dict) else {}


def file_id_of(body: Any) -> str | None:
    """The file id in an answer, whatever its status; ids are opaque (the vendor's own sample is no UUID)."""
    value = _data(body).get("file_id")
    usable = isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable() and value not in (".", "..")
    return value if usable else None


def refused(body: Any) -> bool:
    """Whether the envelope says that the request failed; `status` is a word there, not a number."""
    status = body.get("status") if isinstance(body, dict) else None
    return isinstance(status, str) and status.strip().lower() == "error"


def progress_of(body: Any) -> Progress:
    """What an answer says about a file.

    An envelope that says `Error` without a processing status is about the request, not the file: like a word we do
    not know, it is taken as running for a bounded time.
    """
    word = _data(body).get("processing_status")
    word = word.strip().upper() if isinstance(word, str) else ""
    phase = STATES.get(word, Phase.UNRECOGNISED)
    code: str | None = None
    if phase in (Phase.FAILED, Phase.UNRECOGNISED) and _CODE_WORD.fullmatch(word):
        code = word
    elif refused(body):
        code = "error"
    return Progress(phase, vendor_job_id=file_id_of(body), result=body if phase is Phase.DONE else None, code=code)


class ResultData(WireModel):
    """`data` of a status answer. What has no kind of note stays in the landed payload."""

    audio_transcript: Any = None
    transcript_soap_note: Any = None
    transcript_summary: Any = None
    transcript_clerking: Any = None
    transcript_treatment_plan: Any = None
    transcript_op_note: Any = None


class _Result(WireModel):
    data: ResultData


class _Request(WireModel):
    fields: dict[str, str] = Field(default_factory=dict)


class LandedResult(WireModel):
    """What lands when a job is done: our own frame around the provider's answer."""

    correlation_key: SourceId
    request: _Request
    result: _Result
