"""A FHIR R4 endpoint of our own making on loopback, small and strict, that fails on demand and counts what it did."""

from __future__ import annotations

import copy
import json
import re
import socket
import threading
import time
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FakeEhr", "Fault", "ehr"]

Resource = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one transaction.

    Attributes:
        status: Answer with this status instead of processing; 0 processes.
        cut: Process, then close the connection without an answer.
        headers: Headers of the answer.
        body: Body instead of an OperationOutcome (`status`), or instead of the response Bundle (processed).
        edit: Changes the response Bundle before it is sent.
    """

    status: int = 0
    cut: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    edit: Callable[[Resource], object] | None = None


CUT = Fault(cut=True)
BROKEN = Fault(status=500)


class _FailedError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class FakeEhr:
    """The endpoint. Switches may be set at any time.

    Attributes:
        store: Versions of every resource by (type, id), oldest first.
        faults: One for each coming transaction; when empty they succeed.
        seen: Requests by method and first path part.
        order: `DocumentReference.subject` and version of each processed transaction.
        searches_work: Whether searches are answered.
        etags: Whether versions are told.
        conditions: Whether `ifNoneExist` and `ifMatch` are heeded; some servers take them and do as they please.
        on_commit: Called after a transaction is committed, before it is answered.
        before_transaction: Called before it is looked at.
        token: Bearer token to insist on.
        fhir_version: What the CapabilityStatement says.
    """

    def __init__(self) -> None:
        self.store: dict[tuple[str, str], list[Resource]] = {}
        self.faults: deque[Fault] = deque()
        self.seen: Counter[str] = Counter()
        self.order: list[Resource] = []
        self.searches_work = True
        self.etags = True
        self.conditions = True
        self.on_commit: Callable[[], None] = lambda: None
        self.before_transaction: Callable[[], None] = lambda: None
        self.token: str | None = None
        self.fhir_version: str | None = "4.0.1"
        self.lock = threading.RLock()
        self._next_id = 0
        self._busy = 0
        ehr = self

        class Handler(_Handler):
            server_of = ehr

        self._server = Loopback(Handler)
        self.base_url = f"{self._server.url}/fhir"

    def close(self) -> None:
        self._server.close()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around whatever a request makes the server do."""
        with self.lock:
            self._busy += 1
        try:
            yield
        finally:
            with self.lock:
                self._busy -= 1

    def wait_until_idle(self) -> None:
        """Waits for what clients that are gone have left behind to be carried out."""
        for _ in range(500):
            if not self._busy:
                return
            time.sleep(0.01)
        raise TimeoutError

    def newest(self, kind: str) -> list[Resource]:
        """The current version of every resource of a type."""
        with self.lock:
            return [versions[-1] for (each, _), versions in self.store.items() if each == kind]

    def put(self, kind: str, server_id: str, resource: Resource) -> Resource:
        """Writes a version, as anybody at the EHR might."""
        with self.lock:
            versions = self.store.setdefault((kind, server_id), [])
            stored = {**copy.deepcopy(resource), "id": server_id, "meta": {"versionId": str(len(versions) + 1)}}
            versions.append(stored)
            return stored

    def find(self, kind: str, token: str) -> list[Resource]:
        system, _, value = token.partition("|")
        return [each for each in self.newest(kind) if {"system": system, "value": value} in _identifiers(each)]

    def transaction(self, bundle: Resource) -> Resource:
        """All or nothing."""
        with self.lock:
            before, before_id = copy.deepcopy(self.store), self._next_id
            try:
                entries = [self._entry(entry) for entry in bundle["entry"]]
            except _FailedError:
                self.store, self._next_id = before, before_id
                raise
            self.order += [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] != "Composition"]
        return {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}

    def _entry(self, entry: Resource) -> Resource:
        request, resource = entry["request"], entry["resource"]
        if request["method"] == "POST":
            return self._create(request, resource)
        kind, _, server_id = request["url"].partition("/")
        there = self.store.get((kind, server_id))
        if there is None:
            raise _FailedError(404, "not-found")
        if resource.get("id") != server_id:
            raise _FailedError(400, "invalid")
        if self.conditions and request.get("ifMatch") not in (None, f'W/"{there[-1]["meta"]["versionId"]}"'):
            raise _FailedError(412, "conflict")
        return self._outcome(200, self.put(kind, server_id, resource))

    def _create(self, request: Resource, resource: Resource) -> Resource:
        if "id" in resource:
            raise _FailedError(400, "invalid")
        kind = request["url"]
        if (condition := request.get("ifNoneExist")) and self.conditions:
            ((name, (token,)),) = parse_qs(condition, strict_parsing=True).items()
            assert name == "identifier"
            matches = self.find(kind, token)
            if len(matches) > 1:
                raise _FailedError(412, "multiple-matches")
            if matches:
                return self._outcome(200, matches[0])
        self._next_id += 1
        return self._outcome(201, self.put(kind, f"s{self._next_id}", resource))

    def _outcome(self, status: int, stored: Resource) -> Resource:
        location = f"{stored['resourceType']}/{stored['id']}"
        if not self.etags:
            return {"response": {"status": str(status), "location": location}}
        version = stored["meta"]["versionId"]
        return {
            "response": {
                "status": f"{status} {'Created' if status == 201 else 'OK'}",
                "location": f"{self.base_url}/{location}/_history/{version}",
                "etag": f'W/"{version}"',
            }
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # Headers and body in one segment; two would wait for each other (Nagle, delayed ACK).
    disable_nagle_algorithm = True
    server_of: FakeEhr

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def do_GET(self) -> None:
        ehr = self.server_of
        parts = urlsplit(self.path)
        path = re.sub(r"^/fhir/?", "", parts.path)
        ehr.seen[f"GET {path.partition('/')[0]}"] += 1
        if path == "metadata":
            if ehr.fhir_version is None:
                self._fail(404, "not-found")
            else:
                self._send(200, {"resourceType": "CapabilityStatement", "fhirVersion": ehr.fhir_version})
        elif not self._may():
            self._fail(401, "login")
        elif "/" in path:
            kind, _, server_id = path.partition("/")
            versions = ehr.store.get((kind, server_id))
            if versions is None:
                self._fail(404, "not-found")
            else:
                tag = {"ETag": f'W/"{versions[-1]["meta"]["versionId"]}"'} if ehr.etags else {}
                self._send(200, self._shown(versions[-1]), tag)
        elif not ehr.searches_work:
            self._fail(400, "not-supported")
        else:
            (token,) = parse_qs(parts.query)["identifier"]
            entries = [{"resource": self._shown(each)} for each in ehr.find(path, token)]
            self._send(200, {"resourceType": "Bundle", "type": "searchset", "entry": entries})

    def do_POST(self) -> None:
        ehr = self.server_of
        bundle = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with ehr.working():
            self._take(ehr, bundle)

    def _take(self, ehr: FakeEhr, bundle: Resource) -> None:
        ehr.seen["POST"] += 1
        if not self._may():
            self._fail(401, "login")
            return
        ehr.before_transaction()
        with ehr.lock:
            fault = ehr.faults.popleft() if ehr.faults else Fault()
        if fault.status:
            self._fail(fault.status, "exception", fault.headers, fault.body)
            return
        try:
            answer = ehr.transaction(bundle)
        except _FailedError as error:
            self._fail(error.status, error.code)
            return
        ehr.on_commit()
        if fault.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault.edit:
            fault.edit(answer)
        self._send(200, answer, fault.headers, raw=fault.body)

    def _may(self) -> bool:
        token = self.server_of.token
        return token is None or self.headers["Authorization"] == f"Bearer {token}"

    def _shown(self, resource: Resource) -> Resource:
        return resource if self.server_of.etags else {k: v for k, v in resource.items() if k != "meta"}

    def _fail(self, status: int, code: str, headers: dict[str, str] | None = None, raw: bytes | None = None) -> None:
        issue = {
            "severity": "error",
            "code": code,
            "diagnostics": "about Zoë Testperson",
            "expression": ["Composition.date"],
        }
        self._send(status, {"resourceType": "OperationOutcome", "issue": [issue]}, headers, raw)

    def _send(
        self, status: int, body: Resource, headers: dict[str, str] | None = None, raw: bytes | None = None
    ) -> None:
        content = json.dumps(body).encode() if raw is None else raw
        try:
            self.send_response(status)
            for name, value in {"Content-Type": "application/fhir+json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # The client is gone: some tests kill it on purpose.


def _identifiers(resource: Resource) -> list[Resource]:
    identifiers = resource.get("identifier", [])
    listed = identifiers if isinstance(identifiers, list) else [identifiers]
    return [*listed, *([resource["masterIdentifier"]] if "masterIdentifier" in resource else [])]


@pytest.fixture
def ehr() -> Iterator[FakeEhr]:
    """For every room that has something delivered."""
    server = FakeEhr()
    yield server
    server.close()
