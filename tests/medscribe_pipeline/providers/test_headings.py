from __future__ import annotations

import re
import time
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.notes import NoteSection
from medscribe_pipeline.providers import headings
from medscribe_pipeline.providers.headings import split_sections
from medscribe_pipeline.providers.headings_file import fold, load_headings, shipped_headings

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY_NAMES = """
ALLERGIES APPOINTMENTS ASSESSMENT ASSESSMENT_AND_PLAN CARDIOVASCULAR_RISKS CHIEF_COMPLAINT CURRENT_MEDICATIONS
DIET_APPOINTMENTS DIET_CHIEF_COMPLAINT DIET_HABITS DIET_LIFESTYLE DIET_MEDICAL_HISTORY DIET_OBJECTIVES DIET_VITALS
FAMILY_HISTORY HISTORY_OF_PRESENT_ILLNESS IMAGING_RESULTS IMMUNIZATIONS LAB_RESULTS MENTAL_HEALTH_EXAM
MENTAL_HEALTH_HISTORY PAST_MEDICAL_HISTORY PAST_OBSTETRIC_HISTORY PAST_SURGICAL_HISTORY PHYSICAL_EXAM PLAN
PRESCRIPTION PSYCHOLOGY_HISTORY_OF_COMPLAINT SOAP_ASSESSMENT SOAP_OBJECTIVE SOAP_PLAN SOAP_SUBJECTIVE SOCIAL_HISTORY
VITALS WELL_CHILD_CARE
"""
# Headings of free text whose key no provider sends as such.
OTHER_KEYS = frozenset({"GOALS", "PATIENT_INSTRUCTIONS", "PROBLEM_LIST", "REVIEW_OF_SYSTEMS"})
KEYS = frozenset(KEY_NAMES.split()) | OTHER_KEYS

SMALL = """
lead_ins = ["following"]
[unkeyed]
en = ["Goals"]
fr = ["Buts"]
[PLAN]
en = ["Plan"]
fr = ["Plan", "Conduite à tenir"]
[SOAP_PLAN]
en = ["SOAP plan"]
fr = ["Plan SOAP"]
only_in_soap = ["P"]
replaces = "PLAN"
"""


def flat(text: str) -> list[tuple[str | None, str | None, str]]:
    return [(section.key, section.title, section.text) for section in split_sections(text)]


def keys(text: str) -> list[str | None]:
    return [section.key for section in split_sections(text)]


def depth_first(sections: Iterable[NoteSection]) -> list[NoteSection]:
    return [found for section in sections for found in (section, *depth_first(section.sections))]


# Which spellings, which key.


def test_the_shipped_file_covers_every_key_and_no_other() -> None:
    shipped = shipped_headings()
    assert {*shipped.known.values(), *shipped.only_in_soap.values()} - {None} == KEYS


