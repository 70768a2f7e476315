"""Each fault as a real client sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson
import pytest

from medscribe_pipeline.sandbox import CorpusOptions, Fault, Faults, Sandbox

Make = Callable[..., dict[str, Any]]
SESSIONS = "/api/v1/audioscribe/sessions/"


@pytest.fixture(autouse=True)
def _calm(sandbox: Sandbox) -> Iterator[None]:
    """Every test begins and ends without faults."""
    sandbox.set_faults(None)
    yield
    sandbox.set_faults(None)


def _uuids(answer: httpx.Response) -> list[str]:
    return [audio.get("uuid", "none") for audio in answer.json()]


def _is_told_of_success(fhir: httpx.Client, resource: dict[str, Any]) -> bool:
    try:
        answer = fhir.post("/Composition", json=resource)
        return answer.is_success and orjson.loads(answer.content)["resourceType"] == "Composition"
    except (httpx.TransportError, orjson.JSONDecodeError):
        return False


def test_throttled_in_seconds(sandbox: Sandbox, askara: httpx.Client) -> None:
    sandbox.set_faults(Faults.only(Fault.THROTTLED))

    first, second = askara.get("/audios"), askara.get("/audios")

    assert (first.status_code, first.headers["retry-after"]) == (429, "1")
    assert first.headers["content-type"] == "application/problem+json"
    assert second.status_code == 200


def test_throttled_until_a_date(sandbox: Sandbox, fhir: httpx.Client) -> None:
    sandbox.set_faults(Faults.only(Fault.THROTTLED_UNTIL))

    asked_at = datetime.now(UTC)
    answer = fhir.get("/Patient")

    wait = (parsedate_to_datetime(answer.headers["retry-after"]) - asked_at).total_seconds()
    assert answer.status_code == 429
    assert 1 <= wait <= 3
    assert answer.json()["issue"][0]["code"] == "throttled"


@pytest.mark.parametrize(
    ("kind", "status"), [(Fault.ERROR_500, 500), (Fault.UNAVAILABLE_503, 503), (Fault.BAD_GATEWAY_502, 502)]
)
def test_server_errors(sandbox: Sandbox, audioscribe: httpx.Client, kind: Fault, status: int) -> None:
    sandbox.set_faults(Faults.only(kind))

    assert [audioscribe.get(SESSIONS).status_code for _ in range(3)] == [status, 200, status]


@pytest.mark.parametrize(
    ("kind", "is_done"),
    [
        (Fault.THROTTLED, False),
        (Fault.ERROR_500, False),
        (Fault.UNAVAILABLE_503, False),
        (Fault.CUT_BEFORE, False),
        (Fault.BAD_GATEWAY_502, True),
        (Fault.CUT_AFTER, True),
        (Fault.CUT_BODY, True),
        (Fault.TRUNCATED, True),
    ],
)
def test_whether_a_write_was_done_although_its_answer_failed(
    sandbox: Sandbox, fhir: httpx.Client, composition: Make, kind: Fault, is_done: bool
) -> None:
    sandbox.set_faults(Faults.only(kind))

    was_told = _is_told_of_success(fhir, composition(f"fault-{kind}"))

    sandbox.set_faults(None)
    total = fhir.get("/Composition", params={"identifier": f"urn:test:note|fault-{kind}"}).json()["total"]
    assert not was_told
    assert total == (1 if is_done else 0)
    assert sandbox.stats.faults[kind] >= 1


@pytest.mark.parametrize("kind", [Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.CUT_BODY])
def test_cut_connections(sandbox: Sandbox, askara: httpx.Client, kind: Fault) -> None:
    sandbox.set_faults(Faults.only(kind))

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        askara.get("/audios")
    assert askara.get("/audios").status_code == 200


def test_a_cut_spares_other_connections(sandbox: Sandbox, askara: httpx.Client) -> None:
    askara.get("/me")
    sandbox.set_faults(Faults.only(Fault.CUT_BEFORE, apps=frozenset({"audioscribe"})))

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        httpx.get(sandbox.audioscribe_url + SESSIONS)

    assert askara.get("/me").status_code == 200


def test_truncated_json_is_a_whole_answer_that_cannot_be_read(sandbox: Sandbox, askara: httpx.Client) -> None:
    whole = askara.get("/audios").content
    sandbox.set_faults(Faults.only(Fault.TRUNCATED))

    answer = askara.get("/audios")

    assert answer.status_code == 200
    assert whole.startswith(answer.content)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(answer.content)


def test_a_slow_body_arrives_whole(sandbox: Sandbox, askara: httpx.Client) -> None:
    whole = askara.get("/audios").content
    sandbox.set_faults(Faults(probability=1, kinds=(Fault.SLOW,), slow_s=0.2))

    begun_at = time.monotonic()
    answer = askara.get("/audios")

    assert answer.content == whole
    assert time.monotonic() - begun_at >= 0.2


def test_a_renewable_token_is_refused_once(sandbox: Sandbox, askara: httpx.Client) -> None:
    environment = sandbox.environment(oauth=True)
    body = {
        "grant_type": "refresh_token",
        "client_id": environment["MEDSCRIBE_ASKARA_CLIENT_ID"],
        "client_secret": environment["MEDSCRIBE_ASKARA_CLIENT_SECRET"],
        "refresh_token": environment["MEDSCRIBE_ASKARA_REFRESH_TOKEN"],
    }
    sandbox.set_faults(Faults.only(Fault.UNAUTHORIZED))
    token = askara.post("/oauth2/token", json=body).json()["access_token"]

    statuses = [askara.get("/me", headers={"authorization": f"Bearer {token}"}).status_code for _ in range(3)]

    assert statuses == [401, 200, 200]
    assert askara.get("/me").status_code == 200, "a fixed token is left alone"


def test_a_duplicate_page_is_the_one_before(sandbox: Sandbox, audioscribe: httpx.Client) -> None:
    pages = [audioscribe.get(SESSIONS, params={"page": n}).json() for n in range(3)]
    sandbox.set_faults(Faults.only(Fault.DUPLICATE_PAGE))

    assert audioscribe.get(SESSIONS).json() == pages[0]
    assert audioscribe.get(SESSIONS, params={"page": 2}).json() == pages[1]
    assert audioscribe.get(SESSIONS, params={"page": 2}).json() == pages[2]


@pytest.mark.parametrize("size", [7, 10])
def test_shifted_pages_lose_one_item_and_repeat_another(sandbox: Sandbox, askara: httpx.Client, size: int) -> None:
    def walk() -> list[str]:
        found: list[str] = []
        for page in range(1, 20):
            uuids = _uuids(askara.get("/audios", params={"itemsPerPage": size, "page": page}))
            found.extend(uuids)
            if not uuids:
                break
        return found

    quiet = walk()
    sandbox.set_faults(Faults.only(Fault.SHIFTED_PAGES))
    shifted, after = walk(), walk()

    assert shifted == [*quiet[:size], *quiet[size + 1 :], quiet[0]], (
        "the second page's first item slipped into the first"
    )
    assert after == quiet, "the walk after it is undisturbed"


def test_a_client_with_bounded_retries_gets_everything_in_the_end(
    clients: Callable[[Sandbox, str], httpx.Client],
) -> None:
    faults = Faults(seed=3, retry_after_s=0, slow_s=0.02)
    with Sandbox(faults=faults, corpus=CorpusOptions(malformed=0)) as sandbox:
        askara = clients(sandbox, "askara")

        def get(path: str) -> Any:
            for _ in range(faults.in_a_row + 1):
                try:
                    answer = askara.get(path)
                    if answer.status_code == 200:
                        return orjson.loads(answer.content)
                except (httpx.TransportError, orjson.JSONDecodeError):
                    continue
            raise AssertionError("never got through")

        uuids = [audio["uuid"] for audio in get("/audios?itemsPerPage=100")]
        details = {get(f"/audios/{uuid}")["uuid"] for uuid in uuids}

    assert len(details) == 60
    assert len(sandbox.stats.faults) >= 8
