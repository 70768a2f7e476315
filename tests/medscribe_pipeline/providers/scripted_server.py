"""A scripted HTTP server on loopback that remembers what it saw, and a clock that moves only when told to."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import orjson

from medscribe_pipeline.providers.http import HttpClient
from medscribe_pipeline.settings import HttpSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@dataclass
class FakeClock:
    """Time that passes only while somebody sleeps. Thread-safe."""

    slept: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        with self._lock:
            return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)

    @property
    def waits(self) -> list[float]:
        """What was slept, rounded: sums of floats are not exact."""
        return [round(seconds, 6) for seconds in self.slept]


class HighRoll(random.Random):
    """Jitter that always takes its ceiling, so that waits can be told from each other."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


@dataclass
class Reply:
    """One scripted answer. `cut_after` sends only that many body bytes of those announced, then hangs up."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    before: Callable[[], None] | None = None
    date: str | None = None


@dataclass
class Seen:
    """One request as the server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Hangup:
    """Instead of a reply: read the request, close the connection."""


class ScriptedServer:
    """Answers from a script, then with its last entry for ever; a function may answer instead."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.script: list[Reply | Hangup] = [Reply()]
        self.responder: Callable[[Seen], Reply | Hangup] | None = None
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body are written apart; without this each answer waits 40 ms for an acknowledgement.
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with server._lock:
                    server.connections += 1

            def do_GET(self) -> None:
                server._answer(self)

            def do_POST(self) -> None:
                server._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def reply(self, *script: Reply | Hangup) -> None:
        self.script = list(script)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        headers = {key.lower(): value for key, value in handler.headers.items()}
        seen = Seen(handler.command, handler.path, headers, body)
        with self._lock:
            self.seen.append(seen)
            reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if self.responder is not None:
            reply = self.responder(seen)
        if isinstance(reply, Hangup):
            handler.close_connection = True
            return
        if reply.before is not None:
            reply.before()
        self._write(handler, reply)

    @staticmethod
    def _write(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.send_response_only(reply.status)
        if reply.date is not None:
            handler.send_header("Date", reply.date)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        if "Transfer-Encoding" not in reply.headers:
            handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        try:
            handler.wfile.write(reply.body[: reply.cut_after])
        except OSError:
            handler.close_connection = True
        if reply.cut_after is not None:
            handler.close_connection = True


def http_settings(**changes: Any) -> HttpSettings:
    """Small limits, so that a test that goes wrong ends soon."""
    return HttpSettings(**{"timeout_s": 5, "max_attempts": 4, "max_wait_s": 60, "backoff_s": 0.5, **changes})


class ClientMaker:
    """Opens clients on the scripted server with the fake clock, and closes them at the end of the test."""

    def __init__(self, server: ScriptedServer, clock: FakeClock) -> None:
        self._server = server
        self._clock = clock
        self.url = server.url
        self._open: list[HttpClient] = []

    def __call__(self, *, base: str | None = None, auth: Any = None, stop: Any = None, **settings: Any) -> HttpClient:
        client = HttpClient(
            "clinic",
            base or self._server.url,
            http_settings(**settings),
            auth,
            credential_hint="MEDSCRIBE_CLINIC_TOKEN",
            clock=self._clock,
            sleep=self._clock.sleep,
            random=HighRoll(),
            stop=stop,
        )
        self._open.append(client)
        return client

    def close(self) -> None:
        for client in self._open:
            client.close()


@contextmanager
def unused_port() -> Iterator[int]:
    """A loopback port that nothing listens on while the block runs: bound, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
