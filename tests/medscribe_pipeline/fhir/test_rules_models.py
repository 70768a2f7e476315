"""What the models have passed before is spared them, and their verdicts stay what they were."""

from __future__ import annotations

import copy
import gc
import json
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.fhir import build_documents
from medscribe_pipeline.fhir.rules_models import MODEL_ERRORS, SeenElements
from medscribe_pipeline.fhir.rules_types import resource_table
from medscribe_pipeline.notes import Identifier, NoteSection, Practitioner, Visit
from tests.fhir_corpus import a_note
from tests.fhir_mutations import at, changed, changes, paths
from tests.fhir_options import options
from tests.fhir_samples import CANARY, SAMPLES, broken, sample

if TYPE_CHECKING:
    from pydantic import BaseModel

    from medscribe_pipeline.fhir.rules_types import Release, TypeTable
    from tests.fhir_mutations import Json

KINDS = ("Composition", "DocumentReference", "Provenance")
CODED = frozenset({"type", "category", "code", "coding", "meta", "security", "reason", "activity", "author", "who"})


def built(release: Release = "R4", **changes: Any) -> dict[str, Json]:
    return build_documents(a_note("one", "amended", **changes), options(release=release, profile="us")).resources()


def table_of(resource: Json, release: Release = "R4") -> TypeTable:
    table = resource_table(release, resource["resourceType"])
    assert table is not None
    return table


def passes(model: type[BaseModel], resource: Json) -> bool:
    try:
        model.model_validate(resource)
    except MODEL_ERRORS:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("release", ["R4", "R5"])
def test_the_verdict_is_that_of_the_model_alone(release: Release, kind: str) -> None:
    """Whatever is done in and around coded elements, with all that is right known beforehand and learning on."""
    resource, seen = built(release)[kind], SeenElements()
    table = table_of(resource, release)
    seen.within(resource, table)
    tried = [path for path in paths(resource) if CODED & set(path) and 1 not in path]
    verdicts = []
    for place, path in enumerate(tried):
        for value in list(changes(at(resource, path)))[place % 7 :: 7]:
            with changed(resource, path, value):
                alone = passes(table.model, resource)
                assert passes(table.model, seen.within(resource, table)) == alone, (path, repr(value)[:80])
                verdicts.append(alone)

    assert min(verdicts.count(True), verdicts.count(False)) > 20


def test_what_has_been_seen_is_put_to_the_model_as_such() -> None:
    seen = SeenElements()
    resource = built()["Composition"]
    table = table_of(resource)
    (first, again) = (seen.within(copy.deepcopy(resource), table) for _ in range(2))

    assert first["type"] is again["type"]
    assert first["section"][0]["code"] is again["section"][0]["code"]
    assert isinstance(first["section"][0]["text"], dict)


def test_a_coded_element_is_another_one_in_another_type_or_release() -> None:
    concept = {"coding": [{"system": "http://loinc.org", "code": "18776-5"}]}
    seen = SeenElements()
    resources: list[tuple[Release, Json]] = [(release, built(release)["Composition"]) for release in ("R4", "R5")]
    for release, resource in resources:
        resource["type"], resource["meta"] = concept, {"security": concept["coding"]}
        within = seen.within(resource, table_of(resource, release))
        assert passes(table_of(resource, release).model, within)
        # As it stands it is no label.
        resource["meta"] = concept
        assert not passes(table_of(resource, release).model, seen.within(resource, table_of(resource, release)))


def test_a_resource_is_looked_at_and_not_changed() -> None:
    seen = SeenElements()
    for resource in [*map(sample, SAMPLES), *built().values()]:
        before = json.dumps(resource)
        table = table_of(resource)
        for _ in range(2):
            assert passes(table.model, seen.within(resource, table))
        assert json.dumps(resource) == before


def test_what_is_kept_stays_as_it_was() -> None:
    seen = SeenElements()
    resource = built()["Provenance"]
    table = table_of(resource)
    kept = seen.within(resource, table)["reason"][0]
    for _ in range(3):
        table.model.model_validate(seen.within(resource, table))

    assert kept.model_dump() == resource["reason"][0]
    assert seen.within(resource, table)["reason"][0] is kept


def test_what_the_models_refuse_is_not_kept() -> None:
    """And is refused at its place, each time."""
    resource = built()["Composition"]
    seen = SeenElements()
    seen.within(resource, table_of(resource))
    known = len(seen)
    resource["type"] = {"coding": [{"code": ["x"]}]}

    for _ in range(2):
        assert not passes(table_of(resource).model, seen.within(resource, table_of(resource)))
        assert ("json", "type.coding.0.code") in broken(resource)

    assert len(seen) == known


def test_leaves_only_models_refuse_are_looked_at_each_time() -> None:
    resource = built()["Composition"] | {"date": "2025-02-30T09:00:00Z"}

    for _ in range(3):
        assert broken(resource) == {("model", "date")}


def test_nothing_of_people_or_what_they_said_is_kept() -> None:
    known = Identifier(f"https://example.org/{CANARY}", CANARY)
    visit = Visit(known, Practitioner((known,), (), CANARY), known)
    seen = SeenElements()
    for resource in built(visit=visit, sections=(NoteSection("PLAN", None, CANARY),), title=CANARY).values():
        assert CANARY in json.dumps(resource)
        seen.within(resource, table_of(resource))

    kept = [held for each in gc.get_referents(seen) if isinstance(each, dict) for held in each]

    assert len(kept) == len(seen) > 5
    assert CANARY not in repr(kept)


def test_the_memory_is_bounded() -> None:
    seen = SeenElements(most=10, longest=200)
    resource = built()["Composition"]
    sizes = []
    for number in range(40):
        resource["type"] = {"text": f"Synthetic {number}"}
        within = seen.within(resource, table_of(resource))
        assert passes(table_of(resource).model, within)
        sizes.append(len(seen))
    resource["type"] = {"text": "x" * 200}
    long = seen.within(resource, table_of(resource))["type"]

    assert max(sizes) == 10
    assert long is not seen.within(resource, table_of(resource))["type"]
