from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr.client import EntryOutcome, FhirClient, carries, outcome_codes, provably_unsent
from medscribe_pipeline.errors import ConfigError, Deferred, MedscribeError, ProviderContractError, Retriable
from medscribe_pipeline.providers.http import Refused, Unsettled
from tests.medscribe_pipeline.ehr.clinic import NOW
from tests.medscribe_pipeline.ehr.fake_ehr import CUT, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.medscribe_pipeline.ehr.clinic import Clinic
    from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr, Resource

SYSTEM = "https://example.org/fhir/sid/a b&c/note"
COMPOSITION: dict[str, Any] = {"resourceType": "Composition", "identifier": {"system": SYSTEM, "value": "1|2"}}
BUNDLE: dict[str, Any] = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [{"resource": COMPOSITION, "request": {"method": "POST", "url": "Composition"}}],
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resourceType", "issue", "code", "details", "coding", "expression", "entry", "response"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.fixture
def client(clinic: Clinic) -> Iterator[FhirClient]:
    with clinic.http() as http:
        yield FhirClient(http)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"status": "201 Created", "location": "Composition/a-1"}, EntryOutcome(201, "a-1", None, ())),
        (
            {"status": "201", "location": "https://x.org/r4/Composition/a.1/_history/7"},
            EntryOutcome(201, "a.1", 'W/"7"', ()),
        ),
        (
            {"status": "200 OK", "location": "/r4/Composition/9/_history/2?x=y", "etag": 'W/"3"'},
            EntryOutcome(200, "9", 'W/"3"', ()),
        ),
        ({"status": 200, "etag": "3"}, EntryOutcome(200, None, 'W/"3"', ())),
        ({"status": "200", "etag": '"3"'}, EntryOutcome(200, None, '"3"', ())),
        ({"status": "200", "etag": "W/3"}, EntryOutcome(200, None, 'W/"3"', ())),
        ({"status": "created", "location": "urn:uuid:1", "etag": "x" * 90}, EntryOutcome(0, None, None, ())),
        ("gone", EntryOutcome(0, None, None, ())),
    ],
)
def test_the_outcome_of_an_entry(client: FhirClient, ehr: FakeEhr, response: Any, expected: EntryOutcome) -> None:
    ehr.faults.append(Fault(edit=lambda answer: answer["entry"][0].update(response=response)))

    assert client.bundle(BUNDLE) == [expected]


def test_an_entry_that_brings_its_resource_needs_no_location(client: FhirClient, ehr: FakeEhr) -> None:
    resource = {"resourceType": "Composition", "id": "a-1", "meta": {"versionId": "4"}}
    entry = {"resource": resource, "response": {"status": "200"}}
    ehr.faults.append(Fault(edit=lambda answer: answer["entry"].__setitem__(0, entry)))

    assert client.bundle(BUNDLE) == [EntryOutcome(200, "a-1", 'W/"4"', ())]


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"hello"', b'{"resourceType": "OperationOutcome"}'])
def test_a_2xx_that_is_no_bundle_has_no_outcomes(client: FhirClient, ehr: FakeEhr, body: bytes) -> None:
    ehr.faults.append(Fault(body=body))

    assert client.bundle(BUNDLE) == []


def test_a_transaction_whose_answer_is_lost_is_sent_once(client: FhirClient, ehr: FakeEhr) -> None:
    ehr.faults.append(CUT)

    with pytest.raises(Unsettled) as lost:
        client.bundle(BUNDLE)

    assert not provably_unsent(lost.value)
    assert (ehr.seen["POST"], len(ehr.newest("Composition"))) == (1, 1)


@pytest.mark.parametrize("fault", [Fault(status=404, body=b"<html>"), Fault(status=405), Fault(status=415, body=b"")])
def test_a_server_that_takes_no_transactions_is_a_wrong_setting(client: FhirClient, ehr: FakeEhr, fault: Fault) -> None:
    ehr.faults.append(fault)

    with pytest.raises(ConfigError, match="MEDSCRIBE_EHR_BASE_URL"):
        client.bundle(BUNDLE)


def test_a_refusal_with_an_outcome_is_about_the_resource(client: FhirClient, ehr: FakeEhr) -> None:
    ehr.faults.append(Fault(status=404))

    with pytest.raises(Refused) as refused:
        client.bundle(BUNDLE)

    assert outcome_codes(refused.value.answer.body) == ("exception", "Composition.date")
    assert "Testperson" not in str(refused.value)


