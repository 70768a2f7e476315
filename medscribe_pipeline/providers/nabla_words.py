"""Nabla's vocabulary: how each generation of the API names paths, languages, templates, styles and speakers.

The manifest and the settings may use any spelling; a request uses the one its generation documents. That old and new
names mean the same is inferred from the vendor's two lists, which agree item by item.

Sources: the vendor's pages of the generations named in `GENERATIONS`, its table of note templates, and for the
customisation of sections (2026) a public client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "GENERATIONS",
    "LISTEN_LANGUAGES",
    "Generation",
    "language_tag",
    "section_customisation",
    "section_style",
    "speech_locale",
    "template_name",
]

_FIRST_NOTE_LANGUAGES: Final = frozenset({"en-US", "en-GB", "fr-FR"})

LISTEN_LANGUAGES: Final = _FIRST_NOTE_LANGUAGES | {"es-ES", "es-MX"}
"""What `listen_async` transcribes. Its `en` and `fr` are deprecated and mean en-US and fr-FR."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How one generation of the API differs from the others.

    Attributes:
        prefix: Default path between base URL and endpoint.
        submit_path: Default path that takes a recording.
        renamed: Names of 2024-10-01: `speaker_type: DOCTOR`, `note_locale: ENGLISH_US`, `GENERIC_...` templates.
        note_languages: Languages notes are offered in; `None` for all that are transcribed.
        template_field: Name of the template in a request.
        customises: Sections can be given a style and be split by problem.
    """

    prefix: str = "/v1/core/server"
    submit_path: str = "/transcribe-async"
    renamed: bool = True
    note_languages: frozenset[str] | None = None
    template_field: str = "note_template"
    customises: bool = False


_COPILOT: Final = "/v1/copilot-api/server"
_LATEST: Final = Generation(template_field="note_template_key", customises=True)

GENERATIONS: Final = {
    "archived": Generation(_COPILOT, "/listen_async", renamed=False, note_languages=_FIRST_NOTE_LANGUAGES),
    "2024-04-22": Generation(_COPILOT, renamed=False, note_languages=_FIRST_NOTE_LANGUAGES),
    "2024-10-01": Generation(note_languages=_FIRST_NOTE_LANGUAGES),
    "2025-05-07": Generation(),
    "2026-02-20": _LATEST,
    "2026-06-12": _LATEST,
}
"""By `MEDSCRIBE_NABLA_API_VERSION`."""

_LOCALES: Final = {
    "en-US": "ENGLISH_US",
    "en-GB": "ENGLISH_UK",
    "es-ES": "SPANISH_ES",
    "es-MX": "SPANISH_MX",
    "fr-FR": "FRENCH_FR",
    "ar-EG": "ARABIC_EG",
    "ar-LB": "ARABIC_LB",
    "ar-MA": "ARABIC_MA",
    "ar-SA": "ARABIC_SA",
    "hy-AM": "ARMENIAN_AM",
    "bn-IN": "BENGALI_IN",
    "yue-CN": "CANTONESE_CN",
    "hr-HR": "CROATIAN_HR",
    "fil-PH": "FILIPINO_PH",
    "de-DE": "GERMAN_DE",
    "el-GR": "GREEK_GR",
    "gu-IN": "GUJARATI_IN",
    "he-IL": "HEBREW_IL",
    "hi-IN": "HINDI_IN",
    "it-IT": "ITALIAN_IT",
    "ja-JP": "JAPANESE_JP",
    "km-KH": "KHMER_KH",
    "ko-KR": "KOREAN_KR",
    "zh-CN": "MANDARIN_CN",
    "fa-IR": "PERSIAN_IR",
    "pl-PL": "POLISH_PL",
    "pt-PT": "PORTUGUESE_PT",
    "pa-IN": "PUNJABI_IN",
    "ru-RU": "RUSSIAN_RU",
    "sr-RS": "SERBIAN_RS",
    "ta-IN": "TAMIL_IN",
    "te-IN": "TELUGU_IN",
    "th-TH": "THAI_TH",
    "ur-IN": "URDU_IN",
    "vi-VN": "VIETNAMESE_VN",
}
_TAGS: Final = {locale: tag for tag, locale in _LOCALES.items()}
# Other subtags for the same language (IANA registry), and a country code people write by mistake.
_SUBTAGS: Final = {"cmn": "zh", "tl": "fil", "iw": "he", "UK": "GB"}
_SCRIPT_LENGTH: Final = 4


def language_tag(text: str) -> str | None:
    """A language, as BCP 47 tag or in Nabla's own spelling, as the tag of the variety Nabla knows; `None` for others.

    A language alone means its only variety, and for English and French the one the vendor says; where several are
    equal (`ar`, `es`) it is not guessed, and neither is another country's variety (`pt-BR`).

    >>> [language_tag(text) for text in ("en", "EN_gb", "FRENCH_FR", "zh-Hans-CN", "de", "es", "pt-BR")]
    ['en-US', 'en-GB', 'fr-FR', 'zh-CN', 'de-DE', None, None]
    """
    if tag := _TAGS.get(text.strip().upper()):
        return tag
    language, *others = text.strip().replace("_", "-").split("-")
    language = _SUBTAGS.get(language.lower(), language.lower())
    others = [other.upper() for other in others if not (len(other) == _SCRIPT_LENGTH and other.isalpha())]
    if others:
        tag = f"{language}-{_SUBTAGS.get(others[0], others[0])}"
        return tag if tag in _LOCALES else None
    varieties = [tag for tag in _LOCALES if tag.partition("-")[0] == language]
    if len(varieties) == 1 or language in ("en", "fr"):
        return varieties[0]
    return None


def speech_locale(tag: str) -> str:
    """Nabla's name of a language that `language_tag` gave."""
    return _LOCALES[tag]