@pytest.mark.parametrize(
    ("heading", "key"),
    [
        ("Chief complaint", "CHIEF_COMPLAINT"),
        ("CC", "CHIEF_COMPLAINT"),
        ("Motif de consultation", "CHIEF_COMPLAINT"),
        ("HPI", "HISTORY_OF_PRESENT_ILLNESS"),
        ("H.P.I.", "HISTORY_OF_PRESENT_ILLNESS"),
        ("History of Present Illness (HPI)", "HISTORY_OF_PRESENT_ILLNESS"),
        ("Histoire de la maladie", "HISTORY_OF_PRESENT_ILLNESS"),
        ("Antécédents médicaux", "PAST_MEDICAL_HISTORY"),
        ("ANTECEDENTS MEDICAUX", "PAST_MEDICAL_HISTORY"),
        ("ATCD chirurgicaux", "PAST_SURGICAL_HISTORY"),
        ("ATCD gynéco-obstétricaux", "PAST_OBSTETRIC_HISTORY"),
        ("Antécédents familiaux", "FAMILY_HISTORY"),
        ("Mode de vie", "SOCIAL_HISTORY"),
        ("allergies", "ALLERGIES"),
        ("Traitement en cours", "CURRENT_MEDICATIONS"),
        ("Vaccinations", "IMMUNIZATIONS"),
        ("Constantes", "VITALS"),
        ("Examen clinique", "PHYSICAL_EXAM"),
        ("Ex. clinique", "PHYSICAL_EXAM"),
        ("O/E", "PHYSICAL_EXAM"),
        ("À l’examen", "PHYSICAL_EXAM"),
        ("Biologie", "LAB_RESULTS"),
        ("Imagerie", "IMAGING_RESULTS"),
        ("Conclusion", "ASSESSMENT"),
        ("CAT", "PLAN"),
        ("Conduite à tenir", "PLAN"),
        ("Assessment & Plan", "ASSESSMENT_AND_PLAN"),
        ("A/P", "ASSESSMENT_AND_PLAN"),
        ("A&P", "ASSESSMENT_AND_PLAN"),
        ("Ordonnance", "PRESCRIPTION"),
        ("Prochain RDV", "APPOINTMENTS"),
        ("Follow up", "APPOINTMENTS"),
        ("Facteurs de risque cardio-vasculaire", "CARDIOVASCULAR_RISKS"),
        ("Habitudes alimentaires", "DIET_HABITS"),
        ("Subjective", "SOAP_SUBJECTIVE"),
        ("Review of systems", "REVIEW_OF_SYSTEMS"),
        ("Consignes", "PATIENT_INSTRUCTIONS"),
        ("Objectifs", "GOALS"),
        ("Consent", None),
        ("Traitement", None),  # current or prescribed: not ours to guess
    ],
)
def test_spelling_in_either_language(heading: str, key: str | None) -> None:
    assert flat(f"{heading}: qxtext") == [(key, heading, "qxtext")]


@pytest.mark.parametrize("word", ["PE", "VS", "S", "O", "A", "P", "Objectif", "Planning", "The plan", "Plans of"])
def test_ambiguous_or_other_words_before_a_colon_are_text(word: str) -> None:
    assert flat(f"{word}: qxtext") == [(None, None, f"{word}: qxtext")]


# Shapes.


@pytest.mark.parametrize(
    "shape",
    [
        "Plan:\nrest",
        "Plan : rest",
        "Plan\u00a0: rest",
        "Plan:rest",
        "# Plan\nrest",
        "###### Plan\nrest",
        "##Plan\nrest",
        "## Plan ##\nrest",
        "## Plan: rest",
        "## **Plan**\nrest",
        "**Plan**\nrest",
        "**Plan:**\nrest",
        "**Plan** :\nrest",
        "**Plan:** rest",
        "**Plan**: rest",
        "**Plan: rest**",
        "*Plan:* rest",
        "***Plan***\nrest",
        "__Plan__\nrest",
        "__Plan:__ rest",
        "Plan\n====\nrest",
        "Plan:\n----\nrest",
        "1. Plan\nrest",
        "1) Plan: rest",
        "2.1. Plan: rest",
        "IV. Plan: rest",
        "3 - Plan: rest",
        "3/ Plan : rest",
        "1. **Plan:** rest",
        "**1. Plan**\nrest",
        "## 1. Plan\nrest",
        "  Plan:\nrest",
        "\n\nPlan\nrest",
        "Plan\n\n\nrest\n\n",
        "Plan:\r\nrest\r\n",
        "Plan:\rrest",
    ],
)
def test_shape_of_a_known_heading(shape: str) -> None:
    assert flat(shape) == [("PLAN", "Plan", "rest")]


def test_capitals_alone_need_no_blank_line() -> None:
    assert flat("PLAN DE SOINS\nrest\nEXAMEN CLINIQUE\nqxtext") == [
        ("PLAN", "PLAN DE SOINS", "rest"),
        ("PHYSICAL_EXAM", "EXAMEN CLINIQUE", "qxtext"),
    ]


