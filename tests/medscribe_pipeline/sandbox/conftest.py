from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from medscribe_pipeline.sandbox import Sandbox
from tests.medscribe_pipeline.sandbox.receiving import receiving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.medscribe_pipeline.sandbox.receiving import Receiver

ASKARA = {"authorization": "Bearer sandbox-askara-token"}
AUDIOSCRIBE = {"authorization": "Bearer sandbox-audioscribe-token"}
NABLA = {"authorization": "Bearer sandbox-nabla-key"}
INTRON = {"authorization": "Bearer sandbox-intron-key"}
FHIR = {"authorization": "Bearer sandbox-ehr-token", "content-type": "application/fhir+json"}


def _client(base_url: str, headers: dict[str, str]) -> httpx.Client:
    return httpx.Client(base_url=base_url, headers=headers, timeout=10)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One default sandbox a test file; tests that change what others look at open their own."""
    with Sandbox() as running:
        yield running


@pytest.fixture
def askara(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with _client(sandbox.askara_url, ASKARA) as client:
        yield client


@pytest.fixture
def audioscribe(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with _client(sandbox.audioscribe_url, AUDIOSCRIBE) as client:
        yield client


@pytest.fixture
def fhir(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with _client(sandbox.fhir_url, FHIR) as client:
        yield client


@pytest.fixture
def control(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with _client(sandbox.control_url, {}) as client:
        yield client


@pytest.fixture
def clients() -> Iterator[Callable[[Sandbox, str], httpx.Client]]:
    """Makes clients of a test's own sandbox, by app name, and closes them."""
    made: list[httpx.Client] = []
    headers = {
        "askara": ASKARA,
        "audioscribe": AUDIOSCRIBE,
        "nabla": NABLA,
        "intron": INTRON,
        "fhir": FHIR,
        "_control": {},
    }

    def make(running: Sandbox, app: str) -> httpx.Client:
        made.append(_client(f"{running.url}/{app}", headers[app]))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that listens on loopback."""
    with receiving() as listening:
        yield listening


@pytest.fixture
def composition() -> Callable[..., dict[str, Any]]:
    """Makes a Composition the endpoint accepts; keywords replace elements, `None` removes one."""

    def make(value: str = "c-1", **elements: Any) -> dict[str, Any]:
        whole = {
            "resourceType": "Composition",
            "identifier": {"system": "urn:test:note", "value": value},
            "status": "final",
            "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]},
            "subject": {"type": "Patient", "identifier": {"system": "urn:test:patient", "value": "p-1"}},
            "date": "2026-03-22T09:15:00+00:00",
            "author": [{"display": "Zzmark"}],
            "title": "qxcanary",
            "section": [
                {
                    "title": "Plan",
                    "text": {
                        "status": "additional",
                        "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>Hb &lt; 10 &amp; rest</p></div>',
                    },
                }
            ],
            **elements,
        }
        return {name: value for name, value in whole.items() if value is not None}

    return make


@pytest.fixture
def document() -> Callable[..., dict[str, Any]]:
    """Makes a DocumentReference the endpoint accepts; keywords replace elements, `None` removes one."""

    def make(value: str = "d-1", **elements: Any) -> dict[str, Any]:
        whole = {
            "resourceType": "DocumentReference",
            "masterIdentifier": {"system": "urn:test:version", "value": f"{value}-v1"},
            "identifier": [{"system": "urn:test:note", "value": value}],
            "status": "current",
            "docStatus": "final",
            "date": "2026-03-22T09:15:00Z",
            "content": [
                {"attachment": {"contentType": "text/plain; charset=utf-8", "data": "cXhjYW5hcnk=", "size": 8}}
            ],
            **elements,
        }
        return {name: value for name, value in whole.items() if value is not None}

    return make
