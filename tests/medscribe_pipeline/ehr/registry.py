"""A FHIR server of our own making on loopback that knows people and encounters, and searches them as R4 says."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Registry"]

Resource = dict[str, Any]


class Registry:
    """The server. Switches may be set at any time.

    Attributes:
        resources: What is there, by type and id.
        searches: Decoded parameters of each search, in order.
        reads: How often each resource was read.
        refuse: Status to answer a search of a type with.
        page_size: Resources on a page; with more there is a link to the next one.
        heedless: Parameters it takes no notice of.
        edit: Changes a searchset before it is sent.
        before: Called before a search is answered, with its type.
        most_at_once: Most searches there ever were at the same time.
    """

    def __init__(self) -> None:
        self.resources: dict[tuple[str, str], Resource] = {}
        self.searches: list[tuple[str, list[tuple[str, str]]]] = []
        self.reads: Counter[str] = Counter()
        self.refuse: dict[str, int] = {}
        self.page_size = 50
        self.heedless: set[str] = set()
        self.edit: Callable[[Resource], object] = lambda _bundle: None
        self.before: Callable[[str], object] = lambda _kind: None
        self.most_at_once = 0
        self.lock = threading.Lock()
        self._now = 0
        registry = self

        class Handler(_Handler):
            server_of = registry

        self._server = Loopback(Handler)
        self.base_url = f"{self._server.url}/fhir"

    def close(self) -> None:
        self._server.close()

    def put(self, kind: str, server_id: str, system: str, value: str, **more: Any) -> None:
        """Somebody, or an encounter, with one identifier."""
        identifiers = [{"system": system, "value": value}]
        self.resources[kind, server_id] = {"resourceType": kind, "id": server_id, "identifier": identifiers, **more}

    def encounter(
        self, server_id: str, patient: str, start: str | None, end: str | None = None, status: str = "finished"
    ) -> None:
        """An encounter of a patient, by their reference."""
        period = {name: at for name, at in (("start", start), ("end", end)) if at}
        self.put(
            "Encounter",
            server_id,
            "urn:example:visits",
            server_id,
            status=status,
            subject={"reference": patient},
            **({"period": period} if period else {}),
        )

    def asked(self, kind: str) -> list[list[tuple[str, str]]]:
        """The searches for a type."""
        return [params for each, params in self.searches if each == kind]

    def search(self, kind: str, params: list[tuple[str, str]]) -> tuple[int, Resource]:
        with self.lock:
            self.searches.append((kind, params))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            self.before(kind)
        finally:
            with self.lock:
                self._now -= 1
        if kind in self.refuse:
            return self.refuse[kind], {"resourceType": "OperationOutcome", "issue": [{"severity": "error"}]}
        of_kind = [resource for (each, _), resource in self.resources.items() if each == kind]
        heeded = [param for param in params if param[0] not in self.heedless]
        found = [each for each in of_kind if all(_fits(each, *param) for param in heeded)]
        bundle: Resource = {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(found),
            "entry": [{"resource": each} for each in found[: self.page_size]],
        }
        if len(found) > self.page_size:
            bundle["link"] = [{"relation": "next", "url": f"{self.base_url}?page=2"}]
        self.edit(bundle)
        return 200, bundle


def _fits(resource: Resource, name: str, value: str) -> bool:
    if name == "identifier":
        return any(_has(resource, each) for each in _split(value, ","))
    if name == "patient":
        return str(resource["subject"]["reference"]).endswith(value)
    if name != "date":
        raise AssertionError(name)
    period = resource.get("period", {})
    at = datetime.fromisoformat(value[2:])
    # The edges of a date without time are this server's own business: whatever might fit is shown.
    start, end = (_at(period.get(name)) for name in ("start", "end"))
    return end is None or end >= at if value.startswith("ge") else start is None or start <= at


def _at(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value and "T" in value else None


def _has(resource: Resource, token: str) -> bool:
    system, value = (_plain(each) for each in _split(token, "|"))
    return {"system": system, "value": value} in resource["identifier"]


def _split(text: str, mark: str) -> list[str]:
    """At every mark that is not escaped."""
    parts = [""]
    for piece in re.findall(r"\\.|.", text, re.DOTALL):
        if piece == mark:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # Headers and body in one segment; two would wait for each other (Nagle, delayed ACK).
    disable_nagle_algorithm = True
    server_of: Registry

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        kind, _, server_id = parts.path.removeprefix("/fhir/").partition("/")
        if server_id:
            self.server_of.reads[f"{kind}/{server_id}"] += 1
            found = self.server_of.resources.get((kind, server_id))
            status, body = (200, found) if found else (404, {"resourceType": "OperationOutcome"})
        else:
            status, body = self.server_of.search(kind, parse_qsl(parts.query, strict_parsing=True))
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