@pytest.mark.parametrize(
    "prose",
    [
        "They agreed to the\nPlan\nwe made.",
        "Plan for tomorrow is rest",
        "Plan.",
        "They came with the\nCAT\nscan.",
        "SHE AGREED TO THE\nEXAMINATION\nTODAY",
        "- Plan: rest",
        "* Plan: rest",
        "> Plan: rest",
        "• Plan",
        "1. Allergies\n2. Asthma",
        "The following problems were seen: knee",
        "#1 knee pain",
        "**Take care** of the knee",
        "*knee*",
        "Knee.\n\nWe agreed on the following:\n- rest",
        "knee at:\nrest",
        "##\n**\n:\n# #\n---",
    ],
)
def test_prose_and_lists_are_text(prose: str) -> None:
    assert flat(prose) == [(None, None, prose)]


@pytest.mark.parametrize(
    ("heading", "title"),
    [
        ("## Knee score", "Knee score"),
        ("# Dr. Nobody, qx ward", "Dr. Nobody, qx ward"),
        ("**Knee score**", "Knee score"),
        ("__Knee score:__", "Knee score"),
        ("**Problem 1: knee**", "Problem 1: knee"),
        ("Score du genou :", "Score du genou"),
        ("Knee score\n---", "Knee score"),
        ("## 2. Knee", "2. Knee"),
    ],
)
def test_unknown_heading_by_shape(heading: str, title: str) -> None:
    assert flat(f"qxbefore\n\n{heading}\nqxtext") == [(None, None, "qxbefore"), (None, title, "qxtext")]


def test_weaker_unknown_headings_are_nested_under_a_known_one() -> None:
    note = "## Assessment & Plan\n### 1. Knee\nrest\n### Cough\nfluids\n## Qx ward\nbed 2\n### Window\nopen"
    assert split_sections(note) == (
        NoteSection(
            "ASSESSMENT_AND_PLAN",
            "Assessment & Plan",
            "",
            (NoteSection(None, "1. Knee", "rest"), NoteSection(None, "Cough", "fluids")),
        ),
        NoteSection(None, "Qx ward", "bed 2"),
        NoteSection(None, "Window", "open"),
    )


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("# Plan\n**rest**\n## Knee\nstable", "markdown"),
        ("Plan:\n# 1 tablet, 2 * 3 * 4, <5\n- rest", "text"),
    ],
)
def test_texts_are_markdown_only_where_that_is_beyond_doubt(note: str, expected: str) -> None:
    assert {section.format for section in depth_first(split_sections(note))} == {expected}


# SOAP.


@pytest.mark.parametrize(
    "note",
    [
        "Subjective: a\nObjective: b\nAssessment: c\nPlan: d",
        "S: a\nO: b\nA: c\nP: d",
        "**S:** a\n**O:** b\n**A:** c\n**P:** d",
        "# S\na\n# O\nb\n# A\nc\n# P\nd",
        "Subjectif : a\nObjectif : b\nÉvaluation : c\nPlan : d",
        "S: a\nO: b\nAssessment: c\nPlan: d",
    ],
)
def test_soap_note(note: str) -> None:
    assert [(section.key, section.text) for section in split_sections(note)] == [
        ("SOAP_SUBJECTIVE", "a"),
        ("SOAP_OBJECTIVE", "b"),
        ("SOAP_ASSESSMENT", "c"),
        ("SOAP_PLAN", "d"),
    ]


def test_soap_by_problem_and_in_the_other_order() -> None:
    assert (
        keys("S: a\nO: b\nA: c\nP: d\nS: e\nO: f\nA: g\nP: h")
        == [
            "SOAP_SUBJECTIVE",
            "SOAP_OBJECTIVE",
            "SOAP_ASSESSMENT",
            "SOAP_PLAN",
        ]
        * 2
    )
    assert keys("A: c\nP: d\nS: a\nO: b") == ["SOAP_ASSESSMENT", "SOAP_PLAN", "SOAP_SUBJECTIVE", "SOAP_OBJECTIVE"]


