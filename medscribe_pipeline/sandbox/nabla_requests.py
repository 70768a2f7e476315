"""What Nabla's endpoints take, by generation: checked as strictly as the vendor's pages allow, so that typos show.

Up to 2024-04-22 values are in lower case and templates have their old names; from 2024-10-01 on they are in upper
case and renamed. `listen_async` exists in the archived generation only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from medscribe_pipeline.sandbox.nabla_content import ENGLISH_ONLY, NEW_TEMPLATES, TEMPLATES, recording_in

__all__ = ["ARCHIVED", "VERSIONS", "Order", "RequestError", "listen_order", "note_order", "transcribe_order"]

ARCHIVED = "archived"
VERSIONS = (ARCHIVED, "2024-04-22", "2024-10-01", "2025-04-03", "2025-05-07", "2026-02-20", "2026-06-12")
"""Generations, oldest first; all but the first are values of `X-Nabla-Api-Version`."""

RENAMED_IN = "2024-10-01"
KEYED_IN = "2026-02-20"
"""From then on a template is asked for as `note_template_key`."""

_MAX_ID = 128
_LANGUAGES = ("fr", "en", "en-US", "en-GB", "fr-FR", "es-ES", "es-MX")
_SPEECH_LOCALES = (
    "ENGLISH_US", "ENGLISH_UK", "SPANISH_ES", "SPANISH_MX", "FRENCH_FR", "ARABIC_EG", "ARABIC_LB", "ARABIC_MA",
    "ARABIC_SA", "ARMENIAN_AM", "BENGALI_IN", "CANTONESE_CN", "CROATIAN_HR", "FILIPINO_PH", "GERMAN_DE", "GREEK_GR",
    "GUJARATI_IN", "HEBREW_IL", "HINDI_IN", "ITALIAN_IT", "JAPANESE_JP", "KHMER_KH", "KOREAN_KR", "MANDARIN_CN",
    "PERSIAN_IR", "POLISH_PL", "PORTUGUESE_PT", "PUNJABI_IN", "RUSSIAN_RU", "SERBIAN_RS", "TAMIL_IN", "TELUGU_IN",
    "THAI_TH", "URDU_IN", "VIETNAMESE_VN",
)  # fmt: skip
_NOTE_LOCALES = {False: ("en-US", "en-GB", "fr-FR"), True: ("ENGLISH_US", "ENGLISH_UK", "FRENCH_FR")}
_SPEAKERS = ("doctor", "patient", "unspecified")
_OUTPUTS = ("transcript_item", "note")
_STYLES = ("auto", "paragraphs", "bullet_points")

_Check = Callable[[Any], bool]


class RequestError(Exception):
    """A body the API does not take. The message names the field only."""


@dataclass(frozen=True, slots=True)
class Order:
    """A request that was understood.

    Attributes:
        name: The recording: the path of its URL, or what the transcript says.
        language: BCP 47 or the vendor's own, lower case; it begins with the language.
        outputs: What is to be made: `transcript_item`, `note`.
        keys: Sections of the note.
        style: Of its sections.
        by_problem: Whether sections are divided by problem.
        by_sentence: Whether there is one transcript item a sentence.
    """

    name: str
    language: str
    outputs: tuple[str, ...]
    keys: tuple[str, ...] = ()
    style: str = "auto"
    by_problem: bool = False
    by_sentence: bool = False


def listen_order(body: Mapping[str, Any], *, strict: bool) -> Order:
    """Reads `POST listen_async`.

    Raises:
        RequestError: A field is missing, wrong or (when `strict`) unknown.
    """
    _fit(
        body,
        {
            "output_objects": lambda value: (
                isinstance(value, list) and bool(value) and set(map(str, value)) <= set(_OUTPUTS)
            ),
            "language": _LANGUAGES.__contains__,
            "file_url": _is_url,
            "callback_url": _is_url,
        },
        {
            "split_by_sentence": _is_bool,
            "split_by_problem": _is_bool,
            "section_style": _STYLES.__contains__,
            "note_template": TEMPLATES.__contains__,
            "client_request_id": _is_id,
        },
        strict=strict,
    )
    language, template = body["language"], body.get("note_template", "GENERAL_MEDICINE")
    if "note" in body["output_objects"]:
        # The vendor: notes in Spanish are not supported, merged templates are English only.
        _require(not language.startswith("es"), "language")
        _require(language.startswith("en") or template not in ENGLISH_ONLY, "note_template")
    return Order(
        name=_name_of(body["file_url"]),
        language=language,
        outputs=tuple(body["output_objects"]),
        keys=TEMPLATES[template],
        style=body.get("section_style", "auto"),
        by_problem=body.get("split_by_problem", False),
        by_sentence=body.get("split_by_sentence", False),
    )


def transcribe_order(body: Mapping[str, Any], *, strict: bool) -> Order:
    """Reads `POST transcribe-async`.

    Raises:
        RequestError: As `listen_order`.
    """
    _fit(
        body,
        {"speech_locale": _SPEECH_LOCALES.__contains__, "file_url": _is_url},
        {"split_by_sentence": _is_bool, "client_request_id": _is_id},
        strict=strict,
    )
    return Order(
        name=_name_of(body["file_url"]),
        language=body["speech_locale"].lower(),
        outputs=("transcript_item",),
        by_sentence=body.get("split_by_sentence", False),
    )


def note_order(body: Mapping[str, Any], version: str, *, strict: bool) -> Order:
    """Reads `POST generate-note-async`.

    Raises:
        RequestError: As `listen_order`.
    """
    is_new = version >= RENAMED_IN
    templates, template_field = NEW_TEMPLATES if is_new else TEMPLATES, _template_field(body, version)
    _fit(
        body,
        {
            "note_locale": _NOTE_LOCALES[is_new].__contains__,
            "transcript_items": lambda items: (
                isinstance(items, list) and bool(items) and all(_is_item(i, is_new) for i in items)
            ),
        },
        {
            template_field: lambda value: isinstance(value, str) and value in templates,
            "note_sections_customization": lambda value: isinstance(value, list) and all(map(_is_customization, value)),
            "structured_context": lambda value: isinstance(value, dict),
            "client_request_id": _is_id,
        },
        strict=strict,
    )
    default = "GENERIC_MULTIPLE_SECTIONS" if is_new else "GENERAL_MEDICINE"
    template, language = body.get(template_field, default), body["note_locale"].lower()
    _require(language.startswith("en") or template not in ENGLISH_ONLY, template_field)
    wishes = body.get("note_sections_customization", [])
    return Order(
        name=recording_in([item["text"] for item in body["transcript_items"]]),
        language=language,
        outputs=("note",),
        keys=templates[template],
        style=next((wish["style"] for wish in wishes if isinstance(wish.get("style"), str)), "auto"),
        by_problem=any(wish.get("split_by_problem") is True for wish in wishes),
    )


def _template_field(body: Mapping[str, Any], version: str) -> str:
    # The change of name is known from a client's code alone, so the old one is still good.
    return "note_template_key" if version >= KEYED_IN and "note_template" not in body else "note_template"


def _fit(
    body: Mapping[str, Any], required: Mapping[str, _Check], optional: Mapping[str, _Check], *, strict: bool
) -> None:
    for name, check in required.items():
        _require(name in body and check(body[name]), name)
    for name, check in optional.items():
        _require(name not in body or check(body[name]), name)
    if strict:
        for name in body.keys() - required.keys() - optional.keys():
            raise RequestError(name)


def _require(is_so: bool, name: str) -> None:
    if not is_so:
        raise RequestError(name)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://"))


def _is_item(item: Any, is_new: bool) -> bool:
    name = "speaker_type" if is_new else "speaker"
    speakers = [speaker.upper() for speaker in _SPEAKERS] if is_new else _SPEAKERS
    return isinstance(item, dict) and isinstance(item.get("text"), str) and item.get(name, speakers[0]) in speakers


def _is_customization(wish: Any) -> bool:
    return isinstance(wish, dict) and isinstance(wish.get("section_key"), str)


def _name_of(url: str) -> str:
    return unquote(urlsplit(url).path).lstrip("/")
