"""Other tests trust the server and the judge, so they are tested themselves, with a client of nobody's make."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.fhir_server import Abilities, Endpoint, Fault, Faults, FhirServer, Wanted, judge
from tests.fhir_server.judge import words

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM = "https://example.org/notes"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirServer]:
    with FhirServer(tmp_path_factory.mktemp("fhir") / "ledger.sqlite") as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=2) as opened:
        yield opened


def document(note: int = 1, version: int = 1, **more: Any) -> dict[str, Any]:
    data = base64.b64encode(f"<p>{words(note, version)}</p>".encode()).decode()
    return {
        "resourceType": "DocumentReference",
        "identifier": [{"system": SYSTEM, "value": f"n{note}"}],
        "masterIdentifier": {"system": SYSTEM, "value": f"n{note}-{version}"},
        "status": "current",
        "content": [{"attachment": {"contentType": "text/html", "data": data}}],
        **more,
    }


def provenance(target: str) -> dict[str, Any]:
    return {
        "resourceType": "Provenance",
        "id": "p1",
        "target": [{"reference": target}],
        "recorded": "2026-03-02T10:00:00Z",
        "agent": [{"who": {"display": "Synthetic"}}],
    }


def create(
    client: httpx.Client, at: Endpoint, resource: dict[str, Any], condition: str | None = None
) -> httpx.Response:
    headers = {"If-None-Exist": condition} if condition else {}
    return client.post(f"{at.base_url}/{resource['resourceType']}", json=resource, headers=headers)


def entry(resource: dict[str, Any], method: str = "POST", url: str = "", **request: str) -> dict[str, Any]:
    place = url or resource["resourceType"]
    return {
        "fullUrl": f"urn:uuid:{resource.get('id', 'd1')}",
        "resource": resource,
        "request": {"method": method, "url": place, **request},
    }


def bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def test_a_conditional_create_happens_once(server: FhirServer, client: httpx.Client) -> None:
    at = server.endpoint()
    condition = f"identifier={SYSTEM}%7Cn1"

    first, second = (create(client, at, document(), condition) for _ in range(2))

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.headers["Location"] == second.headers["Location"]
    assert judge(at.written(), [Wanted(1, kinds=("DocumentReference",))]).fine
    assert create(client, at, document(), "subject=x").status_code == 400


def test_without_the_ability_the_condition_is_ignored(server: FhirServer, client: httpx.Client) -> None:
    at = server.endpoint(Abilities(conditional_create=False))

    answers = [create(client, at, document(), f"identifier={SYSTEM}%7Cn1").status_code for _ in range(2)]

    assert answers == [201, 201]
    assert judge(at.written(), []).twice == ("DocumentReference note 1: [1, 1]",)


def test_an_update_is_tied_to_the_version_it_knows(server: FhirServer, client: httpx.Client) -> None:
    at = server.endpoint()
    created = create(client, at, document())
    place, etag = created.headers["Location"].partition("/_history")[0], created.headers["ETag"]
    changed = {**document(version=2), "id": place.partition("/")[2]}

    statuses = [
        client.put(f"{at.base_url}/{place}", json=changed, headers={"If-Match": etag}).status_code for _ in range(2)
    ]

    assert statuses == [200, 412]
    read = client.get(f"{at.base_url}/{place}")
    assert (read.headers["ETag"], read.json()["meta"]["versionId"]) == ('W/"2"', "2")
    found = client.get(f"{at.base_url}/DocumentReference", params={"identifier": f"{SYSTEM}|n1-2"}).json()
    assert [each["resource"]["id"] for each in found["entry"]] == [changed["id"]]


def test_a_transaction_happens_as_a_whole_and_points_to_what_it_made(server: FhirServer, client: httpx.Client) -> None:
    at = server.endpoint()
    about = entry(provenance("urn:uuid:d1"), "PUT", "Provenance/p1")

    refused = client.post(at.base_url, json=bundle("transaction", about, entry({**document(), "content": []})))
    nothing = at.written()
    accepted = client.post(at.base_url, json=bundle("transaction", about, entry(document())))

    assert (refused.status_code, nothing) == (422, [])
    assert [each["response"]["status"] for each in accepted.json()["entry"]] == ["201 Created", "201 Created"]
    assert judge(at.written(), [Wanted(1, kinds=("DocumentReference",))]).fine
    (target,) = client.get(f"{at.base_url}/Provenance/p1").json()["target"]
    assert target["reference"].startswith("DocumentReference/")


def test_entries_of_a_batch_have_fates_of_their_own(server: FhirServer, client: httpx.Client) -> None:
    at = server.endpoint(faults=Faults(seed=4, script=("", Fault.ENTRIES_THROTTLED, Fault.ENTRIES_FAILED)))
    two = [{**entry(document(note)), "fullUrl": f"urn:uuid:{note}"} for note in (1, 2)]

    answers = [client.post(at.base_url, json=bundle("batch", *two)).json() for _ in range(3)]

    statuses = [[each["response"]["status"][:3] for each in answer["entry"]] for answer in answers]
    assert statuses[0] == ["201", "201"]
    assert "429" in statuses[1]
    assert "500" in statuses[2]
    assert len(at.written()) >= 4 - statuses[1].count("429")


@pytest.mark.parametrize(
    ("fault", "status", "written"),
    [
        (Fault.ERROR_BEFORE, 5, 0),
        (Fault.ERROR_AFTER, 5, 1),
        (Fault.HTML_BEFORE, 5, 0),
        (Fault.HTML_AFTER, 2, 1),
        (Fault.EMPTY_AFTER, 2, 1),
        (Fault.THROTTLED, 4, 0),
        (Fault.CONFLICT, 4, 0),
        (Fault.PRECONDITION, 4, 0),
        (Fault.REPLAYED, 2, 2),
    ],
)
def test_faults_that_answer(server: FhirServer, client: httpx.Client, fault: Fault, status: int, written: int) -> None:
    at = server.endpoint(faults=Faults(script=(fault,)))

    answer = create(client, at, document())

    assert (answer.status_code // 100, len(at.written())) == (status, written)
    assert ("Retry-After" in answer.headers) == (fault is Fault.THROTTLED)
    assert create(client, at, document(2)).status_code == 201
    assert at.told()["happened"] == {fault: 1}


@pytest.mark.parametrize(
    ("fault", "written"), [(Fault.CUT_BEFORE, 0), (Fault.CUT_AFTER, 1), (Fault.CUT_MIDDLE, 1), (Fault.SLOW, 1)]
)
def test_faults_that_leave_the_client_without_an_answer(server: FhirServer, fault: Fault, written: int) -> None:
    at = server.endpoint(faults=Faults(script=(fault,), slow_s=0.3))

    with httpx.Client(timeout=0.1) as client, pytest.raises(httpx.TransportError):
        create(client, at, document())

    at.wait_until_done()
    assert len(at.written()) == written


def test_a_token_lapses_once(server: FhirServer, client: httpx.Client) -> None:
    at = server.endpoint(Abilities(token=True), Faults(script=("", Fault.EXPIRED)))

    def ask() -> int:
        client.headers["Authorization"] = f"Bearer {client.post(at.token_url).json()['access_token']}"
        return create(client, at, document()).status_code

    assert create(client, at, document()).status_code == 401
    assert [ask(), ask()] == [401, 201]


def test_the_schedule_follows_from_the_seed(server: FhirServer, client: httpx.Client) -> None:
    faults = Faults(seed=7, shares={Fault.ERROR_BEFORE: 0.3, Fault.CONFLICT: 0.3}, most=5)

    runs = [
        [create(client, at, document(number)).status_code for number in range(20)]
        for at in (server.endpoint(faults=faults), server.endpoint(faults=faults))
    ]

    assert runs[0] == runs[1]
    assert sum(status != 201 for status in runs[0]) == 5


def test_what_it_says_of_itself_is_what_it_does(server: FhirServer, client: httpx.Client) -> None:
    poor = Abilities(
        transaction=False, batch=False, conditional_create=False, search=False, read=False, composition=False
    )
    at = server.endpoint(poor)

    statement = client.get(f"{at.base_url}/metadata").json()

    types = {each["type"]: each for each in statement["rest"][0]["resource"]}
    codes = {each["code"] for each in types["DocumentReference"]["interaction"]}
    assert "Composition" not in types
    assert codes == {"create", "update"}
    assert client.post(at.base_url, json=bundle("batch", entry(document()))).status_code == 405
    assert client.get(f"{at.base_url}/DocumentReference/x").status_code == 403
    assert client.get(f"{at.base_url}/DocumentReference", params={"identifier": "a|b"}).status_code == 403
    assert create(client, at, {"resourceType": "Composition"}).status_code == 404


def test_encounters_are_found_by_patient_and_date(server: FhirServer, client: httpx.Client) -> None:
    period = {"start": "2026-03-02T09:00:00+01:00", "end": "2026-03-02T09:30:00+01:00"}
    visit = {"resourceType": "Encounter", "id": "e1", "subject": {"reference": "Patient/p1"}, "period": period}
    at = server.endpoint(seed=[visit])

    def found(*dates: str) -> int:
        query = urlencode([("patient", "Patient/p1"), *(("date", each) for each in dates)])
        total: int = client.get(f"{at.base_url}/Encounter?{query}").json()["total"]
        return total

    assert found("ge2026-03-02T08:10:00Z", "le2026-03-02T08:20:00Z") == 1
    assert found("ge2026-03-02T08:40:00Z") == found("le2026-03-02T07:00:00Z") == 0


def test_the_judge_sees_what_is_wrong(server: FhirServer, client: httpx.Client) -> None:
    at = server.endpoint()
    created = create(client, at, document(1, 2)).headers["Location"].partition("/_history")[0]
    older = {**document(1, 1), "id": created.partition("/")[2]}
    for resource in (older, older):
        client.put(f"{at.base_url}/{created}", json=resource)
    client.put(f"{at.base_url}/Provenance/p1", json=provenance("DocumentReference/nowhere"))

    said = judge(at.written(), [Wanted(1, 2), Wanted(2)])

    assert said.missing == tuple(
        f"{kind} {words(*each)}" for each in ((1, 2), (2, 1)) for kind in ("Composition", "DocumentReference")
    )
    assert said.dangling == ("Provenance/p1 -> DocumentReference/nowhere",)
    assert said.stale[0] == "DocumentReference note 1 says 1 after 2"
    assert said.again == (created,)
    assert not said.fine


def test_it_is_quick(server: FhirServer, client: httpx.Client) -> None:
    """Answers must not wait for an acknowledgement, or every test would."""
    at = server.endpoint()
    started = time.perf_counter()

    for number in range(50):
        create(client, at, document(number))

    assert time.perf_counter() - started < 1.5  # 40 ms each would be 2 s
