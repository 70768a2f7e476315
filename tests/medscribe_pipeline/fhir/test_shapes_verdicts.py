"""The proof of the check by shape: what it passes by itself, the strict check passes, whatever is done to a resource.

What it does not pass by itself it hands to the strict check, so no other half is needed: its verdict is then the
strict one. All shapes of a corpus are known beforehand, for the mistakes to look for are those of a warm memory.
"""

from __future__ import annotations

import base64
import copy
import hashlib
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.fhir import InvalidResource, build_documents, rules
from medscribe_pipeline.fhir.rules_elements import narrative_rule, parsed_narrative_rule
from medscribe_pipeline.fhir.shapes import Shapes, check_shape
from tests.fhir_corpus import corpus
from tests.fhir_mutations import VALUES, at, changed, changes, paths
from tests.fhir_options import options
from tests.fhir_samples import div

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.fhir.rules import Finding
    from medscribe_pipeline.fhir.rules_types import Release
    from tests.fhir_corpus import Case
    from tests.fhir_mutations import Json, Path

STRICT = rules.check
Known = dict[str, Shapes]


class Asked(Exception):
    """The strict check was asked, which these tests then ask themselves."""


def built(cases: list[Case]) -> Iterator[tuple[Release, str, Json]]:
    for case in cases:
        chosen = options(**case.build)
        for kind, resource in build_documents(case.note, chosen).resources().items():
            yield chosen.release, kind, resource


@pytest.fixture(scope="module")
def known() -> Known:
    """A memory of everything a part of the corpus holds."""
    known = {"R4": Shapes(), "R5": Shapes()}
    for release, _, resource in built(corpus()[::19]):
        check_shape(resource, release, known)
    return known


@pytest.fixture
def vouched(known: Known, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, Release], bool]:
    """Whether the check by shape passes a resource without asking the strict one; learns nothing by it."""

    def ask(*_: object) -> None:
        raise Asked

    monkeypatch.setattr(rules, "check", ask)

    def vouched(resource: Any, release: Release) -> bool:
        try:
            check_shape(resource, release, known)
        except Asked:
            return False
        return True

    return vouched


def findings(resource: Any, release: Release, check: Callable[[Any, Release], None] = STRICT) -> tuple[Finding, ...]:
    try:
        check(resource, release)
    except InvalidResource as error:
        return error.findings
    return ()


def by_kind() -> dict[str, tuple[Release, Json]]:
    """Of each kind and release the resource with the most elements, of those that are no trouble to walk often."""
    richest: dict[str, tuple[Release, Json]] = {}
    for release, kind, resource in built(corpus()[::19]):
        if kind == "Transcript":
            continue  # a DocumentReference with less in it
        name = f"{kind} {release}"
        before = richest.get(name)
        if len(list(paths(resource))) < 150 and (before is None or places(before[1]) < places(resource)):
            richest[name] = release, resource
    return richest


def places(resource: Json) -> int:
    return len({tuple("" if isinstance(part, int) else part for part in path) for path in paths(resource)})


RICHEST = by_kind()


def test_there_is_one_of_each_kind() -> None:
    assert sorted(RICHEST) == [
        f"{kind} {release}" for kind in ("Composition", "DocumentReference", "Provenance") for release in ("R4", "R5")
    ]


def once(resource: Json) -> Iterator[Path]:
    """The places of a resource, of those in lists that look alike the first."""
    seen: dict[tuple[str | int, ...], int] = {}
    for path in paths(resource):
        alike = tuple("" if isinstance(part, int) else part for part in path)
        seen[alike] = seen.get(alike, 0) + 1
        if seen[alike] == 1:
            yield path


@pytest.mark.parametrize("name", RICHEST)
def test_whatever_is_vouched_for_passes(name: str, vouched: Callable[[Any, Release], bool]) -> None:
    """Every place of a resource, everything that may stand there."""
    release, resource = RICHEST[name]
    assert vouched(resource, release)
    tried, passed = 0, 0

    for path in once(resource):
        for value in changes(at(resource, path)):
            tried += 1
            with changed(resource, path, value):
                if vouched(resource, release):
                    passed += 1
                    assert findings(resource, release) == (), (path, repr(value)[:80])

    assert tried > 4_000
    assert passed > 50


