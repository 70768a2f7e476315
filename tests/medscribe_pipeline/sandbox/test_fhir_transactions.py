from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import FhirOptions, Sandbox

if TYPE_CHECKING:
    import httpx

Make = Callable[..., dict[str, Any]]

URN_C = "urn:uuid:6f0b0a4e-0000-4000-8000-00000000000c"
URN_D = "urn:uuid:6f0b0a4e-0000-4000-8000-00000000000d"


def _entry(method: str, url: str, resource: Any = None, full_url: str | None = None, **request: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        entry["resource"] = resource
    if full_url is not None:
        entry["fullUrl"] = full_url
    return entry


def _post(client: httpx.Client, *entries: Any, kind: str = "transaction") -> httpx.Response:
    # [base] itself, without a slash, as clients send it.
    url = str(client.base_url).rstrip("/")
    return client.post(url, json={"resourceType": "Bundle", "type": kind, "entry": list(entries)})


def _count(client: httpx.Client, kind: str, value: str) -> int:
    total: int = client.get(f"/{kind}", params={"identifier": f"urn:test:note|{value}"}).json()["total"]
    return total


def _provenance(target: str) -> dict[str, Any]:
    return {
        "resourceType": "Provenance",
        "target": [{"reference": target}],
        "recorded": "2026-03-22T09:15:00Z",
        "agent": [{"who": {"display": "scribe"}}],
    }


def test_a_note_goes_in_as_one(fhir: httpx.Client, composition: Make, document: Make) -> None:
    related = {"context": {"related": [{"reference": URN_C}]}}

    answer = _post(
        fhir,
        _entry("PUT", "Provenance/prov-1", {**_provenance(URN_D), "id": "prov-1"}),
        _entry(
            "POST", "DocumentReference", document("tx", **related), URN_D, ifNoneExist="identifier=urn:test:note|tx"
        ),
        _entry("PUT", "Composition?identifier=urn:test:note|tx", composition("tx"), URN_C),
    )

    bundle = answer.json()
    assert (answer.status_code, bundle["type"]) == (200, "transaction-response")
    responses = [entry["response"] for entry in bundle["entry"]]
    assert [one["status"] for one in responses] == ["201 Created"] * 3
    assert [one["etag"] for one in responses] == ['W/"1"'] * 3
    kinds = [one["location"].split("/")[0] for one in responses]
    assert kinds == ["Provenance", "DocumentReference", "Composition"], "answers are in the order of the entries"
    composition_at, document_at = (responses[n]["location"].partition("/_history")[0] for n in (2, 1))
    stored = fhir.get(f"/{document_at}").json()
    assert stored["context"]["related"] == [{"reference": composition_at}]
    assert fhir.get("/Provenance/prov-1").json()["target"] == [{"reference": document_at}]
    assert stored["masterIdentifier"]["value"] == "tx-v1", "only references are rewritten"


def test_the_same_transaction_again_changes_nothing_but_versions(
    fhir: httpx.Client, composition: Make, document: Make
) -> None:
    entries = (
        _entry("POST", "Composition", composition("again"), URN_C, ifNoneExist="identifier=urn:test:note|again"),
        _entry("PUT", "DocumentReference?identifier=urn:test:note|again", document("again")),
    )

    _post(fhir, *entries)
    responses = [entry["response"] for entry in _post(fhir, *entries).json()["entry"]]

    assert [(one["status"], one["etag"]) for one in responses] == [("200 OK", 'W/"1"'), ("200 OK", 'W/"2"')]
    assert _count(fhir, "Composition", "again") == _count(fhir, "DocumentReference", "again") == 1


def test_a_transaction_that_fails_leaves_no_trace(fhir: httpx.Client, composition: Make, document: Make) -> None:
    key = fhir.post("/Composition", json=composition("rollback")).json()["id"]

    answer = _post(
        fhir,
        _entry("PUT", f"Composition/{key}", composition("moved-away", id=key)),
        _entry("POST", "Composition", composition("rollback-new")),
        _entry("POST", "DocumentReference", document("rollback", status="final")),
    )

    outcome = answer.json()
    assert (answer.status_code, outcome["resourceType"]) == (422, "OperationOutcome")
    assert outcome["issue"][0]["expression"] == ["Bundle.entry[2].DocumentReference.status"]
    assert fhir.get(f"/Composition/{key}").headers["etag"] == 'W/"1"'
    assert fhir.get(f"/Composition/{key}/_history/2").status_code == 404
    assert _count(fhir, "Composition", "rollback") == 1, "the identifier index is rolled back, too"
    assert _count(fhir, "Composition", "rollback-new") == _count(fhir, "Composition", "moved-away") == 0


def test_if_match_and_several_matches_fail_the_whole(fhir: httpx.Client, composition: Make) -> None:
    key = fhir.post("/Composition", json=composition("guard")).json()["id"]
    fhir.post("/Composition", json=composition("twice"))
    fhir.post("/Composition", json=composition("twice"))

    stale = _post(
        fhir,
        _entry("POST", "Composition", composition("guard-other")),
        _entry("PUT", f"Composition/{key}", composition("guard", id=key), ifMatch='W/"9"'),
    )
    several = _post(
        fhir,
        _entry("POST", "Composition", composition("guard-other")),
        _entry("POST", "Composition", composition("twice"), ifNoneExist="identifier=urn:test:note|twice"),
    )

    assert (stale.status_code, several.status_code) == (412, 412)
    assert _count(fhir, "Composition", "guard-other") == 0


def test_conditional_references(fhir: httpx.Client, composition: Make) -> None:
    patient = {"resourceType": "Patient", "identifier": [{"system": "urn:test:patient", "value": "cr"}]}
    key = fhir.post("/Patient", json=patient).json()["id"]

    def about(value: str) -> httpx.Response:
        subject = {"reference": f"Patient?identifier=urn:test:patient|{value}"}
        return _post(fhir, _entry("POST", "Composition", composition("cr", subject=subject)))

    found, nobody = about("cr"), about("nobody")

    at = found.json()["entry"][0]["response"]["location"].partition("/_history")[0]
    assert fhir.get(f"/{at}").json()["subject"] == {"reference": f"Patient/{key}"}
    assert nobody.status_code == 412
    assert _count(fhir, "Composition", "cr") == 1


def test_an_urn_that_no_entry_has_fails(fhir: httpx.Client, composition: Make) -> None:
    answer = _post(fhir, _entry("POST", "Composition", composition("dangling", subject={"reference": URN_D})))

    assert answer.status_code == 422
    assert _count(fhir, "Composition", "dangling") == 0


def test_one_thing_twice_is_refused(fhir: httpx.Client, composition: Make) -> None:
    put = _entry("PUT", "Composition/dup", composition("dup", id="dup"))
    post = _entry("POST", "Composition", composition("dup"), ifNoneExist="identifier=urn:test:note|dup")
    same_url = [_entry("POST", "Composition", composition("dup"), URN_C) for _ in range(2)]

    for entries in ([put, put], [post, post], same_url):
        answer = _post(fhir, *entries)
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (400, "duplicate")
    assert _count(fhir, "Composition", "dup") == 0


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"resource": {"resourceType": "Patient"}},
        _entry("DELETE", "Patient/1"),
        _entry("POST", "Patient"),
        _entry("POST", "Patient/1", {"resourceType": "Patient"}),
        _entry("PUT", "Patient", {"resourceType": "Patient"}),
        _entry("PUT", "Patient/1?identifier=a|b", {"resourceType": "Patient"}),
        _entry("POST", "Patient", {"resourceType": "Patient"}, ifNoneExist="Patient?identifier=a|b"),
        _entry("POST", "Nonsense", {"resourceType": "Nonsense"}),
        _entry("POST", "Patient", "text"),
        {**_entry("POST", "Patient", {"resourceType": "Patient"}), "fullUrl": 7},
        7,
    ],
)
def test_odd_entries_are_refused_and_located(fhir: httpx.Client, entry: Any) -> None:
    answer = _post(fhir, entry)

    assert answer.status_code in {400, 404}
    assert answer.json()["issue"][0]["expression"][0].startswith("Bundle.entry[0]")


