"""A gate in front of a provider's API: it counts, changes records on their way out, and makes trouble.

The API behind it is a sandbox app (`forward_to`) or a function of the test; both are spoken to over real HTTP.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CANARY", "TROUBLES", "Answer", "Asked", "Change", "Gate", "forward_to", "unused_url"]

CANARY = "Qxcanary-Synthetic-Patient"
"""Stands for everything about a patient: must be seen in the warehouse and nowhere else."""

TROUBLES = ("429", "500", "503", "cut", "cut_body", "truncated", "html")
"""`cut`: hung up without an answer. `cut_body`: hung up in the middle. `truncated`: a whole answer, half a JSON."""

Change = dict[str, Any]
"""New values of a record's fields; `...` takes the field away."""

_DROPPED = frozenset({"host", "connection", "accept-encoding", "content-length"})
_TIMEOUT_S = 10


@dataclass(frozen=True)
class Asked:
    """A request as the API sees it."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    target: str = ""
    """Path and query as they came."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What an API answers; `body` is JSON."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def forward_to(url: str) -> Callable[[Asked], Answer]:
    """The API that listens at `url`."""
    host = urlsplit(url).netloc

    def api(asked: Asked) -> Answer:
        connection = http.client.HTTPConnection(host, timeout=_TIMEOUT_S)
        try:
            headers = {name: value for name, value in asked.headers.items() if name not in _DROPPED}
            connection.request(asked.method, asked.target, asked.body or None, headers)
            answer = connection.getresponse()
            text = answer.read()
            return Answer(json.loads(text) if text else None, answer.status)
        finally:
            connection.close()

    return api


class Gate:
    """Listens on loopback inside the block.

    Args:
        api: What answers.
        id_field: Field that holds a record's id, for `changes`.

    Attributes:
        seen: The requests so far.
        changes: What to change in the record with that id, wherever in an answer it is.
        replaced: Records by id that are something else altogether on their way out.
        trouble: A word of `TROUBLES`, or `lost` (done, and hung up without an answer), that befalls every request on
            its first try ...
        spared: ... but for these; by default the very first, given its number from 0 and itself.
        broken_after: Everything after so many requests answers 500, for ever.
        listed: Changes a whole answer; after the above.
    """

    def __init__(self, api: Callable[[Asked], Answer], id_field: str = "id") -> None:
        self.seen: list[Asked] = []
        self.changes: dict[str, Change] = {}
        self.replaced: dict[str, Any] = {}
        self.trouble: str | None = None
        self.spared: Callable[[int, Asked], bool] = lambda number, _: number == 0
        self.broken_after: int | None = None
        self.listed: Callable[[Any], Any] = lambda body: body
        self.api = api
        self._id_field = id_field
        self._met: set[tuple[str, str, bytes]] = set()
        self._lock = threading.Lock()
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body are written apart; without this each answer waits 40 ms for an acknowledgement.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                gate._handle(self)

            def do_POST(self) -> None:
                gate._handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(_TIMEOUT_S)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def behave(self) -> None:
        """From now on everything goes right."""
        self.trouble = self.broken_after = None

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        parts = urlsplit(handler.path)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(handler.command, parts.path, dict(parse_qsl(parts.query)), headers, body, handler.path)
        trouble = self._note(asked)
        if trouble == "cut":
            handler.close_connection = True
            return
        status, extra, content = self._answer(asked, trouble)
        if trouble == "lost":
            handler.close_connection = True
            return
        handler.send_response_only(status)
        for name, value in extra.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        cut = trouble == "cut_body"
        handler.wfile.write(content[: len(content) // 2] if cut else content)
        handler.close_connection = cut

    def _note(self, asked: Asked) -> str | None:
        """Remembers a request; answers with the trouble it meets."""
        with self._lock:
            self.seen.append(asked)
            # A form has another boundary every time it is sent.
            boundary = asked.headers.get("content-type", "").partition("boundary=")[2].encode() or b"\0"
            key = (asked.method, asked.target, asked.body.replace(boundary, b""))
            number = len(self._met)
            fresh = key not in self._met
            self._met.add(key)
            if self.broken_after is not None and len(self.seen) > self.broken_after:
                return "500"
            return self.trouble if fresh and not self.spared(number, asked) else None

    def _answer(self, asked: Asked, trouble: str | None) -> tuple[int, dict[str, str], bytes]:
        # What a server in trouble says may hold anything, so it holds the canary.
        if trouble in ("429", "500", "503"):
            return int(trouble), {"Retry-After": "0"}, json.dumps({"detail": CANARY}).encode()
        if trouble == "html":
            return 200, {"Content-Type": "text/html"}, f"<html>{CANARY}</html>".encode()
        answer = self.api(asked)
        # ASCII with escapes, because lone surrogates can be said in no other way.
        content = b"" if answer.body is None else json.dumps(self.listed(self._changed(answer.body))).encode()
        if trouble == "truncated":
            content = content[: len(content) // 2]
        return answer.status, answer.headers, content

    def _changed(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._changed(item) for item in value]
        if not isinstance(value, dict):
            return value
        own = str(value.get(self._id_field))
        if own in self.replaced:
            return self.replaced[own]
        inner = {name: self._changed(item) for name, item in value.items()}
        return {name: item for name, item in {**inner, **self.changes.get(own, {})}.items() if item is not ...}


@contextmanager
def unused_url() -> Iterator[str]:
    """A loopback URL that nobody listens at while the block runs: bound, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