def test_whatever_is_done_in_several_places_the_verdict_is_the_strict_one(known: Known) -> None:
    """With a memory that learns from each: nothing that was passed in between lets anything else through."""

    @given(st.data())
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def holds(data: st.DataObject) -> None:
        release, good = RICHEST[data.draw(st.sampled_from(sorted(RICHEST)))]
        resource = copy.deepcopy(good)
        for _ in range(data.draw(st.integers(1, 4))):
            path = data.draw(st.sampled_from(list(paths(resource))))
            value = data.draw(st.sampled_from(list(changes(at(resource, path)))))
            at(resource, path[:-1])[path[-1]] = copy.deepcopy(value)

            found = findings(resource, release, lambda one, of: check_shape(one, of, known))

            assert found == findings(resource, release)

    holds()


def test_parts_of_several_notes_put_together(vouched: Callable[[Any, Release], bool]) -> None:
    """Parts of resources that are all known: mixed, they may still be wrong, and what is vouched for is right."""
    right = {kind: [one for release, each, one in built(corpus()[::320]) if (release, each) == ("R4", kind)]
             for kind in ("Composition", "DocumentReference", "Provenance")}  # fmt: skip
    passed = 0
    for ours in right.values():
        for one in ours:
            for other in ours:
                for name in other:
                    mixed = {**one, name: other[name]}
                    if vouched(mixed, "R4"):
                        passed += 1
                        assert findings(mixed, "R4") == (), name

    assert passed > 100


MOMENTS = st.datetimes(timezones=st.integers(-839, 839).map(lambda minutes: timezone(timedelta(minutes=minutes))))


@given(text=st.text(), title=st.text(min_size=1), div_text=st.text(), moment=MOMENTS.map(datetime.isoformat))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_texts_and_times_of_all_kinds(
    vouched: Callable[[Any, Release], bool],
    text: str,
    title: str,
    div_text: str,
    moment: str,
) -> None:
    release, good = RICHEST["Composition R4"]
    for path, value in (
        (("title",), title),
        (("identifier", "value"), text),
        (("date",), moment),
        (("date",), text),
        (("section", 0, "title"), text),
        (("section", 0, "text", "div"), div(f"<p>{div_text}</p>")),
        (("section", 0, "text", "div"), div(f"<ul>\n<li>{div_text}<br/>{text}</li>\n</ul>")),
    ):
        with changed(good, path, value):
            if vouched(good, release):
                assert findings(good, release) == (), path


MARKS = st.sampled_from(
    ["<p>", "</p>", "<ul>", "</ul>", "<li>", "</li>", "<br/>", "&amp;", "\n", " ", "\u00a0", ">", "]]"]
)
CHARACTERS = st.characters(exclude_characters="<&", exclude_categories=[])


@given(st.lists(MARKS | CHARACTERS, max_size=10).map(lambda parts: div("".join(parts))))
@settings(max_examples=300, deadline=None)
def test_a_narrative_seen_without_a_parser_is_one_to_a_parser(narrative: str) -> None:
    assert narrative_rule(narrative) == parsed_narrative_rule(narrative)


@pytest.mark.parametrize("value", [each for each in VALUES if isinstance(each, str)], ids=ascii)
def test_every_text_as_a_narrative(value: str) -> None:
    assert narrative_rule(value) == parsed_narrative_rule(value)


def attachment(content: bytes) -> Json:
    digest = hashlib.sha1(content, usedforsecurity=False).digest()
    return {"data": base64.b64encode(content).decode(), "size": len(content), "hash": base64.b64encode(digest).decode()}


