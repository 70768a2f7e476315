"""The memory of the check by shape, what is looked at when, and the setting that chooses the way of checking."""

from __future__ import annotations

import copy
import gc
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.fhir import BuildOptions, InvalidResource, build_documents, rules
from medscribe_pipeline.fhir.shapes import MOST_SHAPES, Shapes, check, check_shape
from medscribe_pipeline.notes import NoteSection
from medscribe_pipeline.pipeline import fingerprint
from medscribe_pipeline.settings import FhirSettings, Settings
from tests.fhir_corpus import LANGUAGES, STATES, a_note
from tests.fhir_options import options
from tests.fhir_samples import CANARY, SAMPLES, sample

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.rules_types import Release

Json = dict[str, Any]
Known = dict[str, Shapes]

CASES: tuple[dict[str, Any], ...] = (
    {},
    {"profile": "us", "transcripts": True},
    {"profile": "fr", "renderings": ("xhtml", "text")},
    {"release": "R5", "transcripts": True},
)


@pytest.fixture
def known() -> Known:
    return {"R4": Shapes(), "R5": Shapes()}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the strict check was asked, by resource type."""
    asked: Counter[str] = Counter()
    strict = rules.check

    def counted(resource: Json, release: Release = "R4") -> None:
        asked[resource["resourceType"]] += 1
        strict(resource, release)

    monkeypatch.setattr(rules, "check", counted)
    return asked


def composition(*texts: str, release: Release = "R4") -> Json:
    sections = tuple(NoteSection("PLAN", None, text) for text in texts)
    return build_documents(a_note("one", sections=sections), options(release=release)).resources()["Composition"]


@pytest.mark.parametrize("build", CASES, ids=str)
def test_a_shape_is_looked_at_once(asked: Counter[str], known: Known, build: dict[str, Any]) -> None:
    """Of everything that is built, in every state and language; the second time with other words and times."""
    chosen = options(**build)
    for once_more in (False, True):
        for state in STATES:
            for language in LANGUAGES:
                note = a_note(f"{once_more}", state, language=language, title=f"Synthetic {once_more}")
                if once_more:
                    asked.clear()
                    other = tuple(
                        replace(each, text=f"Words - of another day.\n\n{each.text}") for each in note.sections
                    )
                    note = replace(note, sections=other)
                for resource in build_documents(note, chosen).resources().values():
                    check_shape(resource, chosen.release, known)
                assert not (once_more and asked), (state, language)


def test_sections_are_known_one_by_one(asked: Counter[str], known: Known) -> None:
    check_shape(composition("One.", "- two"), "R4", known)

    check_shape(composition("Rest."), "R4", known)
    check_shape(composition("Rest.", "Tea.", "Sleep.", "Wait."), "R4", known)

    assert asked == {"Composition": 1}


def test_what_is_refused_is_not_remembered(known: Known) -> None:
    wrong = composition("One.") | {"status": "no-such-status"}

    for _ in range(2):
        with pytest.raises(InvalidResource) as caught:
            check_shape(wrong, "R4", known)
        assert caught.value.findings == (("code", "status"),)

    assert len(known["R4"]) == 0


def test_each_release_knows_its_own(known: Known) -> None:
    """What R4 has been found right in is nothing to R5."""
    (r4, r5) = composition("One."), composition("One.", release="R5")
    check_shape(r4, "R4", known)
    check_shape(r5, "R5", known)

    for resource, other in ((r4, "R5"), (r5, "R4")):
        with pytest.raises(InvalidResource):
            check_shape(resource, other, known)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SAMPLES)
def test_resources_of_other_makes(known: Known, name: str) -> None:
    """Written by hand, with elements and types that are not ours to build: right is right, each time."""
    for _ in range(2):
        check_shape(sample(name), "R4", known)


@pytest.mark.parametrize(
    "resource", [{}, {"resourceType": "Observation"}, {"resourceType": ["Composition"]}, {"resourceType": 5}]
)
def test_what_is_no_resource_of_ours_is_refused(known: Known, resource: Json) -> None:
    with pytest.raises(InvalidResource) as caught:
        check_shape(resource, "R4", known)

    assert caught.value.code == "resource-type"


@pytest.mark.parametrize("depth", [200, sys.getrecursionlimit() * 3])
def test_what_is_too_deep_is_refused(known: Known, depth: int) -> None:
    resource = composition("One.")
    inner: Json = {"title": CANARY}
    category: list[Any] = []
    for _ in range(depth):
        inner, category = {"section": [inner]}, [category]

    for name, value in (("section", [inner]), ("category", category)):
        with pytest.raises(InvalidResource) as strict:
            rules.check(resource | {name: value})
        with pytest.raises(InvalidResource) as caught:
            check_shape(resource | {name: value}, "R4", known)
        assert caught.value.findings == strict.value.findings


def test_nothing_is_kept_but_digests(known: Known) -> None:
    resource = composition(CANARY, CANARY) | {"title": CANARY, "unheard": CANARY}
    resource["subject"] = {"identifier": {"system": f"https://example.org/{CANARY}", "value": CANARY}}
    with pytest.raises(InvalidResource):
        check_shape(resource, "R4", known)
    del resource["unheard"]
    check_shape(resource, "R4", known)

    kept = [each for held in gc.get_referents(known["R4"]) if isinstance(held, set) for each in held]

    assert len(kept) == len(known["R4"]) == 2
    assert all(type(each) is bytes and len(each) == 16 for each in kept)


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "check", lambda *_: None)
    few = {"R4": Shapes(most=20)}
    sizes = []
    for number in range(100):
        resource = composition("One.", "Two.") | {"language": f"x-{number}"}
        check_shape(resource, "R4", few)
        sizes.append(len(few["R4"]))

    assert 15 < max(sizes) <= 20
    assert min(sizes) > 0
    assert MOST_SHAPES * 16 < 100_000
    many = composition(*(f"Step {number}" for number in range(30)))
    for number, section in enumerate(many["section"]):
        section["code"]["coding"][0]["code"] = f"c-{number}"
    check_shape(many, "R4", few)
    assert len(few["R4"]) <= 20


def test_threads_share_a_memory() -> None:
    few = {"R4": Shapes(most=9)}
    right = [composition("One.") | {"language": language} for language in ("en", "fr", "de", "it", "ja", "es")]
    wrong = [each | {"date": "2025-02-30T09:00:00Z"} for each in right]

    def verdict(resource: Json) -> bool:
        try:
            check_shape(copy.deepcopy(resource), "R4", few)
        except InvalidResource:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        verdicts = list(threads.map(verdict, [*right, *wrong] * 10))

    assert verdicts == ([True] * len(right) + [False] * len(wrong)) * 10
    assert len(few["R4"]) <= 9 + 4 * 2


def test_the_setting_chooses_the_way(asked: Counter[str]) -> None:
    resource = composition("One.")

    for _ in range(3):
        check(resource, "R4", "strict")
    strict = asked["Composition"]
    for _ in range(3):
        check(resource, "R4", "shape")

    assert strict == 3
    assert asked["Composition"] - strict <= 1


def test_the_setting_makes_nothing_due() -> None:
    ways = [Settings(fhir=FhirSettings(check=how)) for how in ("shape", "strict")]
    shape, strict = (BuildOptions.of(settings.fhir) for settings in ways)

    assert Settings().fhir.check == "shape"
    assert (shape.check, strict.check) == ("shape", "strict")
    assert shape.version == strict.version
    assert fingerprint(ways[0]) == fingerprint(ways[1])


@pytest.mark.parametrize("how", ["off", "none", "", "SHAPE"])
def test_a_check_cannot_be_switched_off(how: str) -> None:
    with pytest.raises(ValueError, match="check"):
        FhirSettings.model_validate({"check": how})
