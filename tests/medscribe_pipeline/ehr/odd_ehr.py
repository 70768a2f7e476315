"""A FHIR server on loopback with the habits of one kind or another: each is a switch, and may be set at any time."""

from __future__ import annotations

import copy
import json
import socket
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback import Loopback
from tests.medscribe_pipeline.ehr.odd_habits import STATEMENT, EntryFault, Fault, Habits, Resource, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["STATEMENT", "EntryFault", "Fault", "Habits", "OddEhr", "Resource", "Seen"]

Reply = tuple[int, Any, dict[str, str]]


class OddEhr:
    """The server.

    Attributes:
        does: Its habits.
        store: All versions of every resource, by (type, id).
        faults: One for each coming write; when there is none, it succeeds.
        read_faults: Statuses for the coming reads and searches; 0 for the true one.
        seen: All requests, in order.
        before_write: Called before a write is looked at, as somebody else might be at work at that moment.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.reset()
        ehr = self

        class Handler(_Handler):
            server_of = ehr

        self._server = Loopback(Handler)
        self.base_url = f"{self._server.url}/fhir"

    def reset(self) -> None:
        """As new."""
        with self.lock:
            self.does = Habits()
            self.store: dict[tuple[str, str], list[Resource]] = {}
            self.keys: dict[str, tuple[str, str]] = {}
            self.faults: deque[Fault] = deque()
            self.read_faults: deque[int] = deque()
            self.seen: list[Seen] = []
            self.before_write: Callable[[], None] = lambda: None
            self._ids = 0

    def close(self) -> None:
        self._server.close()

    def newest(self, kind: str) -> list[Resource]:
        with self.lock:
            return [versions[-1] for (each, _), versions in self.store.items() if each == kind]

    def writes(self) -> list[Seen]:
        return [each for each in self.seen if each.method != "GET"]

    def edit(self, kind: str, server_id: str, **changes: Any) -> None:
        """Somebody in the EHR changes a resource."""
        with self.lock:
            self._put((kind, server_id), {**self.store[kind, server_id][-1], **changes})

    def create(
        self, kind: str, resource: Resource, condition: str | None, key: str | None = None
    ) -> tuple[int, Resource]:
        with self.lock:
            self._check(kind, resource)
            if "id" in resource:
                raise _RefusedError(400)
            if condition and self.does.conditional:
                token = parse_qs(condition)["identifier"][0]
                if found := self.find(kind, token):
                    return (412, found[0]) if len(found) > 1 else (200, found[0])
            if key and key in self.keys:
                return 409, self.store[self.keys[key]][-1]
            self._ids += 1
            place = (kind, f"s{self._ids}")
            if key:
                self.keys[key] = place
            return 201, self._put(place, resource)

    def update(self, kind: str, server_id: str, resource: Resource, if_match: str | None) -> tuple[int, Resource]:
        with self.lock:
            self._check(kind, resource)
            there = self.store.get((kind, server_id))
            if not self.does.updates:
                return 405, {}
            stale = there is not None and if_match and if_match != f'W/"{len(there)}"'
            if stale and self.does.if_match:
                return self.does.stale, {}
            return (200 if there else 201), self._put((kind, server_id), resource)

    def find(self, kind: str, token: str) -> list[Resource]:
        system, _, value = token.partition("|")
        wanted = {"system": system, "value": value}
        return [each for each in self.newest(kind) if wanted in _identifiers(each)]

    def bundle(self, bundle: Resource, faults: Mapping[int, EntryFault]) -> list[Resource]:
        """Carries out a Bundle."""
        with self.lock:
            before, ids = copy.deepcopy(self.store), self._ids
            together = bundle["type"] == "transaction" and self.does.atomic
            entries = [self._entry(entry, faults.get(index)) for index, entry in enumerate(bundle["entry"])]
            failed = [int(each["response"]["status"]) for each in entries if each["response"]["status"] >= "4"]
            if failed and (together or self.does.strict):
                self.store, self._ids = before, ids
                raise _RefusedError(failed[0])
            if together:
                self._resolve(bundle["entry"], entries)
            return entries

    def _entry(self, entry: Resource, fault: EntryFault | None) -> Resource:
        request = entry["request"]
        kind, _, server_id = request["url"].partition("/")
        told: Resource = {"status": str(fault.status)} if fault else {}
        if fault and fault.reset_s is not None:
            extension = {"url": "https://example.org/rate-limit-reset", "valueUnsignedInt": fault.reset_s}
            told["outcome"] = {**_outcome("throttled"), "extension": [extension]}
        if fault and not fault.committed:
            return {"response": told}
        try:
            if request["method"] == "POST":
                condition = request.get("ifNoneExist")
                status, stored = self.create(kind, entry["resource"], unquote(condition) if condition else None)
            else:
                status, stored = self.update(kind, server_id, entry["resource"], request.get("ifMatch"))
        except _RefusedError as error:
            status, stored = error.status, {}
        if told or status >= 400:
            return {"response": told or {"status": str(status), "outcome": _outcome("invalid")}}
        tags = {"etag": self.tags(stored)["ETag"]} if self.does.etags else {}
        place = {"location": f"{kind}/{stored['id']}"} if self.does.locations else {}
        return {"response": {"status": str(status), **place, **tags}}

    def _resolve(self, sent: list[Resource], answered: list[Resource]) -> None:
        """Puts the places of the entries of a transaction where they refer to each other."""
        places = {
            entry["fullUrl"]: each["response"]["location"]
            for entry, each in zip(sent, answered, strict=True)
            if "location" in each["response"]
        }
        for place in places.values():
            kind, _, server_id = place.partition("/")
            self.store[kind, server_id][-1] = _with_places(self.store[kind, server_id][-1], places)

    def _check(self, kind: str, resource: Resource) -> None:
        attached = [content["attachment"]["contentType"] for content in resource.get("content", [])]
        allowed = self.does.content_types
        if kind not in self.does.types:
            raise _RefusedError(404)
        if allowed and not set(attached) <= set(allowed):
            raise _RefusedError(422)
        if status := self.does.refuses(resource):
            raise _RefusedError(status)

    def _put(self, place: tuple[str, str], resource: Resource) -> Resource:
        kept = {name: value for name, value in resource.items() if name not in self.does.dropped}
        if not self.does.identifiers:
            kept = {name: value for name, value in kept.items() if name not in ("identifier", "masterIdentifier")}
        versions = self.store.setdefault(place, [])
        meta = {**kept.get("meta", {}), "versionId": str(len(versions) + 1)}
        versions.append({**copy.deepcopy(kept), "id": place[1], "meta": meta})
        return versions[-1]

    def show(self, stored: Resource) -> Resource:
        """As it is told to whoever asks for it."""
        meta = stored["meta"] if self.does.etags else {k: v for k, v in stored["meta"].items() if k != "versionId"}
        return self.does.shown({**copy.deepcopy(stored), "meta": meta})

    def tags(self, stored: Resource) -> dict[str, str]:
        """The header that tells the version, where it is told."""
        return {"ETag": f'W/"{stored["meta"]["versionId"]}"'} if self.does.etags else {}


class _RefusedError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # Headers and body in one segment.
    disable_nagle_algorithm = True
    server_of: OddEhr

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def do_GET(self) -> None:
        ehr, path = self.server_of, self._begin(None)
        if path == "metadata":
            self._send(*ehr.does.statement)
        elif path == ".well-known/smart-configuration":
            self._send(*ehr.does.smart)
        elif not self._may():
            self._send(401, _outcome("login"))
        elif ehr.read_faults and (status := ehr.read_faults.popleft()):
            self._send(status, _outcome("exception"))
        elif "/" in path:
            kind, _, server_id = path.partition("/")
            versions = ehr.store.get((kind, server_id))
            if not ehr.does.reads:
                self._send(403, b"")
            elif versions:
                self._send(200, ehr.show(versions[-1]), ehr.tags(versions[-1]))
            else:
                self._send(404, _outcome("not-found"))
        elif not ehr.does.searches:
            self._send(403, b"")
        else:
            (token,) = parse_qs(urlsplit(self.path).query)["identifier"]
            entries = [{"resource": ehr.show(each)} for each in ehr.find(path, token)]
            found = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
            self._send(200, ehr.does.searchset(found))

    def do_POST(self) -> None:
        self._write()

    def do_PUT(self) -> None:
        self._write()

    def _write(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(raw)
        ehr, path = self.server_of, self._begin(body)
        if not self._may():
            self._send(401, _outcome("login"))
            return
        ehr.before_write()
        with ehr.lock:
            fault = ehr.faults.popleft() if ehr.faults else Fault()
        happens = fault.committed or not (fault.status or fault.cut)
        status, answer, headers = self._carry_out(path, body, len(raw), fault) if happens else (0, {}, {})
        if fault.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault.status:
            status, answer = fault.status, _outcome("exception")
        if fault.edit and isinstance(answer, dict):
            fault.edit(answer)
        self._send(status, answer if fault.body is None else fault.body, {**headers, **fault.headers})

    def _carry_out(self, path: str, body: Resource, size: int, fault: Fault) -> Reply:
        ehr = self.server_of
        try:
            if ehr.does.failing:
                return ehr.does.failing, _outcome("exception"), {}
            if ehr.does.max_bytes and size > ehr.does.max_bytes:
                return 413, _outcome("too-long"), {}
            if not path:
                return self._bundle(body, fault)
            if self.command == "POST":
                key = self.headers.get(ehr.does.header) if ehr.does.header else None
                status, stored = ehr.create(path, body, self.headers.get("If-None-Exist"), key)
                return self._single(ehr.does.commits_then or status, stored)
            kind, _, server_id = path.partition("/")
            return self._single(*ehr.update(kind, server_id, body, self.headers.get("If-Match")))
        except _RefusedError as error:
            return error.status, _outcome("invalid"), {}

    def _single(self, status: int, stored: Resource) -> Reply:
        if status >= 400 and (status != 409 or not stored):
            return status, _outcome("conflict"), {}
        place = {"Location": f"{stored['resourceType']}/{stored['id']}"} if self.server_of.does.locations else {}
        return status, stored if status == 409 else b"", {**self.server_of.tags(stored), **place}

    def _bundle(self, bundle: Resource, fault: Fault) -> Reply:
        ehr = self.server_of
        if not ehr.does.bundles:
            raise _RefusedError(405)
        entries = ehr.bundle(bundle, fault.entries)
        if ehr.does.commits_then:
            raise _RefusedError(ehr.does.commits_then)
        return 200, {"resourceType": "Bundle", "type": f"{bundle['type']}-response", "entry": entries}, {}

    def _begin(self, body: Any) -> str:
        path = urlsplit(self.path).path.removeprefix("/fhir").strip("/")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._seen = Seen(self.command, path, headers, body)
        self.server_of.seen.append(self._seen)
        return path

    def _may(self) -> bool:
        token = self.server_of.does.token
        return token is None or self.headers["Authorization"] == f"Bearer {token}"

    def _send(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {"Content-Type": "application/fhir+json", "Date": self.date_time_string(), **(headers or {})}
        self._seen.answered = status
        self.send_response_only(status)
        for name, value in told.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _outcome(code: str) -> Resource:
    issue = {"severity": "error", "code": code, "diagnostics": "about Zoë Testperson", "expression": ["Composition"]}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def _with_places(node: Any, places: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_with_places(each, places) for each in node]
    if not isinstance(node, dict):
        return node
    changed = {name: _with_places(part, places) for name, part in node.items()}
    known = places.get(str(node.get("reference")))
    return {**changed, "reference": known} if known else changed


def _identifiers(resource: Resource) -> list[Resource]:
    identifiers = resource.get("identifier", [])
    listed = identifiers if isinstance(identifiers, list) else [identifiers]
    return [*listed, *([resource["masterIdentifier"]] if "masterIdentifier" in resource else [])]
