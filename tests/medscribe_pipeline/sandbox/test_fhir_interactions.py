from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import FhirOptions, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

Make = Callable[..., dict[str, Any]]


def _search(client: httpx.Client, kind: str, **parameters: Any) -> list[dict[str, Any]]:
    bundle = client.get(f"/{kind}", params=parameters).json()
    assert bundle["resourceType"] == "Bundle", bundle
    return [entry["resource"] for entry in bundle.get("entry", [])]


def _codes(answer: httpx.Response) -> set[str]:
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    return {issue["code"] for issue in outcome["issue"]}


def test_the_capability_statement_needs_no_token_and_tells_the_truth(fhir: httpx.Client) -> None:
    statement = fhir.get("/metadata", headers={"authorization": ""}).json()

    rest = statement["rest"][0]
    assert (statement["resourceType"], statement["fhirVersion"]) == ("CapabilityStatement", "4.0.1")
    assert {one["code"] for one in rest["interaction"]} == {"transaction", "batch"}
    composition = next(one for one in rest["resource"] if one["type"] == "Composition")
    assert (composition["conditionalCreate"], composition["conditionalUpdate"], composition["updateCreate"]) == (
        True,
    ) * 3


def test_create_read_and_versions(fhir: httpx.Client, composition: Make) -> None:
    created = fhir.post("/Composition", json=composition("crv", id="mine"))
    key = created.json()["id"]
    updated = fhir.put(f"/Composition/{key}", json=composition("crv", id=key, title="qxcanary 2"))
    current = fhir.get(f"/Composition/{key}")
    first = fhir.get(f"/Composition/{key}/_history/1")

    assert created.status_code == 201
    assert created.headers["etag"] == 'W/"1"'
    assert created.headers["location"] == f"{fhir.base_url}Composition/{key}/_history/1"
    assert parsedate_to_datetime(created.headers["last-modified"]).tzinfo is not None
    assert key != "mine", "a server assigns ids on create"
    assert (updated.status_code, updated.headers["etag"]) == (200, 'W/"2"')
    assert (current.json()["title"], current.headers["etag"]) == ("qxcanary 2", 'W/"2"')
    assert (first.json()["title"], first.json()["meta"]["versionId"]) == ("qxcanary", "1")
    assert fhir.get(f"/Composition/{key}/_history/3").status_code == 404


def test_prefer_decides_the_body(fhir: httpx.Client, document: Make) -> None:
    minimal = fhir.post("/DocumentReference", json=document("prefer"), headers={"prefer": "return=minimal"})
    outcome = fhir.post("/DocumentReference", json=document("prefer"), headers={"prefer": "return=OperationOutcome"})

    assert (minimal.status_code, minimal.content) == (201, b"")
    assert minimal.headers["location"]
    assert outcome.json()["issue"][0]["severity"] == "information"


def test_update_creates_under_the_clients_id(fhir: httpx.Client, composition: Make) -> None:
    answer = fhir.put("/Composition/chosen-1", json=composition("chosen", id="chosen-1"))

    assert (answer.status_code, answer.json()["id"]) == (201, "chosen-1")


def test_ids_the_server_assigns_never_hit_a_clients(fhir: httpx.Client, composition: Make) -> None:
    last = int(fhir.post("/Composition", json=composition("n")).json()["id"])
    fhir.put(f"/Composition/{last + 1}", json=composition("n", id=str(last + 1)))

    assert fhir.post("/Composition", json=composition("n")).json()["id"] == str(last + 2)


def test_if_match_guards_an_update(fhir: httpx.Client, composition: Make) -> None:
    key = fhir.post("/Composition", json=composition("if-match")).json()["id"]
    body = composition("if-match", id=key)

    right = fhir.put(f"/Composition/{key}", json=body, headers={"if-match": 'W/"1"'})
    stale = fhir.put(f"/Composition/{key}", json=body, headers={"if-match": 'W/"1"'})
    absent = fhir.put("/Composition/absent", json=composition(id="absent"), headers={"if-match": 'W/"1"'})

    assert [answer.status_code for answer in (right, stale, absent)] == [200, 412, 412]
    assert fhir.get(f"/Composition/{key}").headers["etag"] == 'W/"2"'