@pytest.mark.parametrize("body", [{"resourceType": "Bundle", "type": "document"}, {"resourceType": "Patient"}, []])
def test_only_bundles_to_process_are_processed(fhir: httpx.Client, body: Any) -> None:
    assert fhir.post("/", json=body).status_code == 400


def test_an_empty_transaction_succeeds(fhir: httpx.Client) -> None:
    answer = fhir.post("/", json={"resourceType": "Bundle", "type": "transaction"})

    assert answer.json() == {"resourceType": "Bundle", "type": "transaction-response"}


def test_a_batch_does_what_it_can(fhir: httpx.Client, composition: Make, document: Make) -> None:
    answer = _post(
        fhir,
        _entry("POST", "Composition", composition("batch"), URN_C),
        _entry("POST", "DocumentReference", document("batch", status="final")),
        _entry("POST", "DocumentReference", document("batch", context={"related": [{"reference": URN_C}]})),
        _entry("GET", "Composition?identifier=urn:test:note|batch"),
        kind="batch",
    )

    entries = answer.json()["entry"]
    assert (answer.status_code, answer.json()["type"]) == (200, "batch-response")
    assert [entry["response"]["status"][:3] for entry in entries] == ["201", "422", "422", "200"]
    assert entries[1]["response"]["outcome"]["resourceType"] == "OperationOutcome"
    assert entries[3]["resource"]["total"] == 1


