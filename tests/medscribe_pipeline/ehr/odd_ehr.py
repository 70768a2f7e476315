"""A FHIR server on loopback with the habits of one kind or another: each is a switch, and may be set at any time."""

from __future__ import annotations

import copy
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Resource = dict[str, Any]

STATEMENT: Resource = {
    "resourceType": "CapabilityStatement",
    "fhirVersion": "4.0.1",
    "software": {"name": "Odd", "version": "1"},
    "rest": [
        {
            "mode": "server",
            "interaction": [{"code": "transaction"}, {"code": "batch"}],
            "resource": [
                {
                    "type": name,
                    "interaction": [{"code": code} for code in ("create", "read", "update", "search-type")],
                    "conditionalCreate": True,
                    "versioning": "versioned-update",
                    "searchParam": [{"name": "identifier", "type": "token"}],
                }
                for name in ("Composition", "DocumentReference", "Provenance")
            ],
        }
    ],
}


@dataclass
class Habits:
    """What the server does.

    Attributes:
        statement: Status and body of `metadata`; the body as JSON value or bytes.
        smart: The same of the SMART configuration.
        conditional: Whether `If-None-Exist` and `ifNoneExist` are heeded.
        if_match: Whether `If-Match` is heeded.
        etags: Whether versions are told.
        identifiers: Whether identifiers are kept.
        dropped: Top-level elements that are not kept.
        header: Name of an idempotency header, in lower case, that is heeded.
        types: Resource types taken.
        bundles: Whether bundles are taken.
        content_types: Attachment types taken; any when empty.
        updates: Whether PUT is taken.
        failing: Answer every write with this status; 0 for none.
        token: Bearer token to insist on, save for metadata.
        commits_then: Status answered after a create was carried out; 0 for the true one.
    """

    statement: tuple[int, Any] = (200, STATEMENT)
    smart: tuple[int, Any] = (404, b"")
    conditional: bool = True
    if_match: bool = True
    etags: bool = True
    identifiers: bool = True
    dropped: tuple[str, ...] = ()
    header: str = ""
    types: tuple[str, ...] = ("Composition", "DocumentReference", "Provenance")
    bundles: bool = True
    content_types: tuple[str, ...] = ()
    updates: bool = True
    failing: int = 0
    token: str | None = None
    commits_then: int = 0


