"""What a server says of a write, in all the shapes servers say it in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr.outcomes import (
    EntryOutcome,
    answer_outcome,
    as_etag,
    bundle_outcomes,
    dicts,
    is_id,
    outcome_codes,
    same_etag,
    version_etag,
)
from medscribe_pipeline.providers.answers import LONGEST_DELAY_S, Answer
from tests.medscribe_pipeline.ehr.clinic import NOW

if TYPE_CHECKING:
    from collections.abc import Mapping

RESET = "https://medplum.com/fhir/StructureDefinition/rate-limit-reset"
NAMES = [
    "resourceType",
    "entry",
    "response",
    "status",
    "location",
    "etag",
    "outcome",
    "issue",
    "resource",
    "id",
    "meta",
]
WORDS = st.sampled_from(["Bundle", "OperationOutcome", "201 Created", "Composition/a", "Zoë Testperson", "W/", '"', ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 999) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=20,
)


def answer(body: Any = None, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, httpx.Headers(headers), body, NOW, NOW)


def bundle(*entries: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "batch-response", "entry": list(entries)}


def issue(**parts: Any) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [parts]}


# Bundles


def test_each_entry_has_its_own_outcome_in_order() -> None:
    told = bundle(
        {"response": {"status": "201 Created", "location": "Composition/a/_history/1", "etag": 'W/"1"'}},
        {"response": {"status": "422", "outcome": issue(code="invalid", diagnostics="Testperson")}},
        {"response": {"status": "200 OK"}, "resource": {"resourceType": "Composition", "id": "b"}},
    )

    assert bundle_outcomes(answer(told)) == [
        EntryOutcome(201, "a", 'W/"1"', ()),
        EntryOutcome(422, None, None, ("invalid",)),
        EntryOutcome(200, "b", None, ()),
    ]
    assert [each.type for each in bundle_outcomes(answer(told))] == ["Composition", None, "Composition"]


@pytest.mark.parametrize("body", [None, [], "Bundle", {"resourceType": "OperationOutcome"}, {"entry": [{}]}, {}])
def test_what_is_no_bundle_has_no_outcomes(body: Any) -> None:
    assert bundle_outcomes(answer(body)) == []


def test_what_is_no_entry_is_not_counted_as_one() -> None:
    assert len(bundle_outcomes(answer(bundle("Testperson", None, {"response": {"status": "201"}})))) == 1


@pytest.mark.parametrize("response", [None, "201", [], {}, {"status": None}, {"status": "created"}, {"status": "٢٠١"}])
def test_an_entry_that_tells_no_status_has_none(response: Any) -> None:
    assert bundle_outcomes(answer(bundle({"response": response}))) == [EntryOutcome(0, None, None, ())]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("Composition/a", ("Composition", "a", None)),
        ("/r4/Composition/a/", ("Composition", "a", None)),
        ("https://ehr.example/r4/DocumentReference/a.1-B/_history/7", ("DocumentReference", "a.1-B", 'W/"7"')),
        ("https://ehr.example/r4/Composition/a?patient=Testperson", ("Composition", "a", None)),
        ("urn:uuid:5f9b0c36-5f0e-5c8b-9b0e-6d5a2f1c7e44", (None, None, None)),
        ("Composition/a/b", (None, None, None)),
        ("Composition/Zoë", (None, None, None)),
        (f"Composition/{'a' * 65}", (None, None, None)),
        ("composition/a", (None, None, None)),
        (["Composition/a"], (None, None, None)),
        ("", (None, None, None)),
        (None, (None, None, None)),
    ],
)
def test_where_it_is(location: Any, expected: tuple[str | None, str | None, str | None]) -> None:
    (told,) = bundle_outcomes(answer(bundle({"response": {"status": "201", "location": location}})))

    assert (told.type, told.id, told.etag) == expected


def test_a_resource_that_is_no_place_is_not_taken_for_one() -> None:
    resources: list[Any] = [{"resourceType": "OperationOutcome", "id": "a"}, {"resourceType": "Composition"}, "a", None]
    told = bundle(*({"response": {"status": "200"}, "resource": resource} for resource in resources))

    assert [each.id for each in bundle_outcomes(answer(told))] == [None] * 4


# Waits


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("30", 30),
        ("Mon, 02 Mar 2026 18:00:45 GMT", 45),
        ("Mon, 02 Mar 2026 17:00:00 GMT", 0),
        ("999999", LONGEST_DELAY_S),
        ("soon", None),
        ("-5", None),
    ],
)
def test_a_wait_told_for_the_whole_is_one_for_each_entry(header: str, expected: float | None) -> None:
    told = answer(bundle({"response": {"status": "429"}}, {}), headers={"Retry-After": header})

    assert bundle_outcomes(told)[0].retry_after_s == expected


def test_a_wait_of_its_own_goes_first() -> None:
    own = {**issue(code="throttled"), "extension": [{"url": RESET, "valueUnsignedInt": 4}]}
    on_issue = issue(code="throttled", extension=[{"url": "other"}, {"url": RESET, "valueUnsignedInt": 0}])
    told = bundle(
        {"response": {"status": "429", "outcome": own}},
        {"response": {"status": "429", "outcome": on_issue}},
        {"response": {"status": "429"}},
    )

    waits = [each.retry_after_s for each in bundle_outcomes(answer(told, headers={"Retry-After": "60"}))]

    assert waits == [4, 0, 60]


@pytest.mark.parametrize("value", [-1, True, "4", None, 4.5, {}])
def test_a_wait_that_is_none_is_ignored(value: Any) -> None:
    own = {**issue(code="throttled"), "extension": [{"url": RESET, "valueUnsignedInt": value}]}

    assert bundle_outcomes(answer(bundle({"response": {"status": "429", "outcome": own}})))[0].retry_after_s is None


def test_a_wait_of_its_own_is_believed_for_a_day() -> None:
    own = {**issue(code="throttled"), "extension": [{"url": RESET, "valueUnsignedInt": 10**9}]}

    (told,) = bundle_outcomes(answer(bundle({"response": {"status": "429", "outcome": own}})))

    assert told.retry_after_s == LONGEST_DELAY_S


# Requests of their own


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Location": "Composition/a/_history/2"}, None, ("a", 'W/"2"')),
        ({"Content-Location": "Composition/a", "ETag": '"2"'}, None, ("a", '"2"')),
        ({}, {"resourceType": "Composition", "id": "a", "meta": {"versionId": "2"}}, ("a", 'W/"2"')),
        ({"ETag": "2"}, {"id": 7}, (None, 'W/"2"')),
        ({}, "<html>", (None, None)),
        ({}, ["Composition"], (None, None)),
    ],
)
def test_a_request_of_its_own(headers: dict[str, str], body: Any, expected: tuple[str | None, str | None]) -> None:
    told = answer_outcome(answer(body, status=201, headers=headers))

    assert (told.status, told.id, told.etag) == (201, *expected)


def test_a_refusal_keeps_codes_and_paths_and_the_resource_it_shows() -> None:
    refused = issue(
        code="invalid",
        diagnostics="about Testperson",
        details={"text": "Testperson", "coding": [{"code": "MSG_X", "display": "Testperson"}, {"code": "two words"}]},
        expression=["Composition.section[0].text", "Patient.where(name = 'Testperson')", "Composition." + "a" * 300, 7],
    )

    told = answer_outcome(answer(refused, status=422))

    assert told.codes == ("invalid", "MSG_X", "Composition.section[0].text")
    assert told.id is None


def test_codes_are_not_repeated_and_not_endless() -> None:
    body = {"resourceType": "OperationOutcome", "issue": [{"code": f"c{number % 40}"} for number in range(200)]}

    assert outcome_codes(body) == tuple(f"c{number}" for number in range(20))


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "OperationOutcome", "issue": "invalid"},
        {"resourceType": "OperationOutcome", "issue": [None, "x", {"details": "x"}, {"details": {"coding": "x"}}]},
        {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "Testperson"}},
        "<html>",
        None,
    ],
)
def test_a_body_of_another_shape_has_no_codes(body: Any) -> None:
    assert outcome_codes(body) == ()


# ETags and ids


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('W/"3"', 'W/"3"'),
        ('"3"', '"3"'),
        ("3", 'W/"3"'),
        ("W/3", 'W/"3"'),
        (' W/"3" ', 'W/"3"'),
        ("", None),
        ("  ", None),
        ("é", None),
        ("3\n4", None),
        ("x" * 65, None),
        (f'W/"{"x" * 60}"', f'W/"{"x" * 60}"'),
        (f'W/"{"x" * 61}"', None),
        (3, None),
        (None, None),
    ],
)
def test_an_etag_as_it_goes_into_if_match(value: Any, expected: str | None) -> None:
    assert as_etag(value) == expected


def test_a_tag_is_the_same_weak_or_strong() -> None:
    assert same_etag('W/"3"', '"3"')
    assert same_etag('"3"', '"3"')
    assert not same_etag('W/"3"', 'W/"4"')


@pytest.mark.parametrize("meta", [None, "3", {}, {"versionId": 3}, {"versionId": ""}])
def test_a_resource_that_tells_no_version_has_none(meta: Any) -> None:
    assert version_etag({"meta": meta}) is None


@pytest.mark.parametrize("value", ["a/b", "", "a b", "é", "a" * 65, 7, None, "a\n", "../x"])
def test_what_cannot_stand_in_a_url_is_no_id(value: Any) -> None:
    assert not is_id(value)


@settings(max_examples=200, deadline=None)
@given(body=JSON, status=st.sampled_from([200, 201, 409, 422]))
def test_whatever_comes_back_is_read_and_says_nothing_of_anybody(body: Any, status: int) -> None:
    outcomes = [answer_outcome(answer(body, status=status)), *bundle_outcomes(answer(bundle(body, {"response": body})))]

    for each in outcomes:
        assert "Testperson" not in repr(each)
        assert each.id is None or is_id(each.id)
        assert 0 <= each.status <= 999
    assert all(isinstance(each, dict) for each in dicts(body))
