"""The page of a note: true to its resources, whole in itself, and deaf to whatever the text says."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir import build_documents, preview
from medscribe_pipeline.fhir.preview import preview_html
from medscribe_pipeline.fhir.synthetic import synthetic_note
from medscribe_pipeline.notes import Identifier, NoteSection, NoteState, Practitioner, TranscriptTurn, Visit
from tests.fhir_options import options

if TYPE_CHECKING:
    from medscribe_pipeline.notes import ScribeNote

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=https://evil.example/x onerror=x>&lt;&nbsp;]]>--><!--\x00\x1b[2J\u202e\ud83d"
)
HTML = "{http://www.w3.org/1999/xhtml}"
ALLOWED = re.compile(
    "html|head|meta|title|style|body|main|header|p|h[1-6]|strong|span|dl|dt|dd|br|article|section|div|ul|ol|li|code|pre"
    "|details|summary|table|thead|tbody|tr|th|td|em|b|i|blockquote|hr|caption|small|sub|sup"
)


def parsed(page: str) -> ET.Element:
    return ET.fromstring(page)  # noqa: S314 - our own page


def strange(root: ET.Element) -> set[str]:
    """Names of elements that have no place on the page."""
    return {name for each in root.iter() if not ALLOWED.fullmatch(name := each.tag.removeprefix(HTML))}


def words(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def body(page: str) -> str:
    found = parsed(page).find(f"{HTML}body")
    assert found is not None
    return words(found)


def opened(page: str) -> dict[str, str]:
    """Content of each details element by its summary."""
    return {
        words(each[0]): "".join(part for child in each[1:] for part in child.itertext())
        for each in parsed(page).iter(f"{HTML}details")
    }


def hostile_note() -> ScribeNote:
    evil = Identifier(HOSTILE, HOSTILE)
    return replace(
        synthetic_note(),
        title=HOSTILE,
        language=HOSTILE,
        template=HOSTILE,
        sections=(
            NoteSection(HOSTILE, HOSTILE, HOSTILE, (NoteSection(None, None, HOSTILE, format="markdown"),)),
            NoteSection(HOSTILE, HOSTILE, ""),
        ),
        transcript=(TranscriptTurn(HOSTILE, HOSTILE),),
        visit=Visit(evil, Practitioner((evil,), (), HOSTILE), evil),
    )


def test_the_page_shows_what_the_composition_says_in_its_order() -> None:
    note = synthetic_note()
    composition = build_documents(note, options()).composition

    shown = body(preview_html(note, options()))

    def said(sections: list[dict[str, Any]]) -> list[str]:
        found = []
        for section in sections:
            found += [section.get("title", "")]
            found += [words(parsed(section["text"]["div"]))] if "text" in section else []
            found += [coding["code"] for coding in section.get("code", {}).get("coding", [])]
            found += said(section.get("section", []))
        return found

    at = 0
    for part in [composition["title"], *said(composition["section"])]:
        at = shown.index(part, at)
    assert composition["date"] in shown
    assert composition["identifier"]["value"] in shown
    assert all(coding["code"] in shown for coding in composition["type"]["coding"])


def test_the_resources_are_those_that_are_built_byte_for_byte() -> None:
    note = synthetic_note()
    built = build_documents(note, options()).resources()

    found = opened(preview_html(note, options()))

    assert {name: json.loads(text) for name, text in found.items() if name.endswith("JSON")} == {
        f"{kind} as JSON": resource for kind, resource in built.items()
    }
    assert "Cough for <3 days & a little fever." in found["As plain text"]


@pytest.mark.parametrize(
    ("changes", "badge", "meaning"),
    [
        ({"state": NoteState.DRAFT, "attested": False}, "Draft", "no clinician has signed off"),
        ({}, "Final", "A clinician has validated it."),
        ({"attested": False}, "Final", "A setting of this pipeline counts it as reviewed"),
        ({"amends": "b" * 64}, "Amended", "replaces the version before"),
        ({"state": NoteState.RETRACTED}, "Entered in error", "Withdrawn at its source"),
        ({"state": NoteState.RETRACTED, "sections": ()}, "Entered in error", "Withdrawn at its source"),
    ],
    ids=["draft", "final", "by-setting", "amended", "retracted", "retracted-without-text"],
)
def test_each_state_has_a_badge_and_a_sentence(changes: dict[str, Any], badge: str, meaning: str) -> None:
    page = preview_html(replace(synthetic_note(), **changes), options())

    banner = next(each for each in parsed(page).iter(f"{HTML}p") if each.get("class") == "banner")
    assert banner[0].text == badge
    assert meaning in words(banner)


def test_a_failed_note_has_no_page() -> None:
    with pytest.raises(MedscribeError) as refused:
        preview_html(synthetic_note(NoteState.FAILED), options())

    assert refused.value.code == "not_buildable"


def test_what_the_mapping_makes_of_a_key_stands_beside_its_section() -> None:
    page = preview_html(synthetic_note(), options())

    sections = parsed(page).iter(f"{HTML}section")
    beside = [words(each) for section in sections for each in section.iter(f"{HTML}ul") if each.get("class") == "codes"]
    assert "LOINC 10154-3 says exactly this own CHIEF_COMPLAINT" in beside
    assert "LOINC 51898-5 LOINC is wider; the own code carries the meaning own CARDIOVASCULAR_RISKS" in beside
    assert "own VENDOR_NEWS unknown key kept as it came; the mapping has no row for it" in beside
    assert "no code: its source gave it no key" in beside


def test_sections_that_are_empty_are_named_as_left_out() -> None:
    assert "Left out, because they are empty: Physical examination." in body(preview_html(synthetic_note(), options()))


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    facts = next(parsed(preview_html(replace(synthetic_note(), visit=Visit()), options())).iter(f"{HTML}dl"))

    known = {term.text: words(value) for term, value in zip(facts[::2], facts[1::2], strict=True)}
    assert known["Patient"] == known["Encounter"] == "not known"
    assert "AIAST" in known["Labels"]


def test_both_releases_of_fhir_show_the_same_facts() -> None:
    r4, r5 = (
        next(parsed(preview_html(synthetic_note(), options(release=each))).iter(f"{HTML}dl")) for each in ("R4", "R5")
    )

    assert words(r5) == words(r4)


def test_the_sentence_about_delivery_is_the_callers() -> None:
    assert "Delivery Held: <because>." in body(preview_html(synthetic_note(), options(), delivery="Held: <because>."))
    assert "Delivery" not in body(preview_html(synthetic_note(), options()))


@pytest.mark.parametrize("setting", [False, True], ids=["without-document", "with-document"])
def test_what_was_said_is_shown_only_when_asked_for(setting: bool) -> None:
    chosen = options(transcripts=setting)

    without = preview_html(synthetic_note(), chosen)
    asked = preview_html(synthetic_note(), chosen, transcript=True)

    assert "Nothing, I am synthetic." not in without
    assert "Transcript" not in "".join(opened(without))
    assert "0:02patientNothing, I am synthetic." in opened(asked)["What was said: 2 turns"]
    assert ("Transcript as JSON" in opened(asked)) == (build_documents(synthetic_note(), chosen).transcript is not None)


def test_a_note_without_a_transcript_says_so_when_asked() -> None:
    page = preview_html(replace(synthetic_note(), transcript=()), options(), transcript=True)

    assert "Transcript There is none." in body(page)


def test_hostile_text_stays_text() -> None:
    page = preview_html(hostile_note(), options(), delivery=HOSTILE, transcript=True)

    root = parsed(page)
    assert strange(root) == set()
    assert "<script>alert(1)</script>" in words(root)
    names = {name for each in root.iter() for name in each.attrib}
    assert [name for name in names if name in {"src", "href", "style"} or name.startswith("on")] == []
    assert "\x1b" not in page
    assert "\x00" not in page


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=80), st.text(max_size=20), st.sampled_from(["text", "markdown"]))
def test_any_text_gives_a_page_that_is_well_formed(text: str, key: str, how: Any) -> None:
    section = NoteSection(key, text, f"x {text}", format=how)
    turn = TranscriptTurn(text, key)
    note = replace(synthetic_note(), title=text, sections=(section,), transcript=(turn,))

    page = preview_html(note, options(), delivery=text, transcript=True)

    assert strange(parsed(page)) == set()
    page.encode()
    composition = opened(page)["Composition as JSON"]
    assert json.loads(composition) == build_documents(note, options()).composition


def test_a_narrative_that_breaks_the_rules_is_shown_as_source(monkeypatch: pytest.MonkeyPatch) -> None:
    built = build_documents(synthetic_note(), options())
    built.composition["section"][0]["text"]["div"] = (
        '<div xmlns="http://www.w3.org/1999/xhtml"><b onclick="x">y</b></div>'
    )
    monkeypatch.setattr(preview, "build_documents", lambda *_: built)

    page = preview_html(synthetic_note(), options())

    assert 'not a narrative <div xmlns="http://www.w3.org/1999/xhtml"><b onclick="x">y</b></div>' in body(page)
    assert not [each for each in parsed(page).iter() if "onclick" in each.attrib]


def test_nothing_is_loaded_from_anywhere() -> None:
    page = preview_html(synthetic_note(), options(), transcript=True)

    root = parsed(page)
    policy = next(each.get("content") for each in root.iter(f"{HTML}meta") if each.get("http-equiv"))
    style = next(root.iter(f"{HTML}style")).text or ""
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"url\(|@import|http", style)
    assert not [each for each in root.iter() if each.tag.removeprefix(HTML) in {"script", "link", "img", "iframe", "a"}]
    assert not [name for each in root.iter() for name in each.attrib if name in {"src", "href", "srcset", "data"}]


def test_the_page_can_be_read_aloud_and_walked_through() -> None:
    root = parsed(preview_html(synthetic_note(), options(), transcript=True))

    levels = [int(each.tag[-1]) for each in root.iter() if re.fullmatch(HTML + "h[1-6]", each.tag)]
    anchors = [each.get("id") for each in root.iter() if each.get("id")]
    labels = [each.get("aria-labelledby") for each in root.iter() if each.get("aria-labelledby")]
    assert root.get("lang") == "en"
    assert next(root.iter(f"{HTML}article")).get("lang") == "en"
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(anchors) == len(set(anchors))
    assert set(labels) <= set(anchors)
    assert [each for each in root.iter(f"{HTML}details") if each[0].tag != f"{HTML}summary"] == []


def test_every_text_has_enough_contrast_in_light_and_in_dark() -> None:
    style = (resources.files("medscribe_pipeline.fhir") / "preview.css").read_text()
    pairs = [("ink", "paper"), ("quiet", "paper"), ("ink", "code")]
    pairs += [(f"{name}-ink", name) for name in ("draft", "final", "amended", "error")]

    schemes = [
        dict(re.findall(r"--([a-z-]+): #([0-9a-f]{3,6})\b", block))
        for block in re.findall(r"\{[^{]*--paper:[^}]*", style)
    ]

    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes:
        assert [pair for pair in pairs if contrast(scheme[pair[0]], scheme[pair[1]]) < 4.5] == []


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours as WCAG 2 defines it."""
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    shares = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_same_note_gives_the_same_page() -> None:
    assert preview_html(synthetic_note(), options()) == preview_html(synthetic_note(), options())
