"""HTTP: what arrives at an endpoint, what goes wrong with it, and what is answered."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.fhir_server.abilities import Abilities
from tests.fhir_server.bundles import batch, issue, transaction
from tests.fhir_server.faults import Fault, Faults, Mishap, Schedule
from tests.fhir_server.ledger import Ledger
from tests.fhir_server.store import Outcome, RefusedError, Resource, Store, Unit, etag_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


__all__ = ["Answer", "Place", "serve"]

_PAGE = b"<!doctype html><title>Gateway</title><p>Something is not as it should be. Ask for Zo\xc3\xab Testperson."


class Answer:
    """An HTTP answer before it is sent."""

    def __init__(self, status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> None:
        page = isinstance(body, bytes)
        self.status = status
        self.content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.headers = {"Content-Type": "text/html" if page else "application/fhir+json", **(headers or {})}


class Place:
    """One endpoint: resources, abilities, faults, and how much it is asked."""

    def __init__(self, number: int, ledger: Ledger, abilities: Abilities, faults: Faults, delay_s: float = 0.0) -> None:
        self.number = number
        self.abilities = abilities
        self.delay_s = delay_s
        self.store = Store(ledger, number, abilities)
        self.schedule = Schedule(faults)
        self.seen: Counter[str] = Counter()
        self.token = 0
        self.requests = 0
        self.working: set[int] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def request(self, method: str, path: str) -> Iterator[tuple[int, Mishap | None]]:
        """Counts a request while it is worked on; yields its number and what goes wrong with it."""
        with self._lock:
            self.requests += 1
            number = self.requests
            self.working.add(number)
            self.seen[f"{method} {path.partition('/')[0]}".rstrip()] += 1
            mishap = self.schedule.next(writes=method != "GET")
        try:
            yield number, mishap
        finally:
            with self._lock:
                self.working.discard(number)

    def told(self) -> dict[str, Any]:
        """What a test may know; see `Endpoint.told`."""
        with self._lock:
            happened = dict(self.schedule.happened)
            working = sorted(self.working)
            return {"requests": self.requests, "working": working, "seen": dict(self.seen), "happened": happened}

    def new_token(self) -> str:
        """The token that is valid from now on."""
        with self._lock:
            return f"token-{self.token}"

    def expire(self) -> None:
        """No token given so far is valid any more."""
        with self._lock:
            self.token += 1


class Handler(BaseHTTPRequestHandler):
    """Paths are `/<endpoint>/fhir/...`, `/<endpoint>/token` and `/control...`."""

    protocol_version = "HTTP/1.1"
    # Headers and body leave together: no waiting for an acknowledgement in between.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            # The client died while it sent this.
            self._cut()
            return
        url = urlsplit(self.path)
        first, _, rest = url.path.lstrip("/").partition("/")
        # A client that is gone when a late answer comes is none of our trouble.
        with contextlib.suppress(OSError):
            if first == "control":
                self._send(self.server.control(self.command, rest, json.loads(body or b"{}")))
            elif rest == "token":
                token = self.server.places[int(first)].new_token()
                self._send(Answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 300}))
            else:
                self._fhir(self.server.places[int(first)], rest.removeprefix("fhir").strip("/"), url.query, body)

    def _fhir(self, place: Place, path: str, query: str, body: bytes) -> None:
        with place.request(self.command, path) as (number, mishap):
            early = self._early(place, mishap)
            if early is not None:
                self._send(early)
                return
            if mishap is not None and mishap.fault is Fault.CUT_BEFORE:
                self._cut()
                return
            time.sleep(place.schedule.faults.slow_s if mishap and mishap.fault is Fault.SLOW else place.delay_s)
            answer = self._work(place, number, path, query, body, mishap)
            if mishap is not None and mishap.fault is Fault.REPLAYED:
                answer = self._work(place, number, path, query, body, mishap)
        self._late(answer, mishap)

    def _early(self, place: Place, mishap: Mishap | None) -> Answer | None:
        """What is answered without looking at the request."""
        fault = mishap.fault if mishap else None
        if fault is Fault.EXPIRED:
            place.expire()
        if place.abilities.token and self.headers.get("Authorization") != f"Bearer {place.new_token()}":
            return Answer(401, issue("login"), {"WWW-Authenticate": "Bearer"})
        if mishap is None:
            return None
        answers = {
            Fault.ERROR_BEFORE: lambda: Answer(mishap.random.choice((500, 502, 503, 504)), issue("exception")),
            Fault.HTML_BEFORE: lambda: Answer(mishap.random.choice((502, 503)), _PAGE),
            Fault.THROTTLED: lambda: Answer(429, issue("throttled"), {"Retry-After": _retry_after(mishap)}),
            Fault.CONFLICT: lambda: Answer(409, issue("conflict")),
            Fault.PRECONDITION: lambda: Answer(412, issue("conflict")),
        }
        return answers[mishap.fault]() if mishap.fault in answers else None

    def _late(self, answer: Answer, mishap: Mishap | None) -> None:
        """Sends the answer, or what becomes of it on its way."""
        fault = mishap.fault if mishap else None
        done = answer.status < 300
        if fault is Fault.CUT_AFTER:
            self._cut()
        elif fault is Fault.CUT_MIDDLE:
            self._send(answer, share=0.5)
        elif fault is Fault.ERROR_AFTER and mishap is not None and done:
            self._send(Answer(mishap.random.choice((500, 502, 504)), issue("exception")))
        elif fault in (Fault.HTML_AFTER, Fault.EMPTY_AFTER) and done:
            plain = Answer(answer.status, _PAGE if fault is Fault.HTML_AFTER else None, answer.headers)
            plain.headers = {**answer.headers, "Content-Type": "text/html"}
            self._send(plain)
        else:
            self._send(answer)

    def _work(self, place: Place, number: int, path: str, query: str, body: bytes, mishap: Mishap | None) -> Answer:
        try:
            with place.store.lock:
                if self.command == "GET":
                    return _get(place, path, query)
                resource = json.loads(body)
                if not path:
                    return _bundle(place, number, resource, mishap)
                return self._single(place, number, path, resource)
        except RefusedError as error:
            return Answer(error.status, issue(error.code))

    def _single(self, place: Place, number: int, path: str, resource: Resource) -> Answer:
        kind, _, server_id = path.partition("/")
        unit = Unit(number)
        if self.command == "POST" and not server_id:
            outcome = place.store.create(unit, kind, resource, self.headers.get("If-None-Exist"))
        elif self.command == "PUT":
            outcome = place.store.update(unit, kind, server_id, resource, self.headers.get("If-Match"))
        else:
            raise RefusedError(405, "not-supported")
        place.store.commit(unit)
        stored = outcome.resource
        address = f"{kind}/{stored['id']}/_history/{stored['meta']['versionId']}"
        minimal = "return=minimal" in self.headers.get("Prefer", "")
        return Answer(outcome.status, None if minimal else stored, {"Location": address, **_tags(place, outcome)})

    def _send(self, answer: Answer, share: float = 1.0) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        if share < 1 and not answer.content:
            # Nothing to cut in two: the headers never arrive.
            self._cut()
            return
        self.wfile.write(answer.content[: int(len(answer.content) * share)])
        self.wfile.flush()
        if share < 1:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        # What is still buffered has nowhere to go.
        self.wfile = io.BytesIO()


def _get(place: Place, path: str, query: str) -> Answer:
    if path == "metadata":
        return Answer(200, place.abilities.statement())
    kind, _, server_id = path.partition("/")
    if server_id:
        found = place.store.read(kind, server_id)
        return Answer(200, found, {"ETag": etag_of(found)} if place.abilities.etags else {})
    found_all = place.store.search(kind, parse_qsl(query))
    entries = [{"resource": each, "search": {"mode": "match"}} for each in found_all]
    return Answer(200, {"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries})


def _bundle(place: Place, number: int, bundle: Resource, mishap: Mishap | None) -> Answer:
    kind = bundle.get("type") if isinstance(bundle, dict) else None
    if kind == "transaction":
        unit = Unit(number)
        answer = transaction(place.store, unit, bundle, place.abilities)
        place.store.commit(unit)
        return Answer(200, answer)
    if kind == "batch":
        spoilt = _spoilt(mishap, len(bundle.get("entry", ())))
        headers = {"Retry-After": "0"} if any(status == 429 for status, _ in spoilt.values()) else {}
        return Answer(200, batch(place.store, number, bundle, place.abilities, spoilt), headers)
    raise RefusedError(400, "structure")


def _spoilt(mishap: Mishap | None, entries: int) -> dict[int, tuple[int, bool]]:
    """Entries of a batch that fail: with which status, and whether they happen all the same."""
    if mishap is None or mishap.fault not in (Fault.ENTRIES_THROTTLED, Fault.ENTRIES_FAILED):
        return {}
    chosen = mishap.random.sample(range(entries), mishap.random.randint(1, entries))
    if mishap.fault is Fault.ENTRIES_THROTTLED:
        return dict.fromkeys(chosen, (429, False))
    return {index: (500, mishap.random.random() < 0.5) for index in chosen}


def _retry_after(mishap: Mishap) -> str:
    if mishap.random.random() < 0.5:
        return str(mishap.random.choice((0, 1)))
    return format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)


def _tags(place: Place, outcome: Outcome) -> dict[str, str]:
    return {"ETag": etag_of(outcome.resource)} if place.abilities.etags else {}


class _Server(ThreadingHTTPServer):
    """All endpoints of one process."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ledger = ledger
        self.places: list[Place] = []
        self._lock = threading.Lock()

    def control(self, method: str, path: str, body: Resource) -> Answer:
        """`POST /control` makes an endpoint, `PUT /control/<n>` gives it other faults, `GET` tells about it."""
        if method == "POST":
            with self._lock:
                faults = Faults(**body.get("faults", {}))
                abilities = Abilities(**body.get("abilities", {}))
                place = Place(len(self.places), self.ledger, abilities, faults, body.get("delay_s", 0.0))
                place.store.seed(body.get("seed", ()))
                self.places.append(place)
            return Answer(201, {"endpoint": place.number})
        place = self.places[int(path)]
        if method == "PUT":
            place.schedule = Schedule(Faults(**body["faults"]))
        return Answer(200, place.told())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is expected; anything else is told, and the tests that see it fail."""
        del request, client_address
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()


def serve(path: Path) -> None:
    """Serves until the process is ended; the first line printed is the port."""
    server = _Server(Ledger(path))
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever(poll_interval=0.05)
