"""What the sandbox's Nabla hears and writes: transcripts, and notes by template, in both spellings of the vendor.

Which sections a template has is the vendor's table of note templates; rows the vendor's page does not show whole
(`DIET`, `PSYCHOLOGY`, the `_WCC` and `_EMERGENCY` ones) are filled from its list of section keys by elimination.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any

from medscribe_pipeline.sandbox.consultations import fill_in
from medscribe_pipeline.sandbox.corpus import dice

__all__ = ["ENGLISH_ONLY", "NEW_KEYS", "NEW_TEMPLATES", "TEMPLATES", "note", "recording_in", "transcript"]

_GENERAL = (
    "CHIEF_COMPLAINT", "HISTORY_OF_PRESENT_ILLNESS", "PAST_MEDICAL_HISTORY", "PAST_SURGICAL_HISTORY",
    "PAST_OBSTETRIC_HISTORY", "FAMILY_HISTORY", "SOCIAL_HISTORY", "ALLERGIES", "CURRENT_MEDICATIONS", "IMMUNIZATIONS",
    "VITALS", "LAB_RESULTS", "IMAGING_RESULTS", "PHYSICAL_EXAM", "ASSESSMENT", "PLAN", "PRESCRIPTION", "APPOINTMENTS",
)  # fmt: skip
_GENERAL_MERGED = (*_GENERAL[:14], "ASSESSMENT_AND_PLAN", *_GENERAL[16:])
_CARDIOLOGY = (
    "CHIEF_COMPLAINT", "HISTORY_OF_PRESENT_ILLNESS", "CARDIOVASCULAR_RISKS", "FAMILY_HISTORY", "ALLERGIES",
    "PAST_OBSTETRIC_HISTORY", "PAST_SURGICAL_HISTORY", "PAST_MEDICAL_HISTORY", "SOCIAL_HISTORY", "CURRENT_MEDICATIONS",
    "VITALS", "IMMUNIZATIONS", "PHYSICAL_EXAM", "LAB_RESULTS", "IMAGING_RESULTS", "ASSESSMENT", "PLAN", "PRESCRIPTION",
    "APPOINTMENTS",
)  # fmt: skip
_SOAP = ("SOAP_SUBJECTIVE", "SOAP_OBJECTIVE", "SOAP_ASSESSMENT", "SOAP_PLAN")

TEMPLATES = {
    "GENERAL_MEDICINE": _GENERAL,
    "GENERAL_MEDICINE_AP_MERGED": _GENERAL_MERGED,
    "CARDIOLOGY": _CARDIOLOGY,
    "PSYCHIATRY": (*(key for key in _CARDIOLOGY if key != "CARDIOVASCULAR_RISKS"), "MENTAL_HEALTH_EXAM"),
    "DIET": (
        "DIET_LIFESTYLE", "DIET_MEDICAL_HISTORY", "DIET_CHIEF_COMPLAINT", "DIET_VITALS", "DIET_HABITS",
        "DIET_OBJECTIVES", "DIET_APPOINTMENTS",
    ),
    "PSYCHOLOGY": ("PSYCHOLOGY_HISTORY_OF_COMPLAINT", "MENTAL_HEALTH_HISTORY", "ASSESSMENT", "PLAN"),
    "SOAP": _SOAP,
    "GENERAL_MEDICINE_WCC": (*_GENERAL, "WELL_CHILD_CARE"),
    "SOAP_WCC": (*_SOAP, "WELL_CHILD_CARE"),
    "GENERAL_MEDICINE_EMERGENCY": _GENERAL,
    "SOAP_EMERGENCY": _SOAP,
}  # fmt: skip
"""Sections by template, in the spelling up to 2024-04-22."""

NEW_KEYS = {
    "CARDIOVASCULAR_RISKS": "CARDIOVASCULAR_RISK_FACTORS",
    "DIET_APPOINTMENTS": "APPOINTMENTS",
    "DIET_CHIEF_COMPLAINT": "CHIEF_COMPLAINT",
    "DIET_HABITS": "FOOD_HABITS",
    "DIET_LIFESTYLE": "LIFESTYLE",
    "DIET_MEDICAL_HISTORY": "PAST_MEDICAL_HISTORY",
    "DIET_OBJECTIVES": "OBJECTIVES_AND_ADVICE",
    "DIET_VITALS": "VITALS",
    "PSYCHOLOGY_HISTORY_OF_COMPLAINT": "HISTORY_OF_PRESENT_COMPLAINT",
    "SOAP_SUBJECTIVE": "SUBJECTIVE",
    "SOAP_OBJECTIVE": "OBJECTIVE",
    "SOAP_ASSESSMENT": "ASSESSMENT",
    "SOAP_PLAN": "PLAN",
}
"""Keys that were renamed with 2024-10-01; the others kept their names."""

_NEW_NAMES = {
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
_NEWER_MERGED = tuple(NEW_KEYS.get(key, key) for key in _GENERAL_MERGED)

NEW_TEMPLATES = {
    **{_NEW_NAMES[name]: tuple(NEW_KEYS.get(key, key) for key in keys) for name, keys in TEMPLATES.items()},
    "GENERIC_MULTIPLE_SECTIONS_PLUS_ROS_AP_MERGED": (*_NEWER_MERGED[:2], "REVIEW_OF_SYSTEMS", *_NEWER_MERGED[2:]),
    "GENERIC_SOAP_AP_MERGED": ("SUBJECTIVE", "OBJECTIVE", "ASSESSMENT_AND_PLAN"),
    "GENERIC_SOAP_PLUS_EXAM_TESTS_AP_MERGED": (
        "SUBJECTIVE", "OBJECTIVE", "PHYSICAL_EXAM", "DIAGNOSTIC_TESTS_ORDERED", "ASSESSMENT_AND_PLAN",
    ),
    "GENERIC_APSO_AP_MERGED": ("ASSESSMENT_AND_PLAN", "SUBJECTIVE", "OBJECTIVE"),
}  # fmt: skip
"""Sections by template, in the spelling from 2024-10-01 on."""

ENGLISH_ONLY = frozenset(name for name in (*TEMPLATES, *NEW_TEMPLATES) if name.endswith("AP_MERGED"))
"""Templates that are refused for other languages."""

_BY_PROBLEM = frozenset({"HISTORY_OF_PRESENT_ILLNESS", "SOAP_SUBJECTIVE", "SUBJECTIVE"})
_RECORDING = re.compile(r"qxcanary\[([^\]]*)\]")
_TALK = {
    "en": (
        ("doctor", "Good morning, what brings you here? This is qxcanary[{name}]."),
        ("patient", "I'm {patient}. I have had a cough for {days} days, it's < 38 °C & \"worse at night\", qxcanary."),
        ("doctor", "Any allergies? I have qxcanary {systolic}/{diastolic} for your blood pressure."),
        ("patient", "Also, I'm allergic to penicillin, it's in the qxcanary record."),
        ("unspecified", "(a door closes, qxcanary)"),
        ("doctor", "Take qxcanaryl {dose} mg at night, and see us again in {days} days."),
    ),
    "fr": (
        ("doctor", "Bonjour, qu'est-ce qui vous amène ? Ici qxcanary[{name}]."),
        ("patient", "Je suis {patient}. Je tousse depuis {days} jours, « pire la nuit », qxcanary."),
        ("doctor", "Des allergies ? Je note {systolic}/{diastolic} dans qxcanary."),
        ("patient", "Je suis allergique à la pénicilline, c'est dans le dossier qxcanary."),
        ("doctor", "Prenez qxcanaryl {dose} mg le soir, et revenez dans {days} jours."),
    ),
}


def transcript(name: str, language: str, *, by_sentence: bool, forged: bool = False) -> list[dict[str, Any]]:
    """What was said in a recording: items with `text`, `speaker` (lower case) and offsets.

    Args:
        name: The recording; it is mentioned, so that `recording_in` knows a transcript that comes back.
        language: `en...` or `fr...`; others are heard as English.
        by_sentence: One item a sentence.
        forged: Somebody else's words under the recording's name.
    """
    rng = dice("transcript", name, language)
    items: list[dict[str, Any]] = []
    at_ms = rng.randrange(200, 2000)
    for speaker, line in _TALK.get(language[:2], _TALK["en"]):
        text = fill_in(line, "Zzmark-Forged" if forged else "Zzmark-Testpatient", f"[{name}]", dice(name), name=name)
        for piece in re.split(r"(?<=[.?!]) ", text) if by_sentence else [text]:
            end_ms = at_ms + 55 * len(piece)
            items.append({"text": piece, "speaker": speaker, "start_offset_ms": at_ms, "end_offset_ms": end_ms})
            at_ms = end_ms + rng.randrange(100, 900)
    return items


def recording_in(texts: list[str]) -> str:
    """The recording that a transcript is of; empty when it is none of the sandbox's."""
    return next((found[1] for text in texts if (found := _RECORDING.search(text))), "")


