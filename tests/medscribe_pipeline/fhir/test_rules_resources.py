"""Rules of whole resources: what is contained, what is bundled, what a profile adds."""

from __future__ import annotations

import pytest

from medscribe_pipeline.fhir import check
from tests.fhir_samples import CANARY, REMOVE, Json, broken, mutated, sample

AUTHOR = {"resourceType": "Practitioner", "id": "author", "name": [{"text": "Dr Synthetic"}]}


def containing(contained: object, reference: str) -> Json:
    return sample("Composition") | {"contained": contained, "author": [{"reference": reference}]}


def test_contained_resources_pass() -> None:
    back = {"resourceType": "PractitionerRole", "id": "back", "practitioner": {"reference": "#author"}}
    device = {"resourceType": "Device", "id": "device", "note": [{"text": "x", "authorReference": {"reference": "#"}}]}

    check(containing([AUTHOR], "#author"))
    check(containing([back, AUTHOR], "#back"))
    # Nobody refers to the device, and it refers to the whole: dom-3 allows either.
    check(containing([device, AUTHOR], "#author"))


@pytest.mark.parametrize(
    ("contained", "reference", "rule", "where"),
    [
        ([AUTHOR], "#other", "ref-1", "author.0.reference"),
        ([AUTHOR], "Practitioner/1", "dom-3", "contained.0"),
        ([AUTHOR | {"contained": [AUTHOR]}], "#author", "dom-2", "contained.0.contained"),
        ([AUTHOR | {"meta": {"versionId": "1"}}], "#author", "dom-4", "contained.0.meta"),
        ([AUTHOR | {"meta": {"security": [{"code": "R"}]}}], "#author", "dom-5", "contained.0.meta.security"),
        ([AUTHOR, AUTHOR], "#author", "contained-id", "contained.1"),
        ([AUTHOR | {"gender": CANARY}], "#author", "code", "contained.0.gender"),
        ([{"resourceType": "Location", "id": "author"}], "#author", "resource-type", "contained.0.resourceType"),
        ([{"resourceType": "Encounter", "id": "author", "status": "unknown", "class": {"code": "AMB"}}], "#author",
         "reference-target", "author.0"),
        ([], "Practitioner/1", "ele-1", "contained"),
        (AUTHOR, "Practitioner/1", "json", "contained"),
        ([AUTHOR, CANARY], "#author", "json", "contained.1"),
    ],
)  # fmt: skip
def test_contained_resources(contained: object, reference: str, rule: str, where: str) -> None:
    found = broken(containing(contained, reference))

    assert (rule, where) in found
    # What nobody refers to rightly is also unused, and a type we refuse is no target we accept.
    assert {each for each, _ in found} - {"dom-3", "reference-target"} <= {rule}


PATIENT_URL = "https://example.org/fhir/Patient/1"
PRACTITIONER_URL = "urn:uuid:00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("path", "value", "rule", "where"),
    [
        ("identifier.system", REMOVE, "bdl-9", "identifier"),
        ("identifier", REMOVE, "bdl-9", "identifier"),
        ("timestamp", REMOVE, "bdl-10", "timestamp"),
        ("timestamp", "2025-03-04", "instant", "timestamp"),
        ("total", 5, "bdl-1", "total"),
        ("entry.1.search", {"mode": "match"}, "bdl-2", "entry.1"),
        ("entry.1.request", {"method": "PUT", "url": "Patient/1"}, "bdl-3", "entry.1"),
        ("entry.1.response", {"status": "200"}, "bdl-4", "entry.1"),
        ("entry.1.fullUrl", REMOVE, "bdl-15", "entry.1.fullUrl"),
        ("entry.1.fullUrl", "Patient/1", "absolute-uri", "entry.1.fullUrl"),
        ("entry.1.fullUrl", "https://example.org/fhir/Patient/2", "fullUrl-id", "entry.1.fullUrl"),
        ("entry.4.fullUrl", PATIENT_URL, "bdl-7", "entry.4"),
        ("entry.4.fullUrl", f"{PRACTITIONER_URL}/_history/1", "uri", "entry.4.fullUrl"),
        ("entry.4.resource.gender", CANARY, "code", "entry.4.resource.gender"),
        ("entry.0.resource.subject.reference", "Patient/2", "bundle-reference", "entry.0.resource.subject.reference"),
        ("entry.0.resource.subject.reference", "https://example.com/Patient/1", "bundle-reference",
         "entry.0.resource.subject.reference"),
        ("entry.0.resource.custodian.reference", PRACTITIONER_URL, "reference-target", "entry.0.resource.custodian"),
        ("entry.2.resource.subject.reference", "urn:uuid:00000000-0000-4000-8000-00000000000f", "bundle-reference",
         "entry.2.resource.subject.reference"),
    ],
)  # fmt: skip
def test_document(path: str, value: object, rule: str, where: str) -> None:
    assert (rule, where) in broken(mutated(sample("document"), path, value))


