from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from medscribe_pipeline.sandbox.fhir_errors import FhirError
from medscribe_pipeline.sandbox.fhir_rules import check

Make = Callable[..., dict[str, Any]]
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'


def _refusal(resource: Any, kind: str) -> tuple[int, set[str | None]]:
    with pytest.raises(FhirError) as refused:
        check(resource, kind)
    return refused.value.status, {issue.expression for issue in refused.value.issues}


def _section(div: str) -> list[dict[str, Any]]:
    return [{"text": {"status": "additional", "div": div}}]


def test_whole_documents_pass(composition: Make, document: Make) -> None:
    check(composition(), "Composition")
    check(document(), "DocumentReference")
    check({"resourceType": "Patient"}, "Patient")
    check(
        {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "period": {"start": "x"}},
        "Encounter",
    )


@pytest.mark.parametrize("element", ["status", "type", "date", "author", "title"])
def test_a_composition_needs(composition: Make, element: str) -> None:
    assert _refusal(composition(**{element: None}), "Composition") == (400, {f"Composition.{element}"})


@pytest.mark.parametrize("element", ["status", "content"])
def test_a_document_reference_needs(document: Make, element: str) -> None:
    assert _refusal(document(**{element: None}), "DocumentReference") == (400, {f"DocumentReference.{element}"})


@pytest.mark.parametrize(
    ("element", "value"),
    [
        ("identifier", [{"system": "a", "value": "b"}]),
        ("author", {"display": "x"}),
        ("author", []),
        ("custodian", None),
        ("titel", "x"),
        ("title", ""),
        ("title", "bell \x07"),
        ("meta", "x"),
    ],
)
def test_malformed_compositions(composition: Make, element: str, value: Any) -> None:
    resource = {**composition(), element: value}

    assert _refusal(resource, "Composition") == (400, {f"Composition.{element}"})


@pytest.mark.parametrize(
    ("element", "value"),
    [
        ("status", "current"),
        ("status", {"code": "final"}),
        ("date", "2026-03-22T09:15:00"),
        ("date", "22.03.2026"),
        ("date", 2026),
        ("title", 7),
    ],
)
def test_broken_values_of_a_composition(composition: Make, element: str, value: Any) -> None:
    assert _refusal(composition(**{element: value}), "Composition") == (422, {f"Composition.{element}"})


@pytest.mark.parametrize(
    "date", ["2026", "2026-03", "2026-03-22", "2026-03-22T09:15:00.123Z", "2026-03-22T09:15:00-05:00"]
)
def test_composition_dates_may_be_partial(composition: Make, date: str) -> None:
    check(composition(date=date), "Composition")


@pytest.mark.parametrize(
    ("elements", "expression"),
    [
        ({"status": "final"}, "DocumentReference.status"),
        ({"docStatus": "current"}, "DocumentReference.docStatus"),
        ({"date": "2026-03-22"}, "DocumentReference.date"),
        ({"content": [{"format": {"code": "x"}}]}, "DocumentReference.content[0].attachment"),
        ({"content": [{"attachment": {"data": "cXg="}}]}, "DocumentReference.content[0].attachment"),
        (
            {"content": [{"attachment": {"contentType": "a/b", "data": "c=X"}}]},
            "DocumentReference.content[0].attachment.data",
        ),
        (
            {"content": [{"attachment": {"contentType": "a/b", "data": "cXg=", "size": 3}}]},
            "DocumentReference.content[0].attachment.size",
        ),
    ],
)
def test_broken_document_references(document: Make, elements: dict[str, Any], expression: str) -> None:
    assert _refusal(document(**elements), "DocumentReference") == (422, {expression})


@pytest.mark.parametrize(
    "div",
    [
        f"<p {XHTML}>x</p>",
        "<div>x</div>",
        f"<div {XHTML}>Hb < 10</div>",
        f"<div {XHTML}>a & b</div>",
        f"<div {XHTML}>a&nbsp;b</div>",
        f"<div {XHTML}><script>x</script></div>",
        f"<div {XHTML}><p>x</div>",
        f"<div {XHTML}>   </div>",
        f'<!DOCTYPE div [<!ENTITY e "x">]><div {XHTML}>&e;</div>',
        "text",
        7,
    ],
)
def test_narrative_is_xhtml_with_content(composition: Make, div: str) -> None:
    assert _refusal(composition(section=_section(div)), "Composition") == (422, {"Composition.section[0].text.div"})


@pytest.mark.parametrize(
    ("section", "expression"),
    [
        ({"title": "Plan"}, "Composition.section[0]"),
        (
            {"entry": [{"reference": "Observation/1"}], "emptyReason": {"text": "x"}},
            "Composition.section[0]",
        ),
        ({"text": {"div": f"<div {XHTML}>x</div>"}}, "Composition.section[0].text.status"),
        ({"section": [{"title": "inner"}]}, "Composition.section[0].section[0]"),
    ],
)
def test_section_invariants(composition: Make, section: dict[str, Any], expression: str) -> None:
    assert _refusal(composition(section=[section]), "Composition") == (422, {expression})


@pytest.mark.parametrize("reference", ["urn:uuid:1", "Patient?identifier=a|b", "#inside", "1", "Patient/with space"])
def test_references_must_lead_somewhere(composition: Make, reference: str) -> None:
    assert _refusal(composition(subject={"reference": reference}), "Composition")[0] == 422


@pytest.mark.parametrize(
    "reference", ["Patient/1", "Patient/1/_history/2", "https://example.org/fhir/Patient/1", "#in"]
)
def test_references_that_do(composition: Make, reference: str) -> None:
    contained = [{"resourceType": "Patient", "id": "in"}]

    check(composition(subject={"reference": reference}, contained=contained), "Composition")


def test_a_provenance_says_who() -> None:
    whole = {
        "resourceType": "Provenance",
        "target": [{"reference": "Composition/1"}],
        "recorded": "2026-03-22T09:15:00Z",
        "agent": [{"who": {"display": "scribe"}}],
    }
    check(whole, "Provenance")

    assert _refusal({**whole, "agent": [{"role": [{"text": "x"}]}]}, "Provenance") == (422, {"Provenance.agent[0].who"})
    assert _refusal({**whole, "recorded": "2026-03-22"}, "Provenance") == (422, {"Provenance.recorded"})