def test_an_id_in_the_body_must_be_that_of_the_url(fhir: httpx.Client, composition: Make) -> None:
    assert fhir.put("/Composition/a", json=composition(id="b")).status_code == 400
    assert fhir.put("/Composition/a", json=composition()).status_code == 400
    assert fhir.put("/Composition/a_b", json=composition(id="a_b")).status_code == 400


def test_conditional_create(fhir: httpx.Client, composition: Make) -> None:
    condition = {"if-none-exist": "identifier=urn%3Atest%3Anote%7Ccc"}

    first = fhir.post("/Composition", json=composition("cc"), headers=condition)
    again = fhir.post("/Composition", json=composition("cc", title="ignored"), headers=condition)
    fhir.post("/Composition", json=composition("cc"))
    several = fhir.post("/Composition", json=composition("cc"), headers=condition)

    assert (first.status_code, again.status_code, several.status_code) == (201, 200, 412)
    assert again.headers["location"] == first.headers["location"]
    assert again.json()["title"] == "qxcanary"
    assert _codes(several) == {"multiple-matches"}


def test_conditional_update(fhir: httpx.Client, composition: Make) -> None:
    url = "/Composition?identifier=urn:test:note|cu"

    created = fhir.put(url, json=composition("cu"))
    updated = fhir.put(url, json=composition("cu", title="qxcanary 2"))
    contradicted = fhir.put(url, json=composition("cu", id="other"))
    stale = fhir.put(url, json=composition("cu"), headers={"if-match": 'W/"1"'})
    fhir.post("/Composition", json=composition("cu"))
    several = fhir.put(url, json=composition("cu"))

    assert [a.status_code for a in (created, updated, contradicted, stale, several)] == [201, 200, 400, 412, 412]
    assert updated.json()["id"] == created.json()["id"]
    assert updated.headers["etag"] == 'W/"2"'


@pytest.mark.parametrize("condition", ["", "title=x", "identifier=a|b&title=x", "Composition?identifier=a|b"])
def test_a_condition_that_cannot_be_searched_is_refused(fhir: httpx.Client, composition: Make, condition: str) -> None:
    answer = fhir.post("/Composition", json=composition("odd"), headers={"if-none-exist": condition})

    assert answer.status_code == 400


def test_racing_conditional_creates_make_one(sandbox: Sandbox, fhir: httpx.Client, composition: Make) -> None:
    condition = {"if-none-exist": "identifier=urn:test:note|race"}

    def create(_: int) -> int:
        return fhir.post("/Composition", json=composition("race"), headers=condition).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(create, range(24)))

    assert statuses == [200] * 23 + [201]
    assert len(_search(fhir, "Composition", identifier="urn:test:note|race")) == 1
    assert sandbox.stats.requests["POST /fhir/Composition"] >= 24


def test_racing_conditional_updates_lose_no_version(fhir: httpx.Client, composition: Make) -> None:
    def update(_: int) -> str:
        url = "/Composition?identifier=urn:test:note|race-update"
        return fhir.put(url, json=composition("race-update")).headers["etag"]

    with ThreadPoolExecutor(8) as pool:
        etags = set(pool.map(update, range(16)))

    assert etags == {f'W/"{n}"' for n in range(1, 17)}


def test_search_by_identifier_covers_the_master_identifier(fhir: httpx.Client, document: Make) -> None:
    key = fhir.post("/DocumentReference", json=document("search")).json()["id"]

    for token in ("urn:test:note|search", "urn:test:version|search-v1", "search", "nothing,urn:test:note|search"):
        assert [found["id"] for found in _search(fhir, "DocumentReference", identifier=token)] == [key], token
    for token in ("urn:other|search", "|search", "urn:test:note|searc", "urn:test:note|search\\,x"):
        assert _search(fhir, "DocumentReference", identifier=token) == [], token
    assert key in {found["id"] for found in _search(fhir, "DocumentReference", identifier="urn:test:note|")}
    assert [found["id"] for found in _search(fhir, "DocumentReference", _id=f"{key},nobody")] == [key]
    assert _search(fhir, "DocumentReference", _id=key, identifier="urn:other|search") == []