@given(content=st.binary(min_size=1), other=st.binary(min_size=1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_attachment_agrees_with_itself(
    vouched: Callable[[Any, Release], bool], content: bytes, other: bytes
) -> None:
    assume(content != other)
    resource = copy.deepcopy(RICHEST["DocumentReference R4"][1])
    held = resource["content"][0]["attachment"]
    right, wrong = attachment(content), attachment(other)
    held.update(right)
    assert vouched(resource, "R4")

    for name in ("data", "hash"):
        with changed(resource, ("content", 0, "attachment", name), wrong[name]):
            assert not vouched(resource, "R4")


def test_an_attachment_of_nothing_is_none(vouched: Callable[[Any, Release], bool]) -> None:
    resource = copy.deepcopy(RICHEST["DocumentReference R4"][1])

    resource["content"][0]["attachment"].update(attachment(b""))

    assert not vouched(resource, "R4")


def test_an_id_stands_for_one_element(known: Known) -> None:
    """A section is known with its id, and so is a Composition of two: together they are wrong."""
    resource = copy.deepcopy(RICHEST["Composition R4"][1])
    section = next(each for each in resource["section"] if "code" in each)
    for holder in (section, section["code"], section["code"]["coding"][0]):
        holder["id"] = "synthetic"
        resource["section"] = [section]
        check_shape(resource, "R4", known)
        resource["section"] = [section, section]

        found = findings(resource, "R4", lambda one, of: check_shape(one, of, known))

        assert {each.rule for each in found} == {"element-id"}
        del holder["id"]


@pytest.mark.parametrize("nested", [False, True])
def test_a_section_with_an_id_in_it_is_not_known_apart(known: Known, nested: bool) -> None:
    """What stands beside it may have that id, in the same place or in another of the Composition."""
    resource = copy.deepcopy(RICHEST["Composition R4"][1])
    section = {"title": "Synthetic", "code": {"coding": [{"system": "urn:x:y", "code": "x", "id": "x"}], "text": "x"}}
    section["text"] = {"status": "additional", "div": div("<p>x</p>")}
    resource["section"] = [{"title": "Around", "section": [section]} if nested else section]
    check_shape(resource, "R4", known)

    for others in ({"section": resource["section"] * 2}, {"meta": {"security": [{"code": "x", "id": "x"}]}}):
        found = findings(resource | others, "R4", lambda one, of: check_shape(one, of, known))
        assert {each.rule for each in found} == {"element-id"}


def test_the_same_under_another_name_is_something_else(known: Known) -> None:
    resource = {key: value for key, value in RICHEST["DocumentReference R4"][1].items() if key != "language"}
    check_shape(resource, "R4", known)

    renamed = {"language" if key == "docStatus" else key: value for key, value in resource.items()}

    found = findings(renamed, "R4", lambda one, of: check_shape(one, of, known))
    assert [tuple(each) for each in found] == [("code", "language")]


def test_a_period_does_not_end_before_it_begins(vouched: Callable[[Any, Release], bool]) -> None:
    resource = copy.deepcopy(RICHEST["DocumentReference R4"][1])
    at = datetime(2025, 3, 4, 9, tzinfo=UTC)
    period = resource["context"]["period"]
    period.update(start=at.isoformat(), end=at.astimezone(timezone(timedelta(hours=-5))).isoformat())
    assert vouched(resource, "R4")

    period["end"] = "2025-03-04T09:59:59+01:00"

    assert not vouched(resource, "R4")


def test_nobody_acts_for_himself(known: Known) -> None:
    resource = copy.deepcopy(RICHEST["Provenance R4"][1])
    agent = next(each for each in resource["agent"] if "onBehalfOf" in each)
    agent["who"]["identifier"] = {"system": "https://example.org/sid/user", "value": "synthetic-1"}
    agent["onBehalfOf"]["identifier"] = {"system": "https://example.org/sid/user", "value": "synthetic-2"}
    check_shape(resource, "R4", known)

    agent["onBehalfOf"]["identifier"]["value"] = "synthetic-1"

    found = findings(resource, "R4", lambda one, of: check_shape(one, of, known))
    assert [each.rule for each in found] == ["prov-1"]


@pytest.mark.parametrize("length", [999, 1_000, 1_048_576, 1_048_577])
def test_a_text_is_as_long_as_fhir_lets_it(vouched: Callable[[Any, Release], bool], length: int) -> None:
    release, good = RICHEST["Composition R4"]

    with changed(good, ("title",), "x" * length):
        assert vouched(good, release) == (length <= 1_048_576)
