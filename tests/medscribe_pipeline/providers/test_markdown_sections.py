"""Markdown to sections: what is a heading and what is not, how headings nest, and that no word is lost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.providers.markdown_sections import split_markdown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.notes import NoteSection

WORD = re.compile(r"[^\W_]+")
Flat = list[tuple[str | None, str | None, str]]

SOAP = [
    ("SOAP_SUBJECTIVE", "Subjective", "Cough for 3 days."),
    ("SOAP_OBJECTIVE", "Objective", "T 38"),
    ("SOAP_ASSESSMENT", "Assessment", "Cold"),
    ("SOAP_PLAN", "Plan", "Rest"),
]


def flat(sections: Sequence[NoteSection]) -> Flat:
    """Only for sections without any nested."""
    assert all(section.sections == () for section in sections)
    return [(section.key, section.title, section.text) for section in sections]


def tree(sections: Sequence[NoteSection]) -> list[object]:
    """Key or title, text, and what is nested."""
    return [(section.key or section.title, section.text, *tree(section.sections)) for section in sections]


def words(sections: Sequence[NoteSection]) -> Iterator[str]:
    for section in sections:
        yield from WORD.findall(section.title or "")
        yield from WORD.findall(section.text)
        yield from words(section.sections)


@pytest.mark.parametrize(
    "text",
    [
        "## Subjective\nCough for 3 days.\n## Objective\nT 38\n## Assessment\nCold\n## Plan\nRest",
        "## **Subjective:** ##\nCough for 3 days.\n\n---\n\n## Objective:\nT 38\n***\n# Assessment\nCold\n# Plan\nRest",
        "Subjective\n==========\nCough for 3 days.\n\nObjective\n---\nT 38\n\nAssessment\n-\nCold\n\nPlan\n=\nRest",
        "**Subjective**\n\nCough for 3 days.\n\n__Objective:__\nT 38\n\n**Assessment**:\nCold\n\n***Plan***\n\nRest",
        "**Subjective:** Cough for 3 days.\n**Objective:** T 38\n**Assessment**: Cold\n**Plan** - Rest",
        "**Subjective:**Cough for 3 days.\n**Objective:**T 38\n**Assessment:**Cold\n**Plan:**Rest",
        "- **Subjective:** Cough for 3 days.\n- **Objective:** T 38\n- **Assessment:** Cold\n- **Plan:** Rest",
        "* **Subjective**\n  Cough for 3 days.\n* **Objective**\n  T 38\n* **Assessment**\n  Cold\n* **Plan**\n  Rest",
        "1. Subjective\n   Cough for 3 days.\n2. Objective\n   T 38\n3. Assessment\n   Cold\n4. Plan\n   Rest",
        "1. # Subjective\n   Cough for 3 days.\n2. # Objective\n   T 38\n3. # Assessment\n   Cold\n4. # Plan\n   Rest",
        "Subjective: Cough for 3 days.\nObjective: T 38\nAssessment: Cold\nPlan: Rest",
        "Subjective\nCough for 3 days.\n\nObjective\nT 38\n\nAssessment\nCold\n\nPlan\nRest",
        "SUBJECTIVE\r\nCough for 3 days.\r\nOBJECTIVE\r\nT 38\r\nASSESSMENT\r\nCold\r\nPLAN:\r\nRest",
        "```markdown\n# Subjective\nCough for 3 days.\n# Objective\nT 38\n# Assessment\nCold\n# Plan\nRest\n```\n",
    ],
)
@pytest.mark.parametrize("soap", [True, False])
def test_the_four_parts_are_found_in_every_shape(text: str, *, soap: bool) -> None:
    found = flat(split_markdown(text, soap=soap))

    assert [(key, (title or "").capitalize(), body) for key, title, body in found] == SOAP


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("S: a\n\nO: b\n\nA: c\n\nP: d", ["S", "O", "A", "P"]),
        ("**S**\na\n\n**O**\nb\n\n**A**\nc\n\n**P**\nd", ["S", "O", "A", "P"]),
        ("## S – Subjective\na\n## O – Objective\nb\n## A – Assessment\nc\n## P – Plan\nd", None),
        ("## 1. Subjective\na\n## 2. Objective\nb\n## 3. Assessment\nc\n## 4. Plan\nd", None),
        ("## Subjective (S)\na\n## Objective (O)\nb\n## Assessment (A)\nc\n## Plan (P)\nd", None),
        ("## Subjectif\na\n## Objectif\nb\n## Évaluation\nc\n## Conduite à tenir\nd", None),
    ],
)
def test_letters_numbers_and_french_stand_for_the_same_parts(text: str, titles: list[str] | None) -> None:
    found = flat(split_markdown(text))

    assert [(key, body) for key, _, body in found] == [
        (key, body) for (key, _, _), body in zip(SOAP, "abcd", strict=True)
    ]
    assert titles is None or [title for _, title, _ in found] == titles


def test_assessment_and_plan_of_a_soap_note_are_its_parts_even_alone() -> None:
    text = "## Assessment\nCold\n## Plan\nRest"

    assert [key for key, _, _ in flat(split_markdown(text, soap=True))] == ["SOAP_ASSESSMENT", "SOAP_PLAN"]
    assert [key for key, _, _ in flat(split_markdown(text))] == ["ASSESSMENT", "PLAN"]


def test_letters_are_no_headings_where_the_parts_are_written_out() -> None:
    text = "Subjective: tired\nObjective:\nT: 38\nP: 80\nAssessment: well"

    assert flat(split_markdown(text, soap=True)) == [
        ("SOAP_SUBJECTIVE", "Subjective", "tired"),
        ("SOAP_OBJECTIVE", "Objective", "T: 38\nP: 80"),
        ("SOAP_ASSESSMENT", "Assessment", "well"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        "- **Medications:** paracetamol\n- **Follow-up:** 2 weeks\n- Labs: CBC",
        "**Medications:** paracetamol\n**Follow-up:** 2 weeks",
        "Follow-up: 2 weeks\nAllergies: none",
        "1. Rest\n2. Fluids\n   - **Allergies:** none",
        "rest\nALLERGIES\nnone",
        "REST AT HOME\nDRINK ENOUGH\nALLERGIES\nNONE",
        "| Drug | Plan |\n|---|---|\n| **Plan** | 1 g |",
        "```\n# Plan\nAllergies: none\n```",
        "    # Plan",
        "> ## Plan\n> **Allergies:** none",
        "<div>\n# Plan\n</div>",
        "\\# Plan\n\\*\\*Plan\\*\\*",
        "`**Plan**`",
        "The plan: rest. **Plan** is to wait",
        "**Take with food.**",
        "**Do not drive**",
        "### No known allergies",
        "####### Plan",
        "#Plan",
        "Pain is better today.\n---\nStill limping.",
        "# " + "long " * 40,
    ],
)
def test_what_only_looks_like_a_heading_stays_text_as_it_was_written(body: str) -> None:
    found = flat(split_markdown(f"## Assessment and Plan\n\n{body}\n\n## Appointments\n\nmay"))

    assert found == [
        ("ASSESSMENT_AND_PLAN", "Assessment and Plan", body.strip("\n")),
        ("APPOINTMENTS", "Appointments", "may"),
    ]


def test_parts_of_a_soap_part_are_nested_in_it() -> None:
    text = (
        "## Subjective\ncough\n### Past Medical History\n- asthma\n### Social situation at home\nalone\n"
        "## Objective\n**Vitals**\nT 38\n\n**Knee**\n\nswollen\n"
        "## Plan\n### Medications\nparacetamol\n### Follow-up\n2 weeks"
    )

    assert tree(split_markdown(text)) == [
        ("SOAP_SUBJECTIVE", "cough", ("PAST_MEDICAL_HISTORY", "- asthma"), ("Social situation at home", "alone")),
        ("SOAP_OBJECTIVE", "", ("VITALS", "T 38"), ("Knee", "swollen")),
        # What a plan calls medications is not what the patient took before.
        ("SOAP_PLAN", "", ("Medications", "paracetamol"), ("APPOINTMENTS", "2 weeks")),
    ]


def test_each_problem_keeps_its_own_plan() -> None:
    text = (
        "## Assessment and Plan\n### Asthma\n#### Assessment\nstable\n#### Plan\ninhaler\n"
        "### Knee pain\n#### Plan\nrest\n## Follow-up\nmay"
    )

    assert tree(split_markdown(text)) == [
        (
            "ASSESSMENT_AND_PLAN",
            "",
            ("Asthma", "", ("ASSESSMENT", "stable"), ("PLAN", "inhaler")),
            ("Knee pain", "", ("PLAN", "rest")),
        ),
        ("APPOINTMENTS", "may"),
    ]


def test_the_parts_of_a_clerking_stand_beside_each_other_whatever_their_marks() -> None:
    text = (
        "# History\n## Presenting complaint\ncough\n## History of presenting complaint\n3 days\n### Onset\nsudden\n"
        "## Past medical history\nnone\n**Allergies:** penicillin\n\n# Examination\nchest clear"
    )

    assert tree(split_markdown(text)) == [
        ("HISTORY_OF_PRESENT_ILLNESS", ""),
        ("CHIEF_COMPLAINT", "cough"),
        ("HISTORY_OF_PRESENT_ILLNESS", "3 days", ("Onset", "sudden")),
        ("PAST_MEDICAL_HISTORY", "none"),
        ("ALLERGIES", "penicillin"),
        ("PHYSICAL_EXAM", "chest clear"),
    ]


def test_unknown_parts_among_known_ones_in_bold_are_parts_too() -> None:
    text = "**Procedure:** excision\n\n**Anaesthesia:** 1 %\n\n**Skin closure**: 4 sutures\n**BP:** 120\n\n**Note.** x"

    assert tree(split_markdown(text)) == [
        ("Procedure", "excision"),
        ("Anaesthesia", "1 %"),
        ("Skin closure", "4 sutures\n**BP:** 120\n\n**Note.** x"),
    ]


def test_in_a_soap_part_unknown_bold_words_are_text() -> None:
    text = "**Objective:** T 38\n\n**Knee:** swollen\n\n**Subjective:** tired"

    assert [(key, body) for key, _, body in flat(split_markdown(text))] == [
        ("SOAP_OBJECTIVE", "T 38\n\n**Knee:** swollen"),
        ("SOAP_SUBJECTIVE", "tired"),
    ]


def test_a_part_written_with_a_weaker_mark_is_a_part_all_the_same() -> None:
    text = "## Subjective\ncough\n\n**Objective:** T 38\n\n**Assessment:** cold\n\n**Plan:** rest"

    assert [key for key, _, _ in flat(split_markdown(text))] == [key for key, _, _ in SOAP]


def test_a_title_of_the_whole_holds_nothing_and_is_kept() -> None:
    text = "# Clinic of Testa\n## SOAP note\n### Subjective\ncough\n### Objective\nT 38"

    assert tree(split_markdown(text)) == [
        ("Clinic of Testa", ""),
        ("SOAP note", ""),
        ("SOAP_SUBJECTIVE", "cough"),
        ("SOAP_OBJECTIVE", "T 38"),
    ]


def test_what_is_said_of_a_side_stays_with_that_side() -> None:
    text = "# Left knee\n## Examination\nswollen\n# Right knee\n## Examination\nnormal"

    assert tree(split_markdown(text)) == [
        ("Left knee", "", ("PHYSICAL_EXAM", "swollen")),
        ("Right knee", "", ("PHYSICAL_EXAM", "normal")),
    ]


def test_text_without_headings_is_one_section() -> None:
    assert flat(split_markdown("Cough.\n\n- a\n- b\n")) == [(None, None, "Cough.\n\n- a\n- b")]
    assert flat(split_markdown("### No known allergies")) == [(None, None, "### No known allergies")]
    assert split_markdown(" \n\t\n") == ()


def test_in_a_text_of_capitals_they_set_nothing_apart() -> None:
    text = "**Advice**\n\nREST AT HOME\nALLERGIES\nNONE"

    assert flat(split_markdown(text)) == [(None, "Advice", "REST AT HOME\nALLERGIES\nNONE")]


def test_text_before_the_first_heading_is_kept() -> None:
    assert flat(split_markdown("Seen today.\n\n# Plan\nrest")) == [
        (None, None, "Seen today."),
        ("PLAN", "Plan", "rest"),
    ]


def test_a_list_item_gives_its_indent_back_and_no_more() -> None:
    text = (
        "1.  **Plan**\n\n    - rest\n      - at home\n\n    | a |\n    |---|\n\n2.  **Follow-up**\n    may\n\n  after"
    )

    assert flat(split_markdown(text)) == [
        ("PLAN", "Plan", "- rest\n  - at home\n\n| a |\n|---|"),
        ("APPOINTMENTS", "Follow-up", "may\n\n  after"),
    ]


def test_tables_lists_and_emphasis_stay_markdown() -> None:
    body = "| Drug | Dose |\n|---|---|\n| **A** | 1 |\n\n1. one\n   - *two*\n\n[link](https://example.org)"

    assert flat(split_markdown(f"# Plan\n\n{body}\n")) == [("PLAN", "Plan", body)]


HEADS = st.sampled_from(
    [
        "# {}", "## {}", "### {} ###", "#### **{}**", "**{}**", "**{}:** rest", "__{}:__ rest", "**{}: rest**",
        "**{}:**rest", "*{}* - rest", "- **{}:** rest", "- {}", "* {}: rest", "{}: rest", "{}", "{}\n---", "{}\n===",
        "> {}", "```\n{}\n```", "- ## {}", "  - {}", "\t{}", "| {} |\n|---|", "<b>{}</b>", "\\*{}\\*", "&amp; {}",
        "[{}]: /url", "`{}`", "**{}\nmore**", "***", "- - **{}:** rest", "> - {}: rest",
    ]
)  # fmt: skip
NAMES = st.sampled_from(
    ["Subjective", "Objective", "Assessment", "Plan", "S", "O", "A:", "P", "Medications", "Follow-up", "Left knee",
     "Vitals", "A & P", "Plan (P)", "Antécédents", "it hurts.", "a_b *c*", "", "History: of", "x" * 130]
)  # fmt: skip
BLOCKS = st.lists(st.tuples(HEADS, NAMES, st.sampled_from(["\n", "\n\n", "\r\n", "\n   "])), max_size=8)
ORDERED = re.compile(r"^\s*\d+[.)]")


@settings(max_examples=300, deadline=None)
@given(BLOCKS, st.booleans())
def test_no_word_is_lost_or_moved_in_what_models_write(blocks: list[tuple[str, str, str]], soap: bool) -> None:
    text = "".join(head.format(name) + end for head, name, end in blocks)

    assert list(words(split_markdown(text, soap=soap))) == WORD.findall(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab Plan:SO\n#*_-=>`|\\&;.\t[]()<\r\x0b\u2028", max_size=80))
@example("[S]: /url\n```\nPlan\n```")
def test_no_word_is_lost_or_moved_in_any_text(text: str) -> None:
    assert list(words(split_markdown(text, soap=True))) == WORD.findall(text)


@settings(max_examples=100, deadline=None)
@given(BLOCKS)
def test_nothing_visible_is_lost_but_marks(blocks: list[tuple[str, str, str]]) -> None:
    text = "".join(head.format(name) + end for head, name, end in blocks)

    def visible(sections: Sequence[NoteSection]) -> str:
        return "".join((s.title or "") + s.text + visible(s.sections) for s in sections)

    marks = str.maketrans("", "", "#*_:-=> \t\r\n`")
    assert visible(split_markdown(text)).translate(marks) == text.translate(marks)


def test_a_very_long_document_takes_its_time_and_no_more() -> None:
    text = "\n".join(f"- **Plan:** {number}\n# T{number}\n> a" for number in range(4000))

    assert list(words(split_markdown(text))) == WORD.findall(text)
