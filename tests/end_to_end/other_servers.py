"""The same APIs by somebody else: other choices wherever the vendors' pages and FHIR leave one.

Nothing of the sandbox's servers is used, only its data: the records of a `World`, without the damaged ones.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medscribe_pipeline.sandbox import World

Record = dict[str, Any]
Query = list[tuple[str, str]]

TOKENS = {"askara": "other-askara", "api": "other-audioscribe", "r4": "other-ehr"}
PAGE_SIZE = 7


class NotThereError(Exception):
    """404."""


class OtherServers:
    """What answers requests, by the first part of their path.

    Attributes:
        filed: What the EHR holds, by resource type and id.
        writes: How often the EHR was asked to write.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.Lock()
        self.filed: dict[tuple[str, str], Record] = {}
        self.writes = 0

    def answer(self, method: str, path: str, query: Query, body: Any) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        parts = path.strip("/").split("/")
        part = {"askara": self._askara, "api": self._audioscribe, "r4": self._ehr}[parts[0]]
        try:
            with self._lock:
                return 200, part(method, parts, dict(query), body)
        except NotThereError:
            return 404, {"detail": "Not found."}

    def _askara(self, _method: str, parts: list[str], query: dict[str, str], _body: Any) -> Any:
        if parts[1] not in {"audios", "notes"}:
            raise NotThereError
        return self._page_of(parts[1], query) if parts[2:] == [] else self._whole(*parts[1:])

    def _audioscribe(self, _method: str, parts: list[str], query: dict[str, str], _body: Any) -> Any:
        if parts[1:4] != ["v1", "audioscribe", "notes"]:
            raise NotThereError
        return self._sessions(int(query.get("page", "0"))) if parts[4:] == [] else self._session(*parts[4:])

    def _ehr(self, method: str, parts: list[str], query: dict[str, str], body: Any) -> Any:
        match parts[1:]:
            case ["metadata"]:
                return {"resourceType": "CapabilityStatement", "fhirVersion": "4.3.0"}
            case [] if method == "POST":
                return self._transaction(body)
            case [kind] if "identifier" in query:
                return self._search(kind, query["identifier"])
            case [kind, key] if (kind, key) in self.filed:
                return self.filed[kind, key]
        raise NotThereError

    def _records(self, name: str) -> list[Record]:
        return [record for record in self._world.records(name).values() if "_defect" not in record]

    def _record(self, name: str, key: str) -> Record:
        for record in self._records(name):
            if str(record.get("uuid", record.get("id"))) == key:
                return record
        raise NotThereError

    def _page_of(self, name: str, wanted: dict[str, str]) -> list[Record]:
        """Bare arrays. Notes come as they like: no filter and no order is taken notice of."""
        size, number = int(wanted.get("itemsPerPage", "30")), int(wanted.get("page", "1"))
        found = self._audios(wanted) if name == "audios" else sorted(self._records(name), key=lambda note: note["uuid"])
        return [self._brief(name, record) for record in found[(number - 1) * size : number * size]]

    def _audios(self, wanted: dict[str, str]) -> list[Record]:
        """In order of any one time; archived ones are only there for who asks for them."""
        is_archive = wanted.get("exists[archivedAt]") == "true"
        found = [audio for audio in self._records("audios") if (audio["archivedAt"] is not None) is is_archive]
        for field in ("updatedAt", "archivedAt"):
            if low := wanted.get(f"{field}[gte]"):
                found = [audio for audio in found if _moment(audio[field]) >= _moment(low)]
            if direction := wanted.get(f"order[{field}]"):
                found.sort(key=lambda audio: (_moment(audio[field]), audio["uuid"]), reverse=direction == "desc")
        return found

    def _brief(self, name: str, record: Record) -> Record:
        """List items: relations as IRIs, as API Platform writes them."""
        times = {field: record[field] for field in ("createdAt", "updatedAt")}
        brief = {"@id": f"/{name}/{record['uuid']}", "uuid": record["uuid"], **times}
        if name == "notes":
            return {**brief, "content": record["content"][:20], "audio": f"/audios/{record['audio']}"}
        patient = record["patient"] and f"/patients/{record['patient']}"
        return {**brief, "archivedAt": record["archivedAt"], "patient": patient, "audioWorkflowStepV3": record["step"]}

    def _whole(self, name: str, key: str) -> Record:
        """Records: the same times, relations as objects, and things nobody has documented."""
        record = self._record(name, key)
        patient = record["patient"] and {"@id": f"/patients/{record['patient']}", "uuid": record["patient"]}
        user = record["user"] and dict(self._world.records("users")[record["user"]])
        whole = {**self._brief(name, record), "patient": patient, "user": user, "favourite": {"colour": None}}
        if name == "audios":
            return {**whole, "languageSpoken": record["languageSpoken"]}
        # Every other note names its audio by an object.
        audio: Any = {"uuid": record["audio"]} if record["uuid"] < "8" else whole["audio"]
        return {**whole, "type": record["type"], "content": record["content"], "audio": audio}

    def _sessions(self, number: int) -> list[Record]:
        """Newest first, seven a page, and nothing at all past the end."""
        found = sorted(self._records("sessions"), key=lambda session: str(session["_sort"]), reverse=True)
        page = found[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
        if not page:
            raise NotThereError
        return [_told(session) for session in page]

    def _session(self, key: str) -> Record:
        return _told(self._record("sessions", key))

    def _transaction(self, bundle: Record) -> Record:
        """Carries all of it out and says 201 to everything, with a relative location and neither ETag nor version."""
        self.writes += 1
        entries = []
        for entry in bundle["entry"]:
            kind, resource, request = entry["resource"]["resourceType"], entry["resource"], entry["request"]
            if request["method"] == "PUT":
                key = request["url"].removeprefix(f"{kind}/")
            else:
                condition = unquote(request["ifNoneExist"].removeprefix("identifier="))
                existing = [each["resource"]["id"] for each in self._search(kind, condition)["entry"]]
                key = existing[0] if existing else f"{kind[0].lower()}-{len(self.filed)}"
            if request["method"] == "PUT" or not existing:
                self.filed[kind, key] = {**resource, "id": key}
            entries.append({"response": {"status": "201", "location": f"{kind}/{key}"}})
        return {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}

    def _search(self, kind: str, token: str) -> Record:
        system, _, value = token.partition("|")
        entries = []
        for (each_kind, _), resource in self.filed.items():
            identifiers = [resource.get("masterIdentifier"), resource["identifier"]]
            if isinstance(resource["identifier"], list):
                identifiers[1:] = resource["identifier"]
            if each_kind == kind and {"system": system, "value": value} in identifiers:
                entries.append({"resource": resource})
        return {"resourceType": "Bundle", "type": "searchset", "entry": entries}


def _told(record: Record) -> Record:
    """A session; a time that names a zone is told in UTC as `+00:00`, one that does not stays as it is."""
    created = datetime.fromisoformat(record["createdAt"])
    told = created.astimezone(UTC).isoformat() if created.tzinfo else record["createdAt"]
    names = ("id", "title", "note", "originalTranscript", "tags")
    return {**{name: record[name] for name in names}, "createdAt": told, "owner": 12}


def _moment(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC)


@contextmanager
def other_servers(world: World) -> Iterator[tuple[OtherServers, dict[str, str]]]:
    """The servers on one loopback port, and the settings that point there."""
    servers = OtherServers(world)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body in one packet: two of them would wait for each other's acknowledgement.
        wbufsize = -1

        def do_GET(self) -> None:
            self._serve(None)

        def do_POST(self) -> None:
            self._serve(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

        def _serve(self, body: Any) -> None:
            url = urlsplit(self.path)
            status, answer = 401, {"detail": "Who are you?"}
            if self.headers["authorization"] == f"Bearer {TOKENS[url.path.split('/')[1]]}":
                status, answer = servers.answer(self.command, url.path, parse_qsl(url.query), body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"http://127.0.0.1:{http.server_address[1]}"
    try:
        yield (
            servers,
            {
                "MEDSCRIBE_ASKARA_BASE_URL": f"{url}/askara",
                "MEDSCRIBE_ASKARA_TOKEN": TOKENS["askara"],
                "MEDSCRIBE_AUDIOSCRIBE_BASE_URL": f"{url}/",
                "MEDSCRIBE_AUDIOSCRIBE_TOKEN": TOKENS["api"],
                "MEDSCRIBE_AUDIOSCRIBE_RESOURCE": "notes",
                "MEDSCRIBE_EHR_BASE_URL": f"{url}/r4/",
                "MEDSCRIBE_EHR_TOKEN": TOKENS["r4"],
            },
        )
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)