def test_a_document_starts_with_its_composition() -> None:
    document = sample("document")

    assert ("bdl-11", "entry.0") in broken(document | {"entry": document["entry"][::-1]})
    assert ("bdl-11", "entry.0") in broken({name: document[name] for name in document if name != "entry"})


def test_only_the_composition_may_not_leave_the_document() -> None:
    check(mutated(sample("document"), "entry.2.resource.subject.reference", "https://example.com/Patient/1"))


@pytest.mark.parametrize(
    ("path", "value", "rule", "where"),
    [
        ("type", CANARY, "code", "type"),
        ("type", REMOVE, "required", "type"),
        ("entry.0.request", REMOVE, "bdl-3", "entry.0"),
        ("entry.0", {"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000009"}, "bdl-5", "entry.0"),
        ("entry.1.fullUrl", "urn:uuid:00000000-0000-4000-8000-000000000001", "bdl-7", "entry.1"),
        ("entry.0.fullUrl", "https://example.org/Composition/1/_history/2", "bdl-8", "entry.0.fullUrl"),
        ("entry.0.request.method", CANARY, "code", "entry.0.request.method"),
        ("entry.0.request.url", REMOVE, "required", "entry.0.request.url"),
        ("entry.1.request", {"method": "PUT", "url": "Composition?identifier=urn:x%7C1"}, "transaction-identity",
         "entry.1"),
        ("entry.0.resource.subject.reference", "urn:uuid:00000000-0000-4000-8000-00000000000f", "bundle-reference",
         "entry.0.resource.subject.reference"),
        ("entry.0.resource.subject", {"reference": "urn:uuid:00000000-0000-4000-8000-000000000002"}, None, ""),
        ("entry.0.resource.section.0", {"title": CANARY}, "cmp-1", "entry.0.resource.section.0"),
        ("entry.1.resource.author.0.reference", "#gone", "ref-1", "entry.1.resource.author.0.reference"),
        ("entry.0.resource.resourceType", "Canary", "resource-type", "entry.0.resource.resourceType"),
        ("entry.0.resource.resourceType", 5, "resource-type", "entry.0.resource.resourceType"),
        ("entry", {}, "json", "entry"),
        ("entry.0", None, "ele-1", "entry.0"),
    ],
)  # fmt: skip
def test_transaction(path: str, value: object, rule: str | None, where: str) -> None:
    resource = mutated(sample("transaction"), path, value)

    if rule is None:
        check(resource)
    else:
        assert (rule, where) in broken(resource)


ABSENT = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}


@pytest.mark.parametrize(
    ("path", "value", "rule", "where"),
    [
        ("type", REMOVE, "us-core-type", "type"),
        ("type", {"text": CANARY}, "us-core-type", "type"),
        ("category", REMOVE, "us-core-category", "category"),
        ("category.0.coding.0.code", "imaging", "us-core-category", "category"),
        ("subject", REMOVE, "us-core-subject", "subject"),
        ("subject", {"display": CANARY}, "us-core-subject", "subject"),
        ("subject.type", "Group", "us-core-subject", "subject"),
        ("context.encounter", [{"reference": "Encounter/1"}, {"reference": "Encounter/2"}], "us-core-encounter",
         "context.encounter"),
        ("content.0.attachment", {"url": "Binary/1"}, "us-core-content-type", "content.0.attachment"),
    ],
)  # fmt: skip
def test_us_core(path: str, value: object, rule: str, where: str) -> None:
    resource = mutated(sample("DocumentReference"), path, value)

    assert broken(resource) == {(rule, where)}
    check(mutated(resource, "meta", {"profile": ["https://example.org/other"]}))


def test_us_core_counts_a_reason_for_absence_as_a_subject() -> None:
    check(mutated(sample("DocumentReference"), "subject", ABSENT))


def test_us_core_is_claimed_with_a_version_too() -> None:
    claim = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-documentreference|9.0.0"
    resource = mutated(sample("DocumentReference"), "meta.profile.0", claim)

    assert broken(mutated(resource, "subject", REMOVE)) == {("us-core-subject", "subject")}


def test_a_code_system_has_each_code_once() -> None:
    system = {
        "resourceType": "CodeSystem",
        "status": "active",
        "content": "complete",
        "concept": [{"code": "a", "concept": [{"code": "b"}]}, {"code": "c"}],
    }

    check(system)
    assert broken(mutated(system, "concept.1.code", "b")) == {("csd-1", "concept")}
