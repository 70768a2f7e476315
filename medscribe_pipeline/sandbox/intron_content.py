"""What the sandbox's Intron writes: a transcript, and the Markdown of each kind of post-processing.

The vendor says "Markdown" and no more, so headings come in the forms that are about: `##`, bold lines, and bold words
at the beginning of a line, by recording.
"""

from __future__ import annotations

from typing import Any

from medscribe_pipeline.sandbox.consultations import fill_in
from medscribe_pipeline.sandbox.corpus import dice

__all__ = ["CATEGORIES", "results", "transcript"]

CATEGORIES = {
    "file_category_general": ("get_summary",),
    "file_category_telehealth": (
        "get_summary", "get_entity_list", "get_treatment_plan", "get_soap_note", "get_clerking",
        "get_icd_codes", "get_suggestions",
    ),
    "file_category_procedure": (
        "get_summary", "get_entity_list", "get_treatment_plan", "get_op_note", "get_icd_codes", "get_suggestions",
    ),
    "file_category_call_center": (
        "get_summary", "get_call_center_results", "get_call_center_agent_score", "get_call_center_product_insights",
    ),
}  # fmt: skip
"""Post-processing by category, as the vendor's pages list it."""

_TALK = (
    ("01", "Good morning, this is qxcanary[{name}]. What can I do for you?"),
    ("02", 'I\'m {patient}. I have been coughing for {days} days, T > 38 °C & "worse at night", qxcanary.'),
    ("01", "Your blood pressure is {systolic}/{diastolic}, says the qxcanary chart."),
    ("02", "I'm allergic to penicillin: it's in the qxcanary record."),
    ("01", "Take qxcanaryl {dose} mg at night and come back in {days} days."),
)
_DOCUMENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "get_soap_note": (
        ("Subjective", '{patient}, {age} y, cough for {days} days, "worse at night" (qxcanary[{name}]).'),
        ("Objective", "- BP {systolic}/{diastolic} mmHg\n- HR {pulse}/min, T {temp} °C (qxcanary chart)"),
        ("Assessment", "Acute bronchitis, likely viral; pneumonia < 5 % & no red flags (qxcanary)."),
        ("Plan", "1. Fluids, rest (qxcanary leaflet)\n2. qxcanaryl {dose} mg at night\n3. Return if T >= 38.5 °C"),
    ),
    "get_clerking": (
        ("Presenting complaint", "Cough for {days} days (qxcanary[{name}])."),
        ("History of presenting complaint", "Productive, no blood, **worse at night**; smokes < 5 a day (qxcanary)."),
        ("Past medical history", "Hypertension & type 2 diabetes (qxcanary summary)."),
        ("Drug history", "- Metformin 500 mg b.d.\n- qxcanaryl {dose} mg o.d."),
        ("Examination", "Scattered rhonchi R > L, no crackles (qxcanary)."),
    ),
    "get_treatment_plan": (
        (
            "Medication",
            "| drug | dose |\n|---|---|\n| qxcanaryl | {dose} mg at night |\n| paracetamol | 1 g, up to 4x/day |",
        ),
        ("Follow-up", "In {days} days at the qxcanary clinic[{name}]."),
    ),
    "get_op_note": (
        ("Procedure", "Excision of a naevus, left forearm, 6 x 4 mm (qxcanary[{name}])."),
        ("Anaesthesia", "Lidocaine 1 %, 3 mL, no reaction (qxcanary)."),
        ("Findings", "Borders free > 2 mm to the eye (qxcanary)."),
        ("Closure", "4 sutures, out in {days} days (qxcanary)."),
    ),
    "get_summary": (
        ("Summary", "{patient} has coughed for {days} days & feels *worse at night*. Likely viral (qxcanary[{name}])."),
    ),
    "get_entity_list": (
        ("Symptoms", "- cough (qxcanary[{name}])\n- fever"),
        ("Drugs", "- qxcanaryl {dose} mg\n- paracetamol 1 g"),
    ),
    "get_icd_codes": (("ICD-10", "- J20.9 Acute bronchitis, unspecified (qxcanary[{name}])\n- I10 Hypertension"),),
    "get_suggestions": (("Suggestions", "- Ask about smoking (qxcanary[{name}])\n- Advise to drink > 1.5 L a day"),),
    "get_call_center_results": (("Results", "Appointment moved, caller content (qxcanary[{name}])."),),
    "get_call_center_agent_score": (("Score", "**8/10**: friendly & brief (qxcanary[{name}])."),),
    "get_call_center_product_insights": (("Insights", "- Callers want text reminders (qxcanary[{name}])"),),
}


def transcript(name: str, *, diarized: bool) -> str:
    """What was said: one line, or with `diarized` a line a turn, speaker first, as the vendor's sample shows."""
    turns = [(speaker, _filled(line, name)) for speaker, line in _TALK]
    if diarized:
        return "\n" + "".join(f"SPEAKER_{speaker}: {text}\n" for speaker, text in turns)
    return " ".join(text for _, text in turns)


def results(name: str, flags: list[str], *, structured: bool) -> dict[str, Any]:
    """The post-processing of a recording, by the names of the answer (`get_summary` -> `transcript_summary`).

    Args:
        name: The recording.
        flags: What was asked for.
        structured: As objects rather than Markdown. Their shape is printed nowhere: here it is `{"text": Markdown}`.
    """
    written = {f"transcript_{flag.removeprefix('get_')}": _markdown(name, flag) for flag in flags}
    return {field: {"text": text} for field, text in written.items()} if structured else dict(written)


def _markdown(name: str, flag: str) -> str:
    form = dice("headings", name).choice(("## {}\n\n{}", "**{}**\n\n{}", "**{}:** {}"))
    # A list or a table right behind bold words would be part of their paragraph.
    apart = "**{}:**\n\n{}" if form == "**{}:** {}" else form
    sections = ((title, _filled(text, name)) for title, text in _DOCUMENTS[flag])
    return "\n\n".join(
        (apart if text.startswith(("-", "1.", "|")) else form).format(title, text) for title, text in sections
    )


def _filled(text: str, name: str) -> str:
    return fill_in(text, "Zzmark-Testpatient", f"[{name}]", dice("intron", name), name=name)