def note(
    name: str, language: str, keys: tuple[str, ...], *, style: str, by_problem: bool, forged: bool = False
) -> dict[str, Any]:
    """A note about a recording: `title` and `sections` of `key`, `title` and `text`.

    Args:
        name: The recording.
        language: `en...` or `fr...`.
        keys: The template's sections, in order.
        style: `bullet_points` makes lists, `paragraphs` does not; `auto` is a list where there is more than one line.
        by_problem: Divide the sections that can be divided into subsections with a heading each; English only.
        forged: Another note under the recording's name.
    """
    is_french = language.startswith("fr")
    sections = []
    for key in keys:
        words = _sections()[NEW_KEYS.get(key, key)]
        lines = [
            fill_in(line, "Zzmark-Testpatient", f"[{name}]", dice(name, key))
            for line in words["lignes" if is_french else "lines"]
        ]
        if forged:
            lines = ["Forged, qxcanary: nothing of this was said."]
        if by_problem and key in _BY_PROBLEM and not is_french:
            text = "\n\n".join(f"{n}. Problem {n} (qxcanary)\n- {line}" for n, line in enumerate(lines, start=1))
        elif style.lower().startswith("bullet") or (style.lower() == "auto" and len(lines) > 1):
            text = "\n".join(f"- {line}" for line in lines)
        else:
            text = " ".join(f"{line}." for line in lines)
        sections.append({"key": key, "title": words["fr" if is_french else "en"], "text": text})
    title = "Toux & fièvre" if is_french else "Cough & fever"
    return {"title": f"{title}, qxcanary[{name}]", "sections": sections}


@cache
def _sections() -> dict[str, dict[str, Any]]:
    content = resources.files(__package__ or "").joinpath("sections.toml").read_text(encoding="utf-8")
    return tomllib.loads(content)
