"""Somebody's receiver of callbacks, on loopback."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Receiver:
    """Remembers what arrives, and answers what the test says.

    Attributes:
        url: Where it listens.
        seen: Headers (names in lower case) and raw body of each request.
        status: What it answers.
        on_request: Called before it answers.
    """

    url: str
    seen: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    on_request: Callable[[], object] = lambda: None

    @property
    def bodies(self) -> list[Any]:
        """What arrived, as JSON."""
        return [orjson.loads(body) for _, body in self.seen]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens inside the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            here.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
            here.on_request()
            self.send_response(here.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here = Receiver(f"http://127.0.0.1:{server.server_port}/callbacks/nabla")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield here
        server.shutdown()
        thread.join(5)