def test_reads_see_what_the_transaction_wrote(fhir: httpx.Client, composition: Make) -> None:
    answer = _post(
        fhir,
        _entry("GET", "Composition?identifier=urn:test:note|read-own"),
        _entry("GET", "Composition/read-own"),
        _entry("PUT", "Composition/read-own", composition("read-own", id="read-own")),
    )

    searched, read, _ = answer.json()["entry"]
    assert searched["resource"]["total"] == 1
    assert (read["resource"]["id"], read["response"]["etag"]) == ("read-own", 'W/"1"')


def test_racing_transactions_make_one_note(fhir: httpx.Client, composition: Make, document: Make) -> None:
    entries = (
        _entry("POST", "Composition", composition("tx-race"), URN_C, ifNoneExist="identifier=urn:test:note|tx-race"),
        _entry(
            "POST",
            "DocumentReference",
            document("tx-race", context={"related": [{"reference": URN_C}]}),
            ifNoneExist="identifier=urn:test:version|tx-race-v1",
        ),
    )

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: _post(fhir, *entries), range(16)))

    created = [a for a in answers if a.json()["entry"][0]["response"]["status"] == "201 Created"]
    assert len(created) == 1
    assert _count(fhir, "Composition", "tx-race") == _count(fhir, "DocumentReference", "tx-race") == 1


def test_a_bundle_may_be_too_large(clients: Callable[[Sandbox, str], httpx.Client], composition: Make) -> None:
    with Sandbox(fhir=FhirOptions(max_entries=1)) as sandbox:
        fhir = clients(sandbox, "fhir")
        answer = _post(fhir, *[_entry("POST", "Composition", composition(str(n))) for n in range(2)])

    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (413, "too-costly")


def test_refusals_quote_what_was_sent_as_real_servers_do(fhir: httpx.Client, composition: Make) -> None:
    answer = fhir.post("/Composition", json=composition(status="qxcanary-status"))

    assert "qxcanary-status" in answer.json()["issue"][0]["diagnostics"]