@dataclass
class Seen:
    """One request."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: Any = field(repr=False)


class OddEhr:
    """The server. `store` holds all versions by (type, id)."""

    def __init__(self) -> None:
        self.does = Habits()
        self.store: dict[tuple[str, str], list[Resource]] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.seen: list[Seen] = []
        self.lock = threading.RLock()
        ehr = self

        class Handler(_Handler):
            server_of = ehr

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._http.server_address[1]}/fhir"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def newest(self, kind: str) -> list[Resource]:
        with self.lock:
            return [versions[-1] for (each, _), versions in self.store.items() if each == kind]

    def writes(self) -> list[Seen]:
        return [each for each in self.seen if each.method != "GET"]

    def create(
        self, kind: str, resource: Resource, condition: str | None, key: str | None = None
    ) -> tuple[int, Resource]:
        with self.lock:
            self._check(kind, resource)
            if condition and self.does.conditional:
                token = parse_qs(condition)["identifier"][0]
                if found := self.find(kind, token):
                    return (412, found[0]) if len(found) > 1 else (200, found[0])
            if key and key in self.keys:
                return 409, self.store[self.keys[key]][-1]
            place = (kind, f"s{len(self.store) + 1}")
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
                return 412, {}
            return (200 if there else 201), self._put((kind, server_id), resource)

    def find(self, kind: str, token: str) -> list[Resource]:
        system, _, value = token.partition("|")
        wanted = {"system": system, "value": value}
        return [each for each in self.newest(kind) if wanted in _identifiers(each)]

    def _check(self, kind: str, resource: Resource) -> None:
        attached = [content["attachment"]["contentType"] for content in resource.get("content", [])]
        allowed = self.does.content_types
        if kind not in self.does.types:
            raise _RefusedError(404)
        if allowed and not set(attached) <= set(allowed):
            raise _RefusedError(422)

    def _put(self, place: tuple[str, str], resource: Resource) -> Resource:
        kept = {name: value for name, value in resource.items() if name not in self.does.dropped}
        if not self.does.identifiers:
            kept = {name: value for name, value in kept.items() if name not in ("identifier", "masterIdentifier")}
        versions = self.store.setdefault(place, [])
        meta = {**kept.get("meta", {}), "versionId": str(len(versions) + 1)}
        versions.append({**copy.deepcopy(kept), "id": place[1], "meta": meta})
        return versions[-1]


class _RefusedError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
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
            self._outcome(401, "login")
        elif "/" in path:
            kind, _, server_id = path.partition("/")
            versions = ehr.store.get((kind, server_id))
            self._send(200, versions[-1], self._tags(versions[-1])) if versions else self._outcome(404, "not-found")
        else:
            (token,) = parse_qs(urlsplit(self.path).query)["identifier"]
            entries = [{"resource": each} for each in ehr.find(path, token)]
            self._send(200, {"resourceType": "Bundle", "type": "searchset", "entry": entries})

    def do_POST(self) -> None:
        self._write()

    def do_PUT(self) -> None:
        self._write()

    def _write(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ehr, path = self.server_of, self._begin(body)
        if not self._may():
            self._outcome(401, "login")
            return
        if ehr.does.failing:
            self._outcome(ehr.does.failing, "exception")
            return
        try:
            if not path:
                self._bundle(body)
            elif self.command == "POST":
                key = self.headers.get(ehr.does.header) if ehr.does.header else None
                status, stored = ehr.create(path, body, self.headers.get("If-None-Exist"), key)
                self._single(ehr.does.commits_then or status, stored)
            else:
                kind, _, server_id = path.partition("/")
                self._single(*ehr.update(kind, server_id, body, self.headers.get("If-Match")))
        except _RefusedError as error:
            self._outcome(error.status, "invalid")

    def _single(self, status: int, stored: Resource) -> None:
        if status >= 400 and status != 409:
            self._outcome(status, "conflict")
            return
        headers = {**self._tags(stored), "Location": f"{stored['resourceType']}/{stored['id']}"}
        self._send(status, stored if status == 409 else b"", headers)

    def _bundle(self, bundle: Resource) -> None:
        ehr = self.server_of
        if not ehr.does.bundles:
            raise _RefusedError(405)
        with ehr.lock:
            before = copy.deepcopy(ehr.store)
            entries = [self._entry(entry) for entry in bundle["entry"]]
            failed = [int(entry["response"]["status"][:3]) for entry in entries if entry["response"]["status"] >= "4"]
            if failed and bundle["type"] == "transaction":
                ehr.store = before
                raise _RefusedError(failed[0])
        if ehr.does.commits_then:
            raise _RefusedError(ehr.does.commits_then)
        self._send(200, {"resourceType": "Bundle", "type": f"{bundle['type']}-response", "entry": entries})

    def _entry(self, entry: Resource) -> Resource:
        ehr, request = self.server_of, entry["request"]
        kind, _, server_id = request["url"].partition("/")
        try:
            if request["method"] == "POST":
                condition = request.get("ifNoneExist")
                status, stored = ehr.create(kind, entry["resource"], unquote(condition) if condition else None)
            else:
                status, stored = ehr.update(kind, server_id, entry["resource"], request.get("ifMatch"))
        except _RefusedError as error:
            return {"response": {"status": str(error.status)}}
        if status >= 400:
            return {"response": {"status": str(status)}}
        tags = {"etag": self._tags(stored)["ETag"]} if ehr.does.etags else {}
        return {"response": {"status": str(status), "location": f"{kind}/{stored['id']}", **tags}}

    def _begin(self, body: Any) -> str:
        path = urlsplit(self.path).path.removeprefix("/fhir").strip("/")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server_of.seen.append(Seen(self.command, path, headers, body))
        return path

    def _may(self) -> bool:
        token = self.server_of.does.token
        return token is None or self.headers["Authorization"] == f"Bearer {token}"

    def _tags(self, stored: Resource) -> dict[str, str]:
        return {"ETag": f'W/"{stored["meta"]["versionId"]}"'} if self.server_of.does.etags else {}

    def _outcome(self, status: int, code: str) -> None:
        issue = {"severity": "error", "code": code, "diagnostics": "about Zoë Testperson"}
        self._send(status, {"resourceType": "OperationOutcome", "issue": [issue]})

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/fhir+json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _identifiers(resource: Resource) -> list[Resource]:
    identifiers = resource.get("identifier", [])
    listed = identifiers if isinstance(identifiers, list) else [identifiers]
    return [*listed, *([resource["masterIdentifier"]] if "masterIdentifier" in resource else [])]
