"""The check as a whole: both releases, what its error says, and that nothing at all makes it fall over."""

from __future__ import annotations

import copy
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.fhir import InvalidResource, check
from medscribe_pipeline.fhir.release5 import to_r5
from tests.fhir_samples import CANARY, SAMPLES, Json, broken, mutated, refusal, sample

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_valid_passes_unchanged(name: str) -> None:
    resource = sample(name)

    check(resource)

    assert resource == SAMPLES[name]


@pytest.mark.parametrize("kind", ["Observation", "Element", "Resource", "fhirtypes", None, 5, CANARY, ["Composition"]])
def test_other_resources_are_not_ours_to_check(kind: object) -> None:
    error = refusal(sample("Composition") | {"resourceType": kind})

    assert error.findings == (("resource-type", "resourceType"),)


def test_what_the_models_find_again_is_not_told_twice() -> None:
    assert broken({"resourceType": "Composition"}) == {
        ("required", name) for name in ("status", "type", "date", "author", "title")
    }


def test_names_that_are_no_element_names_are_not_repeated() -> None:
    error = refusal(sample("Composition") | {f"{CANARY} name": ""})

    assert error.field_paths == ("?",)


def test_paths_are_capped_but_findings_are_not() -> None:
    error = refusal(sample("Composition") | {"section": [{} for _ in range(50)]})

    assert len(error.field_paths) == 20
    assert len(error.findings) == 50


def test_the_error_names_rules_and_places() -> None:
    error = refusal(mutated(mutated(sample("Composition"), "title", CANARY + "\x00"), "status", CANARY))

    assert error.code == "code"
    assert error.context == {"rules": "code,string"}
    assert error.field_paths == ("status", "title")
    assert CANARY not in "".join(traceback.format_exception(error))


def test_a_resource_deeper_than_anybody_reads_is_refused() -> None:
    resource = sample("Composition")
    inner: Json = {"title": CANARY}
    for _ in range(2000):
        inner = {"section": [inner]}

    assert refusal(resource | {"section": [inner]}).code == "nesting"


def test_both_releases_in_turn() -> None:
    """Each release keeps its own tables and models, whichever came first."""
    r4 = {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}}
    r5 = {"resourceType": "Encounter", "status": "completed", "class": [{"coding": [{"code": "AMB"}]}]}

    for _ in range(3):
        check(r4, "R4")
        check(r5, "R5")
        assert broken(r4, "R5") == {("code", "status"), ("json", "class")}
        assert broken(r5, "R4") == {("code", "status"), ("json", "class")}


@pytest.mark.parametrize(
    ("path", "value", "rule", "where"),
    [
        ("content.0.attachment.size", "1", "attachment-size", "content.0.attachment.size"),
        ("content.0.attachment.size", 1, "json", "content.0.attachment.size"),
        ("content.0.attachment.size", "1.0", "integer64", "content.0.attachment.size"),
        ("content.0.attachment.size", str(2**63), "integer64", "content.0.attachment.size"),
        ("masterIdentifier", {"system": "urn:x:y", "value": "1"}, "element", "masterIdentifier"),
        ("docStatus", "corrected", None, ""),
        ("docStatus", CANARY, "code", "docStatus"),
        ("relatesTo", [{"code": "replaces", "target": {"display": "x"}}], "json", "relatesTo.0.code"),
        ("context", {"encounter": [{"reference": "Encounter/1"}]}, "json", "context"),
        ("context", [{"reference": "Patient/1"}], "reference-target", "context.0"),
    ],
)
def test_r5(path: str, value: object, rule: str | None, where: str) -> None:
    resource = {
        "resourceType": "DocumentReference",
        "status": "current",
        "content": [{"attachment": {"contentType": "text/plain", "data": "eHh4eA==", "size": "4"}}],
    }
    check(resource, "R5")

    changed = mutated(resource, path, value)

    if rule is None:
        check(changed, "R5")
    else:
        assert (rule, where) in broken(changed, "R5")


WRONG: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(allow_nan=True),
    st.sampled_from(["", " ", CANARY, f"{CANARY}\x00", f"#{CANARY}", f"urn:uuid:{CANARY}", "Patient/1", "2025-03-04"]),
    st.just([]),
    st.just({}),
    st.lists(st.sampled_from([CANARY, None, 5, {}, []]), max_size=2),
    st.dictionaries(st.sampled_from([CANARY, "id", "resourceType", "reference", "extension", "text"]),
                    st.sampled_from([CANARY, None, 5, {}, [], "Bundle"]), max_size=3),
)  # fmt: skip


def places(node: object) -> list[tuple[Any, Any]]:
    """Every container in a resource with each of its keys or indices."""
    listed = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    return [*((node, key) for key, _ in listed), *(place for _, child in listed for place in places(child))]


@st.composite
def damaged(draw: DrawFn, release: str) -> Json:
    """A sample with elements removed, doubled, or replaced by something else."""
    resource = sample(draw(st.sampled_from(sorted(SAMPLES))))
    if release == "R5":
        resource = copy.deepcopy(to_r5(resource))
    for _ in range(draw(st.integers(1, 4))):
        container, key = draw(st.sampled_from(places(resource)))
        action = draw(st.sampled_from(["remove", "double", "replace", "add", "move"]))
        if action == "remove":
            del container[key]
        elif action == "double" and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        elif action == "add" and isinstance(container, dict):
            container[draw(st.sampled_from([CANARY, "_status", "contained", "extension", "id"]))] = draw(WRONG)
        elif action == "move":
            other, place = draw(st.sampled_from(places(resource)))
            container[key] = copy.deepcopy(other[place])
        else:
            container[key] = draw(WRONG)
        if not resource:
            break
    return resource


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(["R4", "R5"]))
def test_no_damage_makes_the_check_fall_over(data: st.DataObject, release: Any) -> None:
    resource = data.draw(damaged(release))
    before = repr(resource)

    try:
        check(resource, release)
    except InvalidResource as error:
        shown = f"{error!s}{error!r}{vars(error)}{''.join(traceback.format_exception(error))}"
        assert CANARY not in shown

    assert repr(resource) == before


def test_importing_the_package_leaves_the_models_alone() -> None:
    code = "import sys, medscribe_pipeline.fhir; print(any(name.startswith('fhir.') for name in sys.modules))"

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout == "False\n"
