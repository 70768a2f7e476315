"""Each mutation breaks one rule; `check` must name that rule and the place, and never the value."""

from __future__ import annotations

import base64
import copy
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.fhir import InvalidResource, build_documents, check
from tests.fhir_options import options

if TYPE_CHECKING:
    from medscribe_pipeline.notes import ScribeNote

CANARY = "Canary-Synthetic-0042"
XMLNS = 'xmlns="http://www.w3.org/1999/xhtml"'
REMOVE = object()

Json = dict[str, Any]


@pytest.fixture
def composition(note: ScribeNote) -> Json:
    return build_documents(note, options()).composition


@pytest.fixture
def document(note: ScribeNote) -> Json:
    return build_documents(note, options()).document_reference


@pytest.fixture
def transaction(composition: Json, document: Json) -> Json:
    """A transaction of both documents, the way they are delivered."""
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001",
                "resource": composition,
                "request": {"method": "PUT", "url": "Composition?identifier=urn:x%7C1"},
            },
            {
                "fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000002",
                "resource": document,
                "request": {"method": "POST", "url": "DocumentReference", "ifNoneExist": "identifier=urn:x%7C2"},
            },
        ],
    }


def mutated(resource: Json, path: str, value: object) -> Json:
    """A copy of `resource` with the element at `path` set to `value`, or removed."""
    result = copy.deepcopy(resource)
    *parents, last = path.split(".")
    node: Any = result
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    if value is REMOVE:
        del node[last]
    elif isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value
    return result


def refusal(resource: Json) -> InvalidResource:
    with pytest.raises(InvalidResource) as caught:
        check(resource)
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert CANARY not in shown
    return caught.value


def rules_at(error: InvalidResource, path: str) -> set[str]:
    return {finding.rule for finding in error.findings if finding.path == path}


def test_what_is_built_passes(composition: Json, document: Json, transaction: Json) -> None:
    before = copy.deepcopy(transaction)

    check(composition)
    check(document)
    check(transaction)

    assert transaction == before


def div(inner: str) -> str:
    return f"<div {XMLNS}>{inner}</div>"


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        # What R4 requires.
        ("status", REMOVE, "required"),
        ("type", REMOVE, "required"),
        ("date", REMOVE, "required"),
        ("author", REMOVE, "required"),
        ("title", REMOVE, "required"),
        ("attester.0.mode", REMOVE, "required"),
        ("section.0.text.div", REMOVE, "required"),
        ("section.0.text.status", REMOVE, "required"),
        # Required bindings.
        ("status", CANARY, "code"),
        ("attester.0.mode", CANARY, "code"),
        ("section.0.text.status", CANARY, "code"),
        ("section.1.section.0.text.status", CANARY, "code"),
        ("identifier.use", CANARY, "code"),
        ("language", "fr_FR " + CANARY, "code"),
        ("confidentiality", "X", "code"),
        # Nothing empty, nothing null, nothing that is not JSON.
        ("author", [], "ele-1"),
        ("section", [], "ele-1"),
        ("identifier", {}, "ele-1"),
        ("title", "", "ele-1"),
        ("title", " \n", "ele-1"),
        ("title", None, "ele-1"),
        ("category.0.coding.0", {}, "ele-1"),
        ("title", {CANARY}, "json"),
        # Strings and ids.
        ("title", f"{CANARY}\x00", "string"),
        ("title", f"{CANARY}\ud800", "string"),
        ("title", "x" * 1_048_577, "string"),
        ("id", "x" * 65, "id"),
        ("id", f"{CANARY} id", "id"),
        # Times.
        ("date", "2025-03-04T09:30:00", "dateTime"),
        ("date", f"{CANARY}", "dateTime"),
        ("attester.0.time", "2025-03-04 09:30", "dateTime"),
        ("meta.lastUpdated", "2025-03-04", "instant"),
        # References.
        ("encounter.type", "Patient", "reference-target"),
        ("author.0.type", "Observation", "reference-target"),
        ("author.0.reference", "Patient/1", "reference-target"),
        ("author.0.reference", f"{CANARY} 1", "reference-format"),
        ("author.0", {"type": "Practitioner"}, "ref-2"),
        ("author.0.reference", "#missing", "ref-1"),
        # What only the models know.
        ("author.0.display", 5, "model"),
        ("colour", "red", "model"),
        ("date", "2025-13-04T09:30:00Z", "model"),
    ],
)
def test_composition_mutations(composition: Json, path: str, value: object, rule: str) -> None:
    error = refusal(mutated(composition, path, value))

    # A wrong target is a matter of the whole reference, a lost one of its literal.
    where = {"reference-target": path.rpartition(".")[0], "ref-1": "author.0.reference"}.get(rule, path)
    assert rule in rules_at(error, where)
    assert where in error.field_paths
    assert rule in str(error.context["rules"]).split(",")
    assert error.code == error.findings[0].rule
    assert error.__cause__ is None