_TEMPLATES: Final = {
    "GENERAL_MEDICINE": "GENERIC_MULTIPLE_SECTIONS",
    "GENERAL_MEDICINE_AP_MERGED": "GENERIC_MULTIPLE_SECTIONS_AP_MERGED",
    "SOAP": "GENERIC_SOAP",
    "CARDIOLOGY": "CARDIOLOGY_MULTIPLE_SECTIONS",
    "PSYCHIATRY": "PSYCHIATRY_MULTIPLE_SECTIONS",
    "DIET": "DIET_MULTIPLE_SECTIONS",
    "PSYCHOLOGY": "PSYCHOLOGY_MULTIPLE_SECTIONS",
    "GENERAL_MEDICINE_WCC": "WCC_MULTIPLE_SECTIONS",
    "SOAP_WCC": "WCC_SOAP",
    "GENERAL_MEDICINE_EMERGENCY": "EMERGENCY_MULTIPLE_SECTIONS",
    "SOAP_EMERGENCY": "EMERGENCY_SOAP",
}
_OLD_TEMPLATES: Final = {new: old for old, new in _TEMPLATES.items()}


def template_name(text: str, *, renamed: bool) -> str:
    """A template in the old or the renamed spelling. One in neither list is taken as it is: accounts have their own.

    >>> template_name("soap", renamed=True), template_name("GENERIC_SOAP", renamed=False)
    ('GENERIC_SOAP', 'SOAP')
    """
    name = text.strip()
    known, other = (_OLD_TEMPLATES, _TEMPLATES) if renamed else (_TEMPLATES, _OLD_TEMPLATES)
    if name.upper() in known:
        return name.upper()
    return other.get(name.upper(), name)


_STYLES: Final = {"auto": None, "paragraph": "PARAGRAPH", "paragraphs": "PARAGRAPH", "bullet_points": "BULLET_POINTS"}


def section_style(text: str) -> str | None:
    """A section style as `listen_async` spells it; `None` for one that is not documented.

    >>> section_style("PARAGRAPH"), section_style("bullet_points"), section_style("verse")
    ('paragraphs', 'bullet_points', None)
    """
    style = text.strip().lower()
    if style not in _STYLES:
        return None
    return "paragraphs" if style == "paragraph" else style


_GENERAL: Final = (
    "CHIEF_COMPLAINT",
    "HISTORY_OF_PRESENT_ILLNESS",
    "PAST_MEDICAL_HISTORY",
    "PAST_SURGICAL_HISTORY",
    "PAST_OBSTETRIC_HISTORY",
    "FAMILY_HISTORY",
    "SOCIAL_HISTORY",
    "ALLERGIES",
    "CURRENT_MEDICATIONS",
    "IMMUNIZATIONS",
    "VITALS",
    "LAB_RESULTS",
    "IMAGING_RESULTS",
    "PHYSICAL_EXAM",
)
_ENDING: Final = ("PRESCRIPTION", "APPOINTMENTS")
_APART: Final = (*_GENERAL, "ASSESSMENT", "PLAN", *_ENDING)
_MERGED: Final = (*_GENERAL, "ASSESSMENT_AND_PLAN", *_ENDING)

_TEMPLATE_SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "GENERIC_MULTIPLE_SECTIONS": _APART,
    "GENERIC_MULTIPLE_SECTIONS_AP_MERGED": _MERGED,
    "GENERIC_MULTIPLE_SECTIONS_PLUS_ROS_AP_MERGED": (*_MERGED, "REVIEW_OF_SYSTEMS"),
    "GENERIC_SOAP": ("SUBJECTIVE", "OBJECTIVE", "ASSESSMENT", "PLAN"),
    "GENERIC_SOAP_AP_MERGED": ("SUBJECTIVE", "OBJECTIVE", "ASSESSMENT_AND_PLAN"),
    "GENERIC_SOAP_PLUS_EXAM_TESTS_AP_MERGED": (
        "SUBJECTIVE",
        "OBJECTIVE",
        "PHYSICAL_EXAM",
        "DIAGNOSTIC_TESTS_ORDERED",
        "ASSESSMENT_AND_PLAN",
    ),
    "GENERIC_APSO_AP_MERGED": ("ASSESSMENT_AND_PLAN", "SUBJECTIVE", "OBJECTIVE"),
    "CARDIOLOGY_MULTIPLE_SECTIONS": (*_APART, "CARDIOVASCULAR_RISK_FACTORS"),
    "PSYCHIATRY_MULTIPLE_SECTIONS": (*_APART, "MENTAL_HEALTH_EXAM"),
}
_SPLIT: Final = ("HISTORY_OF_PRESENT_ILLNESS", "SUBJECTIVE")


def section_customisation(template: str, style: str, *, split: bool) -> list[dict[str, Any]]:
    """`note_sections_customization` for a template whose sections are documented; empty where nothing is to be said.

    Args:
        template: In the renamed spelling.
        style: As `section_style` gives it.
        split: Structure the sections that can be by problem.
    """
    entries: list[dict[str, Any]] = []
    for key in _TEMPLATE_SECTIONS.get(template, ()):
        entry: dict[str, Any] = {}
        if _STYLES[style]:
            entry["style"] = _STYLES[style]
        if split and key in _SPLIT:
            entry["split_by_problem"] = True
        if entry:
            entries.append({"section_key": key, **entry})
    return entries