def test_assessment_and_plan_without_soap() -> None:
    assert keys("Subjective: a\nAssessment: c\nPlan: d") == ["SOAP_SUBJECTIVE", "ASSESSMENT", "PLAN"]


def test_a_conversation_of_initials_is_no_soap_note() -> None:
    talk = "S: hello\nO: hello\nS: how are you\nO: fine\nA: next please"
    assert flat(talk) == [(None, None, talk)]


# What lies between.


def test_text_before_the_first_heading_and_inner_lines_are_kept() -> None:
    note = "\n qxward \n\nCC: knee\n\n  - left\n\n  - right\n\n\nPlan:\n\nAllergies: none"
    assert flat(note) == [
        (None, None, " qxward "),
        ("CHIEF_COMPLAINT", "CC", "knee\n\n  - left\n\n  - right"),
        ("PLAN", "Plan", ""),
        ("ALLERGIES", "Allergies", "none"),
    ]


@pytest.mark.parametrize("text", ["", " ", "\r\n \t\n\u2003\n"])
def test_nothing_gives_no_section(text: str) -> None:
    assert split_sections(text) == ()


MARKS = str.maketrans(dict.fromkeys("#*_:=-", " "))
BULLET = re.compile(r"[*_]\s")
ENUMERATOR = re.compile(r"\(?([0-9.]+|[IVX]+)[.)/°]*|–")


def assert_nothing_lost(text: str) -> None:
    """The words are the same in order, marks read as spaces, but for the enumerators of known headings."""
    sections = depth_first(split_sections(text))
    written = " ".join(part for section in sections for part in (section.title or "", section.text))
    kept = written.translate(MARKS).split()
    position, dropped = 0, []
    for word in text.translate(MARKS).split():
        if position < len(kept) and kept[position] == word:
            position += 1
        else:
            dropped.append(word)
    assert position == len(kept)
    assert all(ENUMERATOR.fullmatch(word) for word in dropped)
    # An enumerator and, at most, the dash after it.
    assert len(dropped) <= 2 * sum(section.title is not None for section in sections)


WORDS = """
Plan|PLAN|Assessment & Plan|Conduite à tenir|S|O|A|P|Subjective|Objectif|Objective|HPI (today)|Knee score
qxknee left|ROS|ATCD|Traitement|of the following|H.P.I.|é|1
"""
heading_words = st.sampled_from(re.split(r"[|\n]", WORDS.strip()))
marks = st.sampled_from(
    ["", "", "#", "## ", "**", "__", "***", "1. ", "1.", "II) ", "2 - ", "3 – ", "4-", "- ", "* ", "> "]
)
closing = st.sampled_from(
    ["", ":", " :", ":**", "**:", "**", "__", "__:", " ##", ".", "\n===", "\n---", ": rest", ":** rest **"]
)
heading_lines = st.tuples(marks, marks, heading_words, closing, closing).map("".join)
texts = st.lists(
    st.tuples(
        st.one_of(heading_lines, heading_lines, st.text(max_size=30)), st.sampled_from(["\n", "\n\n", "\r\n", "\r", ""])
    ),
    max_size=12,
).map(lambda lines: "".join(text + end for text, end in lines))


@settings(max_examples=400, deadline=None)
@given(texts)
@example("1. HPI (today)\n")
@example("2 - **HPI (today)**\n")
@example("1.**HPI (today):\n")
def test_no_word_is_lost_or_moved(text: str) -> None:
    assert_nothing_lost(text)