def test_reference_that_contradicts_its_type(composition: Json) -> None:
    error = refusal(mutated(composition, "subject.reference", "Group/1"))

    assert rules_at(error, "subject") == {"reference-target"}


@pytest.mark.parametrize(
    ("inner", "rule"),
    [
        (div("<script>alert(1)</script>"), "txt-1"),
        (div(f'<p onclick="x">{CANARY}</p>'), "txt-1"),
        (div(f"<p>{CANARY}"), "txt-1"),
        (div(f"{CANARY}&nbsp;x"), "txt-1"),
        (div(f"<!-- {CANARY} -->x"), "txt-1"),
        (f'<!DOCTYPE div [<!ENTITY e "{CANARY}">]>' + div("&e;"), "txt-1"),
        (f"<div><p>{CANARY}</p></div>", "txt-1"),
        (f"<p {XMLNS}>{CANARY}</p>", "txt-1"),
        (CANARY, "txt-1"),
        (5, "txt-1"),
        (div("<p> \u00a0</p>"), "txt-2"),
        (div(""), "txt-2"),
    ],
)
def test_narrative_mutations(composition: Json, inner: object, rule: str) -> None:
    error = refusal(mutated(composition, "section.1.section.0.text.div", inner))

    assert rule in rules_at(error, "section.1.section.0.text.div")


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ({"title": CANARY}, "cmp-1"),
        ({"entry": [{"display": CANARY}], "emptyReason": {"text": CANARY}}, "cmp-2"),
    ],
)
def test_section_mutations(composition: Json, section: Json, rule: str) -> None:
    assert rule in rules_at(refusal(mutated(composition, "section.0", section)), "section.0")
    assert rule in rules_at(refusal(mutated(composition, "section.1.section.0", section)), "section.1.section.0")


@pytest.mark.parametrize(
    ("path", "value", "rule", "where"),
    [
        ("status", REMOVE, "required", "status"),
        ("content", REMOVE, "required", "content"),
        ("content.0.attachment", REMOVE, "required", "content.0.attachment"),
        ("status", "final", "code", "status"),
        ("docStatus", "current", "code", "docStatus"),
        ("masterIdentifier.use", CANARY, "code", "masterIdentifier.use"),
        ("content", [], "ele-1", "content"),
        ("identifier", [{}], "ele-1", "identifier.0"),
        ("date", "2025-03-04", "instant", "date"),
        ("context.period.end", "2025-03-04T08:00:00Z", "per-1", "context.period"),
        ("context.period.start", "2025-03-04T09:00:00", "dateTime", "context.period.start"),
        ("content.0.attachment.contentType", REMOVE, "att-1", "content.0.attachment"),
        ("content.0.attachment.contentType", f"{CANARY} text", "code", "content.0.attachment.contentType"),
        ("content.0.attachment", {"contentType": "text/plain"}, "us-core-6", "content.0.attachment"),
        ("content.0.attachment.data", f"{CANARY}!", "base64", "content.0.attachment.data"),
        ("content.0.attachment.data", 5, "base64", "content.0.attachment.data"),
        ("content.0.attachment.size", 1, "attachment-size", "content.0.attachment.size"),
        ("content.0.attachment.hash", base64.b64encode(b"x" * 20).decode(), "attachment-hash",
         "content.0.attachment.hash"),
        ("subject.type", "RelatedPerson", "reference-target", "subject"),
        ("context.encounter.0.reference", "Patient/1", "reference-target", "context.encounter.0"),
        ("relatesTo", [{"code": CANARY, "target": {"display": "x"}}], "code", "relatesTo.0.code"),
    ],
)  # fmt: skip
def test_document_reference_mutations(document: Json, path: str, value: object, rule: str, where: str) -> None:
    error = refusal(mutated(document, path, value))

    assert rule in rules_at(error, where)


CONTAINED_AUTHOR = {"resourceType": "Practitioner", "id": "author"}