def test_search_forgets_an_identifier_that_was_updated_away(fhir: httpx.Client, composition: Make) -> None:
    key = fhir.post("/Composition", json=composition("old-value")).json()["id"]

    fhir.put(f"/Composition/{key}", json=composition("new-value", id=key))

    assert _search(fhir, "Composition", identifier="urn:test:note|old-value") == []
    assert len(_search(fhir, "Composition", identifier="urn:test:note|new-value")) == 1


def test_search_pages_by_count(fhir: httpx.Client) -> None:
    for _ in range(5):
        fhir.post("/Device", json={"resourceType": "Device", "identifier": [{"system": "s", "value": "pages"}]})

    seen: list[str] = []
    url: str | None = "/Device?identifier=s|pages&_count=2"
    for _ in range(10):
        if url is None:
            break
        bundle = fhir.get(url).json()
        assert bundle["total"] == 5
        seen.extend(entry["resource"]["id"] for entry in bundle["entry"])
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)

    assert len(seen) == len(set(seen)) == 5
    assert "entry" not in fhir.get("/Device?_count=0").json()


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status", "code"),
    [
        ("GET", "/Composition/nobody", None, {}, 404, "not-found"),
        ("GET", "/Nonsense", None, {}, 404, "not-supported"),
        ("GET", "/a/b/c/d/e", None, {}, 404, "not-found"),
        ("GET", "/Composition?title=x", None, {}, 400, "not-supported"),
        ("GET", "/Composition?_count=many", None, {}, 400, "value"),
        ("DELETE", "/Composition/1", None, {}, 405, "not-supported"),
        ("GET", "/Composition", None, {"authorization": "Bearer wrong"}, 401, "login"),
        ("GET", "/Composition", None, {"accept": "application/fhir+xml"}, 406, "not-supported"),
        ("POST", "/Composition", b"{}", {"content-type": "text/plain"}, 415, "not-supported"),
        ("POST", "/Composition", b"{", {}, 400, "structure"),
        ("POST", "/Composition", b"[]", {}, 400, "structure"),
        ("POST", "/Composition", b'{"resourceType":"Patient"}', {}, 400, "structure"),
    ],
)
def test_every_error_is_an_outcome(
    fhir: httpx.Client, method: str, path: str, content: bytes | None, headers: dict[str, str], status: int, code: str
) -> None:
    answer = fhir.request(method, path, content=content, headers=headers)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/fhir+json"
    assert _codes(answer) == {code}


def test_a_token_is_optional(clients: Callable[[Sandbox, str], httpx.Client]) -> None:
    with Sandbox(fhir=FhirOptions(token=None)) as sandbox:
        assert "MEDSCRIBE_EHR_TOKEN" not in sandbox.environment()
        assert clients(sandbox, "fhir").get("/Patient", headers={"authorization": ""}).status_code == 200


def test_resources_and_all_their_versions_outlive_a_restart(
    tmp_path: Path, clients: Callable[[Sandbox, str], httpx.Client], composition: Make
) -> None:
    path = tmp_path / "state.sqlite"
    with Sandbox(state=path) as first:
        fhir = clients(first, "fhir")
        key = fhir.post("/Composition", json=composition("kept")).json()["id"]
        fhir.put(f"/Composition/{key}", json=composition("kept", id=key, title="qxcanary 2"))

    with Sandbox(state=path) as second:
        fhir = clients(second, "fhir")
        found = _search(fhir, "Composition", identifier="urn:test:note|kept")
        earlier = fhir.get(f"/Composition/{key}/_history/1").json()
        another = fhir.post("/Composition", json=composition("next")).json()["id"]

    assert [(one["id"], one["title"], one["meta"]["versionId"]) for one in found] == [(key, "qxcanary 2", "2")]
    assert earlier["title"] == "qxcanary"
    assert int(another) == int(key) + 1