def test_a_search_finds_by_the_whole_identifier(client: FhirClient, ehr: FakeEhr) -> None:
    stored = ehr.put("Composition", "a-1", COMPOSITION)
    ehr.put("Composition", "a-2", {**COMPOSITION, "identifier": {"system": SYSTEM, "value": "other"}})

    (found,) = client.search("Composition", SYSTEM, "1|2")

    assert (found.id, found.etag, found.resource) == ("a-1", 'W/"1"', stored)
    assert client.search("Composition", SYSTEM, "unheard-of") == []


def test_a_search_that_answers_something_else_says_nothing(
    client: FhirClient, ehr: FakeEhr, monkeypatch: pytest.MonkeyPatch
) -> None:
    ehr.put("Composition", "a-1", COMPOSITION)
    everything: list[Resource] = ehr.newest("Composition")
    monkeypatch.setattr(ehr, "find", lambda *_: everything)  # As servers do that do not know the parameter.

    with pytest.raises(ProviderContractError):
        client.search("Composition", SYSTEM, "another")


def test_reading(client: FhirClient, ehr: FakeEhr) -> None:
    ehr.put("Composition", "a-1", COMPOSITION)
    ehr.put("Composition", "a-1", COMPOSITION)

    found = client.read("Composition", "a-1")

    assert found is not None
    assert found.etag == 'W/"2"'
    assert client.read("Composition", "a-2") is None


@pytest.mark.parametrize("stored", [{"resourceType": "OperationOutcome"}, {"resourceType": "Binary"}, {}])
def test_what_is_read_and_is_something_else_says_nothing(client: FhirClient, ehr: FakeEhr, stored: Resource) -> None:
    ehr.put("Composition", "a-1", stored)

    with pytest.raises(ProviderContractError) as refused:
        client.read("Composition", "a-1")

    assert refused.value.code == "read"


@pytest.mark.parametrize("release", ["R4", "R5"])
def test_a_client_tells_the_release_it_sends(clinic: Clinic, release: Literal["R4", "R5"]) -> None:
    with clinic.http() as http:
        assert FhirClient(http, release).release == release


def test_a_server_is_asked_for_its_version_once(client: FhirClient, ehr: FakeEhr) -> None:
    client.capabilities()
    client.capabilities()

    assert ehr.seen["GET metadata"] == 1


def test_a_server_that_keeps_its_capabilities_to_itself_is_tolerated(client: FhirClient, ehr: FakeEhr) -> None:
    ehr.fhir_version = None

    assert client.capabilities() is None


@pytest.mark.parametrize(
    ("error", "unsent"),
    [
        (Retriable("x", code="unreachable"), True),
        (Deferred("x", until=NOW), True),
        (ConfigError("x"), True),
        (ProviderContractError("x", code="redirect"), True),
        (Unsettled("x", code="timeout"), False),
        (ProviderContractError("x", code="protocol"), False),
        (MedscribeError("x"), False),
    ],
)
def test_what_surely_had_no_effect(error: MedscribeError, unsent: bool) -> None:
    assert provably_unsent(error) is unsent


@settings(max_examples=150, deadline=None)
@given(body=JSON, secret=st.sampled_from(["Zoë Testperson", "where(family='Testperson')", "DOB 1970-01-01"]))
def test_of_an_outcome_only_codes_and_paths_survive(body: Any, secret: str) -> None:
    issue = {
        "code": secret,
        "diagnostics": secret,
        "details": {"text": secret, "coding": [{"code": secret, "display": secret}, {"code": "MSG_X"}]},
        "expression": [f"Composition.{secret}", "Composition.section[0].text"],
    }

    codes = outcome_codes({"resourceType": "OperationOutcome", "issue": [body, issue]})

    assert {"MSG_X", "Composition.section[0].text"} <= set(codes)
    assert not any("Test" in code or "1970" in code or " " in code for code in codes)
    assert outcome_codes(body) == () or isinstance(body, dict)


def test_a_master_identifier_counts_as_identifier() -> None:
    document = {
        "identifier": [{"system": "s", "value": "1"}, "junk"],
        "masterIdentifier": {"system": "s", "value": "2"},
    }

    assert carries(document, "s", "1")
    assert carries(document, "s", "2")
    assert not carries(document, "s", "3")
    assert not carries({}, "s", "3")