@pytest.mark.parametrize(
    ("contained", "reference", "rule", "where"),
    [
        (CONTAINED_AUTHOR, "#author", None, ""),
        (CONTAINED_AUTHOR, "#other", "ref-1", "author.0.reference"),
        (CONTAINED_AUTHOR, "Practitioner/1", "dom-3", "contained.0"),
        (CONTAINED_AUTHOR | {"contained": [{"resourceType": "Device"}]}, "#author", "dom-2", "contained.0.contained"),
        (CONTAINED_AUTHOR | {"meta": {"versionId": "1"}}, "#author", "dom-4", "contained.0.meta"),
        (CONTAINED_AUTHOR | {"meta": {"security": [{"code": "R"}]}}, "#author", "dom-5", "contained.0.meta.security"),
    ],
)
def test_contained_resources(composition: Json, contained: Json, reference: str, rule: str | None, where: str) -> None:
    resource = composition | {"contained": [contained], "author": [{"reference": reference}]}

    if rule is None:
        check(resource)
        return
    assert rule in rules_at(refusal(resource), where)


@pytest.mark.parametrize(
    ("path", "value", "rule", "where"),
    [
        ("type", CANARY, "code", "type"),
        ("type", REMOVE, "required", "type"),
        ("total", 2, "bdl-1", "total"),
        ("entry.0.search", {"mode": "match"}, "bdl-2", "entry.0"),
        ("entry.0.request", REMOVE, "bdl-3", "entry.0"),
        ("type", "document", "bdl-3", "entry.0"),
        ("entry.0.response", {"status": "201"}, "bdl-4", "entry.0"),
        ("entry.0", {"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000003"}, "bdl-5", "entry.0"),
        ("entry.1.fullUrl", "urn:uuid:00000000-0000-4000-8000-000000000001", "bdl-7", "entry.1"),
        ("entry.0.fullUrl", "https://example.org/Composition/1/_history/2", "bdl-8", "entry.0.fullUrl"),
        ("entry.0.request.method", CANARY, "code", "entry.0.request.method"),
        ("entry.0.request.url", REMOVE, "required", "entry.0.request.url"),
        ("entry.1.request", {"method": "PUT", "url": "Composition?identifier=urn:x%7C1"}, "transaction-identity",
         "entry.1"),
        ("entry.0.resource.subject.reference", "urn:uuid:00000000-0000-4000-8000-00000000000f", "bundle-reference",
         "entry.0.resource.subject.reference"),
        ("entry.0.resource.status", CANARY, "code", "entry.0.resource.status"),
        ("entry.0.resource.section.0", {"title": CANARY}, "cmp-1", "entry.0.resource.section.0"),
        ("entry.1.resource.author.0.reference", "#gone", "ref-1", "entry.1.resource.author.0.reference"),
        ("entry.0.resource.resourceType", "Canary", "model", "resourceType"),
        ("entry.0.resource.resourceType", 5, "model", "resourceType"),
    ],
)  # fmt: skip
def test_bundle_mutations(transaction: Json, path: str, value: object, rule: str, where: str) -> None:
    error = refusal(mutated(transaction, path, value))

    assert rule in rules_at(error, where)


def test_entry_that_leads_to_another_entry(transaction: Json) -> None:
    check(mutated(transaction, "entry.0.resource.subject.reference", transaction["entry"][1]["fullUrl"]))


def test_document_bundle_needs_identity_time_and_composition_first(composition: Json, document: Json) -> None:
    entries = [{"fullUrl": f"https://example.org/fhir/{index}", "resource": each}
               for index, each in enumerate((composition, document))]  # fmt: skip
    bundle = {
        "resourceType": "Bundle",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:uuid:00000000-0000-4000-8000-000000000009"},
        "type": "document",
        "timestamp": "2025-03-04T09:30:00Z",
        "entry": entries,
    }

    check(bundle)
    assert "bdl-9" in rules_at(refusal(mutated(bundle, "identifier.system", REMOVE)), "identifier")
    assert "bdl-10" in rules_at(refusal(mutated(bundle, "timestamp", REMOVE)), "timestamp")
    assert "bdl-11" in rules_at(refusal(bundle | {"entry": entries[::-1]}), "entry.0")


@pytest.mark.parametrize("kind", ["Patient", None, 5, CANARY])
def test_other_resources_are_not_ours_to_check(composition: Json, kind: object) -> None:
    error = refusal(composition | {"resourceType": kind})

    assert error.code == "resource-type"


def test_names_that_are_no_element_names_are_not_repeated(composition: Json) -> None:
    error = refusal(composition | {f"{CANARY} name": ""})

    assert "?" in error.field_paths


def test_paths_are_capped_but_findings_are_not(composition: Json) -> None:
    error = refusal(composition | {"section": [{} for _ in range(50)]})

    assert len(error.field_paths) == 20
    assert len(error.findings) > 50
