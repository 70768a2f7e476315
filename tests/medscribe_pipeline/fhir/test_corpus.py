"""Over the whole corpus: every resource is valid, no word is lost or doubled, and the golden files are current."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.fhir import check, clean_text, default_mapping
from medscribe_pipeline.fhir.narrative import is_blank
from medscribe_pipeline.fhir.text import has_text, origin_line
from tests.fhir_corpus import Case, corpus, resources
from tests.golden_files import FOLDER, files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.notes import NoteSection

PARTS = 8
"""The corpus is looked at in so many parts, so that all processors have something to do."""

WORD = re.compile(r"\w+")


Built = list[tuple[Case, dict[str, dict[str, Any]]]]


@pytest.fixture(scope="module", params=range(PARTS), ids="part {}".format)
def part(request: pytest.FixtureRequest) -> Built:
    """A part of the corpus and what it is built into; all tests look at it before the next is built."""
    return [(case, resources(case)) for case in corpus()[request.param :: PARTS]]


def test_every_resource_of_the_corpus_keeps_every_rule(part: Built) -> None:
    for case, built in part:
        for kind, resource in built.items():
            try:
                check(resource, case.build.get("release", "R4"))
            except Exception as error:
                raise AssertionError(f"{kind} of {case.name}") from error


def source_words(sections: Sequence[NoteSection], language: str | None) -> Iterator[str]:
    """The words of a note's sections and their headings, read off the note."""
    for section in filter(has_text, sections):
        yield from WORD.findall(default_mapping().section_heading(section.key, section.title, language) or "")
        if not is_blank(section.text):
            yield from WORD.findall(clean_text(section.text))
        yield from source_words(section.sections, language)


def composition_words(sections: Sequence[dict[str, Any]]) -> Iterator[str]:
    for section in sections:
        yield from WORD.findall(section.get("title", ""))
        if "text" in section:
            for text in ET.fromstring(section["text"]["div"]).itertext():  # noqa: S314 - what we have made ourselves
                yield from WORD.findall(text)
        yield from composition_words(section.get("section", []))


def text_words(case: Case, built: dict[str, dict[str, Any]]) -> list[str] | None:
    """The words between title and origin line of the text form; `None` where there is none."""
    for content in built["DocumentReference"]["content"]:
        attachment = content["attachment"]
        if attachment["contentType"].startswith("text/plain"):
            text = base64.b64decode(attachment["data"]).decode()
            body = text.removeprefix(built["Composition"]["title"]).rstrip("\n").removesuffix(origin_line(case.note))
            assert len(body) < len(text) - len(origin_line(case.note))
            return WORD.findall(body)
    return None


def has_markdown(sections: Sequence[NoteSection]) -> bool:
    return any(section.format == "markdown" or has_markdown(section.sections) for section in sections)


def test_every_word_of_every_section_is_there_once_and_in_order(part: Built) -> None:
    looked_at = 0
    for case, built in part:
        # What Markdown's own marks come to is held by the tests of the narrative.
        if has_markdown(case.note.sections):
            continue
        expected = list(source_words(case.note.sections, case.note.language))
        assert list(composition_words(built["Composition"].get("section", []))) == expected, case.name
        found = text_words(case, built)
        if found is not None:
            assert found == expected, case.name
            looked_at += 1
    assert looked_at > 100


def test_golden_files_are_current() -> None:
    kept = {path.name: path.read_bytes() for path in FOLDER.glob("*.json")}
    wanted = files()

    assert sorted(kept) == sorted(wanted), "write them with `python -m tests.golden_files`"
    outdated = [name for name, content in wanted.items() if kept[name] != content]
    assert outdated == [], "look at what changed, then write them with `python -m tests.golden_files`"