@settings(max_examples=300, deadline=None)
@given(texts)
@example("x\nIV. PLANNING A\n")
@example("x\nPlan\n===\n")
@example("Plan" + "_" * 80 + "\n")
@example(f"{'a' * 58}___:\nb\n")
def test_lines_not_looked_at_are_no_headings(text: str) -> None:
    found = split_sections(text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(headings, "_may_be_heading", lambda line, _previous, _following: not BULLET.match(line))
        assert split_sections(text) == found


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=150))
@example("Œ.É\u0301&ﬁ+İ")
@example("a" * 121)
def test_folding_is_of_each_character(heading: str) -> None:
    plain = heading.casefold()
    for written, meant in (("œ", "oe"), (".", ""), ("&", " and "), ("+", " and ")):
        plain = plain.replace(written, meant)
    letters = [letter for letter in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(letter)]
    expected = " ".join("".join(letter if letter.isalnum() else " " for letter in letters).split())
    assert fold(heading) == expected


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_arbitrary_unicode_passes(text: str) -> None:
    assert_nothing_lost(text)
    for section in depth_first(split_sections(text)):
        assert "\r" not in section.text
        assert section.title != ""


@pytest.mark.parametrize(
    "unit",
    [
        "x",
        " ",
        "\n",
        "#",
        "*",
        "_",
        "-",
        ":",
        "(",
        "1.",
        "* ",
        ": ",
        "a:\n",
        "**a",
        "## a\n",
        "Plan\n\n",
        "P\n\n",
        "**a**\n\n",
        "é\u0301",
        "Plan: rest\n",
        "((a) " * 20 + "\n",
        "**" * 70 + "\n",
        " #:" * 40 + "\n",
        "1.1." * 30 + "\n",
    ],
)
def test_a_megabyte_would_take_seconds_at_most(unit: str) -> None:
    """A quarter of one: what takes more than its share of time shows there, too."""
    text = unit * (250_000 // len(unit))
    began = time.process_time()
    sections = split_sections(text)
    assert time.process_time() - began < 10 / 4
    assert "".join(text.translate(MARKS).split()) == "".join(
        "".join(((section.title or "") + section.text).translate(MARKS).split()) for section in depth_first(sections)
    )


# The data file.


def test_a_small_file_loads() -> None:
    loaded = load_headings(SMALL)
    assert loaded.known["conduite a tenir"] == "PLAN"
    assert loaded.known["goals"] is None
    assert loaded.only_in_soap == {"p": "SOAP_PLAN"}
    assert loaded.replaced_in_soap == {"PLAN": "SOAP_PLAN"}


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ('en = ["Plan"]', 'en = ["Plan", "PLAN:"]', "PLAN.en.1"),
        ('en = ["Plan"]', 'en = ["Plan", "Buts"]', "PLAN.en.1"),
        ('en = ["Plan"]', 'en = ["Plan", "SOAP plan"]', "SOAP_PLAN.en.0"),
        ('en = ["Plan"]', 'en = ["&?"]\nxx = []', "PLAN.xx"),
        ('en = ["Plan"]', 'en = ["?!"]', "PLAN.en.0"),
        ('en = ["Plan"]', 'en = [""]', "PLAN.en.0"),
        ('en = ["Plan"]', "en = []", "PLAN.en"),
        ('en = ["Plan"]', "en = [1]", "PLAN.en.0"),
        ('en = ["Plan"]', "", "PLAN.en"),
        ("[PLAN]", "[plan]", "plan.[key]"),
        ('["P"]', '["Plan"]', "SOAP_PLAN.only_in_soap.0"),
        ('replaces = "PLAN"', 'replaces = "PLANS"', "SOAP_PLAN.replaces"),
        ('lead_ins = ["following"]', "", "lead_ins"),
    ],
)
def test_a_wrong_entry_is_named(old: str, new: str, path: str) -> None:
    assert old in SMALL
    with pytest.raises(ConfigError) as caught:
        load_headings(SMALL.replace(old, new))
    assert caught.value.code == "headings_file"
    assert path in caught.value.field_paths


def test_what_is_not_toml_is_said() -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_headings("[PLAN\n")
